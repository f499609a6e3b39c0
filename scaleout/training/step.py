"""One optimizer step as programs: what every pipeline stage computes, sends and keeps.

The period begins where all ranks meet: at the end of the all-reduce of the gradient norm. Then
come the update, the gather of the parameters (ZeRO-1), the passes of the schedule with gradient
buckets reduced beside the backward of the last micro-batch, and the next norm. All ranks leave
that all-reduce together, so one period is the steady state exactly.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from scaleout.engine.program import COMPUTE, RECEIVE, SEND, STREAMS, Job, Label, Message, Program
from scaleout.hardware import Rates, pack
from scaleout.parallel import (
    KINDS,
    Block,
    Frozen,
    Layers,
    Shard,
    Tables,
    chunk_parameters,
    families,
    join,
    kept_of,
    layer_costs,
    options,
    shard,
    stage_of,
)  # fmt: skip
from scaleout.specs import TrainingExperiment
from scaleout.training.schedules import Pass, schedule
from scaleout.training.stages import STATE_BYTES, Chunk, deal

__all__ = ["build", "stage_static"]

_DP = STREAMS.index("dp")


@dataclass(frozen=True, slots=True)
class _Place:
    """A chunk's place: which stage and chunk, and whether something comes and goes."""

    chunk: Chunk
    first: bool
    last: bool


@dataclass(frozen=True, slots=True)
class _Written:
    """A pass as a block: its first operation that is no message from another stage, its first
    kernel, what must be through before the next pass, and its last gradient reduction (-1 for none)."""

    block: Frozen
    first: int
    kernel: int
    through: int
    reduction: int


def build(experiment: TrainingExperiment) -> Job:
    """The programs of one step.

    Raises
    ------
    SpecError
        The chip lacks constants for the precision or the stack's attention kernel.
    """
    layout, model = experiment.layout, experiment.model
    tables = Tables()
    mine = shard(experiment)
    rates = pack(experiment.system.chip, experiment.stack, experiment.precision)
    choices = options(experiment)
    layers = Layers(layer_costs(mine, rates), mine, choices, kept_of(mine, choices, rates), experiment.stack)
    chunks = deal(model.layers, layout.pp * layout.vpp, balanced=experiment.stack.stages == "balanced")
    writer = _StageWriter(experiment, mine, rates, layers, tables)
    programs, static = [], []
    for stage in range(layout.pp):
        places = [_Place(chunks[at], at == 0, at == len(chunks) - 1) for at in range(stage, len(chunks), layout.pp)]
        programs.append(writer.program(stage, places))
        static.append(stage_static(experiment, mine, [place.chunk for place in places]))
    tied = model.tied_embeddings and layout.pp > 1
    used = {message.family for message in tables.messages}
    return Job(
        programs=programs,
        program_of=stage_of(layout),
        families={k: f for k, f in families(layout, tied_embeddings=tied).items() if k in used},
        labels=list(tables.labels),
        messages=list(tables.messages),
        memory_kinds=KINDS,
        static=static,
        speed=dict(experiment.slow.chips),
    )


def _parameters(mine: Shard, chunk: Chunk, alone: bool) -> float:
    return chunk_parameters(mine, chunk.layers, chunk.embedding, chunk.loss, alone)


def stage_static(experiment: TrainingExperiment, mine: Shard, chunks: list[Chunk]) -> dict[str, float]:
    """HBM that a stage holds all the time, by kind [byte]."""
    alone = experiment.layout.pp == 1
    held = sum(_parameters(mine, chunk, alone) for chunk in chunks)
    parts = experiment.layout.dp if experiment.layout.zero else 1
    return {
        "weights": held * mine.width,
        "gradients": held * mine.gradient_width,
        "optimizer": held * STATE_BYTES / parts,
        "reserved": experiment.stack.reserved,
    }


