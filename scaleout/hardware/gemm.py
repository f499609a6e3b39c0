"""Time of one matrix multiplication on one chip: tiles, waves, HBM and L2; and of the cast before it.

The library's choice of kernel is stood in for by the best of a small menu. A chip's constants are
packed into a vector once; a shape is then a function of numbers, plain or compiled. Equations,
constants and validity are in ``docs/gemm.md``; those of systolic arrays and of tables of measurements,
which the same vector may hold instead or besides, in ``docs/backends.md``.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.errors import SpecError, near
from scaleout.hardware.formats import SAME_UNITS, format_of
from scaleout.hardware.systolic import array_seconds, array_vector
from scaleout.hardware.table import correction, lines
from scaleout.hardware.vector import (
    CAP,
    CORES,
    FREE,
    FREE_HBM,
    HBM,
    IDLE,
    KIND,
    LAUNCH,
    LEFT,
    MENU,
    NORM,
    PARTS,
    RESIDENT,
    RIGHT,
    SPLIT,
    SPLITS,
    SYSTOLIC,
    TABLE,
    TAIL,
    TILE,
    TILES,
    VECTOR,
    VECTOR_LAUNCH,
    joined,
)
from scaleout.specs import Chip, GemmConstants, SystolicConstants

__all__ = [
    "Menu", "gemm_beside", "gemm_constants", "gemm_seconds", "gemm_vector", "joined",
    "measured_products", "menu", "quantise_seconds", "quantise_vector", "table_residual",
]  # fmt: skip


_WIDE = 1 / 128 + 1 / 256
"""Edge over area of the tile whose efficiency is `compute_efficiency`."""
_HELD_TAIL = 0.61
"""Share of a wave by which blocks that find no free core lengthen a kernel [1]: one of 132 blocks on an H100
falls from 80 to 47 % of peak beside an all-gather of 24 (forums.developer.nvidia.com, 337991)."""

_LINES = 3
"""Slots of a table before its lines: dense rate, HBM's rate, and the rate that long runs hold."""
_TRIED = 20
"""Lines of a table that its error is judged by, spread evenly."""


def gemm_constants(chip: Chip, dtype: str) -> GemmConstants | SystolicConstants:
    """Constants of a dtype; those of a dtype that runs on the same units stand in where it has none.

    Raises
    ------
    SpecError
        The chip has none.
    """
    for name in (dtype, SAME_UNITS.get(dtype, dtype)):
        if name in chip.gemm:
            return chip.gemm[name]
    accepted = (
        near(dtype, chip.gemm) if chip.gemm else "its file needs gemm: {bf16: ...}, or like: NAME of one that has"
    )
    raise SpecError(f"chip {chip.name!r} has no gemm constants for {dtype!r}; {accepted}")


def gemm_vector(chip: Chip, dtype: str, *, sustained: bool = False, warm: bool = False) -> Floats:
    """Constants of `gemm_seconds`, packed.

    Parameters
    ----------
    sustained
        In a long run, whose rate the power cap holds down (`Chip.sustained`), not in a short burst.
    warm
        The same operands were used just before, as in the loop of a benchmark.

    Raises
    ------
    SpecError
        The chip has no rate or no constants for the dtype.
    """
    if measured_products(chip, dtype):
        # rows of a table are many, and each is timed once
        return _with_table(chip, dtype, sustained, warm)
    return _modelled(chip, dtype, sustained, warm)


def _modelled(chip: Chip, dtype: str, sustained: bool, warm: bool) -> Floats:
    """The vector without a table."""
    c, shape = gemm_constants(chip, dtype), format_of(dtype)
    if isinstance(c, SystolicConstants):
        return array_vector(chip, c, dtype, sustained)
    rate = chip.flops(shape.rate) * c.compute_efficiency / c.work / chip.cores
    vector = 0.0 if c.vector_efficiency is None else chip.flops("fp32") * c.vector_efficiency
    head = [
        chip.cores, chip.hbm_bandwidth * c.hbm_efficiency, shape.left, shape.right, c.norm, c.launch, c.tile_overhead,
        c.split_overhead, 8.0 * c.split_traffic / chip.hbm_bandwidth, c.wave_tail, c.idle_cores, vector,
        c.vector_launch, c.l2_resident if warm else 0.0, len(c.tiles), len(c.splits),
        chip.sustained.get(shape.rate, 0.0) / c.work if sustained else 0.0, 1.0, 1.0, 0.0, 0.0,
    ]  # fmt: skip
    menu = []
    for rows, columns in c.sides():
        edge = max(0.0, 1.0 / rows + 1.0 / columns - _WIDE)
        work = 2.0 * rows * columns / rate * (1.0 + 64.0 * c.halo * edge)
        loads = 0.0
        if c.l2_ratio is not None:
            loads = (rows * shape.left + columns * shape.right) * chip.cores / (chip.hbm_bandwidth * c.l2_ratio)
        menu += [rows, columns, joined(work, loads, c.norm)]
    return np.array([*head, *c.splits, *menu], dtype=np.float64)


