"""Sampled values, judged by the jsonschema package and not by the sampler's own checker."""

import ast
import json
import re
import time
from collections import Counter
from datetime import datetime
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator, Draft202012Validator, FormatChecker

from routerkit.core import json_schema
from routerkit.core.json_schema import UnsatisfiableSchemaError, sample
from routerkit.core.json_schema_patterns import PatternError, compile_pattern

SLOWEST = 5.0
"""Seconds that a hostile schema may take on a slow machine; none takes one second on a fast one."""

FORMATS = FormatChecker(formats=())
# What jsonschema knows without further packages, and then what it needs packages for.
for known in ("email", "ipv4", "ipv6", "date", "regex", "uuid"):
    FORMATS.checkers[known] = Draft202012Validator.FORMAT_CHECKER.checkers[known]


@FORMATS.checks("date-time", raises=ValueError)
def is_date_time(text: object) -> bool:
    return not isinstance(text, str) or datetime.fromisoformat(text.replace("Z", "+00:00")).tzinfo is not None


@FORMATS.checks("time", raises=ValueError)
def is_time(text: object) -> bool:
    return not isinstance(text, str) or is_date_time(f"2024-01-01T{text}")


@FORMATS.checks("uri")
@FORMATS.checks("url")
def is_uri(text: object) -> bool:
    return not isinstance(text, str) or (bool(urlsplit(text).scheme) and text.isascii() and " " not in text)


@FORMATS.checks("uri-reference")
def is_uri_reference(text: object) -> bool:
    return not isinstance(text, str) or re.fullmatch(r"[!#-;=?-_a-z~]*", text) is not None


@FORMATS.checks("hostname")
def is_hostname(text: object) -> bool:
    return not isinstance(text, str) or all(
        re.fullmatch(r"[a-z0-9]+(-+[a-z0-9]+)*", part, re.IGNORECASE) and len(part) < 64 for part in text.split(".")
    )


@FORMATS.checks("duration")
def is_duration(text: object) -> bool:
    return not isinstance(text, str) or re.fullmatch(r"P(\d+[YMWD])*(T(\d+[HMS])+)?", text) is not None


@FORMATS.checks("json-pointer")
def is_json_pointer(text: object) -> bool:
    return not isinstance(text, str) or text == "" or (text[0] == "/" and not re.search("~(?![01])", text))


def judge(schema: Any, value: Any, validator: Any = Draft202012Validator) -> None:
    """Fails unless the value is JSON and the schema, itself valid, accepts it."""
    validator.check_schema(schema)
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    errors = [error.message for error in validator(schema, format_checker=FORMATS).iter_errors(value)]
    assert not errors, (value, errors)


