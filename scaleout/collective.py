"""One collective operation over a range of sizes, alone on a machine: what nccl-tests measures, simulated."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives import fastest, only, trials
from scaleout.collectives.algorithm import Algorithm, Task
from scaleout.collectives.correctness import PROVABLE, check
from scaleout.collectives.goal import OPERATIONS
from scaleout.collectives.groups import Group
from scaleout.collectives.phases import rounds
from scaleout.collectives.registry import ALGORITHMS
from scaleout.collectives.schedule import Schedule
from scaleout.collectives.tuner import tuner_choice, tuner_name, tuner_times
from scaleout.engine.program import TICKS_PER_SECOND, ticks
from scaleout.errors import SpecError, TopologyError, WorkloadError, near
from scaleout.evaluate.chunks import Operation, run_operations
from scaleout.network import Fabric
from scaleout.network.pattern import Pattern
from scaleout.result import FORMAT
from scaleout.specs import Tuner
from scaleout.specs.fields import plain

__all__ = ["OPERATIONS", "CollectiveRow", "CollectiveTable", "bus_factor", "collective_table", "sizes_between"]

_FOREIGN = "{}: not among the library's own choices here; timed with the constants of its protocol {}"
_BY_TUNER = (
    "chosen by NCCL's tuner; constants were fitted for the fastest to be taken: other choices' times may be far off"
)
MOST_SIZES = 256
"""Sizes of one table."""
MOST_MEMBERS = 1024
"""Chips whose sends are written down one by one; what is made as lanes knows no such limit."""
_AS_LANES = ("ring", "tree")
_SHIPPED = frozenset(ALGORITHMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveRow:
    """One size.

    Parameters
    ----------
    bytes
        Of the whole buffer, as nccl-tests counts it [byte].
    time, time_ps
        From the arrival of the last rank to the end of all [s], and exactly [ps].
    algbw, busbw
        Bytes over time, and what a link would have to carry at least [byte/s].
    algorithm
        Algorithm and protocol.
    bottleneck
        The link that the bytes wait for longest.
    bound_by
        What takes most of the time: ``latency``, ``link``, or ``protocol`` where the library's kernels
        drive less than the link carries.
    candidates, tuner
        Time of every algorithm and protocol [s], and what NCCL's tuner takes it for, where it was
        asked for.
    phases
        Time of the same by phases [s], where every send was simulated; None elsewhere.
    """

    bytes: float
    time: float
    time_ps: int
    algbw: float
    busbw: float
    algorithm: str
    bottleneck: str
    bound_by: str
    candidates: Mapping[str, float]
    tuner: Mapping[str, float]
    phases: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveTable:
    """A row a size.

    Parameters
    ----------
    name
        What was simulated, in words.
    operation, chips
        The operation, and the chips that take part in it.
    evaluator
        What made the times.
    notes
        What the reader should know, a sentence each.
    link_use
        Utilisation of each link over the largest size's time [1], shape (links,).
    """

    name: str
    operation: str
    chips: int
    evaluator: str
    rows: tuple[CollectiveRow, ...]
    notes: tuple[str, ...]
    link_use: Floats

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first."""
        optional = ("candidates", "tuner", "phases")
        rows = [{k: v for k, v in plain(row).items() if v or k not in optional} for row in self.rows]
        return {
            "format": FORMAT,
            "name": self.name,
            "operation": self.operation,
            "chips": self.chips,
            "evaluator": self.evaluator,
            "rows": rows,
            "notes": list(self.notes),
        }


def bus_factor(operation: str, chips: int) -> float:
    """Bus bandwidth over algorithm bandwidth [1]: the share of the buffer that a link must carry at least.

    As nccl-tests defines it (doc/PERFORMANCE.md of NVIDIA/nccl-tests).
    """
    parts = ("all_gather", "reduce_scatter", "all_to_all", "gather", "scatter")
    share = (chips - 1) / chips
    return 2 * share if operation == "all_reduce" else share if operation in parts else 1.0


def sizes_between(low: float, high: float, factor: float = 2.0) -> list[float]:
    """Sizes from `low` to at most `high`, each `factor` times the one before [byte]; after 0 comes 8.

    >>> sizes_between(8, 64), sizes_between(0, 16)
    ([8.0, 16.0, 32.0, 64.0], [0.0, 8.0, 16.0])

    Raises
    ------
    SpecError
        The sizes do not ascend, or there are too many.
    """
    if not (0 <= low <= high < 1e18 and 1 < factor < math.inf):
        raise SpecError(f"sizes from {low:g} to {high:g} bytes by {factor:g}: expected 0 <= min <= max, factor above 1")
    sizes = [float(low)] if low or high < 8 else [0.0, 8.0]
    while sizes[-1] and sizes[-1] * factor <= high * (1 + 1e-12):
        sizes.append(sizes[-1] * factor)
        if len(sizes) > MOST_SIZES:
            raise SpecError(f"sizes from {low:g} to {high:g} bytes by {factor:g}: more than {MOST_SIZES}")
    return sizes


