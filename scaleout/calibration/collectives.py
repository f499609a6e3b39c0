"""Constants of a system's communication library from measured collectives in one node.

``python -m scaleout.calibration.collectives TABLE --system dgx-h100 [--write]``

The table has the columns op, bytes (the whole buffer), gpus, nodes, system, library, time_us.
Each row takes the cheapest of some forms that are affine in the size (``docs/collectives.md``);
their constants are fitted to the logarithms of the times, all but one number of chips, which is
held out. What is printed comes from the simulator's own algorithms on the fitted system.
"""

import sys
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Bools, Floats, Ints
from scaleout.calibration.chipfile import paragraph
from scaleout.calibration.command import carry_out, parser
from scaleout.calibration.files import write_section
from scaleout.calibration.fit import solver
from scaleout.collectives import choose, trials
from scaleout.collectives.flat import ROUNDS
from scaleout.errors import MeasurementError, near
from scaleout.io.catalogue import find, load
from scaleout.io.table import Row, take_rows
from scaleout.network import nvswitch_node
from scaleout.specs import CollectiveLibrary, System
from scaleout.units import describe

__all__ = ["Table", "fit", "fitted", "predict", "read_table"]


_OPERATIONS = (*ROUNDS,)
_NAMES = {"alltoall": "all_to_all"}
_BANDS = (("up to 64 KiB", 2.0**16), ("up to 2 MiB", 2.0**21), ("up to 128 MiB", 2.0**27), ("more", np.inf))
_STARTS_AT: dict[str, tuple[float, float, float]] = {
    "LL": (6.0, 0.5, 0.25),
    "LL128": (12.0, 0.5, 0.6),
    "Simple": (25.0, 2.0, 0.9),
    "NVLS-small": (30.0, 0.0, 0.4),
    "NVLS": (50.0, 0.0, 0.8),
    "P2P-LL": (8.0, 0.0, 0.1),
    "P2P": (16.0, 0.0, 0.85),
}
"""Protocols that are fitted where a system's file has them, and where the search starts: launch
[us], step [us] (0: stays 0) and rate [1]."""
_IDLE = 0.4
_STARTS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Measured operations in one node: index into `ROUNDS`, ranks, bytes and seconds, shape (rows,)."""

    operation: Ints
    ranks: Ints
    nbytes: Floats
    seconds: Floats
    library: npt.NDArray[np.str_]

    def take(self, mask: Bools) -> "Table":
        """The rows where the mask is true."""
        return Table(*(getattr(self, name)[mask] for name in self.__slots__))


def read_table(path: Path, system: str) -> Table:
    """The rows of a system's collectives in one node.

    Raises
    ------
    MeasurementError
        The file cannot be read, lacks a column, or has no rows of this system.
    """
    rows = []

    def take(row: Row) -> None:
        name = row.text("op")
        operation = _NAMES.get(name, name)
        # a row without a time has a bus bandwidth alone
        if (
            (row.optional("system"), row.optional("nodes")) == (system, "1")
            and operation in ROUNDS
            and row.optional("time_us")
        ):
            key = _OPERATIONS.index(operation), row.whole("gpus")
            rows.append((*key, row.number("bytes"), row.number("time_us") * 1e-6, row.text("library")))

    take_rows(path, ("op", "bytes", "gpus", "nodes", "system", "library", "time_us"), take)
    if not rows:
        raise MeasurementError(f"{path}: no collectives of {system} in one node")
    operation, ranks, nbytes, seconds, library = zip(*rows, strict=True)
    return Table(np.array(operation), np.array(ranks), np.array(nbytes), np.array(seconds), np.array(library))


def predict(logs: Floats, table: Table, system: System) -> Floats:
    """Time of each row by the cheapest form [s].

    Parameters
    ----------
    logs
        Logarithms of the idle step, then of launch [us], step [us] and rate of each protocol.
    system
        Its links and protocols.
    """
    names = _names(system)
    idle, constants = np.exp(logs[0]), np.exp(logs[1:]).reshape(len(names), 3)
    bandwidth, link = system.scale_up.bandwidth * system.scale_up.efficiency, system.scale_up.latency
    n, nbytes = table.ranks, table.nbytes
    rounds = np.array([*ROUNDS.values()])[table.operation]
    steps, pairs = rounds * (n - 1), table.operation == _OPERATIONS.index("all_to_all")
    best = np.full(len(n), np.inf)
    for name, (launch, step, rate) in zip(names, constants, strict=True):
        algorithms = system.library.protocols[name].algorithms
        if "nvls" in algorithms:
            fits, times, share = table.operation == _OPERATIONS.index("all_reduce"), 2 * np.ones_like(n), (n + 1) / n
        elif "pairwise" in algorithms:
            fits, times, share = pairs, np.ones_like(n), (steps + idle) / n
        else:
            fits, times, share = ~pairs, steps, (steps + idle) / n
        fixed = launch * 1e-6 + times * (step * 1e-6 * bool(_STARTS_AT[name][1]) + 2 * link)
        best = np.where(fits, np.minimum(best, fixed + share * nbytes / (rate * bandwidth)), best)
    return best


def fit(table: Table, system: System) -> System:
    """The system with the library's constants fitted to the rows; what is not fitted stays."""
    least_squares = solver()
    names = _names(system)
    start = [_IDLE, *(value or 1.0 for name in names for value in _STARTS_AT[name])]
    high = [2.0, *(value for _ in names for value in (100.0, 10.0, 1.0))]
    low = [0.05, *(value for _ in names for value in (1.0, 0.02, 0.01))]

    def misses(logs: Floats) -> Floats:
        return np.log(predict(logs, table, system) / table.seconds)

    # a form that no row takes at the start is never moved, hence several starts
    rng = np.random.default_rng(0)
    bounds = np.log(low), np.log(high)
    starts = [np.log(start) + spread * rng.standard_normal(len(start)) for spread in [0.0, *[0.4] * (_STARTS - 1)]]
    found = [
        least_squares(
            misses, np.clip(at, bounds[0] + 1e-6, bounds[1] - 1e-6), bounds=bounds, loss="soft_l1", f_scale=0.1
        )
        for at in starts
    ]
    return fitted(system, np.exp(min(found, key=lambda one: one.cost).x))


