"""Drafted tokens: how many are taken, what a step of them is, and what it is worth."""

from dataclasses import replace

import made_up
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import Kept, Linear, left_behind, run, spec, table

from scaleout.io.catalogue import load
from scaleout.serving.speculation import kept
from scaleout.serving.steps import PoolSteps
from scaleout.serving.work import Work
from scaleout.specs import POLICIES, Pool, Speculation

STEP = 1000


def tokens_a_step(tokens: int, acceptance: float) -> float:
    """Mean of a step, of a reply without end (Leviathan et al., ICML 2023, eq. 1)."""
    return tokens + 1 if acceptance == 1 else (1 - acceptance ** (tokens + 1)) / (1 - acceptance)


@pytest.mark.parametrize(("tokens", "acceptance"), [(1, 0.5), (3, 0.7), (5, 0.9), (8, 0.2)])
def test_as_many_are_taken_as_chance_says(tokens, acceptance):
    drawn = np.array([kept(Speculation(tokens=tokens, acceptance=acceptance), 7, at) for at in range(100_000)])
    assert drawn.mean() + 1 == pytest.approx(tokens_a_step(tokens, acceptance), rel=0.01)
    for least in range(1, tokens + 1):
        assert (drawn >= least).mean() == pytest.approx(acceptance**least, abs=0.005)
    # one step after another has nothing to do with it
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.01


def test_requests_and_seeds_draw_for_themselves():
    def draws(seed: int, number: int) -> list[int]:
        return [kept(Speculation(tokens=4, acceptance=0.7, seed=seed), number, at) for at in range(50)]

    assert draws(0, 1) == draws(0, 1)
    assert draws(0, 1) != draws(0, 2) and draws(0, 1) != draws(1, 1)


def test_bounds_of_acceptance():
    assert {kept(Speculation(tokens=4, acceptance=1.0), 3, at) for at in range(1000)} == {4}
    assert {kept(Speculation(tokens=4, acceptance=1e-12), 3, at) for at in range(1000)} == {0}


@pytest.mark.parametrize("acceptance", [1e-12, 0.6, 0.8, 1.0])
def test_speed_up_is_the_mean_of_a_step(acceptance):
    count, outputs = 20, 2000
    rows = [(0, 10, outputs)] * count
    plain, _ = run(rows, spec(), timer=Linear(STEP, 0, 0))
    log, _ = run(rows, spec(speculation=Speculation(tokens=4, acceptance=acceptance)), timer=Linear(STEP, 0, 0))
    each = np.array(log.finish) - np.array(log.first)
    before = np.array(plain.finish) - np.array(plain.first)
    assert before.mean() / each.mean() == pytest.approx(tokens_a_step(4, acceptance), rel=0.01)
    if acceptance == 1.0:
        assert set(each) == {-(-(outputs - 1) // 5) * STEP}
    if acceptance < 1e-9:
        assert table(log) == table(plain) and log.gaps == plain.gaps


def test_tokens_of_a_step_come_together():
    log, _ = run([(0, 10, 12)], spec(speculation=Speculation(tokens=4, acceptance=1.0)), timer=Linear(STEP, 0, 0))
    # one with the prompt, then five, five, and the last
    assert log.gaps == {STEP: 3, 0: 8} and list(log.finish) == [4 * STEP]


def test_work_of_a_step():
    timer = Kept(Linear(STEP, 0, 0))
    run([(0, 10, 9), (0, 20, 9)], spec(speculation=Speculation(tokens=3, acceptance=1.0)), timer=timer)
    prompts, first, second = (works[0] for works in timer.works)
    assert (prompts.decode_tokens, prompts.rows, prompts.prompts) == (0, 2, 2)
    assert first == Work(0, 0, 0, 0, 2, 8, (10 + 4) + (20 + 4), 20 + 4, 8)
    assert second == Work(0, 0, 0, 0, 2, 8, (10 + 8) + (20 + 8), 20 + 8, 8)


def test_prompts_get_what_drafted_tokens_leave_of_a_step():
    timer = Kept(Linear(STEP, 0, 0))
    experiment = spec(speculation=Speculation(tokens=4, acceptance=1.0), scheduler={"max_batched_tokens": 16})
    run([(0, 4, 30), (0, 4, 30), (1, 100, 1)], experiment, timer=timer)
    assert max(works[0].prompt_tokens + works[0].decode_tokens for works in timer.works) == 16


@given(
    rows=made_up.rows, policy=st.sampled_from(POLICIES), pools=made_up.pools, blocks=st.integers(50, 120),
    most=st.integers(1, 20), tokens=st.integers(1, 40), acceptance=st.floats(0.01, 1.0),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_replies_are_complete_and_blocks_are_given_back(rows, policy, pools, blocks, most, tokens, acceptance):
    experiment = spec(
        pools, scheduler={"policy": policy, "max_sequences": most},
        speculation=Speculation(tokens=tokens, acceptance=acceptance),
    )  # fmt: skip
    log, cluster = run(rows, experiment, blocks=blocks)
    assert sorted(log.number) == list(range(len(rows)))
    assert sum(log.gaps.values()) == sum(log.outputs) - len(rows)
    assert left_behind(cluster, blocks, most) == []


def test_steps_of_a_request_do_not_depend_on_who_else_is_there():
    timer = Linear(STEP, 0, 0)
    experiment = spec(speculation=Speculation(tokens=4, acceptance=0.7))
    rows = [(0, 10, 300), (0, 10, 200), (0, 10, 100)]
    log, _ = run(rows, experiment, timer=timer)
    spans = {at: end - first for at, end, first in zip(log.number, log.finish, log.first, strict=True)}
    later, _ = run([(at * 10**6, *row[1:]) for at, row in enumerate(rows)], experiment, timer=timer)
    assert spans == {at: end - first for at, end, first in zip(later.number, later.finish, later.first, strict=True)}


def test_a_step_that_verifies_costs_more_than_one_that_does_not_and_less_than_its_tokens():
    model, draft = load("model", "llama-3.1-70b"), load("model", "llama-3.2-1b")
    engine = load("engine", "vllm-0.19")
    plain = replace(spec(model=model), engine=engine)
    speculative = replace(plain, speculation=Speculation(tokens=4, acceptance=0.7, draft=draft))
    pool = Pool(tp=4)
    one = Work(decodes=8, decode_tokens=8, context=8192, longest=1024, rows=8)
    many = one._replace(decode_tokens=40, rows=40)
    (alone,) = PoolSteps(plain, pool).stages((one,))
    (verified,) = PoolSteps(plain, pool).stages((many,))
    (drafted,) = PoolSteps(speculative, pool).stages((many,))
    (longer,) = PoolSteps(
        replace(speculative, speculation=Speculation(tokens=8, acceptance=0.7, draft=draft)), pool
    ).stages((many,))
    assert alone < verified < 1.5 * alone
    # every further token drafted is a step of the draft
    assert longer - drafted == pytest.approx(drafted - verified, rel=0.1)
