"""How far phases are from chunks where operations share links; prints the table of ``docs/chunks.md``.

Each case runs two to four operations that begin together on one fabric: as phases, the way a
training step runs them, and chunk by chunk, every send of every rank. The error of an operation is
its end by phases over its end by chunks, less one.
"""

import sys
from dataclasses import replace

import numpy as np

from scaleout.collectives.groups import Group
from scaleout.collectives.registry import ALGORITHMS
from scaleout.engine import Family, Job, Message, Program, discrete, quotient, run
from scaleout.engine.program import COLLECTIVE, RECEIVE, SEND, STREAMS, TICKS_PER_SECOND
from scaleout.evaluate.chunks import Operation, run_operations
from scaleout.io.catalogue import load
from scaleout.network import Fabric, leaf_spine, machine, ring, torus
from scaleout.network.fabric import WIRES

Work = tuple[str, str, np.ndarray, float]
"""Algorithm, operation, ranks and bytes."""
CHUNKS = 32


def by_phases(fabric: Fabric, works: list[Work]) -> np.ndarray:
    """End of each operation as phases on the flow network [s]."""
    ranks = fabric.topology.chips
    families, messages, patterns = {}, [], {}
    for at, (name, operation, members, nbytes) in enumerate(works):
        groups = members[None, :]
        families[str(at)] = Family(str(at), "dp", groups)
        messages.append(Message(str(at), operation, nbytes))
        patterns[at] = ALGORITHMS[name].pattern(fabric, groups, operation, "wires")
    none = np.zeros(0, dtype=np.int64)
    programs = []
    for rank in range(ranks):
        mine = np.array([at for at, work in enumerate(works) if rank in work[2]], dtype=np.int64)
        sends = np.array([works[at][1] == "send" for at in mine.tolist()], dtype=bool)
        first = np.array([works[at][2][0] == rank for at in mine.tolist()], dtype=bool)
        programs.append(
            Program(
                kind=np.where(sends, np.where(first, SEND, RECEIVE), COLLECTIVE),
                # operations of a rank on streams of their own do not wait for each other
                stream=mine % len(STREAMS),
                item=mine,
                after=np.full((len(mine), 3), -1),
                memory_op=none,
                memory_end=none.astype(bool),
                memory_kind=none,
                memory_bytes=none.astype(float),
            )
        )
    job = Job(
        programs=programs,
        program_of=np.arange(ranks),
        families=families,
        labels=[],
        messages=messages,
        memory_kinds=(),
        static=[{} for _ in programs],
    )
    timeline = run(job, quotient(job, fabric, patterns, discrete(job, fabric)), runs=False)
    ends = np.zeros(len(works))
    for rank, program in enumerate(programs):
        for op, item in enumerate(program.item.tolist()):
            ends[item] = max(ends[item], timeline.classes[rank].ended[op] / TICKS_PER_SECOND)
    return ends


def by_chunks(fabric: Fabric, works: list[Work]) -> np.ndarray:
    """The same by every send of every rank [s]."""
    operations = [
        Operation(
            schedule=ALGORITHMS[name].schedule(Group.on(fabric, members), operation, chunks=CHUNKS),
            ranks=members,
            nbytes=nbytes,
        )
        for name, operation, members, nbytes in works
    ]
    return np.array(run_operations(fabric, operations).ends)


def wires(fabric: Fabric) -> Fabric:
    """The fabric without a library: what is compared are links."""
    return replace(fabric, protocols={"wires": WIRES}, idle_step=0.0)


def fabrics() -> dict[str, Fabric]:
    """Small machines of several kinds."""
    system = load("system", "dgx-h100")
    link = {"bandwidth": 50e9, "latency": 1e-6}
    return {
        "4 x DGX H100": wires(machine(system, 32)),
        "ring of 16": ring(16, **link),
        "torus 4 x 8": torus((4, 8), **link),
        "leaf-spine 2:1": leaf_spine(32, chips_per_leaf=8, spines=4, **link),
    }


def named(fabric: Fabric) -> dict[str, list[Work]]:
    """What meets in a training step, made plain."""
    n = fabric.topology.chips
    everyone, half, odd = np.arange(n), np.arange(n // 2), np.arange(0, n, 2)
    big = 1e9
    return {
        "two rings, all chips": [("ring", "all_reduce", everyone, big), ("ring", "all_gather", everyone, big)],
        "ring and every second chip's": [("ring", "all_reduce", everyone, big), ("ring", "all_reduce", odd, big)],
        "ring and all-to-all": [("ring", "all_reduce", everyone, big), ("pairwise", "all_to_all", half, big)],
        "ring and a send": [
            ("ring", "reduce_scatter", everyone, big),
            ("send", "send", everyone[[0, n // 2]], big / 8),
        ],
        "ring and halving-doubling": [
            ("ring", "all_reduce", everyone, big),
            ("halving-doubling", "all_reduce", odd, big),
        ],
        "ring and tree": [("ring", "all_reduce", half, big), ("tree", "all_reduce", odd, big)],
    }


def drawn(fabric: Fabric, seed: int) -> list[Work]:
    """Two to four operations of random groups, sizes and algorithms."""
    draw = np.random.default_rng(seed)
    menu = [
        ("ring", "all_reduce"), ("ring", "all_gather"), ("halving-doubling", "all_reduce"), ("direct", "all_gather"),
        ("pairwise", "all_to_all"), ("recursive-doubling", "all_reduce"), ("tree", "all_reduce"),
    ]  # fmt: skip
    works = []
    for _ in range(draw.integers(2, 5)):
        size = int(draw.choice([2, 4, 8, 16]))
        members = np.sort(draw.choice(fabric.topology.chips, min(size, fabric.topology.chips), replace=False))
        works.append((*menu[draw.integers(len(menu))], members, float(10 ** draw.uniform(6, 9.5))))
    return works


def main(cases: int) -> None:
    print("| fabric | operations that meet | error of each |\n| --- | --- | --- |")
    for place, fabric in fabrics().items():
        for words, works in named(fabric).items():
            errors = by_phases(fabric, works) / by_chunks(fabric, works) - 1
            print(f"| {place} | {words} | {', '.join(f'{error:+.1%}' for error in errors)} |", flush=True)
    for place, fabric in fabrics().items():
        errors = np.concatenate(
            [
                by_phases(fabric, works) / by_chunks(fabric, works) - 1
                for works in (drawn(fabric, s) for s in range(cases))
            ]
        )
        size = np.abs(errors)
        words = f"median {np.median(size):.1%}, mean {size.mean():.1%}, 9 of 10 within {np.percentile(size, 90):.1%}"
        words += f", bias {errors.mean():+.1%}, {errors.min():+.0%} to {errors.max():+.0%}"
        print(f"| {place} | {cases} random cases, {len(errors)} operations | {words} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
