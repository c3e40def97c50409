"""What ``--tools`` and ``--json-schema`` name: files of JSON, checked before anything is sent."""

from __future__ import annotations

import os
import re
from typing import Any

import click
import orjson

from routerkit.cli.attachments import read_file

_TOOL = '{"type": "function", "function": {"name": "…", "parameters": {…}}}'
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


def tools_from(path: str) -> list[dict[str, Any]]:
    """The tools in a file: a list of them, or ``{"tools": [...]}``. Raises UsageError."""
    document = _json(path, "--tools")
    tools = document.get("tools") if isinstance(document, dict) else document
    if not isinstance(tools, list) or not tools:
        raise click.UsageError(f'--tools: {path!r} must hold a list of tools, or {{"tools": [...]}}; a tool is {_TOOL}')
    for place, tool in enumerate(tools, 1):
        kind = tool.get("type") if isinstance(tool, dict) else None
        function = tool.get("function") if kind == "function" else None
        named = isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]
        if not isinstance(kind, str) or (kind == "function" and not named):
            raise click.UsageError(f"--tools: number {place} of {path!r} is no tool; one is {_TOOL}")
    return tools


def response_format_from(path: str) -> dict[str, Any]:
    """The ``response_format`` that a file asks for: a JSON schema, or one with its name as ``{"name": …, "schema": …}``.

    A bare schema is named after its title, else after the file. Raises UsageError.
    """
    document = _json(path, "--json-schema")
    if isinstance(document, dict) and document.get("type") == "json_schema":
        document = document.get("json_schema")
    if not isinstance(document, dict):
        raise click.UsageError(f"--json-schema: {path!r} must hold a JSON schema, which is an object")
    if not isinstance(document.get("name"), str) or "schema" not in document:
        return {"type": "json_schema", "json_schema": {"name": _name(document.get("title"), path), "schema": document}}
    if not _NAME.fullmatch(document["name"]):
        raise click.UsageError(
            f"--json-schema: the name in {path!r} must be of letters, digits, _ and -, 64 at most: {document['name']!r}"
        )
    if not isinstance(document["schema"], dict):
        raise click.UsageError(f"--json-schema: the schema in {path!r} must be an object")
    return {"type": "json_schema", "json_schema": document}


def _name(title: object, path: str) -> str:
    for each in (title, os.path.splitext(os.path.basename(path))[0]):
        name = _NOT_IN_NAMES.sub("_", each).strip("_")[:64] if isinstance(each, str) else ""
        if name:
            return name
    return "schema"


def _json(path: str, option: str) -> Any:
    try:
        return orjson.loads(read_file(path).removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"{option}: {path!r} is no JSON: {error}") from None
    except click.UsageError as error:
        raise click.UsageError(f"{option}: {error.message}") from None
