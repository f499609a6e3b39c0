"""Results of sweeps that nobody ran: real points, made-up outcomes."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from scaleout.sweep.identity import key_of
from scaleout.sweep.points import points_of
from scaleout.sweep.results import SweepResults, results_from
from scaleout.sweep.spec import Stage, Sweep
from scaleout.sweep.store import Store

EVIL = "</script><img src=x onerror=\"document.title='evil'\"><!--'{{"
SMALL = Sweep(
    base="llama-3.1-8b-1k",
    axes={"layout.tp": (1, 2, 4, 8), "batch.micro": (1, 2, 4), "stack": ("pytorch", "megatron-lm")},
    name="small",
)


def made_up(sweep: Sweep = SMALL, status: str = "", seed: int = 0, compute: int | None = None) -> SweepResults:
    """Results of a sweep.

    Parameters
    ----------
    status
        Of all points; "" for some of each.
    compute
        So many of the points; None for all.
    """
    points = points_of(sweep)
    texts = points.texts(range(len(points)))
    rng = np.random.default_rng(seed)
    evaluator = sweep.stages[-1].evaluator
    found = rng.random((len(texts), 8))
    states = rng.choice(["done", "infeasible", "failed"], len(texts), p=[0.7, 0.25, 0.05])
    rows = []
    for at, text in enumerate(texts[:compute]):
        state = status or str(states[at])
        rows.append((key_of("a", evaluator, text), evaluator, text, state, _outcome(state, found[at].tolist(), text)))
    with Store.open(None, write=True) as store:
        number = store.begin(sweep, "a", points=len(texts))
        store.enlist(number, 0, [key_of("a", evaluator, text) for text in texts])
        store.record(rows)
        return results_from(store)


def _outcome(status: str, draws: list[float], text: str) -> str:
    if status == "infeasible":
        need = 80.0 + 100.0 * draws[0]
        words = f"stage 0 needs {need:.1f} GB, but a chip has 80 GB" if draws[1] < 0.7 else f"no layout: {text}"
        return json.dumps(words)
    if status == "failed":
        return json.dumps("ZeroDivisionError: division by zero")
    step = 0.5 + draws[0]
    parts = {"compute": 0.6 * step, "optimizer": 0.1 * step, "exposed_tp": 0.1 * step, "exposed_pp": 0.0,
             "exposed_dp": 0.1 * step, "bubble": 0.1 * step}  # fmt: skip
    outcomes: dict[str, Any] = {
        "chips": 1024, "step_time": step, "tokens_per_second": 4e6 / step, "mfu": 0.3 / step,
        "memory": 4e10 * (1.0 + draws[1]), "memory_share": 0.5 * (1.0 + draws[1]),
        **{f"time.{name}": value for name, value in parts.items()}, "error": 0.05 + 0.03 * draws[2],
        "bound_by": "matmul" if draws[3] < 0.8 else "tp", "energy_per_token": 0.2 + draws[4], "power": 7e5,
        "cost_per_mtoken": 0.2 + draws[5], "cost_hour": 2500.0,
    }  # fmt: skip
    return json.dumps(outcomes)


def analytic(sweep: Sweep = SMALL) -> Sweep:
    """The same, by bounds alone."""
    return Sweep(base=sweep.base, axes=sweep.axes, stages=(Stage(evaluator="analytic"),), name="bounds")


def many(count: int) -> SweepResults:
    """So many points with outcomes, quickly: their rows stand in no store."""
    whole = Sweep(base="llama-3.1-8b-1k", axes={"layout.tp": (1, 2, 4, 8), "stack": ("pytorch", "megatron-lm")})
    few = made_up(whole)
    rng = np.random.default_rng(1)
    take = rng.integers(0, len(few), count)
    columns = {name: column[take] for name, column in few.columns.items()}
    done = columns["status"] == "done"
    for name in few.outcomes:
        if columns[name].dtype.kind == "f":
            columns[name] = np.where(done, columns[name] * rng.uniform(0.5, 1.5, count), np.nan)
    columns["position"] = np.arange(count)
    return replace(few, columns=columns)
