"""Drivers and workers killed at random moments of a sweep: nothing recorded is lost, and the table is the same.

    python benchmarks/kill.py [--trials 20] [--seed 0] [--sweep layouts] [--slow 0.002]

Carries the shipped sweep out undisturbed, in one process. Then, each time from nothing: a driver is started, in one
process or on a Ray of its own, it or one of its workers is killed with signal 9 at a moment drawn at random, and what
is left is resumed. Last, a cluster of three nodes of which one is taken away. Prints a table: rows recorded when it
died, those of them that are there at the end, points evaluated twice beside those that were under way, and whether the
exported bytes are those of the undisturbed run. Ends with exit status 1 where they are not.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaleout.sweep import run
from scaleout.sweep.evaluate import Outcome, evaluate_batch
from scaleout.sweep.execute import serial
from scaleout.sweep.execute.tasks import OnRay
from scaleout.sweep.execute.worker import Held, evaluate_there
from scaleout.sweep.files import load_sweep
from scaleout.sweep.progress import Progress
from scaleout.sweep.results import results_of
from scaleout.sweep.spec import Sweep
from scaleout.sweep.store import Store

WORKERS = 2
SLOW, LOG = "SWEEP_SLOW", "SWEEP_LOG"


def logged(evaluator: str, texts: Sequence[str]) -> None:
    """A line a batch, once it is evaluated; the analytic one is slowed down, so that there is something to kill."""
    if evaluator == "analytic":
        time.sleep(float(os.environ[SLOW]) * len(texts))
    line = json.dumps([evaluator, list(texts)]) + "\n"
    handle = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def here(sweep: Sweep, evaluator: str, texts: Sequence[str]) -> list[Outcome]:
    outcomes = evaluate_batch(sweep, evaluator, texts)
    logged(evaluator, texts)
    return outcomes


def there(held: Held, texts: Sequence[str]) -> tuple[float, list[tuple[str, str]]]:
    begun = time.perf_counter()
    _, outcomes = evaluate_there(held, texts)
    logged(held.job.evaluator, texts)
    return time.perf_counter() - begun, outcomes


def drive(name: str, store: Path, how: str) -> None:
    """What a driver does, in a process of its own."""
    serial.evaluate_batch = here
    if how == "serial":
        run.run_sweep(load_sweep(name), store=store)
        return
    run.executor_of = lambda ray, workers: OnRay(None, WORKERS if how == "ray" else None, there)
    if how == "ray":
        run.run_sweep(load_sweep(name), store=store)
        return
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(WORKERS)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    cluster.wait_for_nodes()

    def told(progress: Progress) -> None:
        # one node goes in the middle of each stage; another one comes for it
        if len(nodes) > WORKERS - progress.stage and progress.computed > progress.points / 3:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            cluster.add_node(num_cpus=1)

    run.run_sweep(load_sweep(name), store=store, told=told)
    ray.shutdown()
    cluster.shutdown()


def started(name: str, store: Path, how: str, log: Path, slow: float) -> "subprocess.Popen[bytes]":
    env = {**os.environ, LOG: str(log), SLOW: str(slow), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, __file__, "--drive", how, "--store", str(store), "--sweep", name]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, start_new_session=True)


def workers_of(driver: int) -> list[int]:
    """Processes of Ray that evaluate for a driver."""
    parents: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            parents[int(path.name)] = parent, (path / "cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError):
            continue
    return [
        number
        for number, (parent, command) in parents.items()
        if command.startswith("ray::") and "Agent" not in command and parents.get(parent, (0, ""))[0] == driver
    ]


def rows_of(store: Path) -> dict[tuple[int, int], Any]:
    if not (store / "points.sqlite").exists():
        return {}
    with Store.open(store, write=False) as opened:
        sweeps = opened.sweeps()
        if not sweeps:
            return {}
        stages = range(len(sweeps[-1].spec["stages"]))
        return {(row.position, row.stage): row for stage in stages for row in opened.rows(sweeps[-1].number, stage)}


def counted(log: Path) -> tuple[int, int]:
    """Points evaluated twice, and those of the largest batches that can have been under way at a time."""
    seen: set[tuple[str, str]] = set()
    twice = 0
    sizes = []
    for line in log.read_text().splitlines():
        evaluator, texts = json.loads(line)
        sizes.append(len(texts))
        for text in texts:
            twice += (evaluator, text) in seen
            seen.add((evaluator, text))
    return twice, sum(sorted(sizes)[-2 * WORKERS :])


def trial(name: str, how: str, whom: str, moment: float, sound: str, slow: float) -> bool:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        store, log = Path(folder) / "store", Path(folder) / "log"
        log.touch()
        driver = started(name, store, how, log, slow)
        time.sleep(moment)
        while whom == "worker" and not workers_of(driver.pid) and driver.poll() is None:
            time.sleep(0.2)
        killed = (
            [driver.pid] if whom == "driver" else random.sample(found := workers_of(driver.pid), min(1, len(found)))
        )
        for number in killed:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                killed = []
        if whom == "driver":
            driver.wait()
        recorded = rows_of(store)
        if whom == "driver":
            driver = started(name, store, how, log, slow)
        status = driver.wait()
        after = rows_of(store)
        kept = sum(after.get(place) == row for place, row in recorded.items())
        twice, under_way = counted(log)
        same = status == 0 and results_of(store).to_json() == sound
        fine = same and kept == len(recorded) and twice <= under_way
        print(
            f"{how:8} {whom if killed else 'nobody':7} {moment:6.1f} {len(recorded):9,} {len(recorded) - kept:5,} "
            f"{twice:6,} {under_way:10,} {'identical' if same else 'DIFFERENT':>10}{'' if fine else '  <--'}",
            flush=True,
        )
        return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sweep", default="layouts")
    parser.add_argument("--slow", type=float, default=0.002, help="more for each analytic point [s]")
    parser.add_argument("--drive", choices=("serial", "ray", "cluster"), help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        drive(given.sweep, given.store, given.drive)
        return
    random.seed(given.seed)
    sweep = load_sweep(given.sweep)
    sound = sweep.run().to_json()
    took = {}
    for how in ("serial", "ray"):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            log = Path(folder) / "log"
            started(given.sweep, Path(folder) / "store", how, log, given.slow).wait()
            took[how] = time.perf_counter() - begun
            assert results_of(Path(folder) / "store").to_json() == sound, f"{how} differs, with nobody killed"
    points = json.loads(sound)["sweep"]["points"]
    print(f"{sweep.name}: {points:,} points; undisturbed {took['serial']:.0f} s serial, {took['ray']:.0f} s on Ray")
    print("driver   killed  at [s]  recorded  lost  twice  under way      table")
    fine = True
    for _ in range(given.trials):
        how = random.choice(("serial", "ray", "ray"))
        whom = "driver" if how == "serial" else random.choice(("driver", "worker"))
        fine &= trial(given.sweep, how, whom, random.uniform(0.1, 1.0) * took[how], sound, given.slow)
    with tempfile.TemporaryDirectory() as folder:
        store, log = Path(folder) / "store", Path(folder) / "log"
        status = started(given.sweep, store, "cluster", log, given.slow).wait()
        same = status == 0 and results_of(store).to_json() == sound
        twice, under_way = counted(log)
        fine &= same
        words = "identical" if same else "DIFFERENT"
        print(f"cluster  2 nodes                        {twice:6,} {under_way:10,} {words:>10}")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
