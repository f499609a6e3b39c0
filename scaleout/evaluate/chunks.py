"""Chunk-level schedules on a fabric: every send of every rank, alone or beside others.

A schedule says who sends what to whom; here it gets links, latencies and the limits of the
library's kernels, and becomes the lanes that the engine runs. Operations that run at the same
time share links send by send, which the single phases of a training step only approximate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives.schedule import Schedule
from scaleout.engine.chunks import Lanes, concatenate, run_lanes
from scaleout.engine.program import TICKS_PER_SECOND, ticks
from scaleout.errors import SpecError, near
from scaleout.network.fabric import Fabric
from scaleout.specs import Protocol

__all__ = ["ChunkRun", "Operation", "lanes_of", "load_compiled", "run_operations"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation:
    """One collective operation of one group.

    Parameters
    ----------
    schedule
        Who sends what to whom.
    ranks
        Chip of each member, shape (members,).
    nbytes
        Of the whole message [byte].
    protocol
        One of the fabric's.
    begin
        When it starts [s].
    """

    schedule: Schedule
    ranks: Ints
    nbytes: float
    protocol: str = "wires"
    begin: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkRun:
    """What came of operations that ran at the same time.

    Parameters
    ----------
    ends, ends_ps
        When each operation was over [s], and exactly [ps].
    link_bytes
        Carried over each link of the fabric [byte], shape (links,).
    events, solves
        Of the engine.
    """

    ends: tuple[float, ...]
    ends_ps: tuple[int, ...]
    link_bytes: Floats
    events: int
    solves: int


def run_operations(fabric: Fabric, operations: Sequence[Operation], *, fold: bool = False) -> ChunkRun:
    """Run operations, which share the links that they have in common.

    Parameters
    ----------
    fold
        Whether lanes that must behave alike are simulated once; the times are the same.

    Raises
    ------
    SpecError
        No operation, an unknown protocol, or ranks that do not fit the schedule.
    TopologyError
        Two ranks have no path.
    WorkloadError
        Sends wait for each other, or for a link without bandwidth, for ever.
    """
    if not operations:
        raise SpecError("operations: none given; expected at least one")
    parts, drives = [], [fabric.topology.bandwidth]
    links = fabric.topology.links
    for operation in operations:
        lanes, drive = lanes_of(fabric, operation, links)
        parts.append(lanes)
        drives.append(drive)
        links += len(drive)
    lanes = parts[0] if len(parts) == 1 else concatenate(*parts)
    run = run_lanes(lanes, np.concatenate(drives), fold=fold)
    bounds = np.cumsum([0, *(len(part.steps) for part in parts)])
    ends = tuple(
        int(run.lane_end[low:high].max()) if high > low else ticks(operation.begin)
        for operation, low, high in zip(operations, bounds[:-1], bounds[1:], strict=True)
    )
    return ChunkRun(
        ends=tuple(end / TICKS_PER_SECOND for end in ends),
        ends_ps=ends,
        link_bytes=run.link_bytes[: fabric.topology.links],
        events=run.events,
        solves=run.solves,
    )


def load_compiled() -> None:
    """Load the engine's machine code, which takes a second once a process (longer the very first time)."""
    none = np.zeros(0, dtype=np.int64)
    for apart in (0, 1):
        # two lanes with links of their own go by recurrence, two that share a link by events
        lanes = Lanes(
            steps=np.ones(2, dtype=np.int64),
            size=np.ones(2),
            latency=np.ones(2, dtype=np.int64),
            cap=np.full(2, np.inf),
            first=np.arange(3),
            link=np.array([0, apart]),
            weight=np.ones(2),
            before=none,
            behind=none,
            lag=none,
            arrived=none.astype(bool),
        )
        run_lanes(lanes, np.ones(2), compiled=True)


