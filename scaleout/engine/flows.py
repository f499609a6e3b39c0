"""The flow network: one SimPy object that shares links fairly among all transfers under way.

All changes at one instant make one solve, after everything else of that instant; only transfers
that share links, directly or through others, with one that came or went are solved again; a
transfer whose rate stays is not touched. Finish dates sit in a heap. At a fault all transfers go
on with what is left of them, over the links of the new epoch; one that crosses a dead link waits.
"""

import heapq
from array import array
from functools import partial
from typing import Any

import numpy as np
import simpy
from simpy.events import URGENT, EventPriority

from scaleout.engine.program import ticks
from scaleout.engine.quotient import Leg, Quotient, Transfer, Wiring
from scaleout.engine.timeline import Moved

__all__ = ["Done", "FlowNetwork"]

_LAST = EventPriority(2)
"""Below SimPy's own priorities: after everything else of the instant."""


class Done(simpy.Event):
    """An event that can be triggered ahead of time."""

    def succeed_after(self, delay: int, value: Any) -> None:
        """Trigger the event `delay` ticks from now."""
        self._ok = True
        self._value = value
        self.env.schedule(self, delay=delay)


class _Flow:
    """A leg under way: its share done is brought up to date when its rate changes."""

    __slots__ = (
        "done", "finish", "finished", "key", "latency", "leg", "place", "rate", "rest", "since", "start", "total",
    )  # fmt: skip

    def __init__(self, key: int, leg: Leg, rest: tuple[Leg, ...], finished: Done, start: int) -> None:
        self.key, self.leg, self.rest, self.finished = key, leg, rest, finished
        self.latency = leg.latency
        self.place = leg.index
        """Of the leg among those of all epochs: which links it loads."""
        start, self.start = int(self.finished.env.now), start
        self.done, self.since, self.rate, self.finish = 0.0, start, 0.0, -1
        self.total = 0
        """Ticks of the whole leg at the present rate; 0 where it does not move."""