def obj(required: str = "", **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


STRING, INTEGER, NUMBER, NULL = ({"type": kind} for kind in ("string", "integer", "number", "null"))
TREE = {
    "$ref": "#/$defs/Node",
    "$defs": {"Node": obj("name children", name=STRING, children={"type": "array", "items": {"$ref": "#/$defs/Node"}})},
}
PYDANTIC = {
    "$defs": {
        "Address": {
            "properties": {
                "street": {"title": "Street", "type": "string"},
                "zip": {"pattern": r"^\d{5}(-\d{4})?$", "title": "Zip", "type": "string"},
            },
            "required": ["street", "zip"],
            "title": "Address",
            "type": "object",
        },
        "Role": {"enum": ["admin", "user"], "title": "Role", "type": "string"},
        "Cat": obj("kind meows", kind={"const": "cat", "type": "string"}, meows=INTEGER),
        "Dog": obj("kind barks", kind={"const": "dog", "type": "string"}, barks=NUMBER),
    },
    "properties": {
        "id": {"format": "uuid", "title": "Id", "type": "string"},
        "name": {"maxLength": 8, "minLength": 2, "title": "Name", "type": "string"},
        "email": {"anyOf": [{"format": "email", "type": "string"}, {"type": "null"}], "default": None},
        "age": {"anyOf": [{"exclusiveMaximum": 150, "minimum": 18, "type": "integer"}, {"type": "null"}]},
        "roles": {"items": {"$ref": "#/$defs/Role"}, "type": "array", "uniqueItems": True, "minItems": 2},
        "address": {"allOf": [{"$ref": "#/$defs/Address"}], "description": "where"},
        "second": {"$ref": "#/$defs/Address", "default": {"street": "Elm", "zip": "12345"}},
        "scores": {"additionalProperties": {"type": "number"}, "type": "object"},
        "price": {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}]},
        "point": {
            "maxItems": 2,
            "minItems": 2,
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "type": "array",
        },
        "pet": {
            "discriminator": {
                "mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"},
                "propertyName": "kind",
            },
            "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
        },
        "born": {"format": "date-time", "type": "string"},
    },
    "required": ["id", "name", "age", "roles", "address", "point", "pet"],
    "title": "User",
    "type": "object",
}
STRICT_TOOL = {
    "type": "object",
    "properties": {
        "location": {"type": "string", "description": "City and country"},
        "unit": {"type": ["string", "null"], "enum": ["celsius", "fahrenheit", None]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"explanation": {"type": "string"}, "output": {"type": "string"}},
                "required": ["explanation", "output"],
                "additionalProperties": False,
            },
        },
        "parent": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["location", "unit", "days", "steps", "parent"],
    "additionalProperties": False,
}
MCP_TOOL = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "head": {"type": "number", "description": "first lines"},
        "edits": {
            "type": "array",
            "items": obj("oldText newText", oldText=STRING, newText=STRING) | {"additionalProperties": False},
        },
        "dryRun": {"type": "boolean", "default": False},
        "excludePatterns": {"type": "array", "items": {"type": "string"}, "default": []},
        "meta": {"type": "object", "additionalProperties": {}},
    },
    "required": ["path", "edits"],
    "additionalProperties": False,
}
VALID: dict[str, Any] = {
    "true": True,
    "empty": {},
    "pydantic": PYDANTIC,
    "strict tool": STRICT_TOOL,
    "mcp tool": MCP_TOOL,
    "recursive tree": TREE,
    "required binary tree": obj(
        "left right", left={"anyOf": [{"$ref": "#"}, NULL]}, right={"oneOf": [{"$ref": "#"}, NULL]}
    ),
    "deep requirement": reduce(lambda inner, _: obj("a", a=inner), range(12), STRING),
    "linked through anchors": {
        "$ref": "#list",
        "$defs": {"l": obj("next", next={"anyOf": [{"$ref": "#list"}, NULL]}) | {"$anchor": "list"}},
    },
    "own id": {
        "$id": "https://example.com/a",
        "$ref": "https://example.com/a#/$defs/x",
        "$defs": {"x": INTEGER},
    },
    "escaped pointer": {"$ref": "#/$defs/a~1b%25~0", "$defs": {"a/b%~": {"const": 7}}},
    "pointer into properties": obj("a b", a={"type": "integer", "minimum": 5}, b={"$ref": "#/properties/a"}),
    "enum of objects": {"enum": [{"a": [1]}, {"b": None}]},
    "const null": obj("x", x={"const": None}),
    "enum narrowed by siblings": {"enum": ["aa", "b", 3, None], "type": "string", "maxLength": 1},
    "default that is invalid": {"type": "integer", "default": "none", "minimum": 3},
    "default that is no multiple": {"type": "integer", "default": 5, "multipleOf": 2},
    "default that repeats itself": {"type": "array", "items": INTEGER, "uniqueItems": True, "default": [1, 1]},
    "default that is too long": {"type": "array", "items": INTEGER, "maxItems": 1, "default": [1, 2]},
    "default of other items": {"type": "array", "items": INTEGER, "default": ["a"]},
    "default that is no date": {"type": "string", "format": "date", "default": "2024-02-30"},
    "choice that JSON cannot write": {"enum": [float("nan"), 3]},
    "examples": {"type": "string", "examples": ["Paris"], "minLength": 4},
    "nested arrays": {
        "type": "array",
        "minItems": 2,
        "items": {"type": "array", "minItems": 3, "items": {"type": "array", "items": NUMBER, "minItems": 1}},
    },
    "unique booleans": {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 2},
    "unique enum": {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3},
    "unique objects": {"type": "array", "items": obj("a", a=INTEGER), "uniqueItems": True, "minItems": 7},
    "unique arrays": {
        "type": "array",
        "items": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        "uniqueItems": True,
        "minItems": 6,
    },
    "unique strings of a pattern": {
        "type": "array",
        "items": {"type": "string", "pattern": "^[a-z]{2}$"},
        "uniqueItems": True,
        "minItems": 12,
    },
    "no items": {"type": "array", "items": False},
    "contains": {
        "type": "array",
        "items": INTEGER,
        "contains": {"minimum": 50},
        "minContains": 3,
        "maxItems": 3,
    },
    "contains after a prefix": {"type": "array", "prefixItems": [STRING], "contains": {"type": "null"}},
    "contains at most": {
        "type": "array",
        "items": {"enum": [1, 2]},
        "contains": {"const": 1},
        "maxContains": 1,
        "minItems": 3,
    },
    "contains none": {"type": "array", "contains": {"const": 1}, "minContains": 0, "maxItems": 0},
    "cents": {"type": "number", "multipleOf": 0.01, "exclusiveMinimum": 0, "maximum": 0.05},
    "tenths": {"type": "number", "multipleOf": 0.1, "minimum": 0.05, "maximum": 0.35},
    "integer multiples of a fraction": {"type": "integer", "multipleOf": 2.5, "minimum": 6},
    "two multiples": {"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer", "minimum": 1},
    "open interval": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    "negative": {"type": "integer", "exclusiveMaximum": -3, "minimum": -4},
    "one number": {"type": "number", "minimum": 0.1234567, "maximum": 0.1234567},
    "smaller than any grid": {"type": "number", "minimum": 1e-20, "maximum": 2e-20},
    "huge": {"type": "number", "minimum": 1e300},
    "not small": {"type": "integer", "not": {"maximum": 100}},
    "number but not integer": {"type": "number", "not": {"type": "integer"}},
    "not a string": {"not": {"type": "string"}},
    "not one of": {"type": "string", "not": {"enum": ["", "word", "example"]}},
    "not required": {"type": "object", "properties": {"a": STRING, "b": STRING}, "not": {"required": ["a"]}},
    "map": {"type": "object", "additionalProperties": INTEGER, "minProperties": 3},
    "map of patterns": {
        "type": "object",
        "patternProperties": {"^x-[a-z]+$": {"type": "boolean"}},
        "additionalProperties": False,
        "minProperties": 2,
    },
    "names of an enum": {"type": "object", "propertyNames": {"enum": ["a", "b", "c"]}, "minProperties": 3},
    "names of a pattern": {"type": "object", "propertyNames": {"pattern": "^x_"}, "minProperties": 2},
    "pattern and property": obj("n_1", n_1={"minimum": 3})
    | {"patternProperties": {"^n_": {"type": "integer", "maximum": 3}}},
    "few properties": obj("c", a=STRING, b=STRING, c=STRING) | {"maxProperties": 2},
    "enough optional properties": obj("", a=STRING, b=STRING) | {"minProperties": 2, "additionalProperties": False},
    "undeclared required": {"type": "object", "required": ["x"], "additionalProperties": {"type": "null"}},
    "one more than is known": obj("a", a=STRING) | {"minProperties": 2},
    "false property": obj("", a=STRING, b=False),
    "dependent required": obj("a", a=STRING, b=STRING, c=STRING) | {"dependentRequired": {"a": ["b"], "b": ["d"]}},
    "dependent schemas": obj("a", a=STRING) | {"dependentSchemas": {"a": obj("b", b={"const": 4})}},
    "dependent schema that forbids": obj("", a=STRING, b=STRING) | {"dependentSchemas": {"a": False}},
    "all of objects": {"allOf": [obj("a", a={"type": "integer"}), obj("a b", a={"minimum": 9}, b=STRING)]},
    "all of with a closed one": {"allOf": [obj("a", a=STRING) | {"additionalProperties": False}, obj("", z=STRING)]},
    "one of required": {**obj("", a=STRING, b=STRING), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
    "one of that overlap": {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 0}], "maximum": 5},
    "one of ranges": {"type": "integer", "oneOf": [{"minimum": 0}, {"minimum": 10}, {"maximum": -100}]},
    "any of against siblings": {
        "type": "string",
        "anyOf": [{"type": "integer"}, {"minLength": 3}],
        "maxLength": 3,
    },
    "if then": {
        **obj("country zip", country={"enum": ["US", "DE"]}, zip=STRING),
        "if": {"properties": {"country": {"const": "US"}}},
        "then": {"properties": {"zip": {"pattern": "^[0-9]{5}$"}}},
        "else": {"properties": {"zip": {"pattern": "^D-"}}},
    },
    "if else": {"type": "integer", "if": {"minimum": 0}, "then": False, "else": {"multipleOf": 7}},
    "unevaluated": {"allOf": [obj("a", a=STRING)], "unevaluatedProperties": False, "type": "object"},
    "several types": {"type": ["null", "string"], "minLength": 1},
    "hinted object": {"properties": {"a": STRING}, "required": ["a"]},
    "unknown format": {"type": "string", "format": "color-of-the-sky"},
    "long email": {"type": "string", "format": "email", "minLength": 60},
    "short uri": {"type": "string", "format": "uri", "maxLength": 6},
    "date of a pattern": {"type": "string", "format": "date", "pattern": "^2024-.*-07$"},
    "exact length": {"type": "string", "minLength": 37, "maxLength": 37},
    "empty string": {"type": "string", "maxLength": 0},
    **{f"format {name}": {"type": "string", "format": name} for name in FORMATS.checkers},
}
DRAFT4: dict[str, Any] = {
    "exclusive bounds": {"type": "integer", "minimum": 5, "exclusiveMinimum": True, "maximum": 6},
    "exclusive maximum": {"type": "number", "maximum": 1, "exclusiveMaximum": True, "minimum": 0.5},
    "bounds not exclusive": {"minimum": 5, "exclusiveMinimum": False, "maximum": 5, "type": "integer"},
    "tuple": {"type": "array", "items": [INTEGER, STRING], "additionalItems": False, "minItems": 2},
    "tuple and more": {
        "type": "array",
        "items": [INTEGER],
        "additionalItems": {"type": "null"},
        "minItems": 3,
    },
    "definitions": {"definitions": {"x": {"enum": [3]}}, "properties": {"a": {"$ref": "#/definitions/x"}}},
    "id as an anchor": {"definitions": {"x": {"id": "#x", "enum": [3]}}, "allOf": [{"$ref": "#x"}]},
    "property called id": {"type": "object", "properties": {"id": STRING}, "required": ["id"]},
    "dependencies": obj("a", a=STRING) | {"dependencies": {"a": ["b"], "b": obj("c", c={"enum": [1]})}},
}
PATTERNS: dict[str, tuple[int, int | None]] = {
    r"^[A-Z]{3}-\d{4}$": (0, None),
    r"^[a-z0-9]+(?:-[a-z0-9]+)*$": (30, 40),
    r"^[a-z]+ [a-z]+$": (6, 6),
    r"^(ab)*c*$": (5, 5),
    r"^\+?[1-9]\d{1,14}$": (0, None),
    r"^(?=.*[A-Z])(?=.*\d)(?=.*[a-z]).{8,12}$": (0, None),
    r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$": (0, None),
    r"^(?!-)[a-z-]{3,}(?<!-)$": (0, None),
    r"^(red|green|blue)$": (5, 5),
    r"[A-Z]{2}": (10, 10),
    r"^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$": (7, 7),
    r"^(\d{1,3}\.){3}\d{1,3}$": (0, None),
    r"^[^\s@]+@[^\s@]+\.[^\s@]+$": (0, None),
    r"^v\d+\.\d+\.\d+(-[\w.]+)?$": (0, None),
    r"^\S+$": (100, None),
    r"\bword\b": (20, None),
    r"^[а-я]{2}$": (0, None),
    r"^\u0041\x42\t\.\/$": (0, None),
    r"^(?P<year>\d{4})-(?:0[1-9]|1[0-2])$": (0, None),
    r"^[\w.\]-]{4}$": (0, None),
    r"^a{,3}$|^b$": (1, 1),
    r"^(?i)x$|^(?:y)$": (0, None),
    r"^$": (0, None),
    r"": (3, None),
}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"allOf": [schema]}
    return schema


