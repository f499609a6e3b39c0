"""Collective operations and sends between chips with the network to themselves, as nccl-tests measures them.

`bytes` is the whole buffer: what an all-gather ends with, what a reduce-scatter starts from. A row
without a time has a bus or an algorithm bandwidth, from which its time follows.
"""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from scaleout.arrays import Ints
from scaleout.collective import bus_factor
from scaleout.collectives import fastest, only, trials
from scaleout.errors import MeasurementError, ScaleoutError, SpecError, near
from scaleout.io.catalogue import list_names, load
from scaleout.io.table import Row, Watch, take_rows
from scaleout.network.fabric import Fabric
from scaleout.network.machine import machine
from scaleout.network.pattern import Pattern
from scaleout.specs import System
from scaleout.validation.agreement import Agreement, Compared, Skipped

__all__ = ["COLUMNS", "OPERATIONS", "Measured", "compare", "measured", "ranks_of", "seconds", "system_of"]

COLUMNS = ("op", "bytes", "gpus", "nodes", "system", "library", "time_us")
OPERATIONS = (
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send", "broadcast", "reduce", "gather", "scatter",
)  # fmt: skip
_SPELLINGS = {"alltoall": "all_to_all", "send_recv": "send", "sendrecv": "send"}
_BANDS = ((2.0**20, "below 1 MiB"), (np.inf, "from 1 MiB"))
"""Sizes that are told apart: end [byte] and name."""
_ELSEWHERE = {
    ("dgx-a100", "NCCL (torch)"): "a100-slow-fabric",
    ("dgx-b200", "NCCL 2.27.7 (torch all_reduce_bench)"): "aws-p6-b200",
}
"""System and library of rows -> the system they were measured on: nodes of the same chips, another network."""
_HOST = 16
"""Chips of a host at most: a larger scale-up domain is a rack, in which `nodes` are hosts."""
_FORCED = ("ring", "tree", "nvls-tree", "nvls", "direct")
_MOST_CHIPS = 100_000
"""Chips of a row; a table is not to ask for more memory than there is."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A row: operation by our name, chips, nodes, bytes of the whole buffer and time [s]; None is not known."""

    operation: str
    ranks: int
    nodes: int
    nbytes: float
    seconds: float | None


def compare(path: Path, watch: Watch | None = None) -> Agreement:
    """Every row, simulated alone, with what the benchmark's host adds."""
    rows = take_rows(path, COLUMNS, partial(_compare_row, frozenset(list_names("system"))), watch)
    combined = [
        ("system", "op"), ("system", "library"), ("source", "op"), ("system", "size"), ("source", "size"),
        ("system", "op", "size"), ("system", "library", "op", "size"),
    ]  # fmt: skip
    return Agreement.of("collective", rows, combined=combined)


def _compare_row(systems: frozenset[str], row: Row) -> Compared | Skipped:
    found, library, written = measured(row), row.text("library"), row.optional("system")
    operation = row.text("op")
    if not written:
        return Skipped(row.line, "names no system")
    if (name := system_of(written, library)) not in systems:
        return Skipped(row.line, f"unknown system {name!r}; {near(name, systems)}")
    if found is None:
        return Skipped(row.line, f"unknown operation {operation!r}; {near(operation, (*OPERATIONS, *_SPELLINGS))}")
    if found.seconds is None:
        return Skipped(row.line, "holds no measurement: neither time nor bandwidth")
    if found.ranks < 2:
        return Skipped(row.line, "one chip alone has nobody to talk to")
    if found.nodes > found.ranks:
        return Skipped(row.line, "more nodes than chips")
    if found.seconds < _soonest(name, found):
        return Skipped(row.line, f"impossible: faster than the ports of {name!r} carry what must leave a node")
    try:
        simulated, algorithm = seconds(name, library, found, _forced(row.optional("algo")))
    except ScaleoutError as error:
        return Skipped(row.line, str(error))
    band = next(band for end, band in _BANDS if found.nbytes < end)
    keys = {
        "source": row.optional("source"), "system": written, "op": operation, "library": library, "size": band,
    }  # fmt: skip
    where = f"{found.ranks} chips on {found.nodes} node{'s' if found.nodes > 1 else ''}"
    label = f"{operation} of {found.nbytes:,.0f} bytes, {where}, {algorithm}"
    return Compared(row.line, keys, found.seconds, simulated, label=label)


