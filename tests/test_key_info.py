"""What a gateway tells of a key: asked for once, read tolerantly, and never with the key in it."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import attrs
import orjson
import pytest

from routerkit import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    DeadlineExceededError,
    InternalServerError,
    InvalidRequestError,
    ProtocolError,
    RateLimitError,
    RouterKitError,
    __version__,
)
from routerkit.core.key_info import parse_key_info, read_key_info
from routerkit.gateways import OPENROUTER
from routerkit.testing import replies as r
from routerkit.testing.faults import network_fault
from routerkit.types.gateway import Gateway
from routerkit.types.key_info import KeyInfo, RateLimit
from routerkit.types.policy import Timeouts
from routerkit.types.secret import Credential, Secret
from tests.support.virtual import VirtualGateway

KEY = "sk-or-v1-1234567890abcdef"
SECRET = Secret(KEY)
GATEWAY = attrs.evolve(OPENROUTER, base_url="http://127.0.0.1:1/api/v1")
TOLD = {
    "byok_usage": 17.38,
    "creator_user_id": "user_2dHFtVWx2n56w6HkM0000000000",
    "expires_at": "2027-12-31T23:59:59Z",
    "is_free_tier": False,
    "is_management_key": False,
    "label": "sk-or-v1-au7...890",
    "limit": 100,
    "limit_remaining": 74.5,
    "limit_reset": "monthly",
    "rate_limit": {"interval": "1h", "note": "This field is deprecated and safe to ignore.", "requests": 1000},
    "usage": 25.5,
    "usage_daily": 0.1,
    "usage_monthly": 25.5,
    "usage_weekly": 3e-07,
}
"""The example of OpenRouter's OpenAPI description, with other figures."""
CREDITS = {"total_credits": 100.5, "total_usage": 25.75}


class World:
    """A gateway that tells of keys, and one client's way to ask."""

    def __init__(self, key: Any = TOLD, account: Any = CREDITS, gateway: Gateway = GATEWAY) -> None:
        self.gateway = gateway
        self.virtual = VirtualGateway()
        self.answer("/key", key)
        self.answer("/credits", account)

    def answer(self, path: str, answer: Any) -> None:
        self.virtual.route("GET", path, answer if callable(answer) else r.json_body({"data": answer}))

    def ask(self, timeouts: Timeouts = Timeouts(total=10)) -> KeyInfo:
        credential = Credential(SECRET, self.gateway.base_url)
        _, info = self.virtual.run(read_key_info(self.gateway, credential, timeouts, self.virtual.runtime))
        assert isinstance(info, KeyInfo)
        return info

    def error(self, kind: type[RouterKitError], **more: Any) -> Any:
        with pytest.raises(kind) as caught:
            self.ask(**more)
        assert type(caught.value) is kind
        assert KEY not in str(caught.value)
        return caught.value

    @property
    def asked(self) -> list[str]:
        return [request.path for request in self.virtual.requests]


# --- asking ---


def test_the_key_and_the_credits() -> None:
    world = World()
    info = world.ask()
    assert world.asked == ["/api/v1/key", "/api/v1/credits"]
    assert [(each.method, each.api_key, each.body) for each in world.virtual.requests] == [("GET", KEY, b"")] * 2
    assert info == KeyInfo(
        gateway="openrouter",
        fingerprint=SECRET.fingerprint,
        label="sk-or-v1-au7...890",
        limit=Decimal(100),
        limit_remaining=Decimal("74.5"),
        limit_reset="monthly",
        usage=Decimal("25.5"),
        usage_daily=Decimal("0.1"),
        usage_weekly=Decimal("0.0000003"),
        usage_monthly=Decimal("25.5"),
        is_free_tier=False,
        expires_at="2027-12-31T23:59:59Z",
        rate_limit=RateLimit(1000, "1h"),
        total_credits=Decimal("100.5"),
        total_usage=Decimal("25.75"),
    )
    assert info.balance == Decimal("74.75")
    assert info.raw == {"key": TOLD, "credits": CREDITS}


def test_it_becomes_plain_values_for_json() -> None:
    told = orjson.loads(orjson.dumps(World().ask().to_dict()))
    assert told == {
        "gateway": "openrouter",
        "fingerprint": SECRET.fingerprint,
        "label": "sk-or-v1-au7...890",
        "limit": "100",
        "limit_remaining": "74.5",
        "limit_reset": "monthly",
        "usage": "25.5",
        "usage_daily": "0.1",
        "usage_weekly": "0.0000003",
        "usage_monthly": "25.5",
        "is_free_tier": False,
        "expires_at": "2027-12-31T23:59:59Z",
        "rate_limit": {"requests": 1000, "interval": "1h"},
        "total_credits": "100.5",
        "total_usage": "25.75",
        "balance": "74.75",
    }