def collective_table(
    operation: str,
    fabric: Fabric,
    sizes: Sequence[float],
    *,
    ranks: Ints | None = None,
    algorithm: str | Algorithm | None = None,
    explain: bool = False,
    tuner: Tuner | None = None,
    by_tuner: bool = False,
    fold: bool = True,
) -> CollectiveTable:
    """Time an operation alone on a fabric.

    Parameters
    ----------
    operation
        One of `OPERATIONS`.
    fabric
        Of `machine(system, chips)`, a builder, or a file.
    sizes
        Of the whole buffer [byte].
    ranks
        Members; None takes all chips. A send goes from the first to the last.
    algorithm
        One of your own, or a name, or ``algorithm/protocol``; None lets the library choose.
    explain
        Whether rows tell the time of every candidate.
    tuner
        Whose times they tell beside it.
    by_tuner
        Take what the tuner would, where it knows the operation; otherwise the fastest is taken.
    fold
        True takes the phases that training steps are made of. False simulates every send of every
        rank, chunk by chunk: equal where all hops are alike, nearer to what happens elsewhere.

    Raises
    ------
    SpecError
        Unknown operation or algorithm, fewer than two ranks.
    TopologyError
        Two ranks have no path.
    """
    if operation not in OPERATIONS:
        raise SpecError(f"operation {operation!r:.40}: unknown; {near(operation, OPERATIONS)}")
    if not isinstance(fabric, Fabric):
        raise SpecError(f"fabric: expected one of a builder, machine(system, chips) or a file, not {fabric!r:.40}")
    if not isinstance(algorithm, str | Algorithm | None):
        raise SpecError(f"algorithm: {algorithm!r:.40}: expected a name or an Algorithm")
    members = _members(fabric, operation, ranks)
    sizes = _checked(sizes)
    members = members[[0, -1]] if operation == "send" else members
    groups = members[None, :]
    if not fold and len(members) > MOST_MEMBERS and not any(operation in ALGORITHMS[n].operations for n in _AS_LANES):
        raise SpecError(
            f"{operation}: {len(members):,} chips are too many to write down every send; expected at most "
            f"{MOST_MEMBERS:,}"
        )
    sizes = [0.0] if operation == "barrier" else sizes
    tried, notes = _tried(fabric, groups, operation, algorithm)
    if by_tuner and tuner is None:
        raise SpecError("by_tuner: there is no tuner; System.tuner has one where the library is NCCL")
    notes = (*notes, _BY_TUNER) if by_tuner else notes
    rows = [_row(fabric, operation, members, size, tried, explain, tuner, by_tuner) for size in sizes]
    largest = max(range(len(rows)), key=lambda at: rows[at].bytes)
    if fold:
        use = _use(fabric, tried[rows[largest].algorithm], rows[largest])
    else:
        own = algorithm if isinstance(algorithm, Algorithm) else None
        runs = [_unfolded(fabric, operation, members, row, own) for row in rows]
        rows, use = [row for row, _ in runs], runs[largest][1]
    return CollectiveTable(
        name=f"{operation} on {len(members):,} chips of {fabric.topology.name}",
        operation=operation,
        chips=len(members),
        evaluator="phases" if fold else "chunks, every send of every rank",
        rows=tuple(rows),
        notes=notes,
        link_use=use,
    )


def _members(fabric: Fabric, operation: str, ranks: Ints | Sequence[int] | None) -> Ints:
    """Ranks that take part, each once."""
    chips = fabric.topology.chips
    if ranks is None:
        members = np.arange(chips)
    else:
        members = np.asarray(ranks)
        if members.ndim != 1 or (members.size and members.dtype.kind not in "iu"):
            raise SpecError(f"ranks: {ranks!r:.40}: expected a row of whole numbers, or None for all chips")
        members = members.astype(np.int64, copy=False)
        if members.size and not (members.min() >= 0 and members.max() < chips):
            raise TopologyError(f"{fabric.topology.name}: ranks must be 0 to {chips - 1}")
        if len(np.unique(members)) < len(members):
            raise SpecError("ranks: a rank is there twice")
    if len(members) < 2:
        raise SpecError(f"{operation}: {len(members)} chip; expected at least 2")
    return members


