"""Attention kernels: prefill of whole or continued sequences, and decode of a token a sequence, on one chip."""

from functools import partial
from pathlib import Path

from scaleout.arrays import Floats
from scaleout.errors import SpecError, near
from scaleout.hardware.attention import (
    attention_vector,
    decode_seconds,
    decode_vector,
    kernel_of,
    prefill_seconds,
)
from scaleout.io.table import Row, Watch, take_rows
from scaleout.specs import Chip
from scaleout.validation.agreement import Agreement, Compared, Skipped
from scaleout.validation.likeness import OWN, chips_of, stated

__all__ = ["COLUMNS", "compare"]

COLUMNS = (
    "chip", "phase", "dtype", "kv_dtype", "batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim", "time_us",
    "source",
)  # fmt: skip
_DTYPES = {"bfloat16": "bf16", "float16": "fp16"}
_WIDTHS = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0}
"""Bytes of an element."""
_SHAPE = ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim")

Packed = tuple[Floats, float | None]
Vectors = dict[tuple[str, ...], Packed | str]


def compare(path: Path, watch: Watch | None = None, donor: str = "") -> Agreement:
    """Every row, simulated alone; the kernel follows from the words of its source.

    With the constants of a donor, where one is named.
    """
    vectors: Vectors = {}
    rows = take_rows(path, COLUMNS, partial(_compare_row, chips_of(donor), donor, vectors), watch)
    return Agreement.of("attention", rows, combined=[("chip", "phase"), ("chip", "phase", "kernel")])


def _compare_row(chips: dict[str, Chip], donor: str, vectors: Vectors, row: Row) -> Compared | Skipped:
    name, source = row.text("chip"), row.text("source")
    phase = row.text("phase", ("prefill", "decode"))
    dtype, kv_dtype = (_DTYPES.get(row.text(key), row.text(key)) for key in ("dtype", "kv_dtype"))
    batch, q_len, kv_len, heads, kv_heads, size = (float(row.whole(key)) for key in _SHAPE)
    measured = row.number("time_us") * 1e-6
    if name not in chips:
        return Skipped(row.line, f"unknown chip {name!r}; {near(name, chips)}")
    if donor and not chips[name].like:
        return Skipped(row.line, OWN)
    if kv_len < q_len:
        return Skipped(row.line, "more queries than tokens that the last one sees")
    if heads % kv_heads:
        return Skipped(row.line, "query heads are no multiple of key/value heads")
    kernel, chip = kernel_of(source), chips[name]
    if kernel is None:
        return Skipped(row.line, "the source names no known attention kernel")
    key = (name, kernel, phase, dtype, kv_dtype)
    if key not in vectors:
        vectors[key] = _vector(chip, *key[1:])
    packed = vectors[key]
    if isinstance(packed, str):
        return Skipped(row.line, packed)
    c, band = packed
    if phase == "prefill":
        simulated = prefill_seconds.compiled(batch, q_len, kv_len, heads, kv_heads, size, False, c)
    else:
        width = _WIDTHS[kv_dtype]
        if 2.0 * batch * kv_len * kv_heads * size * width / measured > chip.hbm_bandwidth:
            return Skipped(row.line, "impossible: keys and values come faster than the HBM peak, from L2")
        simulated = decode_seconds.compiled(batch, kv_len, heads, kv_heads, size, width, c)
    keys = {"source": source, "chip": name, "phase": phase, "kernel": kernel, "dtype": f"{dtype}, cache {kv_dtype}"}
    label = f"{batch:.0f} of {q_len:.0f} to {kv_len:.0f} tokens, heads {heads:.0f}, {kv_heads:.0f} of {size:.0f}"
    return Compared(row.line, keys, measured, simulated, label=label, band=band)


def _vector(chip: Chip, kernel: str, phase: str, dtype: str, kv_dtype: str) -> Packed | str:
    """Packed constants and their band, or why there are none."""
    try:
        if phase == "prefill":
            vector = attention_vector(chip, kernel, dtype, kv_dtype)
            return vector, stated(chip, chip.attention[kernel].for_prefill(dtype, kv_dtype).residual)
        if kernel not in chip.attention:
            return f"chip {chip.name!r} has no attention kernel {kernel!r}"
        constants = chip.attention[kernel].for_decode(kv_dtype)
        return decode_vector(chip, constants), stated(chip, constants.residual)
    except SpecError as error:
        return f"chip {chip.name!r}: {error}"
