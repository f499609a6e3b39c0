"""Fit the constants of attention kernels: ``python -m scaleout.calibration.attention TABLE [--chip NAME] [--write]``.

Of every chip and kernel in the table, prefill is fitted per dtypes of queries and cache and decode
per dtype of the cache. 30 % of the combinations of heads, key/value heads and length are held out.
"""

import argparse
import csv
import datetime
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
from scaleout.calibration.files import write_section
from scaleout.calibration.fit import Fit, best_fit, held_out, summary
from scaleout.calibration.text import indented, lines_of
from scaleout.compiled import compilable
from scaleout.errors import ScaleoutError, SpecError
from scaleout.hardware.attention import decode_seconds, decode_vector, kernel_of, prefill_seconds, prefill_vector
from scaleout.io.catalogue import find, list_names, load
from scaleout.specs import Chip, DecodeConstants, PrefillConstants

__all__ = ["fit_decode", "fit_prefill", "main", "measurements"]


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


def measurements(path: Path) -> dict[tuple[str, str, str, str, str], Measurements]:
    """Rows of a table by chip as the table names it, kernel, phase, dtype and cache dtype."""
    rows: dict[tuple[str, str, str, str, str], list[list[float]]] = defaultdict(list)
    sources: dict[tuple[str, str, str, str, str], str] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                kernel = kernel_of(row["source"])
                if kernel is None:
                    continue
                key = (row["chip"], kernel, row["phase"], _DTYPES[row["dtype"]], _DTYPES[row["kv_dtype"]])
                rows[key].append([*(float(row[name]) for name in _SHAPE), float(row["time_us"])])
                sources[key] = row["source"]
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(f"{path}: is no table of attention times: {error}") from None
    made = {}
    for key, part in sorted(rows.items()):
        table = np.array(part)
        made[key] = Measurements(table[:, :-1], table[:, -1] * _US, sources[key])
    return made


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
    start = _PREFILL
    if dtype != kv_dtype:
        # the kernel may cast the queries to the narrower dtype of the cache
        choices["products"] = ("", kv_dtype)
    if kernel != "trtllm":
        # one sequence of some thousand tokens moves too little to tell L2 from HBM
        start = replace(start, reduction=1 * _US, l2_ratio=None)
        del free["l2_ratio"]
        free["reduction"] = (1e-2 * _US, 30 * _US)
        choices["masked"] = (0.0, 1.0)

    def predict(constants: PrefillConstants) -> Floats:
        return _prefill_all.compiled(shapes, prefill_vector(chip, constants, dtype, kv_dtype))

    held = held_out((q, kv, h, k) for _, q, kv, h, k, _ in shapes.tolist())
    return _recorded(best_fit(start, free, choices, predict, rows.seconds, held), shapes)


def fit_decode(chip: Chip, kv_dtype: str, rows: Measurements) -> Fit:
    """Constants of a kernel's decode; all rows have to be possible."""
    shapes, width = rows.shapes, 1.0 if kv_dtype == "fp8" else 2.0
    groups = set((shapes[:, 3] / shapes[:, 4]).tolist())
    choices: dict[str, tuple[Any, ...]] = dict(_CHOICES_DECODE)
    start, free = _DECODE, dict(_FREE_DECODE)
    if len(groups) == 1:
        # one size of group cannot tell two kernels apart: one takes them all
        choices |= {"smallest_group": (1,), "single_split": (1,), "group_split": (1, 2, 4, 8)}
        start = replace(start, largest_group=_NEVER, head_overhead=0.0)
        for name in ("head_overhead", "single_overhead", "single_tile", "l2_ratio", "resident_blocks"):
            del free[name]

    def predict(constants: DecodeConstants) -> Floats:
        return _decode_all.compiled(shapes, width, decode_vector(chip, constants))

    held = held_out((kv, h, k) for _, _, kv, h, k, _ in shapes.tolist())
    return _recorded(best_fit(start, free, choices, predict, rows.seconds, held), shapes)


def _recorded(fit: Fit, shapes: Floats) -> Fit:
    """Note error, range and date with the constants."""
    spans = {}
    for name, column in zip(_SHAPE, shapes.T, strict=True):
        spans["head_size" if name == "head_dim" else name] = (float(column.min()), float(column.max()))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    constants = replace(fit.constants, residual=round(fit.residual, 4), calibrated=spans, fitted=today)
    return replace(fit, constants=constants)


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
    parser = argparse.ArgumentParser(prog="python -m scaleout.calibration.attention", description=__doc__)
    parser.add_argument("table", type=Path, help="CSV of measured attention times")
    parser.add_argument("--chip", help="only this chip")
    parser.add_argument("--write", action="store_true", help="put the constants into the chip files")
    options = parser.parse_args(arguments)
    try:
        _calibrate(options.table, options.chip, options.write)
    except ScaleoutError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _calibrate(table: Path, only: str | None, write: bool) -> None:
    rows = measurements(table)
    for name in [load("chip", only).name] if only else list_names("chip"):
        chip: Chip = load("chip", name)
        mine = {key[1:]: part for key, part in rows.items() if key[0] in (chip.name, *chip.aliases)}
        for kernel in sorted({key[0] for key in mine}):
            parts: dict[str, dict[str, Any]] = {"prefill": {}, "decode": {}}
            source = ""
            for (found, phase, dtype, kv_dtype), part in mine.items():
                if found != kernel:
                    continue
                mixed = f"{dtype}/{kv_dtype}" if dtype != kv_dtype else dtype
                label = mixed if phase == "prefill" else kv_dtype
                print(f"{name} {kernel} {phase} {label}")
                taken, source = part, part.source
                if phase == "decode":
                    taken = possible(chip, kv_dtype, part)
                    print(f"    {len(part.seconds) - len(taken.seconds):,} rows above the HBM peak are left out")
                    fit = fit_decode(chip, kv_dtype, taken)
                else:
                    fit = fit_prefill(chip, kernel, dtype, kv_dtype, taken)
                print("\n".join(_regimes(taken, fit, phase)))
                parts[phase][label] = fit.constants
            print(_section(parts, source))
            if write:
                write_section(find("chip", name), ("attention", kernel), _section(parts, source))


if __name__ == "__main__":
    sys.exit(main())
