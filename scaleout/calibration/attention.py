"""Fit the constants of attention kernels: ``python -m scaleout.calibration.attention TABLE [--chip NAME] [--write]``.

Of every chip and kernel in the table, prefill is fitted per dtypes of queries and cache and decode
per dtype of the cache. 30 % of the combinations of heads, key/value heads and length are held out.
"""

import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from scaleout.arrays import Floats
from scaleout.calibration.chipfile import dated, indented, lines_of
from scaleout.calibration.command import carry_out, chosen_chips, parser
from scaleout.calibration.files import write_section
from scaleout.calibration.fit import Fit, best_fit, held_out, summary
from scaleout.compiled import compilable
from scaleout.hardware.attention import decode_seconds, decode_vector, kernel_of, prefill_seconds, prefill_vector
from scaleout.io.catalogue import find
from scaleout.io.table import Row, take_rows
from scaleout.specs import Chip, DecodeConstants, PrefillConstants

__all__ = ["fit_decode", "fit_prefill", "main", "measurements"]

Key = tuple[str, str, str, str, str]
"""Chip, kernel, phase, dtype of the queries and of the cache."""


_DTYPES = {"bfloat16": "bf16", "float16": "bf16", "bf16": "bf16", "fp16": "bf16", "fp8": "fp8"}
_SHAPE = ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim")
_US = 1e-6

_PREFILL = PrefillConstants(
    efficiency=0.6,
    launch=10 * _US,
    row_overhead=2 * _US,
    hbm_efficiency=0.8,
    l2_ratio=1.0,
    preparation=0.7,
    softmax=1.0,
)
_DECODE = DecodeConstants(
    tile=64, blocks_per_core=1, group_split=4, single_split=4, smallest_group=1, largest_group=32,
    launch=8 * _US, group_overhead=3 * _US, head_overhead=0.1 * _US, group_tile=1 * _US,
    single_overhead=3 * _US, single_tile=1 * _US, reduction=3 * _US, part_overhead=0.01 * _US, wave_tail=0.3,
    hbm_efficiency=0.85, l2_ratio=2.5, resident_blocks=2.0,
)  # fmt: skip
_FREE_PREFILL = {
    "efficiency": (0.1, 1.0),
    "launch": (1 * _US, 30 * _US),
    "row_overhead": (1e-3 * _US, 30 * _US),
    "hbm_efficiency": (0.3, 0.95),
    "l2_ratio": (0.3, 8.0),
    "preparation": (0.05, 0.95),
}
_FREE_DECODE = {
    "launch": (1 * _US, 30 * _US),
    "group_overhead": (1e-3 * _US, 30 * _US),
    "head_overhead": (1e-4 * _US, 3 * _US),
    "group_tile": (1e-3 * _US, 10 * _US),
    "single_overhead": (1e-3 * _US, 30 * _US),
    "single_tile": (1e-3 * _US, 10 * _US),
    "reduction": (1e-3 * _US, 10 * _US),
    "part_overhead": (1e-4 * _US, 0.3 * _US),
    "wave_tail": (1e-3, 1.0),
    "hbm_efficiency": (0.3, 0.95),
    "l2_ratio": (1.0, 8.0),
    "resident_blocks": (0.25, 8.0),
}
_NEVER = 1_000_000
"""Tiles of a part that no sequence has."""
_SPLITS = (1, 4, _NEVER)
_CHOICES_DECODE = {
    "tile": (64, 128), "blocks_per_core": (1, 2), "group_split": _SPLITS, "single_split": _SPLITS,
    "smallest_group": (1, 2),
}  # fmt: skip


@dataclass(frozen=True)
class Measurements:
    """Rows of one chip, kernel, phase and pair of dtypes.

    Parameters
    ----------
    shapes
        Batch, queries, tokens, heads, key/value heads, head size; a row each.
    seconds
        Measured [s].
    source
        Of the rows.
    """

    shapes: Floats
    seconds: Floats
    source: str


