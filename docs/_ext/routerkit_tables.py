"""Tables of the documentation, made from the library's own data so that they cannot fall behind it.

Each function returns Markdown. Nothing here needs Sphinx; ``conf.py`` wraps the functions in directives, and the tests call
them directly.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Sequence
from textwrap import dedent
from typing import Any

import attrs

from routerkit.cli.endings import ENDINGS
from routerkit.core.failure import _ADVICE
from routerkit.core.verdict_notes import NOTES
from routerkit.core.verdict_table import VERDICTS, Rule
from routerkit.environment import PREFIXES, TENANT_VARIABLES, VARIABLES, Variable
from routerkit.gateways import KNOWN
from routerkit.types.fault import Fault
from routerkit.types.gateway import FEATURES, Gateway
from routerkit.types.limits import Budget, Limits
from routerkit.types.policy import BreakerPolicy, RetryPolicy, Timeouts
from routerkit.types.verdict import Action, Billing, Blame, Condition, Sample

PREFIX = PREFIXES["openrouter"][0]
KINDS: tuple[Any, ...] = (Timeouts, RetryPolicy, BreakerPolicy, Limits, Budget, Fault, Gateway)
"""The classes whose fields are shown."""

_THEN = {
    Action.RETURN: "the answer",
    Action.RETRY_SAME: "the same model",
    Action.NEXT_MODEL: "the next model",
    Action.NEXT_GATEWAY: "the next gateway",
    Action.NEXT_KEY: "the next key",
    Action.FAIL: "the error",
}
_WHICH = {
    Condition.ANY: "",
    Condition.CAPABLE: " that can do it",
    Condition.LARGER_CONTEXT: " with a larger context",
    Condition.CHEAPER: " that is cheaper",
}
_LEARNS = {Sample.OK: "", Sample.FAIL: ": failure", Sample.SLOW: ": slow", Sample.NEUTRAL: ""}
_BILLED = {Billing.NONE: "no", Billing.POSSIBLE: "possibly", Billing.CONFIRMED: "yes"}


def variable_name(variable: Variable) -> str:
    """The full name, with OpenRouter's prefix where there is one."""
    return f"{PREFIX}{variable.name}" if variable.prefixed else variable.name


def variables_table() -> str:
    """Every environment variable."""
    rows = [
        (f"`{variable_name(each)}`", each.explanation, _default(each.default), f"`{each.example}`")
        for each in VARIABLES
    ]
    return _table(("Variable", "What it says", "Default", "Example"), rows)


def tenant_variables_table() -> str:
    """Every variable of a tenant."""
    rows = [
        (f"`{PREFIX}TENANT_<NAME>_{each.name}`", each.explanation, _default(each.default), f"`{each.example}`")
        for each in TENANT_VARIABLES
    ]
    return _table(("Variable", "What it says", "Default", "Example"), rows)


def gateways_table() -> str:
    """The gateways that are known by name."""
    rows = [
        (
            f"`{name}`",
            gateway.label,
            f"`{gateway.base_url}`",
            " or ".join(f"`{prefix}`" for prefix in PREFIXES[name]),
            _ids(gateway),
            f"`{gateway.id_prefix}`",
            _listed(gateway.features),
        )
        for name, gateway in KNOWN.items()
    ]
    heads = ("Name", "Gateway", "Base URL", "Its variables begin with", "Model ids", "Prefix that pins", "Features")
    return _table(heads, rows)


def verdicts_table() -> str:
    """Every verdict: what it means for whoever catches its error."""
    rows = [(f"`{code}`", *_meaning(code)) for code in VERDICTS]
    return _table(("Code", "What happened", "Error"), rows)


def failures_tables() -> str:
    """By subject, what can happen and what follows from it."""
    heads = ("What is seen", "Verdict", "Then", "Blamed", "Billed?", "Rests", "Who says so")
    parts = []
    for subject, notes in NOTES.items():
        rows = [(note.when, f"`{code}`", *_consequences(VERDICTS[code]), note.source) for code, note in notes.items()]
        parts.append(f"## {subject[0].upper()}{subject[1:]}\n\n" + _table(heads, rows))
    return "\n\n".join(parts)


def exit_codes_table() -> str:
    """How the command ends."""
    rows = [
        (
            f"`{each.code}`",
            each.meaning,
            ", ".join(f"`{kind.__name__}`" for kind in each.errors if kind is not Exception),
        )
        for each in ENDINGS
    ]
    return _table(("Code", "What it means", "Errors, and those below them"), rows)


def fields_table(name: str) -> str:
    """The fields of one of ``KINDS``, but for those that must be given: name, default, and the text that follows in the source."""
    kind = next(kind for kind in KINDS if kind.__name__ == name)
    notes = _attribute_notes(kind)
    rows = [
        (f"`{field.name}`", f"`{field.default!r}`", notes.get(field.name, ""))
        for field in attrs.fields(kind)
        if field.default is not attrs.NOTHING
    ]
    return _table(("Field", "Default", "Meaning"), rows)


def _ids(gateway: Gateway) -> str:
    return f"`{gateway.id_format}`" if gateway.id_format != "any" else "any"


def _listed(features: frozenset[str] | None) -> str:
    known = FEATURES if features is None else features
    return ", ".join(f"`{name}`" for name in sorted(known))


def _meaning(code: str) -> tuple[str, str]:
    if code == "ok":
        return "an answer came", "–"
    kind, advice = _ADVICE[code]
    return advice, f"`{kind.__name__}`"


def _consequences(rule: Rule) -> tuple[str, ...]:
    then = _THEN[rule.action] + _WHICH[rule.condition]
    if rule.retry_if_last:
        then += "; the same when none is left"
    blamed = "–" if rule.blame is Blame.NOBODY else f"{rule.blame}{_LEARNS[rule.sample]}"
    return then, blamed, _BILLED[rule.billing], _rest(rule)


def _rest(rule: Rule) -> str:
    known = [f"{rule.cooldown:g} s"] if rule.cooldown else []
    asked = [f"what the gateway asks, {rule.hinted:g} s at most"] if rule.hinted else []
    return ", or ".join(known + asked) or "–"


def _default(text: str) -> str:
    return f"`{text}`" if text.isascii() and " " not in text and text != "none" else text


def _attribute_notes(kind: type) -> dict[str, str]:
    """The string that follows each field in the class body."""
    parsed: Any = ast.parse(dedent(inspect.getsource(kind))).body[0]
    notes = {}
    for field, note in zip(parsed.body, parsed.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(note, ast.Expr):
            notes[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(note.value)).split())
    return notes


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
