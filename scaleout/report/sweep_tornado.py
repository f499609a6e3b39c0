"""Which axis of a sweep matters most: how much worse each of its values is than that of the best point."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.errors import SweepError
from scaleout.report.style import GROUP_COLOURS, PRINT_WIDTH, house_style
from scaleout.report.sweep_ink import foot, grid_of, log_axis, titled
from scaleout.report.sweep_points import Axis, best_in, settings_of
from scaleout.report.sweep_words import Scale, key_words, outcome_words, scale_of, value_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scaleout.sweep.results import SweepResults

__all__ = ["AxisEffect", "SweepTornado", "draw_sweep_tornado", "sweep_tornado_of"]

_MOST = 20
"""Axes of a figure."""
_SAME = 1e-9
_LITTLE = 1e-4
_WIDE = 3.0
"""Factor from which on the axis is logarithmic [1]."""


@dataclass(frozen=True, slots=True)
class AxisEffect:
    """One axis, or keys whose values go together.

    Parameters
    ----------
    key
        In short.
    best
        Its value at the best point.
    values
        All values.
    alone
        How many times as bad as the best point each value is where nothing else changes [1]; NaN where that cannot be
        simulated.
    retuned
        The same with all other axes at their best for it [1].
    without
        Values for which nothing can be simulated.
    """

    key: str
    best: str
    values: tuple[str, ...]
    alone: tuple[float, ...]
    retuned: tuple[float, ...]
    without: int

    @property
    def reach(self) -> tuple[float, float]:
        """Largest of `retuned`, and of `alone` [1]."""
        return _largest(self.retuned), _largest(self.alone)


@dataclass(frozen=True, slots=True)
class SweepTornado:
    """What the figure shows: the axis that matters most first; `bounded` points count with their bound."""

    title: str
    outcome: str
    scale: Scale
    least: bool
    best: float
    point: str
    effects: tuple[AxisEffect, ...]
    others: int
    bounded: int


def sweep_tornado_of(
    results: "SweepResults", *, x: str | None = None, y: str | None = None, by: str | None = None
) -> SweepTornado:
    """The worth of each axis around the best point.

    Parameters
    ----------
    x, by
        Have to be None: all axes are shown.
    y
        Outcome; None for the objective.

    Raises
    ------
    SweepError
        No axis varies, or the best is 0, which nothing can be a multiple of.
    """
    settings = settings_of(results)
    if x or by:
        raise SweepError("tornado: shows every axis; leave --x and --by out")
    outcome = settings.outcome(y or settings.objective)
    worth, least = settings.spread(outcome).value, settings.least(outcome)
    if not settings.axes:
        raise SweepError(f"tornado: no key takes several values in sweep {settings.name!r}")
    best = int(best_in(np.zeros(len(settings), dtype=np.int64), worth, 1, least=least)[0])
    if worth[best] == 0.0:
        raise SweepError(f"tornado: the best {outcome} is 0, of which nothing is a multiple; take another with --y")
    # what was screened out counts with its bound, which is too good if anything
    bound = settings.bound(outcome)
    bounded = np.isnan(worth) & np.isfinite(bound)
    worth = np.where(bounded, bound, worth)
    dimensions = _dimensions(results.sweep.axes, results.sweep.zipped, settings.axes)
    at_best: list[Bools] = [axis.of == axis.of[best] for axis in dimensions]
    effects = []
    for one, axis in enumerate(dimensions):
        rest = np.ones(len(settings), dtype=bool)
        for other, same in enumerate(at_best):
            if other != one:
                rest &= same
        count = len(axis.values)
        alone = best_in(np.where(rest, axis.of, -1), worth, count, least=least)
        free = best_in(axis.of, worth, count, least=least)
        effects.append(
            AxisEffect(
                key=axis.words,
                best=axis.labels[axis.of[best]],
                values=axis.labels,
                alone=_times(alone, worth, best, least=least),
                retuned=_times(free, worth, best, least=least),
                without=int((free < 0).sum()),
            )
        )
    effects.sort(key=lambda effect: (-effect.reach[0], -effect.reach[1], effect.key))
    scale = scale_of(settings.kind, outcome, [float(worth[best])])
    return SweepTornado(
        title=f"{settings.name}: which axis moves the {scale.words} most{settings.made}",
        outcome=outcome,
        scale=scale,
        least=least,
        best=float(worth[best]),
        point=settings.words(best),
        effects=tuple(effects[:_MOST]),
        others=max(0, len(effects) - _MOST),
        bounded=int(bounded.sum()),
    )


def _dimensions(axes: Iterable[str], zipped: Iterable[Iterable[str]], varied: Sequence[Axis]) -> list[Axis]:
    """Axes of the sweep, and groups whose values go together; what rules derive is neither."""
    known = {axis.key: axis for axis in varied}
    names = list(axes)
    found = [known[name] for name in names if name in known]
    taken = set(names)
    for group in zipped:
        members = [known[name] for name in group if name in known]
        taken.update(group)
        if not members:
            continue
        codes: Ints = members[0].of
        for axis in members[1:]:
            codes = np.unique(codes, return_inverse=True)[1] * len(axis.values) + axis.of
        _, first, of = np.unique(codes, return_index=True, return_inverse=True)
        values = tuple(", ".join(value_words(one.values[one.of[row]], 16) for one in members) for row in first)
        words = ", ".join(key_words(axis.key, known) for axis in members)
        found.append(Axis(words, words, values, of.astype(np.int64)))
    return found or list(varied)


def _times(rows: Ints, worth: Floats, best: int, *, least: bool) -> tuple[float, ...]:
    """How many times as bad as the best [1]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(rows >= 0, worth[rows], np.nan)
        found = values / worth[best] if least else worth[best] / values
    return tuple(float(one) if np.isfinite(one) else float("nan") for one in found)


