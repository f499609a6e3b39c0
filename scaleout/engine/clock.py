"""Simulated time: SimPy's environment in whole ticks, with events that make calls."""

from collections.abc import Callable
from heapq import heappop, heappush

import simpy
from simpy.events import NORMAL, EventPriority

__all__ = ["Alarm", "Calls", "Clock"]

Calls = list[Callable[[simpy.Event], None]]


class Clock(simpy.Environment):
    """An environment whose time is a whole number."""

    now: int = 0
    """Time [tick]."""

    def run_down(self) -> int:
        """Process all events, and count them; as `run`, for events that neither fail nor stop anything."""
        queue, count = self._queue, 0
        while queue:
            now, _, _, event = heappop(queue)
            self._now = self.now = now  # type: ignore[assignment]
            count += 1
            for call in event.callbacks:
                call(event)
        return count


class Alarm(simpy.Event):
    """An event `delay` ticks from now that makes these calls; once it has rung it may be set again."""

    _ok, _value = True, None

    def __init__(self, env: Clock, delay: int, calls: Calls, priority: EventPriority = NORMAL) -> None:
        self.env, self.callbacks = env, calls
        # as env.schedule, without the call
        heappush(env._queue, (env.now + delay, priority, next(env._eid), self))

    def again(self, delay: int) -> None:
        """Ring once more, so many ticks from now."""
        env: Clock = self.env  # type: ignore[assignment]
        heappush(env._queue, (env.now + delay, NORMAL, next(env._eid), self))

    def cancel(self) -> None:
        """Make none of the calls."""
        self.callbacks = []