def measurements(path: Path) -> dict[Key, Measurements]:
    """Rows of a table by chip as the table names it, kernel, phase, dtype and cache dtype."""
    rows: dict[Key, list[list[float]]] = defaultdict(list)
    sources: dict[Key, str] = {}

    def take(row: Row) -> None:
        source, phase = row.text("source"), row.text("phase", ("prefill", "decode"))
        dtype, kv_dtype = (_DTYPES[row.text(column, tuple(_DTYPES))] for column in ("dtype", "kv_dtype"))
        shape = [row.number(column) for column in _SHAPE]
        seconds = row.number("time_us") * _US
        if (kernel := kernel_of(source)) is not None:
            key = (row.text("chip"), kernel, phase, dtype, kv_dtype)
            rows[key].append([*shape, seconds])
            sources[key] = source

    take_rows(path, ("chip", "phase", "dtype", "kv_dtype", *_SHAPE, "time_us", "source"), take)
    tables = {key: np.array(part) for key, part in sorted(rows.items())}
    return {key: Measurements(table[:, :-1], table[:, -1], sources[key]) for key, table in tables.items()}


@compilable
def _prefill_all(shapes: Floats, c: Floats) -> Floats:
    times = np.empty(len(shapes))
    for i in range(len(shapes)):
        s = shapes[i]
        times[i] = prefill_seconds(s[0], s[1], s[2], s[3], s[4], s[5], False, c)
    return times


@compilable
def _decode_all(shapes: Floats, width: float, c: Floats) -> Floats:
    times = np.empty(len(shapes))
    for i in range(len(shapes)):
        s = shapes[i]
        times[i] = decode_seconds(s[0], s[2], s[3], s[4], s[5], width, c)
    return times


def fit_prefill(chip: Chip, kernel: str, dtype: str, kv_dtype: str, rows: Measurements) -> Fit:
    """Constants of a kernel's prefill; a paged kernel may compute the whole rectangle and split keys."""
    shapes = rows.shapes
    free: dict[str, tuple[float, float]] = dict(_FREE_PREFILL)
    choices: dict[str, tuple[Any, ...]] = {"tile": (64, 128), "rows_per_core": (1, 2), "wave_tail": (0.0, 0.5, 1.0)}
    starts = [_PREFILL]
    if dtype != kv_dtype:
        # the kernel may cast the queries to the narrower dtype of the cache
        choices["products"] = ("", kv_dtype)
    if kernel != "trtllm":
        # one sequence of some thousand tokens moves too little to tell L2 from HBM
        # old kernels split keys and store the cache themselves; in new ones neither, an engine does the latter
        paged = replace(_PREFILL, l2_ratio=None)
        starts = [replace(paged, reduction=1 * _US), replace(paged, preparation=None)]
        del free["l2_ratio"]
        choices["masked"] = (0.0, 1.0)

    def predict(constants: PrefillConstants) -> Floats:
        return _prefill_all.compiled(shapes, prefill_vector(chip, constants, dtype, kv_dtype))

    held = held_out((q, kv, h, k) for _, q, kv, h, k, _ in shapes.tolist())
    fits = []
    for start in starts:
        here = {name: bounds for name, bounds in free.items() if getattr(start, name) is not None}
        if start.reduction is not None:
            here["reduction"] = (1e-2 * _US, 30 * _US)
        fits.append(best_fit(start, here, choices, predict, rows.seconds, held))
    return _recorded(min(fits, key=lambda fit: float(np.abs(fit.errors[~held]).mean())), shapes)


def fit_decode(chip: Chip, kernel: str, kv_dtype: str, rows: Measurements) -> Fit:
    """Constants of a kernel's decode; all rows have to be possible."""
    shapes, width = rows.shapes, 1.0 if kv_dtype == "fp8" else 2.0
    groups = set((shapes[:, 3] / shapes[:, 4]).tolist())
    choices: dict[str, tuple[Any, ...]] = dict(_CHOICES_DECODE)
    start, free = _DECODE, dict(_FREE_DECODE)
    if len(groups) == 1 or kernel != "trtllm":
        # one size of group cannot tell two kernels apart, and FlashAttention has one that takes them all
        choices |= {"smallest_group": (1,), "single_split": (1,), "group_split": (1, 2, 4, 8)}
        start = replace(start, largest_group=_NEVER, head_overhead=0.0)
        for name in ("head_overhead", "single_overhead", "single_tile", "l2_ratio", "resident_blocks"):
            del free[name]
        if kernel != "trtllm" and shapes[:, 0].min() == 1.0:
            # its blocks take more than half of the shared memory of the cores that such tables are of
            choices["blocks_per_core"] = (1,)
            # from the middle of what the first such tables say; far off, launch takes up what blocks cost
            start = replace(
                start, grouping=5 * _US, launch=3.4 * _US, group_overhead=3 * _US, group_tile=1.8 * _US,
                reduction=1.5 * _US, part_overhead=0.25 * _US, hbm_efficiency=0.93,
            )  # fmt: skip
            free["grouping"] = (1e-3 * _US, 10 * _US)

    def predict(constants: DecodeConstants) -> Floats:
        return _decode_all.compiled(shapes, width, decode_vector(chip, constants))

    held = held_out((kv, h, k) for _, _, kv, h, k, _ in shapes.tolist())
    return _recorded(best_fit(start, free, choices, predict, rows.seconds, held), shapes)


