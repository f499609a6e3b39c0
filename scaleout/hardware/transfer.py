"""Constants of kernels on a chip of which only the data sheet is known, from one that was measured.

Shares of rates carry over as shares, times of control as clocks, fill and drain of a tile as steps of its products,
rates of L2 as bytes a clock and core. Each set of constants gets the error to be expected of it. Why, and what was
checked on pairs of measured chips, is in ``docs/transfer.md``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from scaleout.hardware.formats import FORMATS, format_of
from scaleout.hardware.gemm import gemm_seconds, gemm_vector
from scaleout.hardware.likeness import Distance, clock, distance, expected_error
from scaleout.specs import (
    AttentionConstants,
    Chip,
    DecodeConstants,
    ElementwiseConstants,
    GemmConstants,
    PrefillConstants,
    QuantiseConstants,
    SystolicConstants,
)

__all__ = ["Scales", "scales", "transfer"]

_ALIKE = 1.0
"""Distance of memories up to which L2s feed products alike, a clock and core [1]."""
_STREAM = 0.85
"""Share of memory bandwidth that simple passes reach where nothing else holds them [1]."""
_HELD = 0.7
"""A pass below this share of memory bandwidth is held by its cores, not by memory [1]."""
_LARGE = 8192.0
"""Side of the product whose rate is called a chip's best."""
_BEST = 0.999
"""Highest share of the peak that a kernel is given [1]."""
_NARROW = {"fp8": 0.95, "nvfp4": 0.6 / 0.75}
"""Format -> efficiency of its products over that in 16 bits, at its own peak, the cast apart [1]."""
_CAST, _CAST_CLOCKS = 0.37, 13_000.0
"""The pass that finds a scale and casts: share of HBM bandwidth [1], and what it takes at least [clock]: 7.3 us on an
H100 at 1.8 GHz (ai-dynamo/aiconfigurator 095f58a, its table of that kernel)."""
_DECODE_TIMES = (
    "launch", "group_overhead", "head_overhead", "group_tile", "single_overhead", "single_tile", "reduction",
    "part_overhead", "grouping",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors from a donor's constants to those of another chip.

    Parameters
    ----------
    apart
        Distance of the data sheets.
    time
        Of times that are a number of clocks [1].
    l2_ratio
        Of a rate over memory bandwidth that is so many bytes a clock and core [1].
    l2_bytes
        Of capacities of L2 [1].
    steps
        Of times that are a number of steps of a tile's products, by key of `Chip.peak_flops` [1].
    """

    apart: Distance
    time: float
    l2_ratio: float
    l2_bytes: float
    steps: Mapping[str, float]


def scales(chip: Chip, donor: Chip) -> Scales:
    """Factors from data sheets; a clock that one of them does not tell counts as equal."""
    mine, other = clock(chip), clock(donor)
    time = other / mine if mine and other else 1.0
    rates = sorted(chip.peak_flops.keys() & donor.peak_flops.keys())
    return Scales(
        apart=distance(chip, donor),
        time=time,
        l2_ratio=donor.hbm_bandwidth / chip.hbm_bandwidth * (chip.cores / donor.cores / time),
        l2_bytes=chip.l2_bytes / donor.l2_bytes if chip.l2_bytes and donor.l2_bytes else 1.0,
        steps={
            name: (donor.peak_flops[name] / donor.cores) / (chip.peak_flops[name] / chip.cores) for name in rates
        },
    )  # fmt: skip


def transfer(chip: Chip, donor: Chip) -> Chip:
    """The chip of a data sheet with the constants of another's kernels, where it has none of its own.

    Every set that is carried over says whose it is, has the error to be expected as its `residual`, and is listed
    as unverified. To a chip of the donor's own data sheet the constants go as they are, with a wider error; to the
    donor itself without.
    """
    if chip.name == donor.name:
        return replace(
            chip,
            gemm={**donor.gemm, **chip.gemm},
            attention={**donor.attention, **chip.attention},
            elementwise={**donor.elementwise, **chip.elementwise},
        )
    by = scales(chip, donor)
    words = f"as {donor.name}, by data sheets (docs/transfer.md); there: "
    # an array's own shape is a part of its constants: they are no guide to another chip
    tiles = {name: c for name, c in donor.gemm.items() if isinstance(c, GemmConstants)}
    gemm = {name: _gemm(c, name, by, words) for name, c in tiles.items()}
    gemm = {name: _at_best(chip, name, c) for name, c in (dict(_narrow(chip, gemm, donor, by)) | gemm).items()}
    attention = {name: _attention(c, by, words) for name, c in donor.attention.items()}
    elementwise = {name: _elementwise(c, by, words) for name, c in donor.elementwise.items()}
    carried = [
        *_names("gemm", gemm, chip.gemm),
        *_names("attention", attention, chip.attention),
        *_names("elementwise", elementwise, chip.elementwise),
    ]
    return replace(
        chip,
        like=donor.name,
        gemm={**gemm, **chip.gemm},
        attention={**attention, **chip.attention},
        elementwise={**elementwise, **chip.elementwise},
        unverified=tuple(dict.fromkeys([*chip.unverified, *carried])),
    )


def _names(section: str, carried: Mapping[str, object], own: Mapping[str, object]) -> list[str]:
    """What to list as unverified: all of a section, or those of its sets that are not the chip's own."""
    if not own:
        return [section] if carried else []
    return [f"{section}.{name}" for name in carried if name not in own]


_Products = TypeVar("_Products", GemmConstants, SystolicConstants)


def _products(c: _Products, dtype: str, by: Scales, words: str) -> _Products:
    """What tiles and systolic arrays have in common."""
    kind = "gemm" if dtype in ("bf16", "fp16", "fp32") else "narrow"
    grouped = c.grouped
    if grouped is not None:
        grouped = replace(
            grouped,
            launch=grouped.launch * by.time,
            l2_resident=grouped.l2_resident * by.l2_bytes,
            residual=expected_error(grouped.residual, by.apart, "experts"),
            source=words + grouped.source,
        )
    return replace(
        c,
        launch=c.launch * by.time,
        quantise=None if c.quantise is None else replace(c.quantise, launch=c.quantise.launch * by.time),
        grouped=grouped,
        residual=expected_error(c.residual, by.apart, kind),
        source=words + c.source,
    )


def _gemm(
    c: GemmConstants | SystolicConstants, dtype: str, by: Scales, words: str
) -> GemmConstants | SystolicConstants:
    if isinstance(c, SystolicConstants):
        return _products(c, dtype, by, words)
    # beside a memory of another kind the L2 has fewer or more ports a core: its rate goes with the memory's
    l2 = by.l2_ratio if by.apart.memory < _ALIKE else 1.0
    step = by.steps.get(format_of(dtype).rate, by.time) if dtype in FORMATS else by.time
    return replace(
        _products(c, dtype, by, words),
        l2_ratio=None if c.l2_ratio is None else c.l2_ratio * l2,
        tile_overhead=c.tile_overhead * step,
        split_overhead=c.split_overhead * by.time,
        vector_launch=c.vector_launch * by.time,
        l2_resident=c.l2_resident * by.l2_bytes,
    )


def _narrow(
    chip: Chip, gemm: Mapping[str, GemmConstants | SystolicConstants], donor: Chip, by: Scales
) -> Iterator[tuple[str, GemmConstants | SystolicConstants]]:
    """Formats that the chip has units for and the donor has not, from products in 16 bits."""
    wide = gemm.get("bf16")
    if wide is None:
        return
    for dtype, share in _NARROW.items():
        rate = format_of(dtype).rate
        if rate in chip.peak_flops and rate not in donor.peak_flops and dtype not in gemm:
            rows = clock(chip) or 1.8e9
            yield (
                dtype,
                replace(
                    wide,
                    compute_efficiency=wide.compute_efficiency * share,
                    quantise=QuantiseConstants(hbm_efficiency=_CAST, launch=_CAST_CLOCKS / rows),
                    grouped=None,
                    residual=expected_error(donor.gemm["bf16"].residual, by.apart, "narrow", derived=True),
                    source=f"from 16 bits, with a cast; {wide.source}",
                ),
            )


def _at_best(chip: Chip, dtype: str, c: GemmConstants | SystolicConstants) -> GemmConstants | SystolicConstants:
    """Constants whose large products run at the best rate that was measured on the chip, where one is known."""
    rate = format_of(dtype).rate if dtype in FORMATS else dtype
    if rate not in chip.best or rate not in chip.peak_flops:
        return c
    wanted = 2.0 * _LARGE**3 / chip.best[rate]
    low, high = 0.0, _BEST
    for _ in range(30):
        middle = 0.5 * (low + high)
        trial = replace(chip, gemm={dtype: replace(c, compute_efficiency=middle)})
        slower = gemm_seconds(_LARGE, _LARGE, _LARGE, 2.0, gemm_vector(trial, dtype)) > wanted
        low, high = (middle, high) if slower else (low, middle)
    return replace(c, compute_efficiency=high)


def _attention(c: AttentionConstants, by: Scales, words: str) -> AttentionConstants:
    return replace(
        c,
        prefill={name: _prefill(one, by) for name, one in c.prefill.items()},
        decode={name: _decode(one, by) for name, one in c.decode.items()},
        source=words + c.source,
    )


def _prefill(c: PrefillConstants, by: Scales) -> PrefillConstants:
    return replace(
        c,
        launch=c.launch * by.time,
        row_overhead=c.row_overhead * by.time,
        reduction=None if c.reduction is None else c.reduction * by.time,
        hbm_efficiency=_pass(c.hbm_efficiency, by),
        l2_ratio=None if c.l2_ratio is None else c.l2_ratio * by.l2_ratio,
        residual=expected_error(c.residual, by.apart, "attention"),
    )


def _decode(c: DecodeConstants, by: Scales) -> DecodeConstants:
    times = {name: getattr(c, name) * by.time for name in _DECODE_TIMES}
    return replace(
        c,
        **times,
        l2_ratio=c.l2_ratio * by.l2_ratio,
        residual=expected_error(c.residual, by.apart, "attention"),
    )


def _elementwise(c: ElementwiseConstants, by: Scales, words: str) -> ElementwiseConstants:
    return replace(
        c,
        launch=c.launch * by.time,
        row_overhead=c.row_overhead * by.time,
        element_overhead=c.element_overhead * by.time,
        efficiency=_pass(c.efficiency, by),
        l2_ratio=None if c.l2_ratio is None else c.l2_ratio * by.l2_ratio,
        residual=expected_error(c.residual, by.apart, "elementwise"),
        source=words + c.source,
    )


def _pass(efficiency: float, by: Scales) -> float:
    """Share of memory bandwidth of a pass: as it is, or, where cores held it back, their bytes a clock."""
    return efficiency if efficiency >= _HELD else min(_STREAM, efficiency * by.l2_ratio)
