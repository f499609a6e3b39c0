"""What can go wrong, as a tree.

    ScaleoutError
    |-- SpecError         a description is wrong: unknown name, bad unit, missing key
    |-- TopologyError     a network cannot be built or a path does not exist
    |-- PlanError         a layout does not divide, or does not fit in HBM
    |-- WorkloadError     a program cannot run to its end
    |-- MeasurementError  a table of measurements is malformed
    `-- SweepError        many points cannot be run, kept or read

Every error is constructible from its ``args`` (SimPy and pickle rebuild it so) and
carries one message for a person: what, where, the value, what is accepted.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "MeasurementError",
    "PlanError",
    "ScaleoutError",
    "SpecError",
    "SweepError",
    "TopologyError",
    "WorkloadError",
    "near",
]


class ScaleoutError(Exception):
    """Anything scaleout refuses or cannot do."""


class SpecError(ScaleoutError, ValueError):
    """A description of a chip, system, model, layout or experiment is wrong."""


class TopologyError(ScaleoutError):
    """A network cannot be built, or two chips have no path."""


class PlanError(ScaleoutError):
    """A layout does not divide the work, or does not fit in memory."""


class WorkloadError(ScaleoutError):
    """A program cannot run to its end."""


class MeasurementError(ScaleoutError, ValueError):
    """A table of measurements cannot be read, or rows of it are malformed."""


class SweepError(ScaleoutError):
    """A sweep cannot be run, or its store be read or written."""


def near(name: str, known: Iterable[str]) -> str:
    """A sentence with the closest known names, or all of them when none is close."""
    names = sorted(known)
    inside = [known for known in names if len(name) > 1 and name in known]
    matches = inside[:3] or get_close_matches(name[:60], names, n=3, cutoff=0.5)
    if matches:
        return f"did you mean {' or '.join(repr(match) for match in matches)}?"
    return f"known: {', '.join(names)}" if names else "none is known"