@pytest.mark.parametrize("status", [401, 403, 404])
def test_credits_that_are_told_to_other_keys_only_are_not_told(status: int) -> None:
    info = World(account=r.error(status, message="Only management keys can perform this operation")).ask()
    assert (info.total_credits, info.total_usage, info.balance) == (None, None, None)
    assert info.usage == Decimal("25.5")
    assert info.raw["credits"] is None


def test_credits_that_fail_are_an_error() -> None:
    error = World(account=r.error(500)).error(InternalServerError)
    assert str(error).startswith("/credits on openrouter: ")


def test_a_gateway_without_credits_is_not_asked_for_them() -> None:
    world = World(gateway=attrs.evolve(GATEWAY, credits_path=None))
    assert (world.ask().total_credits, world.asked) == (None, ["/api/v1/key"])


def test_a_gateway_that_tells_nothing_about_keys_is_not_asked() -> None:
    world = World(gateway=Gateway(name="local", base_url="http://127.0.0.1:1/v1"))
    assert "'local': it tells nothing about keys" in str(world.error(InvalidRequestError))
    assert world.asked == []


def test_a_key_that_is_refused() -> None:
    error = World(key=r.error(401, message=f"No auth credentials found: {KEY}")).error(AuthenticationError)
    assert (error.status_code, error.code, error.gateway) == (401, "authentication", "openrouter")
    assert str(error).startswith("/key on openrouter: the gateway refused the API key; check or replace it (HTTP 401)")


def test_too_many_questions() -> None:
    error = World(key=r.error(429, headers={"Retry-After": "7"})).error(RateLimitError)
    assert error.retry_after == 7


def test_an_error_with_status_200() -> None:
    answer = r.json_body({"error": {"code": 401, "message": "User not found."}})
    assert World(key=answer).error(AuthenticationError).status_code == 200


@pytest.mark.parametrize("answer", [r.json_body([]), r.json_body({"data": [1]}), r.raw(b"HTTP/1.1 200 OK\r\n\r\n{")])
def test_an_answer_that_tells_nothing(answer: Any) -> None:
    assert World(key=answer).error(ProtocolError).code == "malformed"


def test_a_page_instead_of_an_answer() -> None:
    assert World(key=r.html(200)).error(ProtocolError).code == "not_an_api"


def test_no_connection() -> None:
    error = World(key=network_fault("refused")).error(APIConnectionError)
    assert "no connection to the gateway" in str(error)


def test_a_connection_that_was_closed_while_idle_is_opened_anew() -> None:
    world = World(key=r.sequence(r.stale_keepalive(r.json_body({"data": TOLD})), r.json_body({"data": TOLD})))
    assert world.ask().usage == Decimal("25.5")
    assert world.asked == ["/api/v1/key", "/api/v1/credits", "/api/v1/credits"]


def test_no_answer_within_the_time_for_its_first_byte() -> None:
    error = World(key=r.hang()).error(APITimeoutError, timeouts=Timeouts(first_byte=3, total=10))
    assert error.code == "first_byte_timeout"


def test_no_answer_within_the_whole_time() -> None:
    world = World(key=r.hang())
    error = world.error(DeadlineExceededError, timeouts=Timeouts(first_byte=30, total=10))
    assert str(error) == "no time left to wait for /key of OpenRouter"
    assert world.virtual.runtime.now == pytest.approx(1010)


def test_both_questions_share_the_time() -> None:
    def late(connection: Any, request: Any) -> None:
        connection.wait(6)
        r.json_body({"data": TOLD})(connection, request)

    world = World(key=late, account=r.hang())
    error = world.error(DeadlineExceededError, timeouts=Timeouts(total=10))
    assert str(error) == "no time left to wait for /credits of OpenRouter"
    assert world.virtual.runtime.now == pytest.approx(1010)


def test_no_time_is_left_for_the_second_question() -> None:
    world = World()
    runtime = world.virtual.runtime

    def slow(connection: Any, request: Any) -> None:
        r.json_body({"data": TOLD})(connection, request)
        runtime.advance(10)  # as when this process stands still

    world.answer("/key", slow)
    world.error(DeadlineExceededError)
    assert world.asked == ["/api/v1/key"]


# --- reading ---


def read(account: dict[str, Any] | None = None, **key: Any) -> KeyInfo:
    return parse_key_info(GATEWAY, SECRET, key, account)


