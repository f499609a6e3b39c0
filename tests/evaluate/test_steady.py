"""Steady states against closed forms, bounds, and the simulation of the same requests."""

import math
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scaleout
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import PlanError, SpecError
from scaleout.evaluate.steady import Typical, steady
from scaleout.serve import prepare
from scaleout.serving.room import Room
from scaleout.serving.work import Work
from scaleout.specs import ServingExperiment


class Lines:
    """Steps of a fixed time, and so much for each sequence and for each token of a prompt [tick]."""

    def __init__(self, fixed: int, sequence: int, token: int) -> None:
        self.fixed, self.sequence, self.token = fixed, sequence, token

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        work = works[0]
        return (self.fixed + self.sequence * work.decodes + self.token * work.prompt_tokens,)


@cache
def experiment() -> ServingExperiment:
    return scaleout.serving_experiment("llama3-8b-closed-loop")


def room(tokens: int) -> Room:
    return Room(tokens // 16, 16, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


MS = TICKS_PER_SECOND // 1000


@settings(max_examples=40, deadline=None)
@given(rate=st.floats(0.1, 5.0), fixed=st.integers(5, 40), sequence=st.integers(10, 200), token=st.integers(1, 30))
def test_steps_that_are_straight_lines_have_a_batch_in_closed_form(
    rate: float, fixed: int, sequence: int, token: int
) -> None:
    prompt, reply = 1000.0, 200.0
    timer = Lines(fixed * MS, sequence * MS // 1000, token * MS // 1000)
    found = steady(experiment(), [timer], [room(10_000_000)], Typical(rate=rate, prompt=prompt, reply=reply))
    free = 1.0 - rate * prompt * token * 1e-6
    each = rate * reply / free
    batch = each * fixed * 1e-3 / (1.0 - each * sequence * 1e-6) if each * sequence < 1e6 else math.inf
    if found.most < rate:
        assert found.tpot == math.inf
    elif batch > 2.0:
        # batches are whole sequences in a step
        assert found.batch == pytest.approx(batch, rel=0.05)
        assert found.tpot == pytest.approx(batch / (rate * reply), rel=0.05)
        # Little's law
        assert found.batch == pytest.approx(rate * reply * found.tpot, rel=0.03)


def test_a_full_batch_and_prompts_share_the_time_at_the_highest_rate() -> None:
    timer = Lines(20 * MS, 0, MS // 100)
    found = steady(experiment(), [timer], [room(32 * 1100)], Typical(rate=0.1, prompt=1000.0, reply=200.0))
    seats = 2200 / 70  # blocks, and those that half a reply after its prompt holds with half a block unused
    assert found.bound_by == "KV cache"
    assert found.most == pytest.approx(1.0 / (200 * 0.02 / seats + 0.01), rel=1e-3)


def test_more_requests_take_longer_and_more_room_serves_more() -> None:
    timer = Lines(20 * MS, MS // 20, MS // 100)
    rows = [
        steady(experiment(), [timer], [room(400_000)], Typical(rate=rate, prompt=800.0, reply=200.0))
        for rate in (0.5, 1.0, 2.0, 4.0, 8.0)
    ]
    assert [row.tpot for row in rows] == sorted(row.tpot for row in rows)
    assert [row.ttft for row in rows] == sorted(row.ttft for row in rows)
    small, large = (
        steady(experiment(), [timer], [room(size)], Typical(rate=1.0, prompt=800.0, reply=200.0)).most
        for size in (20_000, 400_000)
    )
    assert small < large


def test_the_simulation_of_the_same_requests_has_the_same_time_per_token() -> None:
    spec = scaleout.serving_experiment(
        "llama3-70b-poisson", ("requests.arrivals.rate=4", "requests.count=200", "pools.0.tp=8")
    )
    served = scaleout.serve(spec)
    prepared = prepare(spec)
    count = served.requests["served"]
    typical = Typical(rate=4.0, prompt=served.tokens["input"] / count, reply=served.tokens["output"] / count)
    found = steady(spec, list(prepared.timers), prepared.rooms, typical)
    assert found.tpot == pytest.approx(served.tpot.mean, rel=0.05)
    assert found.ttft == pytest.approx(served.ttft.mean, rel=0.2)
    halves = replace(spec, pools=(replace(spec.pools[0], replicas=2),))
    two = prepare(halves)
    doubled = steady(halves, list(two.timers), two.rooms, replace(typical, rate=8.0))
    assert doubled.tpot == pytest.approx(found.tpot, rel=1e-9)
    assert doubled.most == pytest.approx(2.0 * found.most, rel=1e-9)


def test_what_has_no_steady_state_is_refused() -> None:
    with pytest.raises(PlanError, match="no room for a request"):
        steady(experiment(), [Lines(MS, 0, 1)], [room(320)], Typical(rate=1.0, prompt=1000.0, reply=10.0))
    with pytest.raises(SpecError, match=r"requests\.rate"):
        Typical(rate=0.0, prompt=1.0, reply=1.0)
