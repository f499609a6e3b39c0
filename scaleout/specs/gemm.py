"""Constants of matrix multiplication and of the cast before it, per chip and dtype."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields, freeze
from scaleout.units import Bytes, Count, Fraction, NotNegative, Number, Positive, Seconds, Share

__all__ = ["GemmConstants", "GroupedConstants", "QuantiseConstants", "SparseConstants", "check_range"]

_TILE = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})")
_AXES = ("m", "n", "k")


def check_range(shapes: Mapping[str, tuple[int, int]]) -> None:
    """Refuse calibrated shapes that are none."""
    for axis, bounds in shapes.items():
        if axis not in _AXES or len(bounds) != 2 or not 1 <= bounds[0] <= bounds[1]:
            accepted = "expected m, n or k, and [low, high]"
            raise SpecError(f"gemm.range.{axis}: {list(bounds)} is not accepted; {accepted}")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantiseConstants:
    """The pass that reads 16-bit activations and writes narrow ones; see ``docs/gemm.md``.

    Parameters
    ----------
    hbm_efficiency
        Reached share of HBM bandwidth [1].
    launch
        Fixed time, of all the kernels of the pass together [s].
    """

    hbm_efficiency: Fraction
    launch: Seconds

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedConstants:
    """Fused kernels of experts, beside the constants of plain products; see ``docs/layers.md``.

    Parameters
    ----------
    work, traffic
        Time of their arithmetic and of their HBM traffic, over those of plain products [1].
    launch
        Fixed time, of all kernels together [s].
    l2_resident
        Weights up to which the measuring loop found all of them in L2 from its turns before [byte]. Of use where a
        measurement is retold, not in a model, where other operands pass in between.
    residual
        Mean absolute relative error on shapes held out of the fit [1].
    """

    work: Positive
    traffic: Positive
    launch: Seconds
    l2_resident: Bytes = 0.0
    residual: NotNegative | None = None
    library: str = ""
    fitted: str = ""
    source: str

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseConstants:
    """Products with weights of which two in four are zero; see ``docs/compression.md``.

    Parameters
    ----------
    gain
        How many times as fast as dense ones they are [1]: as measured, not the data sheet's two.
    rows
        Of activations, below which they gain nothing.
    """

    gain: Annotated[float, Number(low=1, high=2, above=False)]
    rows: Count = 256
    source: str

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmConstants:
    """Matrix multiplication on one chip in one dtype; see ``docs/gemm.md``.

    Parameters
    ----------
    compute_efficiency, hbm_efficiency
        Reached share of the data sheet's dense rate, by tiles of 128 x 256 in a short burst, and of
        HBM bandwidth [1].
    l2_ratio
        Rate at which all cores together take operands from L2, as a multiple of HBM bandwidth
        [1]; None where it never binds.
    launch, tile_overhead, split_overhead
        Fixed time of a kernel, of every wave of tiles after the first, and of a split over k [s].
    split_traffic
        Cost of writing and reading the fp32 parts of a split, as a multiple of what it would be
        at full HBM bandwidth [1].
    halo
        What the edge of a smaller tile costs: its edge over area beyond that of 128 x 256, times
        64, raises the time of its arithmetic by this share [1].
    wave_tail
        1: a partial wave costs a whole one; 0: only its share (stream-K) [1].
    norm
        Exponent that joins compute, HBM and L2 time [1].
    idle_cores
        How much HBM bandwidth is lost per missing core [1].
    tiles, splits
        The library's menu: tiles of C such as "128x256" (rows x columns), and into how many parts
        k is split.
    vector_efficiency, vector_launch
        A kernel of the vector units, for few rows: reached share of the fp32 rate [1], and fixed
        time beyond `launch` [s]. None: there is no such kernel.
    l2_resident
        Operands that the measuring loop found in L2 from its previous turn [byte]. Of use where a
        measurement is retold, not in a model, where other operands pass in between.
    quantise
        The cast of the activations; None where they need none, or where it is fused elsewhere.
    grouped
        Fused kernels of experts; None where they were not measured.
    sparse
        Products with weights pruned 2:4; None where the chip has no units for them, or nobody measured any.
    work
        Time of the arithmetic over that of the kernels that were measured [1]: weights that are widened inside the
        product take more, pruned ones less.
    residual
        Mean absolute relative error on shapes held out of the fit [1].
    range
        Calibrated shapes: lowest and highest m, n and k.
    library, fitted
        Whose kernels were measured; day of the fit.
    """

    compute_efficiency: Fraction
    hbm_efficiency: Fraction
    l2_ratio: Positive | None = None
    launch: Seconds
    tile_overhead: Seconds
    split_overhead: Seconds = 0.0
    split_traffic: NotNegative = 0.0
    halo: NotNegative
    wave_tail: Share
    norm: Annotated[float, Number(low=1, high=100, above=False)]
    idle_cores: NotNegative
    tiles: tuple[str, ...] = ("64x64", "64x128", "128x128", "128x256")
    splits: tuple[int, ...] = (1, 2, 4, 8, 16)
    vector_efficiency: Fraction | None = None
    vector_launch: Seconds = 0.0
    l2_resident: Bytes = 0.0
    quantise: QuantiseConstants | None = None
    grouped: GroupedConstants | None = None
    sparse: SparseConstants | None = None
    work: Positive = 1.0
    residual: NotNegative | None = None
    range: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    library: str = ""
    fitted: str = ""
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "range")
        if not self.tiles or not all(_TILE.fullmatch(tile) for tile in self.tiles):
            raise SpecError(f"gemm.tiles: {list(self.tiles)} is not accepted; expected sides such as [64x64, 128x256]")
        if self.splits[:1] != (1,) or sorted(set(self.splits)) != list(self.splits):
            raise SpecError(f"gemm.splits: {list(self.splits)} is not accepted; expected 1 and rising, as in [1, 2, 4]")
        check_range(self.range)

    def sides(self) -> list[tuple[float, float]]:
        """Rows and columns of each tile of the menu."""
        return [(float(match[1]), float(match[2])) for match in map(_TILE.fullmatch, self.tiles) if match]
