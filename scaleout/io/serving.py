"""Serving of an experiment whose requests are in a file."""

from scaleout.errors import SpecError
from scaleout.io.requests import Trace
from scaleout.serve import serve as serve_rows
from scaleout.served import Served
from scaleout.specs import ServingExperiment

__all__ = ["serve", "trace_of"]


def trace_of(experiment: ServingExperiment) -> Trace | None:
    """Rows of the file that an experiment names, to be gone through as often as is needed; None where it names none."""
    if not isinstance(experiment, ServingExperiment):
        raise SpecError(f"{experiment!r:.80} is no serving experiment; make one with scaleout.serving_experiment()")
    wanted = experiment.requests
    return Trace(wanted.trace, wanted.form) if wanted.trace is not None else None


def serve(experiment: ServingExperiment) -> Served:
    """Simulate requests until all have ended.

    Raises
    ------
    PlanError
        The model does not fit: the message says what does. Or nobody can keep what is promised: it says the floor.
    SpecError
        The chip lacks constants.
    MeasurementError
        The file of requests cannot be read, or a row is malformed: with file, line, column and value.
    WorkloadError
        A request is longer than the model or the KV cache has room for.
    """
    return serve_rows(experiment, trace_of(experiment))
