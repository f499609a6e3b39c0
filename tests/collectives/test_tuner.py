"""NCCL's tuner as a way to choose: against its own formulas by hand, and against where measured times jump."""

import numpy as np
import pytest

from scaleout.collectives import choose, explain, only, trials
from scaleout.collectives.tuner import tuner_choice, tuner_name, tuner_times
from scaleout.errors import SpecError
from scaleout.io.catalogue import load
from scaleout.network import nvswitch_node, rail_fat_tree
from scaleout.specs import System

MIB = 2**20


def whole(chips: int) -> np.ndarray:
    return np.arange(chips)[None, :]


def test_times_are_those_of_the_formula() -> None:
    tuner = load("system", "dgx-h100").tuner
    times = tuner_times(tuner, "all_reduce", 8, 1, 64 * MIB)
    nbytes = 64 * MIB / 1e3
    # 24 channels of 15 GB/s: 14 hops, and 14/8 of the bytes
    assert times["ring/Simple"] * 1e6 == pytest.approx(8.4 + 14 * 3.4 + nbytes * 14 / 8 / 360)
    assert times["ring/LL128"] * 1e6 == pytest.approx(14 + 14 * 1.9 + nbytes * 14 / 8 / (0.92 * 360))
    assert times["ring/LL"] * 1e6 == pytest.approx(6.6 + 14 * 0.6 + nbytes * 14 / 8 / 141)
    # 64 MiB is the 20th power of two from 64 bytes; seven hops up and down
    assert times["tree/Simple"] * 1e6 == pytest.approx(8.4 + 14 * 4.0 + 2 * nbytes / (0.92 * 360 * 0.8))
    # eight heads of 45 GB/s, seven of which receive
    assert times["nvls/Simple"] * 1e6 == pytest.approx(25 + nbytes * 14 / 8 / (2 * 0.85 * 7 / 8 * 360))


def test_two_nodes_by_hand() -> None:
    times = tuner_times(load("system", "dgx-h100").tuner, "all_reduce", 16, 2, 64.0)
    # 30 steps, two of which leave a node; of those inside, each takes the network's overhead at least
    assert times["ring/LL"] * 1e6 == pytest.approx(6.6 + 28 * 1.0 + 2 * 2.7 + 64 * 30 / 16 / 39e3)
    assert times["tree/LL"] * 1e6 == pytest.approx(6.8 + 2 * (7 * 0.6 + 5.0) + 2 * 64 / (0.85 * 39e3), rel=0.02)
    assert "nvls-tree/Simple" in times
    assert "nvls/Simple" not in times


@pytest.mark.parametrize(
    ("system", "operation", "chips", "last_before", "measured"),
    [
        # where the time of 2.27.3 (ai-dynamo/aiconfigurator 095f58a) jumps from one size to the next [us]
        ("dgx-a100", "all_gather", 2, 1 * MIB, (19.95, 38.1)),
        ("dgx-a100", "all_gather", 4, 1 * MIB, (22.53, 52.93)),
        ("dgx-a100", "all_reduce", 2, MIB // 2, (19.37, 40.84)),
        ("dgx-h100", "all_gather", 2, 2 * MIB, (16.53, 26.89)),
        ("dgx-h100", "all_gather", 4, 2 * MIB, (19.06, 36.85)),
        ("dgx-h100", "all_reduce", 2, 1 * MIB, (14.39, 27.58)),
        ("dgx-b200", "all_gather", 4, 4 * MIB, (25.09, 50.51)),
        ("dgx-b200", "all_reduce", 2, 2 * MIB, (18.89, 36.63)),
    ],
)
def test_it_leaves_a_protocol_where_measured_times_jump(
    system: str, operation: str, chips: int, last_before: int, measured: tuple[float, float]
) -> None:
    assert measured[1] > 1.6 * measured[0]
    spec = load("system", system)
    fabric = nvswitch_node(spec, chips)
    names = [choose(fabric, whole(chips), operation, size, tuner=spec.tuner) for size in (last_before, 2 * last_before)]
    assert names == ["ring/LL", "ring/Simple"]


@pytest.mark.parametrize(("chips", "algorithm"), [(4, "ring"), (5, "ring"), (6, "nvls"), (7, "nvls"), (8, "nvls")])
def test_b200_takes_the_switch_from_six_chips_on(chips: int, algorithm: str) -> None:
    """8 GiB: stas00/ml-engineering 744d01e, network/README.md, second table on SHARP."""
    spec = load("system", "dgx-b200")
    fabric = nvswitch_node(spec, chips)
    assert choose(fabric, whole(chips), "all_reduce", 2**33, tuner=spec.tuner).startswith(algorithm)


def test_its_sums_in_the_switch_overstate_what_is_measured() -> None:
    """Why it does not tell the time: 480 GB/s of bus bandwidth on eight H100."""
    seconds = tuner_times(load("system", "dgx-h100").tuner, "all_reduce", 8, 1, 2**34)["nvls/Simple"]
    assert 2 * 7 / 8 * 2**34 / seconds > 1.1 * 480e9


@pytest.fixture
def h100() -> System:
    spec: System = load("system", "dgx-h100")
    return spec


def test_explain_lists_every_candidate_with_its_bottleneck() -> None:
    spec = load("system", "dgx-b200")
    fabric = rail_fat_tree(spec, 16)
    rows = explain(fabric, whole(16), "all_reduce", 64 * MIB, tuner=spec.tuner)
    assert {row.algorithm for row in rows} == set(trials(fabric, whole(16), "all_reduce"))
    assert [row.time for row in rows] == sorted(row.time for row in rows)
    assert [row.algorithm for row in rows if row.chosen] == [rows[0].algorithm]
    by_name = {row.algorithm: row for row in rows}
    assert by_name["ring/Simple"].bottleneck == "chip 0 -> leaf 0"
    assert by_name["ring/LL"].bottleneck == "kernels of ring/LL"
    assert by_name["nvls-tree/NVLSTree"].tuner == pytest.approx(
        tuner_times(spec.tuner, "all_reduce", 16, 2, 64 * MIB)["nvls-tree/Simple"]
    )
    chosen = [row.algorithm for row in explain(fabric, whole(16), "all_reduce", 64 * MIB, "ring") if row.chosen]
    assert chosen[0].startswith("ring/")
    by_tuner = explain(fabric, whole(16), "all_reduce", 1024 * MIB, tuner=spec.tuner, by_tuner=True)
    assert [row.algorithm for row in by_tuner if row.chosen] == ["nvls-tree/NVLSTree"]


def test_an_algorithm_can_be_asked_for(h100: System) -> None:
    fabric = nvswitch_node(h100, 8)
    assert choose(fabric, whole(8), "all_reduce", 8 * MIB, "ring/Simple") == "ring/Simple"
    with pytest.raises(SpecError, match="'rings' cannot do this here; did you mean 'ring'"):
        only(trials(fabric, whole(8), "all_reduce"), "rings")


def test_what_the_tuner_does_not_know_is_chosen_by_time(h100: System) -> None:
    fabric = nvswitch_node(h100, 8)
    assert tuner_times(h100.tuner, "all_to_all", 8, 1, 1e6) == {}
    assert choose(fabric, whole(8), "all_to_all", 1e9, tuner=h100.tuner) == "pairwise/P2P"
    assert tuner_choice({"pat/Simple": 1.0}, {"ring/LL": 1.0}) is None
    assert tuner_name("ring/LL128") == "ring/LL128"
