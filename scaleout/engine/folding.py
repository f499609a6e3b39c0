"""Folding: ranks, communicators and links that must behave alike are simulated once.

The coarsest equitable partition: start from what an element is (a rank's program and speed, a
group's family and latency, a link's bandwidth) and split classes until all members of a class see
the same classes around them, in the same numbers. Max-min rates are unique, so whatever is alike
at the start of an instant is alike at its end; ``docs/folding.md`` carries the argument. Colours
are 64-bit hashes, multisets are sums of hashes, so a round costs a few passes over the incidences.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaleout.engine.program import RECEIVE, Job, ticks
from scaleout.network.fairshare import max_min
from scaleout.network.pattern import Pattern
from scaleout.network.topology import Fabric, Ints

__all__ = ["Orbit", "Partition", "Quotient", "Transfer", "discrete", "equitable", "quotient"]

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Class of every rank, of every group of each family, and of every link."""

    rank: Ints
    group: Mapping[str, Ints]
    link: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """One message on one orbit of groups: what the flow network carries.

    Parameters
    ----------
    index
        Of the transfer, unique.
    size
        Bytes of an elementary flow [byte].
    links
        Link classes that it loads.
    alone
        Rate of an elementary flow when no other orbit is active [byte/s].
    latency
        After the last byte [tick].
    private
        No other orbit loads its links and all members are of one class: its time never varies.
    """

    index: int
    orbit: int
    message: int
    algorithm: str
    size: float
    links: tuple[int, ...]
    alone: float
    latency: int
    private: bool

    @property
    def alone_ticks(self) -> int:
        """Time from start to end when alone [tick]."""
        return ticks(self.size / self.alone) + self.latency if self.size else self.latency


@dataclass(frozen=True, slots=True, eq=False)
class Orbit:
    """Groups that behave alike, by one representative.

    Parameters
    ----------
    family, group
        The representative.
    multiplicity
        Groups in the orbit.
    members
        Distinct (class, role) of its ranks; the role tells sender and receiver apart.
    """

    family: str
    group: int
    multiplicity: int
    members: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Quotient:
    """The job as the engine runs it: classes for ranks, orbits for groups, classes for links.

    Parameters
    ----------
    representatives, sizes
        Lowest rank of each class, and ranks in it.
    class_of
        Class of each rank.
    orbits
        Orbits of groups.
    orbit_of
        (family, role, class) -> orbit.
    transfers
        (orbit, message) -> transfer.
    link_names
        A link of each link class, by index into the topology.
    loads
        Per transfer, by index: link classes, weight and number of its elementary flows there.
    capacity
        Of each link class [byte/s].
    """

    representatives: Ints
    sizes: Ints
    class_of: Ints
    orbits: tuple[Orbit, ...]
    orbit_of: Mapping[tuple[str, int, int], int]
    transfers: Mapping[tuple[int, int], Transfer]
    link_names: Ints
    loads: tuple[tuple[Ints, npt.NDArray[np.float64], Ints], ...]
    capacity: npt.NDArray[np.float64]

    @property
    def classes(self) -> int:
        """Number of classes of ranks."""
        return len(self.representatives)

    def rates(self, active: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Max-min rates of transfers that are active together [byte/s]."""
        rows = [self.loads[index] for index in active]
        link = np.concatenate([row[0] for row in rows])
        used, compact = np.unique(link, return_inverse=True)
        return max_min(
            self.capacity[used],
            compact,
            np.repeat(np.arange(len(active)), [len(row[0]) for row in rows]),
            np.concatenate([row[1] for row in rows]),
            np.concatenate([row[2] for row in rows]),
            np.full(len(active), np.inf),
        )


def _mix(values: Hashes) -> Hashes:
    """Scramble 64 bits (the finaliser of splitmix64), so that sums of results tell multisets apart."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _bits(values: npt.NDArray[np.float64]) -> Hashes:
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


def _roles(job: Job, family: str) -> Ints:
    """Role of each member: in a family of sends the sender is 0 and the receiver 1."""
    members = job.families[family].groups.shape[1]
    sends = any(m.family == family and m.operation == "send" for m in job.messages)
    return np.arange(members) if sends else np.zeros(members, dtype=np.int64)


def equitable(job: Job, fabric: Fabric, patterns: Mapping[int, Pattern]) -> Partition:
    """The coarsest equitable partition.

    Parameters
    ----------
    patterns
        Pattern of each message, by index into the job's messages.
    """
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
    link_colour = _mix(_bits(fabric.topology.bandwidth) + fabric.topology.kind.astype(np.uint64))
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
        member_role.append(np.tile(_mix(_roles(job, name).astype(np.uint64)), count))
    # messages that share algorithm and links say the same: one entry for each distinct pattern
    seen: set[tuple[int, bool]] = set()
    for index, message in enumerate(job.messages):
        pattern = patterns[index]
        key = id(pattern), message.nbytes > 0
        if key in seen:
            continue
        seen.add(key)
        base = offset[message.family]
        if message.nbytes:
            load_group.append(base + pattern.group)
            load_link.append(pattern.link)
            load_key.append(_bits(pattern.weight) + _mix(np.full(len(pattern.link), index, dtype=np.uint64)))
        group_colour[base : base + len(pattern.latency)] += _mix(_bits(pattern.latency) + np.uint64(index))
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


def quotient(job: Job, fabric: Fabric, patterns: Mapping[int, Pattern], partition: Partition) -> Quotient:
    """The job by representatives, for an equitable or a discrete partition."""
    _, representatives, sizes = np.unique(partition.rank, return_index=True, return_counts=True)
    orbits, orbit_of, group_orbit = _orbits(job, partition)

    used = set()
    for cls, rank in enumerate(representatives):
        for kind, message in job.programs[job.program_of[rank]].meetings():
            family = job.messages[message].family
            used.add((orbit_of[family, int(kind == RECEIVE), cls], message))
    pairs = sorted(used)

    # a representative link for each class of links that some transfer loads
    numbers: dict[int, int] = {}
    chosen: list[int] = []
    rows: dict[tuple[int, int], Ints] = {}
    for orbit, message in pairs:
        pattern = patterns[message]
        low, high = np.searchsorted(pattern.group, [orbits[orbit].group, orbits[orbit].group + 1])
        mine = pattern.link[low : high if job.messages[message].nbytes else low]
        for link, cls in zip(mine.tolist(), partition.link[mine].tolist(), strict=True):
            if cls not in numbers:
                numbers[cls] = len(chosen)
                chosen.append(link)
        rows[orbit, message] = np.unique([numbers[cls] for cls in partition.link[mine].tolist()]).astype(np.int64)
    number_of_link = np.full(fabric.topology.links, -1, dtype=np.int64)
    number_of_link[chosen] = np.arange(len(chosen))

    tables: dict[int, dict[int, tuple[Ints, npt.NDArray[np.float64], Ints]]] = {}
    sharers: list[set[int]] = [set() for _ in chosen]
    for _, message in pairs:
        pattern = patterns[message]
        if job.messages[message].nbytes and id(pattern) not in tables:
            tables[id(pattern)] = _loads(pattern, group_orbit[job.messages[message].family], number_of_link)
            for orbit, (link, _, _) in tables[id(pattern)].items():
                for at in link.tolist():
                    sharers[at].add(orbit)

    capacity = fabric.topology.bandwidth[chosen]
    transfers: dict[tuple[int, int], Transfer] = {}
    loads = []
    empty = (np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64))
    for index, (orbit, message) in enumerate(pairs):
        pattern = patterns[message]
        load = tables[id(pattern)].get(orbit, empty) if job.messages[message].nbytes else empty
        loads.append(load)
        members = {cls for cls, _ in orbits[orbit].members}
        used_by = set().union(*(sharers[at] for at in rows[orbit, message].tolist()))
        alone = float(np.inf)
        if len(load[0]):
            flows = np.zeros(len(load[0]), dtype=np.int64)
            alone = float(max_min(capacity, load[0], flows, load[1], load[2], np.full(1, np.inf))[0])
        transfers[orbit, message] = Transfer(
            index=index,
            orbit=orbit,
            message=message,
            algorithm=pattern.algorithm,
            size=job.messages[message].nbytes * pattern.share if len(load[0]) else 0.0,
            links=tuple(rows[orbit, message].tolist()),
            alone=alone,
            latency=ticks(float(pattern.latency[orbits[orbit].group])),
            private=len(members) == 1 and bool(used_by) and used_by == {orbit},
        )
    return Quotient(
        representatives=representatives,
        sizes=sizes,
        class_of=partition.rank,
        orbits=tuple(orbits),
        orbit_of=orbit_of,
        transfers=transfers,
        link_names=np.array(chosen, dtype=np.int64),
        loads=tuple(loads),
        capacity=capacity,
    )


