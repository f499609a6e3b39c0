"""A sweep whose points are slow, as a process that can be killed: ``slow_sweep.py STORE [local]``, or the command line.

Says a line when a batch is recorded. Run by `test_sweep_kill` and `test_sweep_verb`.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scaleout.sweep import run
from scaleout.sweep.evaluate import Outcome, evaluate_batch
from scaleout.sweep.execute import serial
from scaleout.sweep.execute.tasks import OnRay
from scaleout.sweep.execute.worker import Held, evaluate_there
from scaleout.sweep.progress import Progress
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
    name="slow",
)
EACH = 0.15
"""A point takes [s]."""


def evaluate_slowly(sweep: Sweep, evaluator: str, texts: Sequence[str]) -> list[Outcome]:
    """In this process."""
    time.sleep(EACH * len(texts))
    return evaluate_batch(sweep, evaluator, texts)


def evaluate_slowly_there(held: Held, texts: Sequence[str]) -> tuple[float, list[tuple[str, str]]]:
    """On Ray."""
    time.sleep(EACH * len(texts))
    seconds, outcomes = evaluate_there(held, texts)
    return seconds + EACH * len(texts), outcomes


def said(progress: Progress) -> None:
    """A line a batch."""
    print(progress.stage, progress.computed, flush=True)


if __name__ == "__main__":
    serial.evaluate_batch = evaluate_slowly
    if sys.argv[1] == "sweep":
        from scaleout.cli import main

        main()
    else:
        if sys.argv[2:]:
            run.executor_of = lambda ray, workers: OnRay(None, 2, evaluate_slowly_there)
        run.run_sweep(SWEEP, store=Path(sys.argv[1]), told=said)
