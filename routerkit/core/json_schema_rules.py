"""What a JSON Schema says: reading its keywords, following its references, checking a value against it.

The dialect is draft 2020-12 with the older spellings (draft-4 boolean bounds, `definitions`, `items` lists,
`additionalItems`, `dependencies`). Writing values lives in `json_schema` and `json_schema_scalars`.
`unevaluatedProperties` and `unevaluatedItems` are not checked, nor are formats nobody here knows.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import isfinite
from typing import Any, TypeAlias
from urllib.parse import unquote

from routerkit.core.json_schema_patterns import Pattern, PatternError, compile_pattern
from routerkit.core.json_schema_scalars import has_format

Schema: TypeAlias = Mapping[str, Any] | bool

KINDS = ("object", "array", "string", "number", "integer", "boolean", "null")


class UnsupportedSchemaError(ValueError):
    """The schema is malformed or asks for something that is not supported."""


class OutOfWorkError(ValueError):
    """Answering would take more work than is allowed."""


class Work:
    """An allowance of steps, so that no schema keeps the caller waiting."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left < 0:
            raise OutOfWorkError("the schema takes too much work")


def kind_of(value: Any) -> str:
    """The narrowest JSON type of a value; 1.0 is an integer."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float() if isfinite(value):
            return "integer" if value.is_integer() else "number"
        case Mapping():
            return "object"
        case list() | tuple():
            return "array"
    return "not JSON"


def fingerprint(value: Any) -> Any:
    """Something hashable that is equal for equal JSON values: 1 and 1.0 are, 1 and true are not."""
    match value:
        case bool() | None:
            return ("constant", value)
        case Mapping():
            return ("object", frozenset((name, fingerprint(member)) for name, member in value.items()))
        case list() | tuple():
            return ("array", tuple(map(fingerprint, value)))
        case str() | int() | float():
            return value
    raise UnsupportedSchemaError(f"a value that is not JSON: {value!r:.80}")


def _malformed(schema: Mapping[str, Any], keyword: str) -> UnsupportedSchemaError:
    return UnsupportedSchemaError(f"malformed keyword {keyword!r}: {schema[keyword]!r:.80}")


def as_schema(value: Any) -> Schema:
    if isinstance(value, (Mapping, bool)):
        return value
    raise UnsupportedSchemaError(f"not a schema: {value!r:.80}")


def listed(schema: Mapping[str, Any], keyword: str) -> Sequence[Any]:
    found = schema.get(keyword, ())
    if not isinstance(found, (list, tuple)):
        raise _malformed(schema, keyword)
    return found


def members(schema: Mapping[str, Any], keyword: str) -> Mapping[str, Any]:
    found = schema.get(keyword, {})
    if not isinstance(found, Mapping):
        raise _malformed(schema, keyword)
    return found


def count(schema: Mapping[str, Any], keyword: str) -> int | None:
    found = schema.get(keyword)
    if found is None:
        return None
    if kind_of(found) != "integer" or found < 0:
        raise _malformed(schema, keyword)
    return int(found)


def exact(value: float) -> Fraction:
    """The decimal fraction that was written, not its binary neighbour."""
    return Fraction(value) if value == int(value) else Fraction(str(value))


def number(schema: Mapping[str, Any], keyword: str) -> Fraction | None:
    found = schema.get(keyword)
    if found is None:
        return None
    if kind_of(found) not in ("integer", "number"):
        raise _malformed(schema, keyword)
    return exact(found)


def step_of(schema: Mapping[str, Any]) -> Fraction | None:
    step = number(schema, "multipleOf")
    if step is not None and step <= 0:
        raise _malformed(schema, "multipleOf")
    return step


def bounds(schema: Mapping[str, Any], side: str) -> Iterator[tuple[Fraction, bool]]:
    """Each bound on one side ("Minimum" or "Maximum"), and whether it is itself excluded."""
    exclusive = schema.get(f"exclusive{side}")
    inclusive = number(schema, side.lower())
    if inclusive is not None:
        yield inclusive, exclusive is True
    if not isinstance(exclusive, bool) and (bound := number(schema, f"exclusive{side}")) is not None:
        yield bound, True


def types(schema: Mapping[str, Any]) -> Sequence[str]:
    """The types that are allowed; empty when the schema does not say."""
    found = schema.get("type", ())
    found = (found,) if isinstance(found, str) else found
    if not isinstance(found, (list, tuple)) or not all(kind in KINDS for kind in found):
        raise _malformed(schema, "type")
    return found


def choices(schema: Mapping[str, Any]) -> Sequence[Any] | None:
    """The values that `const` and `enum` leave."""
    if "const" not in schema:
        return listed(schema, "enum") if "enum" in schema else None
    const = schema["const"]
    refused = "enum" in schema and fingerprint(const) not in map(fingerprint, listed(schema, "enum"))
    return () if refused else (const,)


def pattern(source: Any) -> Pattern:
    if not isinstance(source, str):
        raise UnsupportedSchemaError(f"malformed pattern: {source!r:.80}")
    try:
        return compile_pattern(source)
    except PatternError as error:
        raise UnsupportedSchemaError(str(error)) from error


def _prefix(schema: Mapping[str, Any]) -> Sequence[Any]:
    items = schema.get("items")
    return items if isinstance(items, (list, tuple)) else listed(schema, "prefixItems")


def prefix_length(schema: Mapping[str, Any]) -> int:
    """How many items have a schema of their own."""
    return len(_prefix(schema))


def item_schema(schema: Mapping[str, Any], index: int) -> Schema:
    """What `prefixItems`, `items` and `additionalItems` ask of one item."""
    prefix = _prefix(schema)
    if index < len(prefix):
        return as_schema(prefix[index])
    rest = "additionalItems" if isinstance(schema.get("items"), (list, tuple)) else "items"
    return as_schema(schema.get(rest, True))


def dependents(schema: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str] | Schema]]:
    """What the presence of a property asks for: further properties, or a schema for the whole object."""
    for name, wanted in members(schema, "dependentRequired").items():
        yield name, wanted if isinstance(wanted, (list, tuple)) else as_schema(wanted)
    for keyword in ("dependentSchemas", "dependencies"):
        for name, wanted in members(schema, keyword).items():
            if isinstance(wanted, str):
                yield name, (wanted,)
            else:
                yield name, wanted if isinstance(wanted, (list, tuple)) else as_schema(wanted)


class Document:
    """The whole schema, in which references are looked up."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._marks: dict[str, Any] | None = None

    def resolve(self, reference: Any) -> Schema:
        if not isinstance(reference, str):
            raise UnsupportedSchemaError(f"malformed $ref: {reference!r:.80}")
        base, _, fragment = reference.partition("#")
        try:
            home = self._marked(base) if base else self._root
            found = self._find(home, unquote(fragment))
        except (LookupError, ValueError):
            kind = "remote or unknown" if base else "unresolvable"
            raise UnsupportedSchemaError(f"{kind} $ref {reference!r}") from None
        return as_schema(found)

    def _find(self, home: Any, fragment: str) -> Any:
        if fragment and not fragment.startswith("/"):
            return self._marked("#" + fragment)
        for token in fragment.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if not isinstance(home, (Mapping, list)):
                raise LookupError(name)
            home = home[name] if isinstance(home, Mapping) else home[int(name)]
        return home

    def _marked(self, mark: str) -> Any:
        if self._marks is None:
            self._marks = dict(self._all_marks())
        return self._marks[mark]

    def _all_marks(self) -> Iterator[tuple[str, Any]]:
        waiting: list[Any] = [self._root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, Mapping):
                for keyword, sign in (("id", ""), ("$id", ""), ("$anchor", "#"), ("$dynamicAnchor", "#")):
                    if isinstance(mark := node.get(keyword), str):
                        yield sign + (mark if mark.startswith("#") else mark.rstrip("#")), node
            if isinstance(node, (Mapping, list)):
                waiting.extend(node.values() if isinstance(node, Mapping) else node)


