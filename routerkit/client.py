"""``Client``: the facade for threads, on requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, overload

from routerkit.core.catalog_index import Query
from routerkit.core.effects import Ask, Await, Close, Emit, Open, Read, Send, Sleep, Step
from routerkit.core.streaming import Ended
from routerkit.environment import hidden
from routerkit.facade import ClientBase, StreamBase, finalizer, taken
from routerkit.transport.drive import Done, advance, unwind
from routerkit.types.completion import Chunk, Completion
from routerkit.types.key_info import KeyInfo
from routerkit.types.model import Model, ModelFilters
from routerkit.types.route import Plan
from routerkit.types.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from routerkit.store.redis_link import RedisLink
    from routerkit.transport.requests import RequestsTransport
    from routerkit.transport.runtime import SystemRuntime
    from routerkit.types.fleet import FleetReport
    from routerkit.types.request import CallOptions, Messages


class Client(ClientBase):
    """Answers from LLM gateways, even when models, keys or whole gateways fail. One client serves any number of threads.

    Keywords: ``api_key`` (a key, a list of keys, or a dict of either by gateway), ``gateway`` (``"openrouter"``, ``"infron"``,
    ``"onerouter"`` or a :class:`Gateway`), ``base_url``, ``gateways`` (several, in order: names, base URLs, :class:`Gateway`),
    ``aliases`` (a model's id by gateway), ``default_model``, ``fallback_models``, ``catalog_fallback``, ``strategy`` and
    ``fallback_strategy`` (a name or a :class:`Strategy`), ``performance_cache``, ``tenants`` (of :class:`Tenant`), ``limits``
    (:class:`Limits`, or a dict of them by what they apply to), ``budget`` (:class:`Budget`), ``timeout`` (seconds or
    :class:`Timeouts`), ``retry`` (:class:`RetryPolicy`), ``breaker`` (:class:`BreakerPolicy`), ``catalog_ttl`` (seconds),
    ``dev_mode``, ``dev_script``, ``dev_pace`` (seconds), ``store``, ``observers``, ``app_url``, ``app_title``. What is not
    given is read from the environment. Besides: ``runtime`` (a :class:`SystemRuntime`: clocks, waits, randomness) and
    ``transport`` (a :class:`routerkit.testing.Carrier`, which performs exchanges in the place of requests), both for tests.
    Raises ConfigurationError.
    """

    def _setup(self, settings: Settings, runtime: SystemRuntime | None) -> None:
        super()._setup(settings, runtime)
        self._transport: RequestsTransport | None = None
        self._transport_lock = threading.Lock()
        self._performers: dict[type[Any], Callable[[Any], Any]] = {
            Send: self._send,
            Open: self._open,
            Read: lambda order: order.handle.read(order.seconds),
            Close: lambda order: order.handle.close(reusable=order.reusable),
            Sleep: lambda order: self._runtime.sleep(order.seconds),
            Await: lambda order: self._runtime.wait(order.latch, order.seconds),
            Emit: self._emit,
        }
        self._link: RedisLink | None = None
        if self._shared_store is not None:
            self._link = self._shared_store.link()
            self._performers[Ask] = self._link.perform

    def complete(self, messages: Messages, **options: Unpack[CallOptions]) -> Completion:
        """One whole answer.

        ``messages``: a string, or a list of message dicts; content parts pass through untouched. Keywords:

        - ``model``: asked first, before the client's default;
        - ``fallback_models``: in place of the client's, for this call;
        - ``timeout``: the call's deadline in seconds, or :class:`Timeouts`;
        - ``allow_any_price``: catalogue models of any price may answer, as a last resort;
        - every documented request parameter (``tools``, ``temperature``, …); ``None`` means "not sent";
        - ``extra_body``, ``extra_headers``: what is not known here.

        Raises InvalidRequestError before sending, else a RouterKitError whose ``route`` tells what was tried.
        """
        try:
            request = self._request(messages, options, stream=False)
        finally:
            del messages, options  # whoever shows the locals of an error's frames shall not show these
        completion: Completion = self._drive(self.router.complete(request))
        return completion

    def stream(self, messages: Messages, **options: Unpack[CallOptions]) -> Stream:
        """The same, chunk by chunk. Returns at the first content; a failure before it has moved to another model unseen.

        Use it with ``with``, or read it to its end: an open stream holds a connection. Iterating raises
        StreamInterruptedError when the answer breaks off.
        """
        try:
            request = self._request(messages, options, stream=True)
        finally:
            del messages, options  # whoever shows the locals of an error's frames shall not show these
        return Stream(self, self._step(self.router.stream(request)))

    def models(self, *, refresh: bool = False, **filters: Unpack[ModelFilters]) -> list[Model]:
        """What the gateways' catalogues list, an hour old at most unless a gateway cannot be asked. ``refresh`` asks anyway.

        Of it: ``modality`` and ``output_modality``, a word or several (``"image"``, ``"audio"``, ``"file"``, …), all of which a
        model must take or give; ``supports``, a request parameter or several (``"tools"``, ``"structured_outputs"``, …);
        ``max_price`` in USD per token, for prompt and completion alike; ``min_context`` in tokens; ``free`` or not; ``search``,
        words in id or name.

        Raises APIError, DeadlineExceededError, and InvalidRequestError for a filter that cannot be read.
        """
        query = Query.of(**filters) if filters else None
        return list(self._drive(self._usable.models(self.settings.timeouts, query, refresh=refresh)))

    def model(self, model: str) -> Model:
        """One entry of the catalogue, of the first gateway that has it. Raises InvalidRequestError when there is none."""
        found: Model = self._drive(self._usable.model(model, self.settings.timeouts))
        return found

    def key_info(self, *, gateway: str | None = None, key: str | None = None) -> KeyInfo:
        """What the gateway tells about the key: limit, usage, credits. ``key``: which of several, by its fingerprint.

        Raises InvalidRequestError for a gateway that tells nothing, APIError, DeadlineExceededError.
        """
        key = hidden(key)  # it may be the key itself, by mistake, and trackers show the locals of an error's frames
        info: KeyInfo = self._drive(self._usable.key_info(self.settings.timeouts, gateway, key))
        return info

    def explain(self, messages: Messages, **options: Unpack[CallOptions]) -> Plan:
        """The plan of a call, with the reason for each model in it and out of it.

        Nothing is sent, except for the catalogue when none is in memory.
        """
        try:
            request = self._request(messages, options, stream=False)
        finally:
            del messages, options  # whoever shows the locals of an error's frames shall not show these
        plan: Plan = self._drive(self.router.explain(request))
        return plan

    def fleet(self, days: int = 1) -> FleetReport:
        """What all processes that share the store did on the last ``days`` (1 to 35) UTC days, today among them, and how they are
        now: usage, statistics, open breakers, what is used of limits and budgets. A tenant's client tells of its own.

        Others' calls of the last ten seconds or so, and of idle processes since their last call, may not be in it yet; calls that
        ended after their client was closed, or that was never closed, are not in it. Raises
        ConfigurationError without such a store, StoreUnavailableError when it cannot be asked.
        """
        report: FleetReport = self._drive(self._fleet(days))
        return report

    @property
    def chat(self) -> Chat:
        """``client.chat.completions.create(...)``, the OpenAI SDK's shape."""
        return Chat(self)

    def close(self) -> None:
        """Close idle connections; the client can no longer be used. A client made by :meth:`with_options` closes nothing."""
        if self._root is self:
            self._closed = True
            transport, self._transport = self._transport, None
            if transport is not None:
                transport.close()
            if self._link is not None and self._shared_store is not None:
                advance(self._last_words(self._shared_store), self._link.perform)
                self._link.close()
            self._keep_scores()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, step: Step[Any]) -> Any:
        return advance(self._step(step), self._perform).value  # type: ignore[union-attr]  # it delivers nothing

    def _perform(self, order: Any) -> Any:
        return self._performers[order.__class__](order)

    def _send(self, order: Send) -> Any:
        return self._connected().send(order)

    def _open(self, order: Open) -> Any:
        return self._connected().open(order)

    def _connected(self) -> RequestsTransport:
        transport = self._transport
        if transport is None:
            from routerkit.transport.requests import RequestsTransport

            with self._transport_lock:
                transport = self._transport
                if transport is None:
                    transport = self._transport = RequestsTransport(self.settings.gateways)
        return transport

    def _forked(self) -> None:
        super()._forked()
        self._transport_lock = threading.Lock()
        if self._transport is not None:
            self._transport.forget()
        if self._link is not None:
            self._link.forget()


