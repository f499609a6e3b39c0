"""Folding: ranks, communicators and links that must behave alike are simulated once.

The coarsest equitable partition: start from what an element is (a rank's program and speed, a
group's family and latency, a link's bandwidth) and split classes until all members of a class see
the same classes around them, in the same numbers. Max-min rates are unique, so whatever is alike
at the start of an instant is alike at its end; ``docs/folding.md`` carries the argument. Colours
are 64-bit hashes, multisets are sums of hashes, so a round costs a few passes over the incidences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Floats, Ints
from scaleout.engine.epochs import Epoch, epochs_of
from scaleout.engine.program import Job
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern

__all__ = ["Partition", "discrete", "equitable", "roles"]

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Class of every rank, of every group of each family, and of every link."""

    rank: Ints
    group: Mapping[str, Ints]
    link: Ints


def _mix(values: Hashes) -> Hashes:
    """Scramble 64 bits (the finaliser of splitmix64), so that sums of results tell multisets apart."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _bits(values: Floats) -> Hashes:
    return _mix(np.ascontiguousarray(values, dtype=np.float64).view(np.uint64))


def _gather(size: int, where: Ints, what: Hashes) -> Hashes:
    """Sum of hashes at each element."""
    total = np.zeros(size, dtype=np.uint64)
    np.add.at(total, where, what)
    return total


def _compact(colours: Hashes | Ints) -> Ints:
    """Small class numbers, in order of first appearance."""
    _, first, inverse = np.unique(colours, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[inverse]


def roles(job: Job, family: str) -> Ints:
    """Role of each member: in a family of sends the sender is 0 and the receiver 1."""
    members = job.families[family].groups.shape[1]
    sends = any(m.family == family and m.operation == "send" for m in job.messages)
    return np.arange(members) if sends else np.zeros(members, dtype=np.int64)


def equitable(
    job: Job, fabric: Fabric, patterns: Mapping[int, Pattern], later: Sequence[Epoch] = (), apart: Ints | None = None
) -> Partition:
    """The coarsest equitable partition: what is alike in all epochs.

    Parameters
    ----------
    patterns
        Pattern of each message, by index into the job's messages.
    later
        Epochs after faults.
    apart
        Links that are like no other, since somebody else loads them.
    """
    epochs = epochs_of(fabric, patterns, later)
    names = sorted(job.families)
    offset, groups = {}, 0
    for name in names:
        offset[name] = groups
        groups += len(job.families[name].groups)
    links = fabric.topology.links

    speed = np.ones(job.ranks)
    for rank, share in job.speed.items():
        speed[rank] = share
    ranks = _mix(job.program_of.astype(np.uint64)) + _bits(speed)
    link_colour = fabric.topology.kind.astype(np.uint64)
    for epoch in epochs:
        link_colour = _mix(_bits(epoch.bandwidth) + link_colour)
    if apart is not None:
        link_colour[apart] += _mix(1 + np.arange(len(apart), dtype=np.uint64))
    group_colour = np.empty(groups, dtype=np.uint64)
    # what belongs to what: (group, rank, role) and (group, link, weight)
    none = np.zeros(0, dtype=np.int64)
    member_group, member_rank, member_role = [none], [none], [none.astype(np.uint64)]
    load_group, load_link, load_key = [none], [none], [none.astype(np.uint64)]
    for number, name in enumerate(names):
        table = job.families[name].groups
        count, members = table.shape
        base = offset[name]
        group_colour[base : base + count] = _mix(np.full(count, number, dtype=np.uint64))
        member_group.append(np.repeat(np.arange(base, base + count), members))
        member_rank.append(table.ravel())
        member_role.append(np.tile(_mix(roles(job, name).astype(np.uint64)), count))
    # messages that share algorithm and links say the same: one entry for each distinct pattern
    seen: set[tuple[int, bool]] = set()
    for number, (index, message) in product(range(len(epochs)), enumerate(job.messages)):
        pattern = epochs[number].patterns[index]
        key = id(pattern), message.nbytes > 0
        if key in seen:
            continue
        seen.add(key)
        base = offset[message.family]
        for place, phase in enumerate(pattern.phases):
            which = _mix(np.full(1, number << 32 | index, dtype=np.uint64)) + np.uint64(place)
            if message.nbytes:
                load_group.append(base + phase.group)
                load_link.append(phase.link)
                load_key.append(_bits(phase.weight) + _mix(np.repeat(which, len(phase.link))))
            group_colour[base : base + len(phase.latency)] += _mix(
                _bits(phase.latency) + _mix(_bits(phase.cap)) + which
            )
    m_group, m_rank, m_role = np.concatenate(member_group), np.concatenate(member_rank), np.concatenate(member_role)
    l_group, l_link, l_key = np.concatenate(load_group), np.concatenate(load_link), np.concatenate(load_key)

    counts: tuple[int, ...] = ()
    while True:
        group_colour = _mix(
            group_colour
            + _gather(groups, m_group, _mix(ranks[m_rank] + m_role))
            + _gather(groups, l_group, _mix(link_colour[l_link] + l_key))
        )
        ranks = _mix(ranks + _gather(len(ranks), m_rank, _mix(group_colour[m_group] + m_role)))
        link_colour = _mix(link_colour + _gather(links, l_link, _mix(group_colour[l_group] + l_key)))
        classes = (_compact(group_colour), _compact(ranks), _compact(link_colour))
        now = tuple(int(c.max(initial=0)) for c in classes)
        if now == counts:
            break
        counts = now
    by_group = {name: _compact(classes[0][offset[name] :][: len(job.families[name].groups)]) for name in names}
    return Partition(classes[1], by_group, classes[2])


def discrete(job: Job, fabric: Fabric) -> Partition:
    """No folding: every rank, group and link is a class of its own."""
    return Partition(
        np.arange(job.ranks),
        {name: np.arange(len(family.groups)) for name, family in job.families.items()},
        np.arange(fabric.topology.links),
    )