def _orbits(job: Job, partition: Partition) -> tuple[list[Orbit], dict[tuple[str, int, int], int], dict[str, Ints]]:
    """Orbits of all families, where each class finds its orbit, and the orbit of each group."""
    orbits: list[Orbit] = []
    orbit_of: dict[tuple[str, int, int], int] = {}
    group_orbit = {}
    for name in sorted(job.families):
        table, classes = job.families[name].groups, partition.group[name]
        roles = _roles(job, name)
        group_orbit[name] = classes + len(orbits)
        _, first, counts = np.unique(classes, return_index=True, return_counts=True)
        for group, multiplicity in zip(first.tolist(), counts.tolist(), strict=True):
            pairs = zip(partition.rank[table[group]].tolist(), roles.tolist(), strict=True)
            members = tuple(sorted(set(pairs)))
            for cls, role in members:
                orbit_of[name, role, cls] = len(orbits)
            orbits.append(Orbit(name, group, multiplicity, members))
    return orbits, orbit_of, group_orbit


def _loads(
    pattern: Pattern, group_orbit: Ints, number_of_link: Ints
) -> dict[int, tuple[Ints, npt.NDArray[np.float64], Ints]]:
    """Per orbit: chosen links that its groups load, the weight, and by how many groups."""
    number = number_of_link[pattern.link]
    hit = number >= 0
    number, weight, orbit = number[hit], pattern.weight[hit], group_orbit[pattern.group[hit]]
    order = np.lexsort((weight, number, orbit))
    number, weight, orbit = number[order], weight[order], orbit[order]
    if not len(number):
        return {}
    new = np.ones(len(number), dtype=bool)
    new[1:] = (number[1:] != number[:-1]) | (weight[1:] != weight[:-1]) | (orbit[1:] != orbit[:-1])
    first = np.flatnonzero(new)
    count = np.diff(np.append(first, len(number)))
    number, weight, orbit = number[first], weight[first], orbit[first]
    cuts = np.flatnonzero(np.diff(orbit)) + 1
    return {
        int(o[0]): (n, w, c)
        for n, w, c, o in zip(
            np.split(number, cuts), np.split(weight, cuts), np.split(count, cuts), np.split(orbit, cuts), strict=True
        )
    }
