"""Folded equals unfolded, integer for integer, with faults in the middle of a step."""

from collections.abc import Callable
from typing import Any

import pytest
from machines import same

from scaleout.errors import SpecError, TopologyError, WorkloadError
from scaleout.evaluate.event import evaluate
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]

TINY: dict[str, Any] = {
    "model": "gpt3-125m", "chips": 32, "layout": {"tp": 2, "pp": 2, "dp": 8, "vpp": 1},
    "batch": {"global": 32, "sequence": 256},
}  # fmt: skip
CASES: dict[str, list[dict[str, Any]]] = {
    "port at half its rate": [{"port": 5, "share": 0.5}],
    "port at half its rate, from the beginning": [{"at": "0 s", "port": 5, "share": 0.5}],
    "dead port, rerouted": [{"port": 5, "share": 0}],
    "dead port, rerouted from the beginning": [{"at": "0 s", "port": 5, "share": 0}],
    "dead port for a while, stalled": [{"until": "5 ms", "port": 5, "share": 0, "then": "stall"}],
    "dead port for a while, rerouted": [{"until": "5 ms", "port": 5, "share": 0}],
    "one of 32 spines dead": [{"vertex": "spines of pod 0", "share": 0.96875}],
    "most spines dead": [{"vertex": "spines of pod 0", "share": 0.02}],
    "dead leaf, rerouted": [{"vertex": "leaf 3", "share": 0}],
    "dead scale-up link, rerouted": [{"scale_up": 9, "share": 0}],
    "dead switch for a while, stalled": [{"until": "5 ms", "vertex": "switch 1", "share": 0, "then": "stall"}],
    "one direction of a link": [{"link": "chip 5 -> leaf 5", "share": 0}],
    "one after another": [
        {"port": 5, "share": 0.5}, {"at": "4 ms", "port": 9, "share": 0}, {"at": "5 ms", "scale_up": 3, "share": 0.1},
    ],
}  # fmt: skip


def struck(small: Make, faults: list[dict[str, Any]], **changes: Any) -> TrainingExperiment:
    """The small experiment, its faults from 3 ms on unless they say otherwise."""
    return small(**{**TINY, **changes}, faults=[{"at": "3 ms", **fault} for fault in faults])


@pytest.mark.parametrize("name", CASES)
def test_folded_equals_unfolded_integer_for_integer(small: Make, name: str) -> None:
    spec = struck(small, CASES[name])
    folded, unfolded = evaluate(spec), evaluate(spec, fold=False)
    assert folded.wiring.classes < unfolded.wiring.classes == spec.chips
    assert same(folded, unfolded)
    assert same(folded, evaluate(spec, runs=False))


def test_what_a_fault_does_to_the_step(small: Make) -> None:
    ends = {
        name: evaluate(struck(small, CASES[name])).timeline.end for name in CASES if "port" in name or "one of" in name
    }
    whole = evaluate(struck(small, [])).timeline.end
    assert 5e9 < whole < 20e9
    assert ends["one of 32 spines dead"] == whole
    assert whole < ends["port at half its rate"] < ends["port at half its rate, from the beginning"]
    assert whole < ends["dead port for a while, stalled"]
    assert whole < ends["dead port, rerouted"]
    # a neighbour's port carries double from the beginning on
    assert ends["dead port, rerouted"] < ends["dead port, rerouted from the beginning"]


def test_a_fault_after_the_step_or_of_the_whole_rate_changes_nothing(small: Make) -> None:
    whole = evaluate(struck(small, []))
    for fault in ({"at": "9 s", "port": 5, "share": 0}, {"port": 5, "share": 1}):
        assert same(whole, evaluate(struck(small, [fault])))


def test_a_shared_port_that_dies(small: Make) -> None:
    spec = struck(small, CASES["dead port, rerouted"], system="vtrain-a100-4xhdr200")
    assert same(evaluate(spec), evaluate(spec, fold=False))


def test_a_fault_splits_off_only_what_it_touches(small: Make) -> None:
    # the two stages, each whole, or with the ranks that the port's groups are of split off
    assert evaluate(struck(small, [])).wiring.classes == 2
    assert 2 < evaluate(struck(small, CASES["port at half its rate"])).wiring.classes < 16


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ({"vertex": "leef 3", "share": 0}, SpecError, r"faults\[0\].vertex: .* 'leef 3'; did you mean 'leaf 0'"),
        ({"vertex": "leaf 99", "share": 0}, SpecError, "accepted: leaf 0 to leaf 7"),
        ({"vertex": "leaf", "share": 0}, SpecError, "no vertex 'leaf'"),
        ({"link": "chip 3 -> leaf 5", "share": 0}, SpecError, "no link .*; chip 3 leads to switch 0, leaf 3"),
        ({"link": "chip 3", "share": 0}, SpecError, "is no link; expected two vertices"),
        ({"vertex": "chip 5", "share": 0}, TopologyError, r"faults, from 0.003 s on: .*no path .*then: stall"),
        ({"port": 5, "share": 0, "then": "stall"}, WorkloadError, "stalled for ever .*\n.* dead: .*chip 5"),
        ({"vertex": "switch 1", "share": 0, "then": "stall"}, WorkloadError, "stalled for ever"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(
    small: Make, fault: dict[str, Any], error: type[Exception], says: str
) -> None:
    for fold in (True, False):
        with pytest.raises(error, match=says):
            evaluate(struck(small, [fault]), fold=fold)
