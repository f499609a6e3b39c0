"""Transforms of a model and its numbers, such as `w4a16` or `drop_layers=0.25`: what each is called and takes.

A transform is a short text, ``name`` or ``name=value``. What it changes is told in ``docs/compression.md``; how, in
`scaleout.models.compress` (shapes) and `scaleout.compression` (formats, cache, gradients).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from scaleout.errors import SpecError, near

__all__ = [
    "BUNDLES", "GRADIENTS", "KINDS", "OPERANDS", "SPARSITY", "STRUCTURE", "Kind", "Transform", "notes", "transforms",
]  # fmt: skip

STRUCTURE, SPARSITY, OPERANDS, GRADIENTS = range(4)
"""Stages: transforms of an earlier one are carried out first, whatever order they are given in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of transform.

    Parameters
    ----------
    stage
        When it is carried out.
    form
        What its value looks like, for people; "" for one without.
    note
        What its user should know: where it does nothing, or what it is known to cost, with the source.
    """

    stage: int
    form: str = ""
    note: str = ""


BUNDLES = {
    "bf16": ("bf16", "bf16"), "fp16": ("fp16", "fp16"), "fp8": ("fp8", "fp8"), "fp8_block": ("fp8_block", "fp8_block"),
    "int8": ("int8", "int8"), "w8a8": ("int8", "int8"), "mxfp8": ("mxfp8", "mxfp8"), "mxfp4": ("mxfp4", "mxfp4"),
    "nvfp4": ("nvfp4", "nvfp4"), "w8a16": ("int8", "bf16"), "w4a16": ("int4", "bf16"), "w4a8": ("int4", "fp8"),
}  # fmt: skip
"""Formats of weights and of activations of the linear layers, by the name of the pair."""

_FEW_BITS = "4 bits cost accuracy unless the weights are fitted to them (GPTQ, arXiv 2210.17323; AWQ, arXiv 2306.00978)"
_FOUR_BITS = "4 bits on both sides cost accuracy that depends on model and recipe (NVFP4, arXiv 2509.25149)"
_CUT = "what is cut costs accuracy, of which retraining brings back a part (Minitron, arXiv 2407.14679)"
_UPTRAINED = "a trained model has to be trained on after it (GQA, arXiv 2305.13245)"
_OF_BUNDLES = {
    "w4a16": _FEW_BITS, "w4a8": _FEW_BITS, "mxfp4": _FOUR_BITS, "nvfp4": _FOUR_BITS,
    "w8a8": "outliers of activations have to be smoothed into the weights (SmoothQuant, arXiv 2211.10438)",
}  # fmt: skip

KINDS = {
    **{name: Kind(stage=OPERANDS, note=_OF_BUNDLES.get(name, "")) for name in BUNDLES},
    "weights": Kind(stage=OPERANDS, form="a format: fp8, int8, int4, int4/64, mxfp4 ..."),
    "activations": Kind(stage=OPERANDS, form="a format: fp8, int8, mxfp4 ..."),
    "kv": Kind(
        stage=OPERANDS,
        form="fp8, int8 or int4",
        note="few bits of keys and values cost accuracy, by where their scales lie (KIVI, arXiv 2402.02750)",
    ),
    "prune": Kind(stage=SPARSITY, form="2:4, or the share of the weights that is cut, such as 0.9"),
    "drop_layers": Kind(
        stage=STRUCTURE,
        form="the share of the layers that is cut, such as 0.25",
        note="deeper layers are the ones that may be missed, some tasks lose much (arXiv 2403.03853, 2403.17887)",
    ),
    "heads": Kind(stage=STRUCTURE, form="query heads that are left", note=_CUT),
    "prune_heads": Kind(stage=STRUCTURE, form="the share of the heads that is cut, such as 0.25", note=_CUT),
    "width": Kind(stage=STRUCTURE, form="the share of the feed-forward width that is left, such as 0.75", note=_CUT),
    "hidden": Kind(stage=STRUCTURE, form="the share of the model's width that is left, such as 0.75", note=_CUT),
    "tie": Kind(stage=STRUCTURE, note="a model that was trained with two matrices has to be trained on after it"),
    "share_layers": Kind(
        stage=STRUCTURE,
        form="layers that are one set of weights",
        note="arithmetic and cache stay as they are, only weights are fewer (ALBERT, arXiv 1909.11942, loses accuracy)",
    ),
    "gqa": Kind(stage=STRUCTURE, form="key and value heads that are left", note=_UPTRAINED),
    "mqa": Kind(stage=STRUCTURE, note=_UPTRAINED),
    "mla": Kind(
        stage=STRUCTURE,
        form="width of compressed keys and of their rotary part, such as 512+64",
        note="every rank of tensor parallelism holds the whole cache (DeepSeek-V2, arXiv 2405.04434)",
    ),
    "low_rank": Kind(
        stage=STRUCTURE,
        form="the inner width, or its share of the model's width",
        note="accuracy falls with the rank (ASVD, arXiv 2312.05821; SVD-LLM, arXiv 2403.07378)",
    ),
    "gradients": Kind(
        stage=GRADIENTS,
        form="int8, fp8, onebit, how many times fewer bytes, or a share with topk: 0.01 topk",
        note="what is left out has to be carried over to the next step (arXiv 1712.01887, 2102.02888)",
    ),
}
"""Transforms, by name."""

_OF_VALUES = {
    ("prune", "2:4"): (
        "two zeros in four took Qwen3 from 54 to 15 % on reasoning tasks (arXiv 2603.05232), and Llama-3 8B from 0.67 "
        "to 0.40 on MMLU, 0.60 after fine-tuning (ainews247.org/story/17670); products of few tokens gain no time here "
        "and were seen 12 % slower (forums.developer.nvidia.com, 340931, not checked)"
    ),
    ("weights", "int4"): _FEW_BITS,
    ("weights", "mxfp4"): _FEW_BITS,
    ("weights", "nvfp4"): _FEW_BITS,
}
_MISSING = {
    "fp32": "norms, attention, caches and messages around the products have 16 bits in every time model; "
    "accepted: bf16 or fp16",
}
"""Transforms that could be, and have no time model."""
_SCATTERED = (
    "does nothing to time or HBM: tensor cores multiply zeros as fast as numbers, and kernels read whole matrices; the "
    "file of a checkpoint alone is smaller (SparseGPT, arXiv 2301.00774)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """One transform of an experiment.

    Parameters
    ----------
    name, value
        As given; "" for no value.
    """

    name: str
    value: str = ""

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            if self.name in _MISSING:
                raise SpecError(f"{self.name}: {_MISSING[self.name]}")
            hint = near(self.name, KINDS)
            everything = "" if hint.startswith("known") else f" Known: {', '.join(KINDS)}"
            raise SpecError(f"unknown transform {self.name!r:.60}; {hint}{everything}")
        form = KINDS[self.name].form
        if bool(form) != bool(self.value):
            raise SpecError(f"{self}: {f'needs a value, {self.name}={form}' if form else 'takes no value'}")

    def __str__(self) -> str:
        return f"{self.name}={self.value}" if self.value else self.name

    @property
    def stage(self) -> int:
        """When it is carried out."""
        return KINDS[self.name].stage

    @property
    def scattered(self) -> bool:
        """Zeros wherever they fall."""
        return self.name == "prune" and self.value != "2:4"

    @property
    def note(self) -> str:
        """What its user should know; "" for nothing."""
        if self.scattered:
            return _SCATTERED
        return _OF_VALUES.get((self.name, self.value.partition("/")[0]), KINDS[self.name].note)

    @property
    def number(self) -> float:
        """Its value as a number above 0.

        Raises
        ------
        SpecError
            It is none.
        """
        try:
            value = float(self.value)
        except ValueError:
            value = 0.0
        if not 0.0 < value < 1e9:
            raise SpecError(f"{self}: expected {KINDS[self.name].form}")
        return value

    @property
    def share(self) -> float:
        """Its value as a share between 0 and 1 [1]."""
        if self.number >= 1.0:
            raise SpecError(f"{self}: expected {KINDS[self.name].form}")
        return self.number

    @property
    def count(self) -> int:
        """Its value as a whole number."""
        if self.number != int(self.number):
            raise SpecError(f"{self}: expected {KINDS[self.name].form}")
        return int(self.number)


def transforms(texts: object) -> tuple[Transform, ...]:
    """Transforms from texts, in the order in which they are carried out.

    >>> [str(one) for one in transforms(["w4a16", "drop_layers=0.25"])]
    ['drop_layers=0.25', 'w4a16']

    Raises
    ------
    SpecError
        A name is unknown, a value is missing, or one of two would undo the other.
    """
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str | Transform) for text in texts):
        raise SpecError(f"{texts!r:.60} is no list of transforms; expected such as [w4a16, drop_layers=0.25]")
    found = sorted((one if isinstance(one, Transform) else _parsed(one) for one in texts), key=lambda one: one.stage)
    seen: dict[str, Transform] = {}
    for one in found:
        for what in _sets(one):
            if what in seen:
                raise SpecError(f"{one}: {seen[what]} sets {what} already; give one of them")
            seen[what] = one
    return tuple(found)


def _parsed(text: str) -> Transform:
    name, _, value = text.partition("=")
    return Transform(name=name.strip(), value=" ".join(value.split()))


def _sets(one: Transform) -> tuple[str, ...]:
    """What can be set but once."""
    if one.name in BUNDLES:
        return ("weights", "activations")
    return () if one.stage == STRUCTURE else (one.name,)


def notes(texts: Iterable[str]) -> tuple[str, ...]:
    """What the user of transforms should know, a line each."""
    return tuple(f"compress: {one}: {one.note}" for one in map(_parsed, texts) if one.note)