UNSATISFIABLE: dict[str, tuple[Any, str]] = {
    "false": (False, "^#"),
    "bounds": (
        obj("age", age={"type": "integer", "minimum": 5, "maximum": 4}),
        "#/properties/age: .*minimum",
    ),
    "deep": (
        obj("a", a={"type": "array", "minItems": 1, "items": obj("b/c", **{"b/c": False})}),
        "items.*/b~1c",
    ),
    "a multiple that float division misses": (
        {"type": "number", "multipleOf": 0.1, "minimum": 0.25, "maximum": 0.35},
        "^#",
    ),
    "no number between huge ones": (
        {"type": "number", "exclusiveMinimum": 10**400, "exclusiveMaximum": 10**400 + 1},
        "^#",
    ),
    "no integer between": ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "^#"),
    "a contradiction far below": (reduce(lambda inner, _: obj("a", a=inner), range(6), False), "#(/properties/a){6}:"),
    "too many values": (
        {"type": "array", "minItems": 80, "items": {"type": "array", "minItems": 80, "items": NULL}},
        "too large",
    ),
    "more members than anybody writes": ({"type": "object", "minProperties": 10**12}, "^#"),
    "more work than is allowed": ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "too much work"),
    "a longer text than anybody writes": ({"type": "string", "pattern": "^a{10100}$"}, "^#"),
    "deeper than anybody nests": ({"type": "string", "pattern": "(" * 5000 + ")" * 5000}, "nested too deeply"),
    "lengths": ({"type": "string", "minLength": 3, "maxLength": 2}, "^#"),
    "pattern against length": ({"type": "string", "pattern": "^[a-z]{3}$", "maxLength": 2}, "^#"),
    "types": ({"type": "string", "allOf": [{"type": "integer"}]}, "^#"),
    "empty enum": ({"enum": []}, "^#"),
    "const of another type": ({"const": 1, "type": "string"}, "^#"),
    "true is not 1": ({"const": 1, "enum": [True]}, "^#"),
    "nothing allowed": ({"not": {}}, "^#"),
    "required and forbidden": (obj("a") | {"additionalProperties": False}, "#/additionalProperties"),
    "a dependency of draft 3": (obj("a", a=STRING, b=False) | {"dependencies": {"a": "b"}}, "^#"),
    "required under a wrong name": (
        obj("a", a=STRING) | {"propertyNames": {"pattern": "^b"}},
        "#/properties/a",
    ),
    "too few values for unique items": (
        {"type": "array", "items": {"enum": [1, 1.0, 2]}, "uniqueItems": True, "minItems": 3},
        "#/items",
    ),
    "contains what items forbid": ({"type": "array", "items": INTEGER, "contains": STRING}, "^#"),
    "one of the same": ({"oneOf": [{"type": "null"}, {"type": "null"}], "type": "null"}, "^#"),
    "endless required recursion": (obj("next", next={"$ref": "#"}), "#/properties/next"),
    "endless minItems": ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "#/items"),
    "reference to itself": ({"$ref": "#"}, "^#"),
    "references in a circle": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#"}}},
        "^#",
    ),
    "remote reference": (
        obj("a", a={"$ref": "https://example.com/x.json#/y"}),
        "/a: .*https://example.com/x.json#/y",
    ),
    "reference into a text": ({"$ref": "#/title/x", "title": "t"}, "unresolvable"),
    "malformed reference": ({"$ref": 5}, "malformed \\$ref: 5"),
    "dangling reference": ({"$ref": "#/$defs/gone"}, "#/\\$defs/gone"),
    "reference to a value": ({"$ref": "#/const", "const": 5}, "not a schema"),
    "unsupported pattern": (
        obj("p", p={"type": "string", "pattern": r"^(a)\1$"}),
        "#/properties/p: .*escape",
    ),
    "malformed pattern": ({"type": "string", "pattern": "(a"}, "missing \\)"),
    "a pattern that is no text": ({"type": "string", "pattern": 5}, "malformed pattern: 5"),
    "a choice that is no JSON": ({"enum": [{1, 2}]}, "not JSON"),
    "malformed required": ({"type": "object", "required": [1]}, "'required'"),
    "unknown type": ({"type": "file"}, "'type'"),
    "malformed bound": ({"type": "integer", "minimum": "low"}, "'minimum'"),
    "malformed properties": ({"type": "object", "properties": ["a"]}, "'properties'"),
    "malformed member": (obj("a", a=5), "not a schema: 5"),
    "malformed list": ({"anyOf": {"type": "string"}}, "'anyOf'"),
    "malformed count": ({"type": "array", "minItems": -1}, "'minItems'"),
    "zero step": ({"type": "number", "multipleOf": 0}, "'multipleOf'"),
}


