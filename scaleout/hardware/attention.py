"""Time of attention on one chip: prefill and training over tiles, decode over cached tokens.

Equations, constants and their errors are in ``docs/attention.md``. The functions take scalars and
a vector of constants, so that they run plain or compiled.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.errors import SpecError, near
from scaleout.hardware.elementwise import kept_in_l2
from scaleout.hardware.table import correction, lines
from scaleout.specs import Chip, DecodeConstants, PrefillConstants

__all__ = [
    "attention_beside",
    "attention_vector",
    "decode_seconds",
    "decode_vector",
    "kernel_of",
    "measured_attention",
    "prefill_seconds",
    "prefill_vector",
    "without_preparation",
]


_BACKWARD_PASSES = 3.0
_PREFILL_TABLE, _DECODE_TABLE = 18, 23
"""Slots that say where a table of measurements begins in a vector; 0 for none. It begins with the dense rate, HBM's,
and the number of kinds of heads."""
_WIDTHS = {"fp8": 1.0, "bf16": 2.0, "fp16": 2.0}
"""Bytes of an element."""
_HEAD = 128.0
"""Head size at which the times of decode tiles were measured."""
_MMA = 8.0
"""Head sizes off this grid miss the tensor cores."""


_KERNELS = {
    "TensorRT-LLM": "trtllm", "flash attention": "flash-attention-2-paged",
    "ragged paged attention": "ragged-paged-attention",
}  # fmt: skip
"""Words by which a table of measurements names the kernel -> name in the chip files."""


def kernel_of(source: str) -> str | None:
    """Kernel that the source of a measurement speaks of, or None."""
    return next((kernel for words, kernel in _KERNELS.items() if words in source), None)


def attention_vector(chip: Chip, kernel: str, dtype: str = "bf16", kv_dtype: str | None = None) -> Floats:
    """Constants of a chip's attention kernel for `prefill_seconds`.

    Parameters
    ----------
    dtype, kv_dtype
        Of queries, and of keys and values where that is another.

    Raises
    ------
    SpecError
        The chip has no such kernel, or the kernel no constants for the dtype.
    """
    if kernel not in chip.attention:
        raise SpecError(f"chip {chip.name!r} has no attention kernel {kernel!r}; {near(kernel, chip.attention)}")
    packed = prefill_vector(chip, chip.attention[kernel].for_prefill(dtype, kv_dtype), dtype, kv_dtype or dtype)
    rows = measured_attention(chip, kernel, "prefill", dtype, kv_dtype or dtype)
    if not rows:
        return packed

    def point(row: Sequence[float]) -> tuple[float, float, float, float]:
        batch, q_len, kv_len, heads, kv_heads, size, measured = row
        model = prefill_seconds(batch, q_len, kv_len, heads, kv_heads, size, False, packed)
        return math.log2(q_len), math.log2(batch), math.log2(kv_len / q_len), math.log(measured / model)

    return _with_table(packed, _PREFILL_TABLE, (chip.flops(dtype), chip.hbm_bandwidth), rows, point)


def measured_attention(chip: Chip, kernel: str, phase: str, dtype: str, kv_dtype: str) -> tuple[tuple[float, ...], ...]:
    """Rows of the chip's own table (`KernelTable`) for a kernel; 16-bit formats stand in for each other."""
    table = chip.tables.get("attention")
    if table is None:
        return ()
    other = {"bf16": "fp16", "fp16": "bf16"}
    names = [(dtype, kv_dtype), (other.get(dtype, dtype), other.get(kv_dtype, kv_dtype))]
    return next((table.rows[key] for q, kv in names if (key := f"{kernel} {phase} {q} {kv}") in table.rows), ())


