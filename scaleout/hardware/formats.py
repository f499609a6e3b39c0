"""Operand formats of a matrix multiplication, and recipes of training in them: what is cast, and to what."""

from typing import NamedTuple

from scaleout.errors import SpecError, near
from scaleout.specs import Chip

__all__ = [
    "FORMATS", "OPERANDS", "RECIPES", "SAME_UNITS", "SPARSE", "SPELLINGS", "Format", "Recipe", "format_of",
    "recipe_of", "sparse_of",
]  # fmt: skip

_OF_4, _OF_8 = 0.10, 0.06
"""Share by which weights that are widened inside the product lengthen its arithmetic, of 4 and of 8 bits [1]: what the
constants fitted to kernels of the A100 give (0.891 of peak in bf16, 0.811 and 0.843 with such weights)."""


class Format(NamedTuple):
    """Operands of C = A B, where A holds activations and B weights.

    Parameters
    ----------
    rate
        Key of the chip's `peak_flops`.
    left, right
        Bytes of an element of A and of B, in HBM too, block scales included [byte].
    cast
        16-bit activations are brought to `left` bytes in a pass of their own.
    dequantise
        Share by which widening B inside the product lengthens its arithmetic, where nobody measured it [1].
    """

    rate: str
    left: float
    right: float
    cast: bool = False
    dequantise: float = 0.0

    @property
    def weight_only(self) -> bool:
        """Weights alone are narrow, and the product is one of 16 bits."""
        return self.dequantise > 0.0 and not self.cast


FORMATS = {
    "bf16": Format("bf16", 2.0, 2.0),
    "fp16": Format("fp16", 2.0, 2.0),
    "fp32": Format("fp32", 4.0, 4.0),
    "fp8": Format("fp8", 1.0, 1.0, cast=True),
    "fp8_current": Format("fp8", 1.0, 1.0, cast=True),
    "fp8_block": Format("fp8", 1.0, 1.0, cast=True),
    # a byte of scale for each 32 elements
    "mxfp8": Format("fp8", 1.03125, 1.03125, cast=True),
    "mxfp4": Format("fp4", 0.53125, 0.53125, cast=True),
    # a byte of scale for each 16 elements
    "nvfp4": Format("fp4", 0.5625, 0.5625, cast=True),
    # scales of a token, and of a column
    "int8": Format("int8", 1.0, 1.0, cast=True),
    # SmoothQuant: int8 on both sides; the norm before it writes int8
    "sq": Format("int8", 1.0, 1.0),
    # only the weights are narrow, and the product is one of 16 bits
    "int8_wo": Format("bf16", 2.0, 1.0, dequantise=_OF_8),
    "int4_wo": Format("bf16", 2.0, 0.5, dequantise=_OF_4),
    "w8a16": Format("bf16", 2.0, 1.0, dequantise=_OF_8),
    "fp8_wo": Format("bf16", 2.0, 1.0, dequantise=_OF_8),
    # scale and zero of 16 bits each for each 128, 64 or 32 weights
    "w4a16": Format("bf16", 2.0, 0.53125, dequantise=_OF_4),
    "w4a16_g64": Format("bf16", 2.0, 0.5625, dequantise=_OF_4),
    "w4a16_g32": Format("bf16", 2.0, 0.625, dequantise=_OF_4),
    "mxfp4_wo": Format("bf16", 2.0, 0.53125, dequantise=_OF_4),
    "nvfp4_wo": Format("bf16", 2.0, 0.5625, dequantise=_OF_4),
    # weights of 4 bits in groups of 128, widened to the 8 bits of the activations
    "w4a8": Format("fp8", 1.0, 0.53125, cast=True, dequantise=_OF_4),
    "w4a8_int8": Format("int8", 1.0, 0.53125, cast=True, dequantise=_OF_4),
}
"""Formats of products, by name: kernels that were measured, and precisions of experiments."""

OPERANDS = {
    ("bf16", "bf16"): "bf16", ("fp16", "fp16"): "fp16",
    ("fp8", "fp8"): "fp8", ("fp8_block", "fp8_block"): "fp8_block", ("int8", "int8"): "int8",
    ("mxfp8", "mxfp8"): "mxfp8", ("mxfp4", "mxfp4"): "mxfp4", ("nvfp4", "nvfp4"): "nvfp4",
    ("int8", "bf16"): "w8a16", ("fp8", "bf16"): "fp8_wo", ("mxfp4", "bf16"): "mxfp4_wo", ("nvfp4", "bf16"): "nvfp4_wo",
    ("int4", "bf16"): "w4a16", ("int4/128", "bf16"): "w4a16", ("int4/64", "bf16"): "w4a16_g64",
    ("int4/32", "bf16"): "w4a16_g32",
    ("int4", "fp8"): "w4a8", ("int4/128", "fp8"): "w4a8",
    ("int4", "int8"): "w4a8_int8", ("int4/128", "int8"): "w4a8_int8",
}  # fmt: skip
"""Precision of a pair of weights and activations; int4 with the weights that share a scale."""