def test_nothing_told_is_nothing_known() -> None:
    info = read()
    assert info == KeyInfo(gateway="openrouter", fingerprint=SECRET.fingerprint)
    assert set(info.to_dict().values()) == {"openrouter", SECRET.fingerprint, None}


@pytest.mark.parametrize("nonsense", [None, True, "12", [1], {}, -0.5, 1e13, 10**30, float("inf"), float("nan")])
def test_figures_that_are_nonsense_are_unknown(nonsense: Any) -> None:
    names = ("limit", "usage", "usage_daily", "usage_weekly", "usage_monthly")
    info = read({"total_credits": nonsense, "total_usage": nonsense}, **dict.fromkeys(names, nonsense))
    assert info == read()


def test_more_may_be_spent_than_a_limit_or_the_credits_allow() -> None:
    info = read({"total_credits": 5, "total_usage": 5.3}, limit_remaining=-0.25)
    assert (info.limit_remaining, info.balance) == (Decimal("-0.25"), Decimal("-0.3"))
    assert read(limit_remaining=-1e13).limit_remaining is None
    assert read({"total_credits": 5}).balance is None


@pytest.mark.parametrize(
    "rate", [None, 5, {}, {"requests": -1, "interval": "10s"}, {"requests": True}, {"requests": "5"}]
)
def test_a_rate_limit_that_tells_nothing(rate: Any) -> None:
    assert read(rate_limit=rate).rate_limit is None


def test_a_rate_limit_without_interval() -> None:
    assert read(rate_limit={"requests": 0, "interval": 10}).rate_limit == RateLimit(0)


def test_words_that_are_none() -> None:
    info = read(label=5, limit_reset="", expires_at=None, is_free_tier="no")
    assert (info.label, info.limit_reset, info.expires_at, info.is_free_tier) == (None, None, None, None)


def test_words_are_fit_for_a_log() -> None:
    assert read(label="my key\n\x1b[31m").label == "my key\\n\\x1b[31m"


def test_what_a_gateway_repeats_of_the_key_is_nowhere_in_what_it_told() -> None:
    notes = ["fine", f"key {KEY}", {"deep": [{KEY: 1}, KEY]}]
    info = World({**TOLD, "notes": notes}, {**CREDITS, "of": KEY}).ask()
    told = {"deep": [{"<redacted>": 1}, "<redacted>"]}
    assert info.raw["key"] == {**TOLD, "notes": ["fine", "key <redacted>", told]}
    assert info.raw["credits"] == {**CREDITS, "of": "<redacted>"}


@pytest.mark.parametrize("nested", [lambda inner: [inner], lambda inner: {"in": inner}], ids=["lists", "objects"])
def test_nonsense_in_nonsense_is_left_out(nested: Any) -> None:
    """As deep as twenty things in one another is kept."""
    kept: Any = "end"
    for _ in range(19):
        kept = nested(kept)
    assert World({"x": kept}).ask().raw["key"] == {"x": kept}
    assert "end" not in repr(World({"x": nested(kept)}).ask().raw["key"])


def test_an_error_repeats_no_key_however_it_looks() -> None:
    world = World(key=r.error(400, message="swordfish may not do that"))
    credential = Credential(Secret("swordfish"), GATEWAY.base_url)
    with pytest.raises(BadRequestError, match="<redacted> may not do that"):
        world.virtual.run(read_key_info(GATEWAY, credential, Timeouts(), world.virtual.runtime))


def test_without_a_key_there_is_no_fingerprint() -> None:
    world = World({"label": "open"})
    _, info = world.virtual.run(read_key_info(GATEWAY, None, Timeouts(), world.virtual.runtime))
    assert (info.fingerprint, info.label) == ("", "open")
    assert [request.header("authorization") for request in world.virtual.requests] == [None, None]


def test_a_limit_of_nothing_is_known() -> None:
    assert read(limit=0, usage=0).limit == read(limit=0, usage=0).usage == 0


def test_json_is_asked_for() -> None:
    world = World()
    world.ask()
    assert {request.header("accept") for request in world.virtual.requests} == {"application/json"}


def test_who_asks_is_told() -> None:
    """And not a word of the HTTP library's instead."""
    world = World()
    world.ask()
    assert {request.header("user-agent") for request in world.virtual.requests} == {f"routerkit/{__version__}"}


def test_when_to_come_back_may_be_a_date() -> None:
    world = World()
    back = format_datetime(datetime.fromtimestamp(world.virtual.runtime.wall() + 30, timezone.utc), usegmt=True)
    world.answer("/key", r.error(429, headers={"Retry-After": back}))
    assert world.error(RateLimitError).retry_after == pytest.approx(30, abs=1)
