"""What the network of a job is made of."""

from dataclasses import replace

import pytest

from scaleout.io.catalogue import load
from scaleout.network import tree_shape
from scaleout.network.inventory import inventory
from scaleout.specs import System

H100: System = load("system", "dgx-h100")


def like(**network: object) -> System:
    return replace(H100, network=replace(H100.network, **network))  # type: ignore[arg-type]


@pytest.mark.parametrize("chips", [2048, 4096, 16_384])
def test_a_full_tree_of_three_tiers_has_the_ports_of_its_switches(chips: int) -> None:
    found, shape = inventory(H100, chips), tree_shape(chips // 8, 8, 64)
    assert found.switch_ports == 64 * (shape.leaves + shape.spines + shape.cores)
    # without oversubscription each tier has a cable a chip
    assert found.cables == shape.tiers * chips
    assert found.ends == 2 * found.cables
    assert found.rate == 50e9


def test_rails_that_stay_apart_have_no_cores() -> None:
    found = inventory(like(kind="rail-only"), 16_384)
    assert found.cables == 2 * 16_384
    assert found.switch_ports == 64 * (512 + 256)
    # as many nodes as a switch has ports need no spines
    flat = inventory(like(kind="rail-only"), 512)
    assert flat == (512, 1024, 512, 50e9)


def test_a_node_needs_no_network_and_nodes_that_stand_alone_have_none() -> None:
    assert inventory(H100, 8) == inventory(H100, 1) == (0, 0, 0, 0.0)
    assert inventory(like(kind="none"), 8).cables == 0


def test_a_job_of_two_nodes_has_its_share_of_the_switches() -> None:
    assert inventory(H100, 16) == (32, 64, 48, 50e9)


@pytest.mark.parametrize("chips", [16, 128, 1032, 8192])
@pytest.mark.parametrize("kind", ["rail-fat-tree", "rail-only", "leaf-spine", "clos"])
def test_cables_are_at_least_a_port_and_never_more_above_than_below(kind: str, chips: int) -> None:
    nodes_per_leaf = 4 if kind in ("leaf-spine", "clos") else None
    found = inventory(like(kind=kind, nodes_per_leaf=nodes_per_leaf), chips)
    assert chips <= found.cables <= 3 * chips
    assert found.switch_ports == 2 * found.cables - chips
    half = inventory(like(kind=kind, nodes_per_leaf=nodes_per_leaf, oversubscription=3.0), chips)
    assert chips <= half.cables <= found.cables


def test_chips_that_share_a_port_share_its_cable() -> None:
    found = inventory(like(ports_per_node=2), 64)
    assert found.switch_ports - found.cables == found.cables - 16
    assert found.cables == 2 * 16