class FlowNetwork:
    """Transfers over shared links.

    Parameters
    ----------
    env
        Simulated time, in ticks.
    wiring
        Links, loads and rates.
    """

    def __init__(self, env: simpy.Environment, wiring: Quotient) -> None:
        self.env = env
        self.solves = 0
        # stretches at a constant rate: place, start and end [tick], and share of the leg
        self._when, self._share_done = array("q"), array("d")
        self._wiring = wiring.epochs[0]
        self._legs = self._wiring.legs
        self._first = 0
        for number, epoch in enumerate(wiring.epochs[1:], 1):
            change = simpy.Event(env)
            change.callbacks.append(partial(self._enter, number, epoch))
            change._ok, change._value = True, None
            # before everything else of the instant
            env.schedule(change, priority=URGENT, delay=epoch.start)
        self._users: list[dict[int, _Flow]] = [{} for _ in wiring.capacity]
        self._touched: dict[int, _Flow] = {}
        self._heap: list[tuple[int, int, _Flow]] = []
        self._rates: dict[tuple[int, ...], dict[int, float]] = {}
        self._next_key = 0
        self._wake_at = -1
        self._solve_due = False

    def start(self, transfer: Transfer, finished: Done) -> None:
        """Begin a transfer; `finished` fires, with the time of this start, after its last byte and latency."""
        self._begin(transfer.legs, finished, int(self.env.now))

    def _begin(self, legs: tuple[Leg, ...], finished: Done, start: int) -> None:
        """Begin the first of the legs of a transfer that started at `start`."""
        wait = 0
        while legs and not legs[0].size:
            wait, legs = wait + self._legs[legs[0].index].latency, legs[1:]
        if not legs:
            finished.succeed_after(wait, start)
        elif wait:
            self._later(wait, legs, finished, start)
        else:
            flow = _Flow(self._next_key, self._legs[legs[0].index], legs[1:], finished, start)
            flow.place += self._first
            self._next_key += 1
            for link in flow.leg.links:
                self._users[link][flow.key] = flow
            self._touched[flow.key] = flow
            self._solve_later()

    def _later(self, wait: int, legs: tuple[Leg, ...], finished: Done, start: int) -> None:
        self.env.timeout(wait).callbacks.append(lambda _: self._begin(legs, finished, start))

    def _solve_later(self) -> None:
        if not self._solve_due:
            self._solve_due = True
            event = simpy.Event(self.env)
            event.callbacks.append(self._solve)
            event._ok, event._value = True, None
            self.env.schedule(event, priority=_LAST)

    def _solve(self, _: simpy.Event) -> None:
        """Give every transfer that was touched, and all that share links with it, its fair rate."""
        self._solve_due = False
        touched, self._touched = self._touched, {}
        visited: set[int] = set()
        for flow in touched.values():
            if flow.key not in visited and flow.finish != -2:
                component = self._component(flow)
                visited.update(member.key for member in component)
                self._share(component)
        self._plan_wake()

    def _component(self, flow: _Flow) -> list[_Flow]:
        """All transfers that are linked to this one by shared links."""
        found, queue = {flow.key: flow}, [flow]
        for member in queue:
            for link in member.leg.links:
                users = self._users[link]
                if len(users) > 1:
                    for key, other in users.items():
                        if key not in found:
                            found[key] = other
                            queue.append(other)
        return queue

    def _share(self, component: list[_Flow]) -> None:
        if len(component) == 1:
            self._set_rate(component[0], component[0].leg.alone)
            return
        active = tuple(sorted(flow.leg.index for flow in component))
        rates = self._rates.get(active)
        if rates is None:
            self.solves += 1
            rates = dict(zip(active, self._wiring.rates(active).tolist(), strict=True))
            self._rates[active] = rates
        for flow in component:
            self._set_rate(flow, rates[flow.leg.index])

    def _set_rate(self, flow: _Flow, rate: float) -> None:
        if rate == flow.rate:
            return
        now = int(self.env.now)
        self._carry(flow, now)
        flow.since, flow.rate = now, rate
        if not rate:
            flow.total, flow.finish = 0, -1
            return
        seconds = flow.leg.size / rate
        flow.total = ticks(seconds)
        flow.finish = now + ticks((1.0 - flow.done) * seconds)
        heapq.heappush(self._heap, (flow.finish, flow.key, flow))

    def _carry(self, flow: _Flow, now: int) -> None:
        """Count what was carried at the present rate."""
        if flow.total and now > flow.since:
            share = (now - flow.since) / flow.total
            flow.done += share
            self._note(flow, now, share)

    def _note(self, flow: _Flow, now: int, share: float) -> None:
        self._when.extend((flow.place, flow.since, now))
        self._share_done.append(share)

    def _enter(self, number: int, wiring: Wiring, _: simpy.Event) -> None:
        """Go over to another epoch: what is under way goes on over its links."""
        now = int(self.env.now)
        for key, flow in sorted({key: flow for users in self._users for key, flow in users.items()}.items()):
            leg = wiring.legs[flow.leg.index]
            if not self._wiring.alike(wiring, leg.index):
                self._carry(flow, now)
                flow.since, flow.place = now, number * len(wiring.legs) + leg.index
                for at in flow.leg.links:
                    del self._users[at][key]
                for at in leg.links:
                    self._users[at][key] = flow
            flow.leg = leg
            self._touched[key] = flow
        self._wiring, self._legs, self._rates = wiring, wiring.legs, {}
        self._first = number * len(wiring.legs)
        if self._touched:
            self._solve_later()

    def stalled(self) -> list[Leg]:
        """Legs that are under way, by index: after the last event, those that never end."""
        legs = {flow.leg.index: flow.leg for users in self._users for flow in users.values()}
        return [leg for _, leg in sorted(legs.items())]

    def account(self) -> Moved:
        """What was carried, and when."""
        leg, start, end = np.array(self._when, dtype=np.int64).reshape(-1, 3).T
        return Moved(leg, start, end, np.array(self._share_done, dtype=np.float64))

    def _plan_wake(self) -> None:
        heap = self._heap
        while heap and heap[0][2].finish != heap[0][0]:
            heapq.heappop(heap)
        if heap and (self._wake_at < 0 or heap[0][0] < self._wake_at):
            self._wake_at = heap[0][0]
            self.env.timeout(self._wake_at - int(self.env.now)).callbacks.append(self._wake)

    def _wake(self, _: simpy.Event) -> None:
        """End the transfers whose date has come."""
        now = int(self.env.now)
        if self._wake_at == now:
            self._wake_at = -1
        heap = self._heap
        while heap and heap[0][0] <= now:
            date, key, flow = heapq.heappop(heap)
            if flow.finish != date:
                continue
            self._note(flow, now, 1.0 - flow.done)
            flow.finish = -2
            for link in flow.leg.links:
                users = self._users[link]
                del users[key]
                self._touched.update(users)
            if flow.rest:
                self._later(flow.latency, flow.rest, flow.finished, flow.start)
            else:
                flow.finished.succeed_after(flow.latency, flow.start)
        if self._touched:
            self._solve_later()
        self._plan_wake()
