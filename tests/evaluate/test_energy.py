"""Energy of steps and of runs: sums, bounds, and what it must not depend on."""

from dataclasses import replace
from typing import Any

import pytest

from scaleout.errors import SpecError
from scaleout.evaluate.energy import step_energy
from scaleout.evaluate.plant import node_draw
from scaleout.footprint import Energy
from scaleout.io.catalogue import load
from scaleout.io.experiments import experiment, serving_experiment
from scaleout.network.inventory import inventory
from scaleout.result import Result
from scaleout.serve import serve_log
from scaleout.simulate import simulate
from scaleout.specs import ServingExperiment, TrainingExperiment

FACILITY = load("facility", "default")
MODEL = {
    "name": "small", "layers": 6, "hidden": 2048, "heads": 16, "kv_heads": 8, "head_size": 128, "ffn": 8192,
    "vocabulary": 32000, "gated": True, "norm": "rms", "bias": False, "positions": "rope", "tied_embeddings": False,
    "max_sequence": 4096, "source": "made up",
}  # fmt: skip


def made(*settings: str, **changes: Any) -> TrainingExperiment:
    base = {
        "kind": "training", "system": "hgx-h200", "chips": 16, "model": MODEL,
        "layout": {"pp": 2, "dp": 8, "zero": 1}, "batch": {"global": 32, "micro": 1, "sequence": 1024},
        "precision": "bf16", "stack": "megatron-lm",
    }  # fmt: skip
    return experiment({**base, **changes}, settings)


def serving(*settings: str) -> ServingExperiment:
    return serving_experiment(
        {
            "kind": "serving", "system": "hgx-h200", "model": "llama-3.1-8b", "engine": "tensorrt-llm-1.0",
            "pools": [{"replicas": 2, "tp": 2}], "precision": "fp8",
            "requests": {"count": 40, "input": {"kind": "constant", "mean": 300}, "output": {"kind": "geometric",
                         "mean": 60, "high": 600}, "arrivals": {"process": "poisson", "rate": 40}},
        },
        settings,
    )  # fmt: skip


def of(result: Result) -> Energy:
    assert result.energy is not None
    return result.energy


@pytest.fixture(scope="module")
def result() -> Result:
    return simulate(made())


def check_sums(energy: Energy, chips: int, per_node: int) -> None:
    parts = energy.parts
    assert all(joules >= 0.0 for joules in parts.values())
    assert energy.total == sum(parts.values())
    assert energy.power * energy.span == pytest.approx(energy.total)
    assert energy.per_token * energy.tokens == pytest.approx(energy.total)
    of_chips = sum(parts[name] for name in ("idle", "compute", "vector", "hbm", "links"))
    assert energy.chip_power * chips * energy.span == pytest.approx(of_chips)
    assert energy.node_power * chips / per_node * energy.span == pytest.approx(of_chips + parts["nodes"])
    rest = energy.total - parts["cooling"]
    assert parts["cooling"] == pytest.approx((FACILITY.pue - 1.0) * rest)


def test_a_step_s_energy_is_the_sum_of_its_parts(result: Result) -> None:
    energy = of(result)
    check_sums(energy, 16, 8)
    assert energy.span == result.step_time
    assert energy.tokens == 32 * 1024
    assert 148.0 < energy.chip_power < 700.0
    assert set(energy.parts) == {
        "idle", "compute", "vector", "hbm", "links", "nodes", "switches", "optics", "cooling"
    }  # fmt: skip


def test_power_over_time_has_the_mean_of_the_step_and_stays_below_the_limit(result: Result) -> None:
    energy = of(result)
    assert len(energy.over_time) == 100
    assert sum(energy.over_time) / 100 == pytest.approx(2 * energy.node_power, rel=1e-6)
    links = energy.parts["links"] / energy.span
    assert max(energy.over_time) <= 2 * (8 * 700.0 + node_draw(made().system)[1]) + 2 * links
    assert min(energy.over_time) >= 2 * (8 * 148.0 + node_draw(made().system)[0]) - 1e-6


def test_evaluators_agree_on_all_that_does_not_take_time(result: Result) -> None:
    spec = made()
    event, analytic = of(result), of(simulate(spec, evaluator="analytic"))
    for name in ("compute", "vector", "hbm", "links"):
        assert analytic.parts[name] == pytest.approx(event.parts[name], rel=1e-9)
    assert analytic.parts["idle"] == pytest.approx(event.parts["idle"] * analytic.span / event.span)
    assert of(simulate(spec, fold=False)).parts["hbm"] == event.parts["hbm"]


