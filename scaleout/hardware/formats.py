"""Operand formats of a matrix multiplication: bytes of an element, and the units that multiply them."""

from typing import NamedTuple

from scaleout.errors import SpecError, near

__all__ = ["FORMATS", "SPELLINGS", "Format", "format_of"]


class Format(NamedTuple):
    """Operands of C = A B, where A holds activations and B weights.

    Parameters
    ----------
    rate
        Key of the chip's `peak_flops`.
    left, right
        Bytes of an element of A and of B, block scales included [byte].
    cast
        16-bit activations are brought to `left` bytes in a pass of their own.
    """

    rate: str
    left: float
    right: float
    cast: bool = False


FORMATS = {
    "bf16": Format("bf16", 2.0, 2.0),
    "fp16": Format("fp16", 2.0, 2.0),
    "fp32": Format("fp32", 4.0, 4.0),
    "fp8": Format("fp8", 1.0, 1.0, cast=True),
    "fp8_block": Format("fp8", 1.0, 1.0, cast=True),
    # a byte of scale for each 16 elements
    "nvfp4": Format("fp4", 0.5625, 0.5625, cast=True),
    # SmoothQuant: int8 on both sides; the norm before it writes int8
    "sq": Format("int8", 1.0, 1.0),
    # only the weights are narrow, and the product is one of 16 bits
    "int8_wo": Format("bf16", 2.0, 1.0),
    "int4_wo": Format("bf16", 2.0, 0.5),
}

SPELLINGS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
"""Other names of a dtype."""


def format_of(dtype: str) -> Format:
    """The format of a dtype, or a `SpecError` with near matches.

    >>> format_of("int4_wo").right
    0.5
    """
    if dtype not in FORMATS:
        raise SpecError(f"unknown dtype {dtype!r} of a matrix multiplication; {near(dtype, FORMATS)}")
    return FORMATS[dtype]
