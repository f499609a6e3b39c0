"""Does it fit: peak HBM of every stage, and the nearest experiment that fits."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from scaleout.engine.hbm import peak
from scaleout.engine.program import Job
from scaleout.errors import PlanError, ScaleoutError
from scaleout.specs import TrainingExperiment
from scaleout.training.mixed import seats
from scaleout.training.step import build
from scaleout.units import describe

__all__ = ["check_fits", "nearest_fit", "stage_peaks"]

_DENSE: tuple[tuple[str, ...], ...] = (
    ("norm",),
    ("norm", "mlp_product"),
    ("norm", "mlp_product", "core_attention"),
    ("norm", "mlp"),
    ("full",),
)
"""Recompute lists from light to heavy."""
_OF_EXPERTS = (("norm",), ("norm", "moe_act"), ("norm", "moe_act", "shared_experts"), ("norm", "moe"), ("full",))


def stage_peaks(job: Job) -> list[dict[str, float]]:
    """Peak HBM by kind of every program [byte]."""
    return [peak(program, static, job.memory_kinds) for program, static in zip(job.programs, job.static, strict=True)]


def check_fits(experiment: TrainingExperiment, peaks: list[dict[str, float]], *, advise: bool = True) -> None:
    """Refuse a layout that does not fit in HBM.

    Parameters
    ----------
    advise
        Look for the nearest layout that fits, which may take seconds.

    Raises
    ------
    PlanError
        With the stage, the shortfall, what fills it, and the nearest layout that fits.
    """
    _, places = seats(experiment)
    totals = [sum(kinds.values()) for kinds in peaks]
    over = [total - place.chip.hbm_bytes for total, place in zip(totals, places, strict=True)]
    worst = max(range(len(totals)), key=over.__getitem__)
    if over[worst] <= 0:
        return
    parts = ", ".join(f"{kind} {describe(size, 'byte')}" for kind, size in peaks[worst].items() if size)
    stage, chip = places[worst]
    message = (
        f"does not fit in HBM: stage {stage} of {experiment.layout.pp} needs {describe(totals[worst], 'byte')}, "
        f"{describe(over[worst], 'byte')} more than the {describe(chip.hbm_bytes, 'byte')} of {chip.name} ({parts})"
    )
    if not advise:
        raise PlanError(message)
    found = nearest_fit(experiment)
    hint = f"nearest that fits: {found}" if found else "nothing near it fits; take more chips or a smaller model"
    raise PlanError(f"{message}; {hint}")


def nearest_fit(experiment: TrainingExperiment) -> str:
    """The first change, from small to large, with which the experiment fits; "" for none."""
    for words, changed in _changes(experiment):
        try:
            peaks = stage_peaks(build(changed()))
        except ScaleoutError:
            continue
        rooms = [seat.chip.hbm_bytes for seat in seats(changed())[1]]
        if all(sum(kinds.values()) <= room for kinds, room in zip(peaks, rooms, strict=True)):
            return words
    return ""


def _changes(experiment: TrainingExperiment) -> Iterator[tuple[str, Callable[[], TrainingExperiment]]]:
    """Changed experiments in words, nearest first; then the same layout with more and more in the host's memory."""
    for words, cut, modules in _neighbours(experiment):
        yield words, partial(_changed, experiment, cut, modules)
    host, share = experiment.system.host, experiment.offload
    for key in ("optimizer", "activations") if host is not None else ():
        for part in (0.5, 1.0):
            if getattr(share, key) < part:
                moved = replace(share, **{key: part})
                yield f"--set offload.{key}={part:g}", partial(replace, experiment, offload=moved)


def _changed(experiment: TrainingExperiment, cut: Mapping[str, Any], modules: tuple[str, ...]) -> TrainingExperiment:
    return replace(experiment, layout=replace(experiment.layout, **cut), recompute=modules)


def _neighbours(experiment: TrainingExperiment) -> Iterator[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """Changes of layout and recompute list, nearest first."""
    layout, now = experiment.layout, set(experiment.recompute)
    # dividing the optimizer costs nothing, recomputing does
    cuts: list[dict[str, Any]] = [{"zero": 1}, {}] if layout.zero == 0 and layout.dp > 1 else [{}]
    if layout.replicas > 1:
        cuts += [{"zero": zero} for zero in (2, 3) if zero > layout.zero]
    zero = max(1, layout.zero)
    for times in (2, 4, 8, 16, 32):
        if layout.dp % times == 0:
            cuts.append({"pp": layout.pp * times, "dp": layout.dp // times, "zero": zero})
            if layout.tp * times <= experiment.system.chips_per_node:
                parts = {"tp": layout.tp * times, "dp": layout.dp // times}
                cuts.append({**parts, "zero": zero, "sequence_parallel": True})
            cuts.append({"cp": layout.cp * times, "dp": layout.dp // times, "zero": zero})
    for cut in cuts:
        for modules in (tuple(experiment.recompute), *_ladder(experiment)):
            if (set(modules) == now and not cut) or (set(modules) < now):
                continue
            changes = [f"layout.{key}={value}" for key, value in cut.items() if getattr(layout, key) != value]
            if modules != tuple(experiment.recompute):
                changes.append(f"recompute=[{', '.join(modules)}]")
            yield " ".join(f"--set {c!r}" if " " in c else f"--set {c}" for c in changes), cut, modules


def _ladder(experiment: TrainingExperiment) -> tuple[tuple[str, ...], ...]:
    """Recompute lists of the modules that the model has, from light to heavy."""
    model = experiment.model
    ladder = _DENSE if model.experts is None else _OF_EXPERTS
    if model.latent is None:
        return ladder
    return tuple((*modules, "mla_up_proj") if modules != ("full",) else modules for modules in ladder)
