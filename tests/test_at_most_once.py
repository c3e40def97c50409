"""`RetryPolicy(at_most_once=True)`: a call ends with the first attempt that may have been processed."""

from __future__ import annotations

import pytest

from routerkit import RetryPolicy
from routerkit.testing import FaultServer, closed_port
from routerkit.testing import replies as r
from routerkit.types.verdict import Billing
from tests.support.facades import FACADES, KEY, check
from tests.support.scenarios import QUICK, A, Ask, B, Scenario, story

ONCE = RetryPolicy(at_most_once=True)
EMPTY = r.json_body({"choices": []})

MAY_HAVE_BEEN_PROCESSED = {
    "reset": (r.reset_before_reply(), f"{A} - connection_lost", "APIConnectionError"),
    "truncated": (r.truncated_body(), f"{A} 200 truncated", "APIConnectionError"),
    "500": (r.error(500), f"{A} 500 server_error", "InternalServerError"),
    "504": (r.error(504), f"{A} 504 upstream_timeout", "APITimeoutError"),
    "hang": (r.hang(), f"{A} - first_byte_timeout", "APITimeoutError"),
    "empty": (EMPTY, f"{A} 200 empty", "EmptyResponseError"),
}
WAS_REFUSED = {
    "429": (r.error(429), f"{A} 429 rate_limited"),
    "503": (r.error(503), f"{A} 503 overloaded"),
    "unknown": (r.error(404, message="no such model"), f"{A} 404 model_not_found"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("name", MAY_HAVE_BEEN_PROCESSED)
def test_what_may_have_been_processed_is_the_end(name: str, stream: bool) -> None:
    reply, attempt, error = MAY_HAVE_BEEN_PROCESSED[name]
    if stream and name == "truncated":
        reply = story(r.cut())
    ask = Ask([attempt], error, stream=stream, timeouts=QUICK)
    check(Scenario(name, {A: [reply]}, [ask]), retry=ONCE)


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("name", WAS_REFUSED)
def test_what_was_refused_goes_on(name: str, stream: bool) -> None:
    reply, attempt = WAS_REFUSED[name]
    ask = Ask([attempt, f"{B} 200 ok"], f"Hello from {B}", stream=stream)
    check(Scenario(name, {A: [reply]}, [ask]), retry=ONCE)


def test_an_idle_connection_that_was_closed_is_not_made_anew() -> None:
    """The request may have been read before it was closed."""
    for facade in FACADES.values():
        with FaultServer() as server, facade(base_url=server.url, retry=ONCE) as caller:
            server.script(A, r.stale_keepalive(), r.completion())
            caller.complete(model=A)
            with pytest.raises(Exception, match="closed an idle connection") as caught:
                caller.complete(model=A, fallback_models=[B])
            assert len(caught.value.route.attempts) == 1
            assert caught.value.route.billing is Billing.POSSIBLE
            assert server.models_asked.count(B) == 0


def test_what_was_not_sent_is_tried_once_more() -> None:
    """A connection that cannot be made costs nothing, so it is made once more, as ever."""
    for facade in FACADES.values():
        with facade(base_url=f"http://127.0.0.1:{closed_port()}/v1", api_key=KEY, retry=ONCE) as caller:
            with pytest.raises(Exception, match="no connection to the gateway") as caught:
                caller.complete(model=A, fallback_models=[B])
            assert caught.value.route.billing is Billing.NONE
