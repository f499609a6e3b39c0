"""Lengths against their laws, beginnings that are shared, and memory that does not grow."""

import math
import sys
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scaleout.errors import SpecError
from scaleout.serving.arrivals import requests
from scaleout.serving.lengths import draw
from scaleout.serving.prefixes import Beginnings
from scaleout.specs import Arrivals, Length, Requests

COUNT = 40_000
WIDE = 10**9
LOGNORMAL = stats.lognorm(math.sqrt(math.log1p(0.64)), scale=1000 / math.sqrt(1.64))
"""Of mean 1,000 and coefficient of variation 0.8."""


def sample(**length: Any) -> Any:
    return draw(Length(**length), np.random.default_rng(5), COUNT)


@pytest.mark.parametrize(
    ("length", "law"),
    [
        ({"kind": "lognormal", "mean": 1000.0, "cv": 0.8}, LOGNORMAL),
        ({"kind": "gamma", "mean": 1000.0, "cv": 0.5}, stats.gamma(4.0, scale=250.0)),
        ({"kind": "gamma", "mean": 1000.0, "cv": 2.0}, stats.gamma(0.25, scale=4000.0)),
    ],
)  # fmt: skip
def test_drawn_lengths_follow_their_law(length: dict[str, Any], law: Any) -> None:
    drawn = sample(**length, high=WIDE)
    cv = length["cv"]
    assert drawn.mean() == pytest.approx(1000.0, rel=4 * cv / math.sqrt(COUNT) + 1e-3)
    assert drawn.std() / drawn.mean() == pytest.approx(cv, rel=0.05)
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        # rounded to whole tokens, at least one
        below = np.count_nonzero(drawn <= max(1, round(law.ppf(share)))) / COUNT
        assert below == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / COUNT) + law.pdf(law.ppf(share)))


def test_geometric_lengths_have_their_mean_and_variance() -> None:
    drawn = sample(kind="geometric", mean=220.0, high=WIDE)
    assert drawn.mean() == pytest.approx(220.0, rel=0.02)
    assert drawn.var() == pytest.approx(220.0 * 219.0, rel=0.05)
    assert drawn.min() == 1


def test_uniform_lengths_reach_both_ends_and_each_as_often() -> None:
    counts = Counter(sample(kind="uniform", low=3, high=7).tolist())
    assert sorted(counts) == [3, 4, 5, 6, 7]
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_constant_lengths_are_the_rounded_mean() -> None:
    assert set(sample(mean=7.4).tolist()) == {7}
    assert set(sample(kind="lognormal", mean=7.0, cv=0.0).tolist()) == {7}
    assert set(sample(kind="gamma", mean=7.0, cv=0.0).tolist()) == {7}


@given(
    kind=st.sampled_from(["constant", "lognormal", "gamma", "geometric", "uniform"]),
    low=st.integers(1, 10_000),
    spread=st.integers(0, 10_000),
    at=st.floats(0.0, 1.0),
    cv=st.floats(0.0, 100.0),
)
def test_no_length_is_beyond_its_bounds(kind: Any, low: int, spread: int, at: float, cv: float) -> None:
    mean = None if kind == "uniform" else low + at * spread
    length = Length(kind=kind, mean=mean, cv=cv, low=low, high=low + spread)
    drawn = draw(length, np.random.default_rng(1), 200)
    assert drawn.dtype == np.int64
    assert low <= drawn.min() <= drawn.max() <= low + spread


@pytest.mark.parametrize(
    ("length", "says"),
    [
        ({"mean": 0.5}, "mean: 0.5 is not between low 1 and high"),
        ({"mean": 50.0, "high": 40}, "mean: 50 is not between low 1 and high 40"),
        ({"mean": 50.0, "low": 60, "high": 50}, "low 60 is above high 50"),
        ({"kind": "uniform", "mean": 4.0}, "a uniform length has low and high alone"),
        ({"kind": "gamma"}, "mean: missing; 'gamma' needs one"),
        ({"mean": math.nan}, "mean: nan"),
        ({"mean": -3.0}, "mean: -3"),
        ({"mean": 3.0, "cv": math.inf}, "cv: inf"),
        ({"mean": 3.0, "low": 0}, "low: 0"),
    ],
)
def test_lengths_that_cannot_be_are_refused(length: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        Length(**length)


def test_beginnings_are_shared_by_whole_blocks_and_nothing_else_is() -> None:
    beginnings = Beginnings(40, 3, 16, np.random.SeedSequence(0))
    prompts = [beginnings.blocks(100) for _ in range(300)]
    assert all(len(blocks) == 6 for blocks in prompts)
    assert {blocks[:2] for blocks in prompts} == {(0, 1), (2, 3), (4, 5)}
    rest = [block for blocks in prompts for block in blocks[2:]]
    assert len(set(rest)) == len(rest)
    assert max(rest) < 0


def test_a_prompt_shorter_than_a_beginning_is_a_part_of_it() -> None:
    beginnings = Beginnings(64, 1, 16, np.random.SeedSequence(0))
    assert [beginnings.blocks(inputs) for inputs in (5, 16, 63, 64, 95)] == [
        (), (0,), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, -1),
    ]  # fmt: skip


def test_each_beginning_is_as_likely() -> None:
    beginnings = Beginnings(16, 8, 16, np.random.SeedSequence(2))
    counts = Counter(beginnings.blocks(16)[0] for _ in range(8000))
    assert stats.chisquare([counts[variant] for variant in range(8)]).pvalue > 0.01


def test_beginnings_change_neither_lengths_nor_arrivals() -> None:
    plain = Requests(input=Length(kind="gamma", mean=300), output=Length(mean=9), arrivals=Arrivals(rate=1.0))
    shared = Requests(
        input=plain.input, output=plain.output, arrivals=plain.arrivals, prefix=100, prefixes=4
    )  # fmt: skip
    pairs = list(zip(requests(plain), requests(shared, block=32), strict=True))
    assert all((a.arrival, a.inputs, a.outputs) == (b.arrival, b.inputs, b.outputs) for a, b in pairs)
    assert all(b.block_tokens == 32 and len(b.blocks) == b.inputs // 32 for _, b in pairs)
    assert all(not a.blocks for a, _ in pairs)


@pytest.mark.parametrize("prefix", [0, 64])
def test_ten_million_requests_need_the_memory_of_a_few_thousand(prefix: int) -> None:
    spec = Requests(
        input=Length(kind="lognormal", mean=500, high=4000),
        output=Length(kind="gamma", mean=200, high=4000),
        count=10_000_000,
        prefix=prefix,
        arrivals=Arrivals(rate=100.0),
    )
    stream = iter(requests(spec))
    held = []
    for _ in range(4):
        list(islice(stream, 20_000))
        held.append(sys.getallocatedblocks())
    assert held[-1] - held[1] < 15_000
