"""The exception tree: who is whose child, what each error tells, that all can be pickled, and that none shows a key."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import routerkit
from routerkit import errors
from routerkit.core.failure import api_error, clean, detail_of, most_telling, remembered_error, request_id_of
from routerkit.core.verdict import OK, Signal, classify
from routerkit.errors import (
    AllModelsFailedError,
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ContentPolicyError,
    ContextLengthExceededError,
    DeadlineExceededError,
    EmptyResponseError,
    InternalServerError,
    InvalidRequestError,
    LimitExceededError,
    ModelNotFoundError,
    NoEligibleModelError,
    PaymentRequiredError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RouterKitError,
    StoreUnavailableError,
    StreamInterruptedError,
)
from routerkit.types.completion import Chunk
from routerkit.types.route import Attempt, Origin, Plan, Route, Skip, Target
from routerkit.types.verdict import Verdict

KEY = "sk-test-1234567890"
A, B = Target("openrouter", "a/one"), Target("openrouter", "b/two")
ROUTE = Route(attempts=(Attempt(A, Origin.REQUESTED, OK, 0.0, 1.0, 200),), duration=1.0)

PARENTS: dict[type[RouterKitError], tuple[type[BaseException], ...]] = {
    ConfigurationError: (RouterKitError, ValueError),
    InvalidRequestError: (RouterKitError, ValueError),
    APIError: (RouterKitError,),
    BadRequestError: (APIError,),
    ContextLengthExceededError: (BadRequestError,),
    ContentPolicyError: (BadRequestError,),
    AuthenticationError: (APIError,),
    PaymentRequiredError: (APIError,),
    PermissionDeniedError: (APIError,),
    ModelNotFoundError: (APIError,),
    RateLimitError: (APIError,),
    InternalServerError: (APIError,),
    APIConnectionError: (APIError,),
    APITimeoutError: (APIConnectionError, TimeoutError),
    ProtocolError: (APIError,),
    EmptyResponseError: (APIError,),
    DeadlineExceededError: (RouterKitError, TimeoutError),
    NoEligibleModelError: (RouterKitError,),
    AllModelsFailedError: (RouterKitError,),
    StreamInterruptedError: (RouterKitError,),
    LimitExceededError: (RouterKitError,),
    BudgetExceededError: (RouterKitError,),
    StoreUnavailableError: (RouterKitError,),
}
API_ERRORS = [kind for kind in PARENTS if issubclass(kind, APIError)]


def api(kind: type[APIError] = RateLimitError, **more: Any) -> APIError:
    fields = {"status_code": 429, "code": "rate_limited", "error_type": "rate_limit_exceeded", "model": "a/one"}
    return kind("it failed", **{**fields, "gateway": "openrouter", "retry_after": 7.5, "request_id": "req-1", **more})


def collective(*kinds: type[APIError]) -> AllModelsFailedError:
    failures = [api(kind) for kind in kinds or (InternalServerError, RateLimitError)]
    return AllModelsFailedError("all failed", errors=failures, cause=failures[-1], retry_after=3.0, route=ROUTE)


def interrupted() -> StreamInterruptedError:
    chunks = [Chunk({"choices": [{"delta": {"content": "Hel"}}]}), Chunk({"choices": []})]
    return StreamInterruptedError(
        "it broke off",
        chunks=chunks,
        partial_text="Hel",
        truncated=True,
        status_code=200,
        code="truncated",
        model="a/one",
        gateway="openrouter",
        retry_after=1.0,
        request_id="req-1",
        route=ROUTE,
    )


def samples() -> list[RouterKitError]:
    """One of each class, with everything that it can hold."""
    return [
        RouterKitError("plain"),
        ConfigurationError("wrong"),
        InvalidRequestError("refused"),
        *(api(kind, route=ROUTE) for kind in API_ERRORS),
        DeadlineExceededError("late", route=ROUTE),
        NoEligibleModelError(
            "none", plan=Plan((), (Skip(A, Origin.CATALOG, "no"),)), route=ROUTE, retry_after=2.0, rate_limited=True
        ),
        collective(),
        interrupted(),
        LimitExceededError("full", retry_at=5.0, route=ROUTE),
        BudgetExceededError("spent", retry_at=6.0, route=ROUTE),
        StoreUnavailableError("away"),
    ]


ONE_OF_EACH = pytest.mark.parametrize("error", samples(), ids=lambda error: type(error).__name__)


# --- the tree ---


def test_the_tree() -> None:
    for kind, parents in PARENTS.items():
        private = kind.__bases__[0].__name__.startswith("_")
        assert (kind.__bases__[0].__bases__ if private else kind.__bases__) == parents, kind
    public = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)}
    assert {kind for kind in public if not kind.__name__.startswith("_")} == {RouterKitError, *PARENTS}
    assert {type(error) for error in samples()} == {RouterKitError, *PARENTS}


def test_every_class_has_a_line_in_the_modules_tree() -> None:
    assert errors.__doc__ is not None
    for kind in PARENTS:
        assert kind.__name__ in errors.__doc__


def test_every_class_is_public() -> None:
    for kind in (RouterKitError, *PARENTS):
        assert getattr(routerkit, kind.__name__) is kind


def test_the_collective_error_is_an_ordinary_exception() -> None:
    assert not hasattr(AllModelsFailedError, "exceptions")
    assert AllModelsFailedError.__mro__[1:3] == (RouterKitError, Exception)


# --- what they tell ---


def test_an_api_error() -> None:
    error = api(route=ROUTE)
    assert (error.status_code, error.code, error.error_type) == (429, "rate_limited", "rate_limit_exceeded")
    assert (error.model, error.gateway, error.retry_after, error.request_id) == ("a/one", "openrouter", 7.5, "req-1")
    assert error.route is ROUTE
    assert str(error) == "it failed"
    assert error.args == ("it failed",)


def test_every_error_has_what_handlers_ask_for() -> None:
    for error in samples():
        for name in ("status_code", "code", "model", "gateway", "retry_after", "route"):
            getattr(error, name)
        assert isinstance(error.should_retry, bool)
        assert isinstance(error.rate_limited, bool)


RETRY = {RateLimitError, InternalServerError, APIConnectionError, APITimeoutError, ProtocolError, EmptyResponseError}
RETRY |= {DeadlineExceededError, NoEligibleModelError, AllModelsFailedError, StreamInterruptedError}
RETRY |= {LimitExceededError, BudgetExceededError, StoreUnavailableError}
LIMITED = {RateLimitError, NoEligibleModelError, AllModelsFailedError, LimitExceededError, BudgetExceededError}


@ONE_OF_EACH
def test_to_dict(error: RouterKitError) -> None:
    assert error.to_dict() == {
        "error": str(error),
        "status_code": error.status_code,
        "model": error.model,
        "should_retry": type(error) in RETRY,
        "rate_limited": type(error) in LIMITED,
    }


def test_the_other_errors_keep_what_they_are_given() -> None:
    every = {type(error): error for error in samples()}
    late, none, all_failed = every[DeadlineExceededError], every[NoEligibleModelError], every[AllModelsFailedError]
    assert (late.args, late.route) == (("late",), ROUTE)
    assert isinstance(none, NoEligibleModelError)
    assert (none.args, none.route, none.retry_after) == (("none",), ROUTE, 2.0)
    assert none.plan == Plan((), (Skip(A, Origin.CATALOG, "no"),))
    assert (all_failed.args, all_failed.route, all_failed.retry_after) == (("all failed",), ROUTE, 3.0)
    broken = interrupted()
    assert (broken.args, broken.route, broken.status_code) == (("it broke off",), ROUTE, 200)
    assert (broken.code, broken.model, broken.gateway) == ("truncated", "a/one", "openrouter")
    assert (broken.retry_after, broken.request_id) == (1.0, "req-1")
    assert not StreamInterruptedError("x").truncated
    for kind, message, retry_at in ((LimitExceededError, "full", 5.0), (BudgetExceededError, "spent", 6.0)):
        error = every[kind]
        assert isinstance(error, (LimitExceededError, BudgetExceededError))
        assert (error.args, error.retry_at, error.route) == ((message,), retry_at, ROUTE)


def test_the_collective_error_speaks_for_its_members() -> None:
    error = collective(InternalServerError, RateLimitError)
    assert (error.status_code, error.code, error.model, error.gateway) == (429, "rate_limited", "a/one", "openrouter")
    assert [type(each) for each in error.errors] == [InternalServerError, RateLimitError]
    assert error.__cause__ is error.errors[-1]
    assert error.rate_limited
    hopeless = collective(ModelNotFoundError, AuthenticationError)
    assert not hopeless.rate_limited
    assert not hopeless.to_dict()["should_retry"]
    assert collective(ModelNotFoundError, InternalServerError).to_dict()["should_retry"]


def test_no_eligible_model_is_worth_a_retry_when_time_helps() -> None:
    assert NoEligibleModelError("x", retry_after=2.0).to_dict()["should_retry"]
    assert not NoEligibleModelError("x").to_dict()["should_retry"]


def test_an_interrupted_stream_keeps_its_text_out_of_sight() -> None:
    error = interrupted()
    assert (error.partial_text, error.truncated, len(error.chunks)) == ("Hel", True, 2)
    for shown in (repr(error), str(error), repr(error.args), "".join(traceback.format_exception(error))):
        assert "Hel" not in shown


# --- pickling ---


def same(one: RouterKitError, other: RouterKitError) -> None:
    assert type(other) is type(one)
    assert str(other) == str(one)
    assert other.args == one.args
    assert other.to_dict() == one.to_dict()
    mine, theirs = dict(vars(one)), dict(vars(other))
    assert [str(each) for each in theirs.pop("errors", ())] == [str(each) for each in mine.pop("errors", ())]
    assert theirs == mine
    assert (other.__cause__ is None) == (one.__cause__ is None)
    if isinstance(one.__cause__, RouterKitError):
        assert isinstance(other.__cause__, RouterKitError)
        same(one.__cause__, other.__cause__)


@ONE_OF_EACH
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(error: RouterKitError, protocol: int) -> None:
    twin = pickle.loads(pickle.dumps(error, protocol))
    same(error, twin)
    same(error, pickle.loads(pickle.dumps(twin, protocol)))


@ONE_OF_EACH
def test_copying(error: RouterKitError) -> None:
    same(error, copy.copy(error))
    same(error, copy.deepcopy(error))


@ONE_OF_EACH
def test_pickling_with_a_chain_of_causes(error: RouterKitError) -> None:
    middle = api(InternalServerError, route=ROUTE)
    middle.__cause__ = api(APITimeoutError)
    error.__cause__ = middle
    twin = pickle.loads(pickle.dumps(error))
    same(error, twin)
    assert isinstance(twin.__cause__.__cause__, APITimeoutError)


def test_pickling_drops_a_foreign_cause_that_could_not_travel() -> None:
    class Local(Exception):
        pass

    error = api()
    error.__cause__ = Local(object())
    assert pickle.loads(pickle.dumps(error)).__cause__ is None


def test_what_was_raised_can_be_pickled() -> None:
    def broke() -> None:
        try:
            raise api(APIConnectionError)
        except APIConnectionError as cause:
            raise interrupted() from cause

    with pytest.raises(StreamInterruptedError) as caught:
        broke()
    same(caught.value, pickle.loads(pickle.dumps(caught.value)))


# --- made from verdicts ---


def refusal(status: int, message: str = "Refused", headers: dict[str, str] | None = None, **error: Any) -> Signal:
    return Signal(status=status, headers=headers or {}, body={"error": {"message": message, **error}})


def made(signal: Signal, target: Target = A) -> tuple[Verdict, APIError]:
    verdict = classify(signal)
    return verdict, api_error(verdict, signal, target)


KINDS = [
    (refusal(400), BadRequestError),
    (refusal(400, code="context_length_exceeded"), ContextLengthExceededError),
    (refusal(403, metadata={"reasons": ["x"]}), ContentPolicyError),
    (refusal(401), AuthenticationError),
    (refusal(402), PaymentRequiredError),
    (refusal(403), PermissionDeniedError),
    (refusal(404), ModelNotFoundError),
    (refusal(400, "x is not a valid model ID"), ModelNotFoundError),
    (refusal(408), APITimeoutError),
    (refusal(429), RateLimitError),
    (refusal(429, code="insufficient_quota"), RateLimitError),
    (refusal(500), InternalServerError),
    (refusal(502), InternalServerError),
    (refusal(503), InternalServerError),
    (refusal(504), APITimeoutError),
    (refusal(302), ProtocolError),
    (refusal(422), BadRequestError),
    (Signal(status=503, text=b"<html>"), ProtocolError),
]


@pytest.mark.parametrize(("signal", "kind"), KINDS, ids=[row[1].__name__ for row in KINDS])
def test_the_class_follows_the_verdict(signal: Signal, kind: type[APIError]) -> None:
    verdict, error = made(signal)
    assert type(error) is kind
    assert error.code == verdict.code
    assert error.status_code == signal.status


def test_a_message_says_what_happened_where_and_what_to_do() -> None:
    signal = refusal(429, "Slow down", {"retry-after": "12", "x-request-id": "req-9"}, type="rate_limit_error")
    _, error = made(signal)
    assert str(error) == (
        "a/one on openrouter: too many requests; slow down or add fallback models (HTTP 429); it asks to wait 12 s: Slow down"
    )
    assert (error.retry_after, error.request_id, error.error_type) == (12, "req-9", "rate_limit_error")


@pytest.mark.parametrize(
    ("signal", "retry_after"),
    [
        (refusal(429), 5),
        (refusal(429, headers={"retry-after": "9"}), 9),
        (refusal(429, headers={"retry-after": "4000"}), 4000),
        (refusal(500), None),
        (refusal(401), None),
        (refusal(404), None),
    ],
)
def test_retry_after_is_when_waiting_helps(signal: Signal, retry_after: float | None) -> None:
    assert made(signal)[1].retry_after == retry_after


def test_an_error_about_a_model_that_was_not_asked() -> None:
    error = remembered_error(classify(refusal(429)), 429, A, "rests after rate_limited", 3.25)
    assert type(error) is RateLimitError
    assert (error.status_code, error.code, error.model, error.retry_after) == (429, "rate_limited", "a/one", 3.25)
    assert str(error).startswith("a/one on openrouter: not asked for another 3.2 s (rests after rate_limited): ")


def test_the_most_telling_error() -> None:
    ranked = [
        refusal(401),
        refusal(400),
        refusal(404, availability={"code": "privacy_restricted"}),
        refusal(429, headers={"retry-after": "3"}),
        refusal(429, headers={"retry-after": "9"}),
        refusal(503, headers={"retry-after": "1"}),
        refusal(500),
        refusal(504),
    ]
    failures = [made(signal) for signal in ranked]
    while failures:
        assert most_telling(failures[::-1]) is failures[0][1]
        failures.pop(0)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-generation-id": "gen-1", "x-request-id": "req-1"}, "gen-1"),
        ({"x-request-id": "req-1", "cf-ray": "ray"}, "req-1"),
        ({"cf-ray": "ray"}, "ray"),
        ({"x-request-id": "a\x1b[31m"}, "a\\x1b[31m"),
        ({"x-request-id": ""}, None),
        ({}, None),
    ],
)
def test_request_ids(headers: dict[str, str], expected: str | None) -> None:
    assert request_id_of(headers) == expected


# --- what they must not tell ---


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain", "plain"),
        ("naïve — 日本", "naïve — 日本"),
        ("two\nlines\t\x00", "two\\nlines\\t\\x00"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("x" * 300, "x" * 300),
        ("x" * 301, "x" * 300 + "…"),
        ("\n" * 10_000, "\\n" * 150 + "…"),
        (None, ""),
        (5, ""),
        (["x"], ""),
    ],
)
def test_the_gateways_words_are_cleaned(said: Any, shown: str) -> None:
    assert clean(said) == shown
    assert detail_of(refusal(400, said)) == shown


@given(st.text())
def test_cleaned_words_are_one_short_line(said: str) -> None:
    shown = clean(said)
    assert shown.isprintable()
    assert len(shown) <= 301


@pytest.mark.parametrize("name", ["reasons", "patterns", "flagged_input"])
def test_moderation_does_not_repeat_the_prompt(name: str) -> None:
    signal = refusal(403, "flagged: my secret", metadata={name: ["my secret"]})
    assert detail_of(signal) == ""
    assert "my secret" not in str(made(signal)[1])


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, f"Incorrect API key provided: {KEY}. You can find your key at https://example.com."),
        (401, f"Invalid key '{KEY}'"),
        (400, f"Received API Key = {KEY}, Key Hash = abc"),
        (403, f"Authorization: Bearer {KEY} is not allowed"),
        (500, f"KeyError: 'Bearer {KEY}'"),
        (401, "no such token: a1b2c3d4e5f6"),
    ],
)
def test_a_gateway_that_repeats_the_key_is_not_quoted(status: int, message: str) -> None:
    _, error = made(refusal(status, message))
    for shown in (str(error), repr(error), str(error.to_dict()), str(pickle.dumps(error))):
        assert KEY not in shown
        assert "a1b2c3d4e5f6" not in shown
    assert "<redacted>" in str(error)


def test_other_words_are_quoted() -> None:
    assert detail_of(refusal(400, "max_tokens 4096 is above 2048 for gpt-4o-2024-08-06")).endswith("gpt-4o-2024-08-06")
    assert detail_of(refusal(401, "User not found.")) == "User not found."


def test_what_upstream_says_is_no_format(caplog: pytest.LogCaptureFixture) -> None:
    _, error = made(refusal(400, "%s %d {0} {error}"))
    with caplog.at_level(logging.ERROR):
        logging.getLogger("routerkit.test").error("%s", error)
    assert "%s %d {0} {error}" in caplog.text
