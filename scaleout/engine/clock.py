"""Simulated time: SimPy's environment in whole ticks, with events that make calls."""

from collections.abc import Callable
from heapq import heappop

import simpy
from simpy.events import NORMAL, EventPriority

__all__ = ["Alarm", "Calls", "Clock"]

Calls = list[Callable[[simpy.Event], None]]


class Clock(simpy.Environment):
    """An environment whose time is a whole number."""

    _now: int

    @property
    def now(self) -> int:
        """Time [tick]."""
        return self._now

    def run_down(self) -> int:
        """Process all events, and count them; as `run`, for events that neither fail nor stop anything."""
        queue, count = self._queue, 0
        while queue:
            self._now, _, _, event = heappop(queue)  # type: ignore[assignment]
            calls, event.callbacks = event.callbacks, None  # type: ignore[assignment]
            count += 1
            for call in calls:
                call(event)
        return count


class Alarm(simpy.Event):
    """An event `delay` ticks from now that makes these calls."""

    def __init__(self, env: Clock, delay: int, calls: Calls, priority: EventPriority = NORMAL) -> None:
        self.env, self.callbacks, self._ok, self._value = env, calls, True, None
        env.schedule(self, priority, delay)

    def cancel(self) -> None:
        """Make none of the calls."""
        self.callbacks = []
