"""Seeds of repetitions: every draw of an experiment has one of its own, spawned from the number of the repetition.

Points with the same number draw the same numbers, so that what they differ in is not luck (common random numbers).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from scaleout.specs import NetExperiment, ServingExperiment, StreamExperiment, TrainingExperiment
from scaleout.specs.requests import Length

__all__ = ["SEED_KEYS", "draws", "seed_keys"]

SEED_KEYS = {
    "training": ("slow.seed", "routing.seed"),
    "serving": (
        "requests.seed", "requests.arrivals.seed", "router.seed", "routing.seed", "speculation.seed",
        "training.slow.seed", "training.routing.seed",
    ),
    "inference": (),
    "stream": ("seed",),
}  # fmt: skip
"""Keys of an experiment's seeds by its kind; a place in the list is a place in what is spawned."""
_INSIDE = ("requests.arrivals", "speculation", "training")
"""What has a seed only where the experiment has it."""
_SMALL = 1_000_001
_RANDOM = ("poisson", "gamma", "ramp", "diurnal", "server")


def seed_keys(kind: str, data: Mapping[str, Any], number: int) -> Iterator[tuple[str, int]]:
    """Seeds of a repetition of an experiment that is given as a mapping."""
    words = np.random.SeedSequence(number).generate_state(8, np.uint64)
    for key, word in zip(SEED_KEYS[kind], words.tolist(), strict=False):
        inside = next((one for one in _INSIDE if key.startswith(f"{one}.")), "")
        node: Any = data
        for step in inside.split(".") if inside else ():
            node = node.get(step) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping):
            yield key, word % _SMALL if kind == "stream" else word >> 1


def draws(spec: TrainingExperiment | ServingExperiment | NetExperiment | StreamExperiment) -> bool:
    """Whether anything in an experiment is left to chance."""
    if isinstance(spec, TrainingExperiment):
        return spec.slow.spread > 0.0 or spec.routing.skew > 0.0
    if isinstance(spec, ServingExperiment):
        wanted = spec.requests
        lengths = any(_spread(one) for one in (wanted.input, wanted.output))
        chosen = spec.router.policy == "power_of_two" or (
            spec.speculation is not None and spec.speculation.acceptance < 1.0
        )
        beside = spec.training is not None and draws(spec.training)
        random = lengths or wanted.prefixes > 1 or wanted.arrivals.process in _RANDOM
        return random or chosen or beside or spec.routing.skew > 0.0
    if isinstance(spec, StreamExperiment):
        lengths = any(_spread(one) for stage in spec.stages for one in (stage.prompt, stage.first, stage.reply))
        return lengths or any(
            one.process == "poisson" or one.jitter > 0.0 or (one.count > 1 and one.phases == "random")
            for one in spec.sources
        )
    return False


def _spread(length: Length | None) -> bool:
    return length is not None and length.kind != "constant"
