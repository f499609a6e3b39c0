"""Time what serving is to take, and print each figure beside its budget: CPU seconds, as machines are shared.

Every row is the least of several runs after one to warm up, but for whole processes, which run once.
"""

import json
import resource
import subprocess
import sys
import time

from scaleout import serve
from scaleout.io.experiments import serving_experiment

MANY = (
    "pools.0.replicas=64", "router.policy=least_load", "requests.count=100000", "requests.arrivals.rate=128",
)  # fmt: skip
"""A hundred thousand requests on 64 replicas, each as busy as the one of the experiment."""


def each(*settings: str, runs: int = 5) -> float:
    """CPU time of a request, set-up of the simulation included [s]."""
    spec = serving_experiment("llama3-70b-poisson", settings)
    count, times = serve(spec).requests["came"], []
    for _ in range(runs):
        begun = time.process_time()
        serve(spec)
        times.append(time.process_time() - begun)
    return min(times) / count


def child(*args: str) -> float:
    """CPU time of a whole process [s]."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *args], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def many() -> tuple[float, float]:
    """CPU time [s] and peak memory [byte] of `MANY`, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "many"], check=True, capture_output=True, text=True)
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def main() -> None:
    """The rows."""
    if sys.argv[1:] == ["many"]:
        begun = time.process_time()
        serve(serving_experiment("llama3-70b-poisson", MANY))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps([time.process_time() - begun, peak]))
        return
    rows = [
        ("a request, 70B on 4 H100 at 2/s", each() * 1e6, 500.0, "us"),
        *((f"the same at {rate}/s", each(f"requests.arrivals.rate={rate}") * 1e6, 1000.0, "us") for rate in (4, 8, 16)),
        (
            "the same apart, 2/s",
            each("pools=[{role: prefill, tp: 4}, {role: decode, tp: 4}]", runs=3) * 1e6,
            1000.0,
            "us",
        ),
        (
            "scaleout run, tables and figures",
            child("-m", "scaleout", "run", "llama3-70b-poisson", "--out", OUT),
            5.0,
            "s",
        ),
    ]
    seconds, peak = many()
    rows += [
        ("100,000 requests on 64 replicas", seconds, 120.0, "s"),
        ("peak memory of that", peak / 1e6, 1000.0, "MB"),
    ]
    print(f"{'serving':45}{'measured':>12}{'budget':>12}{'share':>8}")
    for name, value, budget, unit in rows:
        print(f"{name:45}{value:9.3g} {unit:2}{budget:9.3g} {unit:2}{value / budget:8.0%}")


OUT = "/tmp/scaleout-bench-serving"

if __name__ == "__main__":
    main()