def _recorded(fit: Fit, shapes: Floats) -> Fit:
    """Note error and range with the constants."""
    spans = {}
    for name, column in zip(_SHAPE, shapes.T, strict=True):
        spans["head_size" if name == "head_dim" else name] = (float(column.min()), float(column.max()))
    return replace(fit, constants=replace(fit.constants, residual=round(fit.residual, 4), calibrated=spans))


def possible(chip: Chip, kv_dtype: str, rows: Measurements) -> Measurements:
    """Decode rows whose cache could have come from HBM in the time."""
    batch, _, kv_len, _, kv_heads, size = rows.shapes.T
    cache = 2.0 * batch * kv_len * kv_heads * size * (1.0 if kv_dtype == "fp8" else 2.0)
    keep = cache / rows.seconds <= chip.hbm_bandwidth
    return Measurements(rows.shapes[keep], rows.seconds[keep], rows.source)


def _regimes(rows: Measurements, fit: Fit, phase: str) -> Iterator[str]:
    """Errors on fitted and held-out rows, then by length and by blocks."""
    yield f"    fitted    {summary(fit.errors[~fit.held])}"
    yield f"    held out  {summary(fit.errors[fit.held])}"
    length = rows.shapes[:, 1 if phase == "prefill" else 2]
    blocks = rows.shapes[:, 0] * rows.shapes[:, 3]
    for name, values in (("length", length), ("batch x heads", blocks)):
        for low, high in pairwise((0, 64, 512, 4096, math.inf)):
            part = fit.errors[(values > low) & (values <= high)]
            if len(part):
                yield f"      {name} {low} to {high}: {summary(part)}"


def _section(parts: dict[str, dict[str, Any]], source: str) -> str:
    lines = []
    for phase, by_dtype in parts.items():
        lines.append(f"{phase}:")
        for dtype, constants in by_dtype.items():
            lines += indented([f"{dtype}:", *indented(lines_of(constants))])
    return "\n".join([*lines, "source: >-", f"  fit to {source}, the kernel alone"])


def main(arguments: list[str] | None = None) -> int:
    """Fit, print the errors, and write the constants where asked to."""
    options = parser("attention", __doc__, "CSV of measured attention times").parse_args(arguments)
    return carry_out(lambda: _calibrate(options.table, options.chip, options.write))


def _calibrate(table: Path, names: list[str] | None, write: bool) -> None:
    rows = measurements(table)
    for chip in chosen_chips(names):
        mine = {key[1:]: part for key, part in rows.items() if key[0] in (chip.name, *chip.aliases)}
        for kernel in sorted({key[0] for key in mine}):
            parts: dict[str, dict[str, Any]] = {"prefill": {}, "decode": {}}
            source = ""
            for (found, phase, dtype, kv_dtype), part in mine.items():
                if found != kernel:
                    continue
                mixed = f"{dtype}/{kv_dtype}" if dtype != kv_dtype else dtype
                label = mixed if phase == "prefill" else kv_dtype
                print(f"{chip.name} {kernel} {phase} {label}")
                taken, source = part, part.source
                if phase == "decode":
                    taken = possible(chip, kv_dtype, part)
                    print(f"    {len(part.seconds) - len(taken.seconds):,} rows above the HBM peak are left out")
                    fit = fit_decode(chip, kernel, kv_dtype, taken)
                else:
                    fit = fit_prefill(chip, kernel, dtype, kv_dtype, taken)
                print("\n".join(_regimes(taken, fit, phase)))
                known = chip.attention.get(kernel)
                before = getattr(known, phase).get(label) if known else None
                parts[phase][label] = dated(fit.constants, before)
            print(_section(parts, source))
            if write:
                write_section(find("chip", chip.name), ("attention", kernel), _section(parts, source))


if __name__ == "__main__":
    sys.exit(main())