def test_energy_grows_with_the_work_and_with_the_time() -> None:
    spec = made()
    twice = replace(spec, batch=replace(spec.batch, global_=64))
    one, two = step_energy(spec, 1.0), step_energy(twice, 2.0)
    # all but the update of the parameters is there twice
    assert two.parts["compute"] == pytest.approx(2 * one.parts["compute"], rel=1e-9)
    assert one.parts["hbm"] < two.parts["hbm"] < 2 * one.parts["hbm"]
    assert two.parts["idle"] == pytest.approx(2 * one.parts["idle"])
    assert step_energy(spec, 2.0).parts["compute"] == one.parts["compute"]


def test_a_lower_limit_takes_longer_at_less_power(result: Result) -> None:
    time, power = result.step_time, of(result).chip_power
    for limit in (600, 450, 300):
        slow = simulate(made(f"system.chip.power_limit={limit} W"), evaluator="analytic")
        assert slow.step_time >= time * (1.0 - 1e-9) or limit == 600
        assert of(slow).chip_power < min(power, limit)
        assert of(slow).capped >= 0.0
        time, power = slow.step_time, of(slow).chip_power
    assert of(slow).capped > 0.3
    with pytest.raises(SpecError, match="power_limit"):
        simulate(made("system.chip.power_limit=140 W"), evaluator="analytic")


def test_nodes_follow_their_file_and_the_network_its_graph() -> None:
    spec = made()
    base = of(simulate(spec, evaluator="analytic"))
    costs = load("system", "hgx-h200").node or None
    assert inventory(spec.system, 8).ends == 0
    net = inventory(spec.system, 16)
    # a port of a chip, and the port of its leaf; whatever is above leaves comes in pairs
    assert net.ends >= 32
    assert net.switch_ports >= 16
    rate = net.rate / FACILITY.port_rate
    ports = rate * net.switch_ports / FACILITY.switch_ports
    assert base.parts["optics"] == pytest.approx(FACILITY.optics_power * rate * net.ends * base.span)
    assert base.parts["switches"] == pytest.approx(FACILITY.switch_power * ports * base.span)
    if costs is None:
        assert node_draw(spec.system) == pytest.approx((0.32 * 5600, 0.5 * 5600))


def test_limits_of_places_and_batteries_are_told() -> None:
    tight = replace(FACILITY, rack_power=2000.0, hall_power=4000.0, battery=3.6e6 * 50)
    energy = step_energy(replace(made(), facility=tight), 1.0)
    rack, hall, battery = energy.warnings
    assert "a node draws" in rack
    assert "of the hall" in hall
    assert f"lasts {50e3 / energy.power:.3g} h" in battery
    assert not step_energy(made(), 1.0).warnings


def test_constants_by_rule_have_a_wider_error() -> None:
    spec = made()
    bare = replace(spec, system=replace(spec.system, chip=replace(spec.system.chip, energy=None)))
    assert step_energy(bare, 1.0).error > step_energy(spec, 1.0).error
    rows = {row.name: row for row in simulate(bare, evaluator="analytic").assumptions}
    assert not rows["h200-sxm-141gb: power"].verified


def test_serving_energy_is_the_sum_of_its_parts_however_steps_are_simulated() -> None:
    served, log = serve_log(serving(), sensitivity=False)
    energy = served.energy
    assert energy is not None
    check_sums(energy, 4, 8)
    assert energy.tokens == served.tokens["output"]
    assert 148.0 < energy.chip_power < 700.0
    assert sum(energy.over_time) / 100 == pytest.approx(energy.node_power / 2, rel=1e-6)
    assert max(energy.over_time) <= 4 * 700.0 + node_draw(serving().system)[1] / 2 + 1e-6
    single, one_by_one = serve_log(serving(), sensitivity=False, closed=False)
    assert single.energy == energy
    assert [tally.kinds for tally in one_by_one.tallies] == [tally.kinds for tally in log.tallies]
    # every token but the first of each reply comes of a decode step
    steps = [sums for tally in log.tallies for sums in tally.kinds.values()]
    assert sum(sums.decode_tokens for sums in steps) == served.tokens["output"] - 40
    assert sum(sums.prompt_tokens for sums in steps) == 40 * 300
    assert sum(sums.prompt_scores for sums in steps) == 40 * 300 * 301 // 2
    assert sum(sums.ticks for sums in steps) == sum(log.busy)


def test_a_limit_slows_prompts_and_saves_energy_in_serving() -> None:
    offline = "requests.arrivals={process: offline}"
    full, _ = serve_log(serving(offline), sensitivity=False)
    slow, _ = serve_log(serving(offline, "system.chip.power_limit=350 W"), sensitivity=False)
    assert full.energy is not None
    assert slow.energy is not None
    assert slow.duration >= full.duration
    assert slow.energy.chip_power <= 350.0
    assert slow.energy.chip_power < full.energy.chip_power
