"""Simulations of ways with so many replicas: whether the promise is kept, and what it takes."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import PlanError, ScaleoutError
from scaleout.evaluate.cost import cost_of
from scaleout.evaluate.plant import energy_over
from scaleout.evaluate.promise import floor_of
from scaleout.evaluate.steady import Steady, Typical, steady
from scaleout.hardware.power import energy_of
from scaleout.io.requests import Trace
from scaleout.planning.serve_bounds import MARGIN, Demand, least_time
from scaleout.planning.serve_demand import Stream
from scaleout.planning.serve_question import Question
from scaleout.planning.serve_ways import Space, Way
from scaleout.serve import Prepared, serve_log
from scaleout.served import Floor, Served
from scaleout.serving.request import Request
from scaleout.serving.room import Room, room
from scaleout.serving.steps import PoolSteps
from scaleout.serving.work import Work
from scaleout.specs import Facility, Pool, ServingExperiment, Slo

__all__ = ["Trial", "Trials", "kept", "on_pool", "simulated"]

Counts = tuple[int, ...]
_SECOND = 1.0 / TICKS_PER_SECOND
_TURNS = 24
"""Numbers of replicas that a guess tries, each an eighth more than the one before."""


class Trial(NamedTuple):
    """One simulation; what came out is None where it was ended as soon as the promise was broken."""

    kept: bool
    served: Served | None


class _BrokenError(Exception):
    """Too many requests have missed the promise."""


def kept(served: Served, share: float) -> bool:
    """Whether a promise was kept, by a stream that is kept up with."""
    return (served.attainment or 0.0) >= share and served.stability in ("stable", "backlogged")


class _Watch:
    """Ends a simulation when more requests than may have missed the promise."""

    def __init__(self, slo: Slo, count: int) -> None:
        self.slo, self.left = slo, count - math.ceil(slo.share * count - 1e-9)

    def __call__(self, request: Request) -> None:
        if request.state != "served" or self._misses(request):
            self.left -= 1
            if self.left < 0:
                raise _BrokenError

    def _misses(self, request: Request) -> bool:
        slo = self.slo
        if slo.ttft is not None and (request.first - request.arrival) * _SECOND > slo.ttft:
            return True
        if slo.latency is not None and (request.finish - request.arrival) * _SECOND > slo.latency:
            return True
        if slo.tpot is None or request.outputs < 2:
            return False
        return (request.finish - request.first) * _SECOND / (request.outputs - 1) > slo.tpot


class Trials:
    """Everything that was simulated, once.

    Parameters
    ----------
    question, space
        Which ways.
    rows
        Of the trace that requests are of.
    stream, demand
        The requests, and what they ask at least.
    """

    def __init__(
        self, question: Question, space: Space, rows: Trace | None, stream: Stream, demand: Demand
    ) -> None:  # fmt: skip
        self.question, self.space, self.rows = question, space, rows
        self.stream, self.demand = stream, demand
        self.done: dict[tuple[Way, Counts], Trial] = {}
        self.simulated = 0
        self._steps: dict[tuple[Way, Counts], list[PoolSteps]] = {}
        self._times: dict[tuple[object, ...], float] = {}
        self._guesses: dict[Way, Counts | None] = {}
        self._fewest: dict[Way, Counts | None] = {}

    # --- simulation --------------------------------------------------------------------------------

    def at(self, way: Way, counts: Counts, *, whole: bool = False) -> Trial:
        """With so many replicas; `whole`: to the end, whatever becomes of the promise."""
        key = way, counts
        found = self.done.get(key)
        if found is None or (whole and found.served is None):
            found = self.done[key] = self.simulate(self.space.experiment(way, counts), way, counts, whole=whole)
        return found

    def simulate(
        self, spec: ServingExperiment, way: Way, counts: Counts, *, whole: bool = False, slower: float = 1.0
    ) -> Trial:
        """An experiment of a way, which may differ from it in its requests; with steps that much slower."""
        self.simulated += 1
        timers = self.timers(way, counts)
        if slower != 1.0:
            timers = [_slowed(timer, slower) for timer in timers]
        return simulated(spec, timers, self.rows, len(self.stream.arrival), whole=whole)

    def timers(self, way: Way, counts: Counts) -> list[PoolSteps]:
        """Times of steps of a way's pools; those that stand alike share what they know."""
        spec = self.space.experiment(way, counts)
        node = spec.system.chips_per_node
        starts, start = [], 0
        for pool in spec.pools:
            starts.append(start)
            start += pool.chips
        inside = all(at % node + pool.chips_each <= node for at, pool in zip(starts, spec.pools, strict=True))
        # one replica stands for all of its pool: the first
        key = way, tuple(at % node for at in starts) if inside else tuple(starts)
        if key not in self._steps:
            self._steps[key] = [PoolSteps(spec, pool, at) for pool, at in zip(spec.pools, starts, strict=True)]
        return [on_pool(timer, spec, pool) for timer, pool in zip(self._steps[key], spec.pools, strict=True)]

    # --- bounds ------------------------------------------------------------------------------------

    def floor(self, way: Way) -> Floor:
        """What a request can be served in that is longer than all but those that may break the promise."""
        spec = self.space.experiment(way, (1,) * len(way.pools))
        inputs = sorted(self.stream.inputs.tolist())
        return floor_of(
            spec, self.timers(way, _ones(way)), [room(spec, pool) for pool in spec.pools], inputs[self._due]
        )

    @property
    def _due(self) -> int:
        """Place of the longest prompt, in order, that must be served as promised if the longest are not."""
        count = len(self.stream.inputs)
        return min(count - 1, max(0, math.ceil(self.question.slo.share * count - 1e-9) - 1))

    def hopeless(self, floor: Floor) -> str:
        """Which promise an empty system breaks for too many; "" for none."""
        slo = self.question.slo
        if slo.ttft is not None and MARGIN * floor.ttft > slo.ttft:
            return "ttft"
        if slo.tpot is not None and MARGIN * floor.tpot > slo.tpot:
            return "tpot"
        if slo.latency is not None and MARGIN * floor.ttft > slo.latency:
            return "latency"
        return ""

    def least(self, way: Way) -> Counts | None:
        """Replicas of each pool that the promise takes at least, by bounds alone; None where none are enough."""
        spec, found = self.space.experiment(way, _ones(way)), []
        timers = self.timers(way, _ones(way))
        for pool, timer in zip(spec.pools, timers, strict=True):
            key = way[:4], pool
            if key not in self._times:
                self._times[key] = least_time(spec, pool, timer, room(spec, pool), self.demand)
            took = self._times[key]
            if not math.isfinite(took):
                return None
            found.append(max(1, math.ceil(took / self.demand.span - 1e-9)))
        return tuple(found)

    def price(self, way: Way, counts: Counts) -> float:
        """Of the objective, what so many replicas are not below: at rest, whatever they do."""
        spec = self.space.experiment(way, counts)
        if self.question.minimise == "chips":
            return float(spec.chips)
        power = energy_over(spec.system, spec.facility, spec.chips, 1.0, _resting(spec), 0.0)
        if self.question.minimise == "energy":
            return power.power * self.stream.span / float(self.stream.outputs.sum())
        cost = cost_of(spec, 1.0, 0.0, power)
        return 0.0 if cost is None else cost.hour_total

    def resting(self, way: Way, counts: Counts) -> float:
        """Power of so many replicas that do nothing [W]."""
        spec = self.space.experiment(way, counts)
        return energy_over(spec.system, spec.facility, spec.chips, 1.0, _resting(spec), 0.0).power

    def bound(self, way: Way, counts: Counts) -> float:
        """What so many replicas of each pool or more are not below."""
        first = self.price(way, counts)
        if self.question.minimise == "chips":
            return first
        each = self._without_network(way)
        if len(counts) > 1:
            return min(first, sum(count * one for count, one in zip(counts, each, strict=True)))
        # all but the network grows with the replicas; some more of them may have less of it
        least, count = first, counts[0]
        while (count + 1) * each[0] < least:
            count += 1
            least = min(least, self.price(way, (count,)))
        return least

    def _without_network(self, way: Way) -> list[float]:
        """Of one replica of each pool, without cables and switches."""
        spec = self.space.experiment(way, _ones(way))
        alone = replace(spec, facility=_without_switches(spec.facility))
        found = []
        for pool in alone.pools:
            spec = replace(alone, pools=(replace(pool, role="both"),))
            power = energy_over(spec.system, spec.facility, spec.chips, 1.0, _resting(spec), 0.0)
            if self.question.minimise == "energy":
                found.append(power.power * self.stream.span / float(self.stream.outputs.sum()))
            else:
                cost = cost_of(spec, 1.0, 0.0, power)
                found.append(0.0 if cost is None else cost.hour_total)
        return found

    def value(self, served: Served) -> float:
        """Of the objective; infinite beyond a limit of power."""
        most = self.question.max_power
        if most is not None and served.energy is not None and served.energy.power > most:
            return math.inf
        match self.question.minimise:
            case "chips":
                return float(served.chips)
            case "energy":
                return served.energy.per_token if served.energy is not None else math.inf
        return served.cost.hour_total if served.cost is not None else math.inf

    # --- a first guess -----------------------------------------------------------------------------

    def guess(self, way: Way) -> Counts | None:
        """Replicas that a steady state takes for about the promise; None where the closed form knows none."""
        if way not in self._guesses:
            self._guesses[way] = self._guess(way)
        return self._guesses[way]

    def fewest(self, way: Way) -> Counts | None:
        """Replicas that can serve the mean rate, whatever is promised, by a steady state; one pool alone."""
        if way not in self._fewest:
            try:
                spec = self.space.experiment(way, (1,))
                timers = self.timers(way, (1,))
            except ScaleoutError:
                return None
            state = _settled(spec, 0, 1, timers, [room(spec, spec.pools[0])], self._typical)
            many = None if state is None or not state.most > 0.0 else max(1, math.ceil(self.question.rate / state.most))
            self._fewest[way] = None if many is None else (many,)
        return self._fewest[way]

    @property
    def _typical(self) -> Typical:
        stream = self.stream
        return Typical(
            rate=self.question.rate, prompt=float(stream.inputs.mean()), reply=max(1.0, float(stream.outputs.mean()))
        )

    def _guess(self, way: Way) -> Counts | None:
        slo, typical = self.question.slo, self._typical
        try:
            one = self.space.experiment(way, _ones(way))
            rooms = [room(one, pool) for pool in one.pools]
            timers = self.timers(way, _ones(way))
        except ScaleoutError:
            return None
        counts = list(_ones(way))
        for at, pool in enumerate(one.pools):
            state = _settled(one, at, 1, timers, rooms, typical)
            if state is None or not state.most > 0.0:
                return None
            count, fits = max(1, math.ceil(typical.rate / state.most)), _fits(slo, pool, one, typical)
            for _ in range(_TURNS):
                state = _settled(one, at, count, timers, rooms, typical)
                if state is None or fits(state):
                    break
                count = max(count + 1, round(count * 1.12))
            else:
                return None
            counts[at] = count
        return tuple(counts)


