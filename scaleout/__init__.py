"""Simulate LLM training on many accelerators: time, memory, and what bounds them.

    import scaleout

    spec = scaleout.experiment("llama-3.1-405b-16k", ("layout.vpp=4",))
    result = scaleout.simulate(spec)

Names are imported when they are first used, so that ``import scaleout`` is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaleout.errors import (
        MeasurementError,
        PlanError,
        ScaleoutError,
        SpecError,
        SweepError,
        TopologyError,
        WorkloadError,
    )
    from scaleout.io.catalogue import experiment, list_names, load, schema
    from scaleout.result import Result
    from scaleout.simulate import record, simulate
    from scaleout.specs import Batch, Chip, Layout, Model, Slow, Stack, System, TrainingExperiment
    from scaleout.validation.comparison import Comparison
    from scaleout.validation.kinds import validate

_HOMES = {
    "scaleout.errors": (
        "MeasurementError",
        "PlanError",
        "ScaleoutError",
        "SpecError",
        "SweepError",
        "TopologyError",
        "WorkloadError",
    ),
    "scaleout.io.catalogue": ("experiment", "list_names", "load", "schema"),
    "scaleout.result": ("Result",),
    "scaleout.simulate": ("record", "simulate"),
    "scaleout.specs": ("Batch", "Chip", "Layout", "Model", "Slow", "Stack", "System", "TrainingExperiment"),
    "scaleout.validation.comparison": ("Comparison",),
    "scaleout.validation.kinds": ("validate",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "Chip",
    "Comparison",
    "Layout",
    "MeasurementError",
    "Model",
    "PlanError",
    "Result",
    "ScaleoutError",
    "Slow",
    "SpecError",
    "Stack",
    "SweepError",
    "System",
    "TopologyError",
    "TrainingExperiment",
    "WorkloadError",
    "experiment",
    "list_names",
    "load",
    "record",
    "schema",
    "simulate",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'scaleout' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
