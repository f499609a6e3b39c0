"""Times of operators: never below what the chip could do, and as the engine and the precision say."""

from dataclasses import replace

import pytest

from scaleout.errors import SpecError
from scaleout.io.catalogue import load
from scaleout.models.nets import Exchange, Gather, Pass, Product, operators
from scaleout.parallel.operators import PRECISIONS, SECTOR, Timer, stands_for
from scaleout.parallel.tables import deal
from scaleout.parallel.tables import load as reads

CHIP, ENGINE = load("chip", "h100-sxm-80gb"), load("engine", "tensorrt-10")
SQUARE = Product("square", m=4096, n=4096, k=4096, read=4096 * 4096)


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p != "fp32"])
def test_no_operator_is_faster_than_the_peaks(precision: str) -> None:
    timer = Timer(CHIP, ENGINE, precision)
    rate = CHIP.flops({"int8": "int8", "fp8": "fp8"}.get(precision, "bf16"))
    for one in operators(load("net", "resnet-50"), 64):
        took = timer.time(one)
        assert took.seconds >= one.flop / rate
        assert took.seconds >= one.weights / CHIP.hbm_bandwidth * 0.4


def test_large_images_do_not_stay_in_l2_and_small_ones_do() -> None:
    timer = Timer(CHIP, ENGINE, "int8")
    small, large = Pass("small", 1e6), Pass("large", 1e9)
    assert timer.time(large).seconds >= 1e9 / CHIP.hbm_bandwidth
    fixed = ENGINE.elementwise_launch + ENGINE.kernel_gap
    assert timer.time(small).seconds - fixed < 1e6 / CHIP.hbm_bandwidth


def test_a_residual_costs_less_in_the_kernel_before() -> None:
    apart = replace(ENGINE, fused=tuple(name for name in ENGINE.fused if name != "epilogue"))
    added = SQUARE._replace(extra=4096.0 * 4096.0, activation=True)
    together, alone = Timer(CHIP, ENGINE, "fp16").time(added), Timer(CHIP, apart, "fp16").time(added)
    assert (together.kernels, alone.kernels) == (1, 2)
    assert together.seconds < alone.seconds
    assert Timer(CHIP, apart, "fp16").time(SQUARE).kernels == 1


def test_narrow_weights_help_few_rows_and_not_many() -> None:
    few, many = SQUARE._replace(m=1, read=4096), SQUARE
    wide, narrow = Timer(CHIP, ENGINE, "fp16"), Timer(CHIP, ENGINE, "w4a16")
    assert narrow.time(few).seconds < 0.75 * wide.time(few).seconds
    assert narrow.time(many).seconds == pytest.approx(wide.time(many).seconds, rel=0.1)


def test_the_host_binds_where_no_graph_was_captured() -> None:
    eager = replace(ENGINE, graph_sizes=(), host_launch=50e-6)
    assert Timer(CHIP, eager, "fp16").time(Pass("tiny", 10.0)).seconds == 50e-6


def test_products_of_integers_take_constants_of_16_bits_where_none_were_measured() -> None:
    lent = stands_for(CHIP, "sq")
    assert lent.gemm["sq"].compute_efficiency == CHIP.gemm["bf16"].compute_efficiency
    assert lent.sustained["int8"] == CHIP.sustained["fp8"]
    own = load("chip", "a100-sxm-80gb")
    assert stands_for(own, "sq").gemm["sq"] == own.gemm["sq"]
    with pytest.raises(SpecError, match="has no rate for 'int8'"):
        stands_for(replace(CHIP, peak_flops={"bf16": 1e15}), "sq")


def test_lookups_take_whole_sectors_and_small_tables_nothing() -> None:
    timer = Timer(CHIP, ENGINE, "fp16", "int8")

    def took(rows: int, size: int) -> float:
        return timer.time(Gather("g", 1e6, (rows,), (10.0,), (size,))).seconds

    large = 100_000_000
    narrow, wide = took(large, 32), took(large, 64)
    # half a sector takes a whole one; only the sums differ
    written = 1e6 * 32 * 2.0 / (CHIP.hbm_bandwidth * ENGINE.elementwise_efficiency)
    assert wide - narrow == pytest.approx(written)
    assert took(1000, 64) < 0.2 * wide
    assert wide >= 1e6 * 10 * SECTOR / CHIP.hbm_bandwidth


def test_an_exchange_needs_somebody_to_exchange_with() -> None:
    with pytest.raises(SpecError, match="there is one chip"):
        Timer(CHIP, ENGINE, "fp16").time(Exchange("sums", 1.0))
    timer = Timer(CHIP, ENGINE, "fp16", exchange=lambda nbytes: nbytes * 1e-9)
    assert timer.time(Exchange("sums", 1e6)).seconds == pytest.approx(2e-3)


@pytest.mark.parametrize("chips", [1, 2, 3, 8, 16])
def test_dealt_tables_are_all_there_and_nobody_reads_much_more_than_a_share(chips: int) -> None:
    net = load("net", "dlrm-v2").dlrm
    dealt = deal(net, chips)
    for table in range(len(net.rows)):
        assert sum(p.width for hand in dealt.pieces for p in hand if p.table == table) == net.dimension
    total = sum(net.lookups) * net.dimension
    assert sum(reads(hand) for hand in dealt.pieces) == total
    largest = max(p.lookups * p.width for hand in dealt.pieces for p in hand)
    assert reads(dealt.busiest) <= total / chips + 2.0 * largest
    assert sum(p.rows * p.width for hand in dealt.pieces for p in hand) <= chips * dealt.elements
