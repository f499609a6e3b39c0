"""Constants of an attention kernel on one chip; the equations are in ``docs/attention.md``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scaleout.errors import SpecError, near
from scaleout.specs.fields import check_fields, freeze
from scaleout.units import Count, Fraction, NotNegative, Positive, Seconds, Share

__all__ = ["AttentionConstants", "DecodeConstants", "PrefillConstants"]

_SAME = {"fp16": "bf16"}
"""Formats that run on the same units at the same rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillConstants:
    """Causal attention over many queries a sequence: prefill, and forward and backward of training.

    Parameters
    ----------
    tile
        Queries, and keys, of a tile [token].
    products
        Dtype at whose rate the products run; "" for that of the queries.
    efficiency
        Reached share of the dense rate on full tiles [1].
    softmax
        Share of the time of the exponentials that the products do not hide [1].
    backward
        Backward's share of the forward efficiency [1].
    launch, row_overhead
        Fixed time of a kernel, and of one row of tiles on its core [s].
    rows_per_core
        Rows of tiles that a core works on at a time.
    wave_tail
        1: a partial wave of rows costs a whole one; 0: only its share [1].
    hbm_efficiency
        Reached share of HBM bandwidth [1].
    l2_ratio
        Rate at which operands that stay in L2 since they were made are read and written, as a
        multiple of HBM bandwidth [1]; None where they are not faster.
    preparation
        Share of HBM bandwidth of the pass before, which rotates queries and keys and stores keys
        and values [1]; None where that is a kernel of its own.
    masked
        Share of the tiles above the diagonal that are computed all the same [1].
    reduction
        Time to join the parts of a row whose keys are split over idle cores [s]; None where the
        kernel never splits.
    residual
        Mean absolute error on measurements held out of the fit [1]; None where nothing was fitted.
    calibrated
        Lowest and highest value of each quantity in the measurements.
    fitted
        Date of the fit.
    """

    tile: Count = 128
    products: str = ""
    efficiency: Fraction
    softmax: Share = 0.0
    backward: Fraction = 0.8
    launch: Seconds
    row_overhead: Seconds = 0.0
    rows_per_core: Count = 1
    wave_tail: Share = 0.0
    hbm_efficiency: Fraction
    l2_ratio: Positive | None = None
    preparation: Fraction | None = None
    masked: Share = 0.0
    reduction: Seconds | None = None
    residual: NotNegative | None = None
    calibrated: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    fitted: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "calibrated")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeConstants:
    """Attention of one new query a sequence over its cached keys and values.

    Two kernels: one block of threads takes all query heads of a key/value head where their number
    lies from `smallest_group` to `largest_group`; otherwise every query head has a block of its own.

    Parameters
    ----------
    tile
        Cached tokens that a block reads at a time [token].
    blocks_per_core
        Blocks that a core works on at a time.
    group_split, single_split
        Fewest tiles of a part, where a sequence is split over idle cores: in blocks that take a
        group, and in those that take one head; a number beyond all lengths for a kernel that
        never splits.
    smallest_group, largest_group
        Query heads of a key/value head that one block takes together.
    launch
        Fixed time of a kernel [s].
    group_overhead, head_overhead, group_tile
        Time of a block that takes a group: fixed, of each head beyond the first, of a tile [s].
    single_overhead, single_tile
        Time of a block that takes one head: fixed, of a tile [s].
    reduction, part_overhead
        Time to join the parts of split sequences: fixed, and of each part [s].
    grouping
        Time of the copies that lay the heads of a group side by side before and after the kernel [s]; the queries
        of a single sequence lie so already.
    wave_tail
        1: a partial wave of blocks costs a whole one; 0: only its share [1].
    hbm_efficiency
        Reached share of HBM bandwidth [1].
    l2_ratio
        L2 bandwidth as a multiple of HBM bandwidth [1]; heads of a group that have blocks of their
        own read the same keys and values again from there.
    resident_blocks
        Blocks of a core whose keys and values have to stay in L2 at a time for that [1].
    residual
        Mean absolute error on measurements held out of the fit [1]; None where nothing was fitted.
    calibrated
        Lowest and highest value of each quantity in the measurements.
    fitted
        Date of the fit.
    """

    tile: Count
    blocks_per_core: Count
    group_split: Count
    single_split: Count
    smallest_group: Count
    largest_group: Count
    launch: Seconds
    group_overhead: Seconds
    head_overhead: Seconds
    group_tile: Seconds
    single_overhead: Seconds
    single_tile: Seconds
    reduction: Seconds
    part_overhead: Seconds
    grouping: Seconds = 0.0
    wave_tail: Share
    hbm_efficiency: Fraction
    l2_ratio: Positive
    resident_blocks: Positive = 1.0
    residual: NotNegative | None = None
    calibrated: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    fitted: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "calibrated")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConstants:
    """An attention kernel on one chip.

    Parameters
    ----------
    prefill
        Constants per dtype of the queries, or per "queries/cache" where the cache has another
        dtype and that makes a difference; the two 16-bit formats are one.
    decode
        Constants per dtype of the cached keys and values; queries have 16 bits.
    """

    prefill: Mapping[str, PrefillConstants] = field(default_factory=dict)
    decode: Mapping[str, DecodeConstants] = field(default_factory=dict)
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "prefill", "decode")
        if not self.prefill and not self.decode:
            raise SpecError("attention: has neither prefill nor decode constants")

    def for_prefill(self, dtype: str, kv_dtype: str | None = None) -> PrefillConstants:
        """Constants for queries and a cache of these dtypes, or a `SpecError`."""
        name, cache = (_SAME.get(kind, kind) for kind in (dtype, kv_dtype or dtype))
        found = self.prefill.get(f"{name}/{cache}", self.prefill.get(name))
        if found is None:
            raise SpecError(f"attention.prefill: has no constants for {dtype!r}; {near(name, self.prefill)}")
        return found

    def for_decode(self, kv_dtype: str) -> DecodeConstants:
        """Constants for a cache of a dtype, or a `SpecError`."""
        name = _SAME.get(kv_dtype, kv_dtype)
        if name not in self.decode:
            raise SpecError(f"attention.decode: has no constants for {kv_dtype!r}; {near(name, self.decode)}")
        return self.decode[name]
