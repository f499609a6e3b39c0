"""Batches of nets on chips, and results of experiments: sums, bounds, what does not fit."""

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from scaleout.collective import collective_table
from scaleout.errors import PlanError, SpecError
from scaleout.evaluate.nets import all_to_all, best_batch, net_seconds, room
from scaleout.infer import run_net
from scaleout.inferred import NetResult
from scaleout.io.catalogue import load
from scaleout.io.experiments import net_experiment
from scaleout.network import machine
from scaleout.specs import NetExperiment

known = cache(load)


def small(**changes: Any) -> NetExperiment:
    """A small experiment; nets are named."""
    system, engine = known("system", "dgx-h100"), known("engine", "tensorrt-10")
    spec = NetExperiment(system=system, net=known("net", "resnet-50"), engine=engine, batch=64)
    if isinstance(changes.get("net"), str):
        changes["net"] = known("net", changes["net"])
    return replace(spec, **changes)


@pytest.mark.parametrize("name", ["resnet-50-h200", "dlrm-v2-sharded", "qwen2.5-vl-7b-h100"])
def test_a_shipped_experiment_runs_and_its_parts_sum_up(name: str) -> None:
    spec = net_experiment(name)
    result = run_net(spec)
    assert sum(row.seconds for row in result.breakdown) == pytest.approx(result.device)
    assert sum(result.bound.values()) == pytest.approx(1.0)
    assert 0.0 < result.flops_share < 1.0
    assert result.device <= result.latency
    assert min(result.memory.values()) >= 0.0
    assert NetResult.from_dict(json.loads(result.to_json())) == result
    if spec.published is not None and spec.published.samples_per_second is not None:
        assert result.error == pytest.approx(result.samples_per_second / spec.published.samples_per_second - 1.0)
        # of what was changed nobody measured anything
        assert run_net(replace(spec, settings=("chips=8",))).error is None


def test_copies_on_more_chips_do_as_much_more() -> None:
    one, eight = run_net(small(chips=1)), run_net(small(chips=8))
    assert eight.samples_per_second == pytest.approx(8 * one.samples_per_second)
    assert eight.latency == one.latency


def test_streams_wait_for_one_query_at_a_time() -> None:
    single = run_net(small(scenario="single-stream", batch=None))
    eight = run_net(small(scenario="multi-stream", batch=None))
    assert single.samples_per_second == pytest.approx(1.0 / single.latency)
    assert (single.batch, eight.batch) == (1, 8)
    assert single.latency < eight.latency < 8 * single.latency


def test_the_best_batch_is_not_beaten_and_fits() -> None:
    net, chip, engine = known("net", "vit-b-16"), known("chip", "l40s"), known("engine", "tensorrt-10")

    def rate(batch: int) -> float:
        return batch / net_seconds(net, chip, engine, "fp16", batch).period

    best = best_batch(
        lambda batch: net_seconds(net, chip, engine, "fp16", batch),
        lambda batch: room(net, chip, engine, "fp16", batch).fits,
    )
    assert room(net, chip, engine, "fp16", best).fits
    for batch in (1, best // 2, best * 2):
        assert rate(batch) < rate(best) * 1.01


def test_a_reply_is_its_prompt_and_its_tokens() -> None:
    whole = run_net(small(net="whisper-large-v3", batch=1))
    net = known("net", "whisper-large-v3")
    shorter = run_net(small(net=replace(net, whisper=replace(net.whisper, reply=1)), batch=1))
    assert whole.latency == pytest.approx(whole.first + 99 * whole.token)
    assert shorter.latency == pytest.approx(shorter.first) == pytest.approx(whole.first)
    assert shorter.token == 0.0
    # no token is faster than its weights come from HBM
    weights = sum(row.bytes for row in whole.breakdown if row.stage == "token") / 99
    assert whole.token >= 0.9 * weights / 3.35e12


def test_tables_that_are_dealt_out_take_an_eighth_and_exchanges() -> None:
    settings = {"net": "dlrm-v2", "tables": "int8", "chips": 8, "batch": 32}
    copies, dealt = run_net(small(**settings)), run_net(small(**settings, placement="sharded"))
    assert copies.experiment["placement"] == "copies"
    assert dealt.memory["tables"] == pytest.approx(copies.memory["tables"] / 8, rel=0.6)
    exchanged = [row for row in dealt.breakdown if row.kind == "exchange"]
    assert [row.name for row in exchanged] == ["row numbers to the tables", "sums to the items"]
    assert dealt.samples_per_second < copies.samples_per_second
    # fp32 tables do not fit on a chip, and are dealt out without being asked to
    assert run_net(small(**{**settings, "tables": "fp32"})).experiment["placement"] == "sharded"


def test_an_exchange_is_the_collective_of_its_system() -> None:
    system = known("system", "dgx-h100")
    table = collective_table("all_to_all", machine(system, 8), [64e6])
    assert all_to_all(system, 8)(64e6) == pytest.approx(table.rows[0].time, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"net": "dlrm-v2", "tables": "fp32"}, PlanError, "placement=sharded"),
        ({"net": "dlrm-v2", "placement": "sharded"}, PlanError, "there is one"),
        ({"batch": 10**7}, PlanError, "do not fit in HBM: weights"),
        ({"placement": "sharded"}, SpecError, "no tables"),
        ({"scenario": "single-stream"}, SpecError, "leave out batch"),
    ],
)
def test_what_cannot_be_is_said(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        run_net(small(**changes))


def test_a_faster_memory_and_a_faster_core_never_slow_a_net_down() -> None:
    net, engine, chip = known("net", "resnet-50"), known("engine", "tensorrt-10"), known("chip", "h100-sxm-80gb")
    base = net_seconds(net, chip, engine, "int8", 128).once
    wider = replace(chip, hbm_bandwidth=1.5 * chip.hbm_bandwidth)
    quicker = replace(
        chip, peak_flops={name: 1.5 * rate for name, rate in chip.peak_flops.items()},
        sustained={name: 1.5 * rate for name, rate in chip.sustained.items()},
    )  # fmt: skip
    assert net_seconds(net, wider, engine, "int8", 128).once < base
    assert net_seconds(net, quicker, engine, "int8", 128).once < base
