"""Plans of serving: the way to serve a model that keeps a promise at a rate for the least cost, chips or energy."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scaleout.errors import ScaleoutError
from scaleout.io.experiments import serving_experiment
from scaleout.io.serving import trace_of
from scaleout.planning.plan import Candidate, Input, Plan
from scaleout.planning.search import Stand
from scaleout.planning.serve_demand import demand_of, stream_of
from scaleout.planning.serve_inputs import inputs_of, replicas_with
from scaleout.planning.serve_launch import launch_serve
from scaleout.planning.serve_question import Question, as_mapping, question_of
from scaleout.planning.serve_reasons import problems_of, reasons_of
from scaleout.planning.serve_search import Found, Hunt
from scaleout.planning.serve_trials import Trials
from scaleout.planning.serve_ways import Way, space_of
from scaleout.result import Assumption
from scaleout.served import Served
from scaleout.specs import ServingExperiment

__all__ = ["plan_serving"]

_UNITS = {"cost": "USD/h", "chips": "chip", "energy": "J/token"}
_RESOLVED = 0.01
"""Two values on one system that are closer are a tie, whatever cancels [1]."""
_RIVALS = 2
"""Ways beside the best that a change of an input may bring before it."""


def plan_serving(
    model: str,
    *,
    rate: float | str,
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    latency: float | str | None = None,
    share: float = 0.99,
    input: float | None = None,  # noqa: A002  (the name of the key)
    output: float | None = None,
    requests: str | Mapping[str, Any] | None = None,
    count: int | None = None,
    systems: str | Sequence[str] = "dgx-h100",
    precisions: str | Sequence[str] = ("bf16", "fp8"),
    caches: Sequence[str] = ("bf16",),
    chunks: Sequence[int | None] = (None,),
    engine: str = "vllm-0.19",
    pools: str = "together",
    minimise: str = "cost",
    facility: str = "default",
    max_chips: int | None = None,
    max_power: float | str | None = None,
    gap: float = 0.0,
    runners: int = 3,
    inputs: bool = True,
    seconds: float | None = None,
    told: Callable[[str], None] | None = None,
) -> Plan:
    """Search for the replicas that serve a model.

    Parameters
    ----------
    model, engine, facility
        Names, or paths of files.
    rate
        Requests a second, or text such as "50/s" [1/s].
    ttft, tpot, latency
        What is promised to `share` of the requests: time to the first token, per token after it, and to the last; SI
        or text such as "30 ms" [s].
    input, output
        Mean tokens of prompts and of replies; 1,000 and 250 where nothing is said.
    requests
        Instead of them: a trace, a serving experiment whose requests are taken, or their form.
    count
        Requests of a simulation.
    systems, precisions
        Names, or "all".
    caches, chunks
        Dtypes of keys and values, and tokens of a step (None is what the engine does).
    pools
        "together", "apart" (replicas for prompts and for replies) or "both".
    minimise
        "cost" [USD/h], "chips" or "energy" [J/token].
    max_chips, max_power
        At most [1, W].
    gap
        The search may end that close to the optimum [1].
    runners
        Other ways that are simulated for comparison.
    inputs
        Whether to find what moves the answer.
    seconds
        The search ends after so long, with the gap that is proven then.
    told
        Hears how far the search is.

    Raises
    ------
    SpecError
        Something is unknown, out of range or missing.
    """
    question = question_of(
        model, rate=rate, ttft=ttft, tpot=tpot, latency=latency, share=share, input=input, output=output,
        requests=requests, count=count, systems=systems, precisions=precisions, caches=tuple(caches),
        chunks=tuple(chunks), engine=engine, kinds=pools, minimise=minimise, facility=facility, max_chips=max_chips,
        max_power=max_power,
    )  # fmt: skip
    first = _some_experiment(question)
    rows = trace_of(first)
    stream = stream_of(first, rows)
    tell = told or (lambda words: None)
    tell("layouts that fit")
    space = space_of(question, stream.longest)
    trials = Trials(question, space, rows, stream, demand_of(stream, question.slo))
    hunt = Hunt(trials)
    until = math.inf if seconds is None else time.monotonic() + seconds
    outcome = hunt.run(
        gap=gap,
        more=runners,
        enough=None if seconds is None else lambda: time.monotonic() > until,
        say=tell,
        told=lambda stand: tell(_words(stand, trials.simulated, _UNITS[question.minimise])),
    )
    found = sorted(hunt.found.items(), key=lambda item: (item[1].value, item[0]))
    ranked = [one for _, one in found]
    experiment = as_mapping(question, question.systems[0])
    if not ranked:
        return Plan(
            kind="serving",
            name=_name(question),
            question=question.words(),
            experiment=experiment,
            objective=question.minimise,  # type: ignore[arg-type]
            unit=_UNITS[question.minimise],
            best=None,
            gap=0.0,
            covered=hunt.covered(),
            launch={},
            problems=problems_of(hunt),
            assumed=_assumed(question),
            warnings=space.notes,
        )
    best = ranked[0]
    tell("how sure it is")
    swing = _swing(trials, best)
    lows = {one.way: min(one.value, trials.bound(one.way, hunt.least[number])) for number, one in found}
    rows_ = [_candidate(trials, one, swing, lows[one.way]) for one in ranked]
    moved: tuple[Input, ...] = ()
    if inputs:
        tell("what moves the answer")
        moved = inputs_of(trials, ranked[: 1 + _RIVALS])
    spec = space.experiment(best.way, best.counts)
    return Plan(
        kind="serving",
        name=_name(question),
        question=question.words(),
        experiment={**experiment, **_keys(best.way, best.counts)},
        objective=question.minimise,  # type: ignore[arg-type]
        unit=_UNITS[question.minimise],
        best=rows_[0],
        gap=_gap(hunt, best),
        covered=hunt.covered(),
        runners=tuple(rows_[1:]),
        ties=_ties(ranked, rows_, swing),
        pareto=_pareto(trials, hunt, swing),
        why=reasons_of(hunt, ranked),
        inputs=moved,
        launch=launch_serve(spec, stream.longest),
        assumed=_assumed(question),
        assumptions=tuple(
            Assumption(row["name"], row["value"], row["source"], row["verified"]) for row in best.served.assumptions
        ),
        warnings=(*space.notes, *best.served.warnings, *_broken(outcome.broken)),
    )


def _gap(hunt: Hunt, best: Found) -> float:
    """By how much the best may be above what is open, over that [1]."""
    assert hunt.outcome is not None  # noqa: S101  (it was run)
    bounds = hunt.outcome.bounds.tolist()
    least = min((bound for number, bound in enumerate(bounds) if number not in hunt.found), default=math.inf)
    if best.value <= least:
        return 0.0
    return best.value / least - 1.0 if least > 0.0 else math.inf


def _some_experiment(question: Question) -> ServingExperiment:
    """Of the first system that serves at all, for its requests, which are those of all."""
    problem: ScaleoutError | None = None
    for system in question.systems:
        try:
            return serving_experiment(as_mapping(question, system))
        except ScaleoutError as error:
            problem = problem or error
    assert problem is not None  # noqa: S101  (there are systems)
    raise problem


def _name(question: Question) -> str:
    where = question.systems[0] if len(question.systems) == 1 else f"{len(question.systems)} systems"
    return f"{question.model}, {question.rate:g} requests/s on {where}"


def _words(stand: Stand, simulated: int, unit: str) -> str:
    """How far a search is."""
    best = "" if not math.isfinite(stand.best) else f", best so far {stand.best:.4g} {unit}"
    return f"{stand.open:,} ways open, {simulated:,} simulations{best}, bound {stand.bound:.4g}"


def _keys(way: Way, counts: tuple[int, ...]) -> dict[str, Any]:
    """What a way changes in the form of an experiment."""
    pools = [
        {"role": pool.role, "replicas": count, **{name: getattr(pool, name) for name in ("tp", "pp", "dp", "ep")}}
        for pool, count in zip(way.pools, counts, strict=True)
    ]
    keys: dict[str, Any] = {
        "system": way.system, "precision": way.precision, "cache": {"dtype": way.cache}, "pools": pools,
    }  # fmt: skip
    if way.chunk is not None:
        keys["scheduler"] = {"max_batched_tokens": way.chunk}
    return keys


def _settings(way: Way, counts: tuple[int, ...]) -> tuple[str, ...]:
    keys = _keys(way, counts)
    pools = ", ".join("{" + ", ".join(f"{key}: {value}" for key, value in pool.items()) + "}" for pool in keys["pools"])
    rows = [f"system={way.system}", f"precision={way.precision}", f"cache.dtype={way.cache}", f"pools=[{pools}]"]
    if way.chunk is not None:
        rows.append(f"scheduler.max_batched_tokens={way.chunk}")
    return tuple(rows)


def _swing(trials: Trials, best: Found) -> float:
    """How much the number of replicas moves, over how much steps do [1]: by simulations with slower and faster ones."""
    band = best.served.error_band
    whole = sum(best.counts)
    more = replicas_with(trials, best, slower=1.0 + band)
    fewer = replicas_with(trials, best, slower=1.0 / (1.0 + band))
    high = sum(more[0]) if more is not None else 2 * whole
    low = sum(fewer[0]) if fewer is not None else whole
    return max(high - whole, whole - low, 0) / whole / band if band else 0.0


def _errors(trials: Trials, found: Found, swing: float) -> tuple[float, float]:
    """How far a value may be off by times of steps, and by prices and power [1]."""
    served, goal = found.served, trials.question.minimise
    beside = 0.0
    if goal == "cost" and served.cost is not None:
        beside = served.cost.error
    elif goal == "energy" and served.energy is not None:
        beside = served.energy.error
    return max(swing, 0.0) * served.error_band, beside


def _candidate(trials: Trials, found: Found, swing: float, bound: float) -> Candidate:
    served, way = found.served, found.way
    steps, beside = _errors(trials, found, swing)
    figures = {
        "rate": trials.question.rate,
        "ttft_p99": served.ttft.p99,
        "tpot_p99": served.tpot.p99,
        "latency_p99": served.latency.p99,
        "attainment": served.attainment or 0.0,
        "tokens_per_second": trials.question.rate * float(trials.stream.outputs.mean()),
    }
    if served.energy is not None:
        figures |= {"power": served.energy.power, "energy_per_token": served.energy.per_token}
    if served.cost is not None:
        # at the rate that is asked, not with the beginning and the end of a simulation
        hour = 3600.0 * figures["tokens_per_second"] / 1e6
        figures |= {"cost_hour": served.cost.hour_total, "cost_per_mtoken": served.cost.hour_total / hour}
    layout: dict[str, Any] = {"precision": way.precision, "cache": way.cache}
    for pool, count in zip(way.pools, found.counts, strict=True):
        start = "" if pool.role == "both" else f"{pool.role}."
        layout |= {
            f"{start}replicas": count,
            **{f"{start}{name}": getattr(pool, name) for name in ("tp", "pp", "dp", "ep")},
        }
    if way.chunk is not None:
        layout["chunk"] = way.chunk
    return Candidate(
        name=_called(found),
        settings=_settings(way, found.counts),
        layout=layout,
        system=way.system,
        chips=served.chips,
        value=found.value,
        error=math.hypot(steps, beside),
        bound=bound,
        figures=figures,
        parts={kind: share * served.tpot.mean for kind, share in served.step.items()},
    )


def _called(found: Found) -> str:
    return f"{found.way.name} x {' + '.join(map(str, found.counts))}"


def _ties(ranked: Sequence[Found], rows: Sequence[Candidate], swing: float) -> tuple[str, ...]:
    """Others that may be the best, for all that is known of the times of steps, and of prices where systems differ.

    On one system errors of one kind go the same way: what both share cancels, and what is left is their difference.
    """
    best, first = rows[0], ranked[0]
    found = []
    for row, one in zip(rows[1:], ranked[1:], strict=True):
        if one.way.system != first.way.system:
            off = math.hypot(row.error, best.error)
        else:
            mine, theirs = first.served.error_parts, one.served.error_parts
            kinds = sorted({*mine, *theirs})
            left = math.hypot(*(mine.get(kind, 0.0) - theirs.get(kind, 0.0) for kind in kinds))
            # as many replicas either way still draw power that nobody knows to a percent
            off = max(_RESOLVED, swing * left)
        if row.value <= best.value * (1.0 + off):
            found.append(row.name)
    return tuple(found)


def _pareto(trials: Trials, hunt: Hunt, swing: float) -> tuple[Candidate, ...]:
    """Of all that keep the promise, those that nothing is at least as good as in TPOT, cost, energy and chips."""
    kept: dict[tuple[Way, tuple[int, ...]], Served] = {
        key: trial.served for key, trial in trials.done.items() if trial.kept and trial.served is not None
    }
    points = sorted(
        ((_axes(served), key[0], key[1], served) for key, served in kept.items()),
        key=lambda row: (row[0], row[1].name, row[2]),
    )
    front: list[tuple[tuple[float, ...], Found]] = []
    for axes, way, counts, served in points:
        if not math.isfinite(trials.value(served)):
            continue
        if not any(all(a <= b for a, b in zip(other, axes, strict=True)) for other, _ in front):
            front = [row for row in front if not all(a <= b for a, b in zip(axes, row[0], strict=True))]
            front.append((axes, Found(way, counts, served, trials.value(served))))
    numbers = {way: number for number, way in enumerate(hunt.ways)}
    out = []
    for _, one in front:
        bound = trials.bound(one.way, hunt.least[numbers[one.way]])
        out.append(_candidate(trials, one, swing, min(bound, one.value)))
    return tuple(sorted(out, key=lambda row: (row.value, row.name)))


def _axes(served: Served) -> tuple[float, ...]:
    cost = served.cost.hour_total if served.cost is not None else math.inf
    energy = served.energy.per_token if served.energy is not None else math.inf
    return (cost, served.tpot.p99, energy, float(served.chips))


def _broken(rows: Sequence[Any]) -> tuple[str, ...]:
    return tuple(
        f"a bound was none: {row.value:.6g} below {row.bound:.6g}; nothing is proven" for row in rows
    )  # fmt: skip


def _assumed(question: Question) -> tuple[Assumption, ...]:
    own = Assumption(
        "search",
        f"{question.requests['count']:,} requests of a simulation; more replicas keep a promise that fewer keep, and "
        "cost and draw more",
        "docs/planning_serving.md",
        verified=False,
    )
    router = Assumption("router", "each request to the replica with the fewest tokens to do", "assumed", verified=False)
    return (*question.assumed, own, router)
