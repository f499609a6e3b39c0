"""Numbers of equally spaced groups against the patterns of the same groups on a fabric."""

import random
from dataclasses import replace

import numpy as np
import pytest

from scaleout.collectives import candidates, flat
from scaleout.collectives.alone import HALF, WHOLE, collective_rows, send_rows
from scaleout.collectives.groups import rail_size
from scaleout.collectives.places import Rails, rail_size_of_all, railed, rails, reach
from scaleout.errors import TopologyError
from scaleout.io.catalogue import list_names, load
from scaleout.network import Fabric, rail_fat_tree, torus
from scaleout.parallel.ranks import families
from scaleout.parallel.wires import wires_of
from scaleout.specs import Layout

SYSTEMS = [system for system in (load("system", name) for name in list_names("system")) if railed(system)]
SIZES = (0.0, 1e3, 1e5, 1e7, 1e9)


def machines(seed: int, count: int) -> list[tuple[Fabric, Rails, Layout]]:
    """Systems under layouts whose groups lie evenly on nodes and unevenly, inside pods and across."""
    draw, made = random.Random(seed), []
    while len(made) < count:
        system = draw.choice(SYSTEMS)
        changes: dict[str, object] = {}
        if draw.random() < 0.4:
            changes["oversubscription"] = draw.choice([1.0, 2.0, 3.0, 4.0])
        if draw.random() < 0.5 and system.network.tiers is None:
            changes["radix"] = draw.choice([8, 16, 32])
        system = replace(system, network=replace(system.network, **changes))
        layout = Layout(
            tp=draw.choice([1, 2, 3, 4, 6, 8, 16, 24]),
            pp=draw.choice([1, 2, 3, 4, 5, 8]),
            dp=draw.choice([1, 2, 3, 4, 5, 6, 8, 12, 16, 33]),
        )
        chips, node = layout.chips, system.chips_per_node
        if chips == 1 or (chips > node and chips % node):
            continue
        try:
            made.append((rail_fat_tree(system, chips), rails(system, chips), layout))
        except TopologyError:
            continue
    return made


@pytest.mark.parametrize(("fabric", "machine", "layout"), machines(0, 40))
def test_rows_of_every_stage_are_the_patterns_of_its_first_group(
    fabric: Fabric, machine: Rails, layout: Layout
) -> None:
    tp, pp, dp = layout.tp, layout.pp, layout.dp
    node = machine.per_node
    sizes = {
        "tp": rail_size_of_all(tp, pp * dp, 1, 1, tp, node),
        "dp": rail_size_of_all(tp * dp, pp, tp, tp, dp, node),
        "embedding": rail_size_of_all(0, 1, tp * dp, (pp - 1) * tp * dp, 2, node) if pp > 1 else 0,
    }
    for name, family in families(layout, tied_embeddings=True).items():
        if name not in sizes:
            continue
        groups = family.groups
        assert sizes[name] == rail_size(fabric, groups)
        stride = int(groups[0, 1] - groups[0, 0])
        firsts = np.flatnonzero(groups[:, 0] % (tp * dp) == 0) if name != "embedding" else [0]
        for operation, kind in (("all_gather", HALF), ("reduce_scatter", HALF), ("all_reduce", WHOLE)):
            made = {key: make(groups) for key, make in candidates(fabric, groups, operation).items()}
            for group in firsts:
                out = np.empty((200, 3))
                start, members = int(groups[group, 0]), groups.shape[1]
                count = collective_rows(machine, kind, start, stride, members, sizes[name], out, 0)
                for nbytes in SIZES:
                    alone = min(pattern.alone(fabric, nbytes, group) for pattern in made.values())
                    rows = out[:count]
                    assert min(rows[:, 0] + nbytes * rows[:, 1] / rows[:, 2]) == pytest.approx(alone, rel=1e-13)


@pytest.mark.parametrize(("fabric", "machine", "layout"), machines(1, 15))
def test_wires_are_never_slower_than_any_stages_first_group(fabric: Fabric, machine: Rails, layout: Layout) -> None:
    tp, pp, dp = layout.tp, layout.pp, layout.dp
    made = families(layout, tied_embeddings=False)
    for sharded, operation in ((True, "all_gather"), (False, "all_reduce")):
        wires = wires_of(machine, tp, pp, dp, sharded, True)
        groups = {
            "tp": wires.tp_half if sharded else wires.tp_whole,
            "dp": wires.dp_half if sharded else wires.dp_whole,
        }
        for name, rows in groups.items():
            if name not in made:
                assert len(rows) == 0
                continue
            members = made[name].groups
            patterns = [make(members) for make in candidates(fabric, members, operation).values()]
            firsts = np.flatnonzero(members[:, 0] % (tp * dp) == 0)
            for nbytes in SIZES:
                fastest = [min(p.alone(fabric, nbytes, int(group)) for p in patterns) for group in firsts]
                assert min(rows[:, 0] + nbytes * rows[:, 1] / rows[:, 2]) == pytest.approx(min(fastest), rel=1e-13)


@pytest.mark.parametrize(("fabric", "machine", "layout"), machines(2, 20))
def test_sends_are_those_between_first_ranks(fabric: Fabric, machine: Rails, layout: Layout) -> None:
    pairs = np.random.default_rng(0).integers(0, layout.chips, (20, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    made = [make(pairs) for make in candidates(fabric, pairs, "send").values()]
    rows = send_rows(machine)
    for i, (source, target) in enumerate(pairs.tolist()):
        far = reach(machine, source, target)
        for pattern, row in zip(made, rows[far], strict=True):
            (phase,) = pattern.phases
            assert row == pytest.approx([phase.latency[i], phase.share, phase.rate(fabric, i)], rel=1e-15)


def test_plain_and_compiled_rows_are_the_same() -> None:
    for _, machine, layout in machines(3, 10):
        given = (machine, layout.tp, layout.pp, layout.dp, True, True)
        for plain, compiled in zip(wires_of(*given), wires_of.compiled(*given), strict=True):
            assert (plain == compiled).all()


def test_a_large_group_is_added_up_in_blocks_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fabric = torus((3, 4, 2), bandwidth=50e9, latency=1e-6)
    for groups in (np.arange(24)[None, :], np.arange(24).reshape(2, 12)):
        monkeypatch.undo()
        (whole,) = flat.direct(fabric, groups, "all_to_all", "wires").phases
        monkeypatch.setattr(flat, "_PAIRS_AT_ONCE", 100)
        (blocks,) = flat.direct(fabric, groups, "all_to_all", "wires").phases
        for name in ("group", "link", "weight", "latency", "cap"):
            assert np.array_equal(getattr(whole, name), getattr(blocks, name)), name
