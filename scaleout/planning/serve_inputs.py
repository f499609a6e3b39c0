"""What moves a plan of serving: a tenth more of what was asked, assumed or built, simulated again."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from scaleout.errors import ScaleoutError
from scaleout.evaluate.cost import cost_of
from scaleout.planning.plan import Input
from scaleout.planning.serve_search import Found
from scaleout.planning.serve_trials import Trials, on_pool, simulated
from scaleout.served import Served
from scaleout.serving.steps import PoolSteps
from scaleout.specs import Chip, Facility, Length, ServingExperiment

__all__ = ["inputs_of", "replicas_with"]

_MORE = 1.1
_FURTHEST = 8
"""Replicas that are tried beyond those of the plan, in eighths of them."""
Change = Callable[[ServingExperiment], ServingExperiment]


class _Knob(NamedTuple):
    name: str
    words: str
    change: Change
    simulate: bool = True


def inputs_of(trials: Trials, found: Sequence[Found]) -> tuple[Input, ...]:
    """Each input, the strongest first.

    Parameters
    ----------
    found
        The best, and those that may take its place.
    """
    spec = trials.space.experiment(found[0].way, found[0].counts)
    rows = []
    for knob in _knobs(spec):
        values = [_value(trials, one, knob) for one in found]
        if not math.isfinite(values[0]):
            rows.append(
                Input(name=knob.name, words=f"{knob.words}: twice as much is not enough", change=1.0, moves=True)
            )
            continue
        change = values[0] / found[0].value - 1.0
        rows.append(
            Input(name=knob.name, words=knob.words, change=change, moves=min(values[1:], default=math.inf) < values[0])
        )
    return tuple(sorted(rows, key=lambda row: (-abs(row.change), row.name)))


def replicas_with(
    trials: Trials, found: Found, change: Change | None = None, slower: float = 1.0
) -> tuple[tuple[int, ...], Served] | None:
    """The least replicas of a way after a change, and what comes of them; None where a few more are not enough.

    Of pools apart, both grow or shrink together.
    """

    def trial(counts: tuple[int, ...]) -> Served | None:
        spec = trials.space.experiment(found.way, counts)
        trials.simulated += 1
        if change is None:
            one = trials.simulate(spec, found.way, counts, slower=slower)
        else:
            changed = change(spec)
            timers = trials.timers(found.way, counts)
            if changed.system is not spec.system:
                # what does not depend on the chip is as it was
                if not other:
                    other.extend(
                        PoolSteps(changed, pool, like=like) for pool, like in zip(spec.pools, timers, strict=True)
                    )
                timers = [on_pool(one, changed, pool) for one, pool in zip(other, changed.pools, strict=True)]
            try:
                one = simulated(changed, timers, trials.rows, len(trials.stream.arrival))
            except ScaleoutError:
                return None
        return one.served if one.kept else None

    other: list[PoolSteps] = []
    here = trial(found.counts)
    step = 1 if here is None else -1
    best = None if here is None else (found.counts, here)
    counts = found.counts
    for _ in range(_FURTHEST):
        size = max(1, round(max(counts) / _FURTHEST)) if step > 0 and max(counts) > 2 * _FURTHEST else 1
        counts = tuple(count + step * size for count in counts)
        if min(counts) < 1:
            return best
        served = trial(counts)
        if step > 0 and served is not None:
            return counts, served
        if step < 0:
            if served is None:
                return best
            best = counts, served
    return best


def _value(trials: Trials, found: Found, knob: _Knob) -> float:
    """Of the objective, after a change."""
    if knob.simulate:
        after = replicas_with(trials, found, knob.change)
        return math.inf if after is None else trials.value(after[1])
    if trials.question.minimise != "cost" or found.served.energy is None:
        return found.value
    spec = knob.change(trials.space.experiment(found.way, found.counts))
    cost = cost_of(spec, found.served.duration, found.served.energy.tokens, found.served.energy)
    return found.value if cost is None else cost.hour_total


def _knobs(spec: ServingExperiment) -> list[_Knob]:
    drawn = spec.requests.trace is None
    rows = [_Knob("rate", "requests a second", _rate)]
    if drawn:
        rows.append(_Knob("input", "tokens of a prompt", _longer("input")))
        rows.append(_Knob("output", "tokens of a reply", _longer("output")))
    for name, words in (
        ("ttft", "time to the first token that is promised"),
        ("tpot", "time per token that is promised"),
    ):
        if getattr(spec.slo, name) is not None:
            rows.append(_Knob(name, words, _promise(name)))
    rows.append(_Knob("hbm_bandwidth", "HBM bandwidth of the chip", _chip(_bandwidth)))
    rows.append(_Knob("peak_flops", "peak rate of the chip's matrix units", _chip(_peak)))
    if spec.facility is not None:
        if spec.facility.rent:
            rows.append(_Knob("rent", "rent of a chip", _rent, simulate=False))
        else:
            rows.append(_Knob("price", "price of a chip", _price, simulate=False))
            rows.append(_Knob("electricity", "price of electricity", _electricity, simulate=False))
    return rows


def _rate(spec: ServingExperiment) -> ServingExperiment:
    arrivals = spec.requests.arrivals
    return replace(
        spec, requests=replace(spec.requests, arrivals=replace(arrivals, rate=_MORE * (arrivals.rate or 0.0)))
    )


def _longer(name: str) -> Change:
    def change(spec: ServingExperiment) -> ServingExperiment:
        length: Length = getattr(spec.requests, name)
        if length.mean is None:
            changed = replace(length, low=round(_MORE * length.low), high=round(_MORE * length.high))
        else:
            changed = replace(length, mean=_MORE * length.mean, high=round(_MORE * length.high))
        requests = spec.requests
        longer = replace(requests, input=changed) if name == "input" else replace(requests, output=changed)
        return replace(spec, requests=longer)

    return change


def _promise(name: str) -> Change:
    def change(spec: ServingExperiment) -> ServingExperiment:
        limit = _MORE * getattr(spec.slo, name)
        return replace(spec, slo=replace(spec.slo, ttft=limit) if name == "ttft" else replace(spec.slo, tpot=limit))

    return change


def _chip(change: Callable[[Chip], Chip]) -> Change:
    return lambda spec: replace(spec, system=replace(spec.system, chip=change(spec.system.chip)))


def _bandwidth(chip: Chip) -> Chip:
    return replace(chip, hbm_bandwidth=_MORE * chip.hbm_bandwidth)


def _peak(chip: Chip) -> Chip:
    def more(rates: Mapping[str, float]) -> dict[str, float]:
        return {name: _MORE * rate for name, rate in rates.items()}

    return replace(chip, peak_flops=more(chip.peak_flops), sustained=more(chip.sustained))


def _facility(change: Callable[[Facility], Facility]) -> Change:
    return lambda spec: spec if spec.facility is None else replace(spec, facility=change(spec.facility))


def _rent(spec: ServingExperiment) -> ServingExperiment:
    def dearer(place: Facility) -> Facility:
        return replace(place, rent={name: _MORE * price for name, price in place.rent.items()})

    return _facility(dearer)(spec)


def _electricity(spec: ServingExperiment) -> ServingExperiment:
    return _facility(lambda place: replace(place, electricity=_MORE * place.electricity))(spec)


def _price(spec: ServingExperiment) -> ServingExperiment:
    price = spec.system.chip.price
    if price is None:
        return _facility(lambda place: replace(place, chip_price=_MORE * place.chip_price))(spec)
    return _chip(lambda one: replace(one, price=_MORE * price))(spec)
