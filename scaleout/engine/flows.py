"""The flow network: one SimPy object that shares links fairly among all transfers under way.

All changes at one instant make one solve, after everything else of that instant; only transfers
that share links, directly or through others, with one that came or went are solved again; a
transfer whose rate stays is not touched. Links that all their transfers cannot fill, even if each
had all others to itself, bind nobody: sharing them does not count. Finish dates sit in a heap. A
transfer that shares nothing gets its rate at once, and while that is so nobody asks when its last
byte is through: what is late to leave its links leaves before anybody is counted as sharing them.
At a fault all transfers go on with what is left of them, over the links of the new epoch; one that
crosses a dead link waits.
"""

import heapq
from array import array
from collections.abc import Sequence
from functools import partial

import numpy as np
import simpy
from simpy.events import URGENT, EventPriority

from scaleout.arrays import Floats
from scaleout.engine.clock import Alarm, Calls, Clock
from scaleout.engine.program import ticks
from scaleout.engine.quotient import Leg, Load, Transfer, Wiring
from scaleout.engine.timeline import Moved

__all__ = ["Flow", "FlowNetwork", "share_of"]

_WHOLE = 1 << 40
_FULL = _WHOLE - (1 << 10)
"""Loads are whole numbers, so that sums are exact: of all that a link carries, and from where on it may bind."""
_LAST = EventPriority(2)
"""Below SimPy's own priorities: after everything else of the instant."""
_KEPT = 1 << 16
"""Sets of transfers whose rates are remembered at most."""


class Flow:
    """A leg under way: its share done is brought up to date when its rate changes."""

    __slots__ = (
        "alarm", "done", "ends", "finish", "key", "latency", "leg", "place", "rate", "rest", "scale", "since", "total",
    )  # fmt: skip

    def __init__(self, key: int, leg: Leg, rest: tuple[Leg, ...], ends: Calls, now: int, scale: float) -> None:
        self.key, self.leg, self.rest, self.ends = key, leg, rest, ends
        self.scale = scale
        """Its bytes over those of the leg."""
        self.latency = leg.latency
        self.place = leg.index
        """Of the leg among those of all epochs: which links it loads."""
        self.done, self.since, self.rate, self.finish = 0.0, now, 0.0, -1
        self.total = 0
        """Ticks of the whole leg at the present rate; 0 where it does not move."""
        self.alarm: Alarm | None = None
        """Of the end with its latency, while it shares nothing."""


