"""The table of one collective by size: closed forms, bounds, and what it says of itself."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scaleout.collective import OPERATIONS, bus_factor, collective_table, sizes_between
from scaleout.collectives import Algorithm, Sends, register
from scaleout.collectives.algorithm import Task
from scaleout.errors import SpecError, TopologyError, WorkloadError
from scaleout.io.catalogue import load
from scaleout.io.graphs import load_topology
from scaleout.network import machine, ring, torus

SYSTEM = load("system", "dgx-h100")


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_ring_of_wires_takes_its_closed_form_to_the_picosecond(n: int) -> None:
    fabric = ring(n, bandwidth=50e9, latency=1e-6)
    (row,) = collective_table("all_reduce", fabric, [1e9], algorithm="ring").rows
    expected = 2 * (n - 1) * 1e-6 + 2 * (n - 1) / n * 1e9 / 50e9
    assert row.time_ps == pytest.approx(expected * 1e12, abs=2)
    assert row.time == row.time_ps / 1e12
    assert (row.algorithm, row.bound_by) == ("ring/wires", "link")
    assert row.busbw == pytest.approx(2 * (n - 1) / n * row.algbw)
    assert row.busbw <= 50e9


def test_bus_factors_are_those_of_nccl_tests() -> None:
    assert [bus_factor(op, 8) for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")] == [
        1.75,
        *[0.875] * 3,
    ]
    assert bus_factor("broadcast", 8) == 1.0


def test_rows_name_what_bounds_them() -> None:
    table = collective_table("all_reduce", machine(SYSTEM, 16), [8, 2.0**33])
    small, large = table.rows
    assert small.bound_by == "latency"
    assert large.bound_by in ("link", "protocol")
    assert "chip 0" in large.bottleneck
    assert table.link_use.max() <= 1 + 1e-12
    assert table.link_use.max() > 0.3


def test_explained_rows_hold_every_candidate_and_the_least_is_taken() -> None:
    table = collective_table("all_reduce", machine(SYSTEM, 8), [2.0**20, 2.0**30], explain=True)
    for row in table.rows:
        assert row.time == pytest.approx(min(row.candidates.values()), rel=1e-9)
        assert row.candidates[row.algorithm] == pytest.approx(row.time, rel=1e-9)
    assert "candidates" not in collective_table("all_reduce", machine(SYSTEM, 8), [8]).to_dict()["rows"][0]


def test_part_of_the_chips() -> None:
    fabric = machine(SYSTEM, 32)
    few = collective_table("all_gather", fabric, [1e8], ranks=np.arange(8), algorithm="ring/Simple")
    alone = collective_table("all_gather", machine(SYSTEM, 8), [1e8], algorithm="ring/Simple")
    assert few.rows[0].time_ps == alone.rows[0].time_ps


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_has_an_algorithm_everywhere(operation: str) -> None:
    for fabric in (machine(SYSTEM, 8), machine(SYSTEM, 16), ring(5, bandwidth=1e9, latency=1e-6)):
        (row,) = collective_table(operation, fabric, [1e6]).rows
        assert row.time > 0
        assert row.busbw <= 376.3e9


def test_what_the_library_does_not_run_says_so() -> None:
    table = collective_table("all_reduce", machine(SYSTEM, 8), [1e9], algorithm="halving-doubling")
    assert "constants of its protocol Simple" in table.notes[0]
    assert not collective_table("all_reduce", machine(SYSTEM, 8), [1e9], algorithm="ring").notes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("all_redce", [8]), "did you mean 'all_reduce'"),
        (("all_reduce", [8], {"algorithm": "rng"}), "did you mean 'ring'"),
        (("all_reduce", [8], {"ranks": np.array([0])}), "at least 2"),
    ],
)
def test_what_it_cannot_do_is_refused(arguments: tuple, words: str) -> None:  # type: ignore[type-arg]
    operation, sizes, *rest = arguments
    with pytest.raises(SpecError, match=words):
        collective_table(operation, machine(SYSTEM, 8), sizes, **(rest[0] if rest else {}))


def test_sizes_ascend_by_a_factor() -> None:
    assert sizes_between(8, 2**33)[-1] == 2**33
    assert sizes_between(0, 4) == [0]
    assert sizes_between(0, 100, 4) == [0, 8, 32]
    assert sizes_between(5, 5) == [5]
    for wrong in ((8, 4, 2), (8, 16, 1), (1, 1e17, 1.001), (8, 16, float("inf"))):
        with pytest.raises(SpecError):
            sizes_between(*wrong)


@pytest.mark.parametrize("fold", [True, False])
def test_unequal_islands_fall_back_to_a_flat_ring_and_say_so(fold: bool) -> None:
    fabric = load_topology("two-islands")
    table = collective_table("all_reduce", fabric, [1e9], algorithm="hierarchical", fold=fold)
    (plain,) = collective_table("all_reduce", fabric, [1e9], algorithm="ring", fold=fold).rows
    assert "ring" in table.notes[0]
    assert table.rows[0].time == pytest.approx(plain.time, rel=0.02)


@pytest.mark.parametrize("algorithm", ["nvls", "sharp"])
def test_no_switch_adds_where_there_is_none(algorithm: str) -> None:
    assert collective_table("all_reduce", machine(SYSTEM, 8), [1e6], algorithm=algorithm).rows
    with pytest.raises(SpecError, match="no switch of its nodes could add"):
        collective_table("all_reduce", torus((4, 2), bandwidth=50e9, latency=1e-6), [1e6], algorithm=algorithm)


def test_the_tuner_may_choose_and_our_lines_tell_the_time() -> None:
    fabric, sizes = machine(SYSTEM, 8), [2.0**12, 2.0**22, 2.0**32]
    tuned = collective_table("all_reduce", fabric, sizes, tuner=SYSTEM.tuner, by_tuner=True).rows
    plain = collective_table("all_reduce", fabric, sizes, explain=True, tuner=SYSTEM.tuner).rows
    for mine, best in zip(tuned, plain, strict=True):
        assert best.tuner[mine.algorithm] == min(best.tuner.values())
        assert mine.time == pytest.approx(best.candidates[mine.algorithm], rel=1e-9)
        assert mine.time >= best.time
    with pytest.raises(SpecError, match="there is no tuner"):
        collective_table("all_reduce", fabric, sizes, by_tuner=True)


RING = ring(4, bandwidth=50e9, latency=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sizes": [-1]}, "sizes: -1: expected a number"),
        ({"sizes": [math.nan]}, "sizes: nan"),
        ({"sizes": ["1 GB"]}, "sizes: '1 GB'"),
        ({"sizes": 1e6}, "sizes: 1000000.0: expected a list"),
        ({"sizes": []}, "sizes: none"),
        ({"sizes": [1e40]}, "below 10"),
        ({"ranks": [0, 0]}, "ranks: a rank is there twice"),
        ({"ranks": [0, 9]}, "ranks must be 0 to 3"),
        ({"ranks": [0.5, 1]}, "expected a row of whole numbers"),
        ({"ranks": "01"}, "expected a row of whole numbers"),
        ({"algorithm": 5}, "algorithm: 5: expected a name or an Algorithm"),
        ({"fabric": "dgx-h100"}, "fabric: expected one of a builder"),
        ({"fabric": RING.topology}, "fabric: expected one of a builder"),
    ],
)
def test_what_is_no_input_is_refused(given: dict[str, Any], words: str) -> None:
    fabric, sizes = given.pop("fabric", RING), given.pop("sizes", [1e6])
    with pytest.raises((SpecError, TopologyError), match=words):
        collective_table("all_reduce", fabric, sizes, **given)


def _nothing(task: Task) -> Any:
    return Sends(task.goal(blocks=1)).schedule("nothing")


def _half(task: Task) -> Any:
    sends = Sends(task.goal(blocks=1))
    sends.send(0, 1, 0, reduce=True)
    return sends.schedule("half")


def _none(task: Task) -> Any:
    return None


def _many(task: Task) -> Any:
    return Sends(task.goal(blocks=10**9)).schedule("many")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_nothing, "rank 0"),
        (_half, "rank"),
        (_none, "made NoneType, no Schedule"),
        (_many, "at most 67,108,864 pieces"),
    ],
)
def test_an_algorithm_of_ones_own_does_what_it_says(make: Callable[[Task], Any], words: str) -> None:
    mine = Algorithm(name="mine", operations=("all_reduce",), make=make)
    with pytest.raises(WorkloadError, match=words):
        collective_table("all_reduce", RING, [1e6], algorithm=mine)


def test_only_known_operations_are_registered() -> None:
    with pytest.raises(WorkloadError, match="unknown operation 'all_foo'"):
        register(Algorithm(name="foo", operations=("all_foo",), make=_none))
    with pytest.raises(WorkloadError, match="is no Algorithm"):
        register("star")  # type: ignore[arg-type]


def test_too_many_sends_are_refused_before_anything_is_built() -> None:
    with pytest.raises(SpecError, match="16,384 chips are too many to write down every send"):
        collective_table("all_to_all", ring(16_384, bandwidth=50e9, latency=1e-6), [1e6], fold=False)


@pytest.mark.parametrize("fold", [True, False])
def test_a_send_goes_from_the_first_chip_to_the_last(fold: bool) -> None:
    fabric = machine(SYSTEM, 16)
    table = collective_table("send", fabric, [1e6], fold=fold)
    (pair,) = collective_table("send", fabric, [1e6], ranks=np.array([0, 15]), fold=fold).rows
    assert (table.chips, table.rows[0].time) == (2, pair.time)
    (near,) = collective_table("send", machine(SYSTEM, 8), [1e6], fold=fold).rows
    assert near.time < pair.time


@pytest.mark.parametrize("operation", ["broadcast", "reduce"])
def test_a_long_chain_is_cut_finely_enough_to_fill(operation: str) -> None:
    (row,) = collective_table(operation, machine(SYSTEM, 64), [2e9], algorithm="ring", fold=False).rows
    assert row.phases is not None
    assert 1 < row.time / row.phases < 1.5
