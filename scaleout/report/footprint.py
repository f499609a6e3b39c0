"""Figures of what results draw and cost: stacks by component and by part, and power over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Floats
from scaleout.footprint import Cost, Energy
from scaleout.report.footprint_table import COST_WORDS, ENERGY_WORDS, dollars
from scaleout.report.style import (
    COST_COLOURS,
    ENERGY_COLOURS,
    HATCHES,
    OTHER_COLOUR,
    PRINT_WIDTH,
    headline,
    house_style,
    new_figure,
)
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CostStack", "EnergyStack", "cost_stack", "draw_cost", "draw_energy", "energy_stack"]

_SCALES = (("MW", 1e6), ("kW", 1e3), ("W", 1.0))
_LETTER = 0.0108
"""Width of a letter beside a bar, over that of the panel [1]."""
_LEAST = 2e-3
"""Share of a bar below which a part has no entry in the legend."""


@dataclass(frozen=True, slots=True)
class EnergyStack:
    """What the figure of energy shows.

    Parameters
    ----------
    labels
        Of each bar.
    parts
        Components that are seen.
    power
        Of everything over the chips, by component [W], shape (bars, components).
    band
        How far each bar may be off [W].
    ends
        Words at the end of each bar.
    courses
        Power of chips and nodes over time, with its unit's name and size, and the span [s]; of bars that have one.
    """

    title: str
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    power: Floats
    band: Floats
    ends: tuple[str, ...]
    courses: tuple[tuple[str, Floats, float], ...]


@dataclass(frozen=True, slots=True)
class CostStack:
    """What the figure of cost shows.

    Parameters
    ----------
    labels
        Of each bar.
    parts, hour
        Parts that are seen, and an hour of a chip by part [USD/h], shape (bars, parts).
    bought, capex
        Parts that are bought, and their price over the chips [kUSD], shape (bars, parts).
    band
        How far each hour may be off [USD/h].
    ends
        Words at the end of each bar.
    marks
        Bar -> prices of an hour of the same chip elsewhere, by name [USD/h].
    """

    title: str
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    hour: Floats
    bought: tuple[str, ...]
    capex: Floats
    band: Floats
    ends: tuple[str, ...]
    marks: Mapping[int, Mapping[str, float]]


def energy_stack(rows: Sequence[tuple[str, int, Energy]], title: str, made: str = "") -> EnergyStack:
    """A bar a row: label, chips, energy.

    Parameters
    ----------
    made
        The tokens in words.
    """
    parts, joules = _matrix([energy.parts for _, _, energy in rows], ENERGY_WORDS)
    spans = np.array([max(energy.span, 1e-300) for _, _, energy in rows])
    chips = np.array([chips for _, chips, _ in rows])
    power = joules / (spans * chips)[:, None]
    return EnergyStack(
        title=title,
        labels=tuple(label for label, _, _ in rows),
        parts=parts,
        power=power,
        band=power.sum(axis=1) * [energy.error for _, _, energy in rows],
        ends=tuple(
            describe(energy.power, "W")
            + (f", {describe(energy.per_token, 'J')} a token{' ' + made if made else ''}" if energy.tokens else "")
            for _, _, energy in rows
        ),
        courses=tuple(
            (label, np.array(energy.over_time), energy.span) for label, _, energy in rows if energy.over_time
        ),
    )


def cost_stack(
    rows: Sequence[tuple[str, int, Cost]],
    title: str,
    made: str = "",
    marks: Mapping[int, Mapping[str, float]] | None = None,
) -> CostStack:
    """A bar a row: label, chips, cost."""
    chips = np.array([chips for _, chips, _ in rows])[:, None]
    parts, hour = _matrix([cost.hour for _, _, cost in rows], COST_WORDS)
    bought, capex = _matrix([cost.capex for _, _, cost in rows], COST_WORDS)
    return CostStack(
        title=title,
        labels=tuple(label for label, _, _ in rows),
        parts=parts,
        hour=hour / chips,
        bought=bought,
        capex=capex / chips / 1e3,
        band=np.array([cost.chip_hour * cost.error for _, _, cost in rows]),
        ends=tuple(
            f"{dollars(cost.chip_hour)}/h"
            + (f", {dollars(cost.per_million_tokens)} a million tokens{' ' + made if made else ''}")
            * bool(cost.per_million_tokens)
            for _, _, cost in rows
        ),
        marks=marks or {},
    )


def _matrix(rows: Sequence[Mapping[str, float]], order: Mapping[str, str]) -> tuple[tuple[str, ...], Floats]:
    """Parts that are somewhere more than nothing, in their order, and a row of figures for each mapping."""
    names = [*order, *sorted({name for row in rows for name in row} - set(order))]
    values = np.array([[row.get(name, 0.0) for name in names] for row in rows], dtype=float)
    seen = (values > values.sum(axis=1, keepdims=True) * _LEAST).any(axis=0)
    return tuple(name for name, there in zip(names, seen, strict=True) if there), values[:, seen]


def draw_energy(stack: EnergyStack) -> "Figure":
    """Bars by component [W a chip] above; below them power over time, where it is known."""
    bars, courses = len(stack.labels), len(stack.courses)
    with house_style():
        figure = new_figure(PRINT_WIDTH, 1.8 + 0.48 * bars + 1.4 * courses)
        heights = (0.9 + 0.48 * bars, *[1.4] * courses)
        above, *below = np.atleast_1d(figure.subplots(1 + courses, 1, height_ratios=heights))
        headline(figure, stack.title)
        words = [ENERGY_WORDS.get(part, part) for part in stack.parts]
        colours = [ENERGY_COLOURS.get(part, OTHER_COLOUR) for part in stack.parts]
        _bars(above, stack.power, words, colours, stack.labels, stack.band, stack.ends)
        above.set_xlabel("mean power of everything over the number of chips [W]")
        for ax, course in zip(below, stack.courses, strict=True):
            _course(ax, *course)
        return figure


def _course(ax: "Axes", label: str, watts: Floats, span: float) -> None:
    unit, size = next(row for row in _SCALES if watts.max() >= row[1] or row[1] == 1.0)
    scale, unit_of_time = (1.0, "s") if span >= 1.0 else (1e3, "ms")
    span = span * scale
    ax.stairs(watts / size, np.linspace(0, span, len(watts) + 1), fill=True, color=ENERGY_COLOURS["compute"], alpha=0.6)
    ax.axhline(watts.mean() / size, color="black", linewidth=0.8, linestyle="--")
    ax.set_xlim(0, span)
    ax.set_ylim(0, watts.max() / size * 1.15)
    ax.set_ylabel(f"power [{unit}]")
    ax.set_xlabel(f"time [{unit_of_time}]", fontsize=8)
    ax.set_title(f"{label}: chips and nodes over time, without the building (dashed: mean)", fontsize=8.5)


def draw_cost(stack: CostStack) -> "Figure":
    """Bars by part: an hour of a chip [USD/h] above; below, where chips are bought, their price [kUSD]."""
    bars, bought = len(stack.labels), bool(stack.bought)
    with house_style():
        figure = new_figure(PRINT_WIDTH, 0.9 + (0.9 + 0.42 * bars) * (1 + bought))
        above, *below = np.atleast_1d(figure.subplots(1 + bought, 1))
        headline(figure, stack.title)
        panels: list[tuple[Axes, tuple[str, ...], Floats, Floats | None, tuple[str, ...], str]]
        panels = [(above, stack.parts, stack.hour, stack.band, stack.ends, "an hour of a chip [USD/h]")]
        if bought:
            ends = tuple(f"{price:,.1f} kUSD" if price else "rented" for price in stack.capex.sum(axis=1))
            panels.append(
                (below[0], stack.bought, stack.capex, None, ends, "price of a chip with its share of the rest [kUSD]")
            )
        for ax, parts, values, band, ends, words in panels:
            names = [COST_WORDS.get(part, part) for part in parts]
            colours = [COST_COLOURS.get(part, OTHER_COLOUR) for part in parts]
            _bars(ax, values, names, colours, stack.labels, band, ends, stack.marks if ax is above else {})
            ax.set_xlabel(words)
        for bar, marks in sorted(stack.marks.items()):
            for name, price in sorted(marks.items(), key=lambda row: row[1]):
                above.plot([price, price], [bar - 0.42, bar + 0.42], color="black", linewidth=1.2)
                above.annotate(
                    name, (price, bar - 0.42), xytext=(0, 2), textcoords="offset points", ha="center", va="bottom",
                    fontsize=7,
                )  # fmt: skip
        return figure


def _bars(
    ax: "Axes",
    values: Floats,
    names: Sequence[str],
    colours: Sequence[str],
    labels: Sequence[str],
    band: Floats | None,
    ends: Sequence[str],
    marks: Mapping[int, Mapping[str, float]] | None = None,
) -> None:
    position, start = np.arange(len(values)), np.zeros(len(values))
    for at, (name, colour) in enumerate(zip(names, colours, strict=True)):
        ax.barh(
            position, values[:, at], left=start, height=0.62, color=colour, hatch=HATCHES.get(colour), label=name,
            linewidth=0,
        )  # fmt: skip
        start = start + values[:, at]
    reach = start
    if band is not None:
        ax.errorbar(start, position, xerr=band, fmt="none", ecolor="black", elinewidth=1.0, capsize=2.5)
        reach = start + band
    # words stand behind marks that are drawn on a bar
    reach = np.maximum(reach, [max((marks or {}).get(at, {}).values(), default=0.0) for at in range(len(reach))])
    most = float(reach.max()) or 1.0
    for at, words in enumerate(ends):
        ax.text(reach[at] + 0.012 * most, at, words, va="center", fontsize=7.5)
    # room for the words behind each bar, whose letters take so much of the width
    widths = (min(0.6, _LETTER * len(words) + 0.02) for words in ends)
    ax.set_xlim(0, max(most * 1.05, *(end / (1.0 - width) for end, width in zip(reach, widths, strict=True))))
    ax.set_yticks(position, labels, fontsize=8)
    ax.set_ylim(len(values) - 0.45, -0.65)
    ax.tick_params(axis="y", length=0)
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=len(names) if len(names) < 6 else 4,
        fontsize=7.5,
        handlelength=1.4,
        columnspacing=1.0,
    )
