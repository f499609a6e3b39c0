"""Small experiments that every test may start from."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

from scaleout.io.experiments import experiment
from scaleout.specs import TrainingExperiment

# machines are shared and noisy: how long an example takes proves nothing
settings.register_profile("scaleout", deadline=None)
settings.load_profile("scaleout")

SMALL: dict[str, Any] = {
    "kind": "training",
    "system": "dgx-h100",
    "chips": 64,
    "model": "llama-3.1-8b",
    "layout": {"tp": 4, "pp": 4, "dp": 4, "vpp": 2, "sequence_parallel": True, "zero": 1},
    "batch": {"global": 32, "sequence": 2048},
}


def small(**changes: Any) -> TrainingExperiment:
    """Llama-3.1 8B on 64 H100, with some keys changed; mappings are merged."""
    document = {
        key: {**SMALL.get(key, {}), **value} if isinstance(value, dict) else value for key, value in changes.items()
    }
    return experiment({**SMALL, **document})


@pytest.fixture(name="small")
def _small() -> Callable[..., TrainingExperiment]:
    return small
