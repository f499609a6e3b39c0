"""Time the budget's rows and print each figure beside its budget.

Every row is the median of several runs in this process, after one to warm up (which also loads
compiled code). Machines differ: compare rows of one run.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from scaleout.io.catalogue import experiment, load
from scaleout.network import max_min, rail_fat_tree
from scaleout.simulate import simulate
from scaleout.specs import System


def median(work: Callable[[], object], runs: int = 7) -> float:
    """Median time of a call, after one to warm up [s]."""
    work()
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def process(*args: str, runs: int = 3) -> float:
    """Median time of a whole process [s]."""
    return median(lambda: subprocess.run([sys.executable, *args], check=True, capture_output=True), runs)


def build_and_route(system: System) -> object:
    """A fabric, and a path from every chip to the one half the machine away."""
    fabric = rail_fat_tree(system, 65_536)
    chips = np.arange(65_536)
    return fabric.route(chips, (chips + 32_768) % 65_536)


def random_paths(flows: int, links: int) -> tuple[np.ndarray, ...]:
    """Arguments of `max_min`: paths of 4 to 8 links drawn at random, equal capacities, which makes many levels."""
    draw = np.random.default_rng(0)
    hops = draw.integers(4, 9, flows)
    size = int(hops.sum())
    link = draw.integers(0, links, size)
    ones = np.ones(size, dtype=np.int64)
    return np.ones(links), link, np.repeat(np.arange(flows), hops), np.ones(size), ones, np.full(flows, np.inf)


def main() -> None:
    v8 = experiment("llama-3.1-405b-16k")
    v1 = experiment("llama-3.1-405b-16k", ("layout.vpp=1",))
    system = load("system", "dgx-h100")
    middle, large = random_paths(100_000, 100_000), random_paths(1_000_000, 393_000)
    rows = [
        ("Llama-3.1 405B, 16,384 chips, folded, v=1", median(lambda: simulate(v1)), 0.100),
        ("Llama-3.1 405B, 16,384 chips, folded, v=8", median(lambda: simulate(v8)), 0.200),
        ("build 65,536 chips, route one flow from each", median(lambda: build_and_route(system)), 0.100),
        ("max-min, 100,000 flows, 100,000 links", median(lambda: max_min(*middle)), 0.150),
        ("max-min, 1,000,000 flows, 393,000 links", median(lambda: max_min(*large), runs=3), 1.5),
        ("scaleout --help", process("-m", "scaleout", "--help"), 0.5),
        ("import and first folded result", process("-c", FIRST), 2.0),
        (
            "scaleout run, figure and timeline too",
            process("-m", "scaleout", "run", "--out", "/tmp/scaleout-bench"),
            5.0,
        ),
    ]
    print(f"{'':45}{'measured':>12}{'budget':>12}{'share':>8}")
    for name, seconds, budget in rows:
        print(f"{name:45}{seconds * 1e3:9.1f} ms{budget * 1e3:9.1f} ms{seconds / budget:8.0%}")


OUT = tempfile.mkdtemp(prefix="scaleout-bench-")
FIRST = "import scaleout; scaleout.simulate(scaleout.experiment('llama-3.1-405b-16k'))"

if __name__ == "__main__":
    main()
