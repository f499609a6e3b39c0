"""Systolic arrays against a simulation of every multiplier in every cycle, limits, and closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.hardware.design import peak_flops
from scaleout.hardware.gemm import gemm_beside, gemm_seconds, gemm_vector
from scaleout.hardware.moe import Loads, experts_seconds
from scaleout.hardware.systolic import operand_bytes, systolic_constants
from scaleout.io.catalogue import load, validate
from scaleout.specs import Chip, Design, GroupedConstants, Memory, SystolicConstants, TensorUnit

ARRAY = SystolicConstants(rows=4, columns=3, arrays=1, hbm_efficiency=1.0, norm=100.0, source="by hand")


def made(constants: SystolicConstants = ARRAY, hbm: float = 1e30, **changes: object) -> Chip:
    """A chip whose arrays have one cycle a second."""
    peak = 2.0 * constants.rows * constants.columns * constants.arrays
    chip = Chip(
        name="array", vendor="none", cores=1, peak_flops={"bf16": peak, "fp8": peak}, hbm_bytes=1e9,
        hbm_bandwidth=hbm, power=1.0, gemm={"bf16": constants}, source="by hand",
    )  # fmt: skip
    return replace(chip, **changes)


def cycles(m: int, n: int, k: int, constants: SystolicConstants = ARRAY, **changes: object) -> float:
    c = gemm_vector(made(constants, **changes), "bf16")
    return float(gemm_seconds(m, n, k, 2.0, c))


def walked(a: np.ndarray, b: np.ndarray, rows: int, columns: int, overlap: bool) -> tuple[np.ndarray, int]:
    """C = A B on one weight-stationary array, register by register; and the cycles that it takes."""
    (m, k), n = a.shape, b.shape[1]
    deep, wide = -(-k // rows), -(-n // columns)
    padded = np.zeros((m, deep * rows), int)
    padded[:, :k] = a
    weights = np.zeros((deep * rows, wide * columns), int)
    weights[:k, :n] = b
    passes = [(i, j) for j in range(wide) for i in range(deep)]
    gap = max(m, rows) if overlap else m + rows + columns - 2
    out = np.zeros((m, wide * columns), int)
    value, tag, total = (np.zeros((rows, columns), int) for _ in range(3))
    tag[:] = -1
    done, cycle = 0, 0
    while done < m * wide * columns * deep:
        # what flows moves one to the right, sums one down; the tag says whose weights it meets
        value[:, 1:], tag[:, 1:] = value[:, :-1].copy(), tag[:, :-1].copy()
        for i in range(rows):
            number, row = divmod(cycle - i, gap)
            fed = cycle >= i and row < m and number < len(passes)
            value[i, 0] = padded[row, passes[number][0] * rows + i] if fed else 0
            tag[i, 0] = number * m + row if fed else -1
        total[1:] = total[:-1].copy()
        total[0] = 0
        for i in range(rows):
            for j in range(columns):
                if tag[i, j] >= 0:
                    at = passes[tag[i, j] // m]
                    total[i, j] += value[i, j] * weights[at[0] * rows + i, at[1] * columns + j]
        for j in range(columns):
            if tag[rows - 1, j] >= 0:
                number, row = divmod(int(tag[rows - 1, j]), m)
                out[row, passes[number][1] * columns + j] += total[rows - 1, j]
                done += 1
        cycle += 1
    return out[:, :n], cycle


@settings(max_examples=12, deadline=None)
@given(m=st.integers(1, 9), n=st.integers(1, 7), k=st.integers(1, 9), overlap=st.booleans(), seed=st.integers(0, 9))
def test_cycles_are_those_of_an_array_walked_register_by_register(
    m: int, n: int, k: int, overlap: bool, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    a, b = draw.integers(-9, 9, (m, k)), draw.integers(-9, 9, (k, n))
    found, walk = walked(a, b, 4, 3, overlap)
    assert (found == a @ b).all()
    # the last pass of an overlapped product need not wait for weights after it
    spare = max(0, 4 - m) if overlap else 0
    assert cycles(m, n, k, replace(ARRAY, overlap=float(overlap))) == pytest.approx(walk + spare)


def test_many_rows_reach_the_peak_but_for_what_ragged_sides_leave_idle() -> None:
    for n, k in [(3, 4), (4, 4), (3, 5), (301, 401)]:
        used = n * k / (math.ceil(k / 4) * 4 * math.ceil(n / 3) * 3)
        assert 2 * 10**6 * n * k / cycles(10**6, n, k) == pytest.approx(24 * used, rel=1e-4)
    # one column, or one weight, more than a whole number of arrays costs a pass
    assert cycles(100, 4, 4) == pytest.approx(2 * cycles(100, 3, 4))
    assert cycles(100, 3, 5) == pytest.approx(2 * cycles(100, 3, 4))


def test_sums_that_stay_swap_rows_of_a_with_depth() -> None:
    still = replace(ARRAY, dataflow="output-stationary")
    for m, n, k in [(1, 1, 1), (5, 7, 100), (64, 3, 9)]:
        assert cycles(m, n, k, still) == pytest.approx(math.ceil(m / 4) * math.ceil(n / 3) * (k + 4 + 3 - 2))
        assert cycles(m, n, k, still) == pytest.approx(cycles(k, n, m))


@given(m=st.integers(1, 300), n=st.integers(1, 60), k=st.integers(1, 60), arrays=st.integers(1, 16))
def test_more_arrays_are_never_slower_and_never_better_than_their_number(m: int, n: int, k: int, arrays: int) -> None:
    one, many = cycles(m, n, k), cycles(m, n, k, replace(ARRAY, arrays=arrays))
    assert one / arrays * (1 - 1e-9) <= many <= one * (1 + 1e-9)


def test_a_fast_array_waits_for_its_operands_and_the_cap_holds() -> None:
    c = gemm_vector(made(hbm=10.0), "bf16")
    assert gemm_seconds(64, 3, 4, 2.0, c) == pytest.approx(2 * (64 * 4 + 4 * 3 + 64 * 3) / 10, rel=1e-2)
    capped = made(sustained={"bf16": 12.0})
    burst, long = gemm_vector(capped, "bf16"), gemm_vector(capped, "bf16", sustained=True)
    assert gemm_seconds(10**6, 3, 4, 2.0, long) == pytest.approx(2 * gemm_seconds(10**6, 3, 4, 2.0, burst), rel=1e-4)
    assert gemm_seconds(10**6, 3, 4, 2.0, gemm_beside(burst, 0.5, 1.0)) == pytest.approx(
        2 * gemm_seconds(10**6, 3, 4, 2.0, burst)
    )


@given(m=st.integers(1, 400), n=st.integers(1, 400), k=st.integers(1, 400), room=st.integers(16, 1 << 19))
def test_a_larger_buffer_never_reads_more_and_none_reads_less_than_once(m: int, n: int, k: int, room: int) -> None:
    once = 2.0 * (m * k + k * n)
    small, large = operand_bytes(m, n, k, 2.0, 2.0, room), operand_bytes(m, n, k, 2.0, 2.0, 2.0 * room)
    assert once <= large <= small
    assert operand_bytes(m, n, k, 2.0, 2.0, 0.0) == once
    # a block of sums of one element is the worst that there is
    assert small <= 2.0 * m * n * k * 2.0
    # blocks of sums that fit are one way of doing it
    side = max(1, math.isqrt(room // 4))
    assert small <= 2.0 * (m * k * math.ceil(n / side) + k * n * math.ceil(m / side))


@pytest.mark.parametrize("dataflow", ["weight-stationary", "output-stationary"])
@pytest.mark.parametrize("buffer", [None, 3e5])
def test_compiled_is_plain(dataflow: str, buffer: float | None) -> None:
    constants = replace(ARRAY, dataflow=dataflow, buffer=buffer, arrays=3, overlap=0.5, norm=3.0, launch=2.0)
    c = gemm_vector(made(constants, hbm=1e3), "bf16")
    for shape in [(1.0, 5.0, 7.0), (300.0, 512.0, 999.0), (4096.0, 64.0, 1.0)]:
        assert gemm_seconds(*shape, 2.0, c) == gemm_seconds.compiled(*shape, 2.0, c)
        assert gemm_seconds(*shape, 2.0, c, 8.0) == gemm_seconds.compiled(*shape, 2.0, c, 8.0)


def test_experts_with_all_rows_are_one_product_after_another() -> None:
    grouped = GroupedConstants(work=1.0, traffic=1.0, launch=0.0, source="by hand")
    chip = made(replace(ARRAY, grouped=grouped, overlap=1.0), hbm=1e30)
    each = Loads(np.array([64.0, 64.0]), np.array([1.0, 1.0]))
    c = gemm_vector(chip, "bf16")
    alone = gemm_seconds(64, 24, 16, 2.0, c) + gemm_seconds(64, 16, 12, 2.0, c)
    # what fills and drains an array is hidden by the next expert
    assert experts_seconds(chip, "bf16", 64, 16, 12, each) == pytest.approx(2 * alone - 2 * 5.0, rel=1e-9)


def test_a_design_gives_its_constants_and_its_clock_comes_back() -> None:
    design = Design(
        process="N4", cores=2, clock=1.5e9, vector_lanes=128, sram=1e6, l2=6e6, power=200.0,
        tensor=TensorUnit(kind="systolic", rows=128, columns=64, count=4),
        memory=Memory(kind="hbm3", stacks=2, capacity=16e9, bandwidth=4e11),
    )  # fmt: skip
    c = systolic_constants(design)
    assert (c.rows, c.columns, c.arrays, c.buffer) == (128, 64, 8, 8e6)
    assert peak_flops(design)["bf16"] / (2 * c.rows * c.columns * c.arrays) == pytest.approx(design.clock)
    with pytest.raises(SpecError, match="'tensor-core' is not accepted here"):
        systolic_constants(replace(design, tensor=TensorUnit(macs={"bf16": 1024.0})))


def test_a_chip_file_says_what_is_wrong_with_an_array() -> None:
    chip = {
        "name": "mine", "vendor": "me", "cores": 2, "peak_flops": {"bf16": "100 TFLOP/s"}, "hbm_bytes": "16 GB",
        "hbm_bandwidth": "800 GB/s", "power": "100 W", "source": "me",
    }  # fmt: skip
    array = {"kind": "systolic", "rows": 128, "columns": 128, "arrays": 2, "hbm_efficiency": 0.9, "source": "me"}
    found = validate("chip", chip | {"gemm": {"bf16": array}}, "file")
    assert isinstance(found.gemm["bf16"], SystolicConstants)
    for change, words in [
        ({"rowz": 1}, "file: gemm.bf16: rowz: unknown key; did you mean 'rows'"),
        ({"kind": "systolik"}, "file: gemm.bf16: kind: 'systolik' is not accepted; expected 'systolic'"),
        ({"dataflow": "input"}, "gemm.bf16: dataflow: 'input' is not accepted; expected 'weight-stationary'"),
        ({"buffer": "0 B"}, "0 is not accepted; leave it out"),
    ]:
        with pytest.raises(SpecError, match=words):
            validate("chip", chip | {"gemm": {"bf16": array | change}}, "file")
    # constants of tiles are still told of as before
    with pytest.raises(SpecError) as caught:
        validate("chip", chip | {"gemm": {"bf16": {"launch": "1 us", "lunch": "1 us"}}}, "file")
    assert "Constants" not in str(caught.value)
    assert "file: gemm.bf16.lunch: unknown key; did you mean 'launch'" in str(caught.value)


def test_the_shipped_tpu_is_within_reach_of_its_arrays() -> None:
    chip = load("chip", "tpu-v6e")
    arrays = SystolicConstants(
        rows=256, columns=256, arrays=4, overlap=1.0, compute_efficiency=0.949, hbm_efficiency=0.9, source="by hand"
    )
    tiles, other = gemm_vector(chip, "bf16"), gemm_vector(replace(chip, gemm={"bf16": arrays}), "bf16")
    for m in (1, 256):
        assert gemm_seconds(m, 14336, 4096, 2.0, other) == pytest.approx(
            gemm_seconds(m, 14336, 4096, 2.0, tiles), rel=0.1
        )
    # what makes long products slower than their arrays nobody has told: docs/backends.md
    share = gemm_seconds(8192, 14336, 4096, 2.0, other) / gemm_seconds(8192, 14336, 4096, 2.0, tiles)
    assert 0.75 < share < 1.0
