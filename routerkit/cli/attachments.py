"""What goes to a model beside the prompt: text, images, sound and documents, out of files and addresses.

The parts are those that OpenRouter documents (openrouter.ai/docs, "Images", "PDFs" and "Audio"), and OpenAI too. A text file is
sent as text: any model reads it, and of files chat completions promise to take PDFs only (OpenAI's guide "File inputs"). Whatever
cannot be sent is a ``click.UsageError``, raised before anything is.
"""

from __future__ import annotations

import base64
import codecs
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import attrs
import click

from routerkit.cli.terminal import one_line
from routerkit.types.request import MAX_BODY

Content: TypeAlias = str | list[dict[str, Any]]
"""The content of a message."""

LARGEST = MAX_BODY // 4 * 3
"""Bytes of what is sent as data: in Base64 more of them do not fit into a request."""


@attrs.frozen
class Kind:
    """What a file is."""

    modality: str
    """``text``, ``image``, ``audio``, or ``file`` for documents."""
    name: str
    """Its MIME type; of sound, the name of its format."""


TEXT = Kind("text", "text/plain")
_PDF = Kind("file", "application/pdf")

_MAGIC = tuple(
    (re.compile(beginning, re.DOTALL), kind)
    for beginning, kind in (
        (rb"\x89PNG\r\n\x1a\n", Kind("image", "image/png")),
        (rb"\xff\xd8\xff", Kind("image", "image/jpeg")),
        (rb"GIF8[79]a", Kind("image", "image/gif")),
        (rb"RIFF....WEBP", Kind("image", "image/webp")),
        (rb"RIFF....WAVE", Kind("audio", "wav")),
        (rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", Kind("audio", "mp3")),
        (rb"\xff[\xf0\xf1\xf8\xf9]", Kind("audio", "aac")),
        (rb"FORM....AIF[FC]", Kind("audio", "aiff")),
        (rb"OggS", Kind("audio", "ogg")),
        (rb"fLaC", Kind("audio", "flac")),
        (rb"....ftypM4[AB] ", Kind("audio", "m4a")),
        (rb"%PDF-", _PDF),
    )
)
"""How the content of each kind begins."""

_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_OFFICE = "application/vnd.openxmlformats-officedocument."
_OPEN = "application/vnd.oasis.opendocument."
_BY_NAME = {
    ".docx": (_ZIP, Kind("file", f"{_OFFICE}wordprocessingml.document")),
    ".xlsx": (_ZIP, Kind("file", f"{_OFFICE}spreadsheetml.sheet")),
    ".pptx": (_ZIP, Kind("file", f"{_OFFICE}presentationml.presentation")),
    ".odt": (_ZIP, Kind("file", f"{_OPEN}text")),
    ".ods": (_ZIP, Kind("file", f"{_OPEN}spreadsheet")),
    ".odp": (_ZIP, Kind("file", f"{_OPEN}presentation")),
    ".epub": (_ZIP, Kind("file", "application/epub+zip")),
    ".doc": (_OLE, Kind("file", "application/msword")),
    ".xls": (_OLE, Kind("file", "application/vnd.ms-excel")),
    ".ppt": (_OLE, Kind("file", "application/vnd.ms-powerpoint")),
    ".pcm": (b"", Kind("audio", "pcm16")),
    ".pcm16": (b"", Kind("audio", "pcm16")),
    ".pcm24": (b"", Kind("audio", "pcm24")),
}
"""Kinds whose content does not tell all: by the ending of the name, how it begins at least."""

_IMAGE_NAMES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_TAKEN = {
    "image": "no image that models take (PNG, JPEG, GIF, WebP)",
    "audio": "no sound that models take (WAV, MP3, AAC, AIFF, Ogg, FLAC, M4A, PCM)",
    "file": "neither text nor a document, image or sound of a known kind",
}
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HTTPS = re.compile(r"https://[^\s/?#@]+([/?#]\S*)?", re.IGNORECASE)


@attrs.frozen
class Attachment:
    """Something that goes with a message: a text, or a content part."""

    label: str
    """Its file's name."""
    text: str | None = attrs.field(default=None, repr=False)
    part: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    kind: str = TEXT.name
    size: int | None = None
    """Bytes; ``None``: of an address."""

    def __str__(self) -> str:
        size = "" if self.size is None else f", {amount(self.size)}"
        return one_line(f"{self.label} ({self.kind}{size})")


def content(prompt: str, attachments: Sequence[Attachment] = ()) -> Content:
    """A message's content: the prompt, below it texts, each labelled and fenced, after it the parts."""
    texts = [_fenced(one_line(each.label), each.text) for each in attachments if each.text is not None]
    text = "\n\n".join([prompt, *texts] if prompt else texts)
    parts = [dict(each.part) for each in attachments if each.part is not None]
    return [*([{"type": "text", "text": text}] if text else []), *parts] if parts else text


def gather(given: Iterable[tuple[str, str]]) -> list[Attachment]:
    """What options name: pairs of ``image``, ``file`` or ``audio`` and a path or address. Raises UsageError."""
    found: list[Attachment] = []
    room = MAX_BODY
    for modality, source in given:
        attachment = attached(source, modality)
        room -= attachment.size or 0
        if room < 0:
            raise click.UsageError(f"too much is attached: a request has at most {amount(MAX_BODY)}")
        found.append(attachment)
    return found


def attached(source: str, modality: str) -> Attachment:
    """A file, as what it is, or an https address. ``modality``: ``image`` or ``audio`` for nothing else, ``file`` for any kind.

    Raises UsageError.
    """
    if _ADDRESS.match(source):
        return _linked(source, modality)
    data = read_file(source)
    name = well_formed(os.path.basename(source))
    kind = kind_of(data, name)
    if kind is None or modality not in ("file", kind.modality):
        hint = (
            "" if kind is None else f"; it is {kind.name}, give it with --{'file' if kind == TEXT else kind.modality}"
        )
        raise click.UsageError(f"{source!r}: {_TAKEN[modality]}{hint}")
    if kind.modality == "text":
        return Attachment(name, text=text_of(data), size=len(data))
    if len(data) > LARGEST:
        raise click.UsageError(f"{source!r}: {amount(len(data))} are too large; at most {amount(LARGEST)} can be sent")
    return Attachment(name, part=_part(kind, name, data), kind=kind.name, size=len(data))


def kind_of(data: bytes, name: str) -> Kind | None:
    """What content of this name is; ``None``: nothing that can be sent."""
    for beginning, kind in _MAGIC:
        if beginning.match(data):
            return kind
    begins, kind = _BY_NAME.get(os.path.splitext(name)[1].lower(), (None, TEXT))
    if begins is not None and data.startswith(begins):
        return kind
    return None if text_of(data) is None else TEXT


def text_of(data: bytes) -> str | None:
    """UTF-8, or UTF-16 with its mark, as text; ``None``: it is none."""
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def well_formed(text: str) -> str:
    """A text as it can be sent: bytes that are no UTF-8, which names of files may hold, are replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_file(path: str) -> bytes:
    """What a file holds, which may be a pipe too. Raises UsageError when it cannot be read, is empty or too large."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BODY + 1)
    except IsADirectoryError:
        raise click.UsageError(f"{path!r} is a folder, not a file") from None
    except FileNotFoundError:
        raise click.UsageError(f"{path!r}: no such file") from None
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{path!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not data:
        raise click.UsageError(f"{path!r} is empty")
    if len(data) > MAX_BODY:
        raise click.UsageError(f"{path!r} is too large: a request has at most {amount(MAX_BODY)}")
    return data


def _linked(address: str, modality: str) -> Attachment:
    """Something that the gateway fetches itself."""
    if modality == "audio":
        raise click.UsageError("--audio: gateways take sound as data only; give the path of a file, not an address")
    if not _HTTPS.fullmatch(address) or not address.isprintable():
        raise click.UsageError(f"--{modality}: an address begins with https:// and a host, and holds no password")
    name = unquote(urlsplit(address).path).rpartition("/")[2] or "document"
    if modality == "image" or name.lower().endswith(_IMAGE_NAMES):
        return Attachment(name, part={"type": "image_url", "image_url": {"url": address}}, kind="address")
    return Attachment(name, part={"type": "file", "file": {"filename": name, "file_data": address}}, kind="address")


def _part(kind: Kind, name: str, data: bytes) -> dict[str, Any]:
    encoded = base64.b64encode(data).decode()
    if kind.modality == "audio":
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": kind.name}}
    url = f"data:{kind.name};base64,{encoded}"
    if kind.modality == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": name, "file_data": url}}


def _fenced(label: str, text: str) -> str:
    """A text between fences that are longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{label}:\n{fence}\n{text}{'' if text.endswith(chr(10)) else chr(10)}{fence}"


def amount(size: int) -> str:
    """Bytes as people read them: ``512 B``, ``12.0 MiB``."""
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.0f} KiB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MiB"
