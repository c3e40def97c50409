"""The words of the project are checked against its code: examples run, tables and lists are complete, links lead somewhere.

A ``python`` block of README.md or docs/ is run, in dev mode, in the namespace of the blocks before it on the same page. An
``output`` block is what the block before it prints.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import click
import pytest

import routerkit
from routerkit.cli.endings import ENDINGS
from routerkit.cli.program import program
from routerkit.config import ChangeableOptions, settings_from
from routerkit.core.failure import _ADVICE
from routerkit.core.strategies import STRATEGIES
from routerkit.core.verdict_table import VERDICTS
from routerkit.environment import PREFIXES, TENANT_VARIABLES, VARIABLES
from routerkit.gateways import KNOWN
from routerkit.types.gateway import FEATURES
from tests import test_config as of_configuration
from tests import test_tenants as of_tenants

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
OTHERS = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]

COMMANDS = (
    """python3 -m venv .venv && .venv/bin/pip install -q '.[cli]' && DEV_MODE=true .venv/bin/routerkit chat "Hello\"""",
    "python3 -m venv .venv && .venv/bin/pip install -q tox && .venv/bin/tox",
)
NOT_RUN = {"output", "sh", "text", "toctree", "literalinclude", "routerkit-table", "eval-rst"}
"""Kinds of blocks beside ``python``. Any other would be an example that nobody runs."""

_BLOCK = re.compile(
    r"^```(?:\{(?P<directive>[\w-]+)\}|(?P<kind>\S*))(?P<rest>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)(?P<target>[^)\s#]+)")


@attrs.frozen
class Block:
    kind: str
    rest: str
    text: str
    line: int
    """Of its first line of text, counted from 1."""


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(
            match["directive"] or match["kind"],
            match["rest"].strip(),
            match["text"],
            text.count("\n", 0, match.start("text")) + 1,
        )
        for match in _BLOCK.finditer(text)
    ]


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


@pytest.fixture
def dev_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment that the pages speak of, and a folder without a .env."""
    for name in os.environ:
        if name.startswith(("OPENROUTER_", "ONEROUTER_", "INFRON_", "ROUTERKIT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DEV_MODE", "true")
    monkeypatch.setenv("OPENROUTER_DEFAULT_MODEL", "openai/gpt-4o")
    monkeypatch.chdir(tmp_path)


EXAMPLES = [page for page in PAGES if any(block.kind == "python" for block in blocks(page))]


@pytest.mark.parametrize("page", EXAMPLES, ids=names(EXAMPLES))
@pytest.mark.usefixtures("dev_mode")
def test_every_example_runs_and_prints_what_the_page_says(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": "example"}
    printed = ""
    for block in blocks(page):
        if block.kind == "python":
            source = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
            exec(compile(source, str(page), "exec"), namespace)
            printed = capsys.readouterr().out
        elif block.kind == "output":
            assert printed.strip() == block.text.strip(), f"{page.name}, line {block.line}"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_block_is_run_or_of_a_kind_that_cannot_be(page: Path) -> None:
    found = blocks(page)
    assert page.read_text("utf-8").count("```") == 2 * len(found)
    for block in found:
        assert block.kind in NOT_RUN or (block.kind, block.rest) == ("python", ""), f"{page.name}, line {block.line}"


@pytest.mark.parametrize("page", PAGES + OTHERS, ids=names(PAGES + OTHERS))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def links(page: Path) -> Iterator[str]:
    text = page.read_text("utf-8")
    for match in _LINK.finditer(_BLOCK.sub("", text)):
        yield match["target"]
    for block in blocks(page):
        if block.kind == "literalinclude":
            yield block.rest
        elif block.kind == "toctree":
            yield from (f"{line}.md" for line in block.text.split() if not line.startswith(":"))


def test_readme_has_both_commands_each_in_one_line() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert all(command in lines for command in COMMANDS)


TENANT = "OPENROUTER_TENANT_ACME_"


def variable_names() -> list[str]:
    return [f"OPENROUTER_{each.name}" if each.prefixed else each.name for each in VARIABLES]


def tenant_variable_names() -> list[str]:
    return [f"{TENANT}{each.name}" for each in TENANT_VARIABLES]


def env_example() -> dict[str, str]:
    """The assignments of .env.example, all of which are commented out."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    assert all(line.startswith("#") for line in lines if line)
    found = [match for line in lines if (match := re.fullmatch(r"# ([A-Z_]+)=(.*)", line))]
    assert len({match[1] for match in found}) == len(found)
    return {match[1]: match[2] for match in found}