def measured_products(chip: Chip, dtype: str) -> tuple[tuple[float, ...], ...]:
    """Rows m, n, k and seconds of the chip's own table for a dtype, or for one on the same units; often none."""
    table = chip.tables.get("gemm")
    if table is None:
        return ()
    return table.rows.get(dtype) or table.rows.get(SAME_UNITS.get(dtype, dtype)) or ()


@lru_cache(maxsize=32)
def _with_table(chip: Chip, dtype: str, sustained: bool, warm: bool) -> Floats:
    """The vector with the chip's table behind it."""
    model, cast, shape = _modelled(chip, dtype, False, warm), quantise_vector(chip, dtype), format_of(dtype)
    peak, hbm = chip.flops(shape.rate), chip.hbm_bandwidth
    points = []
    for m, n, k, whole in measured_products(chip, dtype):
        least = max(2.0 * m * n * k / peak, (m * k * shape.left + k * n * shape.right + 2.0 * m * n) / hbm)
        # the cast is in the row, and an operator of its own here
        alone = max(least, whole - quantise_seconds(m * k, cast))
        points.append((math.log2(m), math.log2(n), math.log2(k), math.log(alone / gemm_seconds(m, n, k, 2.0, model))))
    start = len(model)
    packed = np.array([*model, peak, hbm, chip.sustained.get(shape.rate, 0.0) if sustained else 0.0])
    packed[KIND] += 1.0
    packed[TABLE] = start
    return np.array([*packed, *lines(points, start + _LINES)])


