from pathlib import Path

import numpy as np
import pytest

from scaleout.collectives.moe import Exchange, exchange_seconds, spread
from scaleout.errors import MeasurementError, WorkloadError
from scaleout.io.catalogue import load
from scaleout.specs import Launch, MoeKernel
from scaleout.validation import collective, moe_alltoall

TABLES = Path(__file__).resolve().parents[2].parent / "shared" / "validation"
HEADER = "op,bytes,gpus,nodes,system,library,algo,time_us,algbw_gbs,busbw_gbs,source\n"
MOE = "op,kernel,dtype,tokens,hidden,topk,experts,ep,routing,time_us,system\n"
absent = pytest.mark.skipif(not (TABLES / "collectives.csv").exists(), reason="the bulk tables are absent")


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_rows_are_told_apart_and_others_are_left_out(tmp_path: Path) -> None:
    rows = [
        "all_reduce,67108864,8,1,dgx-h100,NCCL 2.27.3,,322.9,,,here",
        "alltoall,67108864,4,1,dgx-h100,NCCL 2.27.3,,184,0.0,0.0,here",
        "all_gather,67108864,8,1,dgx-h100,NCCL,,,,280.6,here",
        "reduce_scatter,67108864,8,1,dgx-h100,NCCL,,,334.7,,here",
        "send_recv,67108864,2,2,dgx-h100,NCCL (torch),,1871,,,here",
        "all_reduce,8589934592,8,1,dgx-b200,NCCL,Ring (NVLS off),22035,,,here",
        "all_reduce,1048576,5,2,dgx-a100,NCCL,,60,,,there",
        "all_reduce,1048576,8,2,gb200-nvl72,NCCL,,30,,,there",
        "all_reduce,8,8,1,,NCCL,,1,,,there",
        "all_reduce,8,8,1,dgx-h1000,NCCL,,1,,,there",
        "all_swap,8,8,1,dgx-h100,NCCL,,1,,,there",
        "all_reduce,8,8,1,dgx-h100,NCCL,,,,,there",
        "all_reduce,8,1,1,dgx-h100,NCCL,,1,,,there",
        "all_reduce,8,2,3,dgx-h100,NCCL,,1,,,there",
        "all_reduce,8,16,1,dgx-h100,NCCL,,1,,,there",
        "all_reduce,8589934592,16,2,gcp-a2,NCCL,,67689,,,there",
        "all_reduce,8589934592,8,1,dgx-a100,NCCL,NVLS,60000,,,there",
    ]
    made = collective.compare(table(tmp_path, HEADER + "\n".join(rows)))
    assert [row.line for row in made.compared] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert all(abs(row.error) < 0.15 for row in made.compared[:6])
    assert made.compared[2].measured == pytest.approx(7 / 8 * 67108864 / 280.6e9)
    assert made.compared[3].measured == pytest.approx(67108864 / 334.7e9)
    assert "ring/Simple" in made.compared[5].label
    reasons = {row.line: row.reason for row in made.skipped}
    assert list(reasons) == [*range(10, 19)]
    for line, words in (
        (10, "names no system"),
        (11, "did you mean 'dgx-h100'"),
        (12, "unknown operation 'all_swap'"),
        (13, "neither time nor bandwidth"),
        (14, "one chip alone"),
        (15, "more nodes than chips"),
        (16, "16 chips on a node of 'dgx-h100', which has 8"),
        (17, "faster than the ports of 'gcp-a2'"),
        (18, "'nvls' cannot do this here"),
    ):
        assert words in reasons[line], line
    groups = made.summary()["groups"]
    assert groups["size=from 1 MiB"]["n"] == 8
    assert groups["system=dgx-h100 & op=send_recv"]["n"] == 1


def test_malformed_rows_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"line 2, column 'gpus': '2\.5' is not accepted"):
        collective.compare(table(tmp_path, HEADER + "all_reduce,8,2.5,1,dgx-h100,NCCL,,1,,,here\n"))
    with pytest.raises(MeasurementError, match="column 'time_us'"):
        collective.compare(table(tmp_path, HEADER + "all_reduce,8,2,1,dgx-h100,NCCL,,-1,,,here\n"))
    with pytest.raises(MeasurementError, match="column 'tokens'"):
        moe_alltoall.compare(table(tmp_path, MOE + "alltoall_dispatch,K,nvfp4,x,1,1,8,8,balanced,9,gb200-nvl72\n"))


def test_a_host_adds_its_calls_and_cannot_issue_faster() -> None:
    launch = Launch(libraries=("torch",), call=18e-6, issue=30e-6, source="here")
    assert launch.seconds(5e-6, "all_reduce") == 30e-6
    assert launch.seconds(50e-6, "all_reduce") == pytest.approx(68e-6)
    assert launch.seconds(5e-6, "send") == pytest.approx(23e-6)
    system = load("system", "aws-p6-b200")
    assert system.launch_of("NCCL 2.27.7 (torch all_reduce_bench)") is not None
    assert system.launch_of("NCCL 2.27.3") is None


def test_places_of_unequal_nodes_and_of_racks() -> None:
    chips, ranks = collective.ranks_of(load("system", "dgx-h100"), "all_reduce", 5, 2)
    assert (chips, ranks.tolist()) == (16, [[0, 1, 2, 8, 9]])
    assert collective.ranks_of(load("system", "dgx-h100"), "send", 2, 2)[1].tolist() == [[0, 8]]
    # hosts of four in one rack
    assert collective.ranks_of(load("system", "gb200-nvl72"), "all_reduce", 8, 2)[0] == 8


