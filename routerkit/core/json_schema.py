"""One value for a JSON Schema, always the same one: what a mock model answers where a schema is asked for.

`sample` and its error live here, with the search for a value. Reading and checking schemas is in
`json_schema_rules`, objects and arrays in `json_schema_containers`, strings and numbers in
`json_schema_scalars`, regular expressions in `json_schema_patterns`. All of it is pure: no I/O, no clock,
no randomness.

The search proposes values and keeps only those that `json_schema_rules.Checker` accepts. Every constraint
on one place (through `$ref`, `allOf` and one branch of each `anyOf`, `oneOf` and `if`) is collected into a
conjunction of schemas, and values are proposed for that.
"""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain, product
from math import gcd, lcm
from typing import Any

from routerkit.core import json_schema_rules as rules
from routerkit.core.json_schema_containers import (
    Arrays,
    Conjunction,
    Level,
    Objects,
    Values,
    size_limits,
    unique,
)
from routerkit.core.json_schema_rules import Checker, OutOfWorkError, Schema, UnsupportedSchemaError
from routerkit.core.json_schema_scalars import Bound, Limits, numbers, strings

_ATTEMPTS = ((4, 100_000), (2, 30_000), (0, 30_000))
"""Levels (an object or an array each) that show optional members, and the steps of work allowed for it."""
_ROOM = 24
"""Levels below the lively ones, where recursion has to come to an end."""
_MOST_NODES = 5_000
_MOST_HOPS = 64
_HINTS = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


class UnsatisfiableSchemaError(ValueError):
    """No value was found: the schema contradicts itself, is malformed, or is beyond what is supported."""


def sample(schema: Mapping[str, Any] | bool, text: str = "") -> Any:
    """A JSON value that satisfies `schema`; `text` is used for free-form strings where it fits.

    Raises UnsatisfiableSchemaError, which names the place in the schema.
    """
    try:
        return _plain(_found(schema, text, _ATTEMPTS))
    except (UnsupportedSchemaError, OutOfWorkError) as error:
        raise UnsatisfiableSchemaError(str(error)) from error
    except RecursionError:
        raise UnsatisfiableSchemaError("#: the schema is nested too deeply") from None


def _found(schema: Schema, text: str, attempts: Sequence[tuple[int, int]]) -> Any:
    """A value as lively as can be had without too much work."""
    lively, steps = attempts[0]
    try:
        return _Search(schema, text, rules.Work(steps)).first(lively)
    except OutOfWorkError:
        if len(attempts) == 1:
            raise
    return _found(schema, text, attempts[1:])


def _plain(value: Any) -> Any:
    """A copy that shares nothing with the schema or with itself."""
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


