"""Objects and arrays for JSON Schema constraints: candidates in order of preference.

The constraints come as a conjunction of schemas. What goes into a container is asked from the search in
`json_schema`, which also checks the candidates; how members are written is not known here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol, TypeAlias

from routerkit.core import json_schema_rules as rules
from routerkit.core.json_schema_rules import Checker, Schema, Work, fingerprint

Conjunction: TypeAlias = Sequence[Mapping[str, Any]]

_VARIANTS = 16
_EARLY_TURNS = range(4)
_LATE_TURNS = range(4, 40)
_SPARE_NAMES = 40
_MOST_MEMBERS = 2_000


class Level(NamedTuple):
    """How many levels may still show optional members, and how many may follow (None: as few as it takes)."""

    lively: int
    room: int | None = None

    def inner(self) -> "Level":
        return Level(max(self.lively - 1, 0), None if self.room is None else self.room - 1)


class Values:
    """The values of an iterator, to be read more than once."""

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        self._seen: list[Any] = []

    def at(self, index: int) -> list[Any]:
        """The value at `index`, else the first, as a list that is empty when there is none."""
        return self._seen[index : index + 1] if self.reaches(index) else self._seen[:1]

    def reaches(self, index: int) -> bool:
        self._seen.extend(islice(self._source, max(index + 1 - len(self._seen), 0)))
        return len(self._seen) > index

    def __iter__(self) -> Iterator[Any]:
        index = 0
        while self.reaches(index):
            yield self._seen[index]
            index += 1


class Search(Protocol):
    """What containers need to know about the search they are part of."""

    checker: Checker
    work: Work

    def values(self, schema: Schema, level: Level, path: str) -> Values: ...

    def all_of(self, *schemas: Any) -> Schema: ...

    def derive(self, form: str, source: tuple[Any, ...], schema: Schema) -> Schema: ...

    def blame(self, path: str, schema: Schema) -> None: ...


def size_limits(conjunction: Conjunction, what: str) -> tuple[int, int | None]:
    """The strictest `min...` and `max...` of the conjunction."""
    lows = [low for part in conjunction if (low := rules.count(part, f"min{what}")) is not None]
    highs = [high for part in conjunction if (high := rules.count(part, f"max{what}")) is not None]
    return max(lows, default=0), min(highs, default=None)


def unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


class Objects:
    """The objects for one conjunction."""

    def __init__(self, search: Search, conjunction: Conjunction, level: Level, path: str) -> None:
        self._search, self._conjunction, self._level, self._path = search, conjunction, level, path
        self._low, self._high = size_limits(conjunction, "Properties")
        declared = chain.from_iterable(rules.members(part, "properties") for part in conjunction)
        self._required = unique(chain.from_iterable(map(rules.required, conjunction)))
        self._known = unique([*declared, *self._required])
        self._schemas: dict[str, Schema] = {}
        self._varied = False

    def candidates(self) -> Iterator[dict[str, Any]]:
        if self._low > _MOST_MEMBERS:
            return
        bare = [name for name in self._known if name in self._required]
        optional = [name for name in self._known if name not in self._required]
        usual = self._known if self._level.lively else bare
        for turn in _EARLY_TURNS:
            yield from self._build(usual, turn)
        yield from self._build(bare, 0)
        for chosen in optional[:_VARIANTS]:
            yield from self._build([*bare, chosen], 0)
        for dropped in optional[:_VARIANTS]:
            yield from self._build([name for name in self._known if name != dropped], 0)
        yield from self._build(self._known, 0)
        for turn in _LATE_TURNS:
            if self._varied:
                yield from self._build(usual, turn)

    def _build(self, names: Sequence[str], turn: int) -> list[dict[str, Any]]:
        """The object with these members and what they entail, if there is one."""
        self._varied = False
        fields: dict[str, Any] = {}
        for name in self._within_size(self._with_dependents(names)):
            if found := self._member(name, turn):
                fields[name] = found[0]
            elif name in self._required:
                self._search.blame(self._member_path(name), self._schema(name))
                return []
        self._fill(fields, turn)
        return [fields]

    def _with_dependents(self, names: Sequence[str]) -> list[str]:
        chosen = unique(names)
        for name in chosen:  # grows on the way, so that dependents of dependents come in too
            for trigger, wanted in chain.from_iterable(map(rules.dependents, self._conjunction)):
                if trigger == name and isinstance(wanted, (list, tuple)):
                    chosen.extend(other for other in wanted if other not in chosen)
        return sorted(chosen, key=lambda name: self._known.index(name) if name in self._known else len(chosen))

    def _within_size(self, names: list[str]) -> list[str]:
        if self._high is None or len(names) <= self._high:
            return names
        first = [name for name in names if name in self._required]
        kept = {*first, *[name for name in names if name not in first][: max(self._high - len(first), 0)]}
        return [name for name in names if name in kept]

    def _member(self, name: str, turn: int) -> list[Any]:
        self._search.work.spend(1)
        for part in self._conjunction:
            if not self._search.checker.valid(name, part.get("propertyNames", True)):
                return []
        values = self._search.values(self._schema(name), self._level.inner(), self._member_path(name))
        self._varied = self._varied or values.reaches(turn + 1)
        return values.at(turn)

    def _member_path(self, name: str) -> str:
        known = any(name in rules.members(part, "properties") for part in self._conjunction)
        step = name.replace("~", "~0").replace("/", "~1")
        return f"{self._path}/properties/{step}" if known else f"{self._path}/additionalProperties"

    def _schema(self, name: str) -> Schema:
        if name not in self._schemas:
            checker = self._search.checker
            found = [rule for part in self._conjunction for rule in checker.member_schemas(part, name)]
            if all(rule is True for rule in found):
                found += [part.get("unevaluatedProperties", True) for part in self._conjunction]
            self._schemas[name] = self._search.all_of(*found)
        return self._schemas[name]

    def _fill(self, fields: dict[str, Any], turn: int) -> None:
        """Add members up to the minimum; a map that describes its values shows one."""
        wanted = self._low
        if self._level.lively and not self._known and self._high != 0 and self._describes_others():
            wanted = max(wanted, 1)
        for name in self._spare_names() if len(fields) < wanted else ():
            if name not in fields and (found := self._member(name, turn)):
                fields[name] = found[0]
            if len(fields) >= wanted:
                return

    def _describes_others(self) -> bool:
        words = ("patternProperties", "additionalProperties")
        return any(isinstance(part.get(word), Mapping) for part in self._conjunction for word in words)

    def _spare_names(self) -> Iterator[str]:
        yield from self._known
        for part in self._conjunction:
            for source in rules.members(part, "patternProperties"):
                yield from islice(rules.pattern(source).examples(1, None, self._search.work.spend), _SPARE_NAMES)
        rule = self._search.all_of(*(part["propertyNames"] for part in self._conjunction if "propertyNames" in part))
        if rule is not True:
            inner = self._level.inner()
            text = self._search.derive("text", (rule,), {"type": "string", "allOf": [rule]})
            yield from islice(self._search.values(text, inner, f"{self._path}/propertyNames"), _SPARE_NAMES)
        yield from (f"key{number}" for number in range(1, self._low + _SPARE_NAMES))


class Arrays:
    """The arrays for one conjunction."""

    def __init__(self, search: Search, conjunction: Conjunction, level: Level, path: str) -> None:
        self._search, self._conjunction, self._level, self._path = search, conjunction, level, path
        self._low, self._high = size_limits(conjunction, "Items")
        self._unique = any(part.get("uniqueItems") is True for part in conjunction)
        self._prefix = max((rules.prefix_length(part) for part in conjunction), default=0)
        self._wishes = [part for part in conjunction if "contains" in part]

    def candidates(self) -> Iterator[list[Any]]:
        usual = max(self._low, self._prefix, 1) if self._level.lively else self._low
        for turn in _EARLY_TURNS:
            yield from self._build(usual, turn)
        for size in (self._low, self._low + 1, self._low + 2):
            yield from self._build(size, 0)
        for turn in _LATE_TURNS:
            yield from self._build(usual, turn)

    def _build(self, size: int, turn: int) -> list[list[Any]]:
        """The array of about this size, if there is one."""
        items: list[Any] = []
        while self._low <= _MOST_MEMBERS and len(items) != self._high and (len(items) < size or self._missing(items)):
            self._search.work.spend(1)
            missing = self._missing(items)
            found = self._item(items, missing, turn)
            if not found and missing and len(items) < max(size, self._prefix):
                found = self._item(items, None, turn)
            if not found:
                break
            items += found
        return [items] if len(items) >= self._low else []

    def _missing(self, items: list[Any]) -> Schema | None:
        """A `contains` that wants more items."""
        for part in self._wishes:
            least = rules.count(part, "minContains")
            if self._found(part, items) < (1 if least is None else least):
                return rules.as_schema(part["contains"])
        return None

    def _found(self, part: Mapping[str, Any], items: list[Any]) -> int:
        return sum(self._search.checker.valid(item, part["contains"]) for item in items)

    def _item(self, items: list[Any], wish: Schema | None, turn: int) -> list[Any]:
        index = len(items)
        schema = self._schema(items, True if wish is None else wish)
        path = f"{self._path}/" + (f"prefixItems/{index}" if index < self._prefix else "items")
        values = self._search.values(schema, self._level.inner(), path)
        found = values.at(turn)
        if self._unique:
            self._search.work.spend(len(items))
            used = set(map(fingerprint, items))
            ordered = chain(islice(values, turn, None), values)
            found = list(islice((value for value in ordered if fingerprint(value) not in used), 1))
        if not found and index < self._low:
            self._search.blame(path, schema)
        return found

    def _schema(self, items: list[Any], wish: Schema) -> Schema:
        index = len(items)
        found = [rules.item_schema(part, index) for part in self._conjunction]
        if index >= self._prefix and all(rule is True for rule in found):
            found += [rules.as_schema(part.get("unevaluatedItems", True)) for part in self._conjunction]
        for part in self._wishes:
            most = rules.count(part, "maxContains")
            if most is not None and self._found(part, items) >= most:
                found.append(self._search.derive("not", (part["contains"],), {"not": part["contains"]}))
        return self._search.all_of(*found, wish)
