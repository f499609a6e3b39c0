"""Times of the kernels of a serving step on one chip: products, attention, elementwise passes.

Each method gives seconds of one kernel, or of a few that belong together, with their number. Rates
are those of the chip's own constants; ``docs/steps.md`` says which.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, cast

from scaleout.arrays import Floats
from scaleout.errors import SpecError
from scaleout.hardware.attention import (
    attention_vector,
    decode_seconds,
    decode_vector,
    prefill_seconds,
    without_preparation,
)
from scaleout.hardware.formats import SAME_UNITS, SPARSE, format_of
from scaleout.hardware.gemm import gemm_seconds, gemm_vector, quantise_seconds, quantise_vector
from scaleout.hardware.power import throttled
from scaleout.hardware.rates import UNFUSED
from scaleout.models import CACHE_WIDTH
from scaleout.once import once
from scaleout.specs import (
    AttentionConstants,
    Chip,
    GemmConstants,
    InferenceEngine,
    QuantiseConstants,
    SystolicConstants,
)
from scaleout.specs.gemm import SparseConstants

__all__ = ["LATENT_SHARE", "UNMEASURED_CAST", "Cost", "Kernels", "able", "kin_of", "measured"]

_NORM, _ADD, _ADD_NORM = 4.0, 6.0, 8.0
"""Bytes of an element that a norm, an add, and both in one kernel move [byte]."""
_gemm = gemm_seconds.replacing({})
_prefilled = prefill_seconds.replacing({})
_decoded = decode_seconds.replacing({})
"""Plain, down to what they call."""
UNMEASURED_CAST = QuantiseConstants(hbm_efficiency=0.4, launch=4e-6)
"""Of casts that nobody measured: those of H100 and B200 take 2 to 12 us and 0.32 to 0.81 of HBM's rate."""
_MASKED_SOFTMAX = 8.0
"""Bytes of a score that a softmax kernel moves: 32 bits and a mask of 16 read, 16 bits written [byte]."""
_NEVER = 1000
"""Tiles that a part of a sequence must have at least, in kernels that never split."""
LATENT_SHARE = 0.6
"""Share of the dense rate that attention over compressed keys reaches where products bind [1]: FlashMLA's README
has 580 to 660 of 989 TFLOP/s on the H800."""


class Cost(NamedTuple):
    """Time of kernels [s], and their number."""

    seconds: float = 0.0
    kernels: int = 0

    def plus(self, *others: "Cost") -> "Cost":
        """One after another."""
        return Cost(self.seconds + sum(o.seconds for o in others), self.kernels + sum(o.kernels for o in others))


