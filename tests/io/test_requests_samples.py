"""The traces that come along: what they hold, and that anyone can make them again."""

from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from scaleout.io.experiments import find_trace
from scaleout.io.requests import Trace

ROOT = Path(__file__).parents[2]


def maker() -> Any:
    spec = spec_from_file_location("make_traces", ROOT / "benchmarks" / "make_traces.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["chat-1000.csv", "chat-multi-turn.jsonl"])
def test_making_them_again_gives_the_same_bytes(name: str) -> None:
    assert maker().TRACES[name]() == (ROOT / "workloads" / "traces" / name).read_bytes()


def test_every_shipped_trace_is_made_by_the_script() -> None:
    assert sorted(path.name for path in (ROOT / "workloads" / "traces").iterdir()) == sorted(maker().TRACES)


def test_the_chat_has_the_means_it_says() -> None:
    rows = list(Trace(find_trace("chat-1000")))
    times, inputs, outputs = np.array([(row.arrival, row.inputs, row.outputs) for row in rows]).T
    assert len(rows) == 1000
    assert inputs.mean() == pytest.approx(1000.0, rel=0.005)
    assert outputs.mean() == pytest.approx(220.0, rel=0.005)
    assert 999 / (times[-1] - times[0]) == pytest.approx(2.0, rel=1e-6)
    assert stats.kstest(np.diff(times), stats.expon(scale=0.5).cdf).pvalue > 0.05
    for lengths in (inputs, outputs):
        assert stats.kstest(stats.zscore(np.log(lengths)), stats.norm.cdf).pvalue > 0.05


def test_turns_of_a_conversation_begin_with_those_before() -> None:
    trace = Trace(find_trace("chat-multi-turn"))
    rows = list(trace)
    assert trace.form == "mooncake"
    assert 200 < len(rows) < 1000
    sessions = {row.session for row in rows}
    assert len(sessions) == 100
    for session in sessions:
        for before, after in pairwise(row for row in rows if row.session == session):
            assert after.inputs > before.inputs + before.outputs
            assert after.blocks[: len(before.blocks)] == before.blocks
    # system prompts of two blocks, and nothing else, are common to sessions
    assert len({row.blocks[:2] for row in rows}) == 4
    first = {row.session: row for row in reversed(rows)}
    rest = [block for row in first.values() for block in row.blocks[2:]]
    assert len(rest) == len(set(rest))
