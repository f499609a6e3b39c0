"""Times of a net's operators on one chip under one engine; ``docs/nets.md``.

Products are those of `hardware.gemm` with the bytes that really move, attention and elementwise passes those of a
serving step, lookups bytes at a share of HBM's rate.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Literal, NamedTuple, cast

from scaleout.arrays import Floats
from scaleout.errors import SpecError, near
from scaleout.hardware.elementwise import kept_in_l2
from scaleout.hardware.formats import format_of
from scaleout.hardware.gemm import gemm_constants, gemm_seconds, gemm_vector
from scaleout.models.nets import Attention, Exchange, Gather, Operator, Pass, Product, Widths
from scaleout.parallel.inference_kernels import Kernels, able, measured
from scaleout.specs import Chip, GemmConstants, InferenceEngine

__all__ = ["GATHER_SHARE", "PRECISIONS", "TABLE_BYTES", "Bound", "Timed", "Timer", "gather_share", "stands_for"]


_gemm = gemm_seconds.replacing({})
"""Plain, down to what it calls."""


class Precision(NamedTuple):
    """Format of the products (`hardware.formats`), and bytes of an element of activations and of weights [byte]."""

    product: str
    activation: float
    weight: float


PRECISIONS = {
    "fp32": Precision("fp32", 4.0, 4.0),
    "bf16": Precision("bf16", 2.0, 2.0),
    "fp16": Precision("fp16", 2.0, 2.0),
    # scales are known before, so that every kernel writes 8 bits itself
    "fp8": Precision("fp8", 1.0, 1.0),
    "int8": Precision("sq", 1.0, 1.0),
    "w8a16": Precision("int8_wo", 2.0, 1.0),
    "w4a16": Precision("int4_wo", 2.0, 0.53125),
}
TABLE_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0}
"""Of an element of an embedding table [byte]."""
GATHER_SHARE = 0.5
"""Share of HBM's rate that rows at random places reach where the chip has no constants of a "gather" [1]; between 0.3
and 0.6 by what is told of such kernels, unverified."""
SECTOR = 64.0
"""Bytes that HBM gives at least: a row of a table takes whole ones [byte] (two sectors of 32, of all GPUs here)."""
_IN_CACHE = 0.5
"""Share of L2 that small tables may fill [1]."""

Bound = Literal["compute", "memory", "launch", "links"]


class Timed(NamedTuple):
    """What one of an operator's repeats takes.

    Parameters
    ----------
    seconds
        With all its kernels and the gaps after them [s].
    kernels
        Of it.
    bound
        What takes the longest.
    """

    seconds: float
    kernels: int
    bound: Bound


class Timer:
    """Times operators.

    Parameters
    ----------
    precision
        A key of `PRECISIONS`.
    tables
        A key of `TABLE_BYTES`.
    exchange
        Time of an all-to-all of a buffer of so many bytes [s]; needed where operators have exchanges.

    Raises
    ------
    SpecError
        The chip has no rate or no constants for the precision.
    """

    def __init__(
        self,
        chip: Chip,
        engine: InferenceEngine,
        precision: str,
        tables: str = "fp16",
        exchange: Callable[[float], float] | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise SpecError(f"precision: {precision!r:.40} is unknown; {near(precision, PRECISIONS)}")
        kind = PRECISIONS[precision]
        self.chip, self.engine, self.precision = chip, engine, precision
        self.widths = Widths(kind.activation, kind.weight, TABLE_BYTES[tables])
        self._format = format_of(kind.product)
        self._rate = chip.flops(self._format.rate)
        self._fitted = stands_for(chip, kind.product)
        self._constants = gemm_constants(self._fitted, kind.product)
        self._packed: dict[float, Floats] = {}
        self._exchange = exchange
        self._hbm = chip.hbm_bandwidth
        self._graphs = bool(engine.graph_sizes)

    @cached_property
    def _kernels(self) -> Kernels:
        """Attention in 16 bits."""
        plain = "fp16" if self.precision == "fp16" else "bf16"
        return Kernels(self.chip, self.engine, plain, plain)

    def time(self, one: Operator) -> Timed:
        """Of one of the repeats."""
        match one:
            case Product():
                return self._product(one)
            case Attention():
                return self._attention(one)
            case Pass():
                return self._pass(one)
            case Gather():
                return self._gather(one)
            case Exchange():
                return self._exchanged(one)

    def _timed(self, seconds: float, kernels: int, fixed: float, compute: float, memory: float) -> Timed:
        """With launches and gaps; what is least apart from its bound is named by it."""
        total = seconds + kernels * self.engine.kernel_gap
        if not self._graphs:
            total = max(total, kernels * self.engine.host_launch)
        if total - seconds + fixed > 0.5 * total:
            return Timed(total, kernels, "launch")
        return Timed(total, kernels, "compute" if compute > memory else "memory")

    def _gemm(self, k: float) -> Floats:
        """Constants of products of sums of k. What a wave costs beside its arithmetic was measured on long sums; a
        core holds several blocks of shorter ones at a time, which hide it from each other."""
        short = min(1.0, k / self._constants.range["k"][0]) if "k" in self._constants.range else 1.0
        if short not in self._packed:
            product = PRECISIONS[self.precision].product
            faded = replace(
                self._constants, compute_efficiency=self.engine.product_rate * self._constants.compute_efficiency
            )
            if isinstance(faded, GemmConstants):
                # arrays load the next tile while one is multiplied: there is nothing to fade
                faded = replace(faded, tile_overhead=short * faded.tile_overhead)
            held = {name: self.engine.product_rate * rate for name, rate in self._fitted.sustained.items()}
            chip = replace(self._fitted, gemm={product: faded}, sustained=held)
            self._packed[short] = cast(Floats, gemm_vector(chip, product, sustained=True).tolist())
        return self._packed[short]

    def _through(self, activations: float) -> float:
        """Bytes of HBM that take as long as so many of activations, which the kernel before has written and the one
        after will read: those that fit in L2 move at its rate [byte]."""
        kept = kept_in_l2(activations, self.chip.l2_bytes or 0.0)
        ratio = self._constants.l2_ratio if isinstance(self._constants, GemmConstants) else None
        return activations * (1.0 - kept + kept / max(1.0, ratio or 1.0))

    def _product(self, one: Product) -> Timed:
        """Bytes of the formula are replaced by those that move: a convolution reads its input once. Either side may
        be the rows of the kernel's tiles."""
        width, shape = self.widths, self._format
        fused = "epilogue" in self.engine.fused
        passing = (one.read + one.written + (one.extra if fused else 0.0)) * width.activation
        trained = one.groups * one.n * one.k * width.weight
        moved = self._through(passing) + trained
        out = (moved - one.groups * one.k * (one.m * shape.left + one.n * shape.right)) / one.written
        constants = self._gemm(one.k)
        seconds = float(_gemm(one.m, one.n, one.k, out, constants, one.groups))
        if shape.left == shape.right:
            seconds = min(seconds, float(_gemm(one.n, one.m, one.k, out, constants, one.groups)))
        kernels, fixed = 1, self._constants.launch
        after = 0.0 if fused else one.extra + 2.0 * one.written * float(one.activation or one.extra > 0.0)
        if after:
            after *= width.activation
            seconds, kernels, moved = seconds + self._moving(after, 1), 2, moved + after
            fixed += self.engine.elementwise_launch
        return self._timed(seconds, kernels, fixed, one.flop / self._rate, moved / self._hbm)

    def _attention(self, one: Attention) -> Timed:
        kernels = self._kernels
        if one.cached:
            cost = kernels.decode(
                int(one.sequences), one.q_len, one.kv_len, one.kv_len, one.heads, one.kv_heads, one.head_size
            )  # fmt: skip
        else:
            new = one.sequences * one.q_len
            scores = new * (one.kv_len - (one.q_len - 1.0) / 2.0)
            cost = kernels.prefill(
                one.sequences, new, scores, one.heads, one.kv_heads, one.head_size, one.head_size, 0.0, one.causal
            )
        plain = self.chip.flops("fp16" if self.precision == "fp16" else "bf16")
        return self._timed(
            cost.seconds, cost.kernels, self.engine.elementwise_launch, one.flop / plain,
            one.bytes(self.widths) / self._hbm,
        )  # fmt: skip

    def _pass(self, one: Pass) -> Timed:
        fused = bool(one.kind) and one.kind in self.engine.fused
        kernels = 2 if one.kind and not fused else 1
        passing = (one.fused if fused else one.moved) * self.widths.activation
        moved = self._through(passing) + one.parameters * self.widths.weight
        fixed = kernels * self.engine.elementwise_launch
        return self._timed(self._moving(moved, kernels), kernels, fixed, 0.0, moved / self._hbm)

    def _moving(self, nbytes: float, kernels: int) -> float:
        """Elementwise kernels [s]."""
        return kernels * self.engine.elementwise_launch + nbytes / (self._hbm * self.engine.elementwise_efficiency)

    def _gather(self, one: Gather) -> Timed:
        """Small tables stay in L2, and cost nothing beside those that do not; sums are written in order."""
        room, read = _IN_CACHE * (self.chip.l2_bytes or 0.0), 0.0
        for rows, lookups, size in sorted(zip(one.rows, one.lookups, one.sizes, strict=True)):
            width = size * self.widths.table
            room -= rows * width
            if room < 0.0:
                read += one.items * lookups * -(-width // SECTOR) * SECTOR
        written = one.written * self.widths.activation
        seconds = (
            self.engine.elementwise_launch
            + read / (self._hbm * gather_share(self.chip))
            + written / (self._hbm * self.engine.elementwise_efficiency)
        )
        return self._timed(seconds, 1, self.engine.elementwise_launch, 0.0, (read + written) / self._hbm)

    def _exchanged(self, one: Exchange) -> Timed:
        if self._exchange is None:
            raise SpecError(f"{one.name}: an exchange between chips, and there is one chip")
        return Timed(self._exchange(one.bytes(self.widths)) + self.engine.message_launch, 1, "links")


def gather_share(chip: Chip) -> float:
    """Share of HBM's rate that rows at random places reach [1]."""
    return chip.elementwise["gather"].efficiency if "gather" in chip.elementwise else GATHER_SHARE


def stands_for(chip: Chip, product: str) -> Chip:
    """The chip with constants for a format of products: its own, or those of 16 bits at the format's own rate and
    bytes. A long run in 8-bit integers holds the rate of one in 8-bit floats, if that was measured.

    Raises
    ------
    SpecError
        The chip has no rate of that kind, or no constants at all.
    """
    rate = format_of(product).rate
    chip.flops(rate)
    if rate == "int8" and "fp8" in chip.sustained and rate not in chip.sustained:
        held = chip.sustained["fp8"] * chip.flops(rate) / chip.flops("fp8")
        chip = replace(chip, sustained={**chip.sustained, rate: held})
    lent = able(chip, product)
    if lent is chip or measured(chip, product):
        return lent
    # the range of the constants that were lent still says what they were fitted on
    return replace(lent, gemm={**lent.gemm, product: replace(lent.gemm[product], range=chip.gemm["bf16"].range)})
