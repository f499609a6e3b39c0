"""How much work a step is: what its kernels compute, what they move, and what leaves a chip.

The programs of the step are built once more for chips whose seconds are counts (`scaleout.hardware.ideal`),
so that recomputation, casts, optimizer and gradients are in them as they are in the times. A rank does
the same for every micro-batch, so a step of few of them is enough to count one of many.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.program import COMPUTE, RECEIVE, Job, Label
from scaleout.errors import PlanError
from scaleout.hardware.formats import format_of
from scaleout.hardware.ideal import ALL, BYTES, counting
from scaleout.specs import Slow, TrainingExperiment
from scaleout.training.mixed import seats
from scaleout.training.step import build

__all__ = ["PARTS", "StepWork", "step_work"]

PARTS = ("linear", "plain", "passes", "operands")
"""Columns of `StepWork.work`."""


@dataclass(frozen=True, slots=True, eq=False)
class StepWork:
    """Work of the ranks of every program of a step.

    Parameters
    ----------
    labels
        Operations of a kind -> row of the arrays below.
    work
        Of one operation: of the matrix units at the precision of the linear layers, and in 16 bits where that is
        another [flop]; bytes that elementwise passes move, and that products and attention read and write [byte].
        Shape (labels, 4).
    products, passes, seconds
        Time of its products with attention, of its passes, and all of it [s], shape (labels,).
    times
        How often each program runs each, shape (programs, labels).
    sent
        Bytes that leave a rank for other chips [byte], shape (programs,).
    """

    labels: Mapping[Label, int]
    work: Floats
    products: Floats
    passes: Floats
    seconds: Floats
    times: Floats
    sent: Floats

    @property
    def totals(self) -> Floats:
        """Work of a rank of each program over the step, shape (programs, 4)."""
        return self.times @ self.work

    @property
    def flop(self) -> Floats:
        """Operations of a rank of each program [flop]."""
        found: Floats = self.totals[:, :2].sum(axis=1)
        return found

    @property
    def nbytes(self) -> Floats:
        """Bytes from and to the main memory of a rank of each program [byte]."""
        found: Floats = self.totals[:, 2:].sum(axis=1)
        return found


def step_work(experiment: TrainingExperiment) -> StepWork:
    """Count a step."""
    lengths = _lengths(experiment)
    if lengths is None:
        return _counted(experiment)
    short, long = (_of_length(experiment, count) for count in lengths)
    try:
        first, second = build(short), build(long)
    except PlanError:
        # a schedule that takes no fewer micro-batches
        return _counted(experiment)
    factor = (experiment.micro_batches - lengths[0]) / (lengths[1] - lengths[0])
    times = []
    for at in range(len(first.programs)):
        low, high = _times(first, at), _times(second, at)
        both = dict.fromkeys((*low, *high))
        times.append({label: low[label] + factor * (high[label] - low[label]) for label in both})
    less, more = _sent(first), _sent(second)
    return _table(_known(short, first), times, less + factor * (more - less))


def _lengths(experiment: TrainingExperiment) -> tuple[int, int] | None:
    """Two smaller numbers of micro-batches of which the step's work follows; None where it is as short itself."""
    stages = experiment.layout.pp
    period = 2 * stages if stages % 2 else stages
    least = 2 * stages if (experiment.layout.schedule or "").startswith("dualpipe") else stages
    short = -(-max(2, least) // period) * period + experiment.micro_batches % period
    return (short, short + period) if experiment.micro_batches > short + period else None


def _of_length(experiment: TrainingExperiment, micro_batches: int) -> TrainingExperiment:
    batch = experiment.batch
    whole = micro_batches * experiment.layout.dp * batch.micro
    return replace(experiment, batch=replace(batch, global_=whole))


def _counted(experiment: TrainingExperiment) -> StepWork:
    job = build(experiment)
    times = [_times(job, at) for at in range(len(job.programs))]
    return _table(_known(experiment, job), times, _sent(job))


def _times(job: Job, number: int) -> defaultdict[Label, float]:
    """How often a program runs operations of each kind."""
    program = job.programs[number]
    counts = np.bincount(program.item[program.kind == COMPUTE], minlength=len(job.labels))
    return defaultdict(float, {job.labels[at]: float(counts[at]) for at in np.flatnonzero(counts).tolist()})


def _table(known: Mapping[Label, Floats], times: Sequence[Mapping[Label, float]], sent: Floats) -> StepWork:
    labels = {label: at for at, label in enumerate(known)}
    counts = np.zeros((len(times), len(labels)))
    for number, mine in enumerate(times):
        for label, often in mine.items():
            counts[number, labels[label]] = often

    def seconds(names: tuple[str, ...]) -> Floats:
        return np.array([sum(value for name, value in label.parts if name in names) for label in labels])

    return StepWork(
        labels=labels,
        work=np.array(list(known.values())).reshape(-1, len(PARTS)),
        products=seconds(("matmul", "attention")),
        passes=seconds(("elementwise",)),
        seconds=np.array([label.seconds for label in labels]),
        times=counts,
        sent=sent,
    )


# --- counting ------------------------------------------------------------------------------------


def _known(experiment: TrainingExperiment, job: Job) -> dict[Label, Floats]:
    """Work of an operation of each kind."""
    rate = format_of(experiment.precision).rate
    memory, arithmetic, *linear = (
        build(_twin(experiment, unit)) for unit in ((BYTES, ALL) if rate in ("bf16", "fp16") else (BYTES, ALL, rate))
    )
    known: dict[Label, Floats] = {}
    for program, (stage, _) in zip(job.programs, seats(experiment)[1], strict=True):
        # one operation of each kind, at the same place of all programs
        ops = np.flatnonzero(program.kind == COMPUTE)
        items, first = np.unique(program.item[ops], return_index=True)
        at = ops[first]
        operands = _seconds(memory, stage, at, ("matmul", "attention"))
        passes = _seconds(memory, stage, at, ("elementwise",))
        flop = _seconds(arithmetic, stage, at, ("matmul", "attention"))
        mine = _seconds(linear[0], stage, at, ("matmul", "attention")) if linear else flop
        rows = np.column_stack((mine, np.maximum(flop - mine, 0.0), passes, operands))
        for item, row in zip(items.tolist(), rows, strict=True):
            known.setdefault(job.labels[item], row)
    return known


def _twin(experiment: TrainingExperiment, unit: str) -> TrainingExperiment:
    """The same step on chips that count, under a stack that takes no time."""
    system, stack = experiment.system, experiment.stack
    return replace(
        experiment,
        system=replace(system, chip=counting(system.chip, unit)),
        stack=replace(
            stack, kernel_gap=0.0, host_launch=0.0, host_launch_experts=0.0, elementwise_efficiency=1.0
        ),
        others=(),
        slow=Slow(),
        faults=(),
        contention="none",
    )  # fmt: skip


def _seconds(job: Job, number: int, ops: Ints, names: tuple[str, ...]) -> Floats:
    """Of these parts of some operations of a program."""
    labels = (job.labels[item] for item in job.programs[number].item[ops].tolist())
    return np.array([sum(value for name, value in label.parts if name in names) for label in labels])


def _sent(job: Job) -> Floats:
    """Bytes that leave a rank of each program [byte], shape (programs,)."""
    found = []
    for program in job.programs:
        # what one receives, another sends
        sends = (program.kind != COMPUTE) & (program.kind != RECEIVE)
        total = 0.0
        items, often = np.unique(program.item[sends], return_counts=True)
        for item, times in zip(items.tolist(), often.tolist(), strict=True):
            message = job.messages[item]
            members = job.families[message.family].groups.shape[1]
            total += times * message.leaving(members)
        found.append(total)
    return np.array(found)
