"""A job without folding, as arrays that its ranks share: steps of programs, seats of meetings, legs of transfers.

A program's steps are laid out once, whatever the number of its ranks; a leg is kept once for each
pattern and group, whatever the number of messages that take it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Bools, Floats, Ints
from scaleout.engine.partition import roles
from scaleout.engine.program import COMPUTE, RECEIVE, TICKS_PER_SECOND, Job, Program, ticks
from scaleout.errors import WorkloadError
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase

__all__ = ["FOREVER", "WIDTH", "Meetings", "Script", "Unfolded", "Wires", "unfold"]

WIDTH = 8
"""Streams of a rank, rounded up to a power of two."""
FOREVER = 2**63 - 1
"""Beyond all dates [tick]."""

Small = npt.NDArray[np.int32]


class Script(NamedTuple):
    """What ranks carry out. Stream k of rank r is number ``r * WIDTH + k``; its steps are
    consecutive numbers, shared by all ranks of the program.

    Parameters
    ----------
    first, last
        First step and last + 1 of each stream of each rank, shape (ranks x WIDTH,).
    base
        Where the operations of each rank begin in the record, shape (ranks + 1,).
    pace
        Row of `duration` for each rank.
    op, item, side
        Of each step: operation; label or message; side (family x 2 + role), -1 of a compute operation.
    heard
        Whether another stream waits for the end of the step.
    wait_first, wait_stream, wait_step
        Steps of other streams of the rank that must have ended: those of step s lie from
        ``wait_first[s]`` to ``wait_first[s + 1]``.
    duration
        By share of the nominal rate and label [tick].
    """

    first: Small
    last: Small
    base: Ints
    pace: Small
    op: Small
    item: Small
    side: Small
    heard: Bools
    wait_first: Small
    wait_stream: Small
    wait_step: Small
    duration: Ints


class Meetings(NamedTuple):
    """Communicators of all families under one numbering.

    A communicator whose members use it on several streams may have as many meetings open at a
    time, no more: so many places it has, taken in turn.

    Parameters
    ----------
    group
        Communicator of each side and rank, -1 for none, shape (sides, ranks).
    places
        Of each communicator.
    place, seat
        First place of each communicator; first seat of each place.
    owner
        Communicator of each place.
    members
        Of each communicator.
    """

    group: Small
    places: Small
    place: Small
    seat: Small
    owner: Small
    members: Small


class Wires(NamedTuple):
    """What transfers carry over which links. A leg is one phase of a pattern on one communicator.

    Parameters
    ----------
    part
        First part of each message, and one more; a part is one phase of its pattern.
    size
        Bytes of an elementary flow of each part [byte]; 0 if it only takes its latency.
    leg
        Of each part: the leg of communicator 0, if it were of this family.
    latency, alone, cap
        Of each leg: after the last byte [tick]; rate with no other flow on its links, and at most [byte/s].
    entry
        First entry of each leg, and one more.
    link, kind
        Of each entry: its link, and the kind: a link with one of the weights on it.
    low
        First kind of each link, and one more.
    weight
        Of each kind.
    capacity
        Of each link [byte/s].
    room
        First room for users of each link, and one more: so many flows may cross it at a time.
    private
        Time of a whole transfer whose links no other communicator loads [tick], -1 elsewhere,
        shape (messages, communicators).
    """

    part: Small
    size: Floats
    leg: Ints
    latency: Ints
    alone: Floats
    cap: Floats
    entry: Ints
    link: Small
    kind: Small
    low: Small
    weight: Floats
    capacity: Floats
    room: Ints
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
        group = int(self.meetings.group[2 * names.index(family) + role, cls])
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
    return program.item[busy] << 32 | (program.kind[busy] == RECEIVE).astype(np.int64) << 16 | program.stream[busy]


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
    firsts, lasts, columns, waits = [], [], [], []
    begin = 0
    for program in job.programs:
        order = np.argsort(program.stream, kind="stable")
        bounds = begin + np.searchsorted(program.stream[order], np.arange(WIDTH + 1))
        firsts.append(bounds[:-1])
        lasts.append(bounds[1:])
        step_of = np.empty(len(program) + 1, dtype=np.int64)
        step_of[order] = np.arange(begin, begin + len(program))
        compute = program.kind == COMPUTE
        side = np.where(compute, -1, side_of[np.where(compute, 0, program.item)] + (program.kind == RECEIVE))
        after = program.after
        elsewhere = (after >= 0) & (program.stream[after] != program.stream[:, None])
        heard = np.zeros(len(program), dtype=bool)
        heard[after[elsewhere]] = True
        columns.append(np.stack((np.arange(len(program)), program.item, side, heard, elsewhere.sum(axis=1)))[:, order])
        waited = after[order][elsewhere[order]]
        waits.append(np.stack((program.stream[waited], step_of[waited])))
        begin += len(program)
    op, item, side, heard, count = np.concatenate([np.zeros((5, 0), dtype=np.int64), *columns], axis=1)
    wait_stream, wait_step = np.concatenate([np.zeros((2, 0), dtype=np.int64), *waits], axis=1)
    paces = sorted({1.0, *job.speed.values()})
    pace = np.full(job.ranks, paces.index(1.0))
    for rank, share in job.speed.items():
        pace[rank] = paces.index(share)
    lengths = np.array([len(program) for program in job.programs], dtype=np.int64)
    return Script(
        first=np.array(firsts)[job.program_of].astype(np.int32).ravel(),
        last=np.array(lasts)[job.program_of].astype(np.int32).ravel(),
        base=_begins(lengths[job.program_of]),
        pace=pace.astype(np.int32),
        op=op.astype(np.int32),
        item=item.astype(np.int32),
        side=side.astype(np.int32),
        heard=heard.astype(bool),
        wait_first=_begins(count).astype(np.int32),
        wait_stream=wait_stream.astype(np.int32),
        wait_step=wait_step.astype(np.int32),
        duration=np.array([[ticks(label.seconds / share) for label in job.labels] for share in paces], dtype=np.int64),
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
                raise WorkloadError(f"rank {lost[0]}: its program uses {names[side // 2]}, where it has no communicator")
    many, seats = np.concatenate(places), np.concatenate(members)
    owner = np.repeat(np.arange(begin), many)
    return Meetings(
        group=group.astype(np.int32),
        places=many.astype(np.int32),
        place=_begins(many).astype(np.int32),
        seat=_begins(seats[owner]).astype(np.int32),
        owner=owner.astype(np.int32),
        members=seats.astype(np.int32),
    ), base


def _wires(
    job: Job, fabric: Fabric, patterns: Mapping[int, Pattern], meetings: Meetings, base: Mapping[str, int]
) -> Wires:
    """Legs of all patterns, and links that some message loads, under numbers of their own."""
    phases: dict[tuple[str, int], tuple[Phase, bool]] = {}
    for message, pattern in patterns.items():
        family, loads = job.messages[message].family, job.messages[message].nbytes > 0
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
    lowest, highest = np.full(len(loaded), len(meetings.places)), np.full(len(loaded), -1)
    np.minimum.at(lowest, links, owners)
    np.maximum.at(highest, links, owners)
    shared = np.concatenate(([0], np.cumsum(lowest[links] != highest[links])))
    open_to_others = shared[entry[1:]] > shared[entry[:-1]]

    part, size, leg = [0], [], []
    private = np.full((len(job.messages), len(meetings.places)), -1, dtype=np.int64)
    latencies = np.concatenate(latency)
    for number, message in enumerate(job.messages):
        family, groups = message.family, len(job.families[message.family].groups)
        own = slice(base[family], base[family] + groups)
        time, closed = np.zeros(groups, dtype=np.int64), meetings.places[own] == 1
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
    room = np.bincount(links, minlength=len(loaded)) * int(meetings.places.max(initial=1))
    return Wires(
        part=np.array(part, dtype=np.int32),
        size=np.array(size, dtype=np.float64),
        leg=np.array(leg, dtype=np.int64),
        latency=latencies,
        alone=alone,
        cap=caps,
        entry=entry,
        link=links.astype(np.int32),
        kind=kind.astype(np.int32),
        low=low.astype(np.int32),
        weight=kind_weight,
        capacity=capacity,
        room=_begins(room),
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