@lru_cache(maxsize=32)
def table_residual(chip: Chip, dtype: str) -> float:
    """Mean absolute error of the table at its own rows, each told by the lines that it is not in [1]."""
    c = _with_table(chip, dtype, False, False)
    start = int(c[TABLE]) + _LINES
    count = int(c[start])
    found = []
    for line in range(0, count, max(1, count // _TRIED)):
        x, y, first, length = c[start + 1 + 4 * line : start + 5 + 4 * line].tolist()
        for at in range(int(first), int(first) + 2 * int(length), 2):
            guess = correction(float(c[at]), x, y, c, start, line)
            found.append(abs(math.expm1(guess - float(c[at + 1]))))
    return math.fsum(found) / len(found)


def gemm_beside(c: Floats, cores: float, hbm: float) -> Floats:
    """Constants with these shares of the cores and of HBM's rate left [1]."""
    less = c.copy()
    less[FREE], less[FREE_HBM] = cores, hbm
    return less


@compilable
def gemm_seconds(m: float, n: float, k: float, out_bytes: float, c: Floats, groups: float = 1.0) -> float:
    """Time of C[m, n] = A[m, k] B[k, n] [s].

    Parameters
    ----------
    out_bytes
        Traffic of an element of C [byte]: 2 for bf16, 8 for an fp32 sum read and written.
    c
        From `gemm_vector`.
    groups
        So many products of this shape, each with operands of its own, in one kernel: their tiles share the waves.
    """
    kind = float(c[KIND])
    if kind >= SYSTOLIC:
        seconds = array_seconds(m, n, k, out_bytes, c, groups)
        return _measured(seconds, m, n, k, out_bytes, c, groups) if kind > SYSTOLIC else seconds
    cores, norm, tail, idle = float(c[CORES]), float(c[NORM]), float(c[TAIL]), float(c[IDLE])
    tile_overhead, splits = float(c[TILE]), int(c[SPLITS])
    traffic = groups * (m * k * float(c[LEFT]) + k * n * float(c[RIGHT]) + m * n * out_bytes)
    hbm = traffic / float(c[HBM])
    if c[RESIDENT] > 0.0:
        # least recently used: a set that does not fit is thrown out before it is read again
        share = min(1.0, float(c[RESIDENT]) / traffic)
        hbm *= 1.0 - share * share * share
    best, beside, free, free_hbm = math.inf, 0.0, float(c[FREE]), float(c[FREE_HBM])
    shared = free < 1.0 or free_hbm < 1.0
    if c[VECTOR] > 0.0:
        best = float(c[VECTOR_LAUNCH]) + joined(groups * 2.0 * m * n * k / float(c[VECTOR]), hbm, norm)
        beside = float(c[VECTOR_LAUNCH]) + joined(
            groups * 2.0 * m * n * k / float(c[VECTOR]) / free, hbm / free_hbm, norm
        )
    for tile in range(int(c[TILES])):
        at = MENU + splits + 3 * tile
        grid = groups * math.ceil(m / float(c[at])) * math.ceil(n / float(c[at + 1]))
        unit = float(c[at + 2])
        for choice in range(splits):
            split = float(c[MENU + choice])
            tiles = grid * split
            full = math.floor(tiles / cores)
            part = tiles / cores - full
            waves = full + (tail + (1.0 - tail) * part if part > 0.0 else 0.0)
            one = math.ceil(k / split) * unit
            work = max(1.0, waves) * one
            extra = tile_overhead * max(0.0, math.ceil(tiles / cores) - 1.0)
            if choice > 0:
                extra += float(c[SPLIT]) + m * n * split * float(c[PARTS])
            starved = hbm * (1.0 + idle * max(0.0, cores / tiles - 1.0))
            if max(work, starved) + extra < best:
                seconds = extra + joined(work, starved, norm)
                if shared and seconds < best:
                    # the library has chosen for a whole chip
                    beside = extra + joined(
                        one * _waves_beside(tiles, cores * free, tail, waves), starved / free_hbm, norm
                    )
                best = min(best, seconds)
            if tiles >= cores or groups > 1.0:
                # every core has work, or the kernel is one of many products: the library splits no further
                break
    if shared:
        best = max(best, beside)
    if c[CAP] > 0.0:
        best = max(best, groups * 2.0 * m * n * k / float(c[CAP]))
    if kind > 0.0:
        return _measured(float(c[LAUNCH]) + best, m, n, k, out_bytes, c, groups)
    return float(c[LAUNCH]) + best


@compilable
def _measured(seconds: float, m: float, n: float, k: float, out_bytes: float, c: Floats, groups: float) -> float:
    """Time by the table behind a vector, of a kernel that the model gives so many seconds [s].

    Kernels of many products are not in a table. No time is below what the data sheet allows.
    """
    at, flop = int(c[TABLE]), groups * 2.0 * m * n * k
    if groups == 1.0:
        seconds *= math.exp(correction(math.log2(m), math.log2(n), math.log2(k), c, at + _LINES))
        traffic = m * k * float(c[LEFT]) + k * n * float(c[RIGHT]) + m * n * out_bytes
        seconds = max(seconds, flop / float(c[at]), traffic / float(c[at + 1]))
    if c[at + 2] > 0.0:
        seconds = max(seconds, float(c[LAUNCH]) + flop / float(c[at + 2]))
    return seconds


class Menu(NamedTuple):
    """What of a vector of `gemm_vector` a kernel of many products needs; tiles as rows, columns and time of a step
    along k [s]."""

    cores: float
    hbm: float
    left: float
    right: float
    norm: float
    overhead: float
    tail: float
    idle: float
    tiles: tuple[tuple[float, float, float], ...]


def menu(vector: Floats) -> Menu:
    """The vector of tiles by names."""
    c = vector.tolist()
    start = MENU + int(c[SPLITS])
    tiles = tuple((c[at], c[at + 1], c[at + 2]) for at in range(start, start + 3 * int(c[TILES]), 3))
    return Menu(c[CORES], c[HBM], c[LEFT], c[RIGHT], c[NORM], c[TILE], c[TAIL], c[IDLE], tiles)


@compilable
def _waves_beside(tiles: float, free: float, tail: float, alone: float) -> float:
    """Waves of tiles over the cores that are free; `alone` of them over all."""
    full = math.floor(tiles / free)
    part = tiles / free - full
    tail = max(tail, _HELD_TAIL)
    return max(1.0, alone, full + (tail + (1.0 - tail) * part if part > 0.0 else 0.0))


def quantise_vector(chip: Chip, dtype: str) -> Floats:
    """Constants of `quantise_seconds`, packed; zeros where the dtype needs no pass of its own."""
    c, shape = gemm_constants(chip, dtype).quantise, format_of(dtype)
    if c is None:
        return np.zeros(2)
    return np.array([c.launch, (2.0 + shape.left) / (chip.hbm_bandwidth * c.hbm_efficiency)], dtype=np.float64)


@compilable
def quantise_seconds(elements: float, c: Floats) -> float:
    """Time to bring so many 16-bit activations to the narrow format [s]; `c` from `quantise_vector`."""
    return float(c[0]) + elements * float(c[1])
