"""What a call asks for: its arguments as one immutable :class:`ChatRequest`, validated and serialised once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs
import orjson

from routerkit.errors import InvalidRequestError
from routerkit.types.gateway import FEATURES
from routerkit.types.parameters import PARAMETERS as PARAMETERS
from routerkit.types.parameters import RequestParams as RequestParams
from routerkit.types.policy import Timeouts
from routerkit.types.secret import REPEATED

if TYPE_CHECKING:
    from typing import Protocol

    class SupportsToDict(Protocol):
        def to_dict(self) -> dict[str, Any]: ...

    Messages: TypeAlias = str | Sequence[Mapping[str, Any] | SupportsToDict]

_DEFAULT_TIMEOUTS = Timeouts()

OnInterrupt: TypeAlias = Literal["raise", "restart", "continue"]
INTERRUPT_MODES = ("raise", "restart", "continue")
_LIMITS = ("max_tokens", "max_completion_tokens")
_TEXT_ONLY = ("tools", "functions", "logprobs", "audio", "modalities", "prediction")
"""A request with one of these is not continued by another model: what was said is more than text, or must be whole."""

_NO_FEATURES: frozenset[str] = frozenset()
_DICTS = {
    "provider": "{'order': ['anthropic']}",
    "reasoning": "{'effort': 'high'}",
    "usage": "{'include': True}",
}
"""Parameters that must be mappings, and what one looks like."""

_OF_CLIENTS: Mapping[str, frozenset[str]] = {
    "client.with_options({name}=…) makes another that shares all else": frozenset(
        {
            "app_title",
            "app_url",
            "catalog_fallback",
            "default_model",
            "fallback_strategy",
            "gateway",
            "retry",
            "strategy",
        }
    ),
    "Client({name}=…)": frozenset(
        {
            "aliases",
            "api_key",
            "base_url",
            "breaker",
            "budget",
            "catalog_ttl",
            "dev_mode",
            "dev_pace",
            "dev_script",
            "gateways",
        }
        | {"limits", "observers", "performance_cache", "tenants"}
    ),
    "client.tenant(name).complete(…)": frozenset({"tenant"}),
}
"""What clients are told, and calls are not: how to say it."""
_MEANT = {
    "stream": "client.stream(…) gives the answer in chunks",
    "fallbacks": "fallback_models=[…]",
    "max_retries": "client.with_options(retry=RetryPolicy(max_attempts=…))",
    "num_retries": "client.with_options(retry=RetryPolicy(max_attempts=…))",
    "headers": "extra_headers={…}",
}
"""What others call otherwise: OpenAI's SDK, LiteLLM."""

MAX_BODY = 16 * 1024 * 1024
"""Bytes of one request, serialised."""

_MODEL_ID = re.compile(r"(?!(?:.*/)?\.\.(?:/|$))(?!sk-[^/]{18,}\Z)[A-Za-z0-9~/@][A-Za-z0-9._:/@+~-]{0,199}")
"""No path that climbs, and no key in a wrong place. llama.cpp's ids are paths, Cloudflare's begin with an @."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,1024}")
_OURS = frozenset(
    {"accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "cookie", "expect"}
    | {"host", "proxy-authorization", "te", "transfer-encoding", "upgrade"}
)


class CallOptions(RequestParams, total=False):
    """What a call can be told: every request parameter, and these of our own."""

    model: str | None
    """Asked first, before the client's default."""
    fallback_models: Iterable[str] | None
    """In place of the client's, for this call."""
    timeout: float | Timeouts | None
    """The call's deadline in seconds, or all the clocks."""
    extra_body: Mapping[str, Any] | None
    """Request parameters that routerkit does not know."""
    extra_headers: Mapping[str, str] | None
    on_interrupt: OnInterrupt | None
    """Streams: what to do when the answer breaks off after its first content. ``"raise"`` (the default):
    StreamInterruptedError. ``"restart"``: a :class:`StreamReset`, then the next model's answer from its beginning.
    ``"continue"``: a :class:`StreamSeam`, then the next model goes on from what was said."""
    allow_any_price: bool
    """Whether catalogue models of any price may answer, as a last resort."""


def checked_model(model: object) -> str:
    """A model id that can stand in JSON, a URL and a log line as it is."""
    if isinstance(model, str) and _MODEL_ID.fullmatch(model):
        return model
    raise InvalidRequestError(f"model={_shown(model)}: not a model id; one looks like 'openai/gpt-4o' or 'llama3:8b'")


def _shown(value: object) -> str:
    shown = repr(value)
    if "sk-" in shown.lower() and len(shown) > REPEATED:
        return "…"
    return shown if len(shown) <= 80 else shown[:80] + "…"