def _with_table(
    packed: Floats,
    slot: int,
    peaks: tuple[float, float],
    rows: tuple[tuple[float, ...], ...],
    point: Callable[[Sequence[float]], tuple[float, float, float, float]],
) -> Floats:
    """The vector with rows behind it, apart by query heads, key/value heads and head size."""
    apart: dict[tuple[float, ...], list[tuple[float, float, float, float]]] = {}
    for row in rows:
        apart.setdefault(row[3:6], []).append(point(row))
    head, body = [*peaks, float(len(apart))], list[float]()
    first = len(packed) + len(head) + 4 * len(apart)
    for heads, points in sorted(apart.items()):
        head += [*heads, float(first + len(body))]
        body += lines(points, first + len(body))
    packed[slot] = len(packed)
    return np.array([*packed, *head, *body])


def prefill_vector(chip: Chip, c: PrefillConstants, dtype: str, kv_dtype: str) -> Floats:
    """Constants as `prefill_seconds` takes them, rates in SI units."""
    return np.array([
        chip.cores,
        chip.flops(c.products or dtype) * c.efficiency,
        _vector_rate(chip, dtype),
        c.softmax / chip.exponentials if chip.exponentials else 0.0,
        chip.hbm_bandwidth * c.hbm_efficiency,
        chip.hbm_bandwidth * (c.preparation or 0.0),
        _width(dtype),
        _width(kv_dtype),
        c.tile,
        c.backward,
        c.launch,
        c.row_overhead,
        c.rows_per_core,
        c.wave_tail,
        c.masked,
        -1.0 if c.reduction is None else c.reduction,
        chip.hbm_bandwidth * (c.l2_ratio or 0.0),
        chip.l2_bytes or 0.0,
        0.0,
    ])  # fmt: skip


def attention_beside(c: Floats, cores: float, hbm: float) -> Floats:
    """Constants of `prefill_seconds` with these shares of the cores and of HBM's rate left [1]."""
    less = c.copy()
    # cores, and rates of all of them together
    less[:3] *= cores
    less[3] /= cores
    less[4:6] *= hbm
    return less


def without_preparation(c: Floats) -> Floats:
    """Constants of `prefill_seconds` without the rotation and the write to a cache that come before the kernel."""
    less = c.copy()
    less[5] = 0.0
    return less


def decode_vector(
    chip: Chip, c: DecodeConstants, kernel: str = "", dtype: str = "bf16", kv_dtype: str = "bf16"
) -> Floats:
    """Constants as `decode_seconds` takes them, rates in SI units.

    Parameters
    ----------
    kernel, dtype, kv_dtype
        Which one this is, and formats of queries and cache: rows of the chip's own table go with them.
    """
    # chips older than bf16 do the same in fp16
    rated = "bf16" if "bf16" in chip.peak_flops or "fp16" not in chip.peak_flops else "fp16"
    packed = np.array([
        chip.cores,
        chip.flops(rated),
        _vector_rate(chip, rated),
        chip.hbm_bandwidth * c.hbm_efficiency,
        chip.hbm_bandwidth * c.l2_ratio,
        chip.l2_bytes or 0.0,
        c.tile,
        c.blocks_per_core,
        c.group_split,
        c.single_split,
        c.smallest_group,
        c.largest_group,
        c.launch,
        c.group_overhead,
        c.head_overhead,
        c.group_tile,
        c.single_overhead,
        c.single_tile,
        c.reduction,
        c.part_overhead,
        c.wave_tail,
        c.resident_blocks,
        c.grouping,
        0.0,
    ])  # fmt: skip
    rows = measured_attention(chip, kernel, "decode", dtype, kv_dtype)
    if not rows:
        return packed

    def point(row: Sequence[float]) -> tuple[float, float, float, float]:
        batch, _, kv_len, heads, kv_heads, size, measured = row
        model = decode_seconds(batch, kv_len, heads, kv_heads, size, _width(kv_dtype), packed)
        return math.log2(kv_len), math.log2(batch), 0.0, math.log(measured / model)

    return _with_table(packed, _DECODE_TABLE, (chip.flops("bf16"), chip.hbm_bandwidth), rows, point)


def _width(dtype: str) -> float:
    if dtype not in _WIDTHS:
        raise SpecError(f"no attention kernel takes {dtype!r}; {near(dtype, _WIDTHS)}")
    return _WIDTHS[dtype]


