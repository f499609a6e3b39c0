"""How figures look: one style, colours that colour-blind readers can tell apart, same bytes each time."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS", "COST_COLOURS", "ENERGY_COLOURS", "FORMATS", "GROUP_COLOURS", "HATCHES", "LEAST_FONT", "MEMORY_COLOURS",
    "OTHER_COLOUR", "PASS_COLOURS", "PRINT_WIDTH", "headline", "house_style", "new_figure", "render", "render_as",
]  # fmt: skip

PRINT_WIDTH = 7.2
"""Of a figure on a page between its margins [inch]: at this width no text is smaller than `LEAST_FONT`."""
LEAST_FONT = 7.0
"""Of the text of a figure [point]."""

# Okabe and Ito, Color Universal Design (2008); greys for time in which nothing moves
COLOURS = {
    "compute": "#0072B2",
    "optimizer": "#56B4E9",
    "exposed_tp": "#D55E00",
    "exposed_cp": "#8C510A",
    "exposed_ep": "#000000",
    "exposed_pp": "#E69F00",
    "exposed_dp": "#CC79A7",
    "exposed_copy": "#009E73",
    "imbalance": "#999999",
    "bubble": "#DDDDDD",
}
MEMORY_COLOURS = {
    "weights": "#0072B2",
    "gradients": "#009E73",
    "optimizer": "#56B4E9",
    "activations": "#E69F00",
    "temporary": "#CC79A7",
    "reserved": "#BBBBBB",
}
ENERGY_COLOURS = {
    "idle": "#DDDDDD",
    "compute": "#0072B2",
    "vector": "#56B4E9",
    "hbm": "#009E73",
    "links": "#E69F00",
    "nodes": "#999999",
    "switches": "#CC79A7",
    "optics": "#D55E00",
    "cooling": "#8C510A",
}
COST_COLOURS = {
    "chips": "#0072B2",
    "nodes": "#999999",
    "network": "#E69F00",
    "building": "#8C510A",
    "maintenance": "#CC79A7",
    "staff": "#56B4E9",
    "electricity": "#009E73",
    "rent": "#D55E00",
}
PASS_COLOURS = {"F": "#0072B2", "B": "#009E73", "I": "#E69F00", "W": "#CC79A7", "": "#000000"}
"""Of kinds of passes; the optimizer, which is none, is black, as paler chunks look like its blue elsewhere."""
GROUP_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C510A", "#000000")
OTHER_COLOUR = "#999999"
HATCHES = {
    "#D55E00": "////", "#009E73": r"\\\\", "#E69F00": "...", "#CC79A7": "xxxx", "#56B4E9": "||||", "#8C510A": "----",
    "#999999": "++++",
}  # fmt: skip
"""Of filled areas, by their colour, which tells them apart in black and white; white lines. The others have none."""
FORMATS = {"png": {"Software": None}, "svg": {"Date": None}}
"""Kinds of figure files, and what is left out of them so that the same figure gives the same bytes."""
_LETTER = 0.66
"""Width of a bold letter over the size of its font, in the mean [1]."""
_PLACES = 7
"""Of the position of a panel, in shares of the figure."""
_STYLE = Path(__file__).parent / "scaleout.mplstyle"


@contextmanager
def house_style() -> Iterator[None]:
    """Draw inside this: every figure looks alike, whatever the user's settings are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(matplotlib.rc_params_from_file(_STYLE, use_default_template=False))
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, known to nobody else [inch]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def headline(figure: "Figure", title: str, size: float = 10.0) -> None:
    """The title of a whole figure, from its left edge, on as many lines as it needs; its font is `size` [point]."""
    room = max(12, int(figure.get_figwidth() * 72 / (size * _LETTER)))
    lines = wrap(title, room, break_on_hyphens=False)
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=size, fontweight="bold")


def render(figure: "Figure", name: str) -> dict[str, bytes]:
    """PNG and SVG by file name; the same figure gives the same bytes."""
    return {f"{name}.{kind}": render_as(figure, kind) for kind in FORMATS}


def render_as(figure: "Figure", kind: str) -> bytes:
    """A figure in one of `FORMATS`."""
    buffer = io.BytesIO()
    with house_style():
        _settle(figure)
        figure.savefig(buffer, format=kind, metadata=FORMATS[kind])
    return buffer.getvalue()


def _settle(figure: "Figure") -> None:
    """Lay a figure out once and for all.

    Places of panels come out of a solver that may differ in the last digits from run to run, and names of clip
    paths in SVG are digests of all digits: they are rounded.
    """
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in figure.axes:
        left, bottom, width, height = ax.get_position(original=True).bounds
        ax.set_position((*(round(part, _PLACES) for part in (left, bottom, width, height)),), which="original")
