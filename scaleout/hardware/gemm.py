"""Time of one matrix multiplication on one chip: tiles, waves, HBM and L2; and of the cast before it.

The library's choice of kernel is stood in for by the best of a small menu. A chip's constants are
packed into a vector once; a shape is then a function of numbers, plain or compiled. Equations,
constants and validity are in ``docs/gemm.md``.
"""

import math
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.errors import SpecError, near
from scaleout.hardware.formats import SAME_UNITS, format_of
from scaleout.specs import Chip, GemmConstants

__all__ = [
    "Menu", "gemm_beside", "gemm_constants", "gemm_seconds", "gemm_vector", "joined", "menu",
    "quantise_seconds", "quantise_vector",
]  # fmt: skip


# slots of the vector of `gemm_vector`
_CORES, _HBM, _LEFT, _RIGHT, _NORM, _LAUNCH, _TILE, _SPLIT, _PARTS = 0, 1, 2, 3, 4, 5, 6, 7, 8
_TAIL, _IDLE, _VECTOR, _VECTOR_LAUNCH, _RESIDENT, _TILES, _SPLITS, _CAP = 9, 10, 11, 12, 13, 14, 15, 16
_FREE, _FREE_HBM, _MENU = 17, 18, 19

_WIDE = 1 / 128 + 1 / 256
"""Edge over area of the tile whose efficiency is `compute_efficiency`."""
_HELD_TAIL = 0.61
"""Share of a wave by which blocks that find no free core lengthen a kernel [1]: one of 132 blocks on an H100
falls from 80 to 47 % of peak beside an all-gather of 24 (forums.developer.nvidia.com, 337991)."""


def gemm_constants(chip: Chip, dtype: str) -> GemmConstants:
    """Constants of a dtype; those of a dtype that runs on the same units stand in where it has none.

    Raises
    ------
    SpecError
        The chip has none.
    """
    for name in (dtype, SAME_UNITS.get(dtype, dtype)):
        if name in chip.gemm:
            return chip.gemm[name]
    accepted = near(dtype, chip.gemm) if chip.gemm else "its file needs gemm: {bf16: ...}, as in docs/gemm.md"
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
    c, shape = gemm_constants(chip, dtype), format_of(dtype)
    rate = chip.flops(shape.rate) * c.compute_efficiency / c.work / chip.cores
    vector = 0.0 if c.vector_efficiency is None else chip.flops("fp32") * c.vector_efficiency
    head = [
        chip.cores, chip.hbm_bandwidth * c.hbm_efficiency, shape.left, shape.right, c.norm, c.launch, c.tile_overhead,
        c.split_overhead, 8.0 * c.split_traffic / chip.hbm_bandwidth, c.wave_tail, c.idle_cores, vector,
        c.vector_launch, c.l2_resident if warm else 0.0, len(c.tiles), len(c.splits),
        chip.sustained.get(shape.rate, 0.0) / c.work if sustained else 0.0, 1.0, 1.0,
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


def gemm_beside(c: Floats, cores: float, hbm: float) -> Floats:
    """Constants with these shares of the cores and of HBM's rate left [1]."""
    less = c.copy()
    less[_FREE], less[_FREE_HBM] = cores, hbm
    return less


@compilable
def joined(a: float, b: float, norm: float) -> float:
    """Time of two kinds of work that partly hide each other [s]."""
    longest = max(a, b)
    seconds: float = longest * (1.0 + (min(a, b) / longest) ** norm) ** (1.0 / norm)
    return seconds


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
    cores, norm, tail, idle = float(c[_CORES]), float(c[_NORM]), float(c[_TAIL]), float(c[_IDLE])
    tile_overhead, splits = float(c[_TILE]), int(c[_SPLITS])
    traffic = groups * (m * k * float(c[_LEFT]) + k * n * float(c[_RIGHT]) + m * n * out_bytes)
    hbm = traffic / float(c[_HBM])
    if c[_RESIDENT] > 0.0:
        # least recently used: a set that does not fit is thrown out before it is read again
        share = min(1.0, float(c[_RESIDENT]) / traffic)
        hbm *= 1.0 - share * share * share
    best, beside, free, free_hbm = math.inf, 0.0, float(c[_FREE]), float(c[_FREE_HBM])
    shared = free < 1.0 or free_hbm < 1.0
    if c[_VECTOR] > 0.0:
        best = float(c[_VECTOR_LAUNCH]) + joined(groups * 2.0 * m * n * k / float(c[_VECTOR]), hbm, norm)
        beside = float(c[_VECTOR_LAUNCH]) + joined(
            groups * 2.0 * m * n * k / float(c[_VECTOR]) / free, hbm / free_hbm, norm
        )
    for tile in range(int(c[_TILES])):
        at = _MENU + splits + 3 * tile
        grid = groups * math.ceil(m / float(c[at])) * math.ceil(n / float(c[at + 1]))
        unit = float(c[at + 2])
        for choice in range(splits):
            split = float(c[_MENU + choice])
            tiles = grid * split
            full = math.floor(tiles / cores)
            part = tiles / cores - full
            waves = full + (tail + (1.0 - tail) * part if part > 0.0 else 0.0)
            one = math.ceil(k / split) * unit
            work = max(1.0, waves) * one
            extra = tile_overhead * max(0.0, math.ceil(tiles / cores) - 1.0)
            if choice > 0:
                extra += float(c[_SPLIT]) + m * n * split * float(c[_PARTS])
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
    if c[_CAP] > 0.0:
        best = max(best, groups * 2.0 * m * n * k / float(c[_CAP]))
    return float(c[_LAUNCH]) + best


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
    """The vector by names."""
    c = vector.tolist()
    start = _MENU + int(c[_SPLITS])
    tiles = tuple((c[at], c[at + 1], c[at + 2]) for at in range(start, start + 3 * int(c[_TILES]), 3))
    return Menu(c[_CORES], c[_HBM], c[_LEFT], c[_RIGHT], c[_NORM], c[_TILE], c[_TAIL], c[_IDLE], tiles)


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
