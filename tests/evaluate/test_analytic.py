"""The analytic evaluator against the event evaluator: never above it, and equal where nothing contends."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import pytest
from random_layouts import random_experiments

from scaleout.errors import ScaleoutError, SpecError
from scaleout.evaluate.analytic import Analysis, analyse
from scaleout.evaluate.event import evaluate
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment
from scaleout.training.memory import stage_peaks
from scaleout.training.step import build

Make = Callable[..., TrainingExperiment]
LAYOUTS = 500


class Pair(NamedTuple):
    spec: TrainingExperiment
    found: Analysis
    end: int
    peaks: list[dict[str, float]]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """The same layouts by both evaluators."""
    made = []
    for spec in random_experiments(seed=1):
        try:
            job = build(spec)
            end = evaluate(spec, job=job).timeline.end
        except ScaleoutError:
            # no constants for the stack's attention kernel, or no tree of so many nodes
            continue
        made.append(Pair(spec, analyse(spec, compiled=False), end, stage_peaks(job)))
        if len(made) == LAYOUTS:
            break
    return made


def test_no_simulated_step_is_shorter_not_by_a_tick(pairs: list[Pair]) -> None:
    above = [pair.spec.layout for pair in pairs if pair.found.end > pair.end]
    assert not above
    assert len({pair.spec.stack.name for pair in pairs}) >= 4
    assert len({pair.spec.system.name for pair in pairs}) >= 6
    assert {pair.spec.layout.vpp for pair in pairs} == {1, 2, 3}


def test_the_gap_is_small(pairs: list[Pair]) -> None:
    gaps = np.array([1 - pair.found.end / pair.end for pair in pairs])
    print(f"gap: median {np.median(gaps):.2%}, mean {gaps.mean():.2%}, 90 % below {np.quantile(gaps, 0.9):.1%}")
    assert np.median(gaps) <= 0.05
    assert np.quantile(gaps, 0.75) <= 0.1


def test_it_is_equal_to_the_tick_where_no_two_transfers_share_a_link(pairs: list[Pair]) -> None:
    lone = [pair for pair in pairs if pair.spec.layout.pp == 1 and 1 in (pair.spec.layout.tp, pair.spec.layout.dp)]
    assert len(lone) >= 10
    assert [pair.spec.layout for pair in lone if pair.found.end != pair.end] == []


def test_the_parts_sum_exactly_to_the_step(pairs: list[Pair]) -> None:
    for pair in pairs:
        assert sum(pair.found.parts.values()) == pair.found.end
        assert min(pair.found.parts.values()) >= 0


def test_peak_memory_is_that_of_the_programs(pairs: list[Pair]) -> None:
    for pair in pairs:
        assert len(pair.found.peaks) == len(pair.peaks)
        for mine, theirs in zip(pair.found.peaks, pair.peaks, strict=True):
            assert mine == pytest.approx(theirs, abs=1.0), pair.spec.layout


def test_plain_equals_compiled_to_the_bit(pairs: list[Pair]) -> None:
    for pair in pairs[::10]:
        assert analyse(pair.spec) == pair.found


def faster(spec: TrainingExperiment, bandwidth: float, latency: float) -> TrainingExperiment:
    """All links and the library's steps."""
    system = spec.system
    up, net, library = system.scale_up, system.network, system.library
    protocols = {
        name: replace(
            rules,
            launch=rules.launch * latency,
            scale_up_step=rules.scale_up_step * latency,
            network_step=rules.network_step * latency,
        )
        for name, rules in library.protocols.items()
    }
    changed = replace(
        system,
        scale_up=replace(up, bandwidth=up.bandwidth * bandwidth, latency=up.latency * latency),
        network=replace(
            net,
            bandwidth=net.bandwidth * bandwidth,
            latency=net.latency * latency,
            hop_latency=net.hop_latency * latency,
        ),
        library=replace(library, protocols=protocols),
    )
    return replace(spec, system=changed)


def test_more_bandwidth_and_less_latency_never_cost_time(pairs: list[Pair]) -> None:
    for pair in pairs[:60]:
        assert analyse(faster(pair.spec, 2.0, 1.0), compiled=False).end <= pair.found.end
        assert analyse(faster(pair.spec, 1.0, 0.5), compiled=False).end <= pair.found.end
        assert analyse(faster(pair.spec, 1.0, 2.0), compiled=False).end >= pair.found.end


@pytest.mark.parametrize("part", ["chips", "ports", "scale_up"])
def test_slow_parts_are_refused_in_words(small: Make, part: str) -> None:
    with pytest.raises(SpecError, match=f"slow.{part}: the analytic evaluator.*'event'"):
        simulate(small(slow={part: {3: 0.5}}), evaluator="analytic")


def test_faults_are_refused_in_words(small: Make) -> None:
    spec = small(faults=[{"at": "1 s", "port": 3, "share": 0.5}])
    with pytest.raises(SpecError, match=r"faults: the analytic evaluator.*'event'"):
        simulate(spec, evaluator="analytic")


def test_the_facade_gives_a_whole_result(small: Make) -> None:
    spec = small()
    event, mine = simulate(spec), simulate(spec, evaluator="analytic")
    assert mine.evaluator == "analytic"
    assert mine.step_time_ps <= event.step_time_ps
    assert mine.step_time == pytest.approx(event.step_time, rel=0.05)
    assert sum(mine.breakdown_ps.values()) == mine.step_time_ps
    assert list(mine.breakdown) == list(event.breakdown)
    assert mine.memory == event.memory
    assert dict(mine.critical_path) == {}
    assert mine.bound_by == max(mine.breakdown, key=lambda name: mine.breakdown[name])
    assert mine.from_json(mine.to_json()) == mine
    for changes, words in (({"evaluator": "analytik"}, "analytic"), ({"evaluator": "analytic", "fold": False}, "fold")):
        with pytest.raises(SpecError, match=words):
            simulate(spec, **changes)  # type: ignore[arg-type]


def test_one_analytic_run_imports_no_numba() -> None:
    code = (
        "import sys, scaleout; "
        "scaleout.simulate(scaleout.experiment('llama-3.1-8b-1k'), evaluator='analytic'); "
        "print([m for m in ('numba', 'scipy', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_layouts_are_the_same_every_time() -> None:
    first, second = (list(islice(random_experiments(seed=5), 20)) for _ in range(2))
    assert first == second
