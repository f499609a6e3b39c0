"""Communicators of every layout on machines of several kinds: folded equals unfolded, whatever they lie on."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from machines import program

from scaleout.collectives import candidates, choose
from scaleout.collectives.moe import ByKernel, Exchange, exchange_pattern
from scaleout.engine import Job, Label, Message, Quotient, Timeline, discrete, equitable, quotient, run
from scaleout.io.catalogue import load
from scaleout.network import Fabric, machine
from scaleout.network.pattern import Pattern
from scaleout.parallel import families, stage_of
from scaleout.specs import Layout, MoeKernel, Slow

STREAM = {"tp": "tp", "cp": "cp", "ep": "ep", "etp": "ep", "dp": "dp", "edp": "dp", "shard": "dp", "copies": "dp"}
OPERATION = {"tp": "all_gather", "cp": "shift", "ep": "all_to_all", "etp": "all_gather", "shard": "reduce_scatter"}
BYTES = 3e7

LAYOUTS: dict[str, dict[str, Any]] = {
    "context groups in a node": {"tp": 2, "cp": 4, "pp": 2},
    "context groups over nodes": {"tp": 4, "cp": 4},
    "experts over nodes, cut": {"tp": 2, "dp": 8, "ep": 4, "etp": 2},
    "experts across tensor groups": {"tp": 2, "cp": 2, "dp": 2, "pp": 2, "ep": 8},
    "experts everywhere": {"tp": 2, "dp": 8, "ep": 16},
    "stages first": {"tp": 2, "pp": 4, "dp": 2, "ep": 4, "order": ("pp", "tp", "cp", "dp")},
    "stages before copies": {"tp": 2, "cp": 2, "pp": 2, "dp": 2, "ep": 2, "order": ("tp", "pp", "cp", "dp")},
    "copies first": {"tp": 4, "dp": 4, "ep": 4, "order": ("dp", "tp", "cp", "pp")},
    "parts in a node, copies over nodes": {"tp": 2, "dp": 8, "shard": 4},
    "odd degrees": {"tp": 1, "cp": 3, "dp": 2, "pp": 2, "ep": 3, "etp": 2},
    "odd degrees in another order": {"tp": 2, "cp": 3, "dp": 2, "ep": 6, "order": ("cp", "dp", "tp", "pp")},
}  # fmt: skip
SYSTEMS = ("dgx-h100", "vtrain-a100-4xhdr200", "tpu-v5e", "mi300x-8", "dgx-1")


def job(layout: Layout) -> Job:
    """Every stage computes, uses each of its communicators in turn, and passes on; the stages differ."""
    made = families(layout, tied_embeddings=False)
    names = [name for name in made if name != "world" and not name.startswith("pp") and not name.endswith("_copies")]
    messages = [Message(name, OPERATION.get(name, "all_reduce"), BYTES) for name in names]
    messages += [Message("pp_forward", "send", BYTES)] if layout.pp > 1 else []
    messages += [Message("world", "all_reduce", 0.0)]
    programs = []
    for stage in range(layout.pp):
        ops: list[tuple[str, str, int, tuple[int, ...]]] = []
        if stage:
            ops.append(("receive", "receive forward", len(messages) - 2, ()))
        for index, name in enumerate(names):
            ops.append(("compute", "compute", (stage + index) % 3, (len(ops) - 1,) if ops else ()))
            # half of them beside the next kernel
            ops.append(("collective", STREAM[name], index, (len(ops) - 1,)))
        if stage < layout.pp - 1:
            ops.append(("send", "send forward", len(messages) - 2, (len(ops) - 1,)))
        ops.append(("collective", "dp", len(messages) - 1, (len(ops) - 1,)))
        programs.append(program(ops))
    labels = [Label(f"kernel {n}", "compute", (("matmul", s),)) for n, s in enumerate((1e-4, 3e-4, 2e-4))]
    return Job(
        programs=programs,
        program_of=stage_of(layout),
        families={message.family: made[message.family] for message in messages},
        labels=labels,
        messages=messages,
        memory_kinds=("weights",),
        static=[{} for _ in programs],
    )


def fabric_of(system: str, layout: Layout) -> Fabric:
    made = load("system", system)
    chips = -(-layout.chips // made.chips_per_node) * made.chips_per_node
    return machine(made, chips, Slow())


def patterns(work: Job, fabric: Fabric) -> dict[int, Pattern]:
    """By what is fastest; of experts by kernels, where their groups are many enough."""
    out = {}
    for index, message in enumerate(work.messages):
        groups = work.families[message.family].groups
        if isinstance(message.details, ByKernel):
            out[index] = exchange_pattern(fabric, groups, message.details)
            continue
        name = choose(fabric, groups, message.operation, message.nbytes)
        out[index] = candidates(fabric, groups, message.operation)[name](groups)
    return out


def simulate(work: Job, fabric: Fabric, *, fold: bool = True, runs: bool = True) -> tuple[Quotient, Timeline]:
    chosen = patterns(work, fabric)
    partition = equitable(work, fabric, chosen) if fold else discrete(work, fabric)
    wiring = quotient(work, fabric, chosen, partition)
    return wiring, run(work, wiring, runs=runs)


def equal(a: tuple[Quotient, Timeline], b: tuple[Quotient, Timeline], ranks: int) -> bool:
    for rank in range(ranks):
        mine, other = (timeline.classes[int(wiring.class_of[rank])] for wiring, timeline in (a, b))
        for name in ("arrived", "started", "ended"):
            if not np.array_equal(getattr(mine, name), getattr(other, name)):
                return False
    return True


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_folded_equals_unfolded_integer_for_integer(name: str, system: str) -> None:
    layout = Layout(**LAYOUTS[name])
    fabric, work = fabric_of(system, layout), job(layout)
    folded, unfolded = simulate(work, fabric), simulate(work, fabric, fold=False)
    assert folded[0].classes <= unfolded[0].classes == layout.chips
    assert folded[1].end > 0
    assert equal(folded, unfolded, layout.chips)
    assert equal(simulate(work, fabric, runs=False), unfolded, layout.chips)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_whatever_may_be_chosen_loads_every_group(name: str, system: str) -> None:
    layout = Layout(**LAYOUTS[name])
    fabric = fabric_of(system, layout)
    for family, made in families(layout, tied_embeddings=False).items():
        if family.startswith("pp"):
            continue
        for operation in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "shift"):
            menu = candidates(fabric, made.groups, operation)
            assert menu
            for make in menu.values():
                pattern = make(made.groups)
                for phase in pattern.phases:
                    assert np.array_equal(np.unique(phase.group), np.arange(len(made.groups)))


def test_ranks_of_one_stage_are_one_class_in_the_usual_order() -> None:
    for name in ("context groups over nodes", "experts across tensor groups", "parts in a node, copies over nodes"):
        layout = Layout(**LAYOUTS[name])
        work = job(layout)
        assert simulate(work, fabric_of("dgx-h100", layout))[0].classes == layout.pp


@pytest.mark.parametrize("copies", ["node", "rank", "expert"])
def test_exchanges_by_kernels_fold(copies: Any) -> None:
    kernel = MoeKernel(launch=1e-5, copies=copies, scale_up_rate=0.8, network_rate=0.9)
    for name in ("experts across tensor groups", "experts everywhere", "odd degrees in another order"):
        layout = Layout(**LAYOUTS[name])
        by = ByKernel("K", kernel, Exchange(tokens=4096, hidden=4096, topk=2, experts=48, ranks=layout.ep, skew=0.0), 2)
        fabric, work = fabric_of("dgx-h100", layout), job(layout)
        changed = [Message("ep", "dispatch", by.nbytes, by) if m.family == "ep" else m for m in work.messages]
        work = replace(work, messages=changed)
        assert equal(simulate(work, fabric), simulate(work, fabric, fold=False), layout.chips)