HOSTILE: dict[str, Any] = {
    "exponential pattern": {
        "type": "string",
        "pattern": "^(a+)+$",
        "maxLength": 50,
        "not": {"pattern": "^a"},
    },
    "exponential pattern against the text": {"type": "string", "pattern": "^(a|a)*b$", "minLength": 9999},
    "long pattern": {"type": "string", "pattern": "((a{1000}){1000}){3}"},
    "repeated nothing": {"type": "string", "pattern": "^((){99999}){99999}$"},
    "deep pattern": {"type": "string", "pattern": "(" * 5000 + ")" * 5000},
    "long string": {"type": "string", "minLength": 10**12},
    "long array": {"type": "array", "minItems": 10**12},
    "wide object": {"type": "object", "minProperties": 10**12},
    "many unique": {"type": "array", "minItems": 1500, "uniqueItems": True, "items": {"type": "integer"}},
    "doubling references": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    "contradictory alternatives": {
        "allOf": [{"anyOf": [{"type": "string"}, {"minLength": n}]} for n in range(25)],
        "type": "string",
        "minLength": 2,
        "maxLength": 1,
    },
    "doubling value": {
        "$ref": "#/$defs/0",
        "$defs": {str(n): obj("a b", a={"$ref": f"#/$defs/{n + 1}"}, b={"$ref": f"#/$defs/{n + 1}"}) for n in range(30)}
        | {"30": {"type": "null"}},
    },
    "wide recursion": obj("", **{f"p{n}": {"$ref": "#"} for n in range(40)}),
    "deep all of": nested(300),
    "deeper all of": nested(20_000),
}