class Stream(StreamBase):
    """An answer as it comes. Iterate over it, inside ``with``; ``close()`` gives it up early."""

    def __init__(self, client: Client, step: Step[Ended]) -> None:
        self._client = client
        self._step: Step[Ended] | None = step
        self._batch: Iterator[Chunk] = iter(())
        self._finalizer = finalizer(self, step)
        self._advance()

    def __iter__(self) -> Iterator[Chunk]:
        while True:
            yield from self._batch
            if self._step is None:
                return
            self._advance()

    def __next__(self) -> Chunk:
        for chunk in self:
            return chunk
        raise StopIteration

    def text(self) -> Iterator[str]:
        """Only the text, chunk by chunk; empty pieces left out."""
        for chunk in self:
            if chunk.text:
                yield chunk.text

    def close(self) -> None:
        """Give up the rest: the connection is closed at once. Harmless when the stream has ended."""
        step, self._step = self._step, None
        self._batch = iter(())
        if step is not None:
            self._finalizer.detach()
            unwind(step, self._client._perform)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _advance(self) -> None:
        step, self._step = self._step, None
        if step is None:
            return
        self._finalizer.atexit = False  # when the interpreter exits, another thread may be in the midst of this
        try:
            outcome = advance(step, self._client._perform)
        except BaseException:
            self._finalizer.detach()
            raise
        if isinstance(outcome, Done):
            self._finalizer.detach()
            self._ended = outcome.value
        else:
            self._step = step
            self._batch = iter(outcome)
            self._finalizer.atexit = True


class Chat:
    """The OpenAI SDK's shape, for those who come from it."""

    def __init__(self, client: Client) -> None:
        self.completions = Completions(client)


class Completions:
    def __init__(self, client: Client) -> None:
        self._client = client

    @overload
    def create(self, *, messages: Messages, stream: Literal[True], **options: Unpack[CallOptions]) -> Stream: ...
    @overload
    def create(
        self, *, messages: Messages, stream: Literal[False] | None = None, **options: Unpack[CallOptions]
    ) -> Completion: ...
    def create(
        self, *, messages: Messages, stream: bool | None = None, **options: Unpack[CallOptions]
    ) -> Completion | Stream:
        """:meth:`Client.complete`, or with ``stream=True`` :meth:`Client.stream`; the same keywords."""
        given = taken(messages, options)
        del messages
        return self._client.stream(**given.pop()) if stream else self._client.complete(**given.pop())
