"""Training steps on machines of every kind: folded and unfolded alike, and bounded by the analytic evaluator."""

from dataclasses import replace
from typing import Any

import pytest
from random_layouts import random_experiments

from scaleout.errors import ScaleoutError, SpecError
from scaleout.evaluate.analytic import analyse
from scaleout.evaluate.event import evaluate
from scaleout.io.catalogue import load
from scaleout.io.experiments import experiment
from scaleout.simulate import simulate
from scaleout.space import design_space
from scaleout.specs import Network, TrainingExperiment

MACHINES: list[tuple[str, int, dict[str, int]]] = [
    ("tpu-v5e", 16, {"tp": 4, "pp": 2, "dp": 2}),  # an open grid
    ("tpu-v4", 64, {"tp": 4, "pp": 2, "dp": 8}),  # a closed one
    ("tpu-v5e", 512, {"tp": 4, "dp": 128}),  # two slices
    ("mi300x-8", 8, {"tp": 4, "dp": 2}),
    ("mi300x-8", 32, {"tp": 2, "pp": 2, "dp": 8}),
    ("l40s-8", 8, {"tp": 2, "pp": 2, "dp": 2}),
    ("a100-pcie-pairs", 16, {"tp": 2, "pp": 2, "dp": 4}),
    ("meta-roce-24k", 64, {"tp": 4, "pp": 2, "dp": 8}),
    ("trn1", 32, {"tp": 4, "pp": 2, "dp": 4}),
]


def step(name: str, chips: int, layout: dict[str, int], **changes: Any) -> TrainingExperiment:
    """GPT-3 125M on any system, with H100 for its chips: what is looked at are the links."""
    document = {
        "system": name,
        "chips": chips,
        "model": "gpt3-125m",
        "layout": {"tp": 1, "pp": 1, "dp": 1, "zero": 1, **layout},
        "batch": {"global": max(16, layout.get("dp", 1)), "sequence": 512},
        **changes,
    }
    return experiment(document, ("system.chip=h100-sxm-80gb",))


@pytest.mark.parametrize(("name", "chips", "layout"), MACHINES)
def test_folding_changes_nothing_and_the_bound_holds(name: str, chips: int, layout: dict[str, int]) -> None:
    spec = step(name, chips, layout)
    end = evaluate(spec).timeline.end
    assert analyse(spec, compiled=False).end <= end
    if chips <= 64:
        assert evaluate(spec, fold=False).timeline.end == end


def test_slow_links_are_felt() -> None:
    spec = step("mi300x-8", 8, {"tp": 4, "dp": 2})
    slow = step("mi300x-8", 8, {"tp": 4, "dp": 2}, slow={"scale_up": {5: 0.5}})
    assert evaluate(slow).timeline.end > evaluate(spec).timeline.end
    assert evaluate(slow).timeline.end == evaluate(slow, fold=False).timeline.end


def test_rails_alone_take_as_long_as_joined_ones_where_no_flow_changes_rails() -> None:
    spec = step("dgx-h100", 32, {"tp": 8, "dp": 4}, model="llama-3.2-1b")
    net = spec.system.network
    rails = Network(
        kind="rail-only", bandwidth=net.bandwidth, efficiency=net.efficiency, latency=net.latency, radix=net.radix,
        hop_latency=net.hop_latency,
    )  # fmt: skip
    alone = replace(spec, system=replace(spec.system, network=rails))
    assert evaluate(alone).timeline.end == evaluate(spec).timeline.end == evaluate(alone, fold=False).timeline.end


def test_the_bound_holds_for_random_layouts_on_all_other_kinds() -> None:
    seen, kinds = 0, set()
    for spec in random_experiments(seed=7, rails=False):
        if spec.chips > 32:
            continue
        try:
            end = evaluate(spec).timeline.end
        except ScaleoutError:
            # too many chips for what stands alone, or no grid of so many
            continue
        assert analyse(spec, compiled=False).end <= end, (spec.system.name, spec.layout)
        kinds.add(spec.system.scale_up.kind)
        seen += 1
        if seen == 15:
            break
    assert kinds >= {"mesh", "torus", "pairs"}


def test_a_design_space_needs_rails_and_says_what_does_not() -> None:
    with pytest.raises(SpecError, match=r"tpu-v5e: nodes of kind 'torus' .*'analyse_many', or evaluator 'event'"):
        design_space(step("tpu-v5e", 16, {"dp": 16}), tp=1, pp=1, dp=16)


@pytest.mark.parametrize("name", ["mi300x-8", "trn1"])
def test_a_chip_without_constants_says_so(name: str) -> None:
    spec, system = step(name, 8, {"dp": 8}), load("system", name)
    spec = replace(spec, system=replace(system, chip=replace(system.chip, gemm={}, attention={})))
    chip = spec.system.chip.name
    with pytest.raises(SpecError, match=rf"chip '{chip}' has no constants for .* --set stack\.attention=unfused"):
        simulate(spec)
    with pytest.raises(SpecError, match=f"chip '{chip}' has no .*'bf16'"):
        simulate(replace(spec, stack=replace(spec.stack, attention="unfused")))


def test_what_a_result_rests_on_names_the_network_or_none() -> None:
    words = {row.name: row.value for row in simulate(step("l40s-8", 4, {"dp": 4})).assumptions}
    assert words["l40s-8: links"].endswith("no network")
    words = {row.name: row.value for row in simulate(step("meta-roce-24k", 16, {"dp": 16})).assumptions}
    assert words["routing"].endswith("oversubscription 1, 7 above pods")
