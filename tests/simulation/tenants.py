"""Several gateways, keys and tenants at random: as `chaos`, but wider. Everything follows from a seed: see `histories`.

`play` runs a history, of which an `Oracle` tells what must hold. `apart` runs one twice, with a tenant whose keys are refused and
without that tenant: to the others it must be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from routerkit import Budget
from routerkit.core.effects import Emit
from routerkit.types.event import BreakerState
from routerkit.types.policy import Timeouts
from routerkit.types.request import ChatRequest
from tests.simulation.histories import MODELS, Asked, History, Kind, drawn, faults_of, refused
from tests.simulation.oracle import Oracle
from tests.simulation.upstream import CATALOG, Fault, Upstream
from tests.simulation.watch import Violation
from tests.simulation.world import START, Flow, World

NAME, APART = "tenants", "tenants-apart"
AFTER = 90_000.0
"""Seconds after which nothing rests any more, and budgets begin anew."""
MINUTE = 60.0
"""Seconds after which a limit of a few calls a minute lets one through."""


def play(seed: int) -> World:
    """One run. Raises `Violation`."""
    history = drawn(seed)
    world = _world(history, faults_of(history), history.calls)
    watch = Oracle(world)
    with world.ending():
        world.run()
        watch.over()
        _recovers(world, history)
    return world


def apart(seed: int) -> None:
    """What befalls one tenant's keys is not noticed by the others. Raises `Violation` where a call of theirs differs in anything
    when that tenant makes its calls from what it is when that tenant makes none.

    Of a history of two kinds. Either models and gateways fail as well, and all keys of that tenant are refused, in no time: a call
    that holds the one probe of a breaker while it is being refused is noticed by whoever comes meanwhile, and may be. Or nothing
    else fails, and refusals take their time, come and go, and concern some of its keys.
    """
    history = drawn(seed, Kind.WELL if seed % 2 else Kind.APART)
    first, *_ = history.keys
    noticed = []
    for calls in (history.calls, [call for call in history.calls if call.tenant != first]):
        world = _world(history, refused(history, first), calls)
        with world.ending():
            world.run()
        noticed.append({flow.number: _noticed(flow) for flow in world.flows if flow.tenant != first})
    together, without = noticed
    for number, seen in without.items():
        for name, value in seen.items():
            if together[number][name] != value:
                told = f"{name} is {together[number][name]}, and without it {value}"
                raise Violation(f"apart: call {number} noticed {first}: {told}")


def _noticed(flow: Flow) -> dict[str, Any]:
    """All that can be seen of a call."""
    return {
        "sent": [(each.sent, str(each.target), each.key) for each in flow.exchanges],
        "waits": flow.waits,
        "route": flow.route,
        "error": (type(flow.error).__name__, str(flow.error), getattr(flow.error, "retry_after", None)),
        "delivered": "".join(chunk.text for chunk in flow.delivered),
        "ended": flow.ended,
    }


# --- how a history is played ---


def _world(history: History, faults: Sequence[Fault], calls: Sequence[Asked]) -> World:
    world = World(
        history.seed,
        Upstream(history.models, faults),
        history.settings,
        processes=history.processes,
        observed=True,
        dice_by_call=True,
    )
    for call in calls:
        world.at(START + call.when, _make, world, call)
    return world


def _make(world: World, call: Asked) -> None:
    told = _explained(world, call) if call.explained else None
    flow = world.call(call.process, call.request, call.tenant, call.number)
    if told:
        asked = [str(each.target) for each in flow.exchanges if each.model != CATALOG]
        opened = flow.router.health.states().get(told[0]) is not BreakerState.CLOSED  # by this very call
        if told[:1] != asked and not opened:
            raise Violation(f"explain: call {call.number} was told {told}, and asked {asked}")
    if call.patience is not None:
        world.at(world.now + call.patience, flow.cancel)


def _explained(world: World, call: Asked) -> list[str] | None:
    """The targets that a call will try, in order; `None`: without catalogues nobody can tell."""
    world.going = Flow(world, world.processes[call.process], call.number, call.request, call.tenant)  # the same dice
    step = world.going.router.explain(call.request)
    try:
        while isinstance(next(step), Emit):
            pass
    except StopIteration as stop:
        return [str(candidate.target) for candidate in stop.value.targets]
    step.close()
    return None


# --- when all is well again ---


def _recovers(world: World, history: History) -> None:
    """Some time later every tenant is answered at once by the first target of its plan, whatever happened before."""
    world.upstream.faults.clear()
    for number in range(len(world.processes)):
        world.run(world.elapsed + AFTER)
        for tenant in history.keys:
            for model in MODELS:
                _closes(world, number, tenant, model)
                world.run(world.elapsed + MINUTE)
                flow = _asked(world, number, tenant, model)
                first = flow.router.named(flow.request).targets[0].target
                asked = [each.target for each in flow.exchanges if each.model != CATALOG]
                poor = flow.router.settings.tenant_budget == Budget(0)
                if not poor and (not flow.ok or asked != [first]):
                    raise Violation(f"recovers: {tenant} asked for {model}: {flow.error!r}, {flow.route}")


def _closes(world: World, process: int, tenant: str, model: str) -> None:
    """Call until no breaker is in the way, or for long."""
    health = world.processes[process].router.health
    for _ in range(20):
        if set(health.states().values()) == {BreakerState.CLOSED}:
            return
        _asked(world, process, tenant, model)
        world.run(world.elapsed + 1)


def _asked(world: World, process: int, tenant: str, model: str) -> Flow:
    """A call that is over."""
    request = ChatRequest.build("Well?", model=model, fallback_models=(), timeouts=Timeouts(total=30))
    flow = world.call(process, request, tenant)
    while flow.ended is None:
        world.step()
    return flow