def checked_models(models: object, name: str = "fallback_models") -> tuple[str, ...]:
    """Several model ids, from any iterable but a bare string."""
    if isinstance(models, str) or not isinstance(models, Iterable):
        raise InvalidRequestError(f"{name}={_shown(models)}: must be a list of model ids")
    return tuple(checked_model(model) for model in models)


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that a caller may add. Refused: those that routerkit sets itself, and values that are not printable ASCII."""
    if not isinstance(headers, Mapping):
        raise InvalidRequestError("extra_headers: must be a dict of strings")
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidRequestError("extra_headers: a header name is not valid")
        if name.lower() in _OURS:
            raise InvalidRequestError(f"extra_headers: {name} is set by routerkit")
        if name.lower() in {other.lower() for other in checked}:
            raise InvalidRequestError(f"extra_headers: {name} is there twice")
        checked[name] = checked_header_value(value, f"extra_headers: {name}")
    return checked


def checked_header_value(value: object, name: str) -> str:
    """Printable ASCII, 1 KiB at most; the error does not repeat the value."""
    if isinstance(value, str) and _HEADER_VALUE.fullmatch(value) and value == value.strip():
        return value
    raise InvalidRequestError(f"{name}: must be printable ASCII, at most 1024 characters, without blanks around it")


@attrs.frozen(eq=False)
class ChatRequest:
    """One call's request. Make it with :meth:`build`."""

    messages: Sequence[Mapping[str, Any]] = attrs.field(repr=False)
    params: Mapping[str, Any] = attrs.field(repr=False)
    """Parameters as sent, without messages, model and stream; no value is ``None`` unless ``extra_body`` says so."""
    model: str | None = None
    fallback_models: tuple[str, ...] | None = None
    timeouts: Timeouts = Timeouts()
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    stream: bool = False
    allow_any_price: bool = False
    on_interrupt: OnInterrupt = "raise"
    features: frozenset[str] = _NO_FEATURES
    """Which parameters ask something of the gateway: see ``FEATURES``. Those of ``extra_body`` are not among them, as they are
    sent to any gateway."""
    models: tuple[str, ...] = ()
    """Those that the gateway falls back on by itself, as the caller names them; empty where ``extra_body`` has them."""
    tail: bytes = attrs.field(default=b"", repr=False)
    """The serialised request after its model: ``,"messages":…}``."""

    @classmethod
    def build(
        cls,
        messages: Messages,
        params: Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
        fallback_models: Iterable[str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeouts: Timeouts = _DEFAULT_TIMEOUTS,
        stream: bool = False,
        allow_any_price: bool = False,
        on_interrupt: OnInterrupt | None = None,
    ) -> ChatRequest:
        """Check and serialise everything. Raises InvalidRequestError."""
        body = _parameters({} if params is None else params)
        features = _features(body)
        handed: tuple[str, ...] = body.get("models", ())
        if extra_body is not None:
            if not isinstance(extra_body, Mapping):
                raise InvalidRequestError("extra_body: must be a dict of further request parameters")
            body.update(extra_body)
            handed = () if "models" in extra_body else handed
        for name in ("model", "messages", "stream"):
            if name in body:
                raise InvalidRequestError(f"extra_body: {name!r} has its own argument")
        for name, value in body.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidRequestError(f"{name}={value}: not a number that JSON knows")
        if stream:
            body.setdefault("stream_options", {"include_usage": True})
        if on_interrupt is not None and (on_interrupt not in INTERRUPT_MODES or not stream):
            what = f"must be one of {', '.join(INTERRUPT_MODES)}" if stream else "only streams can be interrupted"
            raise InvalidRequestError(f"on_interrupt={on_interrupt!r}: {what}")
        listed = _message_list(messages)
        return cls(
            messages=listed,
            params=body,
            model=None if model is None else checked_model(model),
            fallback_models=None if fallback_models is None else checked_models(fallback_models),
            timeouts=timeouts,
            headers={} if extra_headers is None else checked_headers(extra_headers),
            stream=stream,
            allow_any_price=allow_any_price,
            on_interrupt=on_interrupt or "raise",
            features=features,
            models=handed,
            tail=_tail(listed, body, stream),
        )

    def body(self, model: str, extra: bytes = b"") -> bytes:
        """The JSON for one model; ``extra`` is JSON to put in, such as ``,"usage":{}``."""
        return b'{"model":' + orjson.dumps(model) + extra + self.tail

    def handing_over(self, models: tuple[str, ...]) -> ChatRequest:
        """The same request, with these ids of the models that the gateway falls back on."""
        if models == self.models:
            return self
        params = {name: value for name, value in self.params.items() if name != "models"}
        if models:
            params["models"] = models
        return attrs.evolve(self, params=params, tail=_tail([*self.messages], params, self.stream))

    def continued(self, text: str, tokens: int) -> ChatRequest | None:
        """The request for another model to go on after ``text``, of so many tokens; ``None`` where that makes no sense.

        The text becomes the answer's beginning, as a last message of the assistant. Blanks at its end are left out, because
        some providers refuse them there.
        """
        params = {**self.params}
        form = params.get("response_format")
        plain = not isinstance(form, Mapping) or form.get("type") == "text"
        if not plain or params.get("n") not in (None, 1) or any(params.get(name) for name in _TEXT_ONLY):
            return None
        for name in _LIMITS:
            if isinstance(params.get(name), int):
                params[name] -= tokens
                if params[name] < 1:
                    return None
        messages = _prefilled(self.messages, text.rstrip())
        if messages is None:
            return None
        return attrs.evolve(self, messages=messages, params=params, tail=_tail(messages, params, self.stream))

    @property
    def total(self) -> float:
        """Seconds that the whole call may take."""
        return self.timeouts.stream_total if self.stream else self.timeouts.total


def _parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    body = {name: value for name, value in params.items() if value is not None}
    unknown = params.keys() - PARAMETERS
    if unknown:
        raise InvalidRequestError(_no_parameter(min(unknown)))
    return body


def _no_parameter(name: str) -> str:
    """What is told of a keyword that is no parameter: where it belongs, or which one may be meant."""
    for where, names in _OF_CLIENTS.items():
        if name in names:
            return f"{name}= is no parameter of a call, but one of the client: {where.format(name=name)}"
    if name in _MEANT:
        return f"unknown parameter {name!r}: {_MEANT[name]}"
    import difflib  # only errors need it

    near = difflib.get_close_matches(name, PARAMETERS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown parameter {name!r}: {hint}what routerkit does not know goes into extra_body={{{name!r}: …}}"


def _features(body: dict[str, Any]) -> frozenset[str]:
    """The parameters that ask something of the gateway, if their values are not plainly wrong."""
    if FEATURES.isdisjoint(body):
        return _NO_FEATURES
    if "models" in body:
        body["models"] = checked_models(body["models"], "models")
    for name, example in _DICTS.items():
        if name in body and _to_dict(body[name]) is None:
            raise InvalidRequestError(f"{name}: must be a dict such as {example}, not {type(body[name]).__name__}")
    plugins = body.get("plugins", ())
    if (
        isinstance(plugins, str)
        or not isinstance(plugins, Sequence)
        or any(_to_dict(plugin) is None for plugin in plugins)
    ):
        raise InvalidRequestError("plugins: must be a list of dicts, such as [{'id': 'web'}]")
    if not isinstance(body.get("route", ""), str):
        raise InvalidRequestError(
            "route: must be 'fallback' or 'sort'; a strategy is told to the client: Client(strategy=…)"
        )
    return FEATURES.intersection(body)


def _message_list(messages: Messages) -> list[Mapping[str, Any]]:
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    if isinstance(messages, (Mapping, bytes)) or not isinstance(messages, Sequence):
        raise InvalidRequestError(
            f"messages: must be a string or a list of message dicts, not {type(messages).__name__}"
        )
    if not messages:
        raise InvalidRequestError("messages: the list is empty")
    listed = []
    for place, message in enumerate(messages):
        plain = _to_dict(message)
        if plain is None or not isinstance(plain.get("role"), str):
            raise InvalidRequestError(
                f"messages[{place}]: must be a dict with a 'role', such as {{'role': 'user', 'content': …}}"
            )
        listed.append(plain)
    return listed


def _prefilled(messages: Sequence[Mapping[str, Any]], text: str) -> list[Mapping[str, Any]] | None:
    """The messages with the beginning of an answer; a beginning that the caller gave is added to."""
    *before, last = messages
    if last["role"] != "assistant":
        return [*messages, {"role": "assistant", "content": text}] if text else [*messages]
    said = last.get("content")
    return [*before, {**last, "content": said + text}] if isinstance(said, str) else None


def _to_dict(message: object) -> Mapping[str, Any] | None:
    """A mapping as it is, a view as its dict; ``None`` for anything else."""
    if isinstance(message, Mapping):
        return message
    convert = getattr(message, "to_dict", None)
    plain = convert() if callable(convert) else None
    return plain if isinstance(plain, Mapping) else None


def _tail(messages: list[Mapping[str, Any]], body: dict[str, Any], stream: bool) -> bytes:
    fields: dict[str, Any] = {"messages": messages, **body}
    if stream:
        fields["stream"] = True
    try:
        tail = b"," + orjson.dumps(fields, default=_plain)[1:]
    except TypeError as error:
        raise InvalidRequestError(f"the request cannot be written as JSON: {error}") from None
    if len(tail) > MAX_BODY:
        raise InvalidRequestError(f"the request has {len(tail)} bytes; at most {MAX_BODY} are sent")
    return tail


def _plain(value: Any) -> Any:
    """Mappings and sequences that are neither dict nor list (orjson knows only these), and our own views."""
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        return list(value)
    plain = _to_dict(value)
    if plain is None:
        raise TypeError(f"a {type(value).__name__} has no place in JSON")
    return dict(plain)