def test_env_example_names_exactly_the_variables() -> None:
    assert sorted(env_example()) == sorted(variable_names() + tenant_variable_names())


def test_every_variable_of_env_example_has_tests() -> None:
    """Good values and bad ones: in the tables of tests/test_config.py, and for tenants in those of tests/test_tenants.py."""
    (rows,) = of_tenants.test_variables_that_cannot_be_read_are_named.pytestmark  # type: ignore[attr-defined]
    refused = {variable for variable, _, _ in rows.args[1]}
    for name in env_example():
        if name.startswith(TENANT):
            bare = name.removeprefix(TENANT)
            assert any(each.endswith(f"_{bare}") for each in of_tenants.ENVIRONMENT), name
            assert name in refused
        else:
            bare = name.removeprefix("OPENROUTER_")
            assert len(of_configuration.GOOD[bare][1]) > 0
            assert bare in of_configuration.BAD or bare == "ROUTERKIT_ENV", name  # of which any value is good


def test_env_example_explains_every_variable() -> None:
    """Each paragraph that sets variables begins with words."""
    for paragraph in (ROOT / ".env.example").read_text("utf-8").split("\n\n"):
        first = paragraph.strip().splitlines()[0]
        assert re.match(r"# \S+ \S+", first), paragraph


def test_env_example_can_be_used_as_it_stands() -> None:
    keys = {name: "sk-test-1234567890" for name in env_example() if "KEY" in name}
    values = {**env_example(), **keys, "DEV_MODE": "false"}
    settings = settings_from(values)
    assert settings.default_model == values["OPENROUTER_DEFAULT_MODEL"]
    assert settings.app_title == values["OPENROUTER_X_OPEN_ROUTER_TITLE"]
    assert settings.strategy == values["OPENROUTER_ROUTE_STRATEGY"]
    assert settings.tenants["acme"].default_model == values[f"{TENANT}DEFAULT_MODEL"]