def measured(row: Row) -> Measured | None:
    """What a row measures; None where the operation is not known.

    Raises
    ------
    MeasurementError
        The row is malformed.
    """
    written = row.text("op")
    operation, ranks, nbytes = _SPELLINGS.get(written, written), row.whole("gpus"), row.number("bytes")
    nodes, micro = row.whole("nodes"), row.optional_number("time_us")
    # small ones are rounded to 0.0
    by_bus, by_size = (row.optional_number(column, above=False) for column in ("busbw_gbs", "algbw_gbs"))
    time = None
    if micro is not None:
        time = micro * 1e-6
    elif by_bus and ranks > 1:
        time = nbytes * bus_factor(operation, ranks) / (by_bus * 1e9)
    elif by_size:
        time = nbytes / (by_size * 1e9)
    return Measured(operation, ranks, nodes, nbytes, time) if operation in OPERATIONS else None


def _forced(words: str) -> str | None:
    """The algorithm that a row names, such as "Ring (NVLS off)"."""
    lowered = words.lower().replace("nvlstree", "nvls-tree")
    return next((name for name in _FORCED if lowered.startswith(name)), None)


def system_of(written: str, library: str) -> str:
    """The system that rows were measured on, by what they say of system and library."""
    return _ELSEWHERE.get((written, library), written)


def seconds(name: str, library: str, row: Measured, algorithm: str | None = None) -> tuple[float, str]:
    """Time that a benchmark reads, and algorithm and protocol.

    Parameters
    ----------
    name, library
        Of the system, and as the table has it, which says how operations are started.
    algorithm
        Take this one; None is the library's choice.

    Raises
    ------
    ScaleoutError
        The system cannot be built at this size, or cannot do the operation.
    """
    fabric, tried = _tried(name, row.operation, row.ranks, row.nodes)
    tried = only(tried, algorithm)
    chosen = fastest(fabric, tried, row.nbytes)
    alone, launch = tried[chosen].alone(fabric, row.nbytes), _system(name).launch_of(library)
    return launch.seconds(alone, row.operation) if launch else alone, chosen


@cache
def _system(name: str) -> System:
    system: System = load("system", name)
    return system


@cache
def _tried(name: str, operation: str, gpus: int, nodes: int) -> tuple[Fabric, dict[str, Pattern]]:
    """What can do the operation."""
    chips, ranks = ranks_of(_system(name), operation, gpus, nodes)
    fabric = machine(_system(name), chips)
    tried = trials(fabric, ranks, operation)
    if not tried:
        raise SpecError(f"system {name!r} has no algorithm for {operation}")
    return fabric, tried


def _soonest(name: str, row: Measured) -> float:
    """Time in which the ports of a node, at their nominal rate, carry the least that must cross them [s]."""
    system = _system(name)
    network, rack = system.network, system.chips_per_node > _HOST
    if row.nodes < 2 or rack or not network.bandwidth:
        return 0.0
    if row.operation == "send":
        return row.nbytes / network.bandwidth
    # every node takes in what it has not, once; of an all-to-all, for each of its chips
    share = (row.nodes - 1) / row.nodes * (row.ranks / row.nodes if row.operation == "all_to_all" else 1)
    return row.nbytes * share / (network.bandwidth * system.ports_per_node)


def ranks_of(system: System, operation: str, gpus: int, nodes: int) -> tuple[int, Ints]:
    """Chips of the machine, and the ranks of a benchmark: as even a share as there is on the first chips of each node.

    A send goes from the first chip of the first node to the first of the last.

    Raises
    ------
    MeasurementError
        A node has fewer chips, or they are more than any machine had.
    """
    if gpus > _MOST_CHIPS:
        raise MeasurementError(f"{gpus:,} chips; expected at most {_MOST_CHIPS:,}")
    per_node = system.chips_per_node
    if per_node > _HOST and gpus <= per_node:
        return gpus, np.arange(2 if operation == "send" else gpus)[None, :]
    share, more = divmod(gpus, nodes)
    most = share + bool(more)
    if most > per_node:
        raise MeasurementError(f"{most} chips on a node of {system.name!r}, which has {per_node}")
    counts = share + (np.arange(nodes) < more)
    ranks = np.concatenate([np.arange(count) + at * per_node for at, count in enumerate(counts)])
    if operation == "send":
        ranks = ranks[[0, gpus - share if nodes > 1 else 1]]
    return gpus if nodes == 1 else nodes * per_node, ranks[None, :]
