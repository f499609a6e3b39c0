"""One collective operation over a range of sizes, alone on a machine: what nccl-tests measures, simulated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives import fastest, trials
from scaleout.engine.program import TICKS_PER_SECOND, ticks
from scaleout.errors import SpecError, near
from scaleout.network import Fabric
from scaleout.network.pattern import Pattern
from scaleout.result import FORMAT
from scaleout.specs.fields import plain

__all__ = ["OPERATIONS", "CollectiveRow", "CollectiveTable", "bus_factor", "collective_table", "sizes_between"]

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
MOST_SIZES = 256
"""Sizes of one table."""


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
    candidates
        Time of every algorithm and protocol [s], where it was asked for.
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
        rows = [{k: v for k, v in plain(row).items() if k != "candidates" or v} for row in self.rows]
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
    share = (chips - 1) / chips
    return {"all_reduce": 2 * share, "all_gather": share, "reduce_scatter": share, "all_to_all": share}.get(
        operation, 1.0
    )


def sizes_between(low: float, high: float, factor: float = 2.0) -> list[float]:
    """Sizes from `low` to at most `high`, each `factor` times the one before [byte].

    >>> sizes_between(8, 64)
    [8.0, 16.0, 32.0, 64.0]

    Raises
    ------
    SpecError
        The sizes do not ascend, or there are too many.
    """
    if not (0 <= low <= high < 1e18 and factor > 1):
        raise SpecError(f"sizes from {low:g} to {high:g} bytes by {factor:g}: expected 0 <= min <= max, factor above 1")
    sizes = [float(low)]
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
    algorithm: str | None = None,
    explain: bool = False,
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
        Members; None takes all chips.
    algorithm
        Name of an algorithm, or ``algorithm/protocol``; None lets the library choose.
    explain
        Whether rows tell the time of every candidate.

    Raises
    ------
    SpecError
        Unknown operation or algorithm, fewer than two ranks.
    TopologyError
        Two ranks have no path.
    """
    if operation not in OPERATIONS:
        raise SpecError(f"operation {operation!r:.40}: unknown; {near(operation, OPERATIONS)}")
    members = np.arange(fabric.topology.chips) if ranks is None else np.asarray(ranks, dtype=np.int64)
    if len(members) < 2:
        raise SpecError(f"{operation}: {len(members)} chip; expected at least 2")
    groups = members[None, :]
    tried = trials(fabric, groups, operation)
    if algorithm is not None:
        tried = _only(tried, algorithm, operation, fabric)
    rows = []
    for size in sizes:
        chosen = fastest(fabric, tried, size)
        rows.append(_row(fabric, operation, len(members), size, chosen, tried, explain))
    largest = max(rows, key=lambda row: row.bytes)
    return CollectiveTable(
        name=f"{operation} on {len(members):,} chips of {fabric.topology.name}",
        operation=operation,
        chips=len(members),
        evaluator="phases",
        rows=tuple(rows),
        notes=(),
        link_use=_use(fabric, tried[largest.algorithm], largest),
    )


def _only(tried: Mapping[str, Pattern], algorithm: str, operation: str, fabric: Fabric) -> dict[str, Pattern]:
    """The candidates of one algorithm."""
    kept = {name: pattern for name, pattern in tried.items() if algorithm in (name, name.partition("/")[0])}
    if not kept:
        names = sorted({*tried, *(name.partition("/")[0] for name in tried)})
        raise SpecError(
            f"algorithm {algorithm!r:.40}: does no {operation} on these chips of {fabric.topology.name}; "
            f"{near(algorithm, names)}"
        )
    return kept


def _row(
    fabric: Fabric, operation: str, chips: int, size: float, chosen: str, tried: Mapping[str, Pattern], explain: bool
) -> CollectiveRow:
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