@pytest.mark.parametrize("text", ["", "hello", "Hello, “big” world! " * 20])
@pytest.mark.parametrize("schema", VALID.values(), ids=VALID)
def test_a_value_is_valid(schema: Any, text: str) -> None:
    judge(schema, sample(schema, text))


@pytest.mark.parametrize("schema", DRAFT4.values(), ids=DRAFT4)
def test_a_value_is_valid_in_draft_4(schema: Any) -> None:
    judge(schema, sample(schema, "hello"), Draft4Validator)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_string_matches_its_pattern(pattern: str) -> None:
    low, high = PATTERNS[pattern]
    if pattern.startswith("^(?i)"):
        pattern = pattern.replace("^(?i)", "(?i)^")  # Python wants it in front
    schema: dict[str, Any] = {"type": "string", "pattern": pattern, "minLength": low}
    judge(
        schema if high is None else schema | {"maxLength": high},
        sample(schema | ({"maxLength": high} if high else {}), "?"),
    )


@pytest.mark.parametrize(("schema", "message"), UNSATISFIABLE.values(), ids=UNSATISFIABLE)
def test_no_value_is_an_error_that_names_the_place(schema: Any, message: str) -> None:
    with pytest.raises(UnsatisfiableSchemaError, match=message):
        sample(schema, "hello")


