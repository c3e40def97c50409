"""The ladder that completions and streams share: one target after the other until one answers, or the error that says why none
did."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import attrs

from routerkit.core.effects import Step, sleep
from routerkit.core.failure import remembered_error
from routerkit.core.health import Refusal
from routerkit.core.hold import NOTHING
from routerkit.core.limits import Kind
from routerkit.core.plan import OF_PRICE
from routerkit.core.retry import jittered, spread, waits
from routerkit.errors import (
    BudgetExceededError,
    DeadlineExceededError,
    LimitExceededError,
    NoEligibleModelError,
    RouterKitError,
)
from routerkit.types.route import Candidate, Plan, Target, Wait
from routerkit.types.verdict import Action, Billing, Blame, Condition, Sample, Verdict

if TYPE_CHECKING:
    from routerkit.core.call import Call, Result, Trial
    from routerkit.core.keys import Key

T = TypeVar("T")

_TRANSPARENT = frozenset({"stale_connection", "misdirected"})
"""Verdicts after which the same target is asked once more, on a new connection, at no charge."""


def pursue(call: Call, attempt: Callable[[Call, Trial], Step[Result[T]]], trial: Trial | None = None) -> Step[T]:
    """Try one target after the other until an attempt returns a value. Raises the error that says why none did.

    ``trial``: where to begin, else with the first target.
    """
    if trial is None:
        trial = yield from _first(call)
    while True:
        if call.left() <= 0:  # asking the store for leave took the rest of it
            yield from _not_made(call, trial)
            raise _too_late(call)
        call.begun += 1
        try:
            result = yield from attempt(call, trial)
        except BaseException:
            trial.admission.give_up()
            if call.router.fleet is not None:
                call.router.fleet.probed_soon(trial.admission)
            raise
        finally:
            trial.admission.settle(Sample.NEUTRAL, Blame.NOBODY)
            if not trial.streaming:
                trial.admission.release()
        if call.router.fleet is not None:
            yield from call.router.fleet.probed(trial.admission)
        if result.value is not None:
            return result.value
        trial = yield from onward(call, trial, result.verdict)


def _not_made(call: Call, trial: Trial) -> Step[None]:
    """Give back what was granted for an attempt that is not made."""
    admission = trial.admission
    admission.settle(Sample.NEUTRAL, Blame.NOBODY)
    admission.release()
    try:
        if admission.hold is not None:
            yield from admission.hold.settle(NOTHING)
        if call.router.fleet is not None:
            yield from call.router.fleet.probed(admission)
    except BaseException:
        if call.router.fleet is not None:
            call.router.fleet.probed_soon(admission)
        raise


def _first(call: Call) -> Step[Trial]:
    found = yield from call.itinerary.next()
    if found is None:
        raise _nothing_asked(call)
    return call.trial(*found)


def onward(call: Call, trial: Trial, verdict: Verdict) -> Step[Trial]:
    """Where to go after an attempt that failed. Raises the error of the call when nowhere."""
    error = call.ledger.failures[-1][1]
    if verdict.code in ("deadline", "deadline_slow"):
        raise _too_late(call) from error
    itinerary, gateway, key = call.itinerary, trial.candidate.gateway, trial.admission.key
    account = verdict.blame is Blame.KEY and verdict.action in (Action.NEXT_KEY, Action.RETRY_SAME)
    serves = account and itinerary.serves(gateway, key)
    moving = serves or (account and itinerary.elsewhere(gateway))  # another key, or another gateway, may serve at once
    ending = verdict.action is Action.NEXT_KEY and not moving and not _in_time(call, trial, verdict, moving=False)
    if verdict.action is Action.FAIL or (ending and len(call.router.access[gateway].keys) == 1):
        raise error
    policy = call.router.settings.retry
    if policy.at_most_once and verdict.billing is not Billing.NONE:
        raise error
    if not call.enough():
        raise _too_late(call) from error
    if verdict.code in _TRANSPARENT and not call.ledger.free_attempts:
        call.ledger.free_attempts += 1
        admission = yield from itinerary.again(trial.candidate, key, free=True)
        if admission is not None:
            return call.trial(trial.candidate, admission)
    if call.ledger.charged >= policy.max_attempts:
        raise _exhausted(call)
    if _of_key(verdict):
        admission = yield from itinerary.with_other_key(trial.candidate, trial.admission)
        if admission is not None:
            return call.trial(trial.candidate, admission)
    if _reserved(verdict) and not moving:  # what was left elsewhere may have credit sooner
        moving = len(_in_time(call, trial, verdict, moving=True)) > 1
    if verdict.action is Action.RETRY_SAME and not moving:
        again = yield from _same(call, trial.candidate, verdict, key)
        if again is not None:
            return again
    if ending:
        raise error
    if account and not serves and (moving or verdict.action is Action.NEXT_KEY):
        itinerary.conditions.exclude(gateway, "its gateway refuses the key")
    if verdict.action is Action.NEXT_GATEWAY:
        itinerary.conditions.exclude(gateway, "its gateway failed")
    itinerary.conditions.require(verdict.condition, trial.candidate.target)
    itinerary.failed()
    found = yield from itinerary.next()
    if found is None:
        for candidate, met in _in_time(call, trial, verdict, moving=moving):
            again = yield from _same(call, candidate, met, key)
            if again is not None:
                return again
        found = yield from itinerary.next()  # it may have waited in vain, while the time of others has come
    if found is None:
        raise _exhausted(call)
    return call.trial(*found)


def _of_key(verdict: Verdict) -> bool:
    """Whether another key may be served where this one was not."""
    return verdict.blame is Blame.KEY or verdict.code == "rate_limited"


def _in_time(call: Call, trial: Trial, verdict: Verdict, *, moving: bool) -> list[tuple[Candidate, Verdict]]:
    """What may be asked again after a wait when no target is left, with the verdict that says how long; the soonest first.

    That is the target that failed last, where its failure may pass, and what was left at once for another key or gateway.
    """
    if verdict.condition is not Condition.ANY:
        return []
    ledger, last = call.ledger, trial.candidate.target
    late = call.now() - ledger.started
    met_there = [*zip(ledger.attempts, (met for met, _ in ledger.failures), strict=True)]
    failed = {attempt.gateway for attempt, met in met_there if met.action is Action.NEXT_GATEWAY}
    waiting: dict[Target, Verdict] = {}
    for attempt, met in met_there:
        if met is verdict:
            passes = met.retry_if_last or (moving and met.action is Action.RETRY_SAME)
        elif attempt.target == last:
            passes = verdict.action is Action.NEXT_KEY and (met.code == "rate_limited" or _reserved(met))
        else:
            passes = _reserved(met) and attempt.gateway not in failed
        if passes:
            hint = met.retry_after
            left = hint if hint is None else max(0.0, attempt.started + attempt.duration + hint - late)
            waiting[attempt.target] = attrs.evolve(met, retry_after=left)
    soonest = sorted(waiting, key=lambda target: waiting[target].retry_after or 0.0)
    candidates = {candidate.target: candidate for candidate in ledger.planned}
    return [(candidates[target], waiting[target]) for target in soonest]


def _reserved(verdict: Verdict) -> bool:
    """Whether the account has credit again when its requests under way have ended."""
    return verdict.blame is Blame.KEY and verdict.action is Action.RETRY_SAME


def _same(call: Call, candidate: Candidate, verdict: Verdict, key: Key) -> Step[Trial | None]:
    """Another attempt on the same target, after the wait it asked for or a backoff; ``None`` when that is not allowed."""
    router, target = call.router, candidate.target
    policy = router.settings.retry
    # What a new connection did not mend, a third will not either.
    tries = call.ledger.tries(target) if verdict.code in _TRANSPARENT else call.itinerary.tries(target)
    if tries >= policy.max_same_target:
        return None
    hint = verdict.retry_after
    if hint is not None:
        hint = _soonest(call, target, hint)
        pause, reason = spread(hint, router.runtime.random()), "the gateway asked for it"
        pause = pause if hint > policy.max_sleep else min(pause, policy.max_sleep)
    else:
        bounds = waits(policy)
        bound = [next(bounds) for _ in range(tries)][-1]
        pause, reason = jittered(bound, policy.jitter, router.runtime.random()), "backoff"
    if (hint is not None and pause > policy.max_sleep) or not call.enough(pause):
        return None
    if not router.health.may_retry(target, key.owner):
        return None
    call.ledger.waits.append(Wait(pause, reason))
    yield from sleep(pause)
    if not call.enough():
        raise _too_late(call) from call.ledger.failures[-1][1]
    admission = yield from call.itinerary.again(candidate, None if _of_key(verdict) else key)
    return None if admission is None else call.trial(candidate, admission)


def _soonest(call: Call, target: Target, hint: float) -> float:
    """Seconds until one of the target's keys may be used again: a key before this one may have been told a shorter time."""
    keys = call.router.access[target.gateway].keys
    refusal = call.router.health.peek(target, keys) if len(keys) > 1 else None
    if refusal is None or refusal.retry_at is None:
        return hint
    return min(hint, max(0.0, refusal.retry_at - call.now()))