def _vector_rate(chip: Chip, dtype: str) -> float:
    """Rate of multiplications off the tensor cores [flop/s]."""
    return chip.peak_flops.get("fp32", chip.flops(dtype))


@compilable
def _measured(
    heads: float, kv_heads: float, size: float, along: float, x: float, y: float, c: Floats, at: int
) -> float:
    """Measured over modelled time by the table at a slot; 1 for heads that are not in it."""
    for kind in range(int(c[at + 2])):
        slot = at + 3 + 4 * kind
        if c[slot] == heads and c[slot + 1] == kv_heads and c[slot + 2] == size:
            return math.exp(correction(along, x, y, c, int(c[slot + 3])))
    return 1.0


@compilable
def padded_head(size: float) -> float:
    """Head size as the kernels compute it: kernels exist for multiples of 32, and for 16."""
    return 16.0 if size <= 16.0 else 32.0 * math.ceil(size / 32.0)


@compilable
def prefill_seconds(
    batch: float,
    q_len: float,
    kv_len: float,
    heads: float,
    kv_heads: float,
    head_size: float,
    backward: bool,
    c: Floats,
    value_size: float = 0.0,
    window: float = 0.0,
    causal: bool = True,
) -> float:
    """Time of attention of `q_len` queries a sequence, the last of its `kv_len` tokens [s].

    Parameters
    ----------
    batch
        Sequences.
    q_len, kv_len
        Queries of each, and tokens that its last query sees (more than `q_len` where a prefix is
        cached).
    heads, kv_heads, head_size
        Query heads and key/value heads on this chip, their size.
    backward
        The gradients of it instead.
    c
        From `prefill_vector`.
    value_size
        Size of a head's values, where it is not that of queries and keys.
    window
        A query sees this many of the tokens up to its own; tiles outside are skipped. 0 for all.
    causal
        A query sees no later token; otherwise all.
    """
    cores, rate, vector, exponential, hbm, preparation = c[0], c[1], c[2], c[3], c[4], c[5]
    width, kv_width, tile, backward_share, launch, row_overhead = c[6], c[7], c[8], c[9], c[10], c[11]
    per_core, wave_tail, masked, reduction, l2, l2_bytes = c[12], c[13], c[14], c[15], c[16], c[17]
    value_size = head_size if value_size == 0.0 else value_size
    passes = 1.0
    if backward:
        passes, rate = _BACKWARD_PASSES, rate * backward_share

    size, value = padded_head(head_size), padded_head(value_size)
    if head_size % _MMA != 0.0 or value_size % _MMA != 0.0:
        rate, size, value = min(rate, vector), head_size, value_size
    # products of queries with keys and of scores with values; backward the first again, and two gradients of each
    work = 2.0 * (3.0 * size + 2.0 * value) if backward else 2.0 * (size + value)
    # tiles of one head: the causal staircase, and what is computed above it
    rows, columns = math.ceil(q_len / tile), math.ceil(kv_len / tile)
    whole = float(rows * columns)
    tiles = whole
    if causal:
        tiles = min(rows * math.ceil((kv_len - q_len) / tile) + rows * (rows + 1) / 2.0, whole)
        seen = tiles
        if window > 0.0:
            before, columns = math.ceil((kv_len - q_len) / tile), min(columns, math.ceil((window - 1.0) / tile) + 1)
            ramp = max(0, min(rows, columns - before - 1))
            tiles = ramp * (before + 1) + ramp * (ramp - 1) / 2.0 + (rows - ramp) * float(columns)
        tiles += masked * (whole - seen) * (tiles / seen)
    one = tile * tile * cores * (work / rate + exponential)

    blocks, slots = batch * heads * rows, cores * per_core
    parts = 1.0
    if reduction >= 0.0:
        parts = max(1.0, min(math.floor(slots / blocks), float(columns)))
    waves = blocks * parts / slots
    partial = max(1.0, math.ceil(waves) / waves)
    compute = (
        (blocks * parts * row_overhead + batch * heads * tiles * one) / cores * (1.0 + wave_tail * (partial - 1.0))
    )
    compute = max(compute, row_overhead + math.ceil(columns / parts) * one)

    queries, results = batch * q_len * heads * head_size, batch * q_len * heads * value_size
    cached = batch * kv_len * kv_heads * (head_size + value_size)
    moved = (width * queries + 2.0 * results + kv_width * cached) * passes
    kept = kept_in_l2(moved, l2_bytes) if l2 > 0.0 else 0.0
    near = kept / max(l2, 1.0)
    seconds: float = launch + (compute**3.0 + (moved * (near + (1.0 - kept) / hbm)) ** 3.0) ** (1.0 / 3.0)
    if preparation > 0.0:
        new = batch * q_len * kv_heads * (head_size + value_size)
        prepared = ((2.0 + width) * queries + (2.0 + kv_width) * new) * passes
        seconds += prepared * (near + (1.0 - kept) / preparation)
    if parts > 1.0:
        seconds += reduction
    if c[_PREFILL_TABLE] > 0.0 and causal and not backward and value_size == head_size and not 0.0 < window < kv_len:
        at = int(c[_PREFILL_TABLE])
        along, x, y = math.log2(q_len), math.log2(batch), math.log2(kv_len / q_len)
        seconds *= _measured(heads, kv_heads, head_size, along, x, y, c, at)
        pairs = batch * heads * q_len * (kv_len - (q_len - 1.0) / 2.0)
        seconds = max(seconds, 4.0 * pairs * head_size / c[at])
    return seconds


