"""What a fit of matrix multiplication may vary: menus of tiles, and bounds and first guess of each constant."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.hardware.formats import Format
from scaleout.specs import GemmConstants, QuantiseConstants

__all__ = ["BOUNDS", "MENUS", "Bounds", "Menu", "constants", "free", "guess"]


class Menu(NamedTuple):
    """Kernels that a library may hold: tiles of C, splits of k, and one of the vector units."""

    tiles: tuple[str, ...]
    splits: tuple[int, ...]
    vector: bool = False


_ONE = ("128x256",)
_SQUARE = ("64x64", "64x128", "128x128", "128x256")
_FLAT = ("16x128", "32x128", "64x128", "128x128", "128x256")
_SPLITS = (1, 2, 4, 8, 16)
MENUS = (
    *(Menu(tiles, splits) for tiles in (_ONE, _SQUARE, _FLAT) for splits in ((1,), _SPLITS)),
    *(Menu(tiles, splits, vector=True) for tiles in (_SQUARE, _FLAT) for splits in ((1,), _SPLITS)),
)
"""One large tile; square-ish tiles; tiles down to few rows (CUTLASS's weight-only kernels); each
whole or split over k; and with a kernel for few rows on the vector units."""


class Bounds(NamedTuple):
    """Lowest, first guess and highest value of a constant, in its own unit."""

    low: float
    first: float
    high: float


BOUNDS = {
    "compute_efficiency": Bounds(0.2, 0.75, 0.97),
    "hbm_efficiency": Bounds(0.3, 0.8, 0.92),
    "l2_ratio": Bounds(0.8, 5.0, 50.0),
    "launch": Bounds(3e-7, 3e-6, 3e-5),
    "tile_overhead": Bounds(1e-8, 3e-7, 1e-5),
    "split_overhead": Bounds(1e-7, 2e-6, 2e-5),
    "split_traffic": Bounds(1e-3, 0.3, 5.0),
    "halo": Bounds(1e-3, 0.05, 1.0),
    "wave_tail": Bounds(0.01, 0.3, 1.0),
    "norm": Bounds(1.2, 3.0, 12.0),
    "idle_cores": Bounds(1e-3, 0.05, 1.0),
    "vector_efficiency": Bounds(0.01, 0.2, 0.9),
    "vector_launch": Bounds(1e-8, 1e-6, 2e-5),
    "l2_resident": Bounds(1e6, 2e7, 1e8),
    "quantise.hbm_efficiency": Bounds(0.03, 0.4, 0.92),
    "quantise.launch": Bounds(1e-7, 2e-6, 2e-5),
}
"""No chip with stacked HBM is known to move more than 92 % of its rate: GB200, 7.35 of 8 TB/s (Azure). Of GDDR the
tables themselves say more; see `guess`."""


def free(shape: Format, menu: Menu, *, warm: bool, launch: float | None) -> tuple[str, ...]:
    """The constants that a fit varies.

    Parameters
    ----------
    warm
        The table holds kernels faster than HBM: operands stayed in L2 between turns.
    launch
        Known from another dtype; a table that holds cast and product together cannot tell
        whose launch is whose.
    """
    left_out = set()
    if len(menu.splits) == 1:
        left_out |= {"split_overhead", "split_traffic"}
    if not menu.vector:
        left_out |= {"vector_efficiency", "vector_launch"}
    if not warm:
        left_out.add("l2_resident")
    if not shape.cast:
        left_out |= {"quantise.hbm_efficiency", "quantise.launch"}
    if launch is not None:
        left_out.add("launch")
    return tuple(name for name in BOUNDS if name not in left_out)


def guess(names: Sequence[str], streamed: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """First guess, lowest and highest point: logarithms of the named constants.

    Parameters
    ----------
    streamed
        Share of HBM bandwidth at which the table has products whose operands no L2 holds [1]; above the usual
        bound it is the bound.
    """
    bounds = dict(BOUNDS)
    low, first, high = BOUNDS["hbm_efficiency"]
    bounds["hbm_efficiency"] = Bounds(low, first, min(0.99, max(high, streamed)))
    rows = np.log([bounds[name] for name in names])
    return rows[:, 1], rows[:, 0], rows[:, 2]


def constants(names: Sequence[str], point: Floats, menu: Menu, *, launch: float | None) -> GemmConstants:
    """The constants at a point, those that are not named at rest."""
    values = {name: float(value) for name, value in zip(names, np.exp(point), strict=True)}
    cast = {name.removeprefix("quantise."): values.pop(name) for name in names if name.startswith("quantise.")}
    if launch is not None:
        values["launch"] = launch
    return GemmConstants(
        **values,  # type: ignore[arg-type]
        tiles=menu.tiles,
        splits=menu.splits,
        quantise=QuantiseConstants(**cast) if cast else None,
        source="fit",
    )
