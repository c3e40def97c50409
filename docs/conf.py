"""Sphinx's settings, and the directives that put the tables of ``_ext/routerkit_tables.py`` into pages."""

import sys
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import routerkit_tables as tables

import routerkit

project = "routerkit"
author = "the routerkit authors"
project_copyright = "2026, the routerkit authors"
version = release = routerkit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"routerkit {release}"

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88


class Table(SphinxDirective):
    """A table made from the library: one of those named here, or the fields of a class."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        made = {
            "variables": tables.variables_table,
            "tenant-variables": tables.tenant_variables_table,
            "gateways": tables.gateways_table,
            "verdicts": tables.verdicts_table,
            "failures": tables.failures_tables,
            "exit-codes": tables.exit_codes_table,
        }
        text = made[name]() if name in made else tables.fields_table(name)
        self.env.note_dependency(tables.__file__)
        place = nodes.container(classes=["routerkit-table"])
        self.state.nested_parse(StringList(text.splitlines(), source=f"table of {name}"), self.content_offset, place)
        return [place]


def setup(app: Sphinx) -> None:
    app.add_directive("routerkit-table", Table)
