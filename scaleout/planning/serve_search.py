"""The least replicas of each way, and of all ways the best: bounds, then one simulation, then as many as it takes."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from scaleout.errors import PlanError, SpecError, TopologyError, WorkloadError
from scaleout.planning.search import Level, Search, Stand, search
from scaleout.planning.serve_trials import Trials
from scaleout.planning.serve_ways import Way
from scaleout.served import Floor, Served

__all__ = ["Found", "Hunt"]

Counts = tuple[int, ...]
_ALONE = 0.05
"""Requests at a time in a replica, below which each has it to itself."""
_GUESSES = 8
"""Ways of which the closed form says more than how many replicas the mean rate takes, at least."""
_OFTEN = 16
"""Ways between two signs of life."""
_MOST = 100_000
"""Replicas of a pool."""
_KINDS = ("cannot be timed", "breaks the promise", "bounded", "ruled out by one simulation", "simulated")


class Found(NamedTuple):
    """A way with the least replicas that keep the promise."""

    way: Way
    counts: Counts
    served: Served
    value: float


class Hunt:
    """A search under way.

    Parameters
    ----------
    trials
        Simulations of its space.
    """

    def __init__(self, trials: Trials) -> None:
        self.trials, self.ways = trials, trials.space.ways
        self.best = math.inf
        self.found: dict[int, Found] = {}
        """By number of the way."""
        self.least: dict[int, Counts] = {}
        self.floors: dict[int, Floor] = {}
        self.why: dict[int, str] = {}
        """Of ways that cannot do it: a limit of the promise, "replicas" for limits of chips and power, or words."""
        self.outcome: Search | None = None

    def run(
        self,
        *,
        gap: float,
        more: int,
        enough: Callable[[], bool] | None = None,
        told: Callable[[Stand], None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Search:
        """Go through the space; then as many more ways as are asked for, those that look best first."""
        first = [self.trials.bound(way, (1,) * len(way.pools)) for way in self.ways]
        levels = (
            Level(name="least replicas", values=lambda ones: [self._bound(one) for one in ones]),
            Level(name="one simulation", values=lambda ones: [self._once(one) for one in ones]),
            Level(name="simulations", values=lambda ones: [self._exact(one) for one in ones]),
        )
        for number in self._begin(say):
            # the search begins with what is known already: nothing is no more than its value
            first[number] = 0.0
        self.outcome = search(first, levels, gap=gap, enough=enough, told=told)
        if self.found:
            for _, number in self._guesses():
                if more <= 0 or (enough is not None and enough()):
                    break
                if number not in self.found and math.isfinite(self._bound(number)):
                    more -= 1
                    self._exact(number)
        return self.outcome

    def covered(self) -> dict[str, int]:
        """What became of all points."""
        sums: Counter[str] = Counter()
        assert self.outcome is not None  # noqa: S101  (it was run)
        for number in range(len(self.ways)):
            why = self.why.get(number, "")
            if number in self.found:
                sums[_KINDS[4]] += 1
            elif why in ("ttft", "tpot", "latency", "alone", "replicas"):
                sums[_KINDS[1] if why != "replicas" else "beyond a limit"] += 1
            elif why:
                sums[_KINDS[0]] += 1
            elif int(self.outcome.reached[number]) >= 2:
                sums[_KINDS[3]] += 1
            else:
                sums[_KINDS[2]] += 1
        left = dict(self.trials.space.left_out)
        limited = left.pop("beyond a limit", 0) + sums.pop("beyond a limit", 0)
        return {**left, **({"beyond a limit": limited} if limited else {}), **{
            kind: sums[kind] for kind in _KINDS if sums[kind]
        }}  # fmt: skip

    # --- levels ------------------------------------------------------------------------------------

    def _begin(self, say: Callable[[str], None] | None) -> list[int]:
        """A good way first, so that bounds have something to be above: the one that a steady state likes best."""
        for _, number in self._guesses(say)[:3]:
            if math.isfinite(self._bound(number)) and math.isfinite(self._exact(number)):
                return [number]
        return []

    def _guesses(self, say: Callable[[str], None] | None = None) -> list[tuple[float, int]]:
        """Ways that are likely to come to the least; pairs of pools are too many to be asked."""
        rough = []
        for number, way in enumerate(self.ways):
            if say is not None and number % _OFTEN == 0:
                say(f"steady states, {number:,} of {len(self.ways):,} ways")
            counts = self.trials.fewest(way) if len(way.pools) == 1 else None
            if counts is not None and self._affordable(way, counts):
                rough.append((self.trials.price(way, counts), number))
        found: list[tuple[float, int]] = []
        for price, number in sorted(rough):
            # a guess is no fewer than what the mean rate takes
            if len(found) >= _GUESSES and price > sorted(found)[_GUESSES - 1][0]:
                break
            way = self.ways[number]
            counts = self.trials.guess(way)
            if counts is not None and self._affordable(way, counts):
                found.append((self.trials.price(way, counts), number))
        return sorted(found)

    def _bound(self, number: int) -> float:
        if number in self.why:
            return math.inf
        way = self.ways[number]
        if number not in self.least:
            try:
                floor = self.floors[number] = self.trials.floor(way)
                broken = self.trials.hopeless(floor)
                least = None if broken else self.trials.least(way)
            except (SpecError, TopologyError, PlanError) as error:
                self.why[number] = str(error).splitlines()[0]
                return math.inf
            if broken:
                self.why[number] = broken
                return math.inf
            if least is None:
                self.why[number] = "tpot"
                return math.inf
            if not self._affordable(way, least):
                self.why[number] = "replicas"
                return math.inf
            self.least[number] = least
        return self.trials.bound(way, self.least[number])

    def _affordable(self, way: Way, counts: Counts) -> bool:
        """Whether so many replicas are within the limits of chips and, at rest, of power."""
        chips = sum(count * pool.chips_each for count, pool in zip(counts, way.pools, strict=True))
        most, power = self.trials.question.max_chips, self.trials.question.max_power
        if (most is not None and chips > most) or max(counts) > _MOST:
            return False
        return power is None or self.trials.resting(way, counts) <= power

    def _once(self, number: int) -> float:
        """A bound from the most replicas that would be better than the best so far: where they fail, no fewer do."""
        way, least = self.ways[number], self.least[number]
        bound = self.trials.bound(way, least)
        if number in self.found or not math.isfinite(self.best):
            return bound
        if bound >= self.best:
            return bound
        most = tuple(self._most(way, least, at) for at in range(len(least)))
        guess = self.trials.guess(way) if len(way.pools) == 1 else None
        if guess is not None and most[0] > 2 * guess[0] + 2:
            return bound
        try:
            if self.trials.at(way, most).kept:
                return bound
        except (SpecError, TopologyError, WorkloadError) as error:
            self.why[number] = str(error).splitlines()[0]
            return math.inf
        beyond = []
        for at, count in enumerate(most):
            further = list(least)
            further[at] = count + 1
            beyond.append(self.trials.bound(way, tuple(further)))
        return max(bound, min(beyond))

    def _most(self, way: Way, least: Counts, at: int) -> int:
        """Replicas of a pool, with the least of the others, that are below the best so far."""

        def cheaper(count: int) -> bool:
            counts = (*least[:at], count, *least[at + 1 :])
            return self._affordable(way, counts) and self.trials.price(way, counts) < self.best

        low, high = least[at], least[at] + 1
        while cheaper(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if cheaper(middle) else (low, middle)
        return low

    def _exact(self, number: int) -> float:
        if number in self.found:
            return self.found[number].value
        if number in self.why:
            return math.inf
        way = self.ways[number]
        try:
            counts = self._fewest(way, self.least[number]) if len(way.pools) == 1 else self._pair(way, number)
        except (SpecError, TopologyError, WorkloadError) as error:
            self.why[number] = str(error).splitlines()[0]
            return math.inf
        if counts is None:
            self.why.setdefault(number, "replicas" if self.alone(way) else "alone")
            return math.inf
        served = self.trials.at(way, counts).served
        value = math.inf if served is None else self.trials.value(served)
        if served is None or not math.isfinite(value):
            self.why[number] = "replicas"
            return math.inf
        self.found[number] = Found(way, counts, served, value)
        self.best = min(self.best, value)
        return value

    # --- replicas ----------------------------------------------------------------------------------

    def alone(self, way: Way) -> bool:
        """Whether the promise is kept where nearly every request has replicas to itself."""
        spec = self.trials.space.experiment(way, (1,) * len(way.pools))
        slo, stream = self.trials.question.slo, self.trials.stream
        latency = slo.latency or (slo.ttft or 1.0) + (slo.tpot or 0.1) * float(stream.outputs.mean())
        arrivals = replace(spec.requests.arrivals, rate=_ALONE / latency)
        slow = replace(spec, requests=replace(spec.requests, arrivals=arrivals))
        return self.trials.simulate(slow, way, (1,) * len(way.pools)).kept

    def _fewest(self, way: Way, least: Counts) -> Counts | None:
        """The least replicas that keep the promise: more keep it too, and fewer do not."""
        guess = self.trials.guess(way) or least
        return self._along(way, least, 0, max(least[0], guess[0]))

    def _along(self, way: Way, least: Counts, at: int, start: int) -> Counts | None:
        """The least of one pool, with the others as they are."""

        def counts(count: int) -> Counts:
            return (*least[:at], count, *least[at + 1 :])

        low, high = least[at] - 1, start
        while not self._affordable(way, counts(high)) and high > least[at]:
            high -= 1
        step, asked = max(1, start // 16), False
        while not self.trials.at(way, counts(high)).kept:
            low, high = high, high + step
            step *= 2
            if not self._affordable(way, counts(high)):
                most = self._limit(way, counts(low), at)
                if most <= low:
                    return None
                high = most
            elif high > 2 * start + 2 and not asked:
                asked = True
                if not self.alone(way):
                    return None
        step = max(1, high // 16)
        while high - low > 1:
            # close below it first: that is where the guess says
            middle = max(high - step, (low + high) // 2)
            step *= 2
            if self.trials.at(way, counts(middle)).kept:
                high = middle
            else:
                low = middle
        return counts(high)

    def _limit(self, way: Way, counts: Counts, at: int) -> int:
        """Replicas of a pool that the limit of chips allows beside the others."""
        most = self.trials.question.max_chips
        if most is None:
            low, high = counts[at], _MOST + 1
            while high - low > 1 and self.trials.question.max_power is not None:
                middle = (low + high) // 2
                fits = self._affordable(way, (*counts[:at], middle, *counts[at + 1 :]))
                low, high = (middle, high) if fits else (low, middle)
            return high - 1
        others = sum(
            count * pool.chips_each
            for place, (count, pool) in enumerate(zip(counts, way.pools, strict=True))
            if place != at
        )
        return min(_MOST, (most - others) // way.pools[at].chips_each)

    def _pair(self, way: Way, number: int) -> Counts | None:
        """The cheapest two numbers that keep the promise: for each of the first the least of the second."""
        least, trials = self.least[number], self.trials
        guess = tuple(max(pair) for pair in zip(trials.guess(way) or least, least, strict=True))
        best: tuple[float, Counts] | None = None
        second, tries = guess[1], 0
        first = least[0]
        while first <= 2 * guess[0] + 2 and self._affordable(way, (first, least[1])):
            bound = trials.bound(way, (first, least[1]))
            if best is not None and bound >= best[0]:
                break
            # with the most of the second that is looked at: where that fails, fewer do
            widest = min(2 * guess[1] + 2, self._limit(way, (first, 1), 1))
            if best is None and not trials.at(way, (first, max(least[1], widest))).kept:
                tries += 1
                first += 1 if tries < 3 else max(1, first // 4)
                continue
            counts = self._along(way, (first, least[1]), 1, max(least[1], min(second, widest)))
            if counts is not None:
                served = trials.at(way, counts).served
                value = math.inf if served is None else trials.value(served)
                if best is None or value < best[0]:
                    best = (value, counts)
                second = counts[1]
            first += 1
        return None if best is None else best[1]
