"""Kernel times of one chip under one software stack, each shape computed once."""

from scaleout.errors import SpecError, near
from scaleout.hardware.attention import attention_seconds
from scaleout.hardware.formats import WIDTH
from scaleout.hardware.gemm import gemm_constants, gemm_seconds, gemm_vector
from scaleout.specs import Chip, Stack

__all__ = ["Kernels"]


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
        self.gemm_constants = gemm_constants(chip, dtype)
        self.gemm_vector = gemm_vector(chip, dtype, sustained=chip.sustained)
        if stack.attention not in chip.attention:
            raise SpecError(
                f"chip {chip.name!r} has no constants for the attention kernel {stack.attention!r} "
                f"of stack {stack.name!r}; {near(stack.attention, chip.attention)}"
            )
        self.attention_constants = chip.attention[stack.attention]
        self._times: dict[tuple[object, ...], float] = {}

    def gemm(self, m: int, n: int, k: int, out_bytes: float | None = None) -> float:
        """C[m, n] = A[m, k] B[k, n]; `out_bytes` is the traffic per element of C [byte]."""
        key = ("gemm", m, n, k, out_bytes)
        if key not in self._times:
            width = WIDTH.get(self.dtype, 2.0) if out_bytes is None else out_bytes
            self._times[key] = gemm_seconds(m, n, k, width, self.gemm_vector) + self.stack.kernel_gap
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
