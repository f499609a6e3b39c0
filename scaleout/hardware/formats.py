"""Operand formats of a matrix multiplication, and recipes of training in them: what is cast, and to what."""

from typing import NamedTuple

from scaleout.errors import SpecError, near
from scaleout.specs import Chip

__all__ = ["FORMATS", "RECIPES", "SPELLINGS", "Format", "Recipe", "format_of", "recipe_of"]


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
    "fp8_current": Format("fp8", 1.0, 1.0, cast=True),
    "fp8_block": Format("fp8", 1.0, 1.0, cast=True),
    # a byte of scale for each 32 elements
    "mxfp8": Format("fp8", 1.03125, 1.03125, cast=True),
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
