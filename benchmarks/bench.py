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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scaleout.collectives.places import railed
from scaleout.engine.chunks import Lanes, run_lanes
from scaleout.errors import ScaleoutError
from scaleout.evaluate.analytic import analyse
from scaleout.io.catalogue import list_names, load
from scaleout.io.experiments import experiment
from scaleout.network import max_min, rail_fat_tree
from scaleout.simulate import simulate
from scaleout.space import analyse_many, design_space
from scaleout.specs import Batch, Layout, System, TrainingExperiment


def median(work: Callable[[], object], runs: int = 7) -> float:
    """Median time of a call, after one to warm up [s]."""
    work()
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def shown(seconds: float) -> str:
    """A time in milliseconds, or in microseconds."""
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


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


def rate(work: Callable[[int], tuple[int, float]]) -> float:
    """Time of a point [s]: median of batches that have not been seen, after one to load compiled code."""
    times = []
    for seed in range(6):
        points, seconds = work(seed)
        times.append(seconds / points)
    return statistics.median(times[1:])


def one_point(seed: int) -> tuple[int, float]:
    """Fresh specs of 16,384 chips under other layouts and batches, one call each, end to end."""
    specs = []
    for pp, vpp in ((16, 8), (8, 4), (16, 1), (8, 2), (16, 4)):
        spec = experiment("llama-3.1-405b-16k")
        layout = replace(spec.layout, pp=pp, vpp=vpp, dp=2048 // pp)
        specs.append(replace(spec, layout=layout, batch=replace(spec.batch, global_=2048 * (1 + seed))))
    begun = time.perf_counter()
    for spec in specs:
        analyse_many([spec])
    return len(specs), time.perf_counter() - begun


def mixed(seed: int, count: int) -> list[TrainingExperiment]:
    """Experiments that fit, of six models on all systems and stacks; no two share a spec object."""
    draw, found = np.random.default_rng(seed), []
    names = ("llama-3.1-8b", "llama-2-13b", "gpt3-13b", "llama-3.1-70b", "megatron-22b", "qwen2.5-7b")
    models = [load("model", name) for name in names]
    systems = [system for name in list_names("system") if railed(system := load("system", name))]
    stacks = [load("stack", name) for name in list_names("stack")]
    while len(found) < count:
        tp, pp, dp = (int(n) for n in 2 ** draw.integers(0, [4, 5, 9]))
        model, system, stack = (replace(specs[draw.integers(len(specs))]) for specs in (models, systems, stacks))
        try:
            layout = Layout(tp=tp, pp=pp, dp=dp, vpp=int(draw.integers(1, 5)), sequence_parallel=tp > 1, zero=1)
            batch = Batch(global_=pp * dp * int(draw.integers(1, 5)), sequence=2048)
            found.append(
                TrainingExperiment(
                    system=system, chips=layout.chips, model=model, layout=layout, batch=batch, stack=stack
                )
            )
        except ScaleoutError:
            continue
    return [spec for spec, problem in zip(found, analyse_many(found).problem, strict=True) if not problem]


def heterogeneous(seed: int) -> tuple[int, float]:
    """Points that fit, whose specs nobody has seen."""
    fresh = [
        replace(spec, system=replace(spec.system), model=replace(spec.model), stack=replace(spec.stack))
        for spec in mixed(seed, 1000)
    ]
    begun = time.perf_counter()
    analyse_many(fresh)
    return len(fresh), time.perf_counter() - begun


def layouts(seed: int, count: int, chips: int, layers: int) -> dict[str, Any]:
    """Layouts that divide: up to 16 stages, and 8 chunks each; four lists of modules to recompute."""
    draw, found, lists = np.random.default_rng(seed), [], []
    while len(found) < count:
        tp, pp, vpp = 2 ** draw.integers(0, 4), 2 ** draw.integers(0, 5), draw.integers(1, 9)
        micro, sequences, dp = 2 ** draw.integers(0, 2), chips // 8 * 2 ** draw.integers(0, 3), chips // (tp * pp)
        each, rest = divmod(sequences, dp * micro)
        if each and not rest and pp * vpp <= layers + 2 and (vpp == 1 or (pp > 1 and each % pp == 0)):
            found.append((tp, pp, dp, vpp, draw.integers(2), draw.integers(2), sequences, micro))
            lists.append(([], ["norm"], ["norm", "mlp_product"], ["full"])[draw.integers(4)])
    names = ("tp", "pp", "dp", "vpp", "sequence_parallel", "zero", "global_batch", "micro")
    return {**dict(zip(names, np.array(found).T, strict=True)), "recompute": lists}


def batched(seed: int, name: str, *, fitting: bool) -> tuple[int, float]:
    """All layouts that divide, or those that also fit."""
    # on a machine whose wires have a closed form
    base = experiment(name, ("system=dgx-h100",))
    at = layouts(seed, 20_000, base.chips, base.model.layers)
    if fitting:
        fits = np.flatnonzero(design_space(base, **at).problem == 0)
        at = {key: [column[i] for i in fits] for key, column in at.items()}
    begun = time.perf_counter()
    table = design_space(base, **at)
    return len(table), time.perf_counter() - begun


def ring(ranks: int, links: list[list[int]]) -> Lanes:
    """A ring all-reduce of 1 GB, chunk by chunk: the links from each rank to the next, of 0.3 us, steps of 1 us."""
    at, hops = np.arange(ranks), np.array([len(row) for row in links])
    return Lanes(
        steps=np.full(ranks, 2 * (ranks - 1)),
        size=np.full(ranks, 1e9 / ranks),
        latency=1_000_000 + 300_000 * hops,
        cap=np.full(ranks, np.inf),
        first=np.concatenate(([0], np.cumsum(hops))),
        link=np.array([link for row in links for link in row]),
        weight=np.ones(hops.sum()),
        before=at,
        behind=(at + 1) % ranks,
        lag=np.ones(ranks, dtype=np.int64),
        arrived=np.ones(ranks, dtype=bool),
    )


def straight(ranks: int) -> tuple[Lanes, np.ndarray]:
    """A ring in the order of the chips, 32 under a leaf, with bundles above: nobody is in another's way."""
    leaves = ranks // 32
    links = []
    for chip in range(ranks):
        to, leaf = (chip + 1) % ranks, chip // 32
        above = [] if to // 32 == leaf else [2 * ranks + leaf, 2 * ranks + leaves + to // 32]
        links.append([chip, *above, ranks + to])
    return ring(ranks, links), np.concatenate((np.full(2 * ranks, 50e9), np.full(2 * leaves, 32 * 50e9)))


def scattered() -> tuple[Lanes, np.ndarray]:
    """A ring over 1,024 chips, 32 under each of 32 leaves, 32 spines, placed at random, each flow on a path drawn by
    hash."""
    half, chips = 32, 1024
    draw = np.random.default_rng(0)
    place, spine = draw.permutation(chips).tolist(), draw.integers(0, half, chips).tolist()
    links = []
    for i, (a, b) in enumerate(zip(place, place[1:] + place[:1], strict=True)):
        up, down = 2 * chips + a // half * half + spine[i], 3 * chips + b // half * half + spine[i]
        links.append([a, *([] if a // half == b // half else [up, down]), chips + b])
    return ring(chips, links), np.full(4 * chips, 50e9)


def scattered_high(ports: int) -> tuple[Lanes, np.ndarray]:
    """A ring over all chips of a fat tree of three levels, placed at random, each flow on a path drawn by hash."""
    half = ports // 2
    chips, leaves = ports * half * half, ports * half
    draw = np.random.default_rng(0)
    place = draw.permutation(chips).tolist()
    spine, core = draw.integers(0, half, (2, chips)).tolist()
    begin = np.cumsum([0, chips, chips, leaves * half, leaves * half, leaves * half, leaves * half]).tolist()
    links = []
    for i, (a, b) in enumerate(zip(place, place[1:] + place[:1], strict=True)):
        row = [begin[0] + a]
        if a // half != b // half:
            row.append(begin[2] + a // half * half + spine[i])
            if a // half**2 != b // half**2:
                row.append(begin[4] + (a // half**2 * half + spine[i]) * half + core[i])
                row.append(begin[5] + (b // half**2 * half + spine[i]) * half + core[i])
            row.append(begin[3] + b // half * half + spine[i])
        links.append([*row, begin[1] + b])
    return ring(chips, links), np.full(begin[-1], 50e9)


def ring_memory() -> float:
    """Peak memory of a process that runs the ring of 1,024 [MiB]."""
    done = subprocess.run([sys.executable, __file__, "ring-memory"], check=True, capture_output=True, text=True)
    return float(done.stdout)


def print_ring_memory() -> None:
    run_lanes(*straight(1024))
    # ru_maxrss would count what the parent held when it forked
    status = Path("/proc/self/status").read_text()
    print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024)


def main() -> None:
    if sys.argv[1:] == ["ring-memory"]:
        print_ring_memory()
        return
    large, small = "llama-3.1-405b-16k", "llama-3.1-8b-1k"
    v8 = experiment("llama-3.1-405b-16k")
    v1 = experiment("llama-3.1-405b-16k", ("layout.vpp=1",))
    deepseek = experiment("deepseek-v3-2k")
    general = experiment("llama-3.1-405b-16k", ("layout.vpp=1", "layout.schedule=zb-h1"))
    system = load("system", "dgx-h100")
    middle, wide = random_paths(100_000, 100_000), random_paths(1_000_000, 393_000)
    thousands, thousand = straight(4096), straight(1024)
    random_ring, random_high = scattered(), scattered_high(16)
    rows = [
        ("Llama-3.1 405B, 16,384 chips, folded, v=1", median(lambda: simulate(v1)), 0.050),
        ("Llama-3.1 405B, 16,384 chips, folded, v=8", median(lambda: simulate(v8)), 0.100),
        ("DeepSeek-V3, 2,048 chips, folded", median(lambda: simulate(deepseek), runs=3), 0.500),
        ("405B analytic, specs and layout unseen", rate(one_point), 0.0002),
        ("analytic by the Programs, ZB-H1, v=1", median(lambda: analyse(general)), 0.050),
        ("analytic, mixed specs that fit, a point", rate(heterogeneous), 1 / 10_000),
        ("analytic, layouts of 8B on 1,024, a point", rate(lambda n: batched(n, small, fitting=False)), 1 / 100_000),
        ("the same, only those that fit in HBM", rate(lambda n: batched(n, small, fitting=True)), 1 / 100_000),
        ("405B on 16,384, only those that fit", rate(lambda n: batched(n, large, fitting=True)), 1 / 100_000),
        ("build 65,536 chips, route one flow from each", median(lambda: build_and_route(system)), 0.100),
        ("max-min, 100,000 flows, 100,000 links", median(lambda: max_min(*middle)), 0.150),
        ("max-min, 1,000,000 flows, 393,000 links", median(lambda: max_min(*wide), runs=3), 1.5),
        ("ring of 4,096, 1 GB, unfolded, 33.5 M sends", median(lambda: run_lanes(*thousands), runs=3), 5.0),
        ("ring of 1,024, 1 GB, unfolded, 2.1 M sends", median(lambda: run_lanes(*thousand)), 0.5),
        ("ring of 1,024 placed at random, hash ECMP", median(lambda: run_lanes(*random_ring), runs=3), 2.0),
        ("the same, three levels of 16-port switches", median(lambda: run_lanes(*random_high), runs=1), 2.0),
        ("unfolded step of 1,024 ranks, whole process", process("-c", UNFOLDED.format(dp=8)), 5.0),
        ("unfolded step of 16,384 ranks, whole process", process("-c", UNFOLDED.format(dp=128), runs=1), 20.0),
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
        print(f"{name:45}{shown(seconds):>12}{shown(budget):>12}{seconds / budget:8.0%}")
    memory = ring_memory()
    print(
        f"{'peak memory of the ring of 1,024':45}{memory:8.0f} MiB{300e6 / 2**20:8.0f} MiB{memory * 2**20 / 300e6:8.0%}"
    )


OUT = tempfile.mkdtemp(prefix="scaleout-bench-")
FIRST = "import scaleout; scaleout.simulate(scaleout.experiment('llama-3.1-405b-16k'))"
UNFOLDED = """
from dataclasses import replace
from pathlib import Path
import scaleout
spec = scaleout.experiment('llama-3.1-405b-16k')
layout, batch = replace(spec.layout, dp={dp}), replace(spec.batch, global_=spec.batch.global_ * {dp} // 128)
scaleout.simulate(replace(spec, chips=128 * {dp}, layout=layout, batch=batch), fold=False)
"""

if __name__ == "__main__":
    main()
