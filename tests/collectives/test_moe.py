"""Expert exchanges: counts of copies against draws, patterns against closed forms, kernels against published rates."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from scaleout.collectives.moe import ByKernel, Exchange, exchange_pattern, exchange_seconds, spread
from scaleout.errors import WorkloadError
from scaleout.io.catalogue import load
from scaleout.network import machine
from scaleout.specs import MoeKernel, Slow

H800 = load("system", "hgx-h800")
KERNEL = MoeKernel(launch=3e-6, step=1e-6, scale_up_rate=0.7, network_rate=0.8)


def exchange(ranks: int, **changes: Any) -> Exchange:
    given = {"tokens": 4096, "hidden": 7168, "topk": 8, "experts": 256, "skew": 0.0}
    return Exchange(ranks=ranks, **(given | changes))


@pytest.mark.parametrize(("ranks", "experts", "topk", "groups", "limit"), [
    (2, 8, 2, 1, 1), (4, 8, 3, 1, 1), (8, 8, 2, 4, 2), (4, 8, 3, 4, 3), (2, 8, 3, 4, 2), (6, 12, 4, 3, 2),
])  # fmt: skip
def test_copies_are_those_of_all_choices_counted(ranks: int, experts: int, topk: int, groups: int, limit: int) -> None:
    made = exchange(ranks, experts=experts, topk=topk, groups=groups, group_limit=limit)
    hits = []
    for chosen in combinations(range(groups), limit):
        within = [e for e in range(experts) if e // (experts // groups) in chosen]
        hits.append(np.mean([len({e // (experts // ranks) for e in picked}) for picked in combinations(within, topk)]))
    assert spread(made, ranks, "rank").copies == pytest.approx(np.mean(hits), rel=1e-12)


def test_no_more_nodes_see_a_token_than_groups_may_be_chosen() -> None:
    # DeepSeek-V3, arXiv 2412.19437, section 3.2.2: at most four nodes a token, whatever its eight experts
    limited, free = (exchange(64, groups=8, group_limit=limit) for limit in (4, 8))
    assert spread(limited, 8, "node").far < 4 * 7 / 8 < spread(free, 8, "node").far
    # most tokens use all four: 3.6 nodes hold the eight experts
    assert spread(limited, 8, "node").far == pytest.approx(3.63 * 7 / 8, rel=1e-2)
    with pytest.raises(WorkloadError, match="from 1 groups of 4"):
        exchange(8, experts=32, groups=8, group_limit=1)
    with pytest.raises(WorkloadError, match="32 experts of each of 5 ranks or nodes are no whole number"):
        spread(exchange(5, experts=160, groups=8, group_limit=3), 5, "rank")


@pytest.mark.parametrize("skew", [0.0, 0.7, None])
@pytest.mark.parametrize("copies", ["rank", "expert", "node"])
@pytest.mark.parametrize("ranks", [8, 16, 64])
def test_a_pattern_alone_takes_what_the_closed_form_says(ranks: int, copies: Any, skew: float | None) -> None:
    kernel = replace(KERNEL, copies=copies)
    fabric = machine(H800, ranks, Slow())
    for constants in ({}, {"token": 0.9e-6}, {"overhead": 0.1e-6, "local": 5e10}):
        by = ByKernel("K", replace(kernel, **constants), exchange(ranks, skew=skew), 2.0)
        pattern = exchange_pattern(fabric, np.arange(ranks)[None, :], by)
        expected = exchange_seconds(by.kernel, by.exchange, 2.0, H800)
        assert pattern.alone(fabric, by.nbytes) == pytest.approx(expected, rel=1e-9)


def test_one_copy_a_node_spares_the_ports_and_loads_the_links_alike() -> None:
    fabric, groups = machine(H800, 64, Slow()), np.arange(64)[None, :]
    loads = {}
    for copies in ("rank", "node"):
        by = ByKernel("K", replace(KERNEL, copies=copies), exchange(64), 2.0)  # type: ignore[arg-type]
        (phase,) = exchange_pattern(fabric, groups, by).phases
        sent = np.bincount(fabric.topology.kind[phase.link], phase.weight)
        loads[copies] = sent / sent[0] * spread(by.exchange, 8, by.kernel.copies).near
    per_rank = spread(exchange(64), 8, "rank")
    assert loads["rank"][1] / loads["rank"][0] == pytest.approx(per_rank.far / per_rank.near)
    per_node = spread(exchange(64), 8, "node")
    assert loads["node"][1] / loads["node"][0] == pytest.approx(per_node.far / per_node.near)
    assert per_node.far < per_rank.far
    # whoever hands it on, a copy for each rank crosses a link into a node, but for the likes' own
    assert per_node.near == pytest.approx(per_rank.copies * 7 / 8)


def test_members_that_lie_unevenly_get_a_copy_each() -> None:
    fabric = machine(H800, 16, Slow())
    by = ByKernel("K", replace(KERNEL, copies="node"), exchange(8), 2.0)
    uneven = np.array([[0, 1, 2, 3, 4, 8, 9, 10]])
    each = ByKernel("K", replace(KERNEL, copies="rank"), exchange(8), 2.0)
    a, b = (exchange_pattern(fabric, uneven, one).alone(fabric, one.nbytes) for one in (by, each))
    assert a == b


@pytest.mark.parametrize(("operation", "ranks", "rate"), [
    ("dispatch", 8, 153e9), ("combine", 8, 158e9), ("dispatch", 16, 43e9), ("combine", 16, 43e9),
    ("dispatch", 64, 51e9), ("combine", 64, 50e9),
])  # fmt: skip
def test_deepep_at_full_throughput(operation: str, ranks: int, rate: float) -> None:
    """deepseek-ai/DeepEP, docs/legacy.md: 4,096 tokens of 7,168 a rank, 8 experts each, of at most 4 nodes.

    Rates count the copies that stay on the rank, or in the node.
    """
    nodes = max(ranks // 8, 1)
    kernel = getattr(H800.moe_kernels["DeepEP"], operation)
    # one group a node; as in the published runs at most four of them
    limits = {"groups": nodes, "group_limit": min(nodes, 4)}
    seconds = exchange_seconds(kernel, exchange(ranks, **limits), 2.0, H800)
    split = spread(exchange(ranks, **limits), 8, "node")
    copies = split.copies if nodes == 1 else split.far * nodes / (nodes - 1)
    counted = 4096 * copies * 7168 * (kernel.element or 2.0)
    assert counted / seconds == pytest.approx(rate, rel=0.10)


@pytest.mark.parametrize(("name", "operation", "ranks", "rate"), [
    ("dgx-b200", "dispatch", 8, 536e9), ("dgx-b200", "combine", 8, 531e9),
    ("gb200-nvl72", "dispatch", 8, 550e9), ("gb200-nvl72", "combine", 8, 538e9),
    ("gb200-nvl72", "dispatch", 32, 486e9), ("gb200-nvl72", "combine", 32, 423e9),
])  # fmt: skip
def test_hybrid_ep_in_one_domain(name: str, operation: str, ranks: int, rate: float) -> None:
    """deepseek-ai/DeepEP, docs/README_Hybrid-EP.md, as called from PyTorch: 8 experts a rank, 16 bits."""
    system = load("system", name)
    given = exchange(ranks, experts=8 * ranks)
    seconds = exchange_seconds(getattr(system.moe_kernels["HybridEP"], operation), given, 2.0, system)
    assert 4096 * spread(given, ranks, "rank").copies * 7168 * 2.0 / seconds == pytest.approx(rate, rel=0.25)
