"""A Gantt chart of requests: waiting, prompt, cache on its way, reply."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.report.style import house_style, new_figure
from scaleout.serving.log import Log
from scaleout.serving.request import STATES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

__all__ = ["Bar", "draw_requests", "request_bars", "requests_csv"]

_MOST = 60
"""Requests of a chart."""
_COLOURS = {"waiting": "#DDDDDD", "prompt": "#E69F00", "cache on its way": "#CC79A7", "reply": "#0072B2"}
_STOPPED = {"rejected": "x", "failed": "X"}
_HEADER = (
    "request,arrival_s,input_tokens,output_tokens,state,replica,queue_s,ttft_s,tpot_s,latency_s,cached_tokens,"
    "preemptions\n"
)


class Bar(NamedTuple):
    """A request.

    Parameters
    ----------
    number
        In the order of arrival.
    parts
        Kind, from when to when [s].
    state
        How it ended.
    end
        When [s].
    preempted
        How often it lost its seat.
    """

    number: int
    parts: tuple[tuple[str, float, float], ...]
    state: str
    end: float
    preempted: int


def request_bars(log: Log, most: int = _MOST) -> list[Bar]:
    """The first requests, in the order of their arrival."""
    start = min(log.arrival, default=0)
    moved = {row[2]: (row[0], row[1]) for row in log.transfers}
    order = np.argsort(np.asarray(log.number), kind="stable")[:most].tolist()
    found = []
    for at in order:
        times = [log.arrival[at], log.scheduled[at], log.first[at], log.finish[at]]
        number = log.number[at]
        sent = moved.get(number)
        marks: list[tuple[str, int, int]] = []
        if times[1] < 0:
            marks.append(("waiting", times[0], times[3]))
        elif times[2] < 0:
            marks += [("waiting", times[0], times[1]), ("prompt", times[1], times[3])]
        else:
            marks += [("waiting", times[0], times[1]), ("prompt", times[1], times[2])]
            # for room on another replica, and for its cache
            marks += [("waiting", times[2], sent[0]), ("cache on its way", *sent)] if sent else []
            marks.append(("reply", sent[1] if sent else times[2], times[3]))
        parts = tuple(
            (kind, (a - start) / TICKS_PER_SECOND, (b - start) / TICKS_PER_SECOND) for kind, a, b in marks if b > a
        )
        state = STATES[log.state[at]]
        found.append(Bar(number, parts, state, (times[3] - start) / TICKS_PER_SECOND, log.preempted[at]))
    return found


def draw_requests(bars: Sequence[Bar], title: str) -> "Figure":
    """A line a request, from its arrival to its end."""
    from matplotlib.patches import Patch

    with house_style():
        figure = new_figure(8.0, max(2.4, 1.3 + 0.1 * len(bars)))
        ax = figure.subplots()
        for row, bar in enumerate(bars):
            for kind, begin, end in bar.parts:
                ax.barh(row, end - begin, left=begin, height=0.8, color=_COLOURS[kind], linewidth=0)
            if bar.preempted:
                ax.plot(bar.end, row, marker="<", color="#D55E00", markersize=4, clip_on=False)
            if bar.state in _STOPPED:
                ax.plot(bar.end, row, marker=_STOPPED[bar.state], color="#000000", markersize=4, clip_on=False)
        kinds = {kind for bar in bars for kind, _, _ in bar.parts}
        handles: list[Artist] = [Patch(color=colour, label=kind) for kind, colour in _COLOURS.items() if kind in kinds]
        marks = [("lost its seat on the way", "<", "#D55E00", any(bar.preempted for bar in bars))]
        marks += [(state, mark, "#000000", any(bar.state == state for bar in bars)) for state, mark in _STOPPED.items()]
        for words, mark, colour, there in marks:
            if there:
                handles += ax.plot([], [], linestyle="", marker=mark, color=colour, markersize=4, label=words)
        ax.set_ylim(len(bars) - 0.4, -0.6)
        ax.set_xlim(left=0.0)
        ax.set_xlabel("time since the first arrival [s]")
        ax.set_ylabel("request, in the order of arrival")
        figure.legend(handles=handles, loc="outside lower center", ncols=max(1, len(handles)), fontsize=8)
        ax.set_title(f"{title}: the first {len(bars)} requests")
        return figure


def requests_csv(log: Log) -> bytes:
    """A line a request in the order of arrival; empty cells for what has not happened."""
    start = min(log.arrival, default=0)
    lines = [_HEADER]

    def seconds(ticks: int) -> str:
        return f"{ticks / TICKS_PER_SECOND:.9g}"

    for at in np.argsort(np.asarray(log.number), kind="stable").tolist():
        arrival, scheduled, first, finish = (
            getattr(log, name)[at] for name in ("arrival", "scheduled", "first", "finish")
        )
        state, outputs = STATES[log.state[at]], log.outputs[at]
        done = state == "served"
        cells = (
            str(log.number[at]), seconds(arrival - start), str(log.inputs[at]), str(outputs), state,
            str(log.replica[at]) if log.replica[at] >= 0 else "",
            seconds(scheduled - arrival) if scheduled >= 0 else "",
            seconds(first - arrival) if first >= 0 else "",
            seconds((finish - first) // (outputs - 1)) if done and outputs > 1 else "",
            seconds(finish - arrival) if done else "", str(log.cached[at]), str(log.preempted[at]),
        )  # fmt: skip
        lines.append(",".join(cells) + "\n")
    return "".join(lines).encode()
