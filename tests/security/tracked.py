"""Prints as JSON what sentry-sdk would have sent of calls that failed, with everything on that can tell more than it should.

It sees local variables, request bodies, personal data, logs and traces, and its own scrubber is off: what is hidden, we hide.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import Any

import sentry_sdk
from sentry_sdk import serializer
from sentry_sdk.envelope import Envelope
from sentry_sdk.scrubber import EventScrubber
from sentry_sdk.transport import Transport

from tests.security.canaries import KEY, PROMPT, is_ours, leaks
from tests.security.troubles import CASES, ask, gateway

NAMES = (
    "connection refused",
    "an unknown authority",
    "401 that quotes the key",
    "403 that quotes the prompt",
    "500",
    "bad JSON",
    "body cut",
    "no first byte",
    "deadline",
    "stream cut",
    "error in a stream",
    "a header of the caller",
    "a request that is no JSON",
    "Ctrl-C",
    "cancelled",
    "each of two keys refused",
    "two gateways fail",
    "two gateways refuse a tenant's keys",
    "a tenant's stream cut",
    "no such tenant",
    "news of a tenant's credits refused",
    "a strategy that fails, and all models",
)

PAIRS = (("sync", "complete"), ("async", "stream"))
"""Of a trouble that comes in several kinds, those that are looked at."""

sent: list[Envelope] = []


class Capture(Transport):
    """Sends nothing, keeps all."""

    def capture_envelope(self, envelope: Envelope) -> None:
        sent.append(envelope)


def track(error: BaseException) -> dict[str, list[str]]:
    """Report an exception in both ways that programs use, and look at what would have gone out."""
    logging.getLogger("app").error("it failed: %s", error, exc_info=error)
    sentry_sdk.capture_exception(error)
    sentry_sdk.flush()
    events = [event for envelope in sent if (event := envelope.get_event()) is not None]
    said = [("an envelope", envelope.serialize().decode("utf-8", "replace")) for envelope in sent]
    seen = {
        "events": [str(event.get("level")) for event in events],
        "leaks": leaks(said),
        "locals": [name for event in events for frame in _frames(event) for name in frame.get("vars", ())],
    }
    sent.clear()
    return seen


def _frames(event: Any) -> list[Any]:
    values = event.get("exception", {}).get("values", ())
    return [
        frame
        for value in values
        for frame in value.get("stacktrace", {}).get("frames", ())
        if is_ours(frame["abs_path"])
    ]


def careless() -> None:
    headers, messages = {"Authorization": f"Bearer {KEY}"}, [{"content": PROMPT}]
    raise ValueError(len(headers), len(messages))


def main() -> None:
    serializer.MAX_DATABAG_BREADTH = serializer.MAX_DATABAG_DEPTH = 100  # else it looks at ten locals of a frame
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of send_default_pii, which older versions know alone
        sentry_sdk.init(
            dsn="https://public@sentry.invalid/1",
            transport=Capture,
            include_local_variables=True,
            max_request_body_size="always",
            send_default_pii=True,
            traces_sample_rate=1.0,
            event_scrubber=EventScrubber(denylist=[], pii_denylist=[]),
        )
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger().addHandler(logging.NullHandler())
    told = {}
    for case, (facade, kind, trouble) in CASES.items():
        if trouble.name not in NAMES or (len(trouble.kinds) > 1 and (facade, kind) not in PAIRS):
            continue
        with gateway(trouble) as (url, server), sentry_sdk.start_transaction(name=case):
            try:
                ask(facade, kind, trouble, url, server, lambda _: None)
            except BaseException as error:
                caught = error
        told[case] = track(caught)
    try:
        careless()
    except ValueError as error:
        told["control"] = track(error)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