class Kernels:
    """What a chip's kernels take under an engine.

    Parameters
    ----------
    precision
        Of the linear layers; see `ServingExperiment`.
    cache
        Dtype of the cached keys and values.
    compiled
        Products and attention are timed by machine code. It takes numba, and pays where thousands of chips are asked.

    Raises
    ------
    SpecError
        The chip has no constants for the precision, or of no attention kernel.
    """

    def __init__(
        self, chip: Chip, engine: InferenceEngine, precision: str, cache: str, compiled: bool = False
    ) -> None:  # fmt: skip
        kernels = _machine_code() if compiled else (_gemm, _prefilled, _decoded)
        self._gemm: Callable[..., float] = kernels[0]
        self._prefilled: Callable[..., float] = kernels[1]
        self._decoded: Callable[..., float] = kernels[2]
        read = _as_array if compiled else _as_list
        chip = once(throttled, chip)
        self.chip, self.engine, self.precision = chip, engine, precision
        self.latent_share = LATENT_SHARE
        dense = precision.partition("/")[0]
        self.cast = format_of(dense).cast
        chip = able(chip, precision)
        chip = _slower(chip, engine.product_rate)
        plain = "fp16" if dense == "fp16" else "bf16"
        self._linear = read(gemm_vector(chip, dense, sustained=True))
        self._plain = read(gemm_vector(chip, plain, sustained=True))
        self._quantise = quantise_vector(chip, dense) if self.cast else None
        self._pruned, self._sparse = self._linear, None
        if precision != dense:
            self._pruned = read(gemm_vector(chip, precision, sustained=True))
            self._sparse = _gain(chip.gemm[precision])
        self._hbm = chip.hbm_bandwidth * engine.elementwise_efficiency
        self.cache_width = CACHE_WIDTH[cache]
        self._prefill: Floats | None = None
        self.prepared = False
        """The prefill kernel's time has rotary positions and the write to the cache in it."""
        if engine.prefill_attention[:1] != (UNFUSED,):
            prefill, kept = _kernel(chip, engine.prefill_attention, "prefill"), cache if cache == "fp8" else plain
            self._prefill = read(attention_vector(chip, prefill, plain, kept))
            self._bare = read(without_preparation(attention_vector(chip, prefill, plain, kept)))
            self.prepared = (chip.attention[prefill].for_prefill(plain, kept).preparation or 0.0) > 0.0
        kernel = _kernel(chip, engine.decode_attention, "decode")
        decode = chip.attention[kernel]
        kept = cache if cache in decode.decode else plain
        found = decode.for_decode(kept)
        self._decode = read(decode_vector(chip, found, kernel, plain, kept))
        self._largest_group = found.largest_group
        self._whole = max(found.group_split, found.single_split) >= _NEVER

    def linear(self, m: float, n: float, k: float, fused_cast: bool = True) -> Cost:
        """C[m, n] = A[m, k] B[k, n] at the precision of the linear layers, with the cast of A.

        Parameters
        ----------
        fused_cast
            An elementwise kernel comes before it, which an engine may have cast what it gives.
        """
        if not m:
            return Cost()
        seconds, kernels = self._gemm(m, n, k, 2.0, self._linear), 1
        if self._sparse is not None and m >= self._sparse.rows:
            # fewer bytes may gain more than kernels were seen to
            seconds = max(self._gemm(m, n, k, 2.0, self._pruned), seconds / self._sparse.gain)
        if self._quantise is not None and not (fused_cast and "quantise" in self.engine.fused):
            seconds += quantise_seconds(m * k, self._quantise)
            kernels += 1
        return Cost(float(seconds), kernels)

    def plain(self, m: float, n: float, k: float, groups: float = 1.0) -> Cost:
        """C[m, n] = A[m, k] B[k, n] in 16 bits, of so many groups in one kernel."""
        return Cost(float(self._gemm(m, n, k, 2.0, self._plain, groups)), 1) if m else Cost()

    def passes(self, nbytes: float, kernels: int = 1) -> Cost:
        """Elementwise kernels that move so many bytes altogether."""
        if not nbytes:
            return Cost()
        return Cost(kernels * self.engine.elementwise_launch + nbytes / self._hbm, kernels)

    def add_norm(self, elements: float) -> Cost:
        """The residual, and the norm after it."""
        if "add_norm" in self.engine.fused:
            return self.passes(_ADD_NORM * elements)
        return self.passes((_ADD + _NORM) * elements, 2)

    def activation(self, elements: float, gates: float) -> Cost:
        """What follows the product into a feed-forward block; `elements` is what it gives."""
        if gates < 2.0 or "activation" in self.engine.fused:
            return self.passes(2.0 * (gates + 1.0) * elements)
        return self.passes(10.0 * elements, 2)

    def rope_cache(self, new: float, rotated: float, cached: float) -> Cost:
        """Rotary positions of `rotated` elements a token, and the write of `cached` ones to the KV cache."""
        nbytes = new * (4.0 * rotated + (2.0 + self.cache_width) * cached)
        fused = "rope_cache" in self.engine.fused or not rotated
        return self.passes(nbytes, 1 if fused else 2)

    def prefill(
        self,
        prompts: float,
        new: float,
        scores: float,
        heads: float,
        kv_heads: float,
        size: float,
        value: float,
        window: float,
        causal: bool = True,
    ) -> Cost:
        """Attention of `prompts` sequences' `new` tokens altogether, to `scores` tokens altogether.

        The sequences are taken as alike: of new / prompts tokens each, and as many tokens before them
        as give the pairs of the real ones. Where not `causal`, all see all, and nothing goes to a cache.
        """
        q_len = new / prompts
        kv_len = max(q_len, scores / new + (q_len - 1.0) / 2.0)
        if self._prefill is None:
            return self._unfused(prompts, q_len, kv_len, heads, size, value)
        c = self._prefill if causal else self._bare
        return Cost(
            float(self._prefilled(prompts, q_len, kv_len, heads, kv_heads, size, False, c, value, window, causal)),
            1,
        )

    def _unfused(self, prompts: float, q_len: float, kv_len: float, heads: float, size: float, value: float) -> Cost:
        """Attention as products and passes: queries, keys and values by heads, scores in 32 bits with a mask."""
        rows, pairs = prompts * q_len * heads, prompts * q_len * kv_len * heads
        batch = prompts * heads
        # products of heads are stacked along the rows; each reads matrices of its own
        extra = 2.0 * (batch - 1.0) / batch / q_len
        first = self._gemm(batch * q_len, kv_len, size, 4.0 + extra * size, self._plain)
        second = self._gemm(batch * q_len, value, kv_len, 2.0 + extra * kv_len, self._plain)
        products = Cost(float(first + second), 2)
        return products.plus(self.passes(_MASKED_SOFTMAX * pairs), self.passes(4.0 * rows * (3.0 * size + value), 4))

    def decode(
        self, sequences: int, each: float, context: float, longest: float, heads: float, kv_heads: float, size: float
    ) -> Cost:
        """Attention of `each` new tokens a sequence to `context` cached ones, on average.

        Kernels that split sequences over cores even their lengths out; where one never does, the longest
        alone is a bound.
        """
        group = heads / kv_heads
        if each > 1.0 and group <= self._largest_group:
            # queries of a sequence share a block as the heads of a group do
            group = min(group * each, float(self._largest_group))
        heads = group * kv_heads
        width, c = self.cache_width, self._decode
        seconds = self._decoded(sequences, context, heads, kv_heads, size, width, c)
        if self._whole and longest > context and sequences > 1:
            seconds = max(seconds, self._decoded(1.0, longest, heads, kv_heads, size, width, c))
        return Cost(float(seconds), 1)

    def decode_latent(
        self, tokens: float, sequences: int, context: float, heads: float, rank: float, rope: float
    ) -> Cost:
        """Attention to compressed keys, which all heads share: bytes of the cache, or products."""
        c = self._decode
        read = sequences * context * (rank + rope) * self.cache_width / c[3]
        work = 2.0 * tokens * context * heads * (2.0 * rank + rope) / (self.latent_share * self.chip.flops("bf16"))
        return Cost(float(c[12] + c[18] + (read**3.0 + work**3.0) ** (1.0 / 3.0)), 2)


