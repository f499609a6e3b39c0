"""The quotient: a job with one representative for each class of ranks, groups and links.

A link class is loaded by so many groups of each orbit, each with so many elementary flows; the
counts come from one representative link and hold for all, since the partition is equitable.
Without folding every class has one member and the same code runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.engine.epochs import Epoch, epochs_of
from scaleout.engine.partition import Partition, roles
from scaleout.engine.program import RECEIVE, TICKS_PER_SECOND, Job, ticks
from scaleout.errors import TopologyError
from scaleout.network.fabric import Fabric
from scaleout.network.fairshare import max_min
from scaleout.network.pattern import Pattern, Phase
from scaleout.network.topology import Topology

__all__ = ["Leg", "Load", "Orbit", "Quotient", "Transfer", "Wiring", "frame", "loads_of", "quotient", "sized"]

Load = tuple[Ints, Floats, Ints]
"""Link classes that a leg loads, with which weight, and how many elementary flows do."""
NOTHING: tuple[Load, float] = (np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64)), float(np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """One phase of a transfer: what the flow network carries at a time.

    Parameters
    ----------
    index
        Of the leg, unique.
    size
        Bytes of an elementary flow [byte].
    links
        Link classes that it loads.
    alone
        Rate of an elementary flow when no other orbit is active [byte/s].
    latency
        After the last byte [tick].
    """

    index: int
    size: float
    links: tuple[int, ...]
    alone: float
    latency: int

    @property
    def alone_ticks(self) -> int:
        """Time from start to end when alone [tick]."""
        return ticks(self.size / self.alone) + self.latency if self.size else self.latency


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """One message on one orbit of groups: legs, one after another.

    Parameters
    ----------
    algorithm
        Algorithm and protocol.
    private
        No other orbit loads its links and all members are of one class: its time never varies.
    """

    orbit: int
    message: int
    algorithm: str
    legs: tuple[Leg, ...]
    private: bool

    @property
    def alone_ticks(self) -> int:
        """Time from start to end when alone [tick]."""
        return sum(leg.alone_ticks for leg in self.legs)


@dataclass(frozen=True, slots=True, eq=False)
class Orbit:
    """Groups that behave alike, by one representative.

    Parameters
    ----------
    family, group
        The representative.
    members
        Distinct (class, role) of its ranks; the role tells sender and receiver apart.
    """

    family: str
    group: int
    members: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Wiring:
    """The links as they are in one epoch, and what each leg loads.

    Parameters
    ----------
    start
        Beginning of the epoch [tick].
    legs
        By index; the same transfers' in every epoch.
    loads
        Per leg: link classes, weight and number of its elementary flows there.
    caps
        Per leg: largest rate of its elementary flow [byte/s].
    capacity
        Of each link class [byte/s]; 0 is dead.
    bandwidth
        Of each link [byte/s], shape (links,).
    known
        Rates that were asked for before; wirings that differ but in sizes share them.
    """

    start: int
    legs: Sequence[Leg]
    loads: Sequence[Load]
    caps: Floats | Sequence[float]
    capacity: Floats
    bandwidth: Floats
    known: dict[tuple[int, ...], Floats] = field(default_factory=dict)

    def rates(self, active: tuple[int, ...]) -> Floats:
        """Max-min rates of legs that are active together [byte/s]."""
        if active not in self.known:
            self.known[active] = self._rates(active)
        return self.known[active]

    def _rates(self, active: tuple[int, ...]) -> Floats:
        loads = [self.loads[index] for index in active]
        link, weight, count = (np.concatenate(column) for column in zip(*loads, strict=True))
        used, compact = np.unique(link, return_inverse=True)
        flow = np.repeat(np.arange(len(active)), [len(load[0]) for load in loads])
        return max_min(
            self.capacity[used], compact, flow, weight, count, np.array([self.caps[index] for index in active])
        )

    def alike(self, other: "Wiring", index: int) -> bool:
        """Whether a leg loads the same links by the same weights in another epoch."""
        mine, theirs = self.loads[index], other.loads[index]
        return mine is theirs or all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


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
    loads
        Per leg, by index: link classes, weight and number of its elementary flows there.
    caps
        Per leg, by index: largest rate of its elementary flow [byte/s].
    capacity
        Of each link class [byte/s].
    epochs
        Legs, loads, caps and capacities from each fault on; the first is that of `loads`, `caps`
        and `capacity` and of the legs of `transfers`.
    link_of
        Link class of each link, -1 where no transfer loads it.
    topology
        The links.
    """

    representatives: Ints
    sizes: Ints
    class_of: Ints
    orbits: tuple[Orbit, ...]
    orbit_of: Mapping[tuple[str, int, int], int]
    transfers: Mapping[tuple[int, int], Transfer]
    loads: tuple[Load, ...]
    caps: Floats
    capacity: Floats
    epochs: tuple[Wiring, ...]
    link_of: Ints
    topology: Topology

    @property
    def classes(self) -> int:
        """Number of classes of ranks."""
        return len(self.representatives)

    @property
    def algorithms(self) -> dict[int, str]:
        """Algorithm and protocol of each message that some program sends."""
        return {transfer.message: transfer.algorithm for transfer in self.transfers.values()}

    def members(self, family: str, role: int, cls: int) -> tuple[tuple[int, int], ...]:
        """Class and role of all members of the communicator that a class uses in a role."""
        return self.orbits[self.orbit_of[family, role, cls]].members

    def rates(self, active: tuple[int, ...]) -> Floats:
        """Max-min rates of legs that are active together in the first epoch [byte/s]."""
        return self.epochs[0].rates(active)