@absent
def test_the_whole_table_of_collectives_is_met() -> None:
    groups = collective.compare(TABLES / "collectives.csv").summary()["groups"]
    for band, median, mape in (("below 1 MiB", 0.20, 0.30), ("from 1 MiB", 0.10, 0.15)):
        assert groups[f"size={band}"]["median"] <= median
        assert groups[f"size={band}"]["mape"] <= mape


# --- expert exchanges ------------------------------------------------------------------------


def exchange(ranks: int, tokens: int = 128, skew: float | None = None) -> Exchange:
    return Exchange(tokens=tokens, hidden=7168, topk=8, experts=256, ranks=ranks, skew=skew)


@pytest.mark.parametrize(("ranks", "copies", "near"), [(2, 2, 1), (4, 4, 3), (8, 8, 7), (32, 8, 7.75)])
def test_balanced_copies_go_to_as_many_ranks_as_there_are_choices(ranks: int, copies: float, near: float) -> None:
    made = spread(exchange(ranks), 72, "rank")
    assert (made.copies, made.near, made.far) == (copies, pytest.approx(near), 0.0)


def test_copies_at_random_are_those_of_a_simulation() -> None:
    rng = np.random.default_rng(0)
    hits = [len({int(e) // 32 for e in rng.choice(256, 8, replace=False)}) for _ in range(4000)]
    assert spread(exchange(8, skew=0.0), 8, "rank").copies == pytest.approx(np.mean(hits), rel=0.06)


def test_a_skewed_choice_waits_for_the_rank_of_the_favourites() -> None:
    loads = [spread(exchange(8, skew=skew), 8, "expert").near for skew in (0.0, 0.5, 1.0)]
    assert loads == sorted(loads)
    assert loads[0] == pytest.approx(7.0)
    # everybody's first choices stand on one rank, and nobody is chosen twice
    assert spread(exchange(8, skew=50.0), 8, "expert").near == pytest.approx(8 * 7)
    assert spread(exchange(8, skew=50.0), 8, "rank").near == pytest.approx(7.0)


def test_what_leaves_the_node_goes_over_ports() -> None:
    made = spread(exchange(64), 8, "expert")
    assert (made.near, made.far) == (pytest.approx(7 / 8), pytest.approx(7.0))
    system = load("system", "hgx-h800")
    kernel = MoeKernel(launch=1e-6, element=1.0, copies="expert")
    port = system.network.payload
    assert exchange_seconds(kernel, exchange(64), 2.0, system) == pytest.approx(1e-6 + 128 * 7 * 7168 / port)


@pytest.mark.parametrize(
    ("operation", "ranks", "measured"),
    [("dispatch", 8, 77e-6), ("dispatch", 256, 194e-6), ("dispatch", 16, 118e-6), ("combine", 64, 314e-6)],
)
def test_deepep_at_low_latency(operation: str, ranks: int, measured: float) -> None:
    """deepseek-ai/DeepEP, docs/legacy.md: 128 tokens of 7168 a rank, 8 experts each."""
    system = load("system", "hgx-h800")
    kernel = getattr(system.moe_kernels["DeepEP-low-latency"], operation)
    assert exchange_seconds(kernel, exchange(ranks), 1.0, system) == pytest.approx(measured, rel=0.10)


def test_exchanges_that_do_not_divide_are_refused() -> None:
    with pytest.raises(WorkloadError, match="256 experts do not divide over 3 ranks"):
        exchange(3)
    with pytest.raises(WorkloadError, match="cannot choose 8 of 4"):
        Exchange(tokens=1, hidden=1, topk=8, experts=4, ranks=4)


def test_rows_of_expert_exchanges(tmp_path: Path) -> None:
    rows = [
        "alltoall_dispatch,NVLinkTwoSided,nvfp4,4096,7168,8,256,8,balanced,255.7,gb200-nvl72",
        "alltoall_combine,NVLinkOneSided,nvfp4,4096,7168,8,256,32,balanced,739.6,gb200-nvl72",
        "alltoall_dispatch,NVLinkTwoSided,bfloat16,4096,7168,8,256,8,power_law_1.2,1500,gb200-nvl72",
        "alltoall_dispatch,DeepEP,nvfp4,4096,7168,8,256,8,balanced,255.7,gb200-nvl72",
        "alltoall_prepare,NVLinkOneSided,nvfp4,4096,7168,8,256,8,balanced,255.7,gb200-nvl72",
        "alltoall_swap,NVLinkOneSided,nvfp4,4096,7168,8,256,8,balanced,255.7,gb200-nvl72",
        "alltoall_dispatch,NVLinkTwoSided,nvfp4,4096,7168,8,256,8,zipf,255.7,gb200-nvl72",
        "alltoall_dispatch,NVLinkTwoSided,fp5,4096,7168,8,256,8,balanced,255.7,gb200-nvl72",
        "alltoall_dispatch,NVLinkTwoSided,nvfp4,4096,7168,8,256,7,balanced,255.7,gb200-nvl72",
    ]
    made = moe_alltoall.compare(table(tmp_path, MOE + "\n".join(rows)))
    assert [row.line for row in made.compared] == [2, 3, 4]
    assert all(abs(row.error) < 0.1 for row in made.compared[:2])
    assert len(made.skipped) == 6


@absent
def test_the_whole_table_of_expert_exchanges_is_met() -> None:
    whole = moe_alltoall.compare(TABLES / "moe_alltoall.csv").summary()
    assert whole["mape"] <= 0.05
    assert whole["groups"]["ep=8"]["mape"] <= 0.06


def test_a_row_of_more_chips_than_there_are_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(MeasurementError, match="at most 100,000"):
        collective.ranks_of(load("system", "dgx-h100"), "all_reduce", 10**12, 10**11)
