"""The figures that a sweep can be drawn as, by name: which fit, why the others do not, their tables and their ink."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from scaleout.errors import SweepError, near

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scaleout.sweep.results import SweepResults

__all__ = ["KINDS", "SweepFigure", "draw_table", "figures_of", "fitting", "misfits_of", "table_as_dict", "table_of"]


class Kind(NamedTuple):
    """A kind of figure.

    Parameters
    ----------
    words
        What it shows.
    options
        What ``--x``, ``--y`` and ``--by`` are, in this order; "" where there is none.
    home, table, draw
        Module, and functions in it.
    """

    words: str
    options: tuple[str, str, str]
    home: str
    table: str
    draw: str


KINDS = {
    "scaling": Kind(
        "strong and weak scaling: throughput over chips, the ideal, efficiency", ("", "outcome", "lines"),
        "sweep_scaling", "scaling_table_of", "draw_sweep_scaling",
    ),
    "heatmap": Kind(
        "an outcome over two keys, the best over the others, why cells are empty", ("columns", "outcome", "rows"),
        "sweep_heat", "heat_table_of", "draw_sweep_heat",
    ),
    "pareto": Kind(
        "two outcomes against each other, and the front", ("outcome", "outcome", "fronts"),
        "sweep_pareto", "pareto_table_of", "draw_sweep_pareto",
    ),
    "breakdown": Kind(
        "parts of the step of the best points", ("bars", "outcome", "bars"),
        "sweep_breakdown", "stack_table_of", "draw_sweep_breakdown",
    ),
    "latency": Kind(
        "TTFT and TPOT over throughput, along the rate of requests", ("throughput", "", "lines"),
        "sweep_latency", "latency_table_of", "draw_sweep_latency",
    ),
    "topologies": Kind(
        "systems or networks side by side, each at its best", ("bars", "outcome", "more bars"),
        "sweep_bars", "topologies_table_of", "draw_sweep_bars",
    ),
    "cost": Kind(
        "cost of a token, and its energy, by a key", ("bars", "outcome", "more bars"),
        "sweep_bars", "cost_table_of", "draw_sweep_bars",
    ),
    "energy": Kind(
        "energy of a token, and power, by a key", ("bars", "outcome", "more bars"),
        "sweep_bars", "energy_table_of", "draw_sweep_bars",
    ),
    "tornado": Kind(
        "which axis moves the outcome most, around the best point", ("", "outcome", ""),
        "sweep_tornado", "sweep_tornado_of", "draw_sweep_tornado",
    ),
}  # fmt: skip
"""Every kind, in the order in which a report shows them."""


class SweepFigure(NamedTuple):
    """A figure that fits a sweep.

    Parameters
    ----------
    name
        One of `KINDS`.
    title
        Its first line.
    draw
        Draws it.
    """

    name: str
    title: str
    draw: "Callable[[], Figure]"


def table_of(
    results: "SweepResults", kind: str, *, x: str | None = None, y: str | None = None, by: str | None = None
) -> Any:
    """What a figure of this kind shows, as a frozen table.

    Parameters
    ----------
    results
        Of a sweep.
    kind
        One of `KINDS`.
    x, y, by
        Keys and outcomes, see ``options`` of the kind; None for what is usual.

    Raises
    ------
    SweepError
        Unknown kind, key or outcome, or the sweep has nothing for such a figure.
    """
    if kind not in KINDS:
        raise SweepError(f"{kind!r:.60} is no kind of figure; {near(str(kind), KINDS)}")
    return _function(kind, KINDS[kind].table)(results, x=x, y=y, by=by)


def draw_table(kind: str, table: Any) -> "Figure":
    """The figure of a table of `table_of`."""
    found: Figure = _function(kind, KINDS[kind].draw)(table)
    return found


def figures_of(results: "SweepResults") -> list[SweepFigure]:
    """Figures that fit a sweep, by its kind, axes and outcomes; none where nothing can be simulated."""
    return fitting(results)[0]


def misfits_of(results: "SweepResults") -> dict[str, str]:
    """Kinds of figures that do not fit a sweep, and why."""
    return fitting(results)[1]


def fitting(results: "SweepResults") -> tuple[list[SweepFigure], dict[str, str]]:
    """Both `figures_of` and `misfits_of`, at the cost of one of them."""
    fits, misfits = [], {}
    for kind in KINDS:
        try:
            table = table_of(results, kind)
        except SweepError as error:
            misfits[kind] = str(error).removeprefix(f"{kind}: ")
        else:
            fits.append(SweepFigure(kind, table.title, partial(draw_table, kind, table)))
    return fits, misfits


def table_as_dict(kind: str, table: Any) -> dict[str, Any]:
    """Plain values only, SI; what is not there is None."""
    return {"figure": kind, **_plain(table)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _function(kind: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(import_module(f"scaleout.report.{KINDS[kind].home}"), name)
    return found