def measured(chip: Chip, dtype: str) -> bool:
    """Whether products of a dtype were, or of one on the same units."""
    dense = dtype.partition("/")[0]
    return dense in chip.gemm or SAME_UNITS.get(dense, dense) in chip.gemm


def kin_of(chip: Chip, dense: str) -> str | None:
    """The dtype whose constants products of a dtype take: its own, one on the same units, or for int8 fp8; None where
    those of 16 bits are all there is."""
    for name in (dense, SAME_UNITS.get(dense, dense)):
        if name in chip.gemm:
            return name
    shape = format_of(dense)
    # scales of tokens and columns, and a cast before it, as those of fp8
    eight = shape.rate == "int8" and shape.cast and {"int8", "fp8"} <= set(chip.peak_flops)
    return "fp8" if eight and "fp8" in chip.gemm else None


def able(chip: Chip, dtype: str) -> Chip:
    """The chip with constants of products of this dtype.

    Where none were measured, those of a dtype on the same units, or of 16 bits, at the dtype's own rate and bytes;
    weights that are widened inside the product, or pruned 2:4, change its arithmetic by what is known of them.

    Raises
    ------
    SpecError
        Weights are pruned 2:4, and nobody measured that.
    """
    dense, _, pruned = dtype.partition("/")
    shape, made, kin, sustained = format_of(dense), dict(chip.gemm), kin_of(chip, dense), dict(chip.sustained)
    peak, wide = dict(chip.peak_flops), "bf16" if "bf16" in made else "fp16"
    if dense not in ("bf16", "fp16") and "fp16" in peak:
        # 16 bits are fp16 where there is nothing else
        peak.setdefault("bf16", peak["fp16"])
    if kin is None:
        if wide not in made or shape.rate not in peak:
            return chip
        made[dense] = replace(_longer(made[wide], 1.0 + shape.dequantise), range={})
    elif dense not in made:
        if kin == "fp8" and shape.rate == "int8" and kin in sustained:
            # the power cap holds them down alike
            sustained.setdefault("int8", sustained[kin] * chip.flops("int8") / chip.flops(kin))
        if shape.dequantise and not format_of(kin).dequantise:
            made[dense] = _longer(made[kin], 1.0 + shape.dequantise)
        else:
            made[dense] = made[kin]
    if shape.cast and made[dense].quantise is None and dense not in chip.gemm:
        made[dense] = replace(made[dense], quantise=UNMEASURED_CAST)
    if pruned:
        made[dtype] = _pruned(chip, dense, made[dense])
    same = made.keys() == chip.gemm.keys() and sustained == chip.sustained and peak == chip.peak_flops
    return chip if same else replace(chip, peak_flops=peak, gemm=made, sustained=sustained)


