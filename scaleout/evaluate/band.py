"""How far a step's time may be off: errors of what it is made of, weighted by its parts.

Errors of kernels of one kind are taken to go the same way, those of different kinds to be
independent; equations, evidence and what is left out are in ``docs/uncertainty.md``.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np

from scaleout.arrays import Floats
from scaleout.errors import SpecError, near
from scaleout.evaluate.ranges import repeats, uses
from scaleout.evaluate.uncertainty import DEFAULTS, NETWORK, RESTS_ON
from scaleout.hardware import pack
from scaleout.models import LayerKind, layer_kinds
from scaleout.parallel import layer_costs, rows, shard
from scaleout.result import ErrorBand
from scaleout.specs import TrainingExperiment

__all__ = ["band_of", "kind_errors"]

_KERNELS = rows.PARTS
_SPREAD = ("compute", "imbalance", "bubble")
"""Parts of a breakdown that are kernels, of this rank or of the one that is waited for."""


def band_of(experiment: TrainingExperiment, parts: Mapping[str, float], *, times: Floats | None = None) -> ErrorBand:
    """Error band of a step that is made of these parts.

    Parameters
    ----------
    parts
        A critical path ("matmul", "launch", "tp", ...) or a breakdown ("compute", "exposed_tp",
        "bubble", ...), in any one unit of time.
    times
        Rows of `layer_costs`, where they are at hand, by which kernels of a breakdown are told apart.

    Raises
    ------
    SpecError
        A part has an unknown name, or nothing takes any time.
    """
    kinds = _kinds(experiment, parts, times)
    whole = sum(kinds.values())
    if not whole > 0.0:
        raise SpecError("error band: the parts of the step take no time")
    errors = kind_errors(experiment)
    # a difference of sums may be below 0 by its last digits
    found = {kind: errors[kind] * taken / whole for kind, taken in kinds.items() if taken > 0.0}
    found["software"] = DEFAULTS["software"].value
    return ErrorBand(relative=math.hypot(*found.values()), parts=found)


def kind_errors(experiment: TrainingExperiment) -> dict[str, float]:
    """Relative error of the time of each kind, that kind alone [1]."""
    doubts, residuals = _doubts(experiment), _residuals(experiment)
    each = DEFAULTS["unverified"].value
    return {
        kind: math.hypot(*_sources(experiment, kind, residuals), each * math.sqrt(doubts[kind])) for kind in RESTS_ON
    }


def _residuals(experiment: TrainingExperiment) -> dict[str, float]:
    """Weighted mean of the errors of the kernels of each part [1]."""
    sums: dict[str, tuple[float, float]] = {}
    for use in uses(experiment):
        total, weight = sums.get(use.part, (0.0, 0.0))
        sums[use.part] = total + use.weight * use.error, weight + use.weight
    return {part: total / weight for part, (total, weight) in sums.items()}


def _sources(experiment: TrainingExperiment, kind: str, residuals: Mapping[str, float]) -> Iterator[float]:
    """Independent errors of a kind beside its unverified constants [1]."""
    if kind == "launch":
        yield DEFAULTS["gap"].value
    elif kind in _KERNELS:
        yield residuals.get(kind, DEFAULTS["unfitted"].value)
        if kind == "elementwise":
            yield DEFAULTS["one_rate"].value
    else:
        fitted = None if kind == "copy" else experiment.system.library.residual
        beyond = fitted is None or _leaves_the_node(experiment, kind)
        yield max(fitted or 0.0, DEFAULTS["unfitted"].value) if beyond else fitted or 0.0


def _leaves_the_node(experiment: TrainingExperiment, kind: str) -> bool:
    """Whether a group of this kind has members in several nodes."""
    layout = experiment.layout
    # as they lie in the usual order of ranks
    spans = {"tp": layout.tp, "cp": layout.tp * layout.cp, "ep": layout.ep * layout.etp, "copy": 1}
    span = spans.get(kind, layout.tp * layout.replicas if kind == "dp" else experiment.chips)
    return span > experiment.system.chips_per_node


def _doubts(experiment: TrainingExperiment) -> dict[str, int]:
    """How many unverified constants each kind rests on."""
    system, stack = experiment.system, experiment.stack
    lists = {"chip": system.chip.unverified, "system": system.unverified, "stack": stack.unverified}
    listed = [f"{owner}.{item}" for owner, items in lists.items() for item in items]
    counts = {}
    for kind, constants in RESTS_ON.items():
        beyond = NETWORK if kind not in _KERNELS and _leaves_the_node(experiment, kind) else ()
        needed = [name.format(attention=stack.attention) for name in (*constants, *beyond)]
        counts[kind] = sum(any(_meets(item, name) for name in needed) for item in listed)
    return counts


def _meets(item: str, name: str) -> bool:
    """Whether one is the other or a part of it: "chip.gemm" and "chip.gemm.bf16"."""
    return f"{item}.".startswith(f"{name}.") or f"{name}.".startswith(f"{item}.")


def _kinds(experiment: TrainingExperiment, parts: Mapping[str, float], times: Floats | None) -> dict[str, float]:
    """Time of each kind, from a critical path or a breakdown."""
    kinds: dict[str, float] = {}

    def add(kind: str, taken: float) -> None:
        kinds[kind] = kinds.get(kind, 0.0) + taken

    for part, taken in parts.items():
        name = {"optimizer": "elementwise"}.get(part, part.removeprefix("exposed_"))
        if part in _SPREAD:
            for kind, share in _shares(experiment, times).items() if taken else ():
                add(kind, taken * share)
        elif name in RESTS_ON:
            add(name, taken)
        else:
            raise SpecError(f"error band: unknown part {part!r}; {near(part, (*RESTS_ON, *_SPREAD, 'optimizer'))}")
    return kinds


def _shares(experiment: TrainingExperiment, times: Floats | None) -> dict[str, float]:
    """What the kernels of a micro-batch are made of [1]."""
    sums = np.zeros(len(_KERNELS))
    ends = 1
    for kind, layers in Counter(layer_kinds(experiment.model)).items():
        table = _costs(experiment, kind) if times is None else times
        for row in range(len(table)):
            count = ends if row >= rows.F_EMBEDDING else repeats(row, experiment, layers)
            sums += table[row, : len(_KERNELS)] * count
        ends = 0
    return dict(zip(_KERNELS, (sums / sums.sum()).tolist(), strict=True))


@lru_cache(maxsize=256)
def _costs(experiment: TrainingExperiment, kind: LayerKind) -> Floats:
    return layer_costs(shard(experiment, kind), pack(experiment.system.chip, experiment.stack, experiment.precision))
