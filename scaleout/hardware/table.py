"""Measured kernels beside a model: what the model misses at the rows of a table, in between, and further out.

A table is laid out in lines, along which one side of the shape varies (m of a product, the length of
attention) while two others stand still. The equations are in ``docs/backends.md``.
"""

import math
from collections.abc import Iterable

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.specs import Chip

__all__ = ["FAR", "correction", "lines", "told_tables"]

FAR = 3.0
"""Octaves from the nearest line at which nothing is left of a table [1]."""
_AROUND = 1.5
"""Lines count up to this multiple of the distance of the fourth [1]."""


def lines(points: Iterable[tuple[float, float, float, float]], start: int) -> list[float]:
    """A table as `correction` reads it from slot `start` on.

    Parameters
    ----------
    points
        Logarithms to base 2 of what varies and of the two that stand still, and logarithm of measured over modelled
        time; where one shape is there twice, the mean counts.
    """
    found: dict[tuple[float, float], dict[float, list[float]]] = {}
    for along, x, y, ratio in points:
        found.setdefault((x, y), {}).setdefault(along, []).append(ratio)
    head, body = [float(len(found))], list[float]()
    first = start + 1 + 4 * len(found)
    for (x, y), line in sorted(found.items()):
        head += [x, y, float(first + len(body)), float(len(line))]
        for along, ratios in sorted(line.items()):
            body += [along, math.fsum(ratios) / len(ratios)]
    return head + body


def told_tables(chip: Chip) -> list[tuple[str, str, str]]:
    """Of each table of a chip: what it is of, how many rows are used and left out, and SHA-256 of its file."""
    names = {"gemm": "measured products", "attention": "measured attention"}
    return [
        (
            names[kind],
            f"{table.count:,} rows of {table.file}"
            + (f"; {table.left_out:,} left out, faster than the data sheet allows" if table.left_out else ""),
            table.digest,
        )
        for kind, table in sorted(chip.tables.items())
    ]


@compilable
def _apart(along: float, x: float, y: float, c: Floats, at: int) -> float:
    """Distance of a shape to a line whose head is at a slot, its own length included [octave]."""
    dx, dy = x - float(c[at]), y - float(c[at + 1])
    first, count = int(c[at + 2]), int(c[at + 3])
    beyond = max(0.0, float(c[first]) - along, along - float(c[first + 2 * (count - 1)]))
    return math.sqrt(dx * dx + dy * dy + beyond * beyond)


@compilable
def _on_line(along: float, c: Floats, at: int) -> float:
    """Of the line whose head is at a slot: straight between its points, level beyond them."""
    first, count = int(c[at + 2]), int(c[at + 3])
    low, high = 0, count - 1
    if along <= c[first]:
        return float(c[first + 1])
    if along >= c[first + 2 * high]:
        return float(c[first + 2 * high + 1])
    while high - low > 1:
        middle = (low + high) // 2
        if c[first + 2 * middle] <= along:
            low = middle
        else:
            high = middle
    left, right = float(c[first + 2 * low]), float(c[first + 2 * high])
    share = (along - left) / (right - left)
    return float(c[first + 2 * low + 1]) * (1.0 - share) + float(c[first + 2 * high + 1]) * share


@compilable
def correction(along: float, x: float, y: float, c: Floats, start: int, skip: int = -1) -> float:
    """Logarithm of measured over modelled time, of a shape in logarithms to base 2.

    Parameters
    ----------
    c, start
        A vector, and the slot from which on `lines` stands in it.
    skip
        A line that is taken as not being there.
    """
    count, first = int(c[start]), start + 1
    d1, d2, d3, d4, nearest = math.inf, math.inf, math.inf, math.inf, -1
    for line in range(count):
        d = _apart(along, x, y, c, first + 4 * line)
        if d >= d4 or line == skip:
            continue
        if d < d1:
            d1, d2, d3, d4, nearest = d, d1, d2, d3, line
        elif d < d2:
            d2, d3, d4 = d, d2, d3
        elif d < d3:
            d3, d4 = d, d3
        else:
            d4 = d
    if d1 >= FAR:
        return 0.0
    if d1 <= 0.0:
        return _on_line(along, c, first + 4 * nearest)
    reach = d4
    if reach == math.inf:
        # fewer than four lines
        reach = d1 if d2 == math.inf else (d2 if d3 == math.inf else d3)
    reach *= _AROUND
    total, weights = 0.0, 0.0
    for line in range(count):
        d = _apart(along, x, y, c, first + 4 * line)
        if d < reach and line != skip:
            weight = (reach - d) / (reach * d)
            weight *= weight
            total += weight * _on_line(along, c, first + 4 * line)
            weights += weight
    fade = 1.0 - (d1 / FAR) * (d1 / FAR)
    return fade * fade * total / weights