def simulated(
    spec: ServingExperiment,
    timers: Sequence[PoolSteps],
    rows: Trace | None,
    count: int,
    *,
    whole: bool = False,
) -> Trial:
    """An experiment with these times of steps."""
    rooms = [room(spec, pool) for pool in spec.pools]
    watch = None if whole else _Watch(spec.slo, count)
    try:
        served, _ = serve_log(spec, rows, sensitivity=False, prepared=Prepared(list(timers), rooms), heard=watch)
    except _BrokenError:
        return Trial(False, None)
    except PlanError:
        # an empty system breaks it
        return Trial(False, None)
    return Trial(kept(served, spec.slo.share), served)


def _ones(way: Way) -> Counts:
    return (1,) * len(way.pools)


def on_pool(timer: PoolSteps, spec: ServingExperiment, pool: Pool) -> PoolSteps:
    """The same times, of other numbers of replicas."""
    found = copy.copy(timer)
    found.experiment, found.pool = spec, pool
    return found


class _Slower:
    """Steps that take longer, or less long."""

    def __init__(self, timer: PoolSteps, factor: float) -> None:
        self._timer, self._factor = timer, factor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._timer, name)

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        return tuple(round(ticks * self._factor) for ticks in self._timer.stages(works))


def _slowed(timer: PoolSteps, factor: float) -> PoolSteps:
    return cast(PoolSteps, _Slower(timer, factor))


