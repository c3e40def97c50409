"""The orders of the core: what a latch and a close promise to whoever performs them."""

from __future__ import annotations

import pytest

from routerkit.core.effects import Await, Cancelled, Close, Latch, close, wait_for


def test_a_latch_calls_back_whoever_waits() -> None:
    latch, heard = Latch(), list[str]()
    latch.subscribe(lambda: heard.append("first"))
    latch.subscribe(lambda: heard.append("second"))
    assert heard == []
    assert not latch.is_set
    latch.set()
    assert latch.is_set
    assert heard == ["first", "second"]


def test_a_latch_that_is_set_calls_back_at_once() -> None:
    latch, heard = Latch(), list[str]()
    latch.set()
    latch.subscribe(lambda: heard.append("late"))
    assert heard == ["late"]


def test_who_gave_up_is_not_called_back() -> None:
    latch, heard = Latch(), list[str]()

    def callback() -> None:
        heard.append("gone")

    latch.subscribe(callback)
    latch.unsubscribe(callback)
    latch.unsubscribe(callback)  # twice does no harm
    latch.set()
    assert heard == []


def test_a_callback_may_give_up_while_it_is_called() -> None:
    latch, heard = Latch(), list[str]()

    def callback() -> None:
        heard.append("once")
        latch.unsubscribe(callback)

    latch.subscribe(callback)
    latch.subscribe(lambda: heard.append("other"))
    latch.set()
    assert heard == ["once", "other"]


@pytest.mark.parametrize("done", [True, False])
def test_waiting_for_a_latch_tells_whether_it_was_set(done: bool) -> None:
    latch = Latch()
    step = wait_for(latch, 3)
    order = step.send(None)
    assert isinstance(order, Await)
    assert (order.latch, order.seconds) == (latch, 3)
    with pytest.raises(StopIteration) as stop:
        step.send(done)
    assert stop.value.value is done


def test_a_connection_is_closed_once() -> None:
    step = close("handle", reusable=True)
    order = step.send(None)
    assert isinstance(order, Close)
    assert (order.handle, order.reusable) == ("handle", True)
    with pytest.raises(StopIteration):
        step.send(None)


def test_a_caller_who_is_interrupted_while_closing_leaves_no_connection_open() -> None:
    step = close("handle", reusable=True)
    step.send(None)
    again = step.throw(Cancelled())
    assert isinstance(again, Close)
    assert (again.handle, again.reusable) == ("handle", False)
    with pytest.raises(Cancelled):
        step.send(None)


def test_even_again_and_again() -> None:
    """Ctrl-C, and Ctrl-C again. Whoever goes on after that means it."""
    step = close("handle", reusable=True)
    orders = [step.send(None), step.throw(Cancelled()), step.throw(Cancelled())]
    assert [(order.handle, order.reusable) for order in orders if isinstance(order, Close)] == [
        ("handle", True),
        ("handle", False),
        ("handle", False),
    ]
    with pytest.raises(Cancelled):
        step.throw(Cancelled())
