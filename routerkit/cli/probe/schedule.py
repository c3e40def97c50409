"""When which question is put: pure, with the time as an argument.

Each gateway has a lane of its own, and lanes run side by side. In a lane, at most so many questions are under way, and two that are
really sent start at least the delay apart. A question may be put off, alone or with its whole lane; a lane may end early.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import attrs

from routerkit.types.route import Target

MAX_WAITS = 3
"""How often a question is put off."""
TYPICAL = 3.0
"""Seconds that an answer is taken to need, before there was one."""
MAX_WAIT = 600.0
"""Seconds that it is put off, all together."""


@attrs.frozen
class Job:
    """One question: to one model, in one round."""

    target: Target
    round: int = 1


@attrs.define(eq=False)
class Put:
    """A question as it is put, perhaps not for the first time."""

    job: Job
    not_before: float = -math.inf
    waits: int = 0
    waited: float = 0.0
    """Seconds."""
    started: float = 0.0


@attrs.define(eq=False)
class _Lane:
    delay: float
    concurrency: int
    waiting: list[Put] = attrs.field(factory=list)
    under_way: list[Put] = attrs.field(factory=list)
    last: float = -math.inf
    """When the last of the questions started that are over, and were really sent."""
    held: float = -math.inf
    """Until when nothing may start."""
    answered: int = 0
    busy: float = 0.0
    """Seconds that those took which are over."""

    @property
    def opens(self) -> float:
        """When the next may start, if there is a place for it."""
        last = max((put.started for put in self.under_way), default=self.last)
        return max(max(last, self.last) + self.delay, self.held)

    def left(self, now: float, typical: float) -> float:
        """Seconds that the lane will take, if a question takes its mean, else the typical time."""
        mean = self.busy / self.answered if self.answered else typical
        running = max((put.started + mean - now for put in self.under_way), default=0.0)
        if not self.waiting:
            return max(0.0, running)
        free = len(self.under_way) < self.concurrency
        first = max(self.opens, min(put.not_before for put in self.waiting), now if free else now + running) - now
        interval = max(self.delay, mean / self.concurrency)
        return max(0.0, running, first + (len(self.waiting) - 1) * interval + mean)


def always(_: Job) -> bool:
    return True


class Schedule:
    """Of one sweep. Who uses it takes what may be put now, tells how it ended, and in between waits as long as :meth:`pause`."""

    def __init__(
        self,
        jobs: Iterable[Job],
        delays: Mapping[str, float],
        *,
        concurrency: int = 1,
        max_wait: float = MAX_WAIT,
        max_waits: int = MAX_WAITS,
    ) -> None:
        """``jobs`` in the order in which they are to be put, each once; ``delays``: seconds, by gateway."""
        self._lanes = {gateway: _Lane(delay, concurrency) for gateway, delay in delays.items()}
        self._max_wait = max_wait
        self._max_waits = max_waits
        self.total = 0
        for job in jobs:
            self._lanes[job.target.gateway].waiting.append(Put(job))
            self.total += 1

    def take(self, now: float, fits: Callable[[Job], bool] = always) -> Put | None:
        """A question that may be put now, which from then on is under way; ``None``: there is none.

        ``fits``: whether a question may be put at all at present; those that may not stay where they are.
        """
        for lane in self._lanes.values():
            if len(lane.under_way) >= lane.concurrency or lane.opens > now:
                continue
            for place, put in enumerate(lane.waiting):
                if put.not_before <= now and fits(put.job):
                    del lane.waiting[place]
                    put.started = now
                    lane.under_way.append(put)
                    return put
        return None

    def pause(self, now: float, fits: Callable[[Job], bool] = always) -> float | None:
        """Seconds until another may be put, as far as time alone decides; ``None``: something must end first, or none is left."""
        times = [
            max(lane.opens, min(put.not_before for put in fitting))
            for lane in self._lanes.values()
            if len(lane.under_way) < lane.concurrency and (fitting := [put for put in lane.waiting if fits(put.job)])
        ]
        return max(0.0, min(times) - now) if times else None

    def finish(self, put: Put, now: float, *, sent: bool = True) -> None:
        """It is over, one way or another. What was not sent does not count for the delay."""
        lane = self._over(put, sent=sent)
        if sent:
            lane.answered += 1
            lane.busy += now - put.started

    def may_wait(self, put: Put, seconds: float) -> bool:
        """Whether it may be put off by so much."""
        return put.waits < self._max_waits and put.waited + seconds <= self._max_wait

    def may_ever_wait(self, seconds: float) -> bool:
        """Whether any question may be put off by so much."""
        return seconds <= self._max_wait

    def put_off(self, put: Put, now: float, seconds: float, *, sent: bool = True) -> None:
        """It has to be put again, not before so many seconds from now; others of its gateway go on meanwhile."""
        lane = self._over(put, sent=sent)
        put.waits += 1
        put.waited += seconds
        put.not_before = now + seconds
        lane.waiting.insert(0, put)

    def hold(self, gateway: str, until: float) -> None:
        """Nothing more is put to a gateway until then."""
        lane = self._lanes[gateway]
        lane.held = max(lane.held, until)

    def end(self, gateway: str) -> list[Job]:
        """Nothing more is put to a gateway; what was left there, in order. What is under way goes on."""
        lane = self._lanes[gateway]
        waiting, lane.waiting = lane.waiting, []
        return [put.job for put in waiting]

    def waiting(self) -> list[Job]:
        """What has not been put, or must be put again."""
        return [put.job for lane in self._lanes.values() for put in lane.waiting]

    def under_way(self) -> list[Put]:
        return [put for lane in self._lanes.values() for put in lane.under_way]

    def left(self, now: float, typical: float = TYPICAL) -> float:
        """Seconds that the rest will take, about. ``typical``: of one question, where none has been answered yet."""
        return max((lane.left(now, typical) for lane in self._lanes.values()), default=0.0)

    def _over(self, put: Put, *, sent: bool) -> _Lane:
        lane = self._lanes[put.job.target.gateway]
        lane.under_way.remove(put)
        if sent:
            lane.last = max(lane.last, put.started)
        return lane