def _names(system: System) -> list[str]:
    """Protocols of the system that are fitted."""
    return [name for name in _STARTS_AT if name in system.library.protocols]


def fitted(system: System, constants: Floats) -> System:
    """The system with fitted constants in its library, to three digits."""
    protocols = dict(system.library.protocols)
    rounded = [float(f"{value:.3g}") for value in constants]
    for at, name in enumerate(_names(system)):
        launch, step, rate = rounded[1 + 3 * at : 4 + 3 * at]
        step = step * 1e-6 if _STARTS_AT[name][1] else 0.0
        protocols[name] = replace(protocols[name], launch=launch * 1e-6, scale_up_step=step, scale_up_rate=rate)
    return replace(system, library=replace(system.library, protocols=protocols, idle_step=rounded[0]))


def residuals(table: Table, system: System) -> Floats:
    """Simulated over measured, less one, of each row [1]."""
    out = np.empty(len(table.ranks))
    for ranks in np.unique(table.ranks):
        fabric = nvswitch_node(system, int(ranks))
        group = np.arange(ranks)[None, :]
        for at in np.flatnonzero(table.ranks == ranks):
            operation, nbytes = _OPERATIONS[table.operation[at]], float(table.nbytes[at])
            tried = trials(fabric, group, operation)
            out[at] = tried[choose(fabric, group, operation, nbytes)].alone(fabric, nbytes)
    return out / table.seconds - 1


def report(name: str, table: Table, system: System) -> str:
    """Mean absolute error and bias by operation and size."""
    errors, lines, low = residuals(table, system), [f"{name}: {len(table.ranks)} rows"], 0.0
    for band, high in _BANDS:
        cells = []
        for number, operation in enumerate(_OPERATIONS):
            mine = errors[(table.operation == number) & (table.nbytes > low) & (table.nbytes <= high)]
            cells.append(f"{operation} {np.abs(mine).mean():6.1%} ({mine.mean():+.1%})" if len(mine) else "")
        lines.append(f"  {band:14}" + "  ".join(f"{cell:32}" for cell in cells).rstrip())
        low = high
    return "\n".join(lines)


def section(library: CollectiveLibrary) -> str:
    """The library as a section of a system file."""
    lines = [
        f"name: {library.name}",
        f'version: "{library.version}"',
        f"idle_step: {library.idle_step:g}",
        *([] if library.residual is None else [f"residual: {library.residual:g}"]),
        "protocols:",
    ]
    for name, rules in library.protocols.items():
        lines += [f"  {name}:", f"    algorithms: [{', '.join(rules.algorithms)}]"]
        for field in ("launch", "scale_up_step", "network_step"):
            value = getattr(rules, field)
            lines.append(f"    {field}: {describe(value, 's') if value else '0 s'}")
        lines += [f"    {field}: {getattr(rules, field):g}" for field in ("scale_up_rate", "network_rate")]
    return "\n".join([*lines, *paragraph("source", library.source)]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Fit, print residuals, and write where that is asked for."""
    made = parser("collectives", __doc__, "CSV of measured collectives", chips=False)
    made.add_argument("--system", default="dgx-h100", help="name of the system whose rows are taken")
    made.add_argument("--library", default="NCCL 2.27.3", help="library of the rows that are fitted")
    made.add_argument("--held-out", type=int, default=4, metavar="RANKS", help="rows that are not fitted")
    options = made.parse_args(arguments)
    return carry_out(lambda: _calibrate(options))


def _calibrate(options: Namespace) -> None:
    table, system = read_table(options.table, options.system), load("system", options.system)
    mine = table.library == options.library
    if not mine.any():
        raise MeasurementError(f"no rows of {options.library!r}; {near(options.library, sorted(set(table.library)))}")
    held = mine & (table.ranks == options.held_out)
    done = fit(table.take(mine & ~held), system)
    error = float(np.abs(residuals(table.take(held), done)).mean()) if held.any() else None
    done = replace(done, library=replace(done.library, residual=error and round(error, 4)))
    print(section(done.library))
    parts = ("fitted", mine & ~held), (f"held out, {options.held_out} chips", held), ("other runs", ~mine)
    for name, rows in parts:
        if rows.any():
            print(report(name, table.take(rows), done))
    if options.write:
        write_section(find("system", options.system), ("library",), section(done.library))


if __name__ == "__main__":
    sys.exit(main())
