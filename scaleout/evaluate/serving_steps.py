"""What the time of serving steps is made of, by kind, and how far it may be off.

A typical step stands for all: as many sequences as decoded on the average, that see as much as the
average reply does, and beside them its share of the prompts' tokens. Errors of kinds are those of
``docs/uncertainty.md``, put together in the same way.
"""

import math
from collections import Counter, defaultdict
from typing import NamedTuple

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.evaluate.uncertainty import DEFAULTS
from scaleout.hardware.gemm import measured_products, table_residual
from scaleout.parallel.inference import Layers
from scaleout.parallel.inference_counts import Products
from scaleout.parallel.inference_kernels import Cost, kin_of
from scaleout.serving.steps import PoolSteps
from scaleout.serving.work import Work, upto
from scaleout.specs import Chip, InferenceEngine, ServingExperiment

__all__ = ["Typical", "errors_of", "parts_of"]

_RESTS_ON = {
    "matmul": ("chip.peak_flops", "chip.cores", "chip.gemm", "chip.sustained", "engine.product_rate"),
    "attention": ("chip.attention", "chip.exponentials", "engine.prefill_attention", "engine.decode_attention"),
    "elementwise": ("chip.hbm_bandwidth", "engine.elementwise_launch", "engine.elementwise_efficiency"),
    "launch": ("engine.kernel_gap", "engine.host_launch", "engine.message_launch"),
    "host": ("engine.step_overhead", "engine.sequence_overhead", "engine.prompt_overhead", "system.host"),
    "tp": ("system.scale_up", "system.library", "engine.own_launch", "engine.own_step", "engine.own_rate"),
    "ep": ("system.scale_up", "system.library", "system.moe_kernels", "engine.experts_exchange"),
    "pp": ("system.scale_up", "system.library"),
}
"""Kind of time -> constants, where a file that lists them as unverified widens its error."""
_HOST = 0.3
"""Error of the host's share [1]: between versions of an engine it changes by more than that."""


class Typical(NamedTuple):
    """Steps on the average.

    Parameters
    ----------
    decodes
        Sequences that decode, on an attention rank.
    context
        Tokens that each of them sees.
    prompt
        Tokens of a prompt.
    prompt_steps
        Steps with a prompt, of all steps [1].
    """

    decodes: int
    context: int
    prompt: int
    prompt_steps: float


