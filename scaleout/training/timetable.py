"""A schedule worked out for every stage and checked before anything runs: complete, in order, without deadlock."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from scaleout.errors import SpecError
from scaleout.training.itinerary import Itinerary, Steps, finished, itinerary
from scaleout.training.schedules import KINDS_OF_PASS, Pass, Placement, Schedule

__all__ = ["DOWN", "UP", "Seat", "Timetable", "copies", "routes", "seats_of", "timetable", "together"]

DOWN, UP = 1, -1
"""Ways of a message: to the next stage, and to the one before."""


class Seat(NamedTuple):
    """Where a stage's chunk stands in the model.

    Parameters
    ----------
    route
        Which micro-batches come along: number of the route through the stages.
    model_chunk
        Of the model.
    came, goes
        Which way its input comes and its output goes forward, 0 where it is from or to the same stage
        or outside; gradients go the other way.
    """

    route: int
    model_chunk: int
    came: int
    goes: int


@dataclass(frozen=True, slots=True, eq=False)
class Timetable:
    """What every stage does.

    Parameters
    ----------
    steps
        Of each stage, in order: one pass, or two that are overlapped.
    seats
        Of each stage: where its chunks stand in the model.
    inbox
        Of each stage and way: the passes that the messages which come that way are for, as they are sent.
    itineraries
        Of each stage.
    """

    steps: tuple[Steps, ...]
    seats: tuple[tuple[Seat, ...], ...]
    inbox: tuple[Mapping[int, tuple[Pass, ...]], ...]
    itineraries: tuple[Itinerary, ...]


def routes(placement: Placement, stages: int, chunks: int) -> list[list[tuple[int, int]]]:
    """Stage and chunk there, in the order of the model, of each route that micro-batches take."""
    if placement == "bidirectional":
        return [[(stage, 0) for stage in range(stages)], [(stages - 1 - stage, 1) for stage in range(stages)]]
    rounds = [divmod(at, stages) for at in range(stages * chunks)]
    if placement == "v":
        return [[(stages - 1 - place if chunk % 2 else place, chunk) for chunk, place in rounds]]
    return [[(place, chunk) for chunk, place in rounds]]


def seats_of(placement: Placement, stages: int, chunks: int) -> tuple[tuple[Seat, ...], ...]:
    """Where each stage's chunks stand in the model."""
    found: list[dict[int, Seat]] = [{} for _ in range(stages)]
    for number, route in enumerate(routes(placement, stages, chunks)):
        at = [stage for stage, _ in route]
        # a loop goes on downward, from the last stage to the first
        ways = [DOWN if placement == "looped" else (b > a) - (b < a) for a, b in pairwise(at)]
        for place, (stage, chunk) in enumerate(route):
            found[stage][chunk] = Seat(number, place, ([0, *ways])[place], ([*ways, 0])[place])
    return tuple(tuple(mine[chunk] for chunk in sorted(mine)) for mine in found)


def copies(seats: Sequence[Sequence[Seat]]) -> int:
    """How often the model is there."""
    return 1 + max(seat.route for seat in seats[0])


def together(seats: Sequence[Sequence[Seat]]) -> bool:
    """Whether the model begins and ends on the same stage."""
    chunks = sum(map(len, seats)) // copies(seats)
    return {0, chunks - 1} <= {seat.model_chunk for seat in seats[0]}


