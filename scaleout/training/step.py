"""One optimizer step as programs: what every pipeline stage computes, sends and keeps.

The period begins where all ranks meet: at the end of the all-reduce of the gradient norm. Then
come the update, the gather of the parameters (ZeRO-1), the passes of the schedule with gradient
buckets reduced beside the backward of the last micro-batch, and the next norm. All ranks leave
that all-reduce together, so one period is the steady state exactly.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Ints
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
    Shard,
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
from scaleout.training.itinerary import Form, Itinerary, Steps
from scaleout.training.missing import refuse_missing
from scaleout.training.mixed import seats
from scaleout.training.offload import check_host, on_host, refuse_hostless, resident
from scaleout.training.registry import schedule_of
from scaleout.training.schedules import Pass
from scaleout.training.slower import Slower
from scaleout.training.stages import Place, chunks_of
from scaleout.training.state import GATHER, State
from scaleout.training.timetable import Timetable, timetable
from scaleout.training.writer import PassWriter, Span, Written

__all__ = ["Pieces", "build", "pieces"]


class _Setup(NamedTuple):
    """What the programs of a step are written with; places of the chunks of each seat."""

    tables: Tables
    shards: dict[LayerKind, Shard]
    rates: Rates
    layers: dict[LayerKind, Layers]
    sides: dict[Chip, tuple[State, PassWriter]]
    table: Timetable
    seats: list[tuple[int, Chip, list[Place]]]
    program_of: Ints


def _setup(experiment: TrainingExperiment) -> _Setup:
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
    seated = []
    for stage, chip in places_of:
        places = [
            Place(chunks[at], at == 0, at == len(chunks) - 1, came, goes) for _, at, came, goes in table.seats[stage]
        ]
        seated.append((stage, chip, places))
    return _Setup(tables, shards, rates, layers, sides, table, seated, program_of)


class Pieces(NamedTuple):
    """What the programs of a step are made of, without their order.

    Parameters
    ----------
    tables
        Labels and messages that operations name.
    programs
        Of each program its blocks, and how often it has each; messages that are received ahead are left out.
        Blocks that are alike are the same object.
    members
        Of a group of each family that is named.
    """

    tables: Tables
    programs: list[list[tuple[Frozen, int]]]
    members: dict[str, int]


def pieces(experiment: TrainingExperiment) -> Pieces:
    """The blocks of a step: each kind of pass is written once, however many there are.

    Raises
    ------
    PlanError, SpecError
        As `build`.
    """
    setup = _setup(experiment)
    known: dict[tuple[object, ...], list[Frozen]] = {}
    programs = []
    for stage, chip, places in setup.seats:
        (state, writer), plan = setup.sides[chip], setup.table.itineraries[stage]
        key = chip, tuple(places), plan.forms, plan.chunks
        if key not in known:
            ends = [state.opening([places[chunk] for chunk in plan.chunks])[0], state.closing(places)]
            known[key] = [*ends, *(_written(writer, places, forms)[0].block for forms in plan.forms)]
        often = np.bincount(plan.which, minlength=len(plan.forms)).tolist()
        programs.append(list(zip(known[key], (1, 1, *often), strict=True)))
    return Pieces(setup.tables, programs, {k: f.groups.shape[1] for k, f in _families(experiment, setup).items()})


def _families(experiment: TrainingExperiment, setup: _Setup) -> dict[str, Family]:
    """The families that messages name."""
    layout = experiment.layout
    tied = experiment.model.tied_embeddings and not setup.sides[experiment.system.chip][0].together
    made = families(layout, tied_embeddings=tied) | host_families(layout.chips)
    return _used(made, {message.family for message in setup.tables.messages})


def build(experiment: TrainingExperiment) -> Job:
    """The programs of one step.

    Raises
    ------
    PlanError
        No time model exists for something that is asked for.
    SpecError
        The chip lacks constants for the precision or the stack's attention kernel.
    """
    setup = _setup(experiment)
    tables = setup.tables
    programs, static, hosted = [], [], []
    for stage, chip, places in setup.seats:
        state, writer = setup.sides[chip]
        plan = setup.table.itineraries[stage]
        programs.append(_program(experiment, state, writer, places, setup.table.steps[stage], plan))
        mine = [place.chunk for place in places]
        held = state.static(mine)
        written = [*writer.layers.values(), *writer.plain.values()]
        static.append(resident(state, written, mine, held) if experiment.offload.any else held)
        hosted.append(on_host(state, mine, held))
    # contention knows one kind of chip
    slower = Slower(experiment.system.chip, setup.rates, setup.shards, setup.layers, tables)
    job = Job(
        programs=programs,
        program_of=setup.program_of,
        families=_families(experiment, setup),
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
    plan: Itinerary,
) -> Program:
    """Update, passes in the schedule's order, and the meeting at the end."""
    stack = experiment.stack
    # a chunk's first forward waits for its own gather, or the very first pass for all of them
    opening, gathers = state.opening([places[chunk] for chunk in plan.chunks])
    waiting = dict(zip(plan.chunks, gathers if stack.overlap_parameter_gather else gathers[-1:], strict=False))
    blocks, names, extra = [opening], [""], []
    early: dict[Pass, int] = {}
    blocking = not stack.overlap_sends or (experiment.reduces_each and not writer.overlapped)
    through, reduced = int(np.flatnonzero(opening.ops[:, 0] == COMPUTE)[-1]), 0
    # what a pass's first copy in, and its kernels, wait for; where each pass's last copy out is
    came, gone, copied = _last_out(opening), -1, experiment.offload.any
    left: dict[tuple[int, int], int] = {}
    known: dict[int, tuple[Written, int, list[tuple[Form, Span, int]]]] = {}
    size = len(opening)
    for at, number in enumerate(plan.which):
        for way, one in plan.early.get(at, ()):
            early[one] = size
            blocks.append(writer.received(way))
            names.append("")
            size += 1
        if number not in known:
            known[number] = _written(writer, places, plan.forms[number])
        written, length, passes = known[number]
        received = [early.pop(one) for one in steps[at] if one in early] if early else []
        here, freed = len(blocks), came
        for one, (form, span, free) in zip(steps[at], passes, strict=True):
            waits = received[:]
            if form.kind == "F" and form.chunk in waiting:
                waits.append(waiting.pop(form.chunk))
            if here > 1 and span.first >= 0 and (span.first != span.kernel or blocking):
                # a collective is issued after the kernels before it, on whatever stream it runs
                waits.append(through)
            if span.gather >= 0 and not (here > 1 and span.gather == span.first):
                extra.append((here, span.gather, through))
            if span.out >= 0 and gone >= 0:
                # buffers are free
                waits.append(gone)
            extra += [(here, span.first, op) for op in waits[:free]]
            if copied:
                mine = left.get((one.chunk, one.micro_batch), -1)
                for copy, waited in ((span.fetch, came), (span.second, through), (span.kept, mine)):
                    if copy >= 0 and waited >= 0:
                        extra.append((here, copy, waited))
                freed = max(freed, size + span.free if span.free >= 0 else -1)
                if span.out >= 0:
                    gone = left[one.chunk, one.micro_batch] = size + span.out
            if span.reduction >= 0:
                reduced = size + span.reduction
        came = freed
        if written.through >= 0:
            through = size + written.through
        blocks.append(written.block)
        names.append(plan.names[at] if written.through >= 0 else "")
        size += length
    # the closing's first operation needs all gradients: it waits for the last kernel and the last bucket
    extra += [(len(blocks), 0, op) for op in (through, reduced) if op]
    return join([*blocks, state.closing(places)], [*names, ""], extra)


def _written(
    writer: PassWriter, places: list[Place], forms: tuple[Form, ...]
) -> tuple[Written, int, list[tuple[Form, Span, int]]]:
    """A step, its number of operations, and its passes, with how much more the first operation of each may wait for."""
    made = [writer.written(form, places[form.chunk]) for form in forms]
    written = made[0] if len(made) == 1 else writer.pair(*made)
    # an operation waits for so many at most, messages in its own block among them
    after = written.block.after
    free = [DEPENDENCIES - int(np.count_nonzero(after[s.first])) if s.first >= 0 else 0 for s in written.spans]
    return written, len(written.block), list(zip(forms, written.spans, free, strict=True))