def _checked(sizes: Sequence[float]) -> list[float]:
    """Sizes [byte] that can be simulated."""
    if not isinstance(sizes, Iterable) or isinstance(sizes, str):
        raise SpecError(f"sizes: {sizes!r:.40}: expected a list of numbers [byte]")
    found: list[float] = []
    for size in sizes:
        if isinstance(size, bool | str) or not isinstance(size, int | float | np.number) or not 0 <= size < 1e18:
            raise SpecError(f"sizes: {size!r:.40}: expected a number [byte] of 0 or more, below 10^18")
        found.append(float(size))
    if not found:
        raise SpecError("sizes: none; expected at least one [byte]")
    return found


def pipeline_chunks(size: float, depth: int = 1) -> int:
    """Pieces that pipelines cut a message into: the root of its size over 512 KiB, at most 64, times that of the depth.

    The time of a pipeline of c pieces, (depth + c) (latency + size / c / rate), is least where c grows so.

    Parameters
    ----------
    size
        Of the message [byte].
    depth
        Steps one behind another, where they grow with the number of ranks; at most 64 count.

    >>> pipeline_chunks(1e3), pipeline_chunks(1e9), pipeline_chunks(1e9, depth=4)
    (1, 44, 87)
    """
    deep = math.sqrt(max(1, min(64, depth)))
    return max(1, round(min(64 * deep, math.sqrt(size / 2**19) * deep)))


def _unfolded(
    fabric: Fabric, operation: str, members: Ints, row: CollectiveRow, own: Algorithm | None
) -> tuple[CollectiveRow, Floats]:
    """The row by every send of every rank, and the utilisation of each link [1]."""
    name, _, protocol = row.algorithm.partition("/")
    if len(members) > MOST_MEMBERS and name not in _AS_LANES:
        raise SpecError(
            f"{name}: {len(members):,} chips are too many to write down every send; expected at most "
            f"{MOST_MEMBERS:,}, or {' or '.join(_AS_LANES)}"
        )
    # a ring that hands one message on from rank to rank is a chain, the deepest of pipelines
    depth = len(members) - 1 if name == "ring" and operation in ("broadcast", "reduce") else 1
    schedule = (own or ALGORITHMS[name]).schedule(
        Group.on(fabric, members), operation, chunks=pipeline_chunks(row.bytes, depth)
    )
    run = run_operations(fabric, [Operation(schedule=schedule, ranks=members, nbytes=row.bytes, protocol=protocol)])
    time = run.ends[0]
    use = run.link_bytes / (fabric.topology.bandwidth * time) if time else run.link_bytes
    busiest = int(use.argmax())
    kind = fabric.topology.kinds[int(fabric.topology.kind[busiest])]
    return replace(
        row,
        time=time,
        time_ps=run.ends_ps[0],
        algbw=row.bytes / time if time else 0.0,
        busbw=row.bytes / time * bus_factor(operation, len(members)) if time else 0.0,
        bottleneck=f"{fabric.topology.link_name(busiest)} ({kind})" if row.bytes else row.bottleneck,
        phases=row.time,
    ), use


def _tried(
    fabric: Fabric, groups: Ints, operation: str, algorithm: str | Algorithm | None
) -> tuple[dict[str, Pattern], tuple[str, ...]]:
    """Patterns to choose from, and what the reader should know of them."""
    tried = trials(fabric, groups, operation)
    if algorithm is None and tried:
        return tried, ()
    names = {name for tag in tried for name in (tag, tag.partition("/")[0])}
    if isinstance(algorithm, str) and algorithm in names:
        return only(tried, algorithm), ()
    # what the library does not run by itself goes by its protocol for large messages
    protocol = max(
        (name for name, rules in fabric.protocols.items() if "ring" in rules.algorithms),
        key=lambda name: fabric.protocols[name].scale_up_rate,
    )
    name = algorithm.name if isinstance(algorithm, Algorithm) else algorithm or ""
    wanted, _, asked = name.partition("/")
    if asked and asked not in fabric.protocols:
        raise SpecError(f"protocol {asked!r:.40}: unknown; {near(asked, fabric.protocols)}")
    known = ALGORITHMS | ({wanted: algorithm} if isinstance(algorithm, Algorithm) else {})
    able = {name: one for name, one in known.items() if one.fits(fabric, groups, operation)}
    if algorithm is not None:
        if wanted not in able:
            return _fallback(fabric, groups, operation, known, name, asked or protocol, {*able, *names})
        able = {wanted: able[wanted]}
    if not able:
        raise SpecError(f"{operation}: no algorithm does it on these chips of {fabric.topology.name}")
    protocol = asked or protocol
    for mine in able.values():
        if mine.name not in _SHIPPED:
            _prove(mine, Group.on(fabric, groups[0]), operation)
    made = {f"{name}/{protocol}": one.pattern(fabric, groups, operation, protocol) for name, one in able.items()}
    note = () if "wires" in fabric.protocols else (_FOREIGN.format(", ".join(able), protocol),)
    return made, note