SAME_UNITS = {
    "fp16": "bf16", "bf16": "fp16", "fp8_current": "fp8", "mxfp8": "fp8_block", "mxfp4": "nvfp4", "int8": "sq",
    "w8a16": "int8_wo", "fp8_wo": "int8_wo", "w4a16": "int4_wo", "w4a16_g64": "int4_wo", "w4a16_g32": "int4_wo",
    "mxfp4_wo": "int4_wo", "nvfp4_wo": "int4_wo", "w4a8": "fp8", "w4a8_int8": "sq",
}  # fmt: skip
"""Formats whose measured kernels stand in for those of another: on the same units, scaled alike in the product."""

SPELLINGS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
"""Other names of a dtype."""

SPARSE = "2:4"
"""Two of four values that follow each other are kept, each with an index of 2 bits."""


def sparse_of(name: str) -> str:
    """The name of a format whose weights are pruned 2:4.

    >>> format_of(sparse_of("bf16")).right
    1.125
    """
    return f"{name}/{SPARSE}"


def format_of(dtype: str) -> Format:
    """The format of a dtype, or a `SpecError` with near matches.

    >>> format_of("int4_wo").right
    0.5
    """
    dense, _, pruned = dtype.partition("/")
    if dense not in FORMATS or pruned not in ("", SPARSE):
        raise SpecError(f"unknown dtype {dtype!r} of a matrix multiplication; {near(dtype, FORMATS)}")
    found = FORMATS[dense]
    # half of the values, and an index of 2 bits for each that is left: 1/16 of the bytes of 16 bits
    return found._replace(right=found.right / 2.0 + 0.125) if pruned else found


class Recipe(NamedTuple):
    """How the linear layers of a training step are brought to few bits; see ``docs/precision.md``.

    Parameters
    ----------
    width
        Bytes of an element of a cast operand, its scales included [byte].
    reads
        Times that a tensor is read to cast it: twice where its own maximum must be known before.
    both
        An operand is cast by its rows and by its columns on every chip: blocks of one are no
        blocks of the other. Else columns are written only for units that multiply rows alone.
    measured
        Reads of the kernel whose rate the chip's constants give (`GemmConstants.quantise`), which
        writes one layout.
    blocks
        Scales of blocks are applied inside the product: chips that can have units for fp4.
    source
        Where the recipe is told.
    """

    width: float
    reads: int
    both: bool
    measured: int
    blocks: bool
    source: str

    def layouts(self, chip: Chip) -> int:
        """How often a cast operand is written: by rows, and by columns for the other two products."""
        return 2 if self.both or not _scales_blocks(chip) else 1

    def cast_bytes(self, chip: Chip) -> float:
        """Traffic of the cast of an element [byte]."""
        return 2.0 * self.reads + self.held_bytes(chip)

    def held_bytes(self, chip: Chip) -> float:
        """What all layouts of an element take [byte]."""
        return self.width * self.layouts(chip)


_GUIDE = "NVIDIA Transformer Engine user guide, Low precision training"
RECIPES = {
    "fp8": Recipe(1.0, 1, False, 2, False, f"{_GUIDE}: delayed scaling, by maxima of past steps"),
    "fp8_current": Recipe(1.0, 2, False, 2, False, f"{_GUIDE}: FP8 current scaling, one scale a tensor"),
    # fp32 scales of 1 x 128 and, for weights, 128 x 128
    "fp8_block": Recipe(
        1.03125, 1, True, 1, False, f"DeepSeek-V3, arXiv 2412.19437, section 3.3; {_GUIDE}: FP8 blockwise scaling"
    ),
    # a byte of scale each 32 elements
    "mxfp8": Recipe(1.03125, 1, True, 1, True, f"Mishra et al., arXiv 2506.08027; {_GUIDE}: MXFP8"),
    # half a byte, a byte of scale each 32 elements
    "mxfp4": Recipe(0.53125, 1, True, 2, True, "OCP Microscaling formats 1.0; Tseng et al., arXiv 2502.20586"),
    # half a byte, a byte of scale each 16 elements, and one scale a tensor
    "nvfp4": Recipe(0.5625, 2, True, 2, True, f"NVIDIA, arXiv 2509.25149, section 4; {_GUIDE}: NVFP4"),
}
"""Recipes by the name of a precision; bf16 and fp16 need none."""


def _scales_blocks(chip: Chip) -> bool:
    return "fp4" in chip.peak_flops


def recipe_of(precision: str, chip: Chip) -> Recipe | None:
    """The recipe of a precision on a chip; None where operands have 16 bits.

    Raises
    ------
    SpecError
        The chip's units cannot run it.
    """
    recipe = RECIPES.get(precision)
    if recipe is not None and recipe.blocks and not _scales_blocks(chip):
        accepted = [name for name in ("bf16", "fp8", "fp8_block") if name in chip.gemm]
        raise SpecError(
            f"precision: {precision} scales blocks inside the product, which {chip.name} cannot (it has no fp4 units); "
            f"accepted: {', '.join(accepted) or 'bf16'}"
        )
    return recipe