def quotient(
    job: Job, fabric: Fabric, patterns: Mapping[int, Pattern], partition: Partition, later: Sequence[Epoch] = ()
) -> Quotient:
    """The job by representatives, for an equitable or a discrete partition.

    Parameters
    ----------
    later
        Epochs after faults.
    """
    return sized(frame(job, fabric, patterns, partition, later), job)


def sized(unit: Quotient, job: Job) -> Quotient:
    """A frame with the messages of a job that is the same but for the sizes of its messages."""
    sizes = [
        (job.messages[transfer.message].nbytes, leg.size)
        for transfer in unit.transfers.values()
        for leg in transfer.legs
    ]
    epochs = []
    for epoch in unit.epochs:
        legs = tuple(
            Leg(leg.index, nbytes * share, leg.links, leg.alone, leg.latency)
            for leg, (nbytes, share) in zip(epoch.legs, sizes, strict=True)
        )
        epochs.append(replace(epoch, legs=legs))
    first = epochs[0].legs
    transfers = {
        key: Transfer(old.orbit, old.message, old.algorithm, tuple(first[leg.index] for leg in old.legs), old.private)
        for key, old in unit.transfers.items()
    }
    return replace(unit, transfers=transfers, epochs=tuple(epochs))


def frame(
    job: Job, fabric: Fabric, patterns: Mapping[int, Pattern], partition: Partition, later: Sequence[Epoch] = ()
) -> Quotient:
    """`quotient` of messages of one byte each, those of none left as they are: what does not depend on sizes."""
    epochs = epochs_of(fabric, patterns, later)
    _, representatives, sizes = np.unique(partition.rank, return_index=True, return_counts=True)
    orbits, orbit_of, group_orbit = _orbits(job, partition)

    used = set()
    for cls, rank in enumerate(representatives):
        for kind, message in job.programs[job.program_of[rank]].meetings():
            family = job.messages[message].family
            used.add((orbit_of[family, int(kind == RECEIVE), cls], message))
    pairs = sorted(used)

    # a representative link for each class of links that some transfer loads in some epoch
    numbers: dict[int, int] = {}
    chosen: list[int] = []
    rows: dict[tuple[int, int, int], list[tuple[int, ...]]] = {}
    for epoch, (orbit, message) in product(epochs, pairs):
        pattern = epoch.patterns[message]
        if (orbit, message, id(pattern)) in rows:
            continue
        row = rows[orbit, message, id(pattern)] = []
        for phase in pattern.phases:
            low, high = np.searchsorted(phase.group, [orbits[orbit].group, orbits[orbit].group + 1])
            mine = phase.link[low : high if job.messages[message].nbytes else low]
            found = partition.link[mine].tolist()
            for link, cls in zip(mine.tolist(), found, strict=True):
                if cls not in numbers:
                    numbers[cls] = len(chosen)
                    chosen.append(link)
            row.append(tuple(sorted({numbers[cls] for cls in found})))
    number_of_link = np.full(fabric.topology.links, -1, dtype=np.int64)
    number_of_link[chosen] = np.arange(len(chosen))
    number_of_class = np.full(int(partition.link.max(initial=-1)) + 1, -1, dtype=np.int64)
    number_of_class[partition.link[chosen]] = np.arange(len(chosen))

    wired = []
    sharers: list[set[int]] = [set() for _ in chosen]
    for epoch in epochs:
        capacity = epoch.bandwidth[chosen]
        tables: dict[int, list[dict[int, tuple[Load, float]]]] = {}
        for _, message in pairs:
            pattern = epoch.patterns[message]
            if job.messages[message].nbytes and id(pattern) not in tables:
                orbit_of_group = group_orbit[job.messages[message].family]
                tables[id(pattern)] = [loads_of(p, orbit_of_group, number_of_link, capacity) for p in pattern.phases]
                for table in tables[id(pattern)]:
                    for orbit, ((link, _, _), _) in table.items():
                        for at in link.tolist():
                            sharers[at].add(orbit)
        legs: list[Leg] = []
        loads: list[Load] = []
        caps: list[float] = []
        for orbit, message in pairs:
            pattern, nbytes, group = epoch.patterns[message], job.messages[message].nbytes, orbits[orbit].group
            links = rows[orbit, message, id(pattern)]
            for number, phase in enumerate(pattern.phases):
                load, alone = tables[id(pattern)][number].get(orbit, NOTHING) if nbytes else NOTHING
                legs.append(
                    Leg(
                        index=len(legs),
                        size=phase.share if len(load[0]) else 0.0,
                        links=links[number],
                        alone=min(alone, float(phase.cap[group])),
                        latency=ticks(float(phase.latency[group])),
                    )
                )
                loads.append(load)
                caps.append(float(phase.cap[group]))
        wired.append(Wiring(epoch.start, tuple(legs), tuple(loads), np.array(caps), capacity, epoch.bandwidth))

    for number, other in enumerate(wired):
        if [leg.size for leg in other.legs] != [leg.size for leg in wired[0].legs]:
            raise TopologyError(
                f"{fabric.topology.name}: around the dead links of epoch {number}, from "
                f"{other.start / TICKS_PER_SECOND:g} s on, some algorithm has other phases; take then: stall"
            )
    transfers: dict[tuple[int, int], Transfer] = {}
    first, *rest = wired
    begin = 0
    for orbit, message in pairs:
        end = begin + len(epochs[0].patterns[message].phases)
        members = {cls for cls, _ in orbits[orbit].members}
        used_by = {other for leg in first.legs[begin:end] for at in leg.links for other in sharers[at]}
        transfers[orbit, message] = Transfer(
            orbit=orbit,
            message=message,
            algorithm=epochs[0].patterns[message].algorithm,
            legs=tuple(first.legs[begin:end]),
            private=len(members) == 1
            and used_by == {orbit}
            and all(leg.alone > 0 for leg in first.legs[begin:end])
            and all(_lasting(first, other, index) for other in rest for index in range(begin, end)),
        )
        begin = end
    return Quotient(
        representatives=representatives,
        sizes=sizes,
        class_of=partition.rank,
        orbits=tuple(orbits),
        orbit_of=orbit_of,
        transfers=transfers,
        loads=tuple(first.loads),
        caps=np.asarray(first.caps),
        capacity=first.capacity,
        epochs=tuple(wired),
        link_of=number_of_class[partition.link],
        topology=fabric.topology,
    )