def _longer(constants: GemmConstants | SystolicConstants, factor: float) -> GemmConstants | SystolicConstants:
    """Constants of products whose arithmetic takes so many times as long."""
    if isinstance(constants, SystolicConstants):
        return replace(constants, compute_efficiency=constants.compute_efficiency / factor)
    return replace(constants, work=constants.work * factor)


def _gain(constants: GemmConstants | SystolicConstants) -> SparseConstants | None:
    """What pruned weights gain; arrays know no such weights."""
    return None if isinstance(constants, SystolicConstants) else constants.sparse


def _pruned(
    chip: Chip, dense: str, constants: GemmConstants | SystolicConstants
) -> GemmConstants | SystolicConstants:  # fmt: skip
    """Of products with pruned weights, from those of dense ones."""
    sparse = _gain(constants)
    if sparse is None:
        known = sorted(name for name, c in chip.gemm.items() if _gain(c) is not None)
        raise SpecError(
            f"sparsity: {SPARSE} on {chip.name} in {dense}: no gain was measured there, so none is claimed; "
            + (f"accepted: {', '.join(known)}" if known else f"give the chip one as gemm.{dense}.sparse")
        )
    return _longer(constants, 1.0 / sparse.gain)


@cache
def _machine_code() -> tuple[Callable[..., float], ...]:
    """Products, prompts and decoding compiled; of floats alone, so that each is compiled once."""

    def floats(compiled: Callable[..., float]) -> Callable[..., float]:
        def call(*args: Any) -> float:
            return compiled(*(float(one) if type(one) is int else one for one in args))

        return call

    gemm = gemm_seconds.compiled
    return (
        lambda m, n, k, out, c, groups=1.0: gemm(float(m), float(n), float(k), out, c, float(groups)),
        floats(prefill_seconds.compiled),
        floats(decode_seconds.compiled),
    )


def _as_array(vector: Floats) -> Floats:
    return vector


def _as_list(vector: Floats) -> Floats:
    """The same numbers as plain code reads them faster."""
    return cast(Floats, vector.tolist())


def _slower(chip: Chip, rate: float) -> Chip:
    """The chip with the arithmetic of its products at this share of their rate; HBM is as fast as ever."""
    if rate == 1.0:
        return chip
    slower = {name: replace(c, compute_efficiency=c.compute_efficiency * rate) for name, c in chip.gemm.items()}
    return replace(chip, gemm=slower, sustained={name: value * rate for name, value in chip.sustained.items()})


def _kernel(chip: Chip, names: tuple[str, ...], phase: str) -> str:
    """The first of the names that the chip has, or any of the chip's."""

    def able(constants: AttentionConstants) -> bool:
        return bool(constants.prefill if phase == "prefill" else constants.decode)

    found = [name for name, constants in chip.attention.items() if able(constants)]
    for name in (*names, *sorted(found)):
        if name in found:
            return name
    raise SpecError(
        f"chip {chip.name!r} has no constants of {phase} attention, which serving needs; its file needs "
        f"attention: {{NAME: {{{phase}: ...}}}}, as in docs/attention.md"
    )