@lru_cache(maxsize=32)
def timetable(schedule: Schedule, stages: int, chunks: int, micro_batches: int) -> Timetable:
    """All steps of all stages.

    Raises
    ------
    SpecError
        A pass is missing, comes twice, comes before one of its stage that it needs, or stages wait for
        each other for ever.
    PlanError
        The schedule has no order for these numbers.
    """
    steps = tuple(
        _steps(schedule.name, stage, schedule.passes(stage, stages, chunks, micro_batches)) for stage in range(stages)
    )
    seats = seats_of(schedule.placement, stages, chunks)
    several = copies(seats)
    shares = [range(micro_batches * n // several, micro_batches * (n + 1) // several) for n in range(several)]
    for stage, mine in enumerate(seats):
        _check_complete(schedule.name, stage, steps[stage], [shares[seat.route] for seat in mine])
    ways = routes(schedule.placement, stages, chunks)
    _check_runs(schedule.name, steps, seats, ways)
    if several > 1:
        _check_copies(schedule.name, steps, seats)
    inbox = _inboxes(steps, seats, ways)
    plans = [
        itinerary(mine, [(seat.came, seat.goes) for seat in seats[stage]], inbox[stage])
        for stage, mine in enumerate(steps)
    ]
    return Timetable(steps, seats, inbox, tuple(plans))


def _steps(name: str, stage: int, given: Iterable[object]) -> Steps:
    """Each step as a tuple of passes."""
    found = []
    for step in given:
        passes = (step,) if isinstance(step, Pass) else step
        valid = isinstance(passes, tuple) and len(passes) in (1, 2) and all(isinstance(one, Pass) for one in passes)
        if not valid or not isinstance(passes, tuple):
            raise SpecError(f"schedule {name}: stage {stage} yields {step!r:.60}; accepted: a Pass, or two in a tuple")
        for one in passes:
            if one.kind not in KINDS_OF_PASS:
                raise SpecError(
                    f"schedule {name}: stage {stage} yields a pass of kind {one.kind!r:.20}; "
                    f"accepted: {', '.join(f'{kind} ({words})' for kind, words in KINDS_OF_PASS.items())}"
                )
        if len({one[1:] for one in passes}) < len(passes):
            raise SpecError(
                f"schedule {name}: stage {stage} overlaps {_words(passes[0])} with {_words(passes[1])}; "
                "accepted: passes of different micro-batches or chunks"
            )
        found.append(passes)
    return tuple(found)


def _words(step: Pass) -> str:
    return f"{KINDS_OF_PASS[step.kind]} of micro-batch {step.micro_batch}, chunk {step.chunk}"


def _check_complete(name: str, stage: int, steps: Steps, shares: Sequence[range]) -> None:
    """Each micro-batch once forward and once backward, in that order, through each chunk it belongs to."""
    seen: set[Pass] = set()
    for one in (one for step in steps for one in step):
        if not 0 <= one.chunk < len(shares) or one.micro_batch not in shares[one.chunk]:
            here = "; ".join(f"{share.start} to {share.stop - 1} through chunk {c}" for c, share in enumerate(shares))
            raise SpecError(f"schedule {name}: stage {stage} has no {_words(one)}; its micro-batches: {here}")
        if one in seen or {"B": one._replace(kind="I"), "I": one._replace(kind="B")}.get(one.kind) in seen:
            raise SpecError(f"schedule {name}: stage {stage} does {_words(one)} twice")
        needed = one._replace(kind="I" if one.kind == "W" else "F")
        if one.kind != "F" and needed not in seen:
            raise SpecError(
                f"schedule {name}: stage {stage} does {_words(one)} before its {KINDS_OF_PASS[needed.kind]}"
            )
        seen.add(one)
    for chunk, share in enumerate(shares):
        for m in share:
            whole = [Pass("F", m, chunk), Pass("B", m, chunk)]
            split = [Pass("I", m, chunk), Pass("W", m, chunk)]
            for one in (whole[0], *(split if split[0] in seen else whole[1:])):
                if one not in seen:
                    raise SpecError(f"schedule {name}: stage {stage} leaves out {_words(one)}")


def _needed(step: Pass, stage: int, seat: Seat, route: Sequence[tuple[int, int]]) -> tuple[int, Pass] | None:
    """The pass of another chunk that this one waits for, with its stage."""
    if step.kind == "W":
        return None
    place = seat.model_chunk + (-1 if step.kind == "F" else 1)
    if not 0 <= place < len(route):
        return None
    return route[place][0], Pass("F" if step.kind == "F" else "B", step.micro_batch, route[place][1])


def _check_runs(
    name: str, steps: Sequence[Steps], seats: Sequence[Sequence[Seat]], ways: Sequence[Sequence[tuple[int, int]]]
) -> None:
    """Let every stage go on as long as what it waits for is done, until all is done or nothing moves."""
    done: set[tuple[int, Pass]] = set()
    at = [0] * len(steps)

    def missing(stage: int) -> tuple[int, Pass] | None:
        for one in steps[stage][at[stage]]:
            seat = seats[stage][one.chunk]
            needed = _needed(one, stage, seat, ways[seat.route])
            if needed and needed not in done:
                return needed
        return None

    moved = True
    while moved:
        moved = False
        for stage, mine in enumerate(steps):
            while at[stage] < len(mine) and missing(stage) is None:
                # for those who wait, a gradient is one whether the pass was whole or not
                for one in mine[at[stage]]:
                    done.add((stage, one._replace(kind="B") if one.kind == "I" else one))
                at[stage] += 1
                moved = True
    stuck = [stage for stage, mine in enumerate(steps) if at[stage] < len(mine)]
    if stuck:
        rows = []
        for stage in stuck[:8]:
            other, needed = missing(stage) or (stage, steps[stage][at[stage]][0])
            one = steps[stage][at[stage]][0]
            rows.append(f"stage {stage}: {_words(one)} waits for stage {other}: {_words(needed)}")
        raise SpecError(f"schedule {name}: stages wait for each other for ever:\n  " + "\n  ".join(rows))


def _check_copies(name: str, steps: Sequence[Steps], seats: Sequence[Sequence[Seat]]) -> None:
    """Stages that hold the same two chunks sum their gradients, and have to get to them in the same order."""
    begun = [list(dict.fromkeys(one.chunk for step in all_ for one in step)) for all_ in steps]
    for verb, chunks in (("begins", begun), ("ends", [list(finished(all_)) for all_ in steps])):
        orders = [[mine[chunk].model_chunk for chunk in found] for mine, found in zip(seats, chunks, strict=True)]
        for stage, (one, other) in enumerate(zip(orders, reversed(orders), strict=True)):
            if one != other:
                raise SpecError(
                    f"schedule {name}: stage {stage} {verb} with the model's chunks {one} in this order, stage "
                    f"{len(steps) - 1 - stage}, which has copies of them, with {other}; accepted: the same order"
                )


def _inboxes(
    steps: Sequence[Steps], seats: Sequence[Sequence[Seat]], ways: Sequence[Sequence[tuple[int, int]]]
) -> tuple[Mapping[int, tuple[Pass, ...]], ...]:
    """For whom the messages that come to each stage from either side are, in the order in which they are sent."""
    mine = [{one for step in stage for one in step} for stage in steps]
    found: list[dict[int, list[Pass]]] = [{DOWN: [], UP: []} for _ in steps]
    for stage, one in ((stage, one) for stage, all_ in enumerate(steps) for step in all_ for one in step):
        seat = seats[stage][one.chunk]
        forward = one.kind == "F"
        way = seat.goes if forward else -seat.came
        if one.kind == "W" or not way:
            continue
        place = seat.model_chunk + (1 if forward else -1)
        to, chunk = ways[seat.route][place]
        whole = Pass("F" if forward else "B", one.micro_batch, chunk)
        found[to][way].append(whole if whole in mine[to] else whole._replace(kind="I"))
    return tuple({way: tuple(passes) for way, passes in boxes.items()} for boxes in found)