class FlowNetwork:
    """Transfers over shared links.

    Parameters
    ----------
    env
        Simulated time, in ticks.
    epochs
        Links, loads and rates, from each fault on.
    """

    def __init__(self, env: Clock, epochs: Sequence[Wiring]) -> None:
        self.env = env
        self.solves = 0
        # stretches at a constant rate: place, start and end [tick], and share of the leg
        self._when, self._share_done = array("q"), array("d")
        self._wiring = epochs[0]
        self._legs = self._wiring.legs
        self._first = 0
        for number, epoch in enumerate(epochs[1:], 1):
            # before everything else of the instant
            Alarm(env, epoch.start, [partial(self._enter, number, epoch)], URGENT)
        self._users: list[dict[int, Flow]] = [{} for _ in epochs[0].capacity]
        self._shares = _shares(self._wiring)
        self._load = [0] * len(self._users)
        """Of each link by its transfers, if each had its rate alone."""
        self._touched: dict[int, Flow] = {}
        self._heap: list[tuple[int, int, Flow]] = []
        self._rates: dict[tuple[int, ...], dict[int, float]] = {}
        self._alone: dict[int, int] = {}
        """Ticks of legs at their rate alone, by place."""
        self._next_key = 0
        self._wake_at = -1
        self._solve_due = False

    def start(self, transfer: Transfer, ends: Calls, scale: float = 1.0) -> None:
        """Begin a transfer; the calls are made after its last byte and latency.

        Parameters
        ----------
        scale
            Its bytes over those of its legs [1].
        """
        self._begin(transfer.legs, ends, scale)

    def _begin(self, legs: tuple[Leg, ...], ends: Calls, scale: float) -> None:
        """Begin the first of these legs of a transfer."""
        wait = 0
        while legs and not legs[0].size * scale:
            wait, legs = wait + self._legs[legs[0].index].latency, legs[1:]
        if not legs:
            Alarm(self.env, wait, ends)
            return
        if wait:
            Alarm(self.env, wait, self._then(legs, ends, scale))
            return
        now, users, load = self.env.now, self._users, self._load
        flow = Flow(self._next_key, self._legs[legs[0].index], legs[1:], ends, now, scale)
        flow.place += self._first
        self._next_key += 1
        free = True
        for link, share in self._shares[flow.leg.index]:
            if users[link] and load[link] + share > _FULL:
                self._clear(link, now)
                free = free and not (users[link] and load[link] + share > _FULL)
            users[link][flow.key] = flow
            load[link] += share
        if free and flow.leg.alone:
            if scale == 1.0:
                total = self._alone.get(flow.place)
                if total is None:
                    total = self._alone[flow.place] = ticks(flow.leg.size / flow.leg.alone)
                flow.rate, flow.total, flow.finish = flow.leg.alone, total, now + total
            else:
                self._run_at(flow, flow.leg.alone, now)
        if flow.total:
            flow.alarm = Alarm(self.env, flow.total + flow.latency, [partial(self._passed, flow)])
        else:
            # less than a tick is left to the end of the instant
            flow.rate = 0.0
            self._touched[flow.key] = flow
            self._solve_later()

    def _then(self, legs: tuple[Leg, ...], ends: Calls, scale: float) -> Calls:
        """What is to be done when the last leg is over: begin the next, or the calls."""
        return [lambda _: self._begin(legs, ends, scale)] if legs else ends

    def _clear(self, link: int, now: int) -> None:
        """Whoever shared nothing on a link and is through leaves it."""
        for flow in list(self._users[link].values()):
            if flow.alarm and flow.finish <= now:
                self._leave(flow)

    def _leave(self, flow: Flow) -> None:
        """The last byte is through."""
        self._note(flow, flow.finish, 1.0 - flow.done)
        flow.finish = -2
        key, users, load, shared = flow.key, self._users, self._load, not flow.alarm
        for link, share in self._shares[flow.leg.index]:
            del users[link][key]
            if shared and load[link] > _FULL:
                self._touched.update(users[link])
            load[link] -= share

    def _passed(self, flow: Flow, event: simpy.Event) -> None:
        """A transfer that shared nothing is over, its latency too."""
        if flow.finish != -2:
            self._leave(flow)
        # the two name each other
        flow.alarm = None
        if flow.rest:
            self._begin(flow.rest, flow.ends, flow.scale)
            return
        for call in flow.ends:
            call(event)

    def _solve_later(self) -> None:
        if not self._solve_due:
            self._solve_due = True
            Alarm(self.env, 0, [self._solve], _LAST)

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

    def _component(self, flow: Flow) -> list[Flow]:
        """All transfers that are linked to this one by shared links that may bind."""
        found, queue = {flow.key: flow}, [flow]
        seen: set[int] = set()
        for member in queue:
            for link in member.leg.links:
                users = self._users[link]
                if len(users) > 1 and self._load[link] > _FULL and link not in seen:
                    seen.add(link)
                    for key, other in users.items():
                        if key not in found:
                            found[key] = other
                            queue.append(other)
        return queue

    def _share(self, component: list[Flow]) -> None:
        if len(component) == 1:
            self._set_rate(component[0], component[0].leg.alone)
            return
        active = tuple(sorted(flow.leg.index for flow in component))
        rates = self._rates.get(active)
        if rates is None:
            self.solves += 1
            if len(self._rates) >= _KEPT:
                self._rates.clear()
            rates = dict(zip(active, self._solved(active).tolist(), strict=True))
            self._rates[active] = rates
        for flow in component:
            self._watch(flow)
            self._set_rate(flow, rates[flow.leg.index])

    def _solved(self, active: tuple[int, ...]) -> Floats:
        """Fair rates of legs that are active together [byte/s]."""
        return self._wiring.rates(active)

    def _watch(self, flow: Flow) -> None:
        """From now on it matters to others when the last byte is through."""
        if flow.alarm:
            flow.alarm.cancel()
            flow.alarm = None
            heapq.heappush(self._heap, (flow.finish, flow.key, flow))

    def _set_rate(self, flow: Flow, rate: float) -> None:
        if rate == flow.rate:
            return
        now = self.env.now
        self._watch(flow)
        self._carry(flow, now)
        if rate:
            self._run_at(flow, rate, now)
            heapq.heappush(self._heap, (flow.finish, flow.key, flow))
        else:
            flow.since, flow.rate, flow.total, flow.finish = now, 0.0, 0, -1

    def _run_at(self, flow: Flow, rate: float, now: int) -> None:
        seconds = flow.leg.size * flow.scale / rate
        flow.since, flow.rate, flow.total = now, rate, ticks(seconds)
        flow.finish = now + (ticks((1.0 - flow.done) * seconds) if flow.done else flow.total)

    def _carry(self, flow: Flow, now: int) -> None:
        """Count what was carried at the present rate."""
        if flow.total and now > flow.since:
            share = (now - flow.since) / flow.total
            flow.done += share
            self._note(flow, now, share)

    def _note(self, flow: Flow, now: int, share: float) -> None:
        self._when.extend((flow.place, flow.since, now))
        self._share_done.append(share * flow.scale)

    def _enter(self, number: int, wiring: Wiring, _: simpy.Event) -> None:
        """Go over to another epoch: what is under way goes on over its links."""
        now = self.env.now
        for link in range(len(self._users)):
            self._clear(link, now)
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
        self._shares, self._load = _shares(wiring), [0] * len(self._users)
        for flow in self._touched.values():
            for link, share in self._shares[flow.leg.index]:
                self._load[link] += share
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
            Alarm(self.env, self._wake_at - self.env.now, [self._wake])

    def _wake(self, _: simpy.Event) -> None:
        """End the transfers whose date has come."""
        now = self.env.now
        if self._wake_at == now:
            self._wake_at = -1
        heap = self._heap
        while heap and heap[0][0] <= now:
            date, flow = heapq.heappop(heap)[::2]
            if flow.finish != date:
                continue
            self._leave(flow)
            Alarm(self.env, flow.latency, self._then(flow.rest, flow.ends, flow.scale))
        if self._touched:
            self._solve_later()
        self._plan_wake()


def _shares(wiring: Wiring) -> list[tuple[tuple[int, int], ...]]:
    """Links that each leg loads, and what of them it takes with its rate alone; more than all of a dead one."""
    return [share_of(leg, load, wiring.capacity) for leg, load in zip(wiring.legs, wiring.loads, strict=True)]


def share_of(leg: Leg, load: Load, capacity: Floats) -> tuple[tuple[int, int], ...]:
    """Of one leg."""
    link, weight, count = load
    taken = dict.fromkeys(leg.links, 0 if leg.alone else 2 * _WHOLE)
    if leg.alone:
        filled = _WHOLE * leg.alone * weight * count / capacity[link]
        for at, share in zip(link.tolist(), np.ceil(filled).astype(np.int64).tolist(), strict=True):
            taken[at] += share
    return tuple(taken.items())
