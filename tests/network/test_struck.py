import numpy as np
import pytest

from scaleout.errors import SpecError
from scaleout.io.catalogue import load
from scaleout.network import Topology, machine, ring, stretches, struck
from scaleout.specs import Fault, Slow, System

SYSTEMS = ("dgx-h100", "vtrain-a100-4xhdr200")


def names(topology: Topology, fault: Fault) -> list[str]:
    return [topology.link_name(link) for link in struck(topology, fault)]


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize(("part", "slow"), [("port", "ports"), ("scale_up", "scale_up")])
def test_a_fault_of_a_rank_strikes_what_slow_slows(name: str, part: str, slow: str) -> None:
    system: System = load("system", name)
    healthy = machine(system, 32).topology
    (only,) = stretches(healthy, [Fault(at=0.0, share=0.25, **{part: 5})])
    assert np.array_equal(only.bandwidth, machine(system, 32, Slow(**{slow: {5: 0.25}})).topology.bandwidth)


def test_names_of_vertices_and_links() -> None:
    topology = machine(load("system", "dgx-h100"), 16).topology
    assert names(topology, Fault(at=0.0, share=0, link="chip 5 -> leaf 5")) == ["chip 5 -> leaf 5"]
    assert sorted(names(topology, Fault(at=0.0, share=0, link="chip 5<->leaf 5"))) == [
        "chip 5 -> leaf 5", "leaf 5 -> chip 5",
    ]  # fmt: skip
    leaf = names(topology, Fault(at=0.0, share=0, vertex="leaf 3"))
    assert sorted(leaf) == [
        "chip 11 -> leaf 3", "chip 3 -> leaf 3", "leaf 3 -> chip 11", "leaf 3 -> chip 3", "leaf 3 -> spines of pod 0",
        "spines of pod 0 -> leaf 3",
    ]  # fmt: skip
    assert len(names(topology, Fault(at=0.0, share=0, vertex="spines of pod 0"))) == 16


def test_stretches_begin_and_end_with_faults() -> None:
    topology = ring(4, bandwidth=8.0, latency=0.0).topology
    faults = [
        Fault(at=1.0, until=4.0, share=0.5, link="chip 0 -> chip 1"),
        Fault(at=2.0, until=4.0, share=0, vertex="chip 0"),
        Fault(at=3.0, share=0, link="chip 1 -> chip 2", then="stall"),
    ]
    found = stretches(topology, faults)
    assert [stretch.start for stretch in found] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [stretch.bandwidth[:2].tolist() for stretch in found] == [[8, 8], [4, 8], [0, 8], [0, 0], [8, 0]]
    assert [len(stretch.avoid) for stretch in found] == [0, 0, 4, 4, 0]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"port": 0}, "fault.port: chip 0 of ring of 4 has no network port; accepted: vertex or link by name"),
        ({"port": 4}, "rank 4 is not one of the 4 chips"),
        ({"vertex": "chip 4"}, "accepted: chip 0 to chip 3"),
        ({"vertex": "chip ²"}, "accepted: chip 0 to chip 3"),
        ({"vertex": ""}, "no vertex ''"),
        ({"link": "chip 0 -> chip 2"}, "no link 'chip 0 -> chip 2'; chip 0 leads to chip 1, chip 3"),
        ({"link": "chip 0 -> chip 1 -> chip 2"}, "is no link"),
    ],
)
def test_what_the_topology_does_not_have_is_refused(fault: dict[str, object], says: str) -> None:
    topology = ring(4, bandwidth=8.0, latency=0.0).topology
    with pytest.raises(SpecError, match=says):
        struck(topology, Fault(**{"at": 0.0, "share": 0, **fault}))  # type: ignore[arg-type]


def test_labels_of_imported_graphs() -> None:
    one = np.ones(1)
    link = np.zeros(1, dtype=np.int64)
    topology = Topology(
        name="two", chips=2, vertices=(("chip", 2),), source=link, target=link + 1, bandwidth=one, latency=one,
        kind=link, kinds=("wire",), labels=("left", "right"),
    )  # fmt: skip
    assert names(topology, Fault(at=0.0, share=0, link="left -> right")) == ["left -> right"]
    assert names(topology, Fault(at=0.0, share=0, vertex="right")) == ["left -> right"]
    with pytest.raises(SpecError, match="did you mean 'right'"):
        struck(topology, Fault(at=0.0, share=0, vertex="rigth"))
