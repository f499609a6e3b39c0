"""Programs made by hand, for tests of the engine."""

from collections.abc import Sequence

import numpy as np

from scaleout.collectives import candidates
from scaleout.engine import Epoch, Family, Job, Label, Message, Program, Timeline, discrete, equitable, quotient, run
from scaleout.engine.program import COLLECTIVE, COMPUTE, RECEIVE, SEND, STREAMS, ticks
from scaleout.evaluate.event import Recording
from scaleout.network import Fabric, avoiding, ring, stretches, with_routing
from scaleout.network.pattern import Pattern
from scaleout.specs import Fault

COMPUTE_STREAM, DP = STREAMS.index("compute"), STREAMS.index("dp")
KIND = {"compute": COMPUTE, "collective": COLLECTIVE, "send": SEND, "receive": RECEIVE}


def program(ops: Sequence[tuple[str, str, int, tuple[int, ...]]]) -> Program:
    """Operations (kind, stream, item, after)."""
    none = np.zeros(0, dtype=np.int64)
    after = np.full((len(ops), 3), -1, dtype=np.int64)
    for row, (_, _, _, waits) in enumerate(ops):
        after[row, : len(waits)] = waits
    return Program(
        kind=np.array([KIND[kind] for kind, _, _, _ in ops]),
        stream=np.array([STREAMS.index(stream) for _, stream, _, _ in ops]),
        item=np.array([item for _, _, item, _ in ops]),
        after=after,
        memory_op=none,
        memory_end=none.astype(bool),
        memory_kind=none,
        memory_bytes=none.astype(float),
    )


def job(
    programs: Sequence[Program],
    program_of: Sequence[int],
    seconds: Sequence[float],
    messages: Sequence[Message],
    families: Sequence[Family],
) -> Job:
    labels = [Label(f"kernel {n}", "compute", (("matmul", s),)) for n, s in enumerate(seconds)]
    return Job(
        programs=programs,
        program_of=np.array(program_of),
        families={family.name: family for family in families},
        labels=labels,
        messages=messages,
        memory_kinds=("weights",),
        static=[{} for _ in programs],
    )


def simulate(work: Job, fabric: Fabric) -> Timeline:
    """Run a job, every operation by the first algorithm that can do it."""
    return record(work, fabric).timeline


def record(
    work: Job, fabric: Fabric, *, runs: bool = True, fold: bool = True, faults: Sequence[Fault] = ()
) -> Recording:
    """The same, with everything that happened."""
    patterns = patterns_on(fabric, work)
    later = []
    for start, bandwidth, avoid in stretches(fabric.topology, faults) if faults else ():
        around = with_routing(fabric, avoiding(fabric.topology, avoid, fabric.paths))
        later.append(Epoch(ticks(start), bandwidth, patterns_on(around, work) if len(avoid) else patterns))
    partition = equitable(work, fabric, patterns, later) if fold else discrete(work, fabric)
    wiring = quotient(work, fabric, patterns, partition, later)
    return Recording(None, work, wiring, run(work, wiring, runs=runs), fold)  # type: ignore[arg-type]


def patterns_on(fabric: Fabric, work: Job) -> dict[int, Pattern]:
    patterns = {}
    for index, message in enumerate(work.messages):
        groups = work.families[message.family].groups
        menu = candidates(fabric, groups, message.operation)
        patterns[index] = next(iter(menu.values()))(groups)
    return patterns


def line(chips: int, bandwidth: float = 1e9, latency: float = 0.0) -> Fabric:
    """A ring fabric; paths between neighbours are single links."""
    return ring(chips, bandwidth=bandwidth, latency=latency)


def same(a: Recording, b: Recording) -> bool:
    """Every rank's every operation arrived, started and ended at the same picosecond."""
    for rank in range(a.experiment.chips):
        mine = a.timeline.classes[int(a.wiring.class_of[rank])]
        other = b.timeline.classes[int(b.wiring.class_of[rank])]
        for name in ("arrived", "started", "ended"):
            if not (getattr(mine, name) == getattr(other, name)).all():
                return False
    return True