class _StageWriter:
    """Writes the program of each stage, each kind of pass once."""

    def __init__(
        self, experiment: TrainingExperiment, mine: Shard, rates: Rates, layers: Layers, tables: Tables
    ) -> None:
        self.experiment, self.mine, self.rates, self.layers, self.tables = experiment, mine, rates, layers, tables
        self.layout, self.stack = experiment.layout, experiment.stack
        self.count = partial(_parameters, mine, alone=experiment.layout.pp == 1)
        self._blocks: dict[tuple[bool, int, bool], _Written] = {}
        self._numbers: dict[_Place, int] = {}

    def program(self, stage: int, places: list[_Place]) -> Program:
        """Update, passes in the schedule's order, and the meeting at the end."""
        micro_batches = self.experiment.micro_batches
        held = sum(self.count(place.chunk) for place in places)
        opening, gathers = self._opening(held, places)
        blocks, names, extra = [opening], [""], []
        # a chunk's first forward waits for its own gather, or the very first pass for all of them
        waiting = dict(enumerate(gathers)) if self.stack.overlap_parameter_gather else dict(enumerate(gathers[-1:]))
        reduced = through = 0
        size = len(opening)
        for step in schedule(stage, self.layout.pp, self.layout.vpp, micro_batches):
            last = step.backward and step.micro_batch == micro_batches - 1
            written = self._pass(step, places[step.chunk], last)
            block = written.block
            if not step.backward and step.chunk in waiting:
                extra.append((len(blocks), written.first, waiting.pop(step.chunk)))
            if blocks[1:] and (written.first < written.kernel or not self.stack.overlap_sends):
                # a collective is issued after the kernels before it, on whatever stream it runs
                extra.append((len(blocks), written.first, through))
            through = size + written.through
            if written.reduction >= 0:
                reduced = size + written.reduction
            blocks.append(block)
            names.append(
                f"{'B' if step.backward else 'F'}{step.micro_batch}" + (f".{step.chunk}" if self.layout.vpp > 1 else "")
            )
            size += len(block)
        # the closing's first operation needs all gradients: it waits for the last kernel and the last bucket
        extra += [(len(blocks), 0, op) for op in (through, reduced) if op]
        return join([*blocks, self._closing(held, places)], [*names, ""], extra)

    def _opening(self, held: float, places: list[_Place]) -> tuple[Frozen, list[int]]:
        """The update of this rank's part, then the gather of every chunk's parameters."""
        block = Block(self.tables)
        sharded = self.layout.zero == 1 and self.layout.dp > 1
        part = held / (self.layout.dp if sharded else 1)
        update = block.compute(self._optimizer("update", part * self.stack.optimizer_traffic))
        gathers = []
        if sharded:
            for place in places:
                nbytes = self.count(place.chunk) * self.mine.width
                if nbytes:
                    gathers.append(block.collective(Message("dp", "all_gather", nbytes), (update,), _DP))
                else:
                    gathers.append(gathers[-1] if gathers else update)
        return block.freeze(), gathers

    def _closing(self, held: float, places: list[_Place]) -> Frozen:
        """Gradients that are still to be reduced; tied embeddings are summed over the end stages; then the norm."""
        block = Block(self.tables)
        after: tuple[int, ...] = ()
        if not self.stack.overlap_gradient_reduction and self.layout.dp > 1:
            after = (self._reduce(block, held, ()),)
        ends = any(place.first or place.last for place in places)
        if self.mine.tied and self.layout.pp > 1 and ends:
            nbytes = self.mine.vocabulary * self.mine.hidden * self.mine.gradient_width
            after = (block.collective(Message("embedding", "all_reduce", nbytes), after, _DP),)
        part = held / (self.layout.dp if self.layout.zero else 1)
        norm = block.compute(self._optimizer("gradient norm", part * self.mine.gradient_width), after)
        if self.layout.chips > 1:
            # eight bytes: latency alone, under a nanosecond of any link is left out
            block.collective(Message("world", "all_reduce", 0.0), (norm,), _DP)
        return block.freeze()

    def _optimizer(self, name: str, nbytes: float) -> Label:
        parts = (("elementwise", nbytes / self.rates.elementwise), ("launch", self.rates.gap))
        return Label(name, "optimizer", parts)

    def _pass(self, step: Pass, place: _Place, last: bool) -> "_Written":
        key = (step.backward, self._numbers.setdefault(place, len(self._numbers)), last)
        if key not in self._blocks:
            block, reduction = self._backward(place, last) if step.backward else (self._forward(place), -1)
            kernels = np.flatnonzero(block.ops[:, 0] == COMPUTE)
            sends = np.flatnonzero(block.ops[:, 0] == SEND)
            blocked = len(sends) and not self.stack.overlap_sends
            self._blocks[key] = _Written(
                block=block,
                first=int(np.flatnonzero(block.ops[:, 0] != RECEIVE)[0]),
                kernel=int(kernels[0]),
                through=int(sends[-1] if blocked else kernels[-1]),
                reduction=reduction,
            )
        return self._blocks[key]

    def _forward(self, place: _Place) -> Frozen:
        block, layers = Block(self.tables), self.layers
        after: tuple[int, ...] = ()
        if not place.first:
            after = (block.receive(self._boundary("pp_forward"), "receive forward"),)
            after = layers.enter(block, after)
        if place.first:
            after = (layers.embed(block, after),)
        for _ in range(place.chunk.layers):
            after = (layers.forward(block, after),)
        if place.last:
            layers.loss(block, after)
        else:
            block.send(self._boundary("pp_forward"), "send forward", after)
        return block.freeze()

    def _backward(self, place: _Place, reduce: bool) -> tuple[Frozen, int]:
        """The block and its last gradient reduction, or -1."""
        block, layers = Block(self.tables), self.layers
        after: tuple[int, ...] = ()
        if not place.last:
            after = (block.receive(self._boundary("pp_backward"), "receive backward"),)
            after = layers.enter(block, after)
        overlapped = reduce and self.stack.overlap_gradient_reduction
        bucket, reduction = 0.0, -1
        if place.last:
            after = (layers.loss_backward(block, after),)
            bucket += self.count(Chunk(0, False, True))
        for index in range(place.chunk.layers):
            after = (layers.backward(block, after),)
            bucket += self.mine.layer
            full = bucket * self.mine.gradient_width >= self.stack.bucket
            if overlapped and full and (place.first or index < place.chunk.layers - 1):
                reduction, bucket = self._reduce(block, bucket, after), 0.0
        if place.first:
            after = (layers.embed_backward(block, after),)
            bucket += self.count(Chunk(0, True, False))
        else:
            block.send(self._boundary("pp_backward"), "send backward", after)
        if overlapped and bucket:
            reduction = self._reduce(block, bucket, after)
        return block.freeze(), reduction

    def _reduce(self, block: Block, parameters: float, after: tuple[int, ...]) -> int:
        """Gradients of a bucket over the dp group, beside what follows."""
        if self.layout.dp == 1:
            return -1
        operation = "reduce_scatter" if self.layout.zero else "all_reduce"
        return block.collective(Message("dp", operation, parameters * self.mine.gradient_width), after, _DP)

    def _boundary(self, family: str) -> Message:
        return Message(family, "send", self.mine.boundary)
