"""Kernel times of one chip under one software stack, each shape computed once."""

from scaleout.errors import SpecError, near
from scaleout.hardware.attention import attention_seconds
from scaleout.hardware.gemm import gemm_seconds
from scaleout.specs import Chip, GemmConstants, Stack

__all__ = ["WIDTH", "Kernels"]

WIDTH = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0}
"""Bytes of an element."""


class Kernels:
    """Times of matrix multiplications, attention and elementwise passes [s].

    The gap to the next kernel is part of each time.

    Parameters
    ----------
    chip, stack
        Whose constants are used.
    dtype
        Of operands and results.

    Raises
    ------
    SpecError
        The chip has no constants for the dtype or for the stack's attention kernel.
    """

    def __init__(self, chip: Chip, stack: Stack, dtype: str) -> None:
        self.chip, self.stack, self.dtype = chip, stack, dtype
        self.peak = chip.flops(dtype)
        self.gemm_constants = _constants(chip, dtype)
        if stack.attention not in chip.attention:
            raise SpecError(
                f"chip {chip.name!r} has no constants for the attention kernel {stack.attention!r} "
                f"of stack {stack.name!r}; {near(stack.attention, chip.attention)}"
            )
        self.attention_constants = chip.attention[stack.attention]
        self._times: dict[tuple[object, ...], float] = {}

    def gemm(self, m: int, n: int, k: int, out_bytes: float | None = None) -> float:
        """C[m, n] = A[m, k] B[k, n]; `out_bytes` is the traffic per element of C [byte]."""
        width = WIDTH[self.dtype]
        key = ("gemm", m, n, k, out_bytes)
        if key not in self._times:
            seconds = gemm_seconds(
                self.chip, self.gemm_constants, self.peak, m, n, k, width, width if out_bytes is None else out_bytes
            )
            self._times[key] = seconds + self.stack.kernel_gap
        return self._times[key]

    def attention(
        self, batch: int, sequence: int, heads: int, kv_heads: int, head_size: int, *, backward: bool = False
    ) -> float:
        """Causal self-attention over whole sequences."""
        key = ("attention", batch, sequence, heads, kv_heads, head_size, backward)
        if key not in self._times:
            seconds = attention_seconds(
                self.chip, self.attention_constants, self.peak, batch, sequence, heads, kv_heads, head_size, backward
            )
            self._times[key] = seconds + self.stack.kernel_gap
        return self._times[key]

    def elementwise(self, nbytes: float, kernels: int = 1) -> float:
        """Passes that only move `nbytes` through HBM, in so many kernels."""
        rate = self.chip.hbm_bandwidth * self.stack.elementwise_efficiency
        return nbytes / rate + kernels * self.stack.kernel_gap


def _constants(chip: Chip, dtype: str) -> GemmConstants:
    """Constants of a dtype; the two 16-bit formats run on the same units at the same rate."""
    for name in (dtype, {"fp16": "bf16", "bf16": "fp16"}.get(dtype, dtype)):
        if name in chip.gemm:
            return chip.gemm[name]
    raise SpecError(f"chip {chip.name!r} has no gemm constants for {dtype!r}; {near(dtype, chip.gemm)}")
