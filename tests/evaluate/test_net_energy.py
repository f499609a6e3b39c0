"""Energy and cost of a net's batches: parts that have to add up."""

import json

import pytest

from scaleout.evaluate.net_energy import batch_joules
from scaleout.evaluate.nets import net_seconds
from scaleout.hardware.power import energy_of, flop_energy
from scaleout.infer import run_net
from scaleout.inferred import NetResult
from scaleout.io.catalogue import load
from scaleout.io.experiments import net_experiment


def test_a_batch_draws_its_idle_power_its_flops_and_its_bytes() -> None:
    spec = net_experiment("resnet-50-h200", ("batch=64",))
    result, chip = run_net(spec), spec.system.chip
    energy, constants = result.energy, energy_of(spec.system.chip)
    assert energy is not None
    assert energy.span == pytest.approx(8 * 64 / result.samples_per_second)
    assert energy.parts["idle"] == pytest.approx(8 * constants.idle * energy.span)
    flop = 8 * sum(row.flop for row in result.breakdown)
    assert 0.9 * flop * flop_energy(chip, "int8") < energy.parts["compute"] <= flop * flop_energy(chip, "int8")
    nbytes = 8 * sum(row.bytes for row in result.breakdown)
    assert 0.0 < energy.parts["hbm"] <= nbytes * constants.hbm
    assert energy.chip_power <= chip.power
    assert energy.per_token == pytest.approx(energy.total / (8 * 64))
    assert energy.parts["links"] == 0.0


def test_a_net_whose_tables_are_dealt_out_sends_and_pays_for_it() -> None:
    result = run_net(net_experiment("dlrm-v2-sharded"))
    assert result.energy is not None
    assert result.energy.parts["links"] > 0.0


def test_fewer_bits_take_less_and_twice_the_batch_twice_as_much_but_for_the_power_limit() -> None:
    chip, engine, net = load("chip", "h200-sxm-141gb"), load("engine", "tensorrt-10"), load("net", "vit-b-16")
    joules = {
        (precision, batch): batch_joules(chip, precision, net_seconds(net, chip, engine, precision, batch))
        for precision, batch in (("fp16", 32), ("fp8", 32), ("fp16", 64))
    }
    assert sum(joules["fp8", 32]) < sum(joules["fp16", 32])
    assert 1.9 < joules["fp16", 64][0] / joules["fp16", 32][0] <= 2.0 + 1e-9


def test_a_result_with_cost_comes_back_from_json_and_another_facility_costs_otherwise() -> None:
    result = run_net(net_experiment("resnet-50-l40s-single"))
    assert NetResult.from_dict(json.loads(result.to_json())) == result
    dear = run_net(net_experiment("resnet-50-l40s-single", ("facility.electricity=1 USD/kWh",)))
    assert result.cost is not None
    assert dear.cost is not None
    assert dear.cost.per_million_tokens > result.cost.per_million_tokens > 0.0
