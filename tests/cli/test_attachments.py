"""What goes along with a prompt: what files are, how they are sent, and which are refused before anything is."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.cli import main
from routerkit.cli.attachments import LARGEST, Attachment, attached, content, gather, kind_of, text_of
from routerkit.cli.definitions import response_format_from, tools_from
from routerkit.core.needs import needs_of
from routerkit.types.request import MAX_BODY, ChatRequest

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PDF = b"%PDF-1.7\nHello"
WAV = b"RIFF\x24\0\0\0WAVEfmt "
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}


def data_url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def refusal(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says that refuses to send this."""
    assert main(["--dev", "chat", "Hi", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (PNG, "x.txt", ("image", "image/png")),
        (b"\xff\xd8\xff\xe0", "x", ("image", "image/jpeg")),
        (b"GIF89a..", "x", ("image", "image/gif")),
        (b"RIFF\x0a\n\0\0WEBPVP8 ", "x", ("image", "image/webp")),
        (WAV, "x.mp3", ("audio", "wav")),
        (b"ID3\x04", "x", ("audio", "mp3")),
        (b"\xff\xfb\x90d", "x", ("audio", "mp3")),
        (b"\xff\xf1P\x80", "x", ("audio", "aac")),
        (b"FORM\0\0\0\0AIFF", "x", ("audio", "aiff")),
        (b"OggS\0", "x", ("audio", "ogg")),
        (b"fLaC\0", "x", ("audio", "flac")),
        (b"\0\0\0\x20ftypM4A ", "x", ("audio", "m4a")),
        (b"\x01\x02\0\x03", "voice.PCM", ("audio", "pcm16")),
        (b"\x01\x02\0\x03", "voice.pcm24", ("audio", "pcm24")),
        (PDF, "x.doc", ("file", "application/pdf")),
        (
            b"PK\x03\x04\0\xff",
            "a.docx",
            ("file", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ),
        (b"\xd0\xcf\x11\xe0\xa1", "a.xls", ("file", "application/vnd.ms-excel")),
        (b"no document", "a.docx", ("text", "text/plain")),
        (b"\x1b[31mGr\xc3\xbc\xc3\x9fe\n", "error.log", ("text", "text/plain")),
        ("Grüße".encode("utf-16"), "x.csv", ("text", "text/plain")),
        (b"PK\x03\x04\0\xff", "a.zip", None),
        (b"\0asm", "a.png", None),
        (b"Gr\xfc\xdfe", "latin1.txt", None),
        (b"\xff\xfea", "half.txt", None),
    ],
)
def test_kinds_are_told_by_content_and_only_then_by_name(data: bytes, name: str, expected: Any) -> None:
    kind = kind_of(data, name)
    assert (kind and (kind.modality, kind.name)) == expected


def test_each_kind_is_sent_as_it_is_documented() -> None:
    for name, data in (("a.png", PNG), ("b.pdf", PDF), ("c.wav", WAV), ("d.log", b"oops\n")):
        Path(name).write_bytes(data)
    image = {"type": "image_url", "image_url": {"url": data_url("image/png", PNG)}}
    document = {"type": "file", "file": {"filename": "b.pdf", "file_data": data_url("application/pdf", PDF)}}
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(WAV).decode(), "format": "wav"}}
    given_ = [("image", "a.png"), ("file", "b.pdf"), ("audio", "c.wav"), ("file", "d.log"), ("file", "./a.png")]
    found = gather(given_)
    text = {"type": "text", "text": "Look\n\nd.log:\n```\noops\n```"}
    assert content("Look", found) == [text, image, document, sound, image]
    assert str(found[1]) == "b.pdf (application/pdf, 14 B)"
    request = ChatRequest.build([{"role": "user", "content": content("Look", found)}])
    assert needs_of(request).inputs == {"text", "image", "audio", "file"}
    assert content("", found[:1]) == [image]


