"""The catalogue of faults: what can go wrong between a caller and a model, numbered, so that a test can say which it is about.

A test carries its numbers as `@fault(7, 8)`; `test_catalogue.py` fails for a number without a test. What has to come out of each
fault stands in its test.
"""

from __future__ import annotations

from typing import Any

import pytest

FAULTS: dict[int, str] = {
    # Name resolution and TCP
    1: "NXDOMAIN",
    2: "SERVFAIL/temporary (EAI_AGAIN)",
    3: "resolver hangs 60 s",
    4: "4 A records, all blackholed",
    5: "A record first dead, second good",
    6: "DNS answer changes to private IP (rebinding) with block_private=True",
    7: "connection refused",
    8: "SYN blackhole",
    9: "accept then immediate RST",
    10: "accept then FIN before any byte, reused keep-alive",
    11: "same, on fresh connection",
    12: "RST after half the request body",
    13: "server stops reading (send buffer full, 10 MB prompt)",
    14: "bandwidth 1 B/s response",
    15: "slicer: 1-byte TCP segments",
    16: "half-open peer (power loss, no RST) mid-stream",
    17: "EMFILE / ENOBUFS on socket()",
    18: "ephemeral ports exhausted (EADDRNOTAVAIL)",
    19: "proxy refuses CONNECT / 407",
    # TLS
    20: "expired / wrong host / self-signed cert",
    21: "handshake never completes",
    22: "RST in handshake",
    23: "TLS 1.0-only server",
    24: "close without close_notify mid-chunked",
    25: "renegotiation/alert mid-stream",
    # HTTP framing
    26: "garbage status line",
    27: "HTTP/0.9-style body, no status",
    28: "1 MB header; 999 headers; header without colon; obs-fold",
    29: "header slow-loris, 1 byte/100 ms",
    30: "100-continue ×1000 then 200",
    31: "101 Switching Protocols",
    32: "Content-Length short / long / negative / two different",
    33: "Content-Length and Transfer-Encoding (requests accepts, aiohttp rejects)",
    34: "bad chunk size, missing last chunk, chunk extension 1 MB",
    35: "extra bytes after a complete response (response splitting)",
    36: "Connection: close without length (close-delimited SSE)",
    37: "gzip/deflate/br claimed, body plain",
    38: "gzip bomb 200 KB → 200 MB (and double-encoded chain)",
    39: "gzip stream truncated",
    40: "200 with Content-Type: text/html, JSON expected",
    41: "SSE requested, JSON 200 completion returned",
    42: "JSON requested, SSE returned",
    43: "keep-alive response after client already timed out (late bytes)",
    # Status and headers
    44: "each status 300–599 with JSON, empty, HTML body (900 cases)",
    45: "302/307/308 to another host, same host other port, https→http, javascript:",
    46: "redirect loop",
    47: "Retry-After: 0,-5,1.5,1e9,inf,nan,９９,, 10 KB of digits, past date, year 2115, Wed, 99 Foo, two headers",
    48: "Retry-After 20 s with deadline 10 s",
    49: "Retry-After 2 s, only candidate",
    50: "X-RateLimit-Reset ms / s / delta / in body only",
    51: "our clock 1 h ahead of the server's Date, HTTP-date hint",
    52: "429 free-tier daily with three :free fallbacks",
    53: "402 in-flight budget + Retry-After",
    54: "401 for tenant A 100×",
    55: "400 model_not_found",
    56: "500 whose body says error_type: rate_limit_exceeded",
    # JSON body
    57: "empty body 200",
    58: "truncated JSON; trailing garbage; BOM",
    59: "depth 100 000 (RecursionError in json, error in orjson at 1024)",
    60: "5 000-digit integer (ValueError in json), 1e400, NaN, Infinity",
    61: "duplicate keys",
    62: "lone surrogate \\ud800 (json accepts, orjson rejects), invalid UTF-8",
    63: "64 MiB JSON",
    64: "top-level array/string/null",
    65: 'choices: null, [], {}, [null], [{"index":"0"}], message null, content list',
    66: '{"error": "string"}, {"error": null}, {"error": {"code":"429"}}, error and choices',
    67: '200 {"error":{"code":502}}',
    68: "usage negative, strings, 10^18 tokens, missing",
    69: 'finish_reason: "error" + partial',
    70: "reasoning-only answer, finish_reason: length",
    # SSE bytes
    71: "UTF-8 code point split at every byte position; grapheme split",
    72: "CR, LF, CRLF, mixed, CRLF split over reads",
    73: "BOM at start; split BOM; BOM in mid-stream",
    74: "data: without space; two spaces; empty data:; field without colon",
    75: "event over 2+ data: lines",
    76: "comments only, for ever, 1/s",
    77: "never-ending blank lines / spaces / one line without newline",
    78: "5 MB single line (image delta)",
    79: "missing [DONE], finish_reason seen",
    80: "[DONE] without finish_reason",
    81: "neither, clean EOF",
    82: "data after [DONE]; two [DONE]; [DONE]  with space",
    83: "unterminated last event at EOF",
    84: "duplicate chunk; out-of-order index; index 10^9; negative index",
    85: "role-only chunk then error",
    86: "error chunk as first event / after 3 tokens",
    87: "error chunk with error.code word, int, numeric string",
    88: "one data: {bad json between good ones",
    89: "tool-call arguments cut in half",
    90: "usage chunk with choices: [] at the end",
    91: "event: error with JSON; Anthropic-style event: ping",
    92: "U+2028, U+0085, NUL, \\r inside JSON string escapes",
    93: "consumer stops after 1 delta (break / exception / GC / task cancel) ×4 facades",
    94: "consumer pauses 60 s between deltas (back-pressure)",
    95: "model id changes mid-stream",
    # Catalog
    96: "HTML/200, 500, timeout, empty data, data as dict",
    97: 'missing id/pricing/context_length; null, "", "free", -1, -0.5, "NaN", 1e-400, number instead of string',
    98: "100 000 models; 500 MB body",
    99: "duplicate ids with different prices",
    100: "ids with CR/LF, NUL, 10 KB, unicode homoglyph, ../",
    101: "catalog shrinks 400 → 3",
    102: "1 000 concurrent first callers, 8 processes, cold cache",
    103: "leader cancelled / killed mid-fetch",
    104: "price ×100 overnight",
    # Clock, process, concurrency
    105: "wall clock +1 h, −1 h, to 1970, leap second",
    106: "monotonic frozen 1 h then jumps (VM suspend)",
    107: "fork with warm pool, lock held, stream open",
    108: "fork during catalog refresh",
    109: "256 threads × 1 breaker at half-open",
    110: "256 threads hammer record",
    111: "second event loop / loop closed / nested loop",
    112: "event loop blocked 5 s",
    113: "cancel at every await, in turn (n-th suspension for n=1…)",
    114: "cancel twice; cancel during clean-up; cancel before first step",
    115: "KeyboardInterrupt / SIGTERM mid-stream",
    116: "exception inside user callback/listener/redactor/token counter",
    117: "interpreter shutdown with open streams",
    118: "deepcopy/pickle of client, result, error",
    # Redis
    119: "refused / hang / reset / slow 1 s",
    120: "LOADING, READONLY, OOM, NOSCRIPT, MOVED, NOAUTH, BUSY",
    121: "FLUSHALL mid-day",
    122: "failover losing 1 s of writes",
    123: "wrong type / garbage under our key",
    124: "Redis clock jumps back 1 h",
    125: "reply delivered to a cancelled command",
    126: "script time > 5 ms (huge keys)",
    # Upstream behaviour over time (simulator)
    127: "hard outage of 1, 2, all models",
    128: "hang",
    129: "brown-out: 40 % errors, 6× latency",
    130: "flapping 10 s/10 s",
    131: "429 storm, Retry-After 10, hint ignored by 10 % of servers",
    132: "thundering herd: 1 000 processes recover together",
    133: "slow poisoning: error rate 1 % → 60 % over 10 min",
    134: "one tenant floods",
    135: "key revoked mid-run",
}

COVERED: set[int] = set()
"""The numbers that some test carries; filled as their modules are imported."""


def fault(*numbers: int) -> pytest.MarkDecorator:
    """Marks a test, or a row of its parameters, as one about these faults."""
    assert FAULTS.keys() >= set(numbers)
    COVERED.update(numbers)
    return pytest.mark.fault(*numbers)


def row(number: int, *values: Any, name: str = "") -> Any:
    """A parameter set about one fault."""
    title = FAULTS[number].split(";")[0][:40]
    return pytest.param(*values, marks=fault(number), id=f"{number}-{name or title}")
