"""How much work a step is: what its kernels compute, what they move, and what leaves a chip.

Passes of each kind are written once more for chips whose seconds are counts (`scaleout.hardware.ideal`),
so that recomputation, casts, optimizer and gradients are in them as they are in the times. How often each
kind comes is known from the schedule; no program is put together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.program import COMPUTE, RECEIVE, Label
from scaleout.hardware.formats import format_of
from scaleout.hardware.ideal import ALL, BYTES, counting
from scaleout.specs import Slow, TrainingExperiment
from scaleout.training.mixed import seats
from scaleout.training.step import Pieces, pieces

__all__ = ["PARTS", "StepWork", "step_work"]

_PRODUCTS, _PASSES = ("matmul", "attention"), ("elementwise",)
"""Parts of a label's time."""

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
    step = pieces(experiment)
    labels = step.tables.labels
    parts = [label.parts for label in labels]
    seconds = np.array([label.seconds for label in labels])
    messages = [
        message.leaving(step.members[message.family]) if message.family in step.members else 0.0
        for message in step.tables.messages
    ]
    leaving = np.array(messages)
    each: dict[int, tuple[Floats, float]] = {}
    times, sent = np.zeros((len(step.programs), len(labels))), np.zeros(len(step.programs))
    for number, blocks in enumerate(step.programs):
        for block, often in blocks:
            if id(block) not in each:
                kind, item = block.ops[:, 0], block.ops[:, 2]
                kernels = np.bincount(item[kind == COMPUTE], minlength=len(labels)).astype(np.float64)
                # what one receives, another sends
                out = leaving[item[(kind != COMPUTE) & (kind != RECEIVE)]].sum()
                each[id(block)] = kernels, float(out)
            kernels, out = each[id(block)]
            times[number] += often * kernels
            sent[number] += often * out

    def of(names: tuple[str, ...]) -> Floats:
        return np.array([sum(value for name, value in part if name in names) for part in parts])

    return StepWork(
        labels=labels,
        work=_work(experiment, step),
        products=of(_PRODUCTS),
        passes=of(_PASSES),
        seconds=seconds,
        times=times,
        sent=sent,
    )


# --- counting ------------------------------------------------------------------------------------


def _work(experiment: TrainingExperiment, step: Pieces) -> Floats:
    """Work of an operation of each label, shape (labels, 4)."""
    rate = format_of(experiment.precision).rate
    memory, arithmetic, *linear = (
        _pieces(_twin(experiment, unit)) for unit in ((BYTES, ALL) if rate in ("bf16", "fp16") else (BYTES, ALL, rate))
    )
    found = np.zeros((len(step.tables.labels), len(PARTS)))
    done: set[int] = set()
    for blocks, (stage, _) in zip(step.programs, seats(experiment)[1], strict=True):
        for at, (block, _) in enumerate(blocks):
            if id(block) in done:
                continue
            done.add(id(block))
            ops = np.flatnonzero(block.ops[:, 0] == COMPUTE)
            # the same operations at the same place of the same block
            operands = _seconds(memory, stage, at, ops, _PRODUCTS)
            passes = _seconds(memory, stage, at, ops, _PASSES)
            flop = _seconds(arithmetic, stage, at, ops, _PRODUCTS)
            mine = _seconds(linear[0], stage, at, ops, _PRODUCTS) if linear else flop
            found[block.ops[ops, 2]] = np.column_stack((mine, np.maximum(flop - mine, 0.0), passes, operands))
    return found


@lru_cache(maxsize=32)
def _pieces(twin: TrainingExperiment) -> Pieces:
    """Of a step that counts: the same whatever the rates of the chip that it counts for."""
    return pieces(twin)


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


def _seconds(step: Pieces, program: int, block: int, ops: Ints, names: tuple[str, ...]) -> Floats:
    """Of these parts of some operations of a block."""
    labels = list(step.tables.labels)
    items = step.programs[program][block][0].ops[ops, 2].tolist()
    return np.array([sum(value for name, value in labels[item].parts if name in names) for item in items])
