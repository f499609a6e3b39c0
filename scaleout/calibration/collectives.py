"""Constants of a system's communication library from measured collectives and sends.

``python -m scaleout.calibration.collectives TABLE --system dgx-h100 [--write]``

The table has the form of ``scaleout validate collective``. Each row takes the cheapest of some
forms that are affine in the size (``docs/collectives.md``); what an algorithm asks of links and
steps is taken from the simulator's own patterns on the system's own machine, so any machine can be
fitted. Constants are fitted to the logarithms of the times, all but rows that are held out.
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Bools, Floats, Ints
from scaleout.calibration.chipfile import paragraph
from scaleout.calibration.command import carry_out, parser
from scaleout.calibration.files import write_section
from scaleout.calibration.fit import solver
from scaleout.collectives import fastest, trials
from scaleout.errors import MeasurementError, near
from scaleout.io.catalogue import find, load
from scaleout.io.table import Row, take_rows
from scaleout.network.fabric import Fabric
from scaleout.network.machine import machine
from scaleout.network.pattern import Pattern
from scaleout.specs import CollectiveLibrary, Launch, Protocol, System
from scaleout.units import describe
from scaleout.validation.collective import OPERATIONS, measured, ranks_of, system_of

__all__ = ["Table", "fit", "fitted", "predict", "read_table", "residuals", "vector"]


_BANDS = (("up to 64 KiB", 2.0**16), ("up to 2 MiB", 2.0**21), ("up to 128 MiB", 2.0**27), ("more", np.inf))
_FIELDS = ("launch", "scale_up_step", "network_step", "scale_up_rate", "network_rate")
_LOW, _HIGH = (1e-6, 1e-8, 1e-7, 5e-3, 5e-3), (2e-4, 3e-5, 2e-4, 1.0, 1.0)
"""Bounds of the fields; a step of 0 stays 0."""
_IDLE = (0.05, 2.0)
_STARTS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Measured operations: index into `OPERATIONS`, ranks, nodes, bytes, seconds and library, shape (rows,)."""

    operation: Ints
    ranks: Ints
    nodes: Ints
    nbytes: Floats
    seconds: Floats
    library: npt.NDArray[np.str_]

    def take(self, mask: Bools) -> "Table":
        """The rows where the mask is true."""
        return Table(*(getattr(self, name)[mask] for name in self.__slots__))

    def kinds(self) -> Iterator[tuple[tuple[str, int, int], Ints]]:
        """Rows of each operation on each number of chips and nodes."""
        keys = np.stack((self.operation, self.ranks, self.nodes))
        for operation, ranks, nodes in np.unique(keys, axis=1).T.tolist():
            rows = np.flatnonzero((keys == np.array([[operation], [ranks], [nodes]])).all(axis=0))
            yield (OPERATIONS[operation], ranks, nodes), rows


def read_table(path: Path, system: str, nodes: int | None = 1) -> Table:
    """The rows that were measured on a system.

    Parameters
    ----------
    nodes
        Take rows on so many nodes; None takes all.

    Raises
    ------
    MeasurementError
        The file cannot be read, lacks a column, or has no rows of this system.
    """
    rows = []

    def take(row: Row) -> None:
        found = measured(row)
        on = system_of(row.optional("system"), row.text("library"))
        if found and on == system and found.nodes in (nodes or found.nodes,) and not row.optional("algo"):
            key = (OPERATIONS.index(found.operation), found.ranks, found.nodes)
            rows.append((*key, found.nbytes, found.seconds, row.text("library")))

    take_rows(path, ("op", "bytes", "gpus", "nodes", "system", "library", "time_us"), take)
    if not rows:
        where = " in one node" if nodes == 1 else f" on {nodes} nodes" if nodes else ""
        raise MeasurementError(f"{path}: no collectives of {system}{where}")
    return Table(*(np.array(column) for column in zip(*rows, strict=True)))