@pytest.mark.timed
@pytest.mark.parametrize("schema", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_schema_ends_soon(schema: Any) -> None:
    began = time.perf_counter()
    try:
        value = sample(schema, "a" * 30 + "!")
    except UnsatisfiableSchemaError as error:
        assert str(error).startswith("#")  # noqa: PT017 - either outcome is fine
    else:
        if "pattern" not in schema:  # the judge has no defence against these
            judge(schema, value)
    assert time.perf_counter() - began < SLOWEST


def test_the_judge_rejects_wrong_values() -> None:
    wrong = {
        "format email": "nobody",
        "format date-time": "2024-01-01T00:00:00",
        "cents": 0.033,
        "tenths": 0.35,
    }
    for name, value in wrong.items():
        judge(VALID[name], sample(VALID[name]))
        with pytest.raises(AssertionError):
            judge(VALID[name], value)


def test_a_value_is_always_the_same_and_the_callers_own() -> None:
    schema = json.loads(json.dumps(PYDANTIC))
    first, second = sample(schema, "hello"), sample(schema, "hello")
    assert json.dumps(first) == json.dumps(second)
    first["second"]["street"] = "changed"
    first["address"]["street"] = "changed"
    assert schema == PYDANTIC
    assert sample(schema, "hello") == second


def test_answers_look_alive() -> None:
    answer = sample(PYDANTIC, "hello")
    assert set(answer) == set(PYDANTIC["properties"])
    assert answer["name"] == "hello"
    assert answer["address"] == {"street": "hello", "zip": "01234"}
    assert answer["email"] is not None
    assert answer["second"]["street"] == "Elm"
    assert len(answer["scores"]) == 1
    assert sample({"type": "string", "pattern": "^[a-z-]+$"}, "Hello, world") == "hello-world"
    assert sample({"type": "string", "maxLength": 5}, "hello world") == "hello"
    tree = sample(TREE, "hello")
    assert tree["children"][0]["name"] == "hello"


def test_optional_properties_end_at_depth() -> None:
    value, depth = sample(obj("", next={"$ref": "#"}, name=STRING)), 0
    while value:
        value, depth = value.get("next"), depth + 1
    assert depth == 4


def test_a_schema_may_be_its_own_alternative() -> None:
    # The judge would follow the reference for ever.
    assert sample({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "hello") is None


def test_a_multiple_may_be_too_large_for_a_float() -> None:
    # The judge would overflow.
    assert sample({"type": "integer", "minimum": 10**400, "multipleOf": 0.5}) >= 10**400


def test_an_unsupported_part_that_is_never_reached_does_no_harm() -> None:
    schema = obj("", a=STRING) | {"$defs": {"unused": {"$ref": "https://example.com/"}}}
    judge(schema, sample(schema))


def test_the_modules_are_pure() -> None:
    allowed = {
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "fractions",
        "functools",
        "ipaddress",
        "itertools",
    }
    allowed |= {"math", "re", "reprlib", "routerkit", "string", "typing", "unicodedata", "urllib"}
    sources = sorted(Path(json_schema.__file__).parent.glob("json_schema*.py"))
    assert len(sources) == 5
    for source in sources:
        tree = list(ast.walk(ast.parse(source.read_text())))
        plain = [alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names]
        named = [node.module or "" for node in tree if isinstance(node, ast.ImportFrom)]
        assert {name.partition(".")[0] for name in plain + named} <= allowed
        assert not {"now", "today", "utcnow"} & {node.attr for node in tree if isinstance(node, ast.Attribute)}


# Properties over generated schemas

WORDS = st.text("ab-1", max_size=6)
NAMES = st.sampled_from(("a", "b", "c", "x-1"))
SIZES = st.integers(0, 4)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from((0.5, -2.25, 1.0)), WORDS)
ATOMS = ("a", "[a-f]", r"\d", "(?:x|yz)", ".", r"\w", "[^a]", "-", "(?:a|b?c)")
QUANTIFIERS = ("", "", "?", "*", "+", "{2}", "{1,3}", "{2,}")
REGEXES = st.lists(st.tuples(st.sampled_from(ATOMS), st.sampled_from(QUANTIFIERS)), min_size=1, max_size=4).map(
    lambda parts: "".join(chain.from_iterable(parts))
)


def ranged(low: str, high: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    both = st.tuples(values, values).map(lambda pair: {low: min(pair), high: max(pair)})
    return st.one_of(st.just({}), both, values.map(lambda n: {low: n}), values.map(lambda n: {high: n}))


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


def keyword(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(st.just({}), values.map(lambda value: {name: value}))


def typed(*kinds: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.just({"type": list(kinds) if len(kinds) > 1 else kinds[0]})


SCALARS = st.one_of(
    typed("null"),
    typed("boolean"),
    typed("string", "null"),
    merged(typed("string"), ranged("minLength", "maxLength", st.integers(0, 30))),
    merged(typed("string"), REGEXES.map(lambda regex: {"pattern": regex})),
    merged(typed("string"), REGEXES.map(lambda regex: {"pattern": f"^{regex}$"})),
    merged(typed("string"), st.sampled_from(sorted(FORMATS.checkers)).map(lambda name: {"format": name})),
    merged(typed("integer"), ranged("minimum", "maximum", st.integers(-50, 50))),
    merged(typed("number"), ranged("minimum", "maximum", st.sampled_from((-7.5, -0.1, 0.0, 0.3, 2.0, 1e6)))),
    merged(typed("number"), st.sampled_from((0.01, 0.1, 0.5, 3, 7)).map(lambda step: {"multipleOf": step})),
    merged(typed("integer"), st.just({"exclusiveMinimum": 3}), keyword("multipleOf", st.integers(1, 9))),
    st.lists(LEAVES, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    LEAVES.map(lambda value: {"const": value}),
)


def satisfiable_containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(NAMES, inner, max_size=4)
    closed = st.sampled_from(({}, {"additionalProperties": False}, {"additionalProperties": {"type": "integer"}}))
    objects = st.tuples(properties, closed, st.integers(0, 15)).map(
        lambda drawn: {
            "type": "object",
            "properties": drawn[0],
            "required": [name for n, name in enumerate(drawn[0]) if drawn[2] >> n & 1],
            **drawn[1],
        }
    )
    lists = merged(typed("array"), inner.map(lambda item: {"items": item}), ranged("minItems", "maxItems", SIZES))
    tuples = st.lists(inner, min_size=1, max_size=3).map(
        lambda items: {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    )
    nullable = inner.map(lambda schema: {"anyOf": [schema, {"type": "null"}]})
    impossible_first = inner.map(lambda schema: {"anyOf": [{"allOf": [schema, False]}, schema]})
    defined = inner.map(lambda schema: {"allOf": [schema], "title": "defined"})
    containing = merged(typed("array"), inner.map(lambda schema: {"contains": schema}))
    maps = inner.map(lambda schema: {"type": "object", "additionalProperties": schema, "minProperties": 2})
    return st.one_of(objects, lists, tuples, nullable, impossible_first, defined, containing, maps)


SATISFIABLE = st.recursive(SCALARS, satisfiable_containers, max_leaves=8)


def any_schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    properties = st.dictionaries(NAMES, inner, max_size=3)
    return merged(
        keyword("type", st.sampled_from(("object", "array", "string", "integer", ["number", "null"]))),
        st.one_of(
            merged(
                keyword("properties", properties),
                keyword("required", st.lists(NAMES, unique=True, max_size=3)),
            ),
            merged(keyword("additionalProperties", inner), keyword("patternProperties", properties)),
            merged(keyword("propertyNames", inner), ranged("minProperties", "maxProperties", SIZES)),
            merged(keyword("dependentRequired", st.just({"a": ["b"]})), keyword("dependentSchemas", properties)),
            merged(
                keyword("items", inner),
                keyword("prefixItems", several),
                keyword("uniqueItems", st.booleans()),
            ),
            merged(keyword("contains", inner), keyword("minContains", SIZES), keyword("maxContains", SIZES)),
            ranged("minItems", "maxItems", SIZES),
            merged(ranged("minLength", "maxLength", SIZES), keyword("pattern", REGEXES)),
            merged(ranged("minimum", "exclusiveMaximum", SIZES), keyword("multipleOf", st.sampled_from((0.3, 2)))),
        ),
        st.one_of(
            merged(keyword("anyOf", several), keyword("oneOf", several)),
            merged(keyword("allOf", several), keyword("not", inner)),
            merged(keyword("if", inner), keyword("then", inner), keyword("else", inner)),
            keyword("$ref", st.sampled_from(("#", "#/$defs/d", "#/$defs/e"))),
            keyword("enum", st.lists(LEAVES, max_size=3)),
            keyword("default", LEAVES),
        ),
    )


ANY = st.recursive(st.one_of(st.booleans(), SCALARS), any_schemas, max_leaves=8)
DOCUMENTS = st.tuples(ANY, ANY, SATISFIABLE).map(
    lambda drawn: {"allOf": [drawn[0]], "$defs": {"d": drawn[1], "e": drawn[2]}}
)
EXAMPLES = 3 * settings().max_examples
MANY = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
"""Schemas differ more than most: three times as many as other properties look at."""


@MANY
@given(SATISFIABLE, WORDS)
def test_a_satisfiable_schema_always_gets_a_valid_value(schema: Any, text: str) -> None:
    judge(schema, sample(schema, text))


@pytest.mark.hypothesis
def test_any_schema_gets_a_valid_value_or_the_error() -> None:
    outcomes: Counter[str] = Counter()

    @MANY
    @given(DOCUMENTS, WORDS)
    def check(schema: Any, text: str) -> None:
        try:
            value = sample(schema, text)
        except UnsatisfiableSchemaError:
            outcomes["error"] += 1
            return
        try:
            judge(schema, value)
        except RecursionError:  # the judge follows references in circles
            outcomes["unjudged"] += 1
            return
        outcomes["valid"] += 1

    check()
    assert outcomes["valid"] > 0.48 * EXAMPLES
    assert outcomes["error"] > 0.06 * EXAMPLES
    assert outcomes["unjudged"] < 0.08 * EXAMPLES


@MANY
@given(REGEXES, st.booleans(), st.text("abcdxyz019-_ ", max_size=8))
def test_searching_agrees_with_re(regex: str, anchored: bool, text: str) -> None:
    source = f"^{regex}$" if anchored else regex
    assert compile_pattern(source).search(text, lambda _: None) is (re.search(source, text) is not None)


@pytest.mark.parametrize(
    "source",
    ["(", ")", "[", "[]", "[^]", "a**", "*", "a{2}{3}", "[b-a]", "a{3,2}", "\\", "(?>a)", r"\k", r"\u{110000}"],
)
def test_a_malformed_pattern_is_refused(source: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(source)


@pytest.mark.parametrize(
    ("source", "match", "other"),
    [
        (r"^\p{Lu}\p{L}$", "Éé", "éÉ"),
        (r"^\P{L}$", "1", "é"),
        (r"^\p{General_Category=Nd}$", "٣", "x"),
        (r"^\u{1F600}$", "\U0001f600", "x"),
        (r"^[\b]$", "\b", "b"),
        (r"^[\w-z]$", "-", "."),
        (r"^[a-\d]$", "-", "b"),
    ],
)
def test_what_only_ecmascript_can_say(source: str, match: str, other: str) -> None:
    found = compile_pattern(source)
    assert found.search(match, lambda _: None)
    assert not found.search(other, lambda _: None)