def _largest(values: Sequence[float]) -> float:
    return max((one for one in values if not math.isnan(one)), default=1.0)


def draw_sweep_tornado(table: SweepTornado) -> "Figure":
    """A bar for each axis to its worst value with all others retuned; dots where nothing else changes."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    effects = table.effects
    scale: Callable[[float], float]
    worst = max(max(effect.reach) for effect in effects)
    wide = worst > _WIDE
    scale = (lambda one: one) if wide else (lambda one: 100.0 * (one - 1.0))
    with house_style():
        figure = titled(PRINT_WIDTH, 1.8 + 0.36 * len(effects), table.title)
        ax = figure.subplots()
        start = scale(1.0)
        for row, effect in enumerate(effects):
            rows = [row] * len(effect.values)
            end = scale(effect.reach[0])
            ax.barh(row, end - start, left=start, height=0.62, color=GROUP_COLOURS[5], linewidth=0)
            ax.plot(
                [scale(one) for one in effect.retuned], [row] * len(effect.values), "|", color="black", markersize=9
            )
            ax.plot(
                [scale(one) for one in effect.alone], rows, "o", color="white", markersize=4.5,
                markeredgecolor=GROUP_COLOURS[1], markeredgewidth=1.2, zorder=4,
            )  # fmt: skip
            _words(ax, effect, row, scale)
        if wide:
            log_axis(ax, "x", [1.0, worst * 2.0])
            ax.set_xlim(left=worst**-0.02)
        else:
            ax.set_xlim(-0.02 * scale(worst), max(scale(worst) * 1.4, 1.0))
        ax.set_yticks(range(len(effects)), [f"{effect.key} = {effect.best}" for effect in effects], fontsize=8)
        ax.set_ylim(len(effects) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        words = outcome_words(table.outcome)
        over = f"{words} / that of the best" if table.least else f"{words} of the best / that here"
        ax.set_xlabel(f"{over} [1]" if wide else f"{over} - 1 [%]")
        grid_of(ax, "x")
        handles = [
            Patch(color=GROUP_COLOURS[5], label="to the worst value, others retuned"),
            Line2D([], [], color="black", linestyle="", marker="|", markersize=9, label="each value, others retuned"),
            Line2D(
                [], [], color="white", linestyle="", marker="o", markersize=4.5, markeredgecolor=GROUP_COLOURS[1],
                markeredgewidth=1.2, label="each value, nothing else changed (in brackets)",
            ),
        ]  # fmt: skip
        lost = [f"{effect.without} of {effect.key}" for effect in effects if effect.without]
        none = f" Values at which nothing can be simulated: {', '.join(lost)}." if lost else ""
        more = f" {table.others} axes that matter less are left out." if table.others else ""
        if table.bounded:
            more = f"{more} {table.bounded:,} points that were screened out count with their bounds."
        foot(figure, handles, f"Best: {table.scale.shown(table.best)} at {table.point}.{none}{more}", columns=3)
        return figure


def _factor(times: float) -> str:
    return f"x {times:.3g}" if times >= 2.0 else f"+{100.0 * (times - 1.0):.3g}%"


def _words(ax: "Axes", effect: AxisEffect, row: int, scale: Callable[[float], float]) -> None:
    """The worst value, beyond everything of its row."""
    retuned, alone = effect.reach
    if max(retuned, alone) < 1.0 + _SAME:
        words, end = "no difference", 1.0
    elif max(retuned, alone) < 1.0 + _LITTLE:
        words, end = "less than 0.01%", 1.0
    else:
        found = effect.retuned if retuned > 1.0 + _SAME else effect.alone
        worst = max((one, -at) for at, one in enumerate(found) if not math.isnan(one))
        words, end = f"{effect.values[-worst[1]]}: {_factor(worst[0])}", max(retuned, alone)
        # the label stands beside the circle, which is further out
        as_is = effect.alone[-worst[1]]
        if as_is > worst[0] * (1.0 + _LITTLE):
            words = f"{words} ({_factor(as_is)})"
        elif alone > worst[0] * (1.0 + _LITTLE):
            words = f"{words}; {effect.values[effect.alone.index(alone)]}: ({_factor(alone)})"
    ax.annotate(
        words,
        (scale(end), row),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
    )
