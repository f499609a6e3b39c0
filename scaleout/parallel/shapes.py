"""Shapes of a layer's kernels on one rank: what `layer_costs` times, as a list.

There is one source: `layer_costs` itself runs here, with functions that note a kernel in place of
those that time it.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from scaleout.hardware.rates import Rates
from scaleout.parallel import rows
from scaleout.parallel.context import pieces
from scaleout.parallel.costs import layer_costs
from scaleout.parallel.shard import Shard

__all__ = ["ATTENTION", "LINEAR", "PLAIN", "Kernel", "kernels", "pairs"]

LINEAR, PLAIN, ATTENTION = "linear", "plain", "attention"
"""Products at the precision of the linear layers, products in 16 bits, fused attention."""
_ENDS = rows.LABELS.index("embedding")
"""From this row on, operations run once a micro-batch, not once a layer."""


class Kernel(NamedTuple):
    """One kernel.

    Parameters
    ----------
    row
        Of `LABELS`, the operation that it belongs to.
    kind
        `LINEAR`, `PLAIN` or `ATTENTION`: the constants that time it.
    shape
        Names and values: m, n, k of a product, each of a batch on its own; batch, q_len, kv_len,
        heads, kv_heads, head_size of attention.
    work
        Arithmetic of all of its kind on the operation [flop]; halves of attention that are masked
        are counted.
    """

    row: int
    kind: str
    shape: tuple[tuple[str, float], ...]
    work: float

    @property
    def once(self) -> bool:
        """Whether it runs once a micro-batch, not once a layer."""
        return self.row >= _ENDS


def kernels(s: Shard, rates: Rates, context: str = "ring") -> tuple[Kernel, ...]:
    """Matrix multiplications and attention of a layer, forward and backward, and of both ends.

    Parameters
    ----------
    context
        How attention of a sequence that is cut is done, as in `Layout`.
    """
    return _kernels(s, rates.fused, rates.low, rates.dropout, rates.fused_sum, context)


def pairs(s: Shard) -> float:
    """Pairs of tokens of a sequence that attention multiplies, those that the causal mask hides too."""
    length, window = s.sequence, s.window
    if window == 0.0:
        return length * (length + s.before)
    if s.blocks:
        return length // window * window**2 + (length % window) ** 2
    # a token and the window - 1 before it
    return length**2 - (length - window) * (length - window + 1.0)


@lru_cache(maxsize=4096)
def _kernels(s: Shard, fused: float, low: float, dropout: float, fused_sum: float, context: str) -> tuple[Kernel, ...]:
    seen: list[Kernel] = []

    def note(row: int, kind: str, work: float, **shape: float) -> None:
        seen.append(Kernel(row, kind, tuple(shape.items()), work))

    def linear(out: Any, row: int, m: float, n: float, k: float, rates: Rates, quantised: float) -> None:
        note(row, LINEAR, 2.0 * m * n * k, m=m, n=n, k=k)

    def weight_gradient(out: Any, row: int, m: float, n: float, k: float, width: float, rates: Rates) -> None:
        note(row, LINEAR, 2.0 * m * n * k, m=m, n=n, k=k)

    def batched(
        out: Any, row: int, batch: float, m: float, n: float, k: float, out_bytes: float, times: float, rates: Rates
    ) -> None:
        note(row, PLAIN, 2.0 * batch * m * n * k * times, m=m, n=n, k=k)

    def grouped(
        out: Any, row: int, groups: float, m: float, n: float, k: float, rates: Rates, quantised: float
    ) -> None:
        note(row, LINEAR, 2.0 * groups * m * n * k, m=m, n=n, k=k)

    def grouped_gradient(
        out: Any, row: int, groups: float, m: float, n: float, k: float, width: float, rates: Rates
    ) -> None:
        note(row, LINEAR, 2.0 * groups * m * n * k, m=m, n=n, k=k)

    def attention(out: Any, row: int, s: Shard, rates: Rates, backward: bool) -> None:
        scored(row, s, backward, pairs(s), s.sequence + s.before)

    def across(out: Any, row: int, s: Shard, rates: Rates, backward: bool) -> None:
        scored(row, s, backward, s.sequence * s.encoder_sequence, s.encoder_sequence)

    def scored(row: int, s: Shard, backward: bool, pairs: float, seen: float) -> None:
        # two products forward, five backward
        size, value = s.head_size, s.value_size
        work = 2.0 * (3.0 * size + 2.0 * value if backward else size + value) * s.batch * s.heads * pairs
        lengths = {"batch": s.batch, "q_len": s.sequence, "kv_len": seen}
        note(row, ATTENTION, work, **lengths, heads=s.heads, kv_heads=s.kv_heads, head_size=size)

    stand_ins: dict[str, Callable[..., None]] = {
        "linear": linear, "weight_gradient": weight_gradient, "batched": batched, "_fused": attention,
        "_fused_across": across, "grouped_linear": grouped, "grouped_gradient": grouped_gradient,
    }  # fmt: skip
    empty = np.zeros(1)
    flags = Rates(empty, empty, empty, empty, fused, low, dropout, fused_sum, 1.0, 1.0, 0.0, 0.0)
    layer_costs.replacing(stand_ins)(s, flags)
    for piece in pieces(s, context) if s.cp > 1.0 else ():
        attention(empty, rows.F_ATTENTION, piece, flags, False)
        attention(empty, rows.B_ATTENTION_DATA, piece, flags, True)
    return tuple(seen)
