"""The facade: an experiment in, a frozen result out."""

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import SpecError, near
from scaleout.evaluate.analytic import analyse
from scaleout.evaluate.assumptions import assumptions
from scaleout.evaluate.band import band_of
from scaleout.evaluate.breakdown import CATEGORIES, breakdown, critical_path, ends_last
from scaleout.evaluate.cost import cost_assumptions, cost_of
from scaleout.evaluate.energy import step_energy
from scaleout.evaluate.event import Recording, evaluate
from scaleout.evaluate.links import link_use
from scaleout.evaluate.ranges import range_warnings
from scaleout.hardware.formats import format_of
from scaleout.models import training_flops
from scaleout.result import EVALUATORS, Beside, Memory, Result
from scaleout.specs import TrainingExperiment
from scaleout.specs.compress import notes
from scaleout.training.memory import check_fits, stage_peaks
from scaleout.training.mixed import mean_peak, seats
from scaleout.training.step import build

__all__ = ["EVALUATORS", "record", "simulate"]


def simulate(
    experiment: TrainingExperiment, *, fold: bool = True, evaluator: str = "event", advise: bool = True
) -> Result:
    """Simulate one optimizer step in the steady state.

    Parameters
    ----------
    fold
        False simulates every rank instead of one of each class; the result is the same.
    evaluator
        "event", or "analytic": a lower bound without contention for links, from the same costs, in
        milliseconds. It runs plain here; for many experiments there are `design_space` and
        `analyse_many`, which run compiled.
    advise
        Where it does not fit in HBM, look for what does, which may take seconds.

    Raises
    ------
    PlanError
        The experiment does not fit in HBM: the message names stage, shortfall and what fits.
    SpecError
        The chip lacks constants for the precision or the attention kernel; or the evaluator does
        not know what is asked of it.
    TopologyError
        The machine cannot be built at this size.
    """
    if evaluator == "event":
        return record(experiment, fold=fold, advise=advise)[0]
    if evaluator != "analytic":
        raise SpecError(f"evaluator: {evaluator!r:.40} is unknown; {near(evaluator, EVALUATORS)}")
    _check(experiment)
    if not fold:
        raise SpecError("fold: the analytic evaluator has no ranks that it could unfold; take evaluator 'event'")
    end, parts, peaks = analyse(experiment, compiled=False)
    check_fits(experiment, peaks, advise=advise)
    whole = {name: parts.get(name, 0) for name in CATEGORIES}
    return _summarise(experiment, end, whole, {}, peaks, "analytic", experiment.layout.pp, None)


def record(experiment: TrainingExperiment, *, fold: bool = True, advise: bool = True) -> tuple[Result, Recording]:
    """As `simulate`, with the recording that figures and timelines are drawn from."""
    _check(experiment)
    job = build(experiment)
    peaks = stage_peaks(job)
    check_fits(experiment, peaks, advise=advise)
    recording = evaluate(experiment, fold=fold, job=job)
    parts = breakdown(recording, ends_last(recording))
    path = dict(sorted(critical_path(recording).items(), key=lambda row: -row[1]))
    name = "event" if recording.folded else "event, unfolded"
    classes = recording.wiring.classes
    return _summarise(experiment, recording.timeline.end, parts, path, peaks, name, classes, recording), recording


def _check(experiment: object) -> None:
    if not isinstance(experiment, TrainingExperiment):
        raise SpecError(f"{experiment!r:.80} is no experiment; make one with scaleout.experiment()")


def _summarise(
    spec: TrainingExperiment,
    end: int,
    parts: dict[str, int],
    path: dict[str, int],
    peaks: list[dict[str, float]],
    evaluator: str,
    classes: int,
    recording: Recording | None,
) -> Result:
    seconds = end / TICKS_PER_SECOND
    flops = training_flops(spec.model, spec.batch.global_, spec.batch.sequence) / spec.chips / seconds
    totals = [sum(kinds.values()) for kinds in peaks]
    places = seats(spec)[1]
    fullest = max(range(len(totals)), key=lambda at: (totals[at] / places[at].chip.hbm_bytes, -at))
    layout = spec.layout
    energy = step_energy(spec, seconds, recording)
    return Result(
        name=f"{spec.model.name} on {spec.chips:,} {spec.system.chip.name} ({spec.system.name})",
        experiment={
            "kind": spec.kind,
            "system": spec.system.name,
            "chips": spec.chips,
            "model": spec.model.name,
            "stack": spec.stack.name,
            "tp": layout.tp,
            "pp": layout.pp,
            "vpp": layout.vpp,
            "dp": layout.dp,
            "cp": layout.cp,
            "context": layout.context,
            "ep": layout.ep,
            "etp": layout.etp,
            "order": ", ".join(layout.order),
            "schedule": layout.schedule or ("interleaved" if layout.vpp > 1 else "1f1b"),
            "sequence_parallel": layout.sequence_parallel,
            "zero": layout.zero,
            "global_batch": spec.batch.global_,
            "micro_batch": spec.batch.micro,
            "sequence": spec.batch.sequence,
            "precision": spec.precision,
            "gradients": spec.gradients,
            "recompute": ", ".join(spec.recompute) or "none",
            "faults": [str(fault) for fault in spec.faults],
            "contention": spec.contention,
            "others": [f"{one.count} x {one.chip.name} from rank {one.first}" for one in spec.others],
            "offload": {key: getattr(spec.offload, key) for key in ("activations", "optimizer", "parameters")},
            "compressed": list(spec.compressed),
            "settings": list(spec.settings),
        },
        chips=spec.chips,
        step_time=seconds,
        step_time_ps=end,
        error_band=band_of(spec, path or parts),
        warnings=(*notes(spec.compressed), *range_warnings(spec)),
        tokens_per_second=spec.batch.tokens / seconds,
        model_flops_per_chip=flops,
        mfu=flops / mean_peak(spec, format_of(spec.precision).rate),
        breakdown={name: value / TICKS_PER_SECOND for name, value in parts.items()},
        breakdown_ps=parts,
        critical_path={name: value / TICKS_PER_SECOND for name, value in path.items()},
        bound_by=next(iter(path), max(parts, key=parts.__getitem__)),
        memory=Memory(
            stage=places[fullest].stage,
            peak=peaks[fullest],
            capacity=places[fullest].chip.hbm_bytes,
            stages=tuple(totals),
        ),
        links=link_use(recording) if recording else (),
        evaluator=evaluator,
        classes=classes,
        assumptions=(*assumptions(spec, recording), *cost_assumptions(spec, energy)),
        published=_beside(spec, seconds),
        energy=energy,
        cost=cost_of(spec, seconds, spec.batch.tokens, energy),
    )


def _beside(spec: TrainingExperiment, seconds: float) -> Beside | None:
    """The step beside what was published of it."""
    given = spec.published
    if given is None:
        return None
    flops = training_flops(spec.model, spec.batch.global_, spec.batch.sequence) / spec.chips
    if given.step_time is not None:
        measured = given.step_time
    elif given.tokens_per_second is not None:
        measured = spec.batch.tokens / given.tokens_per_second
    elif given.model_flops_per_chip is not None:
        measured = flops / given.model_flops_per_chip
    else:
        peak = mean_peak(spec, format_of(spec.precision).rate)
        measured = flops / ((given.mfu or 1.0) * peak)
    return Beside(step_time=measured, difference=seconds / measured - 1.0, source=given.source)
