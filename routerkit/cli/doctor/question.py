"""The section "question": with ``--ask``, one tiny question to one model, the only check that costs money."""

from __future__ import annotations

from collections.abc import Iterator

from routerkit.cli.doctor.check import Check, failed, ok, skipped
from routerkit.cli.doctor.subject import Subject
from routerkit.cli.endings import exit_code
from routerkit.cli.render import money, seconds
from routerkit.errors import RouterKitError

PROMPT = "Answer with the one word OK."
MAX_TOKENS = 16
"""The least that every provider takes."""


def checks(subject: Subject) -> Iterator[Check]:
    model = subject.question
    if model is None:
        return
    why = "see settings" if subject.problems else subject.obstacle
    yield skipped(f"answer of {model}", why) if why else _asked(subject, model)


def _asked(subject: Subject, model: str) -> Check:
    """As an application would, but for one attempt, to one model."""
    from routerkit.client import Client
    from routerkit.types.policy import RetryPolicy

    name = f"answer of {model}"
    try:
        with Client.from_env(subject.file, **subject.shared.told({"performance_cache": False})) as root:
            client = root if subject.shared.tenant is None else root.tenant(subject.shared.tenant)
            alone = client.with_options(
                default_model=None,
                fallback_models=(),
                catalog_fallback=False,
                retry=RetryPolicy(max_attempts=1),
                timeout=subject.seconds,
            )
            answer = alone.complete(PROMPT, model=model, max_tokens=MAX_TOKENS)
    except RouterKitError as error:
        fix = "see the sections keys, catalogue and network; routerkit explain shows what would be asked"
        return failed(name, str(error), fix, exit_code(error))
    cost = "cost unknown" if answer.cost is None else money(answer.cost)
    facts = {
        "model": answer.model,
        "gateway": answer.gateway,
        "cost": None if answer.cost is None else format(answer.cost, "f"),
        "seconds": answer.route.duration,
    }
    return ok(name, f"{answer.gateway} answered in {seconds(answer.route.duration)}, {cost}", **facts)