def _fallback(
    fabric: Fabric,
    groups: Ints,
    operation: str,
    known: Mapping[str, Algorithm],
    name: str,
    protocol: str,
    others: set[str],
) -> tuple[dict[str, Pattern], tuple[str, ...]]:
    """What an algorithm does where it does not fit, as its schedule's note says; or why it does nothing."""
    wanted, group, why = name.partition("/")[0], Group.on(fabric, groups[0]), ""
    one = known.get(wanted)
    if one is not None and operation in one.operations:
        why = f" ({one.lacks(Task(operation=operation, group=group))})"
        schedule = one.schedule(group, operation)
        if schedule.note and not schedule.virtual:
            return {f"{wanted}/{protocol}": rounds(fabric, groups, schedule, protocol)}, (f"{wanted}: {schedule.note}",)
    raise SpecError(
        f"algorithm {name!r:.40}: does no {operation} on these chips of {fabric.topology.name}{why}; "
        f"{near(name, sorted(others))}"
    )


def _prove(mine: Algorithm, group: Group, operation: str) -> None:
    """An algorithm of one's own does the operation; long ones, and those that do not say what moves, go on trust."""
    schedule = mine.schedule(group, operation)
    if not isinstance(schedule, Schedule):
        raise WorkloadError(f"algorithm {mine.name!r}: made {type(schedule).__name__}, no Schedule")
    if schedule.goal is not None and schedule.moves is not None and schedule.sends <= PROVABLE:
        check(schedule)


def _row(
    fabric: Fabric,
    operation: str,
    members: Ints,
    size: float,
    tried: Mapping[str, Pattern],
    explain: bool,
    tuner: Tuner | None,
    by_tuner: bool,
) -> CollectiveRow:
    chosen, chips = fastest(fabric, tried, size), len(members)
    thought: dict[str, float] = {}
    if tuner is not None and (explain or by_tuner):
        nodes = len(set(fabric.topology.node[members].tolist()))
        times = tuner_times(tuner, operation, chips, nodes, size)
        thought = {name: times[tuner_name(name)] for name in sorted(tried) if tuner_name(name) in times}
        if by_tuner:
            able = {name: pattern.alone(fabric, size) for name, pattern in tried.items()}
            chosen = tuner_choice(times, able) or chosen
    pattern = tried[chosen]
    time_ps = sum(
        ticks(size * phase.per_byte(fabric)) + ticks(float(phase.latency[0]))
        if size
        else ticks(float(phase.latency[0]))
        for phase in pattern.phases
    )
    time = time_ps / TICKS_PER_SECOND
    link, bound_by = _bottleneck(fabric, pattern, size)
    return CollectiveRow(
        bytes=size,
        time=time,
        time_ps=time_ps,
        algbw=size / time if time else 0.0,
        busbw=size / time * bus_factor(operation, chips) if time else 0.0,
        algorithm=chosen,
        bottleneck=link,
        bound_by=bound_by,
        candidates={name: p.alone(fabric, size) for name, p in sorted(tried.items())} if explain else {},
        tuner=thought if explain else {},
    )


def _bottleneck(fabric: Fabric, pattern: Pattern, size: float) -> tuple[str, str]:
    """Name of the link that the bytes wait for longest, and what takes most of the time."""
    phase = max(pattern.phases, key=lambda phase: phase.per_byte(fabric))
    mine = np.flatnonzero(phase.group == 0)
    share = fabric.topology.bandwidth[phase.link[mine]] / phase.weight[mine]
    at = int(mine[share.argmin()])
    bytes_take = size * pattern.per_byte(fabric) if size else 0.0
    bound = "protocol" if phase.cap[0] < share.min() else "link"
    if bytes_take <= pattern.latency():
        bound = "latency"
    link = int(phase.link[at])
    return f"{fabric.topology.link_name(link)} ({fabric.topology.kinds[int(fabric.topology.kind[link])]})", bound


def _use(fabric: Fabric, pattern: Pattern, row: CollectiveRow) -> Floats:
    """Bytes over each link, over what it could carry in the time of a row [1]."""
    carried = np.zeros(fabric.topology.links)
    for phase in pattern.phases:
        np.add.at(carried, phase.link, phase.weight * phase.share * row.bytes)
    return carried / (fabric.topology.bandwidth * row.time) if row.time else carried
