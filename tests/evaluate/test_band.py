"""The error band: how its parts combine, what widens it, and what a shape beyond the calibrated range does."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.evaluate.band import band_of, kind_errors
from scaleout.evaluate.ranges import Use, range_warnings, uses
from scaleout.evaluate.uncertainty import DEFAULTS, NETWORK, NO_TIME, RESTS_ON
from scaleout.io.catalogue import list_names, load
from scaleout.io.experiments import experiment
from scaleout.result import ErrorBand
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]
ONE_NODE = {"chips": 8, "layout": {"tp": 4, "pp": 1, "dp": 2, "vpp": 1}, "batch": {"global": 8}}
PATH = {"matmul": 60, "attention": 10, "elementwise": 10, "launch": 1, "tp": 10, "pp": 4, "dp": 5}
SPEC = experiment("llama-3.1-8b-1k")


def fitted(spec: TrainingExperiment, **residuals: float) -> TrainingExperiment:
    """The experiment with everything verified and these residuals, calibrated on every shape."""
    chip, system, stack = spec.system.chip, spec.system, spec.stack
    kernel = chip.attention[stack.attention]
    prefill = replace(kernel.for_prefill("bf16"), residual=residuals["attention"], calibrated={})
    chip = replace(
        chip,
        gemm={"bf16": replace(chip.gemm["bf16"], residual=residuals["matmul"], range={})},
        attention={stack.attention: replace(kernel, prefill={"bf16": prefill})},
        elementwise={
            name: replace(one, residual=residuals["elementwise"], calibrated={})
            for name, one in chip.elementwise.items()
        },
        unverified=(),
    )
    library = replace(system.library, residual=residuals["library"])
    system = replace(system, chip=chip, library=library, unverified=())
    return replace(spec, system=system, stack=replace(stack, unverified=()))


def test_the_band_is_what_one_works_out_by_hand(small: Make) -> None:
    spec = fitted(small(**ONE_NODE), matmul=0.04, attention=0.05, elementwise=0.06, library=0.03)
    band = band_of(spec, {"matmul": 6.0, "attention": 1.0, "elementwise": 1.0, "launch": 0.5, "tp": 1.0, "dp": 0.5})
    passes = math.hypot(0.06, DEFAULTS["one_rate"].value)
    parts = {
        "matmul": 0.6 * 0.04, "attention": 0.1 * 0.05, "elementwise": 0.1 * passes,
        "launch": 0.05 * DEFAULTS["gap"].value, "tp": 0.1 * 0.03, "dp": 0.05 * 0.03, "software": 0.05,
    }  # fmt: skip
    assert dict(band.parts) == pytest.approx(parts)
    assert band.relative == pytest.approx(math.sqrt(sum(part**2 for part in parts.values())))


@given(times=st.dictionaries(st.sampled_from(sorted(RESTS_ON)), st.floats(1e-9, 1e6), min_size=1))
def test_parts_make_up_the_whole_and_no_band_is_below_the_spread_of_software(times: dict[str, float]) -> None:
    spec = SPEC
    band, errors = band_of(spec, times), kind_errors(spec)
    assert band.relative == pytest.approx(math.hypot(*band.parts.values()))
    assert band.relative >= DEFAULTS["software"].value
    assert set(band.parts) == {*times, "software"}
    # independent errors add up to less than all of them going the same way, plus the software's
    assert band.relative <= max(errors[kind] for kind in times) + DEFAULTS["software"].value + 1e-12
    # the unit of time is anyone's
    assert band_of(spec, {kind: 1e6 * taken for kind, taken in times.items()}).relative == pytest.approx(band.relative)


@pytest.mark.parametrize(
    ("kind", "where", "item"),
    [
        ("matmul", "chip", "gemm"), ("matmul", "chip", "gemm.bf16.norm"), ("attention", "chip", "attention"),
        ("attention", "chip", "attention.flash-attention-2.launch"), ("elementwise", "stack", "elementwise_efficiency"),
        ("launch", "stack", "kernel_gap"), ("tp", "system", "library"), ("tp", "system", "scale_up.latency"),
        ("dp", "system", "network.latency"), ("pp", "system", "library.network_step"),
    ],
)  # fmt: skip
def test_an_unverified_constant_widens_what_rests_on_it(small: Make, kind: str, where: str, item: str) -> None:
    spec = fitted(small(), matmul=0.04, attention=0.05, elementwise=0.06, library=0.03)
    before = kind_errors(spec)

    def doubting(*items: str) -> TrainingExperiment:
        if where == "stack":
            return replace(spec, stack=replace(spec.stack, unverified=items))
        if where == "system":
            return replace(spec, system=replace(spec.system, unverified=items))
        return replace(spec, system=replace(spec.system, chip=replace(spec.system.chip, unverified=items)))

    once, twice = kind_errors(doubting(item)), kind_errors(doubting(item, item))
    step = DEFAULTS["unverified"].value
    assert once[kind] == pytest.approx(math.hypot(before[kind], step))
    assert twice[kind] == pytest.approx(math.hypot(before[kind], step * math.sqrt(2)))
    assert band_of(doubting(item), PATH).relative > band_of(spec, PATH).relative


def test_constants_of_another_kernel_or_of_links_that_are_not_used_do_not_matter(small: Make) -> None:
    spec = fitted(small(**ONE_NODE), matmul=0.04, attention=0.05, elementwise=0.06, library=0.03)
    chip = replace(spec.system.chip, unverified=("attention.flash-attention-2-paged", "power"))
    system = replace(spec.system, chip=chip, unverified=("network.latency", "library.network_step"))
    assert band_of(replace(spec, system=system), PATH) == band_of(spec, PATH)


def test_groups_beyond_a_node_and_systems_carried_over_count_as_not_fitted(small: Make) -> None:
    spec = fitted(small(), matmul=0.04, attention=0.05, elementwise=0.06, library=0.03)
    errors, unfitted = kind_errors(spec), DEFAULTS["unfitted"].value
    assert (errors["tp"], errors["dp"], errors["pp"]) == pytest.approx((0.03, unfitted, unfitted))
    library = replace(spec.system.library, residual=None)
    assert kind_errors(replace(spec, system=replace(spec.system, library=library)))["tp"] == pytest.approx(unfitted)


@pytest.mark.parametrize("name", ["chip", "system", "stack"])
def test_no_unverified_constant_of_a_shipped_file_is_overlooked(name: str) -> None:
    named = {constant for kind in RESTS_ON.values() for constant in kind} | {*NETWORK, *NO_TIME}
    prefixes = [constant.removesuffix(".{attention}") for constant in named]
    for file in list_names(name):
        for item in load(name, file).unverified:
            full = f"{name}.{item}"
            met = any(f"{full}.".startswith(f"{one}.") or f"{one}.".startswith(f"{full}.") for one in prefixes)
            assert met, f"{file}: nothing says what rests on {full}"


def use(**shape: float) -> Use:
    return Use("matmul", "product", "mlp", shape, {"m": (4.0, 1024.0), "k": (64.0, 512.0)}, 1.0, 0.05)


def test_the_error_doubles_with_every_factor_of_four_beyond_the_range() -> None:
    assert use(m=4, k=512).error == 0.05
    assert not list(use(m=1024, k=64).outside())
    assert use(m=4096, k=64).error == pytest.approx(0.10)
    assert use(m=16384, k=64).error == pytest.approx(0.20)
    assert use(m=1, k=64).error == pytest.approx(0.10)
    # the quantity that is furthest out decides
    assert use(m=2048, k=4).error == pytest.approx(0.20)
    assert dict(use(m=2048, k=4).outside()) == {"m": 2.0, "k": 16.0}
    # what the table does not vary is not judged
    assert use(m=4, k=64, n=1e9).error == 0.05


@given(m=st.floats(1, 1e9), further=st.floats(1, 1e3))
def test_further_out_is_never_narrower(m: float, further: float) -> None:
    assert use(m=max(m, 4) * further, k=64).error >= use(m=max(m, 4), k=64).error


def test_a_shape_beyond_the_range_is_named_and_widens_the_band(small: Make) -> None:
    spec = small(batch={"micro": 8, "global": 128})
    chip = spec.system.chip
    inside = replace(chip.gemm["bf16"], range={"m": (1, 1 << 20), "n": (1, 1 << 20), "k": (1, 1 << 20)})
    outside = replace(inside, range={"m": (1, 4096), "n": (1, 1 << 20), "k": (1, 1 << 20)})
    specs = [
        replace(spec, system=replace(spec.system, chip=replace(chip, gemm={"bf16": constants})))
        for constants in (inside, outside)
    ]
    within, beyond = ([line for line in range_warnings(one) if "multiplication" in line] for one in specs)
    assert within == []
    # 8 sequences of 2,048 tokens; rows of weight gradients are 4,096 at most
    assert beyond == [
        "matrix multiplication in bf16 on h100-sxm-80gb: m = 16,384 (attention) is outside the calibrated 1 to 4,096, "
        "by a factor of 4"
    ]
    narrow, wide = (band_of(one, PATH) for one in specs)
    assert narrow.parts["matmul"] < wide.parts["matmul"] < 2 * narrow.parts["matmul"]
    assert {k: v for k, v in narrow.parts.items() if k != "matmul"} == {
        k: v for k, v in wide.parts.items() if k != "matmul"
    }


def test_a_breakdown_gives_about_the_band_of_the_critical_path(small: Make) -> None:
    # with one stage and nothing overlapped the two tell the same story
    spec = small(chips=4, layout={"pp": 1, "dp": 1, "vpp": 1}, recompute=["full"])
    result = simulate(spec)
    assert dict(result.error_band.parts) == pytest.approx(dict(band_of(spec, result.critical_path).parts))
    assert band_of(spec, result.breakdown).relative == pytest.approx(result.error_band.relative, rel=0.02)


def test_recomputation_counts_the_kernels_that_run_again(small: Make) -> None:
    plain, full = uses(small()), uses(small(recompute=["full"]))
    forward = {"norm", "attention", "add, norm", "mlp", "add"}
    for a, b in zip(plain, full, strict=True):
        assert b.weight == a.weight * (2 if a.operation in forward and a.part != "elementwise" else 1)
    again = {one.operation for one in uses(small(recompute=["attention"]))} - {one.operation for one in plain}
    assert again == {"recompute attention"}


@pytest.mark.parametrize("parts", [{}, {"matmul": 0.0}, {"bubbles": 1.0}])
def test_parts_that_are_none_are_refused(small: Make, parts: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="error band"):
        band_of(small(), parts)


@pytest.mark.parametrize("band", [(0.0, {}), (-0.1, {"a": 0.1}), (0.2, {"a": 0.1}), (math.nan, {"a": 0.1})])
def test_a_band_that_is_none_is_refused(band: tuple[float, dict[str, float]]) -> None:
    with pytest.raises(SpecError, match="error band"):
        ErrorBand(relative=band[0], parts=band[1])


def test_it_is_pure_and_cheap(small: Make) -> None:
    spec = small()
    first = band_of(spec, PATH)
    taken = []
    for _ in range(20):
        begun = time.process_time()
        assert band_of(spec, PATH) == first
        taken.append(time.process_time() - begun)
    assert min(taken) < 1e-2


def test_every_default_has_a_reason() -> None:
    assert all(default.value > 0 and len(default.reason) > 40 for default in DEFAULTS.values())
