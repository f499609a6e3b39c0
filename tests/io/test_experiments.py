"""Experiments of serving, and overrides that go into lists."""

from pathlib import Path
from typing import Any

import pytest

from scaleout.errors import SpecError
from scaleout.io.experiments import any_experiment, experiment, find_trace, net_experiment, serving_experiment

SERVING: dict[str, Any] = {
    "kind": "serving",
    "system": "dgx-h100",
    "model": "llama-3.1-8b",
    "engine": "vllm-0.19",
    "requests": {
        "input": {"mean": 100},
        "output": {"mean": 10},
        "arrivals": {"process": "poisson", "rate": 2},
    },
}
DRAFT = "speculation={tokens: 2, acceptance: 0.5, draft: llama-3.2-1b}"
POOLS = [{"role": "prefill", "tp": 2}, {"role": "decode", "tp": 4}]


@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        (("pools.0.tp=8",), ("pools", 0, "tp"), 8),
        (("pools.1.replicas=3",), ("pools", 1, "replicas"), 3),
        (("pools.1.chip=h200-sxm-141gb",), ("pools", 1, "chip", "name"), "h200-sxm-141gb"),
        (
            ("pools.0.chip=h200-sxm-141gb", "pools.0.chip.hbm_bandwidth=9 TB/s"),
            ("pools", 0, "chip", "hbm_bandwidth"),
            9e12,
        ),
        (("pools.1={role: decode, tp: 1}",), ("pools", 1, "tp"), 1),
        (("requests.arrivals.rate=4",), ("requests", "arrivals", "rate"), 4.0),
        (("requests.input.mean=7",), ("requests", "input", "mean"), 7.0),
        (("failures.0.replica=1", "failures.0.at=3 s"), ("failures", 0, "at"), 3.0),
        ((DRAFT, "speculation.draft.layers=4"), ("speculation", "draft", "layers"), 4),
        (("system.chip.hbm_bandwidth=5 TB/s",), ("system", "chip", "hbm_bandwidth"), 5e12),
    ],
)
def test_settings_reach_into_lists(settings: tuple[str, ...], path: tuple[Any, ...], value: Any) -> None:
    spec: Any = serving_experiment({**SERVING, "pools": POOLS}, settings)
    for step in path:
        spec = spec[step] if isinstance(step, int) else getattr(spec, step)
    assert spec == value


def test_place_0_of_pools_that_are_not_given_is_the_one_pool() -> None:
    assert serving_experiment(SERVING, ("pools.0.tp=8",)).pools[0].tp == 8


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("pools.2.tp=8", "--set pools.2.tp: '2' is no place in the list pools; expected a number, of 0 to 1"),
        ("pools.-1.tp=8", "'-1' is no place"),
        ("pools.x.tp=8", "'x' is no place"),
        ("pools.1e0.tp=8", "'1e0' is no place"),
        ("pools.²=8", "'²' is no place"),
        ("pools.tp=8", "'tp' is no place"),
        ("pools.0.tp.x=8", "pools.0.tp is a value"),
        ("pools.0.tpp=8", "pools.0.tpp: unknown key; did you mean 'tp' or 'pp'?"),
        ("engine.block.0=8", "engine.block is a value"),
    ],
)
def test_places_that_are_not_there_are_refused(setting: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        serving_experiment({**SERVING, "pools": POOLS}, (setting,))
    assert says in str(caught.value)


def test_the_given_mapping_stays_as_it_was() -> None:
    serving_experiment({**SERVING, "pools": POOLS}, ("pools.0.tp=8",))
    assert POOLS[0] == {"role": "prefill", "tp": 2}


def test_lists_of_training_are_reached_too() -> None:
    document = {
        "system": "dgx-h100",
        "chips": 16,
        "model": "llama-3.1-8b",
        "layout": {"tp": 8, "dp": 2},
        "batch": {"global": 16, "sequence": 4096},
        "others": [{"chip": "a100-sxm-80gb", "first": 8, "count": 8}],
    }
    spec = experiment(document, ("others.0.chip.hbm_bandwidth=1 TB/s",))
    assert spec.others[0].chip.hbm_bandwidth == 1e12


def test_either_kind_is_told_by_its_key() -> None:
    assert any_experiment(SERVING).kind == "serving"
    with pytest.raises(SpecError, match="kind: 'serving' is not accepted; expected 'training'"):
        experiment(SERVING)


def test_a_trace_is_found_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("x")
    assert find_trace("some.csv", tmp_path / "x.yaml") == tmp_path / "some.csv"
    with pytest.raises(SpecError, match=r"requests\.trace: 'some.csv': no such file"):
        find_trace("some.csv")


def test_a_name_of_another_kind_is_told_as_such() -> None:
    with pytest.raises(SpecError, match="driving-stack: is of kind stream, and only experiments of kind training are"):
        experiment("driving-stack")
    with pytest.raises(SpecError, match="kind: 'strom' is not accepted; expected training or serving or inference or"):
        any_experiment({"kind": "strom"})


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("tables=int8", "tables: resnet-50 has none"),
        ("placement=sharded", "placement: resnet-50 has no tables"),
        ("streams=3", "streams: goes with scenario multi-stream"),
    ],
)
def test_what_a_net_has_no_use_for_is_refused(setting: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        net_experiment("resnet-50-h200", (setting,))
