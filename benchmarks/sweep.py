"""What sweeps cost: a million points in closed form, many simulated ones on two workers, and a store of 100,000.

    python benchmarks/sweep.py [million] [event] [stored] [--points 1000000] [--workers 2]

Times are of the machine as it is; where others use it too, the share of the workers' time that they compute says more
of the event sweep than its wall time does.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scaleout.sweep import run
from scaleout.sweep.execute import cores
from scaleout.sweep.execute.tasks import OnRay
from scaleout.sweep.execute.worker import Held, evaluate_there
from scaleout.sweep.spec import Stage, Sweep

LOG = "SWEEP_LOG"
BASE = {
    "kind": "training",
    "system": "dgx-h100",
    "chips": 512,
    "model": "llama-3.1-70b",
    "layout": {"tp": 8, "pp": 4, "dp": 16, "zero": 1, "sequence_parallel": True},
    "batch": {"global": 512, "micro": 1, "sequence": 8192},
    "recompute": ["norm", "mlp_product"],
    "stack": "megatron-lm",
}


def closed_form(points: int) -> Sweep:
    """About so many layouts, batches and sequences, by the analytic evaluator alone.

    Without interleaving: 16 stages of five chunks each and a thousand micro-batches cost fifty times as much.
    """
    others = {
        "layout.tp": (1, 2, 4, 8),
        "layout.pp": (1, 2, 4, 8),
        "layout.zero": (0, 1),
        "batch.micro": (1, 2, 4, 8),
        "recompute": ("none", ("norm",), ("norm", "mlp_product"), "full"),
        "batch.global": (512, 1024),
    }
    each = 4 * 4 * 2 * 4 * 4 * 2
    lengths = tuple(1024 + 16 * at for at in range(max(1, round(points / each))))
    axes = {"batch.sequence": lengths, **others}
    base = {**BASE, "model": "llama-3.1-8b"}  # which fits under most of these layouts
    return Sweep(base=base, axes=axes, rules=("fill-dp",), name="closed-form", stages=(Stage(evaluator="analytic"),))


def simulated() -> Sweep:
    """Steps that take tenths of a second, and differ in it: about a minute of one core."""
    axes = {
        "layout.vpp": (1, 5),
        "layout.pp": (2, 4, 8),
        "layout.tp": (4, 8),
        "batch.global": (512, 1024, 1536),
        "recompute": ("none", ("norm",), ("norm", "mlp_product"), ("core_attention",), "full"),
        "layout.zero": (0, 1),
    }
    return Sweep(base=BASE, axes=axes, rules=("fill-dp", "divides", "interleave-fits"), name="simulated")


def logged(held: Held, texts: Sequence[str]) -> tuple[float, list[tuple[str, str]]]:
    """Says when it computed."""
    begun = time.time()
    seconds, outcomes = evaluate_there(held, texts)
    handle = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{os.getpid()} {begun} {time.time()} {len(texts)}\n".encode())
    os.close(handle)
    return seconds, outcomes


SWEEPS: dict[str, Callable[[int], Sweep]] = {"million": closed_form, "event": lambda _: simulated()}


def drive(which: str, points: int, workers: int, store: str) -> None:
    """A driver, in a process of its own: how long it took, and the most memory that it had."""
    if workers > 1 and LOG in os.environ:
        run.executor_of = lambda ray, count: OnRay(None, workers, logged)
    sweep = SWEEPS[which](points)
    begun = time.perf_counter()
    results = run.run_sweep(sweep, store=Path(store), workers=workers)
    seconds = time.perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    status = results.column("status").tolist()
    counts = {name: status.count(name) for name in ("done", "infeasible", "failed")}
    print(json.dumps({"seconds": seconds, "memory": memory, "points": len(results), **counts}))


def driven(which: str, points: int, workers: int, store: Path, log: Path | None = None) -> dict[str, Any]:
    command = [
        sys.executable,
        __file__,
        which,
        "--drive",
        str(store),
        "--points",
        str(points),
        "--workers",
        str(workers),
    ]
    env = {**os.environ, **({LOG: str(log)} if log else {})}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def row(what: str, figure: str, target: str) -> None:
    print(f"{what:60} {figure:>22}   {target}", flush=True)


def million(points: int, workers: int, folder: Path) -> None:
    told = driven("million", points, workers, folder / "million")
    row(
        f"{told['points']:,} points in closed form, {workers} workers", f"{told['seconds']:.1f} s", "60 s for 1,000,000"
    )
    row("  of which possible, refused, failed", f"{told['done']:,} {told['infeasible']:,} {told['failed']:,}", "")
    row("  the driver's memory, at most", f"{told['memory'] / 1e9:.2f} GB", "1 GB")
    again = driven("million", points, workers, folder / "million")
    row("  again, with all of them there", f"{again['seconds']:.1f} s", "")


def event(_: int, workers: int, folder: Path, turns: int = 2) -> None:
    """Twice each, in turn, for the machine may not be idle."""
    alone, together, busy = [], [], []
    for turn in range(turns):
        alone.append(driven("event", 0, 1, folder / f"one{turn}")["seconds"])
        log = folder / f"log{turn}"
        together.append(driven("event", 0, workers, folder / f"many{turn}", log)["seconds"])
        spans = [tuple(map(float, line.split()))[1:3] for line in log.read_text().splitlines()]
        span = max(end for _, end in spans) - min(begin for begin, _ in spans)
        busy.append((sum(end - begin for begin, end in spans) / span / workers, span))
    one, many, (share, span) = min(alone), min(together), max(busy)
    row("simulated steps, one process", f"{one:.1f} s", "")
    row(f"  {workers} workers, with the start of Ray", f"{many:.1f} s", "")
    row(f"  {workers} workers, from the first batch to the last", f"{span:.1f} s", "")
    row("  efficiency, without the start of Ray", f"{one / span / workers:.0%}", "85 %")
    row("  efficiency, with it", f"{one / many / workers:.0%}", "")
    row("  share of the workers' time in which they compute", f"{share:.0%}", "")


def stored(points: int, workers: int, folder: Path) -> None:
    store = folder / "stored"
    told = driven("million", min(points, 100_000), workers, store)
    again = driven("million", min(points, 100_000), 1, store)
    row(
        f"{told['points']:,} stored points: found again, table included",
        f"{again['seconds']:.1f} s",
        "2 s for the scan",
    )
    for what, options, target in (
        ("export", ["export", str(store), "-o", str(folder / "a.csv")], "5 s"),
        ("export", ["export", str(store), "-o", str(folder / "a.parquet")], "5 s"),
        ("report", ["report", str(store), "-o", str(folder / "a.html")], "20 s"),
    ):
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "scaleout", *options], capture_output=True, check=False)
        words = f"{time.perf_counter() - begun:.1f} s" if done.returncode == 0 else f"exit status {done.returncode}"
        size = Path(options[-1]).stat().st_size / 1e6 if Path(options[-1]).exists() else 0.0
        row(f"  {what} {Path(options[-1]).suffix}, {size:.1f} MB", words, target)


PARTS = {"million": million, "event": event, "stored": stored}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        drive(given.parts[0], given.points, given.workers, given.drive)
        return
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for part in given.parts or PARTS:
            PARTS[part](given.points, given.workers, Path(folder))


if __name__ == "__main__":
    main()