def lanes_of(fabric: Fabric, operation: Operation, first_drive: int) -> tuple[Lanes, Floats]:
    """Lanes of an operation, and the rates that its kernels drive into links of chips.

    A protocol's kernels drive a share of each link at a chip, over all sends of the operation
    together: where it is less than the whole, the link has a twin with that rate, which the same
    sends cross. Twins are numbered from `first_drive` on.

    Returns
    -------
    Lanes whose links are those of the fabric, then the twins; rates of the twins [byte/s].
    """
    schedule, ranks = operation.schedule, np.asarray(operation.ranks, dtype=np.int64)
    if len(ranks) != schedule.members:
        raise SpecError(f"{schedule.name}: has {schedule.members} members, but {len(ranks)} ranks are given")
    if operation.protocol not in fabric.protocols:
        raise SpecError(f"protocol {operation.protocol!r:.40}: unknown; {near(operation.protocol, fabric.protocols)}")
    rules = fabric.protocols[operation.protocol]
    lane, link, weight, seconds = _ways(fabric, schedule, ranks, rules)
    drive_of, drive = _drives(fabric, schedule, rules, lane, link)
    twin = drive_of >= 0
    entries = np.concatenate((lane, lane[twin]))
    order = np.argsort(entries, kind="stable")
    sizes = np.bincount(entries, minlength=schedule.lanes)
    edges = schedule.edges
    lanes = Lanes(
        steps=schedule.steps,
        size=_sizes(schedule, operation.nbytes),
        latency=np.rint(seconds * TICKS_PER_SECOND).astype(np.int64),
        cap=np.full(schedule.lanes, np.inf),
        first=np.concatenate(([0], np.cumsum(sizes))),
        link=np.concatenate((link, first_drive + drive_of[twin]))[order],
        weight=np.concatenate((weight, weight[twin]))[order],
        before=edges.before,
        behind=edges.behind,
        lag=edges.lag,
        arrived=edges.arrived,
        begin=np.full(schedule.lanes, ticks(operation.begin) + ticks(rules.launch)),
    )
    return lanes, drive


def _sizes(schedule: Schedule, nbytes: float) -> Floats:
    """Bytes of sends; those within a member have none."""
    inside = schedule.source == schedule.target
    if not inside.any():
        return schedule.share * nbytes
    if len(schedule.share) == schedule.lanes:
        return np.where(inside, 0.0, schedule.share * nbytes)
    return schedule.portion * nbytes


def _ways(fabric: Fabric, schedule: Schedule, ranks: Ints, rules: Protocol) -> tuple[Ints, Ints, Floats, Floats]:
    """Lane, link and weight of every entry, and the latency of each lane's step [s]."""
    members = schedule.members
    source, target = schedule.source, schedule.target
    seconds = np.zeros(schedule.lanes)
    real = np.flatnonzero((source != target) & (source < members) & (target < members))
    routes = fabric.route(ranks[source[real]], ranks[target[real]])
    seconds[real] = fabric.step(routes, rules)
    lane, link, weight = [real[routes.flow]], [routes.link], [routes.weight]
    virtual = np.flatnonzero((source != target) & ((source >= members) | (target >= members)))
    if len(virtual):
        found, seconds[virtual] = _to_switches(fabric, schedule, ranks, virtual, rules)
        lane, link, weight = [*lane, virtual], [*link, found], [*weight, np.ones(len(virtual))]
    return np.concatenate(lane), np.concatenate(link), np.concatenate(weight), seconds


def _to_switches(fabric: Fabric, schedule: Schedule, ranks: Ints, lanes: Ints, rules: Protocol) -> tuple[Ints, Floats]:
    """Link between a chip and the switch of its node, and the latency of the step [s]: the way to a neighbour
    begins with the link into the switch, and the way back ends with the link out of it."""
    node = fabric.topology.node[ranks]
    source, target = schedule.source[lanes], schedule.target[lanes]
    chip = np.minimum(source, target)
    order = np.argsort(node, kind="stable")
    behind = np.roll(order, -1)
    neighbour = np.full(schedule.members, -1, dtype=np.int64)
    alike = node[order] == node[behind]
    neighbour[order[alike]], neighbour[behind[alike]] = behind[alike], order[alike]
    if (chip >= schedule.members).any() or (neighbour[np.minimum(chip, schedule.members - 1)] < 0).any():
        raise SpecError(
            f"{schedule.name}: its switches are not those of nodes; chunk by chunk it cannot be placed here"
        )
    here, there = ranks[chip], ranks[neighbour[chip]]
    away, back = fabric.route(here, there), fabric.route(there, here)
    link = np.where(source < target, away.link[away.start[:-1]], back.link[back.start[1:] - 1])
    # a step to the switch and back is what a protocol counts, so one way is half of it
    return link, fabric.step(away, rules) / 2


def _drives(fabric: Fabric, schedule: Schedule, rules: Protocol, lane: Ints, link: Ints) -> tuple[Ints, Floats]:
    """Twin of each entry's link, counted from 0 (-1: none), and the rates of the twins [byte/s]."""
    topology = fabric.topology
    k = schedule.chunk_steps
    sending = k / (k + fabric.idle_step) if k else 1.0
    inside = rules.scale_up_rate * sending * fabric.scale_up_bandwidth
    outside = rules.network_rate * fabric.network_bandwidth
    at_chip = (topology.source[link] < topology.chips) | (topology.target[link] < topology.chips)
    rate = np.where(topology.kind[link] == 0, inside, outside)
    limited = at_chip & (rate < topology.bandwidth[link])
    twins, number = np.unique(link[limited], return_inverse=True)
    out = np.full(len(link), -1, dtype=np.int64)
    out[limited] = number
    rates = np.empty(len(twins))
    rates[number] = rate[limited]
    return out, rates
