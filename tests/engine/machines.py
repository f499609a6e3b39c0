"""Programs made by hand, for tests of the engine."""

from collections.abc import Sequence

import numpy as np

from scaleout.collectives import candidates
from scaleout.engine import Family, Job, Label, Message, Program, Timeline, equitable, quotient, run
from scaleout.engine.program import COLLECTIVE, COMPUTE, RECEIVE, SEND, STREAMS
from scaleout.evaluate.event import Recording
from scaleout.network import Fabric, ring

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


def record(work: Job, fabric: Fabric, *, runs: bool = True) -> Recording:
    """The same, with everything that happened."""
    patterns = {}
    for index, message in enumerate(work.messages):
        groups = work.families[message.family].groups
        menu = candidates(fabric, groups, message.operation)
        patterns[index] = next(iter(menu.values()))(groups)
    wiring = quotient(work, fabric, patterns, equitable(work, fabric, patterns))
    return Recording(None, work, wiring, run(work, wiring, runs=runs), True)  # type: ignore[arg-type]


def line(chips: int, bandwidth: float = 1e9, latency: float = 0.0) -> Fabric:
    """A ring fabric; paths between neighbours are single links."""
    return ring(chips, bandwidth=bandwidth, latency=latency)