def test_env_example_tells_the_other_prefixes() -> None:
    text = (ROOT / ".env.example").read_text("utf-8")
    assert all(prefix in text for prefixes in PREFIXES.values() for prefix in prefixes)


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The extension that makes the documentation's tables."""
    spec = importlib.util.spec_from_file_location("routerkit_tables", DOCS / "_ext" / "routerkit_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def used_tables() -> set[str]:
    return {block.rest for page in PAGES for block in blocks(page) if block.kind == "routerkit-table"}


def test_every_variable_is_in_the_configuration_table(tables: ModuleType) -> None:
    rows = cells(tables.variables_table())
    assert [row[0] for row in rows] == [f"`{name}`" for name in variable_names()]
    assert [row[1] for row in rows] == [each.explanation for each in VARIABLES]


def test_every_tenant_variable_is_in_its_table(tables: ModuleType) -> None:
    rows = cells(tables.tenant_variables_table())
    assert [row[0] for row in rows] == [f"`OPENROUTER_TENANT_<NAME>_{each.name}`" for each in TENANT_VARIABLES]
    assert [row[1] for row in rows] == [each.explanation for each in TENANT_VARIABLES]


def test_every_known_gateway_is_in_its_table(tables: ModuleType) -> None:
    rows = cells(tables.gateways_table())
    assert [(row[0], row[2]) for row in rows] == [(f"`{name}`", f"`{each.base_url}`") for name, each in KNOWN.items()]
    assert rows[0][3:] == [
        "`OPENROUTER_`",
        "`author/slug`",
        "`openrouter/`",
        ", ".join(f"`{x}`" for x in sorted(FEATURES)),
    ]
    assert rows[1][3:] == ["`INFRON_` or `ONEROUTER_`", "any", "`infron/`", "`provider`, `reasoning`, `usage`"]


def test_every_strategy_has_a_heading() -> None:
    page = (DOCS / "strategies.md").read_text("utf-8")
    assert set(STRATEGIES) <= set(re.findall(r"^### `(\w+)`$", page, re.MULTILINE))


def test_the_page_of_choices_is_what_its_script_writes() -> None:
    """Whatever the environment says."""
    environment = {
        **os.environ,
        "OPENROUTER_DEFAULT_MODEL": "a/one",
        "INFRON_ROUTE_STRATEGY": "weighted",
        "DEV_MODE": "true",
    }
    script = [sys.executable, str(ROOT / "benchmarks" / "strategies.py")]
    done = subprocess.run(script, env=environment, capture_output=True, timeout=120, check=True)
    assert done.stdout.decode() == (DOCS / "choices.md").read_text("utf-8")


def test_the_first_choices_are_what_a_careful_engineer_would_expect() -> None:
    """On the page of choices: no router, no expired model, nothing that gives what was not asked for."""
    page = (DOCS / "choices.md").read_text("utf-8")
    chosen = re.findall(r"^\| \S* \| [1-5] \| `(\S+)` \|", page, re.MULTILINE)
    assert len(chosen) == 2 * 4 * len(STRATEGIES) * 5
    odd = ("openrouter/auto", "openrouter/bodybuilder", "audio", "tts", "embedding", "image", "runway")
    assert not [model for model in chosen if any(word in model for word in odd)]


def test_every_verdict_is_in_the_table_of_errors(tables: ModuleType) -> None:
    rows = {row[0].strip("`"): row for row in cells(tables.verdicts_table())}
    assert list(rows) == list(VERDICTS)
    assert {code for code, row in rows.items() if row[2] != "–"} == set(_ADVICE)
    assert rows["rate_limited"][2] == "`RateLimitError`"


def test_every_verdict_is_on_the_page_of_failures(tables: ModuleType) -> None:
    parts = tables.failures_tables().split("## ")[1:]
    rows = {row[1].strip("`"): row for part in parts for row in cells(part.partition("\n\n")[2].strip())}
    assert rows.keys() == VERDICTS.keys()
    assert all(row[0] and row[-1] for row in rows.values())
    assert rows["rate_limited"][2:6] == [
        "the next model; the same when none is left",
        "model",
        "no",
        "5 s, or what the gateway asks, 300 s at most",
    ]
    assert rows["context_length"][2] == "the next model with a larger context"


def test_every_exit_code_is_in_its_table(tables: ModuleType) -> None:
    rows = cells(tables.exit_codes_table())
    assert [(row[0], row[1]) for row in rows] == [(f"`{each.code}`", each.meaning) for each in ENDINGS]
    assert rows[3][2] == "`ConfigurationError`"


def test_every_command_and_option_is_on_the_page_of_the_command_line() -> None:
    page = (DOCS / "cli.md").read_text("utf-8")
    context = click.Context(program)
    for name in program.list_commands(context):
        assert f"routerkit {name}" in page, name
        command = program.get_command(context, name)
        assert command is not None
        options = [option for each in command.params if isinstance(each, click.Option) for option in each.opts]
        assert [option for option in options if option.startswith("--") and option not in page] == [], name


def test_every_field_is_in_the_tables_of_policies(tables: ModuleType) -> None:
    needed = {routerkit.Gateway: ("name", "base_url"), routerkit.Budget: ("usd",)}
    for kind in tables.KINDS:
        rows = cells(tables.fields_table(kind.__name__))
        assert [row[0] for row in rows] == [f"`{each.name}`" for each in attrs.fields(kind)][
            len(needed.get(kind, ())) :
        ]
    assert ["`max_sleep`", "`60.0`", "The longest wait that a server's hint can ask of a call, in seconds."] in cells(
        tables.fields_table("RetryPolicy")
    )


def test_every_table_is_on_a_page(tables: ModuleType) -> None:
    made = {"variables", "tenant-variables", "gateways", "verdicts", "failures", "exit-codes"}
    assert used_tables() == made | {kind.__name__ for kind in tables.KINDS}


def test_every_keyword_is_in_the_configuration_page() -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    rows = {name for line in page.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line[:60])}
    keywords = set(inspect.signature(settings_from).parameters) - {"values"}
    assert keywords <= rows
    table = page.partition("## Keywords")[2].partition("## Environment")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == keywords
    told = table.partition("`client.with_options(...)`")[2].partition(";")[0]
    assert set(re.findall(r"`(\w+)`", told)) == set(ChangeableOptions.__annotations__)


def test_every_public_name_is_in_the_api_reference() -> None:
    text = (DOCS / "api.md").read_text("utf-8")
    documented = re.findall(r"^\.\. auto(?:class|exception|data):: routerkit\.(\w+)(?:\(\))?$", text, re.MULTILINE)
    assert sorted(documented) == sorted(routerkit._HOMES)


def test_the_changelog_knows_this_version() -> None:
    assert f"## {routerkit.__version__} - " in (ROOT / "CHANGELOG.md").read_text("utf-8")
