"""One Ray of its own, on which several sweeps are carried out; prints what came out. Run by `test_sweep_ray`."""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scaleout.errors import SweepError
from scaleout.sweep import run
from scaleout.sweep.execute.batches import Job
from scaleout.sweep.execute.connect import connected
from scaleout.sweep.execute.tasks import OnRay
from scaleout.sweep.execute.worker import Held, evaluate_there
from scaleout.sweep.spec import Stage, Sweep

SWEEP = Sweep(
    base={
        "kind": "training",
        "system": "dgx-h100",
        "chips": 16,
        "model": "llama-3.2-1b",
        "layout": {"tp": 2, "pp": 2, "dp": 4},
        "batch": {"global": 32, "sequence": 1024},
    },
    axes={"layout.zero": (0, 1), "batch.micro": (1, 2, 3, 4, 8), "batch.sequence": (1024, 2048)},
    stages=(Stage(evaluator="analytic"), Stage(evaluator="event", within=0.3)),
    objective="tokens_per_second",
    name="small",
)
BAD = '"batch.micro":1,"batch.sequence":1024,"layout.zero":0'
"""The first point, alone in its batch: who is in a larger one is found without a Ray, in `test_sweep_run`."""
FOLDER = Path(tempfile.mkdtemp())


def mortal(held: Held, texts: Sequence[str]) -> tuple[float, list[tuple[str, str]]]:
    """Larger batches take their worker with them, twice."""
    if len(list(FOLDER.iterdir())) < 2 and len(texts) > 1:
        (FOLDER / f"{time.time_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate_there(held, texts)


def deadly(held: Held, texts: Sequence[str]) -> tuple[float, list[tuple[str, str]]]:
    """One point takes every worker with it."""
    if any(BAD in text for text in texts) and held.job.evaluator == "analytic":
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate_there(held, texts)


def on_ray(evaluate: Callable[..., Any] | None = None, store: Path | None = None) -> dict[str, Any]:
    """The sweep, with what its tasks do put in the place of what they would."""
    run.executor_of = lambda ray, workers: OnRay(None, 2, evaluate)
    results = run.run_sweep(SWEEP, store=store)
    failed = {
        str(row["problem"]): (row["batch.micro"], row["batch.sequence"], row["layout.zero"])
        for row in map(results.row, range(len(results)))
        if row["status"] == "failed"
    }
    return {"table": results.to_json(), "failed": failed}


def refusal() -> str:
    """Of workers that would give other points."""

    class Empty:
        left = 0

        def take(self, count: int) -> Any:
            from scaleout.sweep.execute.batches import Batch

            return Batch([b""], ["{}"])

    executor = OnRay(None, 2)
    try:
        list(executor.map(Job(SWEEP, "analytic", "of other code"), Empty()))
    except SweepError as error:
        return str(error)
    finally:
        executor.close()
    return "none"


def main() -> None:
    told: dict[str, Any] = {"serial": {"table": SWEEP.run().to_json(), "failed": {}}}
    with connected(None, 2):
        told["ray"] = on_ray()
        told["killed"] = on_ray(mortal)
        told["deaths"] = len(list(FOLDER.iterdir()))
        told["deadly"] = on_ray(deadly)
        told["refusal"] = refusal()
    for path in FOLDER.iterdir():
        path.unlink()
    FOLDER.rmdir()
    json.dump(told, sys.stderr)


if __name__ == "__main__":
    main()