@pytest.mark.parametrize(
    ("modality", "address", "part"),
    [
        ("image", "https://a.example/x?y=1", {"type": "image_url", "image_url": {"url": "https://a.example/x?y=1"}}),
        (
            "file",
            "https://a.example/a%20b.pdf#2",
            {"type": "file", "file": {"filename": "a b.pdf", "file_data": "https://a.example/a%20b.pdf#2"}},
        ),
        (
            "file",
            "HTTPS://a.example",
            {"type": "file", "file": {"filename": "document", "file_data": "HTTPS://a.example"}},
        ),
        ("file", "https://a.example/x.PNG", {"type": "image_url", "image_url": {"url": "https://a.example/x.PNG"}}),
    ],
)
def test_addresses_are_left_to_the_gateway(modality: str, address: str, part: Any) -> None:
    assert attached(address, modality).part == part


@given(st.text(), st.text(alphabet="`a\n ", max_size=30))
def test_a_text_is_fenced_so_that_nothing_in_it_ends_it(prompt: str, text: str) -> None:
    whole = content(prompt, [Attachment("\x1bname", text=text)])
    assert isinstance(whole, str)
    found = re.fullmatch(r"\\x1bname:\n(`{3,})\n(.*)\n\1", whole.removeprefix(prompt).lstrip("\n"), re.DOTALL)
    assert found is not None
    assert found[1] not in text
    assert found[2] == text.removesuffix("\n")


@given(st.binary(max_size=40), st.text(max_size=12))
def test_any_content_is_something_or_nothing(data: bytes, name: str) -> None:
    kind = kind_of(data, name)
    assert kind is None or kind.modality in ("text", "image", "audio", "file")
    if kind is not None and kind.modality == "text":
        assert text_of(data) is not None


@given(st.text(alphabet=st.characters(blacklist_characters="\0\ufeff", blacklist_categories=("Cs",))))
def test_text_is_read_as_it_was_written(text: str) -> None:
    assert text_of(text.encode()) == text_of(text.encode("utf-8-sig")) == text_of(text.encode("utf-16")) == text


# What is refused