def _lasting(first: Wiring, other: Wiring, index: int) -> bool:
    """Whether a leg, alone, takes the same time over the same links in another epoch."""
    mine, theirs = first.legs[index], other.legs[index]
    same = (mine.links, mine.alone, mine.latency) == (theirs.links, theirs.alone, theirs.latency)
    return same and first.alike(other, index)


def _orbits(job: Job, partition: Partition) -> tuple[list[Orbit], dict[tuple[str, int, int], int], dict[str, Ints]]:
    """Orbits of all families, where each class finds its orbit, and the orbit of each group."""
    orbits: list[Orbit] = []
    orbit_of: dict[tuple[str, int, int], int] = {}
    group_orbit = {}
    for name in sorted(job.families):
        table, classes = job.families[name].groups, partition.group[name]
        role_of = roles(job, name)
        group_orbit[name] = classes + len(orbits)
        for group in np.unique(classes, return_index=True)[1].tolist():
            pairs = zip(partition.rank[table[group]].tolist(), role_of.tolist(), strict=True)
            members = tuple(sorted(set(pairs)))
            for cls, role in members:
                orbit_of[name, role, cls] = len(orbits)
            orbits.append(Orbit(name, group, members))
    return orbits, orbit_of, group_orbit


def loads_of(phase: Phase, group_orbit: Ints, number_of_link: Ints, capacity: Floats) -> dict[int, tuple[Load, float]]:
    """Per orbit: chosen links that its groups load, the weight, and by how many groups; its rate alone."""
    number = number_of_link[phase.link]
    hit = number >= 0
    number, weight, orbit = number[hit], phase.weight[hit], group_orbit[phase.group[hit]]
    if not len(number):
        return {}
    order = np.lexsort((weight, number, orbit))
    number, weight, orbit = number[order], weight[order], orbit[order]
    link = _changes(orbit, number)
    first = np.flatnonzero(link | _changes(weight))
    count = np.diff(np.append(first, len(number)))
    number, weight, orbit, link = number[first], weight[first], orbit[first], link[first]
    # alone, a flow runs at the least share of its links
    load = np.bincount(np.cumsum(link) - 1, weights=weight * count)
    share, owner = capacity[number[link]] / load, orbit[link]
    alone = np.minimum.reduceat(share, np.flatnonzero(_changes(owner)))
    cuts = np.flatnonzero(_changes(orbit))
    columns = (np.split(column, cuts[1:]) for column in (number, weight, count))
    loads = zip(*columns, strict=True)
    return dict(zip(orbit[cuts].tolist(), zip(loads, alone.tolist(), strict=True), strict=True))


def _changes(*columns: Ints | Floats) -> Bools:
    """Rows that differ from the one before; the first does."""
    new = np.ones(len(columns[0]), dtype=bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return new
