"""Cancelled anywhere, in any history: what a call held is given back, and nobody but its caller is the worse for it.

`tests/test_cancellation.py` cancels one history at each of its effects; here the histories are random too.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from routerkit import CallFinished
from routerkit.core.effects import Emit
from tests.properties.worlds import Ask, Run, World, some, worlds
from tests.support.virtual import Interruption


@some(0.5)
@given(worlds(asks=5, overlapping=True), st.booleans(), st.integers(0, 12))
def test_after_a_cancellation_at_any_point_nothing_is_held(world: World, stream: bool, at: int) -> None:
    """Interrupted at any order, a call leaves no permit, probe, connection or fetch behind, has changed no breaker by it, and
    observers hear of its end once, as cancelled; the calls after it find everything in order."""
    run = Run(world).play()
    heard = len(run.gateway.events)
    interruption = Interruption(run.gateway.performed + at)
    try:
        run.call(Ask(stream), interruption)
    except KeyboardInterrupt:
        assert interruption.happened
        assert run.breakers() == run.known_when_cancelled
    assert run.leases() == []
    finished = [event for event in run.gateway.events[heard:] if isinstance(event, CallFinished)]
    assert len(finished) == 1 or isinstance(interruption.effect, Emit)
    if interruption.happened and not isinstance(interruption.effect, Emit):
        assert [event.error for event in finished] == ["Cancelled"]
    run.recover()
    run.runtime.now += 4000
    run.call(Ask(stream))
    assert run.leases() == []
