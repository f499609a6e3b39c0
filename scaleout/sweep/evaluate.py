"""What comes out of points: pure, in any process, the same whatever batch a point is in."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

from scaleout.architect.variants import typical_of
from scaleout.errors import ScaleoutError, SpecError
from scaleout.evaluate.steady import steady
from scaleout.infer import run_net
from scaleout.io.serving import trace_of
from scaleout.serve import Prepared, prepare, serve_log
from scaleout.simulate import simulate
from scaleout.specs import ServingExperiment
from scaleout.specs.requests import Arrivals, Length, Requests
from scaleout.stream import run_stream
from scaleout.sweep import outcomes
from scaleout.sweep.build import Forms, forms_of
from scaleout.sweep.outcomes import Outcome
from scaleout.sweep.screen import FEW, one_step, screen
from scaleout.sweep.spec import Sweep

__all__ = ["Outcome", "evaluate_batch"]


def evaluate_batch(sweep: Sweep, evaluator: str, texts: Sequence[str]) -> list[Outcome]:
    """Evaluate points.

    Parameters
    ----------
    evaluator
        "analytic" or "event".
    texts
        Settings of each, as `Points.texts` gives them.

    Returns
    -------
    list of Outcome
        In their order; a point that cannot be evaluated has one that says why.
    """
    try:
        forms = forms_of(sweep)
        settings = json.loads(f"[{','.join(texts)}]")
        found: list[Outcome | None] = [None] * len(texts)
        if evaluator == "analytic" and forms.kind == "training":
            found = screen(forms, settings)
    except Exception as error:
        return [_failed(error)] * len(texts)
    return [
        _evaluated(forms, evaluator, point, len(texts) > FEW) if outcome is None else outcome
        for outcome, point in zip(found, settings, strict=True)
    ]


def _evaluated(forms: Forms, evaluator: str, settings: Mapping[str, Any], many: bool) -> Outcome:
    """One point by itself."""
    try:
        found = _EVALUATORS[forms.kind, evaluator](forms.experiment(settings), many)
        return Outcome("done", json.dumps(found, separators=(",", ":"), allow_nan=False))
    except ScaleoutError as error:
        return Outcome("infeasible", json.dumps(str(error)))
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> Outcome:
    if isinstance(error, MemoryError):
        raise error
    return Outcome("failed", json.dumps(f"{type(error).__name__}: {error}"))


def _served(spec: ServingExperiment) -> dict[str, Any]:
    # how sensitive the figures are to the time of a step is not asked here, and would be a second simulation
    return outcomes.of_served(
        serve_log(spec, trace_of(spec), sensitivity=False, prepared=_prepared(_without_requests(spec)))[0]
    )


def _steady(spec: ServingExperiment) -> dict[str, Any]:
    """Replicas in their steady state."""
    prompt, reply = _means(spec)
    timers, rooms = _prepared(_without_requests(spec))
    typical = typical_of(spec, prompt, reply)
    return outcomes.of_steady(spec.chips, typical.rate, steady(spec, list(timers), rooms, typical))


_NOBODY = Requests(input=Length(mean=1), output=Length(mean=1), arrivals=Arrivals(rate=1.0))


def _without_requests(spec: ServingExperiment) -> ServingExperiment:
    return replace(spec, requests=_NOBODY)


@lru_cache(maxsize=4)
def _prepared(spec: ServingExperiment) -> Prepared:
    """Times of steps of an experiment, whatever its requests: points of all rates ask for the same ones."""
    return prepare(spec)


def _means(spec: ServingExperiment) -> tuple[float | None, float | None]:
    """Mean tokens of prompts and replies of a trace; None where they are drawn."""
    rows = trace_of(spec)
    if rows is None:
        return None, None
    inputs = outputs = count = 0
    for row in islice(rows, spec.requests.count):
        inputs, outputs, count = inputs + row.inputs, outputs + row.outputs, count + 1
    if not inputs or not outputs:
        raise SpecError(f"requests.trace: {spec.requests.trace} has no tokens")
    return inputs / count, outputs / count


def _no_streams() -> dict[str, Any]:
    raise SpecError("no analytic evaluator knows streams; take event")


_EVALUATORS: dict[tuple[str, str], Callable[[Any, bool], dict[str, Any]]] = {
    ("training", "event"): lambda spec, many: outcomes.of_step(simulate(spec, advise=False)),
    ("training", "analytic"): one_step,
    ("serving", "event"): lambda spec, many: _served(spec),
    ("serving", "analytic"): lambda spec, many: _steady(spec),
    ("inference", "event"): lambda spec, many: outcomes.of_net(run_net(spec)),
    # a net's times are in closed form as they are
    ("inference", "analytic"): lambda spec, many: outcomes.of_net(run_net(spec)),
    ("stream", "event"): lambda spec, many: outcomes.of_stream(run_stream(spec)),
    ("stream", "analytic"): lambda spec, many: _no_streams(),
}
