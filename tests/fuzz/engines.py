"""How a harness is run for long: with atheris, which looks at what code each input reaches, or with hypothesis."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"

TOKENS = [
    *(
        b"data: ",
        b"data: [DONE]\n\n",
        b": comment\n",
        b"event: error\n",
        b"\r\n",
        b"\r",
        b"\n\n",
        b"\xef\xbb\xbf",
        b"\x00",
    ),
    *(
        b'"error":',
        b'"code":429',
        b'"choices":[',
        b'"delta":{',
        b'"message":{',
        b'"content":',
        b'"finish_reason":"error"',
    ),
    *(b"null", b"true", b"-1", b"1e308", b"1e400", b"9" * 20, b'"\\ud800"', b"[[[[", b"{}", b"]", b"}", b","),
    *(
        b"Retry-After: ",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: ",
        b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"=",
    ),
]


KEYS = st.sampled_from(
    """choices message delta content text type tool_calls function name arguments id index role refusal reasoning finish_reason
    usage cost prompt_tokens completion_tokens error code metadata error_type availability retryable retry_after headers model
    data pricing prompt completion image request context_length architecture input_modalities top_provider created object
    supported_parameters expiration_date description invoke_name sale_input_cost sale_output_cost retail_input_cost
    retail_output_cost input_token_limit output_token_limit output_modalities discount""".split()  # noqa: SIM905
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(
        ["0.000001", "-1", "NaN", "error", "stop", "2026-11-21", "a/one", "$1,234.5", "FREE", "131,072", 429, 200]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
_MESSAGES = st.dictionaries(KEYS, _VALUES, max_size=5)
_CHOICES = st.lists(
    st.fixed_dictionaries({}, optional={"message": _MESSAGES, "delta": _MESSAGES, "x": _VALUES}), max_size=2
)
_ANSWERS = st.fixed_dictionaries(
    {}, optional={"choices": _CHOICES | _VALUES, "error": _VALUES, "usage": _VALUES, "id": _VALUES}
)
_LISTS = st.lists(_MESSAGES, max_size=3).map(lambda entries: json.dumps({"data": entries}).encode())
_JSON_LIKE: dict[str, st.SearchStrategy[bytes]] = {
    "answer": _ANSWERS.map(lambda answer: b"\0" + json.dumps(answer).encode()),
    "stream": st.lists(_ANSWERS, max_size=4).map(
        lambda events: b"\2\0" + b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    ),
    "catalog": _LISTS,
    "details": _LISTS,
}
"""JSON in the shapes that a harness's bytes have, with anything in it."""


def seeds(name: str) -> list[Path]:
    """The corpus of a harness: inputs by hand, and every input that it once failed on."""
    return sorted((CORPUS / name).iterdir())


def inputs(name: str) -> st.SearchStrategy[bytes]:
    """Bytes, most of them an input of the corpus with parts cut out, doubled, replaced or put in."""
    corpus = [path.read_bytes() for path in seeds(name)]
    pieces = st.binary(max_size=8) | st.sampled_from(TOKENS) | st.sampled_from(corpus)
    place = st.integers(0, 2**16)
    edits = st.lists(st.tuples(place, st.integers(0, 40), pieces), max_size=6)

    def edited(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for start, length, piece in changes:
            at = start % (len(data) + 1)
            data = data[:at] + piece + data[at + length :]
        return data

    changed = st.builds(edited, st.sampled_from([b"", *corpus]), edits)
    return st.binary(max_size=60) | changed | changed | _JSON_LIKE[name] if name in _JSON_LIKE else changed


def with_hypothesis(name: str, one: Callable[[bytes], None], seconds: float) -> int:
    """Run for so long; how many inputs were tried. What a failing one raises comes out, after the input was kept."""
    tried, last = itertools.count(), [b""]
    until = time.monotonic() + seconds

    @settings(
        max_examples=200,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        derandomize=False,
    )
    @given(inputs(name))
    def run(data: bytes) -> None:
        if time.monotonic() < until:
            next(tried)
            last[0] = data
            one(data)

    try:
        while time.monotonic() < until:
            run()
    except BaseException:
        keep(name, last[0])
        raise
    return next(tried)


def with_atheris(name: str, one: Callable[[bytes], None], seconds: float) -> None:
    """Run for so long, then exit the process. libFuzzer prints the number of inputs; a failing one is printed and kept."""
    import atheris  # type: ignore[import-untyped]

    def kept(data: bytes) -> None:
        try:
            one(data)
        except Exception:
            keep(name, data)
            raise

    found = Path(tempfile.gettempdir(), "routerkit-fuzz", name)
    """What reached new code; the next run goes on from it."""
    found.mkdir(parents=True, exist_ok=True)
    words = found.parent / "words"
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in TOKENS))
    options = [f"-max_total_time={seconds:.0f}", f"-artifact_prefix={found}/", "-print_final_stats=1", "-timeout=20"]
    options += [f"-dict={words}", "-max_len=4096"]
    atheris.Setup([sys.argv[0], *options, str(found), str(CORPUS / name)], kept)
    atheris.Fuzz()


def keep(name: str, data: bytes) -> None:
    """Print an input that failed, and save it where the tests replay it."""
    path = CORPUS / name / f"crash-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    print(f"\n{name} fails on {data!r}\nkept in {path}", file=sys.stderr)