@compilable
def decode_seconds(
    batch: float, kv_len: float, heads: float, kv_heads: float, head_size: float, kv_width: float, c: Floats
) -> float:
    """Time of attention of one new query a sequence over `kv_len` cached tokens each [s].

    Parameters
    ----------
    batch
        Sequences.
    heads, kv_heads, head_size
        Query heads and key/value heads on this chip, their size.
    kv_width
        Bytes of a cached element [byte].
    c
        From `decode_vector`, for a cache of this width.
    """
    cores, peak, vector, hbm, l2, l2_bytes = c[0], c[1], c[2], c[3], c[4], c[5]
    tile, per_core, smallest, largest, launch = c[6], c[7], c[10], c[11], c[12]
    group = heads / kv_heads
    if smallest <= group <= largest:
        blocks, readers, fewest = batch * kv_heads, 1.0, c[8]
        overhead, per_tile = c[13] + c[14] * (group - 1.0), c[15]
    else:
        blocks, readers, fewest = batch * heads, group, c[9]
        overhead, per_tile = c[16], c[17]
    per_tile *= padded_head(head_size) / _HEAD

    slots = cores * per_core
    tiles = math.ceil(kv_len / tile)
    parts = max(1.0, float(min(math.floor(slots / blocks), math.ceil(tiles / fewest))))
    one = overhead + math.ceil(tiles / parts) * per_tile
    flops = 4.0 * batch * heads * kv_len * head_size
    waves = blocks * parts / slots
    waves = max(1.0, waves + c[20] * (math.ceil(waves) - waves))
    compute = max(one * waves, flops / (peak if head_size % _MMA == 0.0 else vector))

    cache = 2.0 * batch * kv_len * kv_heads * head_size * kv_width
    # what the blocks at work read has to stay in L2 until the last head of a group has read it
    at_work = min(blocks, cores * c[21]) / readers * 2.0 * kv_len * head_size * kv_width
    again = cache * (readers - 1.0) * (1.0 - kept_in_l2(at_work, l2_bytes))
    from_hbm = (cache + again + 4.0 * batch * heads * head_size) / hbm
    from_l2 = cache * readers / l2
    seconds: float = launch + (compute**3.0 + from_hbm**3.0 + from_l2**3.0) ** (1.0 / 3.0)
    if parts > 1.0:
        seconds += c[18] + c[19] * parts
    if batch > 1.0:
        seconds += c[22]
    if c[_DECODE_TABLE] > 0.0:
        at = int(c[_DECODE_TABLE])
        seconds *= _measured(heads, kv_heads, head_size, math.log2(kv_len), math.log2(batch), 0.0, c, at)
        seconds = max(seconds, cache / c[at + 1])
    return seconds