class _Search:
    """The search for values of the schemas in one document."""

    def __init__(self, root: Schema, text: str, work: rules.Work) -> None:
        self._root, self._text, self.work = root, text, work
        self._document = rules.Document(root)
        self.checker = Checker(self._document, self.work)
        # Kept by identity, so the schemas of these values have to stay: the document and what is derived.
        self._streams: dict[tuple[int, Level], Values] = {}
        self._derived: dict[tuple[Any, ...], tuple[Any, Schema]] = {}
        self._sizes: dict[int, tuple[Any, int]] = {}
        self._cramped: set[tuple[int, Level]] = set()
        self._cuts = 0
        self._blamed: list[tuple[str, Schema]] = []
        self._at = "#"

    def first(self, lively: int) -> Any:
        try:
            found = self.values(self._root, Level(lively), "#").at(0)
        except (UnsupportedSchemaError, OutOfWorkError) as error:
            raise type(error)(f"{self._at}: {error}") from error
        if not found:
            self.blame("#", self._root)
            path, schema = max(self._blamed, key=lambda blamed: blamed[0].count("/"))
            raise UnsatisfiableSchemaError(f"{path}: no value satisfies {reprlib.repr(schema)}")
        return found[0]

    def blame(self, path: str, schema: Schema) -> None:
        """Note a place that needs a value and has none."""
        self._blamed.append((path, schema))

    def values(self, schema: Schema, level: Level, path: str) -> Values:
        """Valid values of a schema."""
        key = (id(schema), level)
        if key in self._cramped or (level.room is not None and level.room < 0):
            self._cuts += 1
        if key not in self._streams:
            self._streams[key] = Values(self._valid_values(schema, level, path))
        return self._streams[key]

    def _valid_values(self, schema: Schema, level: Level, path: str) -> Iterator[Any]:
        seen = set()
        cuts = self._cuts
        for value in self._proposals(schema, level, path):
            self._at = path
            self._note_cramped(schema, level, cuts)
            size = self._size(value)
            if size > _MOST_NODES:
                raise OutOfWorkError("the value gets too large")
            self.work.spend(size)
            key = rules.fingerprint(value)
            if key not in seen and self.checker.valid(value, schema):
                seen.add(key)
                yield value
        self._note_cramped(schema, level, cuts)

    def _note_cramped(self, schema: Schema, level: Level, cuts: int) -> None:
        """Note whether more room could give other values, since members were cut off meanwhile."""
        if self._cuts > cuts:
            self._cramped.add((id(schema), level))

    def _proposals(self, schema: Schema, level: Level, path: str) -> Iterator[Any]:
        self._at = path
        if level == Level(0, None):
            # Deepening step by step finds the shallowest value, and ends where recursion has an end.
            for room in range(_ROOM):
                cuts = self._cuts
                yield from self.values(schema, Level(0, room), path)
                if self._cuts == cuts:
                    return  # more room would change nothing
        elif level.room is None or level.room >= 0:
            for conjunction in self._conjunctions((schema,), (), 0):
                yield from self._candidates(conjunction, level, path)

    def _size(self, value: Any) -> int:
        if not isinstance(value, (Mapping, list, tuple)):
            return 1
        if id(value) not in self._sizes:
            parts = value.values() if isinstance(value, Mapping) else value
            self._sizes[id(value)] = (value, 1 + sum(map(self._size, parts)))
        return self._sizes[id(value)][1]

    def _conjunctions(
        self, schemas: tuple[Schema, ...], done: tuple[Mapping[str, Any], ...], hops: int
    ) -> Iterator[Conjunction]:
        """The ways to satisfy all the schemas, each as the plain schemas that have to hold for it."""
        self.work.spend(1 + len(done))
        if not schemas:
            yield done
            return
        head, rest = rules.as_schema(schemas[0]), schemas[1:]
        if isinstance(head, bool):
            if head:
                yield from self._conjunctions(rest, done, hops)
        elif hops < _MOST_HOPS and self._kinds((*done, head)):
            for branch in product(*self._branches(head)):
                yield from self._conjunctions((*branch, *rest), (*done, head), hops + 1)

    def _branches(self, schema: Mapping[str, Any]) -> Iterator[Sequence[Schema]]:
        """For each combinator of the schema, the schemas of which one has to hold as well."""
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in schema:
                yield (self._document.resolve(schema[keyword]),)
        for part in rules.listed(schema, "allOf"):
            yield (part,)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield rules.listed(schema, keyword)
        if "if" in schema:
            yield self.all_of(schema["if"], schema.get("then", True)), schema.get("else", True)
        for name, wanted in rules.dependents(schema):
            if not isinstance(wanted, (list, tuple)):
                present = {"required": [name], "allOf": [wanted]}
                absent = {"properties": {name: False}}
                yield (
                    self.derive(f"with {name}", (wanted,), present),
                    self.derive(f"without {name}", (), absent),
                )

    def derive(self, form: str, source: tuple[Any, ...], schema: Schema) -> Schema:
        """One lasting schema for equal requests, in place of an equal one."""
        return self._derived.setdefault((form, *map(id, source)), (source, schema))[1]

    def all_of(self, *schemas: Any) -> Schema:
        """The schema that asks for all of these."""
        telling = tuple({id(schema): schema for schema in schemas if schema is not True}.values())
        if len(telling) < 2:
            return rules.as_schema(telling[0]) if telling else True
        return self.derive("all", telling, {"allOf": telling})

    def _kinds(self, conjunction: Conjunction) -> list[str]:
        """The types all parts allow: in the order the schema gives, or with the likeliest first."""
        allowed = [kinds for part in conjunction if (kinds := rules.types(part))]
        if not allowed:
            words = {word for part in conjunction for word in part}
            hinted = [kind for kind, hints in _HINTS.items() if not words.isdisjoint(hints)]
            return unique([*hinted, "string", "object", "array", "number", "boolean", "null"])
        wider = [*allowed[0], "integer"] if "number" in allowed[0] else allowed[0]
        return unique(
            kind
            for kind in wider
            if all(kind in kinds or (kind == "integer" and "number" in kinds) for kinds in allowed)
        )

    def _candidates(self, conjunction: Conjunction, level: Level, path: str) -> Iterator[Any]:
        for part in conjunction:
            if (allowed := rules.choices(part)) is not None:
                yield from allowed
                return
        # An empty default says that the field may be left out, not what it looks like.
        defaults = [part["default"] for part in conjunction if "default" in part]
        yield from (value for value in defaults if value not in (None, "", [], {}))
        yield from chain.from_iterable(rules.listed(part, "examples") for part in conjunction)
        for kind in self._kinds(conjunction):
            yield from self._of_kind(kind, conjunction, level, path)
        yield from defaults

    def _of_kind(self, kind: str, conjunction: Conjunction, level: Level, path: str) -> Iterator[Any]:
        match kind:
            case "object":
                return Objects(self, conjunction, level, path).candidates()
            case "array":
                return Arrays(self, conjunction, level, path).candidates()
            case "string":
                return self._strings(conjunction)
            case "boolean":
                return iter((True, False))
            case "null":
                return iter((None,))
        return self._numbers(conjunction, whole=kind == "integer")

    def _strings(self, conjunction: Conjunction) -> Iterator[str]:
        patterns = [rules.pattern(part["pattern"]) for part in conjunction if "pattern" in part]
        formats = [part["format"] for part in conjunction if isinstance(part.get("format"), str)]
        limits = Limits(*size_limits(conjunction, "Length"))
        for text in strings(self._text, limits, patterns, formats, self.work.spend):
            self.work.spend(1)
            yield text

    def _numbers(self, conjunction: Conjunction, whole: bool) -> Iterator[float]:
        lows = [Bound(*bound) for part in conjunction for bound in rules.bounds(part, "Minimum")]
        highs = [Bound(*bound) for part in conjunction for bound in rules.bounds(part, "Maximum")]
        high = min(highs, key=lambda bound: (bound.value, not bound.excluded), default=None)
        step = None
        for part in conjunction:
            step = _common_multiple(step, rules.step_of(part))
        return numbers(max(lows, default=None), high, step, whole)


def _common_multiple(one: Fraction | None, other: Fraction | None) -> Fraction | None:
    if one is None or other is None:
        return one or other
    return Fraction(lcm(one.numerator, other.numerator), gcd(one.denominator, other.denominator))
