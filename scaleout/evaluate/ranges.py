"""Shapes of an experiment beside those that its constants were calibrated on."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from scaleout.evaluate.uncertainty import DEFAULTS
from scaleout.hardware import Rates, pack
from scaleout.hardware.attention import measured_attention
from scaleout.hardware.gemm import gemm_constants, measured_products, table_residual
from scaleout.models import layer_kinds
from scaleout.once import once
from scaleout.parallel import Shard, rows, shard
from scaleout.parallel.shapes import ATTENTION, LINEAR, Kernel, kernels
from scaleout.specs import Chip, Stack, TrainingExperiment

__all__ = ["Use", "range_warnings", "repeats", "uses"]

_FORWARD = (
    rows.F_NORM, rows.F_ATTENTION, rows.F_ATTENTION_OUT, rows.F_ADD_NORM, rows.F_MLP, rows.F_ADD,
    rows.F_COMPRESS, rows.F_CROSS,
)  # fmt: skip
_PRODUCT = ("m", "n", "k")
_ATTENTION = ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_size")
_EXPERTS = (rows.F_ROUTE, rows.F_SHARED, rows.F_EXPERTS, rows.F_COMBINE)


@dataclass(frozen=True, slots=True)
class Use:
    """A kernel of the experiment with the constants that time it.

    Parameters
    ----------
    part
        "matmul", "attention" or "elementwise".
    what, operation
        The kernel and where it runs, in words.
    shape, calibrated
        Its shape, and lowest and highest value of each quantity in the measurements.
    weight
        Share of its part, up to a factor that all of the part have in common.
    residual
        Mean absolute error of the constants on shapes held out of their fit [1].
    """

    part: str
    what: str
    operation: str
    shape: Mapping[str, float]
    calibrated: Mapping[str, tuple[float, ...]]
    weight: float
    residual: float

    def outside(self) -> Iterator[tuple[str, float]]:
        """Quantities beyond their range, with the factor by which they are."""
        for name, bounds in self.calibrated.items():
            value = self.shape.get(name)
            if value is not None and not bounds[0] <= value <= bounds[1]:
                yield name, bounds[0] / value if value < bounds[0] else value / bounds[1]

    @property
    def widening(self) -> float:
        """By how much its error is larger than inside the range [1]."""
        distance = max((factor for _, factor in self.outside()), default=1.0)
        return float(distance ** DEFAULTS["growth"].value)

    @property
    def error(self) -> float:
        """Mean absolute error to be expected [1]."""
        return self.residual * self.widening


def uses(experiment: TrainingExperiment) -> list[Use]:
    """Matrix multiplications, attention and elementwise kernels of one micro-batch."""
    chip, stack = experiment.system.chip, experiment.stack
    found: list[Use] = []
    ends = 1
    for kind, layers in Counter(layer_kinds(experiment.model)).items():
        mine = shard(experiment, kind)
        for kernel in kernels(mine, _rates(chip, stack, experiment.precision), experiment.layout.context):
            times = ends if kernel.once else repeats(kernel.row, experiment, layers)
            if times:
                found.append(_use(kernel, experiment, times))
        found += _elementwise(chip, mine, layers)
        ends = 0
    return found


@lru_cache(maxsize=64)
def _rates(chip: Chip, stack: Stack, precision: str) -> Rates:
    return pack(chip, stack, precision)


def repeats(row: int, experiment: TrainingExperiment, layers: int) -> int:
    """How often a row of `LABELS` runs in one micro-batch, over so many layers."""
    if row >= rows.F_EMBEDDING:
        return 1
    if row in (rows.B_MLP_OUT, rows.B_ATTENTION):
        # sums of other rows
        return 0
    modules = experiment.recompute
    full, attention, mlp, moe = (name in modules for name in ("full", "attention", "mlp", "moe"))
    if row == rows.F_QKV_CORE:
        return layers * (attention and not full)
    if row == rows.F_INTO_MLP:
        return layers * (mlp and not full)
    again = full if row in _FORWARD else (full or moe) and row in _EXPERTS
    if row == rows.F_NORM and not full:
        return layers * (1 + attention + mlp)
    return layers * (2 if again else 1)


def _use(kernel: Kernel, experiment: TrainingExperiment, times: int) -> Use:
    chip, precision = experiment.system.chip, experiment.precision
    calibrated: Mapping[str, tuple[float, ...]]
    if kernel.kind == ATTENTION:
        constants = chip.attention[experiment.stack.attention].for_prefill("bf16")
        part, what = "attention", experiment.stack.attention
        residual, calibrated = constants.residual, constants.calibrated
        if found := measured_attention(chip, experiment.stack.attention, "prefill", "bf16", "bf16"):
            calibrated = once(_spans, _ATTENTION, found)
    else:
        low = precision not in ("bf16", "fp16")
        dtype = precision if kernel.kind == LINEAR or not low else "bf16"
        product = gemm_constants(chip, dtype)
        part, what = "matmul", f"matrix multiplication in {dtype}"
        residual, calibrated = product.residual, product.range
        if products := measured_products(chip, dtype):
            residual, calibrated = table_residual(chip, dtype), once(_spans, _PRODUCT, products)
    return Use(
        part=part,
        what=f"{what} on {chip.name}",
        operation=rows.LABELS[kernel.row],
        shape=dict(kernel.shape),
        calibrated=calibrated,
        weight=kernel.work * times,
        residual=DEFAULTS["unfitted"].value if residual is None else residual,
    )


def _spans(names: tuple[str, ...], rows: tuple[tuple[float, ...], ...]) -> dict[str, tuple[float, ...]]:
    """Lowest and highest value of each quantity in a table."""
    return {name: (min(values), max(values)) for name, values in zip(names, zip(*rows, strict=True), strict=False)}


def _elementwise(chip: Chip, s: Shard, layers: int) -> Iterator[Use]:
    """Passes that were measured as kernels of their own, weighted by the arrays that they go over."""
    product = (s.received, s.expert_ffn) if s.experts else (s.tokens, s.ffn)
    shapes = {
        "rmsnorm": ("norm", s.local_tokens, s.hidden, 2.0 * 2 * layers),
        "add": ("add", s.local_tokens, s.hidden, 3.0 * 2 * layers),
        "rope": ("rotation", s.tokens, s.query + s.key, 2.0 * layers * s.rotary),
        "silu_mul": ("product", *product, (s.gates + 1.0) * layers),
        "embedding": ("embedding", s.tokens, s.hidden, 2.0),
    }
    for name, (operation, tokens, width, arrays) in shapes.items():
        if name in chip.elementwise and arrays:
            constants = chip.elementwise[name]
            yield Use(
                part="elementwise",
                what=f"{name} on {chip.name}",
                operation=operation,
                shape={"tokens": tokens, "width": width},
                calibrated=constants.calibrated,
                weight=arrays * tokens * width,
                residual=DEFAULTS["unfitted"].value if constants.residual is None else constants.residual,
            )


def range_warnings(experiment: TrainingExperiment) -> tuple[str, ...]:
    """One line for each kernel and quantity beyond the calibrated range, with the value that is furthest out."""
    furthest: dict[tuple[str, str, bool], tuple[float, Use]] = {}
    shapes: dict[tuple[str, str, bool], set[float]] = {}
    for use in uses(experiment):
        for name, factor in use.outside():
            key = use.what, name, use.shape[name] < use.calibrated[name][0]
            shapes.setdefault(key, set()).add(use.shape[name])
            if key not in furthest or factor > furthest[key][0]:
                furthest[key] = factor, use
    return tuple(
        f"{what}: {name} = {use.shape[name]:,.0f} ({use.operation}) is outside the calibrated "
        f"{use.calibrated[name][0]:,.0f} to {use.calibrated[name][1]:,.0f}, by a factor of {factor:.3g}"
        + {1: "", 2: "; 1 more value is"}.get(len(shapes[key]), f"; {len(shapes[key]) - 1} more values are")
        for key, (factor, use) in furthest.items()
        for what, name, _ in [key]
    )
