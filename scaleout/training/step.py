"""One optimizer step as programs: what every pipeline stage computes, sends and keeps.

The period begins where all ranks meet: at the end of the all-reduce of the gradient norm. Then
come the update, the gather of the parameters (ZeRO-1), the passes of the schedule with gradient
buckets reduced beside the backward of the last micro-batch, and the next norm. All ranks leave
that all-reduce together, so one period is the steady state exactly.
"""

from scaleout.engine.program import Job, Program
from scaleout.hardware import pack
from scaleout.models import layer_kinds
from scaleout.parallel import (
    KINDS,
    Context,
    Layers,
    Tables,
    families,
    join,
    kept_of,
    layer_costs,
    options,
    shard,
    stage_of,
)  # fmt: skip
from scaleout.specs import TrainingExperiment
from scaleout.training.imperfect import speeds
from scaleout.training.missing import refuse_missing
from scaleout.training.schedules import schedule
from scaleout.training.stages import Place, deal
from scaleout.training.state import State
from scaleout.training.writer import PassWriter

__all__ = ["build"]


def build(experiment: TrainingExperiment) -> Job:
    """The programs of one step.

    Raises
    ------
    PlanError
        No time model exists for something that is asked for.
    SpecError
        The chip lacks constants for the precision or the stack's attention kernel.
    """
    refuse_missing(experiment)
    layout, model = experiment.layout, experiment.model
    tables = Tables()
    kinds = layer_kinds(model)
    shards = {kind: shard(experiment, kind) for kind in dict.fromkeys(kinds)}
    rates = pack(experiment.system.chip, experiment.stack, experiment.precision)
    choices = options(experiment)
    layers = {
        kind: Layers(
            layer_costs(mine, rates),
            mine,
            choices,
            kept_of(mine, choices, rates),
            experiment.stack,
            Context(mine, layout.context, rates, KINDS.index("temporary")),
        )
        for kind, mine in shards.items()
    }
    chunks = deal(kinds, layout.pp * layout.vpp, balanced=experiment.stack.stages == "balanced")
    state = State(experiment, shards, rates, tables)
    writer = PassWriter(experiment.stack, layers, state, tables, state.mine.boundary)
    programs, static = [], []
    for stage in range(layout.pp):
        places = [Place(chunks[at], at == 0, at == len(chunks) - 1) for at in range(stage, len(chunks), layout.pp)]
        programs.append(_program(experiment, state, writer, stage, places))
        static.append(state.static([place.chunk for place in places]))
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
        speed=speeds(experiment),
    )


def _program(
    experiment: TrainingExperiment, state: State, writer: PassWriter, stage: int, places: list[Place]
) -> Program:
    """Update, passes in the schedule's order, and the meeting at the end."""
    layout, stack, micro_batches = experiment.layout, experiment.stack, experiment.micro_batches
    held = sum(state.count(place.chunk) for place in places)
    opening, gathers = state.opening(held, places)
    blocks, names, extra = [opening], [""], []
    # a chunk's first forward waits for its own gather, or the very first pass for all of them
    waiting = dict(enumerate(gathers)) if stack.overlap_parameter_gather else dict(enumerate(gathers[-1:]))
    reduced = through = 0
    size = len(opening)
    for step in schedule(stage, layout.pp, layout.vpp, micro_batches):
        last = step.backward and step.micro_batch == micro_batches - 1
        written = writer.written(step, places[step.chunk], last)
        block = written.block
        if not step.backward and step.chunk in waiting:
            extra.append((len(blocks), written.first, waiting.pop(step.chunk)))
        if blocks[1:] and (written.first < written.kernel or not stack.overlap_sends):
            # a collective is issued after the kernels before it, on whatever stream it runs
            extra.append((len(blocks), written.first, through))
        through = size + written.through
        if written.reduction >= 0:
            reduced = size + written.reduction
        blocks.append(block)
        names.append(
            f"{'B' if step.backward else 'F'}{step.micro_batch}" + (f".{step.chunk}" if layout.vpp > 1 else "")
        )
        size += len(block)
    # the closing's first operation needs all gradients: it waits for the last kernel and the last bucket
    extra += [(len(blocks), 0, op) for op in (through, reduced) if op]
    return join([*blocks, state.closing(held, places)], [*names, ""], extra)
