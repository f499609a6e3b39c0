"""What chips do in the first moments of a stream, and latencies beside deadlines."""

from typing import TYPE_CHECKING, NamedTuple

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.report.style import GROUP_COLOURS, house_style, new_figure
from scaleout.serving.streams import Streams
from scaleout.streamed import StreamResult

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

__all__ = ["Curve", "Picture", "draw_stream", "stream_picture"]

_WINDOW = 0.2
"""Of the chart at least [s]."""
_MOST = 3.0
"""Latencies of the slowest source that the chart shows, where that is more [1]."""


class Curve(NamedTuple):
    """Latencies of a source in order [s], how many items came, and its deadline [s]."""

    name: str
    latencies: tuple[float, ...]
    came: int
    deadline: float | None


class Picture(NamedTuple):
    """What is drawn.

    Parameters
    ----------
    window
        From when to when the chart goes [s].
    rows
        Of each stage: name, number of its chip; from when to when it waited for the chip, and worked on it [s].
    comings
        Of each source: name, when its items came [s].
    """

    title: str
    window: tuple[float, float]
    rows: tuple[tuple[str, int, tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]], ...]
    comings: tuple[tuple[str, tuple[float, ...]], ...]
    curves: tuple[Curve, ...]


def stream_picture(result: StreamResult, streams: Streams) -> Picture:
    """Of a run: from the first item of the slowest source on."""
    second = 1.0 / TICKS_PER_SECOND
    slowest = max(range(len(result.sources)), key=lambda at: result.sources[at].latency.mean)
    start = min((item.came for item in streams.items if item.source == slowest), default=0) * second
    low = max(0.0, start - 0.02 * _WINDOW)
    high = low + max(_WINDOW, _MOST * result.sources[slowest].latency.mean)
    rows = []
    for at, stage in enumerate(streams.stages):
        jobs = [job for job in streams.jobs if job.stage == at and job.ended >= 0]
        waits = [(job.queued * second, job.started * second) for job in jobs if job.started > job.queued]
        works = [(begin * second, end * second) for job in jobs for begin, end in job.spans]
        rows.append((stage.name, stage.chip, _inside(waits, low, high), _inside(works, low, high)))
    comings = tuple(
        (
            source.name,
            tuple(
                item.came * second for item in streams.items if item.source == at and low <= item.came * second < high
            ),
        )
        for at, source in enumerate(result.sources)
    )
    curves = tuple(
        Curve(
            source.name,
            tuple(sorted((i.ended - i.came) * second for i in streams.items if i.source == at and i.ended >= 0)),
            source.came,
            source.deadline,
        )
        for at, source in enumerate(result.sources)
    )
    return Picture(result.name, (low, high), tuple(rows), comings, curves)


def _inside(spans: list[tuple[float, float]], low: float, high: float) -> tuple[tuple[float, float], ...]:
    return tuple((max(begin, low), min(end, high)) for begin, end in spans if begin < high and end > low)


def draw_stream(picture: Picture) -> "Figure":
    """Stages over time above, shares of items by latency below."""
    from matplotlib.patches import Patch

    low, high = picture.window
    lines = len(picture.rows) + len(picture.comings)
    with house_style():
        figure = new_figure(8.0, 4.2 + 0.25 * lines)
        above, below = figure.subplots(2, 1, height_ratios=(1.0 + 0.25 * lines, 2.4))
        names = []
        for row, (name, times) in enumerate(picture.comings):
            above.plot([1e3 * (time - low) for time in times], [row] * len(times), "|", color="#000000", markersize=9)
            names.append(f"{name}: items")
        for at, (name, chip, waits, works) in enumerate(picture.rows):
            row = len(picture.comings) + at
            for spans, colour, height in (
                (waits, "#DDDDDD", 0.4), (works, GROUP_COLOURS[at % len(GROUP_COLOURS)], 0.7),
            ):  # fmt: skip
                above.broken_barh(
                    [(1e3 * (begin - low), 1e3 * (end - begin)) for begin, end in spans],
                    (row - height / 2, height), color=colour, linewidth=0,
                )  # fmt: skip
            names.append(f"{name} (chip {chip})")
        above.set_yticks(range(lines), names)
        above.set_ylim(lines - 0.5, -0.5)
        above.set_xlim(0.0, 1e3 * (high - low))
        above.set_xlabel(f"time since {low:.4g} s [ms]")
        above.set_title(picture.title)
        handles: list[Artist] = [Patch(color="#DDDDDD", label="waits for the chip")]
        if any(waits for _, _, waits, _ in picture.rows):
            above.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
        for at, curve in enumerate(picture.curves):
            colour, count = GROUP_COLOURS[at % len(GROUP_COLOURS)], max(1, curve.came)
            shares = [(place + 1) / count for place in range(len(curve.latencies))]
            first = curve.latencies[0] if curve.latencies else 0.0
            below.plot(
                [1e3 * time for time in (first, *curve.latencies)], [0.0, *shares], drawstyle="steps-post",
                color=colour, label=curve.name,
            )  # fmt: skip
            if curve.deadline is not None:
                below.axvline(1e3 * curve.deadline, color=colour, linestyle="--", label=f"{curve.name}: deadline")
        below.set_xlim(left=0.0)
        below.set_ylim(0.0, 1.02)
        below.set_xlabel("latency [ms]")
        below.set_ylabel("share of the items that came [1]")
        below.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
        return figure