# --- what an algorithm asks of the machine ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """One algorithm by one protocol: t = launch + wires + inner i + outer o + S share / rate.

    Rate is the least of `link`, r_i `inside` k / (k + d) and r_o `outside`, for the steps i and o,
    the rates r and the idle step d of the protocol and library.
    """

    protocol: str
    wires: float
    inner: float
    outer: float
    share: float
    link: float
    inside: float
    outside: float
    sends: float


@cache
def _forms(system: System, operation: str, ranks: int, nodes: int) -> tuple[_Form, ...]:
    """Everything that can do an operation, taken apart with constants of 0 and 1."""
    chips, group = ranks_of(system, operation, ranks, nodes)

    def with_steps(inner: float, outer: float) -> tuple[Fabric, dict[str, Pattern]]:
        fabric = machine(system, chips)
        bare = {
            name: Protocol(algorithms=rules.algorithms, launch=0.0, scale_up_step=inner, network_step=outer)
            for name, rules in fabric.protocols.items()
        }
        fabric = replace(fabric, protocols=bare, idle_step=0.0)
        return fabric, trials(fabric, group, operation)

    fabric, plain = with_steps(0.0, 0.0)
    inner, outer = with_steps(1.0, 0.0)[1], with_steps(0.0, 1.0)[1]

    def caps(**changes: Any) -> dict[str, float]:
        made = trials(replace(fabric, **changes), group, operation)
        return {name: float(pattern.phases[0].cap[0]) for name, pattern in made.items()}

    inside, outside = caps(network_bandwidth=np.inf), caps(scale_up_bandwidth=np.inf)
    idle = caps(network_bandwidth=np.inf, idle_step=1.0)
    forms = []
    for name, pattern in plain.items():
        (phase,) = pattern.phases
        sending = idle[name] / inside[name] if np.isfinite(inside[name]) else 1.0
        forms.append(
            _Form(
                protocol=name.partition("/")[2],
                wires=pattern.latency(),
                inner=inner[name].latency() - pattern.latency(),
                outer=outer[name].latency() - pattern.latency(),
                share=phase.share,
                link=float((fabric.topology.bandwidth[phase.link] / phase.weight).min()),
                inside=inside[name],
                outside=outside[name],
                sends=sending / (1.0 - sending) if sending < 1.0 else np.inf,
            )
        )
    return tuple(forms)


def predict(constants: Floats, table: Table, system: System) -> Floats:
    """Time of each row by the cheapest form [s].

    Parameters
    ----------
    constants
        Idle step, then launch, steps and rates of each protocol; see `vector`.
    system
        Its links and protocols.
    """
    return _cheapest(constants, _tasks(table, system), len(table.ranks))


class _Tasks(NamedTuple):
    """Forms of all rows, one after another: rows, protocols and fields of `_Form`, shape (tasks,)."""

    row: Ints
    protocol: Ints
    forms: Floats
    nbytes: Floats


def _tasks(table: Table, system: System) -> _Tasks:
    names = [*system.library.protocols]
    parts = []
    for key, rows in table.kinds():
        for form in _forms(system, *key):
            numbers = [getattr(form, field.name) for field in fields(_Form)[1:]]
            parts.append((rows, np.full(len(rows), names.index(form.protocol)), np.tile(numbers, (len(rows), 1))))
    row, protocol, forms = (np.concatenate([part[at] for part in parts]) for at in range(3))
    return _Tasks(row, protocol, forms.T, table.nbytes[row])


def _cheapest(constants: Floats, tasks: _Tasks, rows: int) -> Floats:
    launch, inner, outer, near, far = constants[1:].reshape(-1, len(_FIELDS))[tasks.protocol].T
    wires, inside_steps, outside_steps, share, link, inside, outside, sends = tasks.forms
    # 1 where what sends never waits
    sending = 1.0 / (1.0 + constants[0] / sends)
    rate = np.minimum(np.minimum(link, near * inside * sending), far * outside)
    time = launch + wires + inner * inside_steps + outer * outside_steps + share / rate * tasks.nbytes
    best = np.full(rows, np.inf)
    np.minimum.at(best, tasks.row, time)
    return best


def vector(library: CollectiveLibrary) -> Floats:
    """The constants of a library as `predict` takes them."""
    rows = [[getattr(rules, name) for name in _FIELDS] for rules in library.protocols.values()]
    return np.array([library.idle_step, *np.ravel(rows)])


def fit(table: Table, system: System, launch: Launch | None = None, protocols: tuple[str, ...] = ()) -> System:
    """The system with the library's constants fitted to the rows; what no row tells stays.

    Parameters
    ----------
    launch
        How the rows' operations were started.
    protocols
        Fit these alone, and no idle step.
    """
    least_squares = solver()
    names = [*system.library.protocols]
    start = vector(system.library)
    places = [("", "idle")] + [(name, field) for name in names for field in _FIELDS]
    used, outside = _used(table, system), bool((table.nodes > 1).any())
    inside = bool((table.nodes == 1).any())
    free = np.array(
        [
            (not protocols if field == "idle" else name in used and name in (protocols or names))
            and (outside or not field.startswith("network"))
            and (inside or field.startswith("network"))
            and start[at] > 0
            for at, (name, field) in enumerate(places)
        ]
    )
    low = np.log([_IDLE[0], *(_LOW * len(names))])[free]
    high = np.log([_IDLE[1], *(_HIGH * len(names))])[free]
    tasks = _tasks(table, system)
    called, issued = (launch.call, launch.issue) if launch else (0.0, 0.0)

    def misses(logs: Floats) -> Floats:
        constants = start.copy()
        constants[free] = np.exp(logs)
        made = np.maximum(_cheapest(constants, tasks, len(table.ranks)) + called, issued)
        return np.asarray(np.log(made / table.seconds))

    # a form that no row takes at the start is never moved, hence several starts
    rng = np.random.default_rng(0)
    first = np.log(np.maximum(start[free], 1e-12))
    starts = [first + spread * rng.standard_normal(len(first)) for spread in [0.0, *[0.4] * (_STARTS - 1)]]
    found = [
        least_squares(misses, np.clip(at, low + 1e-6, high - 1e-6), bounds=(low, high), loss="soft_l1", f_scale=0.1)
        for at in starts
    ]
    done = start.copy()
    done[free] = np.exp(min(found, key=lambda one: one.cost).x)
    return fitted(system, done)


def _used(table: Table, system: System) -> set[str]:
    """Protocols that could carry some row."""
    return {form.protocol for key, _ in table.kinds() for form in _forms(system, *key)}


def fitted(system: System, constants: Floats) -> System:
    """The system with these constants in its library, those that differ to three digits."""
    before = vector(system.library)
    rounded = [
        old if old == new else float(f"{new:.3g}") for old, new in zip(before.tolist(), constants.tolist(), strict=True)
    ]
    protocols = {}
    for at, (name, rules) in enumerate(system.library.protocols.items()):
        mine: dict[str, Any] = dict(zip(_FIELDS, rounded[1 + 5 * at : 6 + 5 * at], strict=True))
        protocols[name] = replace(rules, **mine)
    return replace(system, library=replace(system.library, protocols=protocols, idle_step=rounded[0]))


def residuals(table: Table, system: System, launch: Launch | None = None) -> Floats:
    """Simulated over measured, less one, of each row [1]: by the simulator's own algorithms."""
    out = np.empty(len(table.ranks))
    for (operation, ranks, nodes), rows in table.kinds():
        chips, group = ranks_of(system, operation, ranks, nodes)
        fabric = machine(system, chips)
        tried = trials(fabric, group, operation)
        for at in rows.tolist():
            nbytes = float(table.nbytes[at])
            alone = tried[fastest(fabric, tried, nbytes)].alone(fabric, nbytes)
            out[at] = launch.seconds(alone, operation) if launch else alone
    return out / table.seconds - 1


