"""Scripts of figures that run sweeps: each has points, and what one shows obeys what it must."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from scaleout.report.sweep_pareto import pareto_table_of
from scaleout.sweep.points import points_of

PLOTS = Path(__file__).parents[2] / "plots"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"figure_{name}", PLOTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("cost_per_token", 30, 60),
        ("parallelism_heatmap", 80, 100),
        ("pareto_front", 100, 200),
        ("strong_weak_scaling", 20, 40),
        ("throughput_latency", 20, 40),
    ],
)
def test_every_script_has_as_many_points_as_a_minute_has_room_for(name: str, least: int, most: int) -> None:
    assert least <= len(points_of(script(name).SWEEP)) <= most


def test_machines_of_the_topology_comparison_differ_in_their_network_alone() -> None:
    module = script("topology_comparison")
    *switched, torus = module.systems()
    assert len({system["name"] for system in (*switched, torus)}) == len(switched) + 1
    assert len({str({**system, "name": "", "network": ""}) for system in switched}) == 1
    assert torus["scale_up"]["kind"] == "torus"


def test_nothing_that_an_h100_does_is_beyond_a_b200() -> None:
    module = script("pareto_front")
    results = module.measure()
    fronts = {one.label: one for one in pareto_table_of(results, x="user_tokens", y="chip_tokens").series}
    better = list(zip(fronts["dgx-b200"].x, fronts["dgx-b200"].y, strict=True))
    for x, y in zip(fronts["dgx-h100"].front_x, fronts["dgx-h100"].front_y, strict=True):
        assert any(x <= a and y <= b for a, b in better)
    assert module.draw(results).axes[0].get_xlabel() == "speed of a user [token/s]"