@pytest.mark.parametrize(
    ("option", "source", "message"),
    [
        ("--file", "nope", "'nope': no such file"),
        ("--file", ".", "'.' is a folder, not a file"),
        ("--file", "empty", "'empty' is empty"),
        ("--file", "program", "'program': neither text nor a document, image or sound of a known kind"),
        ("--file", "a\0b", "cannot be read: embedded null byte"),
        ("--file", "notes.txt/x", "'notes.txt/x' cannot be read: Not a directory"),
        (
            "--image",
            "notes.txt",
            "no image that models take (PNG, JPEG, GIF, WebP); it is text/plain, give it with --file",
        ),
        ("--image", "c.wav", "it is wav, give it with --audio"),
        ("--audio", "a.png", "no sound that models take"),
        ("--audio", "https://a.example/x.wav", "gateways take sound as data only"),
        ("--image", "http://a.example/x.png", "an address begins with https://"),
        ("--image", "https:///x.png", "an address begins with https://"),
        ("--file", "https://user:secret@a.example/x", "an address begins with https://"),
        ("--file", "ftp://a.example/x", "an address begins with https://"),
        ("--image", "https://a.example/\udcff.png", "an address begins with https://"),
        ("--system", "\udcff", "Invalid value for '--system': it is not UTF-8 text"),
        ("--tools", "notes.txt", "--tools: 'notes.txt' is no JSON: "),
        ("--tools", "nope", "--tools: 'nope': no such file"),
        ("--json-schema", "empty", "--json-schema: 'empty' is empty"),
    ],
)
def test_refusals(option: str, source: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    contents = {"empty": b"", "program": b"\x7fELF\0", "notes.txt": b"Hello", "c.wav": WAV, "a.png": PNG}
    for name, data in contents.items():
        Path(name).write_bytes(data)
    told = refusal(option, source, capsys=capsys)
    assert message in " ".join(told.split())
    assert "secret" not in told


def test_the_name_of_a_file_need_not_be_utf_8(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"gr\xfc\xdfe.txt")
    Path(name).write_text("Hello")
    assert main(["--dev", "chat", "Hi", "-m", "a/b", "--json", "--file", name]) == 0
    assert "gr\ufffd\ufffde.txt:\n```\nHello\n```" in json.loads(capsys.readouterr().out)["text"]


def test_what_is_too_large_is_refused_before_it_is_all_read(capsys: pytest.CaptureFixture[str]) -> None:
    def sparse(name: str, size: int, beginning: bytes = b"") -> None:
        with open(name, "wb") as file:
            file.write(beginning)
            file.truncate(size)

    sparse("largest.png", LARGEST, PNG)
    sparse("large.png", LARGEST + 1, PNG)
    sparse("huge", 1 << 40)
    assert attached("largest.png", "image").size == LARGEST
    assert "'large.png': 12.0 MiB are too large" in refusal("--image", "large.png", capsys=capsys)
    assert "'huge' is too large: a request has at most 16.0 MiB" in refusal("--file", "huge", capsys=capsys)
    assert "'/dev/zero' is too large" in refusal("--file", "/dev/zero", capsys=capsys)
    twice = refusal("--image", "largest.png", "--image", "largest.png", capsys=capsys)
    assert "too much is attached" in twice
    Path("text").write_bytes(b"a" * MAX_BODY)  # more than a request, with its prompt
    assert main(["--dev", "chat", "Hi", "-m", "a/b", "--file", "text"]) == 4
    assert "at most 16777216 are sent" in capsys.readouterr().err


# Tools and schemas


@pytest.mark.parametrize("wrapped", [[TOOL], {"tools": [TOOL]}])
def test_tools(wrapped: Any) -> None:
    Path("tools.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(wrapped).encode())
    assert tools_from("tools.json") == [TOOL]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "must hold a list of tools"),
        ([], "must hold a list of tools"),
        ("weather", "must hold a list of tools"),
        ([TOOL, {"name": "weather"}], "number 2 of 'tools.json' is no tool; one is {"),
        ([{"type": "function"}], "number 1 of 'tools.json' is no tool"),
        ([{"type": "function", "function": {"name": ""}}], "number 1 of 'tools.json' is no tool"),
    ],
)
def test_what_are_no_tools(document: Any, message: str) -> None:
    Path("tools.json").write_text(json.dumps(document))
    with pytest.raises(click.UsageError, match=re.escape(message)):
        tools_from("tools.json")


NAMED = {"name": "person", "schema": SCHEMA, "strict": True}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (SCHEMA, {"name": "my_person_1", "schema": SCHEMA}),
        ({"title": "A person!", **SCHEMA}, {"name": "A_person", "schema": {"title": "A person!", **SCHEMA}}),
        ({"title": "人"}, {"name": "my_person_1", "schema": {"title": "人"}}),
        ({"title": "x" * 80}, {"name": "x" * 64, "schema": {"title": "x" * 80}}),
        (NAMED, NAMED),
        ({"type": "json_schema", "json_schema": NAMED}, NAMED),
    ],
)
def test_schemas(document: Any, expected: Any) -> None:
    Path("my person.1.json").write_text(json.dumps(document))
    assert response_format_from("my person.1.json") == {"type": "json_schema", "json_schema": expected}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "must hold a JSON schema"),
        (True, "must hold a JSON schema"),
        ({"name": "a person", "schema": {}}, "must be of letters, digits, _ and -"),
        ({"name": "person", "schema": []}, "must be an object"),
        ({"type": "json_schema"}, "must hold a JSON schema"),
    ],
)
def test_what_are_no_schemas(document: Any, message: str) -> None:
    Path("schema.json").write_text(json.dumps(document))
    with pytest.raises(click.UsageError, match=re.escape(message)):
        response_format_from("schema.json")


def test_a_file_without_a_name_for_its_schema() -> None:
    Path("!.json").write_text("{}")
    assert response_format_from("!.json")["json_schema"]["name"] == "schema"
