"""A design gives the figures that data sheets print."""

from pathlib import Path
from typing import Any

import pytest

from scaleout.hardware.design import chip_fields, kernel_constants, link_bandwidth, peak_flops
from scaleout.io.catalogue import load, schema, validate
from scaleout.io.chips import chip
from scaleout.specs import Chip, Silicon

SILICON: Silicon = load("silicon", "default")


@pytest.mark.parametrize(
    ("die", "dtype", "flops"),
    [  # dense rates of the makers' data sheets [flop/s]
        ("GV100", "fp16", 125e12), ("GV100", "fp32", 15.7e12), ("GV100", "fp64", 7.8e12), ("GA100", "bf16", 312e12),
        ("GA100", "fp32", 19.5e12), ("GH100", "bf16", 989.4e12), ("GH100", "fp8", 1978.9e12),
        ("GB100", "bf16", 2250e12), ("GB100", "fp4", 9000e12), ("TPU v3", "bf16", 123e12),
        ("TPU v4", "bf16", 275e12), ("GC200", "fp16", 250e12), ("XCD", "bf16", 1307e12), ("AD104", "bf16", 121e12),
    ],
)  # fmt: skip
def test_rates_of_known_designs(die: str, dtype: str, flops: float) -> None:
    assert peak_flops(SILICON.dies[die].design)[dtype] == pytest.approx(flops, rel=0.03)


def test_a_design_says_the_same_as_its_fields() -> None:
    """A chip with a design equals the chip whose file gives what follows from it, but for the design."""
    design = SILICON.dies["GH100"].design
    fields: dict[str, Any] = {"name": "x", "source": "y", **chip_fields(design)}
    plain: Chip = validate("chip", fields, "here")
    made = chip("example-training-chip", ("like=", "name=x", "source=y"))
    assert plain.hbm_bytes == design.memory.stacks * design.memory.capacity
    assert plain.hbm_bandwidth == design.memory.stacks * design.memory.bandwidth
    assert plain.flops("bf16") == peak_flops(design)["bf16"]
    assert made.design is not None
    assert {name: getattr(made, name) for name in ("cores", "power", "process")} == {
        "cores": made.design.cores,
        "power": made.design.power,
        "process": made.design.process,
    }


def test_a_clock_scales_all_rates_and_no_memory() -> None:
    slow, fast = (chip("example-training-chip", (f"design.clock={clock} GHz",)) for clock in (1, 2))
    for dtype in slow.peak_flops:
        assert fast.flops(dtype) == pytest.approx(2 * slow.flops(dtype))
    assert fast.exponentials == pytest.approx(2 * (slow.exponentials or 0))
    assert fast.hbm_bandwidth == slow.hbm_bandwidth


def test_what_a_file_says_goes_before_what_follows_from_its_design() -> None:
    assert chip("example-training-chip", ("hbm_bandwidth=1 TB/s", "cores=10")).hbm_bandwidth == 1e12


def test_arrays_multiply_bf16_where_nothing_else_is_said() -> None:
    asic = chip("example-inference-asic", ("design.tensor.macs={}", "design.tensor.count=3"))
    assert asic.design is not None
    assert asic.flops("bf16") == 2.0 * asic.cores * asic.design.clock * 3 * 128 * 128


def test_a_design_says_all_that_a_schema_lets_out() -> None:
    required = {tuple(row["required"]) for row in schema("chip")["anyOf"]}
    assert ("design",) in required
    longest = max(required, key=len)
    assert set(longest) <= {*chip_fields(SILICON.dies["GH100"].design), "name", "source"}


def test_products_on_arrays_follow_from_the_design_and_on_tensor_cores_from_another_chip() -> None:
    asic, gpu = SILICON.dies["TPU v4"].design, SILICON.dies["GH100"].design
    made = kernel_constants(asic)
    assert not kernel_constants(gpu)
    assert made["bf16"].rows == made["bf16"].columns == 128
    assert made["bf16"].arrays == asic.cores * asic.tensor.count
    assert "fp8" not in made
    own = chip("example-inference-asic")
    assert {"bf16", "fp8", "sq"} <= set(own.gemm)
    # the design goes before the chip whose other constants are carried over
    assert own.design is not None
    assert own.gemm["bf16"] == kernel_constants(own.design)["bf16"]
    assert own.like


def test_links_count_together() -> None:
    assert link_bandwidth(SILICON.dies["GH100"].design) == 450e9
    assert link_bandwidth(SILICON.dies["AD102"].design) == 0.0


@pytest.mark.parametrize("name", ["example-training-chip", "example-inference-asic"])
def test_examples_say_that_they_are_made_up(name: str) -> None:
    one: Chip = load("chip", name)
    assert "made up" in one.source
    assert one.design is not None


def test_any_system_takes_a_design(tmp_path: Path) -> None:
    from scaleout.io.experiments import experiment
    from scaleout.simulate import simulate

    settings = (
        "chips=64", "layout.dp=32", "batch.global=64", "system.chip=example-training-chip",
        "system.scale_up.bandwidth=1.8 TB/s", "stack.attention=cudnn",
    )  # fmt: skip
    fast = simulate(experiment("llama-3.1-8b-1k", settings), evaluator="analytic")
    slow = simulate(experiment("llama-3.1-8b-1k", (*settings, "system.chip.design.clock=1 GHz")), evaluator="analytic")
    assert fast.step_time < slow.step_time < 2.0 * fast.step_time
