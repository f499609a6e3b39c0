"""A few kernels by which chips are compared: work, traffic, time, and how sure the time is."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from scaleout.errors import SpecError
from scaleout.hardware.attention import attention_vector, decode_seconds, decode_vector, prefill_seconds
from scaleout.hardware.elementwise import PASSES, elementwise_seconds, elementwise_vector
from scaleout.hardware.formats import format_of
from scaleout.hardware.gemm import gemm_constants, gemm_seconds, gemm_vector, quantise_seconds, quantise_vector
from scaleout.specs import Chip, Model, SystolicConstants

__all__ = ["Kernel", "KernelTime", "reference_kernels", "time_of"]

_WIDTH = 2.0
"""Of an element of activations and of the cache [byte]."""
_TOKENS = {"": (1, 64, 4096), "fp8": (1, 64, 4096), "nvfp4": (64, 4096)}
"""Dtype of products, "" for one of 16 bits -> tokens."""
_PROMPT, _SEQUENCES, _CONTEXT, _ROWS = 8192, 64, 4096, 4096
"""Tokens of a prompt; sequences and cached tokens of each in decode; rows of a norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTime:
    """A kernel on one chip.

    Parameters
    ----------
    time
        [s]
    kernel
        Which kernel's constants, or "".
    residual
        Their mean absolute error where they were measured [1]; None where nobody measured one.
    constants
        Field of the chip that they are in, such as "gemm.bf16".
    derived
        They follow from the chip's design.
    """

    time: float
    kernel: str
    residual: float | None
    constants: str
    derived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Work that chips are compared by.

    Parameters
    ----------
    name
        In words.
    rate
        Key of `Chip.peak_flops` that it runs at; "" where only bytes count.
    flops, traffic
        Arithmetic [flop], and bytes that must move at least [byte].
    run
        Its time on a chip; a `SpecError` where the chip has no constants for it.
    """

    name: str
    rate: str
    flops: float
    traffic: float
    run: Callable[[Chip], KernelTime]

    def intensity(self) -> float:
        """[flop/byte]"""
        return self.flops / self.traffic

    def bound(self, chip: Chip) -> float:
        """What no kernel on this chip can beat [s]."""
        moved = self.traffic / chip.hbm_bandwidth
        return max(self.flops / chip.flops(self.rate), moved) if self.rate else moved

    def suits(self, chip: Chip) -> bool:
        """Whether the chip has units for it."""
        return not self.rate or self.rate in chip.peak_flops


def time_of(kernel: Kernel, chip: Chip) -> KernelTime | str:
    """The time on a chip, or in a sentence why there is none."""
    if not kernel.suits(chip):
        return f"no {kernel.rate} units"
    try:
        return kernel.run(chip)
    except SpecError as error:
        return str(error).splitlines()[0]


def reference_kernels(model: Model, wide: str = "bf16") -> tuple[Kernel, ...]:
    """Products of one layer of a model at few and many tokens, attention over a prompt and in decode, a norm.

    Parameters
    ----------
    wide
        The format of 16 bits: "bf16" or "fp16".
    """
    queries, cached = model.heads * model.head_size, model.kv_heads * model.head_size
    layer = (
        (queries + 2 * cached, model.hidden),
        (model.hidden, queries),
        (2 * model.ffn, model.hidden),
        (model.hidden, model.ffn),
    )
    rows = [_products(layer, count, dtype or wide) for dtype, tokens in _TOKENS.items() for count in tokens]
    return (*rows, _prefill(model, wide), _decode(model, wide), _norm(model, wide))


def _products(layer: tuple[tuple[int, int], ...], tokens: int, dtype: str) -> Kernel:
    shape = format_of(dtype)

    def run(chip: Chip) -> KernelTime:
        vector, cast = gemm_vector(chip, dtype), quantise_vector(chip, dtype)
        seconds = sum(gemm_seconds(tokens, n, k, _WIDTH, vector) for n, k in layer)
        if shape.cast:
            seconds += sum(quantise_seconds(tokens * k, cast) for _, k in layer)
        constants = gemm_constants(chip, dtype)
        name = next(name for name, found in chip.gemm.items() if found is constants)
        return KernelTime(
            time=seconds,
            kernel=constants.library,
            residual=constants.residual,
            constants=f"gemm.{name}",
            derived=chip.design is not None and isinstance(constants, SystolicConstants),
        )

    return Kernel(
        name=f"products of a layer, {tokens:,} {'token' if tokens == 1 else 'tokens'}, {dtype}",
        rate=shape.rate,
        flops=sum(2.0 * tokens * n * k for n, k in layer),
        traffic=sum(tokens * k * shape.left + n * k * shape.right + tokens * n * _WIDTH for n, k in layer),
        run=run,
    )


def _quickest(chip: Chip, phase: str, time: Callable[[str], KernelTime]) -> KernelTime:
    """The quickest of the kernels that were measured, as a library would take it; of all where none was."""
    found = []
    for name in sorted(chip.attention):
        with suppress(SpecError):
            found.append(time(name))
    if not found:
        raise SpecError(f"chip {chip.name!r} has no constants of {phase} attention in 16 bits")
    return min(found, key=lambda row: (row.residual is None, row.time, row.kernel))


def _cold(chip: Chip) -> Chip:
    """The chip when nothing of what a kernel reads is in L2, nor stays there of what it writes."""
    return replace(chip, l2_bytes=None)


def _prefill(model: Model, wide: str) -> Kernel:
    heads, kv_heads, size = float(model.heads), float(model.kv_heads), float(model.head_size)

    def run(chip: Chip) -> KernelTime:
        def time(name: str) -> KernelTime:
            residual = chip.attention[name].for_prefill(wide).residual
            seconds = prefill_seconds(
                1.0, _PROMPT, _PROMPT, heads, kv_heads, size, False, attention_vector(chip, name, wide)
            )
            return KernelTime(time=seconds, kernel=name, residual=residual, constants=f"attention.{name}")

        return _quickest(chip, "prefill", time)

    return Kernel(
        name=f"attention over a prompt of {_PROMPT:,}, {wide}",
        rate=wide,
        flops=2.0 * heads * size * _PROMPT**2,  # two products, half of each masked
        traffic=2.0 * _PROMPT * (heads + kv_heads) * size * _WIDTH,
        run=run,
    )


def _decode(model: Model, wide: str) -> Kernel:
    heads, kv_heads, size = float(model.heads), float(model.kv_heads), float(model.head_size)

    def run(chip: Chip) -> KernelTime:
        def time(name: str) -> KernelTime:
            constants = chip.attention[name].for_decode(wide)
            vector = decode_vector(_cold(chip), constants, name, wide, wide)
            seconds = decode_seconds(_SEQUENCES, _CONTEXT, heads, kv_heads, size, _WIDTH, vector)
            return KernelTime(time=seconds, kernel=name, residual=constants.residual, constants=f"attention.{name}")

        return _quickest(chip, "decode", time)

    return Kernel(
        name=f"attention in decode, {_SEQUENCES} x {_CONTEXT:,} cached, {wide}",
        rate=wide,
        flops=4.0 * _SEQUENCES * _CONTEXT * heads * size,
        traffic=2.0 * _SEQUENCES * (_CONTEXT * kv_heads + heads) * size * _WIDTH,
        run=run,
    )


def _norm(model: Model, wide: str) -> Kernel:
    def run(chip: Chip) -> KernelTime:
        seconds = elementwise_seconds(_ROWS, model.hidden, _WIDTH, elementwise_vector(_cold(chip), "rmsnorm"))
        residual = chip.elementwise["rmsnorm"].residual
        return KernelTime(time=seconds, kernel="rmsnorm", residual=residual, constants="elementwise.rmsnorm")

    return Kernel(
        name=f"rmsnorm of {_ROWS:,} x {model.hidden:,}, {wide}",
        rate="",
        flops=4.0 * _ROWS * model.hidden,  # a square and a sum, a scale and a gain an element
        traffic=PASSES["rmsnorm"] * _ROWS * model.hidden * _WIDTH,
        run=run,
    )
