"""One optimizer step as programs: what every pipeline stage computes, sends and keeps.

The period begins where all ranks meet: at the end of the all-reduce of the gradient norm. Then
come the update, the gather of the parameters (ZeRO-1), the passes of the schedule with gradient
buckets reduced beside the backward of the last micro-batch, and the next norm. All ranks leave
that all-reduce together, so one period is the steady state exactly.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import takewhile

import numpy as np

from scaleout.engine.program import COMPUTE, STREAMS, Family, Job, Program
from scaleout.hardware import Rates, pack
from scaleout.models import LayerKind, layer_kinds
from scaleout.parallel import (
    DEPENDENCIES,
    KINDS,
    Context,
    ExpertExchange,
    Frozen,
    Layers,
    Tables,
    families,
    host_families,
    join,
    kept_of,
    layer_costs,
    options,
    shard,
)  # fmt: skip
from scaleout.specs import Chip, TrainingExperiment
from scaleout.training.imperfect import speeds
from scaleout.training.missing import refuse_missing
from scaleout.training.mixed import seats
from scaleout.training.offload import check_host, on_host, refuse_hostless, resident
from scaleout.training.registry import schedule_of
from scaleout.training.schedules import Pass
from scaleout.training.slower import Slower
from scaleout.training.stages import Place, chunks_of
from scaleout.training.state import GATHER, State
from scaleout.training.timetable import Steps, finished, timetable
from scaleout.training.writer import PassWriter, message_way

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
    refuse_hostless(experiment)
    layout, model = experiment.layout, experiment.model
    tables = Tables()
    kinds = layer_kinds(model)
    # the decoder first: embedding and loss are of its tokens
    distinct = dict.fromkeys((*kinds[model.encoder :], *kinds[: model.encoder]))
    shards = {kind: shard(experiment, kind) for kind in distinct}
    # where every micro-batch's gradients are reduced, its kernels add to nothing
    summing = replace(experiment.stack, fused_gradient_sum=True) if experiment.reduces_each else experiment.stack
    chunks, schedule = chunks_of(experiment), schedule_of(layout)
    table = timetable(schedule, layout.pp, layout.vpp, experiment.micro_batches)
    program_of, places_of = seats(experiment)
    sides: dict[Chip, tuple[State, PassWriter]] = {}
    for chip in dict.fromkeys((experiment.system.chip, *(seat.chip for seat in places_of))):
        rates = pack(chip, summing, experiment.precision)
        layers = plain = _layers(experiment, distinct, rates)
        if experiment.recompute_layers is not None and experiment.recompute:
            plain = _layers(replace(experiment, recompute=()), distinct, rates)
        state = State(experiment, shards, rates, tables)
        sides[chip] = state, PassWriter(experiment.stack, layers, plain, state, tables, state.mine.boundary)
    programs, static, hosted = [], [], []
    for stage, chip in places_of:
        state, writer = sides[chip]
        places = [
            Place(chunks[at], at == 0, at == len(chunks) - 1, came, goes) for _, at, came, goes in table.seats[stage]
        ]
        programs.append(_program(experiment, state, writer, places, table.steps[stage], table.inbox[stage]))
        mine = [place.chunk for place in places]
        held = state.static(mine)
        written = [*writer.layers.values(), *writer.plain.values()]
        static.append(resident(state, written, mine, held) if experiment.offload.any else held)
        hosted.append(on_host(state, mine, held))
    # contention knows one kind of chip
    slower = Slower(experiment.system.chip, rates, shards, layers, tables)
    tied = model.tied_embeddings and not state.together
    used = {message.family for message in tables.messages}
    job = Job(
        programs=programs,
        program_of=program_of,
        families=_used(families(layout, tied_embeddings=tied) | host_families(layout.chips), used),
        labels=list(tables.labels),
        messages=list(tables.messages),
        memory_kinds=KINDS,
        static=static,
        slower=slower if experiment.contention != "none" else None,
        speed=speeds(experiment),
    )
    check_host(experiment, job, hosted)
    return job


def _layers(experiment: TrainingExperiment, kinds: Iterable[LayerKind], rates: Rates) -> dict[LayerKind, Layers]:
    """What writes each kind of layer."""
    made = {}
    for kind in kinds:
        mine, choices = shard(experiment, kind), options(experiment, kind)
        exchange = ExpertExchange(experiment, mine) if mine.experts else None
        kept = kept_of(mine, choices, rates)
        cut = experiment.layout.cp > 1
        context = Context(mine, experiment.layout.context, rates, KINDS.index("temporary")) if cut else None
        made[kind] = Layers(layer_costs(mine, rates), mine, choices, kept, experiment.stack, exchange, context)
    return made


def _used(made: dict[str, Family], used: set[str]) -> dict[str, Family]:
    """The families that messages name, and the communicators of their own that gathers have."""
    apart = {f"{GATHER} {k}": replace(f, name=f"{GATHER} {k}") for k, f in made.items()}
    return {k: f for k, f in {**made, **apart}.items() if k in used}


def _last_out(opening: Frozen) -> int:
    """The last copy to the host after the update, -1 for none."""
    return int(max(np.flatnonzero(opening.ops[:, 1] == STREAMS.index("copy out")), default=-1))


def _program(
    experiment: TrainingExperiment,
    state: State,
    writer: PassWriter,
    places: list[Place],
    steps: Steps,
    inbox: Mapping[int, tuple[Pass, ...]],
) -> Program:
    """Update, passes in the schedule's order, and the meeting at the end."""
    stack = experiment.stack
    # a chunk's first forward waits for its own gather, or the very first pass for all of them
    used = list(dict.fromkeys(one.chunk for step in steps for one in step))
    opening, gathers = state.opening([places[chunk] for chunk in used])
    waiting = dict(zip(used, gathers if stack.overlap_parameter_gather else gathers[-1:], strict=False))
    blocks, names, extra = [opening], [""], []
    ends = finished(steps)
    coming = {way: iter(passes) for way, passes in inbox.items()}
    early: dict[Pass, int] = {}
    blocking = not stack.overlap_sends or (experiment.reduces_each and not writer.overlapped)
    through, reduced = int(np.flatnonzero(opening.ops[:, 0] == COMPUTE)[-1]), 0
    begun: set[int] = set()
    # what a pass's first copy in, and its kernels, wait for; where each pass's last copy out is
    came, gone = _last_out(opening), -1
    left: dict[tuple[int, int], int] = {}
    size = len(opening)
    for number, step in enumerate(steps):
        made = []
        for one in step:
            place = places[one.chunk]
            way = message_way(one, place)
            if way and one not in early:
                # messages are taken in the order in which they are sent, whatever they are for
                for other in takewhile(one.__ne__, coming[way]):
                    early[other] = size
                    blocks.append(writer.received(way))
                    names.append("")
                    size += 1
            whole = number == ends[one.chunk] and one.kind in "BW"
            edge = whole if one.kind != "F" else one.chunk not in begun
            begun.add(one.chunk)
            made.append(writer.written(one, place, edge=edge, received=one in early))
        written = made[0] if len(made) == 1 else writer.pair(*made)
        received = [early.pop(one) for one in step if one in early]
        freed = came
        for one, span in zip(step, written.spans, strict=True):
            waits = list(received)
            if one.kind == "F" and one.chunk in waiting:
                waits.append(waiting.pop(one.chunk))
            if blocks[1:] and span.first >= 0 and (span.first != span.kernel or blocking):
                # a collective is issued after the kernels before it, on whatever stream it runs
                waits.append(through)
            if span.gather >= 0 and not (blocks[1:] and span.gather == span.first):
                extra.append((len(blocks), span.gather, through))
            if span.out >= 0 and gone >= 0:
                # buffers are free
                waits.append(gone)
            # an operation waits for so many at most, messages in its own block among them
            free = DEPENDENCIES - np.count_nonzero(written.block.after[span.first]) if waits else 0
            extra += [(len(blocks), span.first, op) for op in waits[:free]]
            mine = left.get((one.chunk, one.micro_batch), -1)
            for copy, waited in ((span.fetch, came), (span.second, through), (span.kept, mine)):
                if copy >= 0 and waited >= 0:
                    extra.append((len(blocks), copy, waited))
            freed = max(freed, size + span.free if span.free >= 0 else -1)
            if span.out >= 0:
                gone = left[one.chunk, one.micro_batch] = size + span.out
            if span.reduction >= 0:
                reduced = size + span.reduction
        came = freed
        if written.through >= 0:
            through = size + written.through
        blocks.append(written.block)
        words = (f"{one.kind}{one.micro_batch}" + (f".{one.chunk}" if places[1:] else "") for one in step)
        names.append("&".join(words) if written.through >= 0 else "")
        size += len(written.block)
    # the closing's first operation needs all gradients: it waits for the last kernel and the last bucket
    extra += [(len(blocks), 0, op) for op in (through, reduced) if op]
    return join([*blocks, state.closing(places)], [*names, ""], extra)
