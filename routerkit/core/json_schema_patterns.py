"""Regular expressions of JSON Schema (ECMA-262 flavour): parse, search, and write strings that match.

Searching follows sets of positions instead of backtracking, so a hostile pattern cannot take exponential
time. What JSON Schema does with patterns lives in `json_schema_rules` and `json_schema_scalars`; no schema
is looked at here. Back references, atomic groups and flags other than a leading `(?i)` are not supported.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase, digits

Spend = Callable[[int], None]
CharTest = Callable[[str], bool]

LONGEST_STRING = 10_000
_PADDING = "a -0A_.b1B/c2C:d3D,e4E@x"
_VARIANTS = len(_PADDING)
_WRITABLE = ascii_lowercase + ascii_uppercase + digits + "-_ .,:;/@#+*=!?%&$'\"()[]{}<>|\\^`~\t\n\r\f\v"
_QUANTIFIER = re.compile(r"(?:([*+?])|\{([0-9]{1,9})(,([0-9]{0,9}))?\})\??")
_CODE_POINT = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}")
_UNICODE_CLASS = re.compile(r"([pP])\{(?:gc=|General_Category=)?([LMNPSZC][a-z]?)\}")
_GROUP_OPENING = re.compile(r"\((?:\?(:|=|!|<=|<!|P?<[A-Za-z_$][\w$]*>))?")
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}


class PatternError(ValueError):
    """The pattern is malformed or uses something this module does not support."""


@dataclass(frozen=True)
class _Chars:
    test: CharTest
    samples: str


@dataclass(frozen=True)
class _Row:
    nodes: "tuple[_Node, ...]"


@dataclass(frozen=True)
class _Choice:
    options: "tuple[_Node, ...]"


@dataclass(frozen=True)
class _Repeat:
    node: "_Node"
    low: int
    high: int | None


@dataclass(frozen=True)
class _Edge:
    holds: Callable[[str, int], bool]


@dataclass(frozen=True)
class _Look:
    node: "_Node"
    ahead: bool
    wanted: bool


_Node = _Chars | _Row | _Choice | _Repeat | _Edge | _Look


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")


def _at_word_edge(text: str, at: int) -> bool:
    before = at > 0 and _is_word(text[at - 1])
    return before != (at < len(text) and _is_word(text[at]))


_CLASSES: dict[str, CharTest] = {
    "d": lambda char: char in digits,
    "w": _is_word,
    "s": lambda char: char.isspace() or char == "\ufeff",
}
_EDGES: dict[str, Callable[[str, int], bool]] = {
    "^": lambda _, at: at == 0,
    "$": lambda text, at: at == len(text),
    "\\A": lambda _, at: at == 0,
    "\\Z": lambda text, at: at == len(text),
    "\\z": lambda text, at: at == len(text),
    "\\b": _at_word_edge,
    "\\B": lambda text, at: not _at_word_edge(text, at),
}


def _negated(test: CharTest) -> CharTest:
    return lambda char: not test(char)


def _of_category(name: str) -> CharTest:
    return lambda char: unicodedata.category(char).startswith(name)


def _any_of(tests: list[CharTest]) -> CharTest:
    return lambda char: any(test(char) for test in tests)


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._any_case = source.startswith("(?i)")
        self._at = 4 if self._any_case else 0

    def parse(self) -> _Node:
        node = self._choice()
        if self._at < len(self._source):
            raise self._error("unbalanced parenthesis")
        return node

    def _error(self, problem: str) -> PatternError:
        return PatternError(f"{problem} at position {self._at} of the pattern {self._source!r}")

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _eat(self, token: str) -> bool:
        found = self._source.startswith(token, self._at)
        self._at += len(token) if found else 0
        return found

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise self._error("unexpected end")
        self._at += 1
        return char

    def _choice(self) -> _Node:
        options = [self._row()]
        while self._eat("|"):
            options.append(self._row())
        return options[0] if len(options) == 1 else _Choice(tuple(options))

    def _row(self) -> _Node:
        nodes = []
        while self._peek() not in ("", "|", ")"):
            nodes.append(self._repeated(self._atom()))
        return _Row(tuple(nodes))

    def _repeated(self, node: _Node) -> _Node:
        found = _QUANTIFIER.match(self._source, self._at)
        if not found:
            return node
        self._at = found.end()
        sign, low, comma, high = found.groups()
        if sign:
            return _Repeat(node, int(sign == "+"), 1 if sign == "?" else None)
        most = int(high) if high else None if comma else int(low)
        if most is not None and most < int(low):
            raise self._error("bounds of a repetition out of order")
        return _Repeat(node, int(low), most)

    def _atom(self) -> _Node:
        for token, holds in _EDGES.items():
            if self._eat(token):
                return _Edge(holds)
        if self._peek() == "(":
            return self._group()
        if _QUANTIFIER.match(self._source, self._at):
            raise self._error("nothing to repeat")
        char = self._take()
        if char == "[":
            return self._char_class()
        if char == ".":
            return self._chars(lambda char: char not in "\n\r\u2028\u2029", "")
        if char == "\\":
            return self._chars(*self._escape())
        return self._chars(char.__eq__, char)

    def _group(self) -> _Node:
        opening = _GROUP_OPENING.match(self._source, self._at)
        if not opening or self._source.startswith("?", opening.end()):
            raise self._error("unsupported group")
        self._at = opening.end()
        node = self._choice()
        if not self._eat(")"):
            raise self._error("missing )")
        mark = opening[1] or ":"
        if mark in ("=", "!", "<=", "<!"):
            return _Look(node, ahead="<" not in mark, wanted="=" in mark)
        return node

    def _chars(self, test: CharTest, hints: str, negated: bool = False) -> _Chars:
        def either_case(char: str) -> bool:
            return test(char.lower()) or test(char.upper())

        chosen = either_case if self._any_case else test
        chosen = _negated(chosen) if negated else chosen
        return _Chars(chosen, "".join(filter(chosen, _WRITABLE)) or "".join(filter(chosen, hints)))

    def _escape(self) -> tuple[CharTest, str]:
        """The characters that the escape after a backslash stands for: a test, and some of them."""
        if found := _CODE_POINT.match(self._source, self._at):
            self._at = found.end()
            code = int(next(filter(None, found.groups())), 16)
            if code > 0x10FFFF:
                raise self._error("no such character")
            return chr(code).__eq__, chr(code)
        if found := _UNICODE_CLASS.match(self._source, self._at):
            self._at = found.end()
            test = _of_category(found[2])
            return (test if found[1] == "p" else _negated(test)), ""
        char = self._take()
        if char.lower() in _CLASSES:
            test = _CLASSES[char.lower()]
            return (test if char.islower() else _negated(test)), ""
        if char not in _CONTROLS and char.isascii() and char.isalnum():
            raise self._error(f"unsupported escape \\{char}")
        char = _CONTROLS.get(char, char)
        return char.__eq__, char

    def _char_class(self) -> _Chars:
        negated = self._eat("^")
        if self._peek() == "]":
            raise self._error("empty character class")
        tests: list[CharTest] = []
        hints = ""
        while not self._eat("]"):
            test, found = self._class_member()
            tests.append(test)
            hints += found
        return self._chars(_any_of(tests), hints, negated)

    def _class_member(self) -> tuple[CharTest, str]:
        test, first = self._class_char()
        if len(first) != 1 or self._peek() != "-" or self._source.startswith("-]", self._at):
            return test, first
        self._at += 1
        other, last = self._class_char()
        if len(last) != 1:
            return (lambda char: test(char) or other(char) or char == "-"), first + "-"
        if last < first:
            raise self._error("character range out of order")
        some = range(ord(first), min(ord(last), ord(first) + 16) + 1)
        return (lambda char: first <= char <= last), "".join(map(chr, some))

    def _class_char(self) -> tuple[CharTest, str]:
        if self._eat("\\b"):
            return "\b".__eq__, "\b"
        char = self._take()
        return self._escape() if char == "\\" else (char.__eq__, char)


def _ends(node: _Node, text: str, starts: set[int], spend: Spend) -> set[int]:
    """Where a match of `node` can end, when it may begin at any of `starts`."""
    spend(1 + len(starts) // 8)
    match node:
        case _Chars():
            return {at + 1 for at in starts if at < len(text) and node.test(text[at])}
        case _Edge():
            return {at for at in starts if node.holds(text, at)}
        case _Choice():
            return set().union(*(_ends(option, text, starts, spend) for option in node.options))
        case _Look():
            return {at for at in starts if _looks(node, text, at, spend) == node.wanted}
        case _Repeat():
            return _repeat_ends(node, text, starts, spend)
        case _:  # a _Row
            for part in node.nodes:
                starts = _ends(part, text, starts, spend)
            return starts


def _looks(node: _Look, text: str, at: int, spend: Spend) -> bool:
    if node.ahead:
        return bool(_ends(node.node, text, {at}, spend))
    return at in _ends(node.node, text, set(range(at + 1)), spend)


def _repeat_ends(node: _Repeat, text: str, starts: set[int], spend: Spend) -> set[int]:
    for _ in range(node.low):
        after = _ends(node.node, text, starts, spend)
        if after == starts:
            break
        starts = after
    reached, fresh, done = set(starts), starts, node.low
    while fresh and (node.high is None or done < node.high):
        fresh = _ends(node.node, text, fresh, spend) - reached
        reached |= fresh
        done += 1
    return reached


def _walk(node: _Node, variant: int) -> Iterator[_Node]:
    """The nodes that `_write` visits for this variant, outer ones first."""
    yield node
    match node:
        case _Choice():
            yield from _walk(node.options[variant % len(node.options)], variant)
        case _Repeat():
            yield from _walk(node.node, variant)
        case _Row():
            for part in node.nodes:
                yield from _walk(part, variant)


def _write(node: _Node, variant: int, more: dict[int, int], out: list[str]) -> None:
    match node:
        case _Chars() if node.samples:
            out.append(node.samples[(variant + len(out)) % len(node.samples)])
        case _Choice():
            _write(node.options[variant % len(node.options)], variant, more, out)
        case _Row():
            for part in node.nodes:
                _write(part, variant, more, out)
        case _Repeat():
            for _ in range(node.low + more.get(id(node), 0)):
                before = len(out)
                _write(node.node, variant, more, out)
                if not before < len(out) <= LONGEST_STRING:
                    break


class Pattern:
    """A parsed pattern."""

    def __init__(self, source: str) -> None:
        self._root = _Parser(source).parse()

    def search(self, text: str, spend: Spend) -> bool:
        """Whether the pattern matches somewhere in `text`; `spend` is told of the work and may raise."""
        return bool(_ends(self._root, text, set(range(len(text) + 1)), spend))

    def examples(self, low: int, high: int | None, spend: Spend) -> Iterator[str]:
        """Strings of `low` to `high` characters that probably match: the caller searches them."""
        for variant in range(_VARIANTS):
            for text in self._drafts(variant, low, spend):
                if len(text) >= low and (high is None or len(text) <= high):
                    yield text

    def _drafts(self, variant: int, low: int, spend: Spend) -> Iterator[str]:
        nodes = list(_walk(self._root, variant))
        spend(len(nodes))
        looks = [node.node for node in nodes if isinstance(node, _Look) and node.ahead and node.wanted]
        head = "".join(_written(look, variant, {}, spend) for look in looks)
        repeats = [node for node in nodes if isinstance(node, _Repeat)]
        for order in (repeats, repeats[::-1]):
            for text in self._grown(variant, order, max(low, 1), spend):
                yield from dict.fromkeys((text, head + text[len(head) :], head + text))
        text = _written(self._root, variant, {}, spend)
        padding = _PADDING[variant] * max(low - len(text), 1)
        yield from (text, text + padding, padding + text)

    def _grown(self, variant: int, order: list[_Repeat], low: int, spend: Spend) -> Iterator[str]:
        """The shortest strings of `low` characters and more that repeating in this order gives."""

        def text(extra: int) -> str:
            return _written(self._root, variant, _spread(order, extra), spend)

        fewest = bisect_left(range(low), low, key=lambda extra: len(text(extra)))
        yield from map(text, range(fewest, fewest + 4))


def _written(node: _Node, variant: int, more: dict[int, int], spend: Spend) -> str:
    out: list[str] = []
    _write(node, variant, more, out)
    spend(1 + len(out) // 8)
    return "".join(out)


def _spread(repeats: list[_Repeat], extra: int) -> dict[int, int]:
    """Give `extra` repetitions beyond the minimum to the first repeats that can take them."""
    more = {}
    for node in repeats:
        share = extra if node.high is None else min(extra, node.high - node.low)
        more[id(node)] = share
        extra -= share
    return more


@lru_cache(maxsize=256)
def compile_pattern(source: str) -> Pattern:
    """Parse `source`; raises PatternError."""
    return Pattern(source)
