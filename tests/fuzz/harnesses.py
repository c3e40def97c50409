"""The harnesses: each takes any bytes, has routerkit read them, and raises when an invariant does not hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from decimal import Decimal
from functools import cache
from typing import Any

from routerkit.config import settings_from
from routerkit.core import plan
from routerkit.core.catalog import Snapshot
from routerkit.core.effects import (
    Failure,
    HttpResponse,
    Open,
    Read,
    Send,
    Step,
    StreamResponse,
    TransportFailure,
)
from routerkit.core.failure import parse_json
from routerkit.core.hints import parse_hint
from routerkit.core.listing import completed, parse_catalog, parse_details, price
from routerkit.core.pricing import cost_of, within
from routerkit.core.router import Router
from routerkit.core.sse import SSEDecoder, SSELimitError
from routerkit.core.streaming import Ended
from routerkit.environment import PREFIXES, VARIABLES
from routerkit.errors import ConfigurationError, RouterKitError, StreamInterruptedError
from routerkit.transport.http1 import Body, MalformedError, TruncatedError, parse_head
from routerkit.types.completion import Completion
from routerkit.types.model import Pricing, amounts
from routerkit.types.policy import RetryPolicy, Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.settings import Settings
from routerkit.types.tokens import Usage
from routerkit.types.verdict import Sent
from routerkit.types.view import View

KEY = "sk-test-1234567890"
MODEL = "a/one"
STATUSES = (200, 200, 200, 200, 400, 404, 429, 500)
NAMES = tuple(
    (prefix if variable.prefixed else "") + variable.name
    for variable in VARIABLES
    for prefix in sorted({prefix for prefixes in PREFIXES.values() for prefix in prefixes})
)

_SETTINGS = settings_from({}, api_key=KEY, base_url="https://api.example.com/v1", retry=RetryPolicy(max_attempts=1))


def pieces(data: bytes) -> tuple[list[bytes], bytes]:
    """The bytes after the first, cut as the first one says (not, many into single bytes, or anyhow), and uncut. No piece is empty:
    that would be the end."""
    if len(data) < 2:
        return [], b""
    seed, whole = data[0], data[1:]
    if seed % 4 == 0:
        return [whole], whole
    cut: list[bytes] = []
    at = 0
    while at < len(whole):
        seed = (seed * 73 + 41) % 251
        size = 1 if data[0] % 4 == 1 and at < 300 else 1 + seed % 96
        cut.append(whole[at : at + size])
        at += size
    return cut, whole


# --- framing ---


def sse(data: bytes) -> None:
    """Any cut gives the same events; what is held between feeds is bounded."""
    caps = {"max_line": 300, "max_event": 500, "max_comments": 20}
    cut, whole = pieces(data)
    found: list[bytes] = []
    decoder = SSEDecoder(**caps)
    over: str | None = None
    try:
        for piece in cut:
            found += decoder.feed(piece)
            assert len(decoder._line) <= caps["max_line"]
            assert len(decoder._event) <= caps["max_event"] + 1
    except SSELimitError as error:
        over = str(error)
    uncut = SSEDecoder(**caps)
    try:
        expected = uncut.feed(whole)
    except SSELimitError:
        assert over is not None, "a cap is hit uncut but not cut"
        return
    assert over is None, f"a cap is hit cut but not uncut: {over}"
    assert found == expected
    assert decoder.pending == uncut.pending


def http1(data: bytes) -> None:
    """Only malformed or truncated; any cut gives the same head and content."""
    cut, whole = pieces(data)
    told = _answer(cut)
    assert told == _answer([whole] if whole else [])
    chunked = re.search(rb"\A[^\0]*?\n\r?\n", whole) if whole.startswith(b"HTTP/1.1 200 OK\r\n") else None
    if chunked and len(told) == 4 and told[3] and told[1].get("transfer-encoding") == "chunked":
        assert told[2] == _dechunked(whole[chunked.end() :])


def _dechunked(data: bytes) -> bytes | None:
    """The content of a body in chunks, read in the plainest way; ``None`` when it is no such body."""
    content = b""
    while size := re.match(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[^\r\n]*)?\r\n", data):
        length, data = int(size[1], 16), data[size.end() :]
        if not length:
            return content
        content, end, data = content + data[:length], data[length : length + 2], data[length + 2 :]
        if end != b"\r\n":
            return None
    return None


def _answer(arriving: list[bytes]) -> tuple[Any, ...]:
    """What the transport makes of the bytes of a connection."""
    head, held, content = None, b"", b""
    body: Body | None = None
    try:
        for piece in arriving:
            if body is None:
                held += piece
                head = parse_head(held, "POST")
                while head is not None and 100 <= head.status < 200 and head.status != 101:
                    held = head.rest
                    head = parse_head(held, "POST") if held else None
                if head is None:
                    continue
                body, piece = head.body, head.rest
            if not body.complete and piece:
                content += body.feed(piece)
        if body is not None and not body.complete:
            body.end()
    except (MalformedError, TruncatedError) as error:
        return (type(error),)
    assert body is None or body.length is None or len(content) <= body.length
    return (head and head.status, head and dict(head.headers), content, body and body.complete)


# --- answers ---


def stream(data: bytes) -> None:
    """A stream of any bytes in any pieces, through the core: an answer, or one of our errors with what arrived."""
    status = STATUSES[data[1] % len(STATUSES)] if len(data) > 1 else 200
    cut, whole = pieces(data[:1] + data[2:])
    delivered, result = _streamed(cut, status)
    _, other = _streamed([whole] if whole else [], status)
    assert type(result) is type(other)
    assert getattr(result, "code", None) == getattr(other, "code", None)
    text = "".join(chunk.text for chunk in delivered)
    if isinstance(result, Ended):
        completion = result.completion()
        look_at(completion)
        if isinstance(other, Ended):
            assert completion.to_dict() == other.completion().to_dict()
        assert all(isinstance(chunk.text, str) for chunk in result.chunks)
        assert status == 200
    elif isinstance(result, StreamInterruptedError):
        assert result.partial_text == text
    else:
        assert not delivered
    for chunk in delivered:
        look_at(chunk)


def _streamed(arriving: list[bytes], status: int) -> tuple[list[Any], Any]:
    left = iter([*arriving, b""])
    delivered: list[Any] = []

    def perform(effect: Any) -> Any:
        if isinstance(effect, Open):
            return StreamResponse(status, {}, None)
        return next(left, b"") if isinstance(effect, Read) else delivered.extend(getattr(effect, "chunks", ()))

    return delivered, _driven(_router().stream(_request(stream=True)), perform)


def answer(data: bytes) -> None:
    """A whole answer of any bytes: a completion that can be looked at, or one of our errors."""
    status = STATUSES[data[0] % len(STATUSES)] if data else 200
    result = _driven(
        _router().complete(_request(stream=False)),
        lambda effect: HttpResponse(status, {}, data[1:]) if isinstance(effect, Send) else None,
    )
    if isinstance(result, Completion):
        assert status == 200
        look_at(result)


class _Moment:
    """A runtime in which no time passes."""

    def monotonic(self) -> float:
        return 1000.0

    def wall(self) -> float:
        return 1_790_000_000.0

    def random(self) -> float:
        return 0.5

    def lock(self) -> Any:
        return nullcontext()


def _router() -> Router:
    return Router(_SETTINGS, _Moment(), lambda: False)


def _request(*, stream: bool) -> ChatRequest:
    return ChatRequest.build(
        "Hello",
        {},
        model=MODEL,
        fallback_models=(),
        extra_body=None,
        extra_headers=None,
        timeouts=Timeouts(),
        stream=stream,
    )


def _driven(step: Step[Any], perform: Callable[[Any], Any]) -> Any:
    """What a step returns, or the error of ours that it raises."""
    try:
        effect = step.send(None)
        while True:
            if isinstance(effect, Send) and effect.request.method == "GET":
                effect = step.throw(TransportFailure(Failure.CONNECT, Sent.NOT_SENT))
            else:
                effect = step.send(perform(effect))
    except StopIteration as stop:
        return stop.value
    except RouterKitError as raised:
        error = raised
    assert KEY not in f"{error}{error!r}{error.to_dict()}"
    assert str(error).replace("\n", "").isprintable()
    return error


def look_at(value: Any) -> None:
    """Ask a view for everything it can tell, and those that it gives out."""
    if isinstance(value, View):
        assert KEY not in repr(value)
        assert value.to_dict() is value.raw
        for name in _properties(type(value)):
            look_at(getattr(value, name))
    elif isinstance(value, list):
        for each in value:
            look_at(each)
    elif isinstance(value, (float, Decimal)):
        assert math.isfinite(value)
    elif isinstance(value, int):
        assert value >= 0
    else:
        assert value is None or isinstance(value, (str, tuple))


@cache
def _properties(kind: type) -> tuple[str, ...]:
    return tuple(name for name in dir(kind) if name[0] != "_" and isinstance(getattr(kind, name), property))


# --- hints, catalogue, environment ---


def hints(data: bytes) -> None:
    """Header lines, a blank line, a body: no hint, or one from a moment to a day."""
    top, _, body = data.partition(b"\n\n")
    headers = {}
    for line in top.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value
    for now in (1_790_000_000.0, 0.0, math.nan):
        found = parse_hint(headers, parse_json(body), now)
        assert found is None or 0 < found.seconds <= 86_400


def catalog(data: bytes) -> None:
    """Any bytes as a catalogue: entries with an id, prices that are known and finite or unknown, a plan that can be drawn."""
    models, dropped = parse_catalog(parse_json(data))
    assert dropped >= 0
    snapshot = Snapshot(tuple(models), {model.id: model for model in models}, 0, 0)
    for model in models:
        assert 0 < len(model.id) <= 200
        assert model.id.isprintable()
        assert snapshot.get(model.id) is model
        prices = _amounts(model.pricing)
        assert all(price is None or (price.is_finite() and price >= 0) for price in prices)
        assert not (model.pricing.free and None in prices[:2])
        within(model.pricing, [models[0].pricing])
        usage = {"prompt_tokens": 10**9, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}
        cost, _ = cost_of(Usage(usage), model)
        assert cost is None or (cost.is_finite() and cost >= 0)
        repr(model)
    drawn = plan.from_catalog({"fuzzed": snapshot}, _request(stream=False), (), 1_790_000_000.0)
    assert len(drawn.targets) + len(drawn.skipped) >= len(models)
    str(drawn)
    amount = price(data.decode("latin-1"))
    assert amount is None or amount >= 0


def _amounts(pricing: Pricing) -> list[Decimal | None]:
    """All prices, those of its overrides too."""
    prices = [pricing, *(override.prices for override in pricing.overrides)]
    return [price for each in prices for price in amounts(each)]


def details(data: bytes) -> None:
    """Any bytes as Infron's public list: as with a catalogue, and nothing is free that does not say so; the union has every id."""
    body = parse_json(data)
    models, dropped = parse_details(body, "infron")
    assert dropped >= 0
    for model in models:
        assert 0 < len(model.id) <= 200
        assert model.id.isprintable()
        assert model.gateway == "infron"
        prices = _amounts(model.pricing)
        assert all(price is None or (price.is_finite() and 0 <= price < 10**9) for price in prices)
        assert 0 not in prices or str(model.raw.get("discount")).strip().upper() == "FREE"
        assert all(count is None or 0 < count < 2**63 for count in (model.context_length, model.max_completion_tokens))
        assert all(word == word.strip().lower() != "" for word in model.input_modalities + model.output_modalities)
        repr(model)
    listed, _ = parse_catalog(body, "infron", 1_000_000)
    union = [model.id for model in completed(listed, models)]
    assert union[: len(listed)] == [model.id for model in listed]
    assert sorted(union) == sorted({model.id for model in listed + models})


def environment(data: bytes) -> None:
    """Lines NAME=value, where any first byte stands for some name: settings, or an error that names a variable; no key in
    either."""
    values: dict[str, str] = {}
    for line in data.split(b"\n")[:40]:
        name, found, value = line.decode("utf-8", "surrogateescape").partition("=")
        if name not in NAMES and line:
            name, value, found = NAMES[line[0] % len(NAMES)], line[1:].decode("utf-8", "surrogateescape"), "="
        if found:
            values[name] = f"{KEY}{value}" if "API_KEY" in name else value
    for gateway in (None, "infron"):
        told = _settings_or_error(values, gateway)
        assert KEY not in f"{told}{told!r}"
        if isinstance(told, Settings):
            assert told.timeouts.total > 0
            assert told.retry.max_attempts >= 1
        else:
            words = re.findall(r"[A-Z][A-Z0-9_]+", str(told))
            assert set(NAMES) & set(words), f"no variable is named: {told}"


def _settings_or_error(values: Mapping[str, str], gateway: str | None) -> Settings | ConfigurationError:
    try:
        return settings_from(values, gateway=gateway)
    except ConfigurationError as error:
        return error


HARNESSES: Mapping[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (sse, http1, stream, answer, hints, catalog, details, environment)
}