def report(name: str, table: Table, errors: Floats) -> str:
    """Mean absolute error and bias by operation and size."""
    lines, low = [f"{name}: {len(table.ranks)} rows"], 0.0
    for band, high in _BANDS:
        cells = []
        for number, operation in enumerate(OPERATIONS):
            mine = errors[(table.operation == number) & (table.nbytes > low) & (table.nbytes <= high)]
            if len(mine):
                cells.append(f"{operation} {np.abs(mine).mean():6.1%} ({mine.mean():+.1%})")
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
    made.add_argument("--nodes", type=int, help="nodes of the rows that are fitted; one otherwise, 0 for any")
    made.add_argument("--held-out", type=int, default=4, metavar="RANKS", help="rows that are not fitted")
    made.add_argument("--held-sizes", action="store_true", help="hold out every third size instead")
    made.add_argument("--from", type=float, default=0.0, dest="least", metavar="BYTES", help="fit no smaller sizes")
    made.add_argument("--protocol", action="append", default=[], help="fit this protocol alone; may be repeated")
    made.add_argument("--source", help="words for the file; those that are there stay otherwise")
    options = made.parse_args(arguments)
    return carry_out(lambda: _calibrate(options))


def _calibrate(options: Namespace) -> None:
    nodes = 1 if options.nodes is None else options.nodes or None
    table, system = read_table(options.table, options.system, nodes), load("system", options.system)
    mine = (table.library == options.library) & (table.nbytes >= options.least)
    if not mine.any():
        known = sorted(set(table.library))
        raise MeasurementError(f"no such rows of {options.library!r}; {near(options.library, known)}")
    for name in options.protocol:
        if name not in system.library.protocols:
            raise MeasurementError(f"{system.name} has no protocol {name!r}; {near(name, system.library.protocols)}")
    held = mine & (table.ranks == options.held_out)
    words = f"{options.held_out} chips"
    if options.held_sizes:
        held, words = mine & np.isin(table.nbytes, np.unique(table.nbytes[mine])[1::3]), "every third size"
    launch = system.launch_of(options.library)
    done = fit(table.take(mine & ~held), system, launch, tuple(options.protocol))
    errors = residuals(table, done, launch)
    error = float(np.abs(errors[held]).mean()) if held.any() else None
    library = replace(done.library, residual=error and round(error, 4), source=options.source or done.library.source)
    print(section(library))
    for name, rows in (("fitted", mine & ~held), (f"held out, {words}", held), ("other runs", ~mine)):
        if rows.any():
            print(report(name, table.take(rows), errors[rows]))
    if options.write:
        write_section(find("system", options.system), ("library",), section(library))


if __name__ == "__main__":
    sys.exit(main())
