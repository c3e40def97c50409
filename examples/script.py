"""Ask, stream, and see what was tried.

    OPENROUTER_API_KEY=… python examples/script.py "Why is the sky blue?"
    DEV_MODE=true python examples/script.py

In dev mode nothing is sent and no key is needed; a script of faults then shows what happens when models fail.
"""

from __future__ import annotations

import logging
import sys

from routerkit import Client, Route, RouterKitError, StreamInterruptedError

MODEL = "anthropic/claude-sonnet-4.5"
FALLBACKS = ["openai/gpt-4o-mini", "google/gemini-2.5-flash"]
FAULTS = [
    # the first question: two models fail, the third answers
    {"status": 503, "message": "The provider is overloaded"},
    {"status": 429, "retry_after": 30},
    {},
    # the second: a failure before the first word is not seen, one after it is
    {"network": "reset"},
    {"cut_after": 3},
]


def main() -> int:
    logging.basicConfig(format="%(message)s")
    question = " ".join(sys.argv[1:]) or "Why is the sky blue?"
    try:
        with make_client() as client:
            ask(client, question)
            stream(client, question)
    except RouterKitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def make_client() -> Client:
    """A client for the key in the environment; in dev mode, one whose models fail."""
    client = Client.from_env(default_model=MODEL, fallback_models=FALLBACKS)
    if client.settings.dev_mode is None:
        return client
    return Client.from_env(default_model=MODEL, fallback_models=FALLBACKS, dev_script=FAULTS)


def ask(client: Client, question: str) -> None:
    answer = client.complete(question, max_tokens=200)
    print(answer.text)
    print(f"\n{answer.model}, {answer.usage.total_tokens} tokens, {answer.cost or 'unknown'} USD")
    show(answer.route)


def stream(client: Client, question: str) -> None:
    try:
        with client.stream(question, max_tokens=200) as answer:
            for text in answer.text():
                print(text, end="", flush=True)
    except StreamInterruptedError as error:
        print(f"…\n\nThe answer broke off after {len(error.partial_text)} characters: {error.code}")
        show(error.route)
    else:
        print(f"\n\n{answer.completion.model}")
        show(answer.route)


def show(route: Route | None) -> None:
    """What was tried, and what was not."""
    if route is None:
        return
    for attempt in route.attempts:
        print(f"  {attempt.target}: {attempt.verdict} after {attempt.duration:.2f} s")
    for skip in route.skipped:
        print(f"  {skip.target} was left out: {skip.reason}")
    print()


if __name__ == "__main__":
    sys.exit(main())
