"""Why a plan of serving is what it is, in sentences; or why there is none."""

import math
from collections import Counter
from collections.abc import Sequence

from scaleout.planning.serve_search import Found, Hunt
from scaleout.planning.serve_ways import Way
from scaleout.served import Served
from scaleout.units import describe

__all__ = ["problems_of", "reasons_of"]

_NAMES = {"ttft": "TTFT", "tpot": "TPOT", "latency": "the time to the last token"}
_FULL = 0.9
"""Share of the KV cache from which on it is short [1]."""


def reasons_of(hunt: Hunt, ranked: Sequence[Found]) -> tuple[str, ...]:
    """What the best rests on, and how far others are behind it."""
    best = ranked[0]
    rows = [_binding(hunt, best), _made_of(best)]
    seen: set[str] = set()
    for other in ranked[1:]:
        what = _difference(best.way, other.way)
        if what not in seen:
            seen.add(what)
            rows.append(_beside(hunt, best, other, what))
    return tuple(row for row in rows if row)


def _unit(hunt: Hunt) -> str:
    return {"cost": "USD/h", "chips": "chips", "energy": "J/token"}[hunt.trials.question.minimise]


def _binding(hunt: Hunt, best: Found) -> str:
    """What breaks with one replica fewer."""
    trials, slo = hunt.trials, hunt.trials.question.slo
    large = max(range(len(best.counts)), key=lambda at: best.counts[at])
    if best.counts[large] == 1:
        return "one replica keeps the promise: fewer chips need a smaller layout"
    fewer = tuple(count - (at == large) for at, count in enumerate(best.counts))
    trial = trials.at(best.way, fewer, whole=True)
    if trial.kept:
        return "a replica fewer keeps the promise too, by chance"
    served = trial.served
    if served is None:
        return "with a replica fewer no request keeps the promise"
    worst = max(served.missed, key=lambda name: served.missed[name], default="")
    if served.attainment is not None and served.attainment >= slo.share:
        return f"with a replica fewer more requests come than are served ({served.stability})"
    limit = getattr(slo, worst)
    got = {"ttft": served.ttft, "tpot": served.tpot, "latency": served.latency}[worst].p99
    return (
        f"{_NAMES[worst]} binds: with {_many(fewer)} {served.missed[worst]:.1%} of the requests miss "
        f"{describe(limit, 's')} (p99 {describe(got, 's')}), for want of {_short(served)}"
    )


def _short(served: Served) -> str:
    if served.preemptions or any(one.cache.max > _FULL for one in served.replicas):
        return "KV cache"
    return "time: steps are too long for their batch"


def _many(counts: tuple[int, ...]) -> str:
    return f"{' + '.join(map(str, counts))} replica{'s' * (sum(counts) != 1)}"


def _chips(count: int) -> str:
    return f"{count:,} chip{'s' * (count != 1)}"


def _made_of(best: Found) -> str:
    """Where the time of steps goes, and how full a replica is."""
    served = best.served
    parts = sorted(served.step.items(), key=lambda item: -item[1])[:3]
    shares = ", ".join(f"{share:.0%} {kind}" for kind, share in parts)
    writing = [one for one in served.replicas if one.role != "prefill"]
    batch = sum(one.batch * one.steps for one in writing) / max(1, sum(one.steps for one in writing))
    cache = max(one.cache.max for one in writing)
    return (
        f"steps are {shares}; {batch:.0f} sequences decode in one on the average, at most {cache:.0%} of a KV cache is "
        "in use"
    )


def _difference(one: Way, other: Way) -> str:
    """What of two ways differs first."""
    if one.system != other.system:
        return f"on {other.system}"
    if len(one.pools) != len(other.pools):
        return "with pools apart" if len(other.pools) > 1 else "with replicas that do all"
    if one.precision != other.precision:
        return f"in {other.precision}"
    if one.cache != other.cache:
        return f"with keys and values in {other.cache}"
    if one.chunk != other.chunk:
        return f"with steps of {other.chunk or 'the usual'} tokens"
    for mine, theirs in zip(one.pools, other.pools, strict=True):
        for name in ("tp", "pp", "dp", "ep"):
            if getattr(mine, name) != getattr(theirs, name):
                return f"with {name} {getattr(theirs, name)}"
    return "otherwise"


def _beside(hunt: Hunt, best: Found, other: Found, what: str) -> str:
    """How far another is behind, and by what."""
    more = other.value / best.value - 1.0
    mine, theirs = best.served, other.served
    return (
        f"{what} ({other.way.name}) it takes {_many(other.counts)}, {_chips(theirs.chips)}, {other.value:.4g} "
        f"{_unit(hunt)}, {more:.0%} more than {_many(best.counts)}, {_chips(mine.chips)}: a token alone takes "
        f"{describe(theirs.floor.tpot, 's')} instead of {describe(mine.floor.tpot, 's')}, and a chip writes "
        f"{theirs.output_tokens_per_second / theirs.chips:,.0f} instead of "
        f"{mine.output_tokens_per_second / mine.chips:,.0f} tokens a second"
    )


def problems_of(hunt: Hunt) -> tuple[str, ...]:
    """Why nothing keeps the promise, and what would."""
    slo, rows = hunt.trials.question.slo, []
    if not hunt.ways:
        rows.append("no layout of the model fits on any of the systems")
        rows += list(hunt.trials.space.notes)
        return tuple(rows)
    whys = Counter(hunt.why.values())
    if left := len(hunt.ways) - len(hunt.why):
        rows.append(f"the search ended before {left:,} ways were looked at: give it more time (--limit)")
    for name in ("ttft", "tpot", "latency"):
        if not whys[name]:
            continue
        at = "ttft" if name == "latency" else name
        least = min(
            (getattr(hunt.floors[number], at), hunt.ways[number].name)
            for number, why in sorted(hunt.why.items())
            if why == name and number in hunt.floors
        )
        limit = getattr(slo, name)
        rows.append(
            f"{name}: {describe(limit, 's')} is broken by {whys[name]} of {len(hunt.ways)} ways in an empty system; "
            f"the least of theirs is {describe(least[0], 's')}, of {least[1]}"
        )
    if whys["alone"]:
        rows.append(
            f"{whys['alone']} ways break the promise to more than {1.0 - slo.share:.2g} of the requests, though each "
            "has a replica nearly to itself: loosen it, or promise it to fewer (share)"
        )
    if whys["replicas"]:
        question = hunt.trials.question
        limits = []
        if question.max_chips is not None:
            limits.append(f"{question.max_chips:,} chips")
        if question.max_power is not None:
            limits.append(describe(question.max_power, "W"))
        rows.append(
            f"{whys['replicas']} ways would take more than {' or '.join(limits) or 'can be simulated'}{_fewest(hunt)}"
        )
    known = ("ttft", "tpot", "latency", "alone", "replicas")
    rows += [f"{many} ways: {why}" for why, many in sorted(whys.items()) if why not in known]
    return tuple(rows)


def _fewest(hunt: Hunt) -> str:
    """Of the ways beyond a limit, what the smallest is likely to take."""
    found = []
    for number, why in sorted(hunt.why.items()):
        if why == "replicas":
            way = hunt.ways[number]
            counts = hunt.trials.guess(way)
            if counts is not None:
                chips = sum(count * pool.chips_each for count, pool in zip(counts, way.pools, strict=True))
                found.append((chips, way.name))
    if not found or not math.isfinite(min(found)[0]):
        return ""
    chips, name = min(found)
    return f"; about {chips:,} chips would do, of {name}"
