"""A job without folding, as arrays that its ranks share: steps of programs, seats of meetings, legs of transfers.

A program's steps are laid out once, whatever the number of its ranks; a leg is kept once for each
pattern and group, whatever the number of messages that take it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Floats, Ints
from scaleout.engine.partition import roles
from scaleout.engine.program import COMPUTE, RECEIVE, STREAMS, TICKS_PER_SECOND, Job, Program, ticks
from scaleout.errors import WorkloadError
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase

__all__ = ["FOREVER", "WIDTH", "Meetings", "Script", "Unfolded", "Wires", "unfold"]

WIDTH = len(STREAMS)
"""Streams of a rank."""
FOREVER = 2**63 - 1
"""Beyond all dates [tick]."""

Small = npt.NDArray[np.int32]


OP, ITEM, SIDE, HEARD, WAITS = range(5)
"""Columns of `Script.steps`."""
ALONE_HERE, NO_MORE = -1, -2
"""In place of a side: of a compute operation, and of the step that closes a stream."""
STREAM, STEP = range(2)
"""Columns of `Script.waits`."""
BASE, PACE = range(2)
"""Columns of `Script.ranks`."""
FIRST_PLACE, PLACES, MEMBERS = range(3)
"""Columns of `Meetings.groups`."""
OWNER, SEAT, PRESENT, MESSAGE, PART, FLOWING = range(6)
"""Columns of `Meetings.places`. During a run also: members that have come; what the transfer carries, which
part of it now, and whether its bytes flow; otherwise it waits for a latency to pass."""
FIRST_ENTRY, LATENCY = range(2)
"""Columns of `Wires.legs`."""
ALONE, CAP = range(2)
"""Columns of `Wires.leg_rates`."""
LINK, KIND = range(2)
"""Columns of `Wires.entries`."""
FIRST_KIND, ROOM, USERS, MARKED = range(4)
"""Columns of `Wires.links`. During a run also: flows on it now, and whether they have changed in this instant."""


class Script(NamedTuple):
    """What ranks carry out. Stream k of rank r is number ``r * WIDTH + k``; its steps are
    consecutive numbers, shared by all ranks of the program.

    Parameters
    ----------
    first, last
        First step and last + 1 of each stream of each rank, shape (ranks x WIDTH,).
    steps
        Of each step: operation; label or message; side (family x 2 + role), or `ALONE_HERE`, or `NO_MORE`; whether
        another stream waits for its end; the first of its rows in `waits`, which end where those of the next begin.
    waits
        Steps of other streams of the rank that must have ended: stream and step.
    ranks
        Of each rank: where its operations begin in the record, and its row of `duration`.
    duration
        By share of the nominal rate and label [tick].
    operations
        Of all ranks.
    """

    first: Small
    last: Small
    steps: Small
    waits: Small
    ranks: Ints
    duration: Ints
    operations: int


class Meetings(NamedTuple):
    """Communicators of all families under one numbering.

    A communicator whose members use it on several streams may have as many meetings open at a
    time, no more: so many places it has, taken in turn.

    Parameters
    ----------
    group_of
        Communicator of each side and rank, -1 for none, shape (sides, ranks).
    groups
        Of each communicator: its first place, its places, and its members.
    places
        Of each place: its communicator and its first seat; a seat is for one member.
    most_places, seats
        The most places that a communicator has, and seats of all.
    """

    group_of: Small
    groups: Small
    places: Small
    most_places: int
    seats: int


class Wires(NamedTuple):
    """What transfers carry over which links. A leg is one phase of a pattern on one communicator.

    Parameters
    ----------
    first_part
        First part of each message, and one more; a part is one phase of its pattern.
    size
        Bytes of an elementary flow of each part [byte]; 0 if it only takes its latency.
    first_leg
        Of each part: the leg of communicator 0, if it were of this family.
    legs
        Of each leg, and one more: its first entry, and the latency after the last byte [tick].
    leg_rates
        Of each leg: rate with no other flow on its links, and at most [byte/s].
    entries
        Links that a leg loads, and the kind: a link with one of the weights on it.
    links
        Of each link, and one more: its first kind, and its first room for users; so many flows may cross it at a time.
    capacity
        Of each link [byte/s].
    weight
        Of each kind.
    private
        Time of a whole transfer whose links no other communicator loads [tick], -1 elsewhere,
        shape (messages, communicators).
    """

    first_part: Small
    size: Floats
    first_leg: Ints
    legs: Ints
    leg_rates: Floats
    entries: Small
    links: Ints
    capacity: Floats
    weight: Floats
    private: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Unfolded:
    """A job where every rank is a class of its own; reads as a `Quotient` does.

    Parameters
    ----------
    job
        What is run.
    algorithms
        Algorithm and protocol of each message that some program sends.
    script, meetings, wires
        For the engine.
    """

    job: Job = field(repr=False)
    algorithms: Mapping[int, str]
    script: Script = field(repr=False)
    meetings: Meetings = field(repr=False)
    wires: Wires = field(repr=False)

    @property
    def classes(self) -> int:
        """Number of ranks."""
        return self.job.ranks

    @property
    def representatives(self) -> Ints:
        """The ranks."""
        return np.arange(self.job.ranks)

    class_of = representatives

    @property
    def sizes(self) -> Ints:
        """Ranks of each class: one."""
        return np.ones(self.job.ranks, dtype=np.int64)

    def members(self, family: str, role: int, cls: int) -> tuple[tuple[int, int], ...]:
        """Rank and role of all members of the communicator that a rank uses in a role."""
        names = sorted(self.job.families)
        group = int(self.meetings.group_of[2 * names.index(family) + role, cls])
        before = sum(len(self.job.families[name].groups) for name in names[: names.index(family)])
        ranks = self.job.families[family].groups[group - before].tolist()
        return tuple(zip(ranks, roles(self.job, family).tolist(), strict=True))


def unfold(job: Job, fabric: Fabric, patterns: Mapping[int, Pattern]) -> Unfolded:
    """Lay out a job.

    Parameters
    ----------
    patterns
        Pattern of each message, by index into the job's messages.

    Raises
    ------
    WorkloadError
        A program uses a family in which its rank has no communicator.
    """
    used = [np.unique(_used(program)) for program in job.programs]
    sent = sorted({message for codes in used for message in (codes >> 32).tolist()})
    meetings, base = _meetings(job, used)
    return Unfolded(
        job,
        {message: patterns[message].algorithm for message in sent},
        _script(job),
        meetings,
        _wires(job, fabric, {message: patterns[message] for message in sent}, meetings, base),
    )


def _used(program: Program) -> Ints:
    """Message, role and stream of each communication, as one number."""
    busy = program.kind != COMPUTE
    receives: Ints = (program.kind[busy] == RECEIVE).astype(np.int64)
    codes: Ints = program.item[busy] << 32 | receives << 16 | program.stream[busy]
    return codes


def _ticks(seconds: Floats) -> Ints:
    """As `ticks`, of an array."""
    times = np.rint(seconds * TICKS_PER_SECOND)
    if not (times < FOREVER).all():
        raise OverflowError
    return times.astype(np.int64)


def _script(job: Job) -> Script:
    """Steps of all programs, one after another, stream by stream."""
    sides = {name: 2 * number for number, name in enumerate(sorted(job.families))}
    side_of = np.array([sides[message.family] for message in job.messages] or [0])
    firsts, lasts, tables, waits = [], [], [], [np.zeros((0, 2), dtype=np.int64)]
    begin = 0
    for program in job.programs:
        # stream by stream, each with a step to close it
        order = np.argsort(program.stream, kind="stable")
        bounds = np.searchsorted(program.stream[order], np.arange(WIDTH + 1)) + np.arange(WIDTH + 1)
        firsts.append(begin + bounds[:-1])
        lasts.append(begin + bounds[1:] - 1)
        step_of = np.empty(len(program), dtype=np.int64)
        step_of[order] = np.arange(len(program)) + program.stream[order]
        compute, after = program.kind == COMPUTE, program.after
        side = np.where(compute, ALONE_HERE, side_of[np.where(compute, 0, program.item)] + (program.kind == RECEIVE))
        elsewhere = (after >= 0) & (program.stream[after] != program.stream[:, None])
        heard = np.zeros(len(program), dtype=np.int64)
        heard[after[elsewhere]] = 1
        table = np.zeros((len(program) + WIDTH, 5), dtype=np.int64)
        table[:, SIDE] = NO_MORE
        columns = (np.arange(len(program)), program.item, side, heard, elsewhere.sum(axis=1))
        table[step_of] = np.stack(columns, axis=1)
        tables.append(table)
        waited = after[order][elsewhere[order]]
        waits.append(np.stack((program.stream[waited], begin + step_of[waited]), axis=1))
        begin += len(table)
    steps = np.concatenate([*tables, np.zeros((1, 5), dtype=np.int64)])
    steps[:, WAITS] = _begins(steps[:-1, WAITS])
    paces = sorted({1.0, *job.speed.values()})
    pace = np.full(job.ranks, paces.index(1.0))
    for rank, share in job.speed.items():
        pace[rank] = paces.index(share)
    base = _begins(np.array([len(program) for program in job.programs], dtype=np.int64)[job.program_of])
    return Script(
        first=np.array(firsts)[job.program_of].astype(np.int32).ravel(),
        last=np.array(lasts)[job.program_of].astype(np.int32).ravel(),
        steps=steps.astype(np.int32),
        waits=np.concatenate(waits).astype(np.int32),
        ranks=np.stack((base[:-1], pace), axis=1),
        duration=np.array([[ticks(label.seconds / share) for label in job.labels] for share in paces], dtype=np.int64),
        operations=int(base[-1]),
    )


def _meetings(job: Job, used: Sequence[Ints]) -> tuple[Meetings, dict[str, int]]:
    """Communicators of all families, and where those of each family begin."""
    names = sorted(job.families)
    group = np.full((2 * len(names), job.ranks), -1, dtype=np.int64)
    base: dict[str, int] = {}
    members: list[Ints] = [np.zeros(0, dtype=np.int64)]
    places: list[Ints] = [np.zeros(0, dtype=np.int64)]
    begin = 0
    family_of = np.array([names.index(message.family) for message in job.messages] or [0])
    side_and_stream = [2 * family_of[codes >> 32] + (codes >> 16 & 1) << 16 | codes & 0xFFFF for codes in used]
    open_at_once = np.ones(2 * len(names), dtype=np.int64)
    for keys in side_and_stream:
        np.maximum(open_at_once, np.bincount(np.unique(keys) >> 16, minlength=2 * len(names)), out=open_at_once)
    for number, name in enumerate(names):
        table = job.families[name].groups
        count, width = table.shape
        base[name] = begin
        for member, role in enumerate(roles(job, name).tolist()):
            group[2 * number + role, table[:, member]] = np.arange(begin, begin + count)
        members.append(np.full(count, width))
        places.append(np.full(count, open_at_once[2 * number : 2 * number + 2].max()))
        begin += count
    for program, keys in enumerate(side_and_stream):
        for side in np.unique(keys >> 16).tolist():
            lost = np.flatnonzero((job.program_of == program) & (group[side] < 0))
            if len(lost):
                family = names[side // 2]
                raise WorkloadError(f"rank {lost[0]}: its program uses {family}, where it has no communicator")
    many, seats = np.concatenate(places), np.concatenate(members)
    owner = np.repeat(np.arange(begin), many)
    rows = np.zeros((len(owner), 6), dtype=np.int32)
    seat = _begins(seats[owner])
    rows[:, OWNER], rows[:, SEAT] = owner, seat[:-1]
    return Meetings(
        group_of=group.astype(np.int32),
        groups=np.stack((_begins(many)[:-1], many, seats), axis=1).astype(np.int32),
        places=rows,
        most_places=int(many.max(initial=1)),
        seats=int(seat[-1]),
    ), base


def _wires(
    job: Job, fabric: Fabric, patterns: Mapping[int, Pattern], meetings: Meetings, base: Mapping[str, int]
) -> Wires:
    """Legs of all patterns, and links that some message loads, under numbers of their own."""
    phases: dict[tuple[str, int], tuple[Phase, bool]] = {}
    for index, pattern in patterns.items():
        family, loads = job.messages[index].family, job.messages[index].nbytes > 0
        for phase in pattern.phases:
            phases[family, id(phase)] = phase, loads or phases.get((family, id(phase)), (phase, False))[1]
    leg_of, legs = {}, 0
    none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
    link, weight, entries, owner, latency, cap = [none], [nothing], [none], [none], [none], [nothing]
    for (family, key), (phase, loads) in phases.items():
        count = len(job.families[family].groups)
        leg_of[family, key] = legs - base[family]
        legs += count
        latency.append(_ticks(phase.latency))
        cap.append(phase.cap)
        entries.append(np.bincount(phase.group, minlength=count) if loads else np.zeros(count, dtype=np.int64))
        if loads:
            link.append(phase.link)
            weight.append(phase.weight)
            owner.append(phase.group + base[family])
    loaded, links = np.unique(np.concatenate(link), return_inverse=True)
    weights, owners, entry = np.concatenate(weight), np.concatenate(owner), _begins(np.concatenate(entries))
    capacity = fabric.topology.bandwidth[loaded]
    caps = np.concatenate(cap)
    alone = caps.copy()
    busy = np.flatnonzero(np.diff(entry))
    if len(busy):
        alone[busy] = np.minimum(caps[busy], np.minimum.reduceat(capacity[links] / weights, entry[busy]))
    kind, low, kind_weight = _kinds(links, weights, len(loaded))

    # private: all links are loaded by one communicator alone, which has one transfer at a time
    lowest, highest = np.full(len(loaded), len(meetings.groups)), np.full(len(loaded), -1)
    np.minimum.at(lowest, links, owners)
    np.maximum.at(highest, links, owners)
    shared = np.concatenate(([0], np.cumsum(lowest[links] != highest[links])))
    open_to_others = shared[entry[1:]] > shared[entry[:-1]]

    part, size, leg = [0], [], []
    private = np.full((len(job.messages), len(meetings.groups)), -1, dtype=np.int64)
    latencies = np.concatenate(latency)
    for number, message in enumerate(job.messages):
        family, groups = message.family, len(job.families[message.family].groups)
        own = slice(base[family], base[family] + groups)
        time, closed = np.zeros(groups, dtype=np.int64), meetings.groups[own, PLACES] == 1
        for phase in patterns[number].phases if number in patterns else ():
            size.append(message.nbytes * phase.share)
            leg.append(leg_of[family, id(phase)])
            mine = slice(leg[-1] + own.start, leg[-1] + own.stop)
            moves = (np.diff(entry)[mine] > 0) & (size[-1] > 0)
            bytes_take = _ticks(np.where(moves, size[-1] / np.where(moves, alone[mine], 1.0), 0.0))
            time += bytes_take + latencies[mine]
            closed &= ~(open_to_others[mine] & moves)
        private[number, own] = np.where(closed, time, -1)
        part.append(len(size))
    room = np.bincount(links, minlength=len(loaded)) * meetings.most_places
    table = np.zeros((len(loaded) + 1, 4), dtype=np.int64)
    table[:, FIRST_KIND], table[:, ROOM] = low, _begins(room)
    return Wires(
        first_part=np.array(part, dtype=np.int32),
        size=np.array(size, dtype=np.float64),
        first_leg=np.array(leg, dtype=np.int64),
        legs=np.stack((entry, np.append(latencies, 0)), axis=1),
        leg_rates=np.stack((alone, caps), axis=1),
        entries=np.stack((links, kind), axis=1).astype(np.int32),
        links=table,
        capacity=capacity,
        weight=kind_weight,
        private=private,
    )


def _kinds(link: Ints, weight: Floats, links: int) -> tuple[Ints, Ints, Floats]:
    """Kind of each entry, first kind of each link and one more, and their weights, ascending on each link."""
    order = np.lexsort((weight, link))
    key, value = link[order], weight[order]
    new = np.ones(len(key), dtype=bool)
    new[1:] = (key[1:] != key[:-1]) | (value[1:] != value[:-1])
    kind = np.empty(len(key), dtype=np.int64)
    kind[order] = np.cumsum(new) - 1
    return kind, np.searchsorted(key[new], np.arange(links + 1)), value[new]


def _begins(sizes: Ints) -> Ints:
    """Where parts of these sizes begin when they lie one after another, and where the last ends."""
    begins = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=begins[1:])
    return begins
