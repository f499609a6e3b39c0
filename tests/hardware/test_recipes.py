"""Recipes of low precision: bytes of casts and copies, and what they do to a step."""

from dataclasses import replace

import pytest

from scaleout.errors import SpecError
from scaleout.hardware import pack
from scaleout.hardware.formats import RECIPES, format_of, recipe_of
from scaleout.hardware.gemm import gemm_constants
from scaleout.hardware.rates import matmul, quantise
from scaleout.io.catalogue import load
from scaleout.specs import Chip

HOPPER, BLACKWELL = load("chip", "h100-sxm-80gb"), load("chip", "b200-sxm-180gb")
STACK = load("stack", "nemo")
ON = {"h100": (HOPPER, ["fp8", "fp8_current", "fp8_block"]), "b200": (BLACKWELL, sorted(RECIPES))}
CASES = [(chip, name) for chip, names in ON.values() for name in names]


@pytest.mark.parametrize(
    ("precision", "hopper", "blackwell"),
    [
        # read 2 bytes, write one by rows and one by columns; Blackwell multiplies columns as they are
        ("fp8", 2 + 1 + 1, 2 + 1),
        # read once more for the maximum
        ("fp8_current", 2 + 2 + 1 + 1, 2 + 2 + 1),
        # four bytes of scale each 128 elements
        ("fp8_block", 2 + 2 * (1 + 4 / 128), 2 + 2 * (1 + 4 / 128)),
        # one each 32
        ("mxfp8", None, 2 + 2 * (1 + 1 / 32)),
        # one each 16, and the maximum of the tensor
        ("nvfp4", None, 2 + 2 + 2 * (0.5 + 1 / 16)),
    ],
)
def test_bytes_of_a_cast(precision: str, hopper: float | None, blackwell: float) -> None:
    recipe = RECIPES[precision]
    assert recipe.cast_bytes(BLACKWELL) == blackwell
    assert recipe.held_bytes(BLACKWELL) == blackwell - 2 * recipe.reads
    if hopper is not None:
        assert recipe.cast_bytes(HOPPER) == hopper


@pytest.mark.parametrize(("chip", "precision"), CASES)
def test_a_cast_runs_at_the_rate_of_the_chips_measured_one(chip: Chip, precision: str) -> None:
    rates, recipe = pack(chip, STACK, precision), RECIPES[precision]
    pass_ = gemm_constants(chip, precision).quantise
    assert pass_ is not None
    # the measured kernel reads 2 bytes an element, twice for a maximum of the tensor, and writes one layout
    width = format_of(precision).left
    rate = chip.hbm_bandwidth * pass_.hbm_efficiency * (2 * recipe.measured + width) / (2 + width)
    for elements in (1e6, 1e9):
        expected = pass_.launch * recipe.reads / recipe.measured + recipe.cast_bytes(chip) * elements / rate
        assert quantise(elements, rates) == pytest.approx(expected, rel=1e-12)


def test_without_a_measured_cast_it_is_an_elementwise_pass() -> None:
    fp8 = replace(HOPPER.gemm["fp8"], quantise=None)
    rates = pack(replace(HOPPER, gemm={**HOPPER.gemm, "fp8": fp8}), STACK, "fp8")
    assert quantise(1e9, rates) == pytest.approx(4e9 / (HOPPER.hbm_bandwidth * STACK.elementwise_efficiency))


def test_a_maximum_of_the_tensor_at_hand_costs_time() -> None:
    for chip in (HOPPER, BLACKWELL):
        delayed, current = pack(chip, STACK, "fp8"), pack(chip, STACK, "fp8_current")
        assert quantise(1e8, current) > quantise(1e8, delayed)
        assert delayed.linear.tolist() == current.linear.tolist()


@pytest.mark.parametrize(("chip", "precision"), CASES)
def test_large_products_gain_more_than_their_casts_cost(chip: Chip, precision: str) -> None:
    wide, narrow = pack(chip, STACK, "bf16"), pack(chip, STACK, precision)
    m, n, k = 16384.0, 16384.0, 8192.0
    assert matmul(m, n, k, 2.0, narrow) + quantise(m * k, narrow) < matmul(m, n, k, 2.0, wide)


def test_sixteen_bits_cast_nothing() -> None:
    for precision in ("bf16", "fp16"):
        rates = pack(HOPPER, STACK, precision)
        assert recipe_of(precision, HOPPER) is None
        assert (rates.low, rates.weight_cast, rates.weight_copies) == (0.0, 0.0, 0.0)
        assert not rates.quantise.any()
        assert rates.kept == 2.0


@pytest.mark.parametrize("precision", ["mxfp8", "nvfp4"])
def test_a_chip_without_scales_inside_the_product_is_told_what_it_can_run(precision: str) -> None:
    with pytest.raises(SpecError, match=f"precision: {precision} .*h100-sxm-80gb.*accepted: bf16, fp8, fp8_block"):
        pack(HOPPER, STACK, precision)


def test_every_recipe_is_a_format_no_wider_than_its_operands() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.source
        assert format_of(name).left <= recipe.width < 2.0
        assert format_of(name).cast


def test_stand_ins_are_those_of_the_same_units_unless_a_chip_has_its_own() -> None:
    assert gemm_constants(BLACKWELL, "fp8_current") is BLACKWELL.gemm["fp8"]
    assert gemm_constants(BLACKWELL, "mxfp8") is BLACKWELL.gemm["fp8_block"]
    own = replace(BLACKWELL, gemm={**BLACKWELL.gemm, "mxfp8": BLACKWELL.gemm["fp8"]})
    assert gemm_constants(own, "mxfp8") is BLACKWELL.gemm["fp8"]
