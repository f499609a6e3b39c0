"""Collective operations and sends between chips with the network to themselves, as nccl-tests measures them.

`bytes` is the whole buffer: what an all-gather ends with, what a reduce-scatter starts from. A row
without a time has a bus or an algorithm bandwidth, from which its time follows.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np

from scaleout.arrays import Ints
from scaleout.collectives import fastest, only, trials
from scaleout.errors import MeasurementError, ScaleoutError, SpecError, near
from scaleout.io.catalogue import list_names, load
from scaleout.io.table import Row, Watch, take_rows
from scaleout.network.fabric import Fabric
from scaleout.network.machine import machine
from scaleout.network.pattern import Pattern
from scaleout.specs import Launch, System
from scaleout.validation.agreement import Agreement, Compared, Skipped

__all__ = ["COLUMNS", "bus", "compare", "launch_of", "ranks_of", "seconds"]

COLUMNS = ("op", "bytes", "gpus", "nodes", "system", "library", "time_us")
_OPERATIONS = {"alltoall": "all_to_all", "send_recv": "send", "sendrecv": "send"}
"""Operations that go by another name here."""
_KNOWN = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "reduce", "gather", "scatter", "send")
_BANDS = ((2.0**20, "below 1 MiB"), (np.inf, "from 1 MiB"))
"""Sizes that are told apart: end [byte] and name."""
_ELSEWHERE = {
    ("dgx-a100", "NCCL (torch)"): "a100-slow-fabric",
    ("dgx-b200", "NCCL 2.27.7 (torch all_reduce_bench)"): "aws-p6-b200",
}
"""System and library of rows -> the system they were measured on, whose nodes are the same and whose network is not."""
_HOST = 16
"""Chips of a host at most: a larger scale-up domain is a rack, in which `nodes` are hosts."""
_FORCED = ("ring", "tree", "nvls-tree", "nvls", "direct")


def compare(path: Path, watch: Watch | None = None) -> Agreement:
    """Every row, simulated alone, with what the benchmark's host adds."""
    rows = take_rows(path, COLUMNS, partial(_compare_row, frozenset(list_names("system"))), watch)
    combined = [
        ("system", "op"), ("system", "library"), ("source", "op"), ("system", "size"), ("source", "size"),
        ("system", "op", "size"), ("system", "library", "op", "size"),
    ]  # fmt: skip
    return Agreement.of("collective", rows, combined=combined)


def _compare_row(systems: frozenset[str], row: Row) -> Compared | Skipped:
    written, library = row.text("op"), row.text("library")
    nbytes, gpus, nodes = row.number("bytes"), row.whole("gpus"), row.whole("nodes")
    operation = _OPERATIONS.get(written, written)
    measured = _measured(row, operation, nbytes, gpus)
    name, forced = row.optional("system"), _forced(row.optional("algo"))
    if operation not in _KNOWN:
        return Skipped(row.line, f"unknown operation {written!r}; {near(written, _KNOWN)}")
    if not name:
        return Skipped(row.line, "names no system")
    name = _ELSEWHERE.get((name, library), name) if nodes > 1 else name
    if name not in systems:
        return Skipped(row.line, f"unknown system {name!r}; {near(name, systems)}")
    if measured is None:
        return Skipped(row.line, "holds no measurement: neither time nor bandwidth")
    if gpus < 2:
        return Skipped(row.line, "one chip alone has nobody to talk to")
    if nodes > gpus:
        return Skipped(row.line, "more nodes than chips")
    try:
        simulated, algorithm = seconds(name, library, operation, nbytes, gpus, nodes, forced)
    except ScaleoutError as error:
        return Skipped(row.line, str(error))
    keys = {
        "source": row.optional("source"), "system": row.text("system"), "op": written, "library": library,
        "size": next(band for end, band in _BANDS if nbytes < end),
    }  # fmt: skip
    label = f"{written} of {nbytes:,.0f} bytes, {gpus} chips on {nodes} node{'s' if nodes > 1 else ''}, {algorithm}"
    return Compared(row.line, keys, measured, simulated, label=label)


def bus(operation: str, members: int) -> float:
    """Bus bandwidth over algorithm bandwidth, as nccl-tests counts it [1]."""
    rounds = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "all_to_all": 1, "gather": 1, "scatter": 1}
    return rounds[operation] * (members - 1) / members if operation in rounds else 1.0


def _measured(row: Row, operation: str, nbytes: float, gpus: int) -> float | None:
    """Time of a row [s], from a bandwidth where there is none; None where there is neither."""
    micro = row.optional_number("time_us")
    # small ones are rounded to 0.0
    by_bus, by_size = (row.optional_number(column, above=False) for column in ("busbw_gbs", "algbw_gbs"))
    if micro is not None:
        return micro * 1e-6
    if by_bus:
        return nbytes * bus(operation, gpus) / (by_bus * 1e9)
    return nbytes / (by_size * 1e9) if by_size else None


def _forced(words: str) -> str | None:
    """The algorithm that a row names, such as "Ring (NVLS off)"."""
    lowered = words.lower().replace("nvlstree", "nvls-tree")
    return next((name for name in _FORCED if lowered.startswith(name)), None)


def seconds(
    name: str, library: str, operation: str, nbytes: float, gpus: int, nodes: int, algorithm: str | None = None
) -> tuple[float, str]:
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
    system = _system(name)
    fabric, tried = _tried(name, gpus, nodes, operation)
    tried = only(tried, algorithm)
    chosen = fastest(fabric, tried, nbytes)
    alone, launch = tried[chosen].alone(fabric, nbytes), launch_of(system, library)
    return launch.seconds(alone) if launch else alone, chosen


def launch_of(system: System, library: str) -> Launch | None:
    """How a library of a table starts its operations; None as they take by themselves."""
    return next((launch for launch in system.launches.values() if library in launch.libraries), None)


@cache
def _system(name: str) -> System:
    system: System = load("system", name)
    return system


@cache
def _tried(name: str, gpus: int, nodes: int, operation: str) -> tuple[Fabric, dict[str, Pattern]]:
    """What can do the operation."""
    chips, ranks = ranks_of(_system(name), gpus, nodes)
    fabric = machine(_system(name), chips)
    if operation == "send":
        # from the first chip of the first node to the first of the last
        ranks = ranks[:, [0, gpus // nodes * (nodes - 1) if nodes > 1 else 1]]
    tried = trials(fabric, ranks, operation)
    if not tried:
        raise SpecError(f"system {name!r} has no algorithm for {operation}")
    return fabric, tried


def ranks_of(system: System, gpus: int, nodes: int) -> tuple[int, Ints]:
    """Chips of the machine, and the ranks of a benchmark: as even a share as there is on the first chips of each node.

    Raises
    ------
    MeasurementError
        A node has fewer chips.
    """
    per_node = system.chips_per_node
    if per_node > _HOST and gpus <= per_node:
        return gpus, np.arange(gpus)[None, :]
    share, more = divmod(gpus, nodes)
    most = share + bool(more)
    if most > per_node:
        raise MeasurementError(f"{most} chips on a node of {system.name!r}, which has {per_node}")
    counts = share + (np.arange(nodes) < more)
    ranks = np.concatenate([np.arange(count) + at * per_node for at, count in enumerate(counts)])
    return gpus if nodes == 1 else nodes * per_node, ranks[None, :]
