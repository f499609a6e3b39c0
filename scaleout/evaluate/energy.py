"""Energy and power of a training step; equations, constants and errors are in ``docs/energy.md``."""

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.program import COMPUTE, TICKS_PER_SECOND
from scaleout.evaluate.event import Recording
from scaleout.evaluate.plant import BINS, energy_over
from scaleout.footprint import Energy
from scaleout.hardware.formats import format_of
from scaleout.hardware.power import Drawn, drawn, energy_of
from scaleout.once import once
from scaleout.specs import TrainingExperiment
from scaleout.training.mixed import seats
from scaleout.training.work import StepWork, step_work

__all__ = ["step_energy"]


def step_energy(experiment: TrainingExperiment, seconds: float, recording: Recording | None = None) -> Energy:
    """Energy of a step that took so long [s].

    What kernels do and what is sent follows from the experiment; the recording says when.
    """
    work: StepWork = once(step_work, experiment)
    program_of, places = seats(experiment)
    ranks = np.bincount(program_of, minlength=len(places)).astype(np.float64)
    plain = "fp16" if experiment.precision == "fp16" else "bf16"
    rates = format_of(experiment.precision).rate, plain
    each = {
        chip: drawn(chip, rates, work.work, work.products, work.passes, work.seconds)
        for chip in dict.fromkeys(place.chip for place in places)
    }
    mine = [each[place.chip] for place in places]
    times = work.times * ranks[:, None]
    parts = {
        "idle": seconds * sum(n * energy_of(place.chip).idle for n, place in zip(ranks.tolist(), places, strict=True)),
        **{name: _sum(mine, name, times) for name in ("compute", "vector", "hbm")},
        "links": sum(
            n * energy_of(place.chip).link * nbytes
            for n, place, nbytes in zip(ranks.tolist(), places, work.sent.tolist(), strict=True)
        ),
    }
    held = float(sum(often @ (one.capped * work.seconds) for one, often in zip(mine, times, strict=True)))
    limits = sum(n * place.chip.power for n, place in zip(ranks.tolist(), places, strict=True))
    return energy_over(
        experiment.system,
        experiment.facility,
        experiment.chips,
        seconds,
        parts,
        experiment.batch.tokens,
        capped=min(1.0, held / (seconds * experiment.chips)),
        over_time=() if recording is None else _over_time(recording, work, mine, ranks, parts["links"]),
        power=limits,
    )


def _sum(each: list[Drawn], name: str, times: Floats) -> float:
    return float(sum(often @ getattr(one, name) for one, often in zip(each, times, strict=True)))


def _over_time(
    recording: Recording, work: StepWork, each: list[Drawn], ranks: Floats, links: float
) -> tuple[float, ...]:
    """Power beside idle in each hundredth of the step, by one class of ranks of every program [W].

    An operation draws the same from beginning to end; what links take is spread evenly.
    """
    end = recording.timeline.end
    if not end:
        return ()
    edges = np.linspace(0.0, end, BINS + 1)
    total = np.full(BINS, links / BINS)
    rows = np.array([work.labels.get(label, -1) for label in recording.job.labels])
    seen: set[int] = set()
    for cls in range(recording.wiring.classes):
        number = recording.class_program(cls)
        if number in seen:
            continue
        seen.add(number)
        program, times, one = recording.job.programs[number], recording.timeline.classes[cls], each[number]
        ops = np.flatnonzero(program.kind == COMPUTE)
        at = rows[program.item[ops]]
        joules = np.where(at >= 0, (one.compute + one.vector + one.hbm)[at], 0.0)
        when = np.column_stack((times.started[ops], times.ended[ops])).ravel().astype(np.float64)
        so_far = np.column_stack((np.cumsum(joules) - joules, np.cumsum(joules))).ravel()
        total += ranks[number] * np.diff(np.interp(edges, when, so_far))
    power = total / (end / BINS / TICKS_PER_SECOND)
    return tuple(power.tolist())