def parts_of(timer: PoolSteps, typical: Typical) -> dict[str, float]:
    """Time of the typical step by kind [s]; of a pool that does nothing, of one token."""
    experiment, ranks = timer.experiment, timer.pool.dp
    parts: dict[str, float] = defaultdict(float)
    share = min(1.0, typical.prompt_steps)
    decodes = typical.decodes
    tokens = decodes * (1 + (experiment.speculation.tokens if experiment.speculation else 0))
    seen = upto(decodes * typical.context), upto(typical.context)
    steps = []
    if decodes and share < 1.0:
        steps.append((1.0 - share, Work(0, 0, 0, 0, decodes, tokens, *seen, tokens)))
    if share or not steps:
        new = max(1, min(typical.prompt, experiment.max_batched_tokens - tokens))
        beside = (decodes, tokens, *seen) if decodes else (0, 0, 0, 0)
        steps.append((share or 1.0, Work(new, new * (new + 1) // 2, new, 1, *beside, tokens + 1)))
    for weight, work in steps:
        for kind, seconds in _parts(timer, (work,) * ranks).items():
            parts[kind] += weight * seconds
    return dict(parts)


def _parts(timer: PoolSteps, works: tuple[Work, ...]) -> dict[str, float]:
    """Time of a step by kind [s]."""
    found: dict[str, float] = defaultdict(float)
    layers, engine = timer.layers, timer.engine
    compute = 0.0
    for stage in timer.program(works):
        for segment in stage:
            compute += segment.compute / TICKS_PER_SECOND
            if segment.message is not None:
                found[segment.message.family[:2]] += segment.alone / TICKS_PER_SECOND
    whole, attention, tokens = _kernels(layers, works)
    plain = layers.kernels
    layers.kernels = Products(timer.layers.chip, engine, layers.precision, timer.experiment.cache.dtype)
    try:
        products, _, _ = _kernels(layers, works)
    finally:
        layers.kernels = plain
    kernels = whole.kernels + attention.kernels
    found["matmul"] = products.seconds
    found["attention"] = attention.seconds
    found["elementwise"] = whole.seconds - products.seconds
    found["launch"] = kernels * engine.kernel_gap
    # what is left: the host, and tokens that graphs are padded with
    left = compute - whole.seconds - attention.seconds - found["launch"]
    found["host"] = max(0.0, left) if tokens else 0.0
    return found


def _kernels(layers: Layers, works: tuple[Work, ...]) -> tuple[Cost, Cost, int]:
    """All kernels of a step but attention's; those; and tokens of an attention rank."""
    work, ranks = works[0], len(works)
    tokens = work.prompt_tokens + work.decode_tokens
    whole, attention = layers.embedding(tokens).plus(layers.head(tokens, work.rows)), Cost()
    for kind, times in Counter(kind for stage in layers.stages for kind in stage).items():
        one = layers.around(kind, tokens).plus(layers.feed(kind, tokens))
        if kind.experts:
            one = one.plus(layers.experts(kind, tokens * ranks))
        seen = layers.prefill(kind, work.prompts, work.prompt_tokens, work.prompt_scores).plus(
            layers.decode(kind, work.decodes, work.decode_tokens, work.context, work.longest)
        )
        whole = whole.plus(Cost(times * one.seconds, times * one.kernels))
        attention = attention.plus(Cost(times * seen.seconds, times * seen.kernels))
    return whole, attention, tokens


def errors_of(experiment: ServingExperiment, chip: Chip, parts: dict[str, float]) -> dict[str, float]:
    """What each kind of time contributes to the relative error of a step [1]."""
    whole = sum(parts.values()) or 1.0
    lists = {"chip": chip.unverified, "system": experiment.system.unverified, "engine": experiment.engine.unverified}
    listed = [f"{owner}.{item}" for owner, items in lists.items() for item in items]
    found = {}
    for kind, seconds in parts.items():
        if seconds:
            doubts = sum(any(_meets(item, name) for name in _RESTS_ON[kind]) for item in listed)
            alone = math.hypot(_error(experiment, chip, kind), DEFAULTS["unverified"].value * math.sqrt(doubts))
            found[kind] = alone * seconds / whole
    found["software"] = DEFAULTS["software"].value
    return found


def _meets(item: str, name: str) -> bool:
    """Whether one is the other or a part of it."""
    return f"{item}.".startswith(f"{name}.") or f"{name}.".startswith(f"{item}.")


def _error(experiment: ServingExperiment, chip: Chip, kind: str) -> float:
    """Of a kind of time, alone [1]."""
    unfitted = DEFAULTS["unfitted"].value
    match kind:
        case "matmul":
            if measured_products(chip, experiment.precision):
                return table_residual(chip, experiment.precision)
            kin = kin_of(chip, experiment.precision)
            constants = chip.gemm.get(kin or "bf16")
            fitted = unfitted if constants is None or constants.residual is None else constants.residual
            # constants of 16 bits say little of other formats
            return fitted if kin is not None else max(fitted, unfitted)
        case "attention":
            return _decode_error(experiment.engine, chip)
        case "elementwise":
            return DEFAULTS["one_rate"].value
        case "launch":
            return DEFAULTS["gap"].value
        case "host":
            return _HOST
        case _:
            residual, node = experiment.system.library.residual, experiment.system.chips_per_node
            inside = all(pool.chips_each <= node for pool in experiment.pools)
            return residual if inside and residual is not None else max(residual or 0.0, unfitted)


def _decode_error(engine: InferenceEngine, chip: Chip) -> float:
    """Of the attention kernel that decodes: the engine's first that the chip has constants of."""
    for name in (*engine.decode_attention, *sorted(chip.attention)):
        constants = chip.attention.get(name)
        found = [one.residual for one in constants.decode.values() if one.residual is not None] if constants else []
        if found:
            return max(found)
    return DEFAULTS["unfitted"].value
