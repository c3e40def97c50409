"""Wait hints: each rule a row, hostile values, never an exception, and all sources agree."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routerkit.core.hints import MAX_SECONDS, Hint, parse_hint

NOW = 1_741_305_540.0  # 2025-03-06 23:59:00 UTC, one minute before 1741305600000 ms
DAY = 86_400.0


def http_date(epoch: float) -> str:
    return format_datetime(datetime.fromtimestamp(epoch, timezone.utc), usegmt=True)


def rfc_850(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, timezone.utc).strftime("%A, %d-%b-%y %H:%M:%S GMT")


def asctime(epoch: float) -> str:
    return time.asctime(time.gmtime(epoch))


def rfc_3339(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, timezone.utc).isoformat().replace("+00:00", "Z")


def in_body(value: Any, name: str = "X-RateLimit-Reset") -> dict[str, Any]:
    return {"error": {"metadata": {"headers": {name: value}}}}


def available_after(value: Any) -> dict[str, Any]:
    return {"error": {"availability": {"retry_after": value}}}


def hint(seconds: float, source: str) -> Hint:
    return Hint(pytest.approx(seconds, abs=1e-6), source)


# --- numbers ---

NUMBERS = {
    "2": 2.0,
    "1.5": 1.5,
    "007": 7.0,
    "0.000001": 0.000001,
    " 3\t": 3.0,
    "\r\n4\v\f": 4.0,
    " " * 100 + "5": 5.0,
    "86400": DAY,
    "86401": DAY,
    "1000000000": DAY,
    "9999999999999": DAY,
    "9999999999999.999999": DAY,
}
NOT_NUMBERS = [
    "",
    " ",
    "0",
    "0.0",
    "-0",
    "-5",
    "+5",
    "1e9",
    "1E3",
    "1e308",
    "inf",
    "Infinity",
    "nan",
    "１２",
    "٣",
    "²",
    "\u00a05",
    "5\u2003",
    "5\0",
    "5\n6",
    "1_000",
    "1,5",
    "1, 2",
    ".5",
    "5.",
    "1.1234567",
    "0x10",
    "5 s",
    "soon",
    "true",
    "9" * 14,
    "9" * 40,
    "9" * 10_240,
    "0" * 32 + "5",
    "5" + " " * 40 + "5",
]


@pytest.mark.parametrize(("text", "seconds"), NUMBERS.items())
def test_numbers(text: str, seconds: float) -> None:
    assert parse_hint({"retry-after": text}, None, NOW) == hint(seconds, "retry-after")
    assert parse_hint({}, available_after(text), NOW) == hint(seconds, "availability.retry_after")
    assert parse_hint({"x-ratelimit-reset-tokens": text}, None, NOW) == hint(seconds, "x-ratelimit-reset-tokens")


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_what_is_no_number_is_no_hint_anywhere(text: str) -> None:
    headers = {
        "retry-after-ms": text,
        "retry-after": text,
        "x-ratelimit-reset": text,
        "x-ratelimit-reset-requests": text,
        "x-ratelimit-reset-tokens": text,
        "anthropic-ratelimit-tokens-reset": text,
    }
    body = {"error": {**available_after(text)["error"], **in_body(text)["error"]}}
    assert parse_hint(headers, body, NOW) is None
    assert parse_hint({**headers, "x-ratelimit-reset-tokens": "7s"}, body, NOW) == hint(7, "x-ratelimit-reset-tokens")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3, 3),
        (2.5, 2.5),
        (1e-9, 1e-9),
        (9_999_999_999_999, DAY),
        (0, None),
        (0.0, None),
        (-1, None),
        (-0.0, None),
        (10_000_000_000_000, None),
        (10**400, None),
        (float("inf"), None),
        (float("nan"), None),
        (1e300, None),
        (True, None),
        (None, None),
        ([3], None),
        ({"seconds": 3}, None),
        (b"3", None),
    ],
)
def test_json_numbers(value: Any, seconds: float | None) -> None:
    found = parse_hint({}, available_after(value), NOW)
    assert found == (None if seconds is None else Hint(pytest.approx(seconds), "availability.retry_after"))


def test_a_number_in_a_body_is_cut_to_a_day_and_an_epoch_only_for_the_reset() -> None:
    assert parse_hint({"retry-after": "1741305600"}, None, NOW) == Hint(MAX_SECONDS, "retry-after")
    assert parse_hint({}, available_after(1741305600), NOW) == Hint(MAX_SECONDS, "availability.retry_after")
    assert parse_hint({"x-ratelimit-reset": "1741305600"}, None, NOW) == hint(60, "x-ratelimit-reset")


# --- dates, durations, resets ---

DATES = {
    "Fri, 07 Mar 2025 00:00:00 GMT": 60,
    "Friday, 07-Mar-25 00:00:00 GMT": 60,
    "Fri Mar  7 00:00:00 2025": 60,
    "Fri Mar 7 00:00:00 2025": 60,
    "Fri, 07 Mar 2025 00:00:00": 60,  # no zone: UTC
    "Fri, 07 Mar 2025 00:00:00 UTC": 60,
    "Fri, 07 Mar 2025 01:30:00 +0130": 60,
    "Thu, 06 Mar 2025 23:30:00 -0030": 60,
    "Mon, 7 mar 2025 00:00:00 GMT": 60,  # not our business to check weekdays
    "Thu, 06 Mar 2025 23:59:60 GMT": 59,  # a leap second
    "Fri, 31 Dec 2115 23:59:59 GMT": DAY,
    "Fri, 31 Dec 9999 23:59:59 GMT": DAY,
    "Wed, 21 Oct 2015 07:28:00 GMT": None,
    "Sunday, 06-Nov-94 08:49:37 GMT": None,
    "Thu, 06 Mar 2025 23:59:00 GMT": None,  # now
    "Fri, 07 Mar 0000 00:00:00 GMT": None,
    "Wed, 99 Foo": None,
    "Sun, 30 Feb 2025 00:00:00 GMT": None,
    "Fri, 07 Foo 2025 00:00:00 GMT": None,
    "Fri, 07 Mar 2025 24:00:00 GMT": None,
    "Fri, 07 Mar 2025 00:60:00 GMT": None,
    "Fri, 07 Mar 2025 00:00:00 +9900": None,
    "Fri, 07 Mar 2025 00:00:00 PST": None,
    "Fri, ٠٧ Mar 2025 00:00:00 GMT": None,
    "Fri, 07 Mar 2025 00:00:00 GMT" + "x" * 10_240: None,
    "2025-03-07T00:00:00Z": None,
}
DURATIONS = {
    "6m0s": 360,
    "12ms": 0.012,
    "1h2m3.5s": 3723.5,
    "2.5µs": 2.5e-6,
    "25us": 25e-6,
    "5000ns": 5e-6,
    "1.123456789s": 1.123456789,
    "7": 7,
    " 7s ": 7,
    "9999999999999h" * 4: DAY,
    "0s": None,
    "-6m0s": None,
    "6m 0s": None,
    "6m0": None,
    "1d": None,
    "６s": None,
    "1s" * 50_000: None,
}
RESETS = {
    "60": 60,
    "60.5": 60.5,
    "999999999": DAY,
    "1000000000": None,
    "1741305600": 60,
    "1741305600.25": 60.25,
    "1741305540": None,
    "99999999999": DAY,
    "100000000000": None,
    "1741305600000": 60,
    "1741305539999": None,
    "9999999999999": DAY,
}
TIMESTAMPS = {
    "2025-03-07T00:00:00Z": 60,
    "2025-03-07t00:00:00z": 60,
    "2025-03-07 00:00:00Z": 60,
    "2025-03-07T00:00:00.5Z": 60.5,
    "2025-03-07T00:00:00.123456789Z": 60.123457,
    "2025-03-07T01:00:00+01:00": 60,
    "2025-03-06T22:30:00-01:30": 60,
    "2025-03-07T00:00:00": 60,
    "9999-12-31T23:59:59Z": DAY,
    "2025-03-06T23:59:00Z": None,
    "2025-03-07T00:00:00+24:00": None,
    "2025-13-07T00:00:00Z": None,
    "2025-03-07": None,
    "Fri, 07 Mar 2025 00:00:00 GMT": None,
}


def expected(seconds: float | None, source: str) -> Hint | None:
    return None if seconds is None else hint(seconds, source)


@pytest.mark.parametrize(("text", "seconds"), DATES.items())
def test_http_dates(text: str, seconds: float | None) -> None:
    assert parse_hint({"retry-after": text}, None, NOW) == expected(seconds, "retry-after")
    assert parse_hint({"retry-after-ms": text}, None, NOW) is None


@pytest.mark.parametrize("source", ["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"])
@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_go_durations(text: str, seconds: float | None, source: str) -> None:
    assert parse_hint({source: text}, None, NOW) == expected(seconds, source)


@pytest.mark.parametrize(("text", "seconds"), RESETS.items())
def test_resets_are_told_apart_by_magnitude(text: str, seconds: float | None) -> None:
    assert parse_hint({"x-ratelimit-reset": text}, None, NOW) == expected(seconds, "x-ratelimit-reset")
    for value in (text, float(text)):
        assert parse_hint({}, in_body(value), NOW) == expected(seconds, "error.metadata.headers")


@pytest.mark.parametrize("kind", ["requests", "tokens", "input-tokens", "output-tokens"])
@pytest.mark.parametrize(("text", "seconds"), TIMESTAMPS.items())
def test_timestamps(text: str, seconds: float | None, kind: str) -> None:
    source = f"anthropic-ratelimit-{kind}-reset"
    assert parse_hint({source: text}, None, NOW) == expected(seconds, source)


# --- the sources ---


@pytest.mark.parametrize(("text", "seconds"), [("1500", 1.5), ("0.5", 0.0005), ("9999999999999", DAY)])
def test_milliseconds(text: str, seconds: float) -> None:
    assert parse_hint({"retry-after-ms": text}, None, NOW) == hint(seconds, "retry-after-ms")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X-RateLimit-Reset": "60"}, 60),
        ({"x-RATELIMIT-reset": "60"}, 60),
        ({"X-RateLimit-Limit": "20", "X-RateLimit-Reset": "60"}, 60),
        ({"X-RateLimit-Reset": "?", "x-ratelimit-reset": "6"}, 6),
        ({"X-RateLimit-Limit": "60"}, None),
        ({"X-RateLimit-Reset ": "60"}, None),
        ({17: "60"}, None),
    ],
)
def test_header_names_in_a_body(headers: dict[Any, Any], seconds: float | None) -> None:
    body = {"error": {"metadata": {"headers": headers}}}
    assert parse_hint({}, body, NOW) == expected(seconds, "error.metadata.headers")


def test_only_the_first_headers_in_a_body_are_looked_at() -> None:
    def padded(count: int) -> dict[str, Any]:
        pad = {f"X-Pad-{n}": "1" for n in range(count)}
        return {"error": {"metadata": {"headers": {**pad, "X-RateLimit-Reset": "9"}}}}

    assert parse_hint({}, padded(63), NOW) == hint(9, "error.metadata.headers")
    assert parse_hint({}, padded(64), NOW) is None


@pytest.mark.parametrize(
    ("requests", "tokens", "seconds", "longer"),
    [
        ("12ms", "6s", 6, "tokens"),
        ("1m", "6s", 60, "requests"),
        ("?", "6s", 6, "tokens"),
        ("1s", "0s", 1, "requests"),
    ],
)
def test_the_longer_of_two_durations(requests: str, tokens: str, seconds: float, longer: str) -> None:
    headers = {"x-ratelimit-reset-requests": requests, "x-ratelimit-reset-tokens": tokens}
    assert parse_hint(headers, None, NOW) == hint(seconds, f"x-ratelimit-reset-{longer}")


# Limit: seconds until reset, what remains.
LIMITS: dict[str, tuple[dict[str, tuple[int, str | None]], str | None]] = {
    "the longest": ({"requests": (10, None), "tokens": (30, None), "input-tokens": (20, None)}, "tokens"),
    "only the exhausted": ({"requests": (10, "0"), "tokens": (30, "1000")}, "requests"),
    "the longest exhausted": (
        {"requests": (10, "0"), "tokens": (20, "0"), "input-tokens": (30, "9")},
        "tokens",
    ),
    "one unknown": ({"requests": (10, "0"), "tokens": (20, None)}, "requests"),
    "none exhausted": ({"requests": (10, "49"), "tokens": (20, "1000")}, None),
    "unreadable": ({"requests": (10, "none")}, None),
}


@pytest.mark.parametrize(("limits", "counts"), LIMITS.values(), ids=LIMITS.keys())
def test_only_exhausted_limits_count(limits: dict[str, tuple[int, str | None]], counts: str | None) -> None:
    headers = {}
    for kind, (seconds, remaining) in limits.items():
        headers[f"anthropic-ratelimit-{kind}-reset"] = rfc_3339(NOW + seconds)
        if remaining is not None:
            headers[f"anthropic-ratelimit-{kind}-remaining"] = remaining
    seconds = None if counts is None else limits[counts][0]
    assert parse_hint(headers, None, NOW) == expected(seconds, f"anthropic-ratelimit-{counts}-reset")


ORDER = [
    ({"retry-after-ms": "1000"}, {}),
    ({"retry-after": "2"}, {}),
    ({}, {"availability": {"retry_after": 3}}),
    ({"x-ratelimit-reset": "4"}, {}),
    ({}, {"metadata": {"headers": {"X-RateLimit-Reset": "5"}}}),
    ({"x-ratelimit-reset-requests": "6s"}, {}),
    ({"anthropic-ratelimit-requests-reset": rfc_3339(NOW + 7)}, {}),
]


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_first_source_wins(first: int) -> None:
    headers = {name: value for place, _ in ORDER[first:] for name, value in place.items()}
    error = {name: value for _, place in ORDER[first:] for name, value in place.items()}
    found = parse_hint(headers, {"error": error}, NOW)
    assert found is not None
    assert found.seconds == first + 1


def test_an_unusable_source_falls_through_to_the_next() -> None:
    headers = {
        "retry-after-ms": "-1",
        "retry-after": "Wed, 21 Oct 2015 07:28:00 GMT",
        "x-ratelimit-reset": "0",
    }
    body = {"error": {"availability": {"retry_after": None}, **in_body("8")["error"]}}
    assert parse_hint(headers, body, NOW) == hint(8, "error.metadata.headers")


# --- the clock ---


@pytest.mark.parametrize("skew", [-3600.0, -1.0, 0.0, 1.0, 3600.0, 1e9])
@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": http_date(NOW + 30)},
        {"x-ratelimit-reset": str(int(NOW + 30) * 1000)},
        {"x-ratelimit-reset": str(int(NOW + 30))},
        {"anthropic-ratelimit-tokens-reset": rfc_3339(NOW + 30)},
    ],
)
def test_our_clock_does_not_matter_when_there_is_a_date(headers: dict[str, str], skew: float) -> None:
    found = parse_hint({**headers, "date": http_date(NOW)}, None, NOW + skew)
    assert found is not None
    assert found.seconds == 30


@pytest.mark.parametrize("date", ["", "now", "Thu, 99 Mar 2025 23:59:00 GMT", "1741305540"])
def test_an_unreadable_date_leaves_our_clock(date: str) -> None:
    assert parse_hint({"retry-after": http_date(NOW + 30), "date": date}, None, NOW) == hint(30, "retry-after")


@pytest.mark.parametrize("now", [float("nan"), float("inf")])
def test_a_broken_clock_gives_no_hint_from_instants(now: float) -> None:
    assert parse_hint({"retry-after": http_date(NOW), "x-ratelimit-reset": "1741305600"}, None, now) is None
    assert parse_hint({"retry-after": "3"}, None, now) == hint(3, "retry-after")


# --- shapes ---


@pytest.mark.parametrize("wrong", [None, True, 7, "text", [], ["error"], {}, {"error": 1}, b"bytes"])
def test_any_level_of_the_body_may_be_anything(wrong: Any) -> None:
    bodies = [
        wrong,
        {"error": wrong},
        {"error": {"availability": wrong, "metadata": wrong}},
        {"error": {"metadata": {"headers": wrong}}},
    ]
    for body in bodies:
        assert parse_hint({}, body, NOW) is None


class Hostile(Mapping[str, str]):
    def __getitem__(self, name: str) -> str:
        raise RuntimeError(name)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


@pytest.mark.parametrize("headers", [None, 5, [], [("retry-after", "5")], "retry-after", Hostile()])
def test_headers_may_be_anything(headers: Any) -> None:
    assert parse_hint(headers, None, NOW) is None
    assert parse_hint(headers, available_after(2), NOW) == hint(2, "availability.retry_after")


@pytest.mark.parametrize("value", [None, 5, 5.0, True, b"5", ["5"]])
def test_header_values_that_are_no_text_are_no_hint(value: Any) -> None:
    assert parse_hint(dict.fromkeys(HEADERS, value), None, NOW) is None


# --- properties ---

HEADERS = [
    "date",
    "retry-after-ms",
    "retry-after",
    "x-ratelimit-reset",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    *(f"anthropic-ratelimit-{kind}-{what}" for kind in ("requests", "tokens") for what in ("reset", "remaining")),
]
TEXT = st.one_of(
    st.text(),
    st.text("0123456789.-+e hms:,GMTZ", max_size=40),
    st.from_regex(r"\d{1,15}(\.\d{1,8})?(h|m|s|ms)?", fullmatch=True),
    st.from_regex(r"\A(Sun|Monday), [0-9]{1,2}[ -](Jan|Feb|Foo)[ -][0-9]{2,4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT\Z"),
    st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})\Z"),
    st.datetimes().map(lambda when: when.isoformat() + "Z"),
    st.datetimes().map(lambda when: format_datetime(when.replace(tzinfo=timezone.utc), usegmt=True)),
)
KEYS = st.sampled_from(["error", "availability", "retry_after", "metadata", "headers", "X-RateLimit-Reset"])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(KEYS, st.text()), inner)),
)
BODIES = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {"error": st.fixed_dictionaries({}, optional={"availability": JSON, "metadata": JSON, "x": JSON})}
    ),
    LEAVES.map(available_after),
    LEAVES.map(in_body),
)


@given(
    st.dictionaries(st.one_of(st.sampled_from(HEADERS), st.text()), TEXT),
    BODIES,
    st.one_of(st.just(NOW), st.floats()),
)
@example({}, available_after(10**400), NOW)
@example({}, available_after(5e-324), NOW)
@example({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}, None, -1e18)
def test_total(headers: dict[str, str], body: Any, now: float) -> None:
    found = parse_hint(headers, body, now)
    assert found is None or 0 < found.seconds <= MAX_SECONDS


@given(st.integers(1, 3600), st.integers(1_000_000_000, 3_000_000_000), st.sampled_from([-7200, 0, 5]))
def test_all_sources_agree(seconds: int, server: int, skew: int) -> None:
    then = server + seconds
    minutes, rest = divmod(seconds, 60)
    says: list[tuple[dict[str, str], Any]] = [
        ({"retry-after-ms": str(seconds * 1000)}, None),
        ({"retry-after": str(seconds)}, None),
        ({"retry-after": http_date(then)}, None),
        ({"retry-after": rfc_850(then)}, None),
        ({"retry-after": asctime(then)}, None),
        ({}, available_after(seconds)),
        ({}, json.loads(json.dumps(available_after(f"{seconds}.0")))),
        *(({"x-ratelimit-reset": text}, None) for text in (str(seconds), str(then), str(then * 1000))),
        *(({}, in_body(value)) for value in (seconds, then, then * 1000, str(then * 1000))),
        ({"x-ratelimit-reset-requests": f"{minutes}m{rest}s"}, None),
        ({"x-ratelimit-reset-tokens": f"{seconds * 1000}ms"}, None),
        ({"anthropic-ratelimit-requests-reset": rfc_3339(then)}, None),
    ]
    for headers, body in says:
        found = parse_hint({**headers, "date": http_date(server)}, body, server + skew)
        assert found is not None, headers
        assert found.seconds == pytest.approx(seconds)


# Until 2068, where the standard library's reading of two digits ends.
EPOCHS = st.integers(0, 3_124_223_999)


@given(EPOCHS, st.sampled_from([http_date, rfc_850, asctime]), st.integers(1, 3600))
def test_dates_are_read_as_the_standard_library_reads_them(then: int, write: Any, seconds: int) -> None:
    text = write(then)
    read = parsedate_to_datetime(text)
    epoch = (read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp()
    found = parse_hint({"retry-after": text}, None, epoch - seconds)
    assert found is not None
    assert found.seconds == seconds


@given(EPOCHS, st.integers(-1439, 1439))
def test_timestamps_are_read_as_the_standard_library_reads_them(then: int, minutes: int) -> None:
    local = datetime.fromtimestamp(then, timezone(timedelta(minutes=minutes)))
    found = parse_hint({"anthropic-ratelimit-tokens-reset": local.isoformat()}, None, then - 5)
    assert found is not None
    assert found.seconds == 5
