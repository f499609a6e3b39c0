"""Capacity as a table for the terminal, as a curve of times over rates, and as tokens of chips over those of users."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.capacity import Capacity, Point
from scaleout.report.style import GROUP_COLOURS, house_style, new_figure
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["capacity_tables", "draw_frontier", "draw_rates"]

_PROMISE, _GREY = "#000000", "#666666"
_BINDS = {
    "ttft": "TTFT breaks first",
    "tpot": "TPOT breaks first",
    "latency": "the time to the last token breaks first",
}
_STATES = {"stable": "", "backlogged": "backlogged", "overloaded": "overloaded", "offline": "at once"}


def capacity_tables(found: Capacity) -> RenderableType:
    """What was found, and a row a rate."""
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    names = ("req/s", "kept", "TTFT p50", "p99", "TPOT p99", "batch", "tok/s chip", "tok/s user", "")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for point in found.points:
        style = "bold green" if point.rate == found.rate else "" if point.kept else "dim"
        times = (point.ttft_p50, point.ttft_p99, point.tpot_p99)
        table.add_row(
            f"{point.rate:.4g}", f"{point.attainment:.1%}", *(_short(value) for value in times), f"{point.batch:.1f}",
            f"{point.chip_tokens:,.0f}", f"{point.user_tokens:.1f}", _STATES[point.stability], style=style,
        )  # fmt: skip
    rows: list[RenderableType] = [Text(found.name, style="bold"), Text.from_markup(_words(found)), table]
    rows += [Text.from_markup(f"[bold yellow]![/] {escape(line)}") for line in found.warnings]
    return Group(*rows)


def _words(found: Capacity) -> str:
    promise = _promise(found)
    if not found.rate:
        return f"[bold red]no rate[/] keeps {promise}"
    least = "at least " if found.above is None else ""
    words = (
        f"{least}[bold]{found.rate:.4g} requests/s[/], {found.rate_per_chip:.3g} a chip, keep {promise} "
        f"(promised {found.promise['share']:.0%})"
    )
    if found.above is None:
        return words
    binds = _BINDS.get(found.binds, "more come than are served")
    return f"{words}; at {found.above:.4g}/s {binds}, for want of {found.resource}"


def _promise(found: Capacity) -> str:
    names = {"ttft": "TTFT", "tpot": "TPOT", "latency": "latency"}
    return ", ".join(f"{word} {describe(limit, 's')}" for key, word in names.items() if (limit := found.promise[key]))


def _short(seconds: float) -> str:
    return describe(float(f"{seconds:.3g}"), "s")


def draw_rates(found: Sequence[Capacity], labels: Sequence[str]) -> "Figure":
    """TTFT and TPOT over the rate of requests, with what is promised and the highest rate that keeps it.

    Of experiments on different numbers of chips the rate is that of a chip.
    """
    each = len({one.chips for one in found}) > 1
    with house_style():
        figure = new_figure(8.0, 4.0)
        axes = figure.subplots(1, 2)
        for ax, name, words in zip(axes, ("ttft", "tpot"), ("time to the first token", "time of a token"), strict=True):
            for at, one in enumerate(found):
                _line(ax, one, name, GROUP_COLOURS[at % len(GROUP_COLOURS)], one.chips if each else 1)
            limits = sorted({limit for one in found if (limit := one.promise[name])})
            for limit in limits:
                ax.axhline(limit, color=_PROMISE, linewidth=1.0, linestyle=":")
            _scale(ax, [getattr(p, f"{name}_p{q}") for one in found for p in one.points for q in (50, 99)] + limits)
            ax.set_xlim(left=0.0)
            ax.set_xlabel("requests of a chip [1/s]" if each else "requests [1/s]")
            ax.set_ylabel(f"{words} [s]")
            ax.grid(visible=True, color="#EEEEEE", linewidth=0.6)
            ax.set_axisbelow(True)
        _key(figure, found, labels)
        figure.suptitle(_title(found), fontsize=10, fontweight="bold", x=0.01, ha="left")
        return figure


def _line(ax: "Axes", one: Capacity, name: str, colour: str, chips: int) -> None:
    """Median and 99th percentile over rates, and where the promise ends."""
    for share, style in ((99, "-"), (50, "--")):
        values = [getattr(point, f"{name}_p{share}") for point in one.points]
        ax.plot([point.rate / chips for point in one.points], values, color=colour, linestyle=style, linewidth=1.2)
    for kept in (True, False):
        mine = [(p.rate / chips, getattr(p, f"{name}_p99")) for p in one.points if p.kept is kept]
        face = colour if kept else "white"
        ax.plot(*zip(*mine, strict=True) if mine else ([], []), "o", color=colour, markersize=4, markerfacecolor=face)
    if one.rate:
        ax.axvline(one.rate / chips, color=colour, linewidth=0.8, linestyle="-.")


def _key(figure: "Figure", found: Sequence[Capacity], labels: Sequence[str]) -> None:
    """What lines and marks stand for."""
    from matplotlib.lines import Line2D

    rows: list[tuple[str, dict[str, object]]] = []
    for at, (one, label) in enumerate(zip(found, labels, strict=True)):
        words = f"{label}: {one.rate:.3g}/s keep the promise" if one.rate else f"{label}: no rate keeps the promise"
        rows.append((words, {"color": GROUP_COLOURS[at % len(GROUP_COLOURS)], "linestyle": "-."}))
    rows += [("99 % are below", {"color": _GREY}), ("half are below", {"color": _GREY, "linestyle": "--"})]
    rows += [
        ("keeps the promise", {"color": _GREY, "linestyle": "", "marker": "o", "markersize": 4}),
        ("breaks it", {"color": _GREY, "linestyle": "", "marker": "o", "markersize": 4, "markerfacecolor": "white"}),
        ("promised", {"color": _PROMISE, "linestyle": ":"}),
    ]
    handles = [Line2D([], [], linewidth=1.2, label=words, **style) for words, style in rows]  # type: ignore[arg-type]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)


def _scale(ax: "Axes", values: Sequence[float]) -> None:
    """A logarithmic axis with numbers that can be read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = min(values), max(values)
    ax.set_yscale("log")
    ax.set_ylim(low / 1.25, max(high * 1.25, low * 2.0))
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300.0 * low else (1.0,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def draw_frontier(found: Sequence[Capacity], labels: Sequence[str]) -> "Figure":
    """Tokens that a chip writes over those that a user sees; each line goes from low to high rates."""
    with house_style():
        figure = new_figure(6.5, 4.2)
        ax = figure.subplots()
        for at, one in enumerate(found):
            colour = GROUP_COLOURS[at % len(GROUP_COLOURS)]
            points = [point for point in one.points if point.user_tokens]
            ax.plot(*_both(points), color=colour, linewidth=1.2, label=labels[at])
            ax.plot(*_both([p for p in points if not p.kept]), "o", color=colour, markersize=4, markerfacecolor="white")
            ax.plot(*_both([p for p in points if p.kept]), "o", color=colour, markersize=4)
        handles, names = ax.get_legend_handles_labels()
        for face, words in ((_GREY, "keeps the promise"), ("white", "breaks it")):
            handles += ax.plot([], [], "o", color=_GREY, markersize=4, markerfacecolor=face)
            names.append(words)
        limits = sorted({limit for one in found if (limit := one.promise["tpot"])})
        for limit in limits:
            line = ax.axvline(1.0 / limit, color=_PROMISE, linewidth=1.0, linestyle=":")
            handles, names = [*handles, line], [*names, f"promised: {describe(limit, 's')} a token"]
        ax.set_xlim(left=0.0)
        ax.set_ylim(bottom=0.0)
        ax.set_xlabel("tokens of a user, over the mean TPOT [1/s]")
        ax.set_ylabel("tokens of a chip [1/s]")
        ax.grid(visible=True, color="#EEEEEE", linewidth=0.6)
        ax.set_axisbelow(True)
        figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(handles)), fontsize=8)
        ax.set_title(_title(found))
        return figure


def _both(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.user_tokens for point in points], [point.chip_tokens for point in points]


def _title(found: Sequence[Capacity]) -> str:
    names = list(dict.fromkeys(one.name for one in found))
    return names[0] if len(names) == 1 else " and ".join(dict.fromkeys(name.split(" on ")[0] for name in names))
