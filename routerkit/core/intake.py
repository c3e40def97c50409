"""An answer being read: bytes in, chunks out, and what has been seen so far. No effects, no clocks of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from routerkit.core.answer import as_chunk, assemble, has_content, judge
from routerkit.core.effects import StreamResponse
from routerkit.core.failure import parse_json
from routerkit.core.sse import BOM, SSEDecoder, SSELimitError
from routerkit.core.verdict import Signal, error_object
from routerkit.core.verdict_table import Ending
from routerkit.types.completion import Chunk

if TYPE_CHECKING:
    from routerkit.core.call import Trial

MAX_RESPONSE = 64 * 1024 * 1024
"""Bytes of an answer, decompressed."""
MAX_ERROR_BODY = 64 * 1024
"""Bytes read of an answer that refuses a stream."""
MAX_INDEX = 1024
"""Of choices and of parallel tool calls: beyond it, an event is nonsense."""


class Intake:
    """See the module. ``signal`` makes the signal of what went wrong."""

    def __init__(self, trial: Trial, response: StreamResponse, signal: Callable[..., Signal]) -> None:
        self.trial = trial
        self._signal = signal
        self.handle = response.handle
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.mock = response.mock
        self.notes: tuple[str, ...] = ()
        """Flags of the completion that it will be."""
        self.chunks: list[Chunk] = []
        self.undelivered: list[Chunk] = []
        self.committed = False
        """Whether content was seen."""
        self.finished = False
        """Whether a ``finish_reason`` was seen."""
        self.done = False
        """Whether ``[DONE]`` was seen."""
        self.over = False
        """Whether nothing more is expected: after ``[DONE]``, the end of the body, or a failure."""
        self.failed: Signal | None = None
        self.last_content = trial.admission.started
        self._decoder: SSEDecoder | None = None
        self._whole = False
        """Whether the answer is no event stream, and is read whole."""
        self._head = bytearray()
        """The whole answer, or what came before it was known which of the two it is."""
        self._blank = 0
        """Bytes of blanks before anything else."""

    def feed(self, data: bytes, now: float) -> None:
        """Take in what one read brought; ``b""`` is the end."""
        if not data:
            self._end()
        elif self._decoder is not None:
            self._take(self._decoder, data, now)
        elif self._whole:
            self._gather(data)
        else:
            self._sniff(data, now)

    def taken(self) -> list[Chunk]:
        """The chunks to hand over now."""
        chunks, self.undelivered = self.undelivered, []
        return chunks

    def _sniff(self, data: bytes, now: float) -> None:
        """Decide by the first byte: gateways send JSON, and proxies HTML, where a stream was asked for."""
        if not self._head:
            begun = data.lstrip()
            self._blank += len(data) - len(begun)
            if self._blank > MAX_ERROR_BODY:
                return self._fail(Ending.STREAM_LIMIT)
            data = begun
        head = bytes(self._head[:4]) + data[:4]
        first = head.removeprefix(BOM)[:1]
        if not first or BOM.startswith(head):
            self._head += data
        elif self.status != 200 or first in b"{[<":
            self._whole = True
            self._gather(data)
        else:
            self._decoder = SSEDecoder(max_stream=MAX_RESPONSE)
            self._take(self._decoder, bytes(self._head) + data, now)
            self._head.clear()
        return None

    def _gather(self, data: bytes) -> None:
        self._head += data
        if self.status == 200 and len(self._head) > MAX_RESPONSE:
            self._fail(Ending.STREAM_LIMIT)
        elif self.status != 200 and len(self._head) >= MAX_ERROR_BODY:
            self._end()

    def _take(self, decoder: SSEDecoder, data: bytes, now: float) -> None:
        broken = False
        try:
            payloads = decoder.feed(data)
        except SSELimitError as error:
            payloads, broken = error.events, True
        content = False
        for payload in payloads:
            if payload[:6] == b"[DONE]" and not payload[6:].strip():
                self.done = True
                return self._end()
            event = parse_json(payload)
            if not _is_plain(event):
                if event is None and not payload.strip():
                    continue  # an event without data says nothing
                wrong = self._examine(event)
                if wrong is not None:
                    return self._fail(wrong, event if wrong is Ending.GENERATION_FAILED else None)
            self._keep(event)
            if not content and _holds_content(event):
                content = self.committed = True
                self.last_content = now
        return self._fail(Ending.STREAM_LIMIT) if broken else None

    def _examine(self, event: Any) -> Ending | None:
        """What is wrong with an event: nonsense, or word that the generation failed."""
        if not isinstance(event, dict):
            return Ending.MALFORMED
        if error_object(event) is not None:
            return Ending.GENERATION_FAILED
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            reason = choice.get("finish_reason")
            if reason == "error":
                return Ending.GENERATION_FAILED
            if reason:
                self.finished = True
            delta = choice.get("delta")
            calls = delta.get("tool_calls") if isinstance(delta, dict) else None
            parts = [choice, *(calls if isinstance(calls, list) else ())]
            if any(isinstance(part, dict) and _misplaced(part) for part in parts):
                return Ending.MALFORMED
        return None

    def _keep(self, event: dict[str, Any]) -> None:
        chunk = Chunk(event)
        self.chunks.append(chunk)
        self.undelivered.append(chunk)

    def _end(self) -> None:
        """The body has ended, or what follows it does not matter."""
        self.over = True
        if self._decoder is None:
            self._end_whole()
        elif not self.finished and not self.done:
            self._fail(Ending.TRUNCATED)
        elif not self.committed:
            body = assemble(chunk.raw for chunk in self.chunks)
            ending = judge(body)
            if ending is not Ending.OK:
                self._fail(ending, body)

    def _end_whole(self) -> None:
        """An answer that is no event stream: a refusal, a whole completion, or something foreign."""
        body = parse_json(bytes(self._head))
        ending = judge(body) if self.status == 200 else None
        if ending is Ending.OK:
            whole = as_chunk(body)
            ending = self._examine(whole)
            if ending is None:
                self._keep(whole)
                self.committed = self.finished = True
                return
        if self.status == 200 and not self._head.strip():
            self._fail(Ending.TRUNCATED)
        else:
            self._fail(ending, body)

    def _fail(self, ending: Ending | None, body: Any = None) -> None:
        self.over = True
        text = bytes(self._head[:2048]) if body is None else b""
        self.failed = self._signal(status=self.status, headers=self.headers, body=body, text=text, ending=ending)


def _is_plain(event: Any) -> bool:
    """Whether an event has the shape of nearly every one, in which nothing can be wrong: one choice that goes on with text."""
    try:
        (choice,) = event["choices"]
        delta = choice["delta"]
        return (
            choice["finish_reason"] is None
            and choice["index"] == 0
            and delta.__class__ is dict
            and "tool_calls" not in delta
            and "error" not in choice
            and "error" not in event
            and event["object"] != "error"
        )
    except (LookupError, TypeError, ValueError):
        return False


def _holds_content(event: dict[str, Any]) -> bool:
    choices = event.get("choices")
    return isinstance(choices, list) and any(
        has_content(choice.get("delta")) for choice in choices if isinstance(choice, dict)
    )


def _misplaced(part: dict[str, Any]) -> bool:
    index = part.get("index")
    return isinstance(index, (int, float)) and not 0 <= index <= MAX_INDEX