def _too_late(call: Call) -> DeadlineExceededError:
    ledger = call.ledger
    asked = ", ".join(dict.fromkeys(str(attempt.target) for attempt in ledger.attempts)) or "no model"
    return DeadlineExceededError(
        f"no answer within the {call.request.total:g} s of the call (asked: {asked});"
        " allow more with timeout=, or name faster models"
    )


def _exhausted(call: Call) -> RouterKitError:
    """The error of a call whose attempts all failed: that of the one target there was, or the collective one."""
    ledger = call.ledger
    verdict, error = ledger.failures[-1]
    if all(met.blame is Blame.KEY for met, _ in ledger.failures):
        return error
    if call.itinerary.left:
        return ledger.collective()
    tried = {attempt.target for attempt in ledger.attempts}
    possible = tried | {candidate.target for candidate, _ in call.itinerary.refused}
    unmet = verdict.condition is not Condition.ANY
    return error if unmet or len(possible) == 1 else ledger.collective()


def _nothing_asked(call: Call) -> RouterKitError:
    """The error of a call that could send nothing."""
    refused = call.itinerary.refused
    now = call.now()
    if not refused:
        skipped = call.ledger.skipped
        if not skipped:
            return NoEligibleModelError(
                "no model to ask: pass model=, or set default_model= or OPENROUTER_DEFAULT_MODEL", plan=Plan()
            )
        shown = [f"  {skip.target}: {skip.reason}" for skip in skipped[:20]]
        more = f"\n  and {len(skipped) - 20} more" if len(skipped) > 20 else ""
        advice = ", or see allow_any_price=" if any(skip.reason in OF_PRICE for skip in skipped) else ""
        return NoEligibleModelError(
            f"no model may be asked; name another with model={advice}:\n" + "\n".join(shown) + more,
            plan=Plan((), tuple(skipped)),
        )
    times = [refusal.retry_at for _, refusal in refused if refusal.retry_at is not None]
    wait = max(0.0, min(times) - now) if times else None
    if all(refusal.denial is not None for _, refusal in refused):
        return _all_denied(call, wait)
    candidate, refusal = min(refused, key=lambda item: item[1].gives_way)
    cooldown = refusal.cooldown
    accounts = all(why.cooldown is not None and why.cooldown.verdict.blame is Blame.KEY for _, why in refused)
    if cooldown is not None and (len(refused) == 1 or refusal.gateway_wide or accounts):
        return remembered_error(cooldown.verdict, cooldown.status, candidate.target, refusal.reason, wait)
    lines = [f"  {each.target}: {why.reason}" for each, why in refused]
    return NoEligibleModelError(
        "no model may be asked now:\n" + "\n".join(lines),
        plan=Plan((), tuple(call.ledger.skipped)),
        retry_after=wait,
        rate_limited=any(why.cooldown is not None and why.cooldown.verdict.blame is Blame.MODEL for _, why in refused),
    )


def _all_denied(call: Call, wait: float | None) -> RouterKitError:
    """The error of a call for which limits and budgets leave no target. ``wait``: until the first of them gives way."""
    refused = call.itinerary.refused
    kind = BudgetExceededError if all(_of_money(why) for _, why in refused) else LimitExceededError
    now = call.router.runtime.wall()
    lines = [f"{each.target}: {why.reason}" for each, why in refused]
    told = lines[0] if len(lines) == 1 else "\n  ".join(("no model may be asked now:", *lines))
    if call.late:
        return DeadlineExceededError(f"the {call.request.total:g} s of the call are over: {told}")
    return kind(told, retry_at=None if wait is None else now + wait, retry_after=wait)


def _of_money(refusal: Refusal) -> bool:
    return refusal.denial is not None and refusal.denial.charge.kind is Kind.MONEY