def _resting(spec: ServingExperiment) -> dict[str, float]:
    """Energy of chips that do nothing for a second [J]."""
    idle = sum(pool.chips * energy_of(pool.chip or spec.system.chip).idle for pool in spec.pools)
    return {"idle": idle, **dict.fromkeys(("compute", "vector", "hbm", "links"), 0.0)}


def _without_switches(facility: Facility | None) -> Facility | None:
    """The place with a network between nodes that costs and draws nothing."""
    if facility is None:
        return None
    # next to nothing, as powers are above 0
    return replace(facility, switch_price=0.0, optics_price=0.0, switch_power=1e-9, optics_power=1e-9)


def _fits(slo: Slo, pool: Pool, spec: ServingExperiment, typical: Typical) -> Callable[[Steady], bool]:
    """Whether means leave room for the tail: by so much as simulations of chat show."""

    def fits(state: Steady) -> bool:
        if state.most <= typical.rate / 0.95:
            return False
        if pool.role != "prefill" and slo.tpot is not None and 1.3 * state.tpot > slo.tpot:
            return False
        if pool.role != "decode" and slo.ttft is not None and 3.0 * state.ttft > slo.ttft:
            return False
        whole = state.ttft + typical.reply * state.tpot
        return slo.latency is None or 2.0 * whole <= slo.latency

    return fits


def _settled(
    spec: ServingExperiment, at: int, count: int, timers: Sequence[PoolSteps], rooms: list[Room], typical: Typical
) -> Steady | None:
    """With so many replicas of one pool, and more than enough of the others."""
    pools = tuple(replace(pool, replicas=count if place == at else 1 << 20) for place, pool in enumerate(spec.pools))
    found = [on_pool(timer, spec, pool) for timer, pool in zip(timers, pools, strict=True)]
    try:
        return steady(_Pools(spec, pools), list(found), list(rooms), typical)  # type: ignore[arg-type]
    except PlanError:
        return None


class _Pools:
    """An experiment with other pools, unchecked."""

    def __init__(self, spec: ServingExperiment, pools: tuple[Pool, ...]) -> None:
        self.pools, self.max_batched_tokens, self.max_sequences = pools, spec.max_batched_tokens, spec.max_sequences