class Checker:
    """Decides whether a value satisfies a schema of one document."""

    def __init__(self, document: Document, work: Work) -> None:
        self._document = document
        self._spend = work.spend
        # The checked objects are kept with the verdict: an id means nothing once its object is gone.
        self._verdicts: dict[tuple[int, int], tuple[Any, Schema, bool]] = {}
        self._following: set[tuple[int, int]] = set()

    def valid(self, value: Any, schema: Schema) -> bool:
        self._spend(1)
        if isinstance(as_schema(schema), bool):
            return bool(schema)
        if not isinstance(value, (Mapping, list)):
            return self._satisfies(value, schema)
        key = (id(value), id(schema))
        if key not in self._verdicts:
            self._verdicts[key] = (value, schema, self._satisfies(value, schema))
        return self._verdicts[key][2]

    def _satisfies(self, value: Any, schema: Any) -> bool:
        kind = kind_of(value)
        allowed = types(schema)
        if allowed and kind not in allowed and not (kind == "integer" and "number" in allowed):
            return False
        return (
            kind != "not JSON"
            and self._is_choice(value, schema)
            and self._within_kind(kind, value, schema)
            and self._combined(value, schema)
        )

    def _within_kind(self, kind: str, value: Any, schema: Mapping[str, Any]) -> bool:
        match kind:
            case "string":
                return self._string(value, schema)
            case "integer" | "number":
                return self._number(value, schema)
            case "array":
                return self._array(value, schema)
            case "object":
                return self._object(value, schema)
        return True

    def _is_choice(self, value: Any, schema: Mapping[str, Any]) -> bool:
        allowed = choices(schema)
        if allowed is None:
            return True
        self._spend(len(allowed))
        return fingerprint(value) in map(fingerprint, allowed)

    def _string(self, value: str, schema: Mapping[str, Any]) -> bool:
        return (
            _within(len(value), schema, "Length")
            and ("pattern" not in schema or self.matches(schema["pattern"], value))
            and has_format(value, schema.get("format"))
        )

    def matches(self, source: Any, text: str) -> bool:
        return pattern(source).search(text, self._spend)

    def _number(self, value: float, schema: Mapping[str, Any]) -> bool:
        mine = exact(value)
        lower = all(mine > bound or (mine == bound and not out) for bound, out in bounds(schema, "Minimum"))
        upper = all(mine < bound or (mine == bound and not out) for bound, out in bounds(schema, "Maximum"))
        step = step_of(schema)
        return lower and upper and (step is None or _is_multiple(value, step, schema["multipleOf"]))

    def _array(self, value: Sequence[Any], schema: Mapping[str, Any]) -> bool:
        if not _within(len(value), schema, "Items"):
            return False
        if schema.get("uniqueItems") is True and len(set(map(fingerprint, value))) < len(value):
            return False
        if not all(self.valid(item, item_schema(schema, index)) for index, item in enumerate(value)):
            return False
        if "contains" not in schema:
            return True
        found = sum(self.valid(item, schema["contains"]) for item in value)
        low, high = count(schema, "minContains"), count(schema, "maxContains")
        return found >= (1 if low is None else low) and (high is None or found <= high)

    def _object(self, value: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
        return (
            _within(len(value), schema, "Properties")
            and all(name in value for name in required(schema))
            and all(self._dependent(value, wanted) for name, wanted in dependents(schema) if name in value)
            and all(self.valid(name, schema.get("propertyNames", True)) for name in value)
            and all(
                self.valid(member, rule) for name, member in value.items() for rule in self.member_schemas(schema, name)
            )
        )

    def _dependent(self, value: Mapping[str, Any], wanted: Sequence[str] | Schema) -> bool:
        if isinstance(wanted, (list, tuple)):
            return all(name in value for name in wanted)
        return self.valid(value, as_schema(wanted))

    def member_schemas(self, schema: Mapping[str, Any], name: str) -> list[Schema]:
        """What `properties`, `patternProperties` and `additionalProperties` ask of one member."""
        found = [schema["properties"][name]] if name in members(schema, "properties") else []
        by_pattern = members(schema, "patternProperties").items()
        found += [rule for source, rule in by_pattern if self.matches(source, name)]
        return found or [schema.get("additionalProperties", True)]

    def _combined(self, value: Any, schema: Mapping[str, Any]) -> bool:
        return (
            all(self._follows(value, schema[word]) for word in ("$ref", "$dynamicRef") if word in schema)
            and all(self.valid(value, part) for part in listed(schema, "allOf"))
            and ("anyOf" not in schema or any(self.valid(value, part) for part in listed(schema, "anyOf")))
            and ("oneOf" not in schema or sum(self.valid(value, one) for one in listed(schema, "oneOf")) == 1)
            and not ("not" in schema and self.valid(value, schema["not"]))
            and self._conditional(value, schema)
        )

    def _conditional(self, value: Any, schema: Mapping[str, Any]) -> bool:
        if "if" not in schema:
            return True
        branch = "then" if self.valid(value, schema["if"]) else "else"
        return self.valid(value, schema.get(branch, True))

    def _follows(self, value: Any, reference: Any) -> bool:
        target = self._document.resolve(reference)
        key = (id(value), id(target))
        if key in self._following:
            return False  # the reference leads back to itself without looking into the value
        self._following.add(key)
        try:
            return self.valid(value, target)
        finally:
            self._following.discard(key)


def required(schema: Mapping[str, Any]) -> list[str]:
    """The names in `required`; draft 3 wrote a boolean there, which later drafts do not know."""
    names = () if isinstance(schema.get("required"), bool) else listed(schema, "required")
    if not all(isinstance(name, str) for name in names):
        raise _malformed(schema, "required")
    return list(names)


def _within(size: int, schema: Mapping[str, Any], what: str) -> bool:
    low, high = count(schema, f"min{what}"), count(schema, f"max{what}")
    return (low is None or size >= low) and (high is None or size <= high)


def _is_multiple(value: float, step: Fraction, written: float) -> bool:
    """Exactly, and by the float division of common validators: 0.3 is no multiple of 0.1 to them."""
    if (exact(value) / step).denominator != 1:
        return False
    try:
        return isinstance(written, int) or (value / written).is_integer()
    except OverflowError:
        return True
