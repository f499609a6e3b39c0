"""Engines as data: each file runs, says where it is from, and names only fields that it has."""

from dataclasses import fields

import pytest

from scaleout.io.catalogue import list_names, load
from scaleout.io.experiments import serving_experiment
from scaleout.serving.closed_forms import StaticBatch, prompts, replies, saturated_rate, static_batch
from scaleout.serving.room import Room, room
from scaleout.serving.steps import PoolSteps
from scaleout.serving.work import Work
from scaleout.specs import InferenceEngine

REQUESTS = {"input": {"mean": 100}, "output": {"mean": 100}, "arrivals": {"process": "poisson", "rate": 1.0}}


@pytest.mark.parametrize("name", list_names("engine"))
def test_every_engine_serves(name):
    engine = load("engine", name)
    known = {field.name for field in fields(InferenceEngine)}
    assert engine.source.strip()
    assert set(engine.unverified) <= known
    assert tuple(sorted(engine.graph_sizes)) == engine.graph_sizes
    found = serving_experiment(
        {"system": "dgx-h100", "model": "llama-3.1-8b", "engine": name, "pools": [{"tp": 2}], "requests": REQUESTS}
    )
    steps = PoolSteps(found, found.pools[0])
    first, further = (steps.stages((work,))[0] for work in (prompts(4, 512), replies(4, 512)))
    assert 0 < further < first
    assert room(found, found.pools[0]).tokens > 100_000


# --- whole batches in closed form ---------------------------------------------------------------


class Linear:
    """A step takes so many ticks, and a tick for every cached token."""

    def __init__(self, stages: int = 1) -> None:
        self.count = stages
        self.seen: list[Work] = []

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        (work,) = set(works)
        self.seen.append(work)
        return (10**6 + 10 * work.prompt_tokens + work.context,) * self.count


def test_static_batches_add_their_steps_up():
    found = static_batch(Linear(), 2, 30, 20)
    assert found.prefill == pytest.approx((10**6 + 600) * 1e-12)
    # contexts that small are not rounded
    assert found.decode == pytest.approx(sum(10**6 + 2 * (30 + k) for k in range(1, 20)) * 1e-12)
    assert found.step == pytest.approx(found.decode / 19)
    assert static_batch(Linear(), 2, 30, 1) == StaticBatch(found.prefill, 0.0, 0)


def test_parts_of_a_batch_follow_one_another_through_stages():
    timer = Linear(stages=3)
    found = static_batch(timer, 6, 100, 1, pp=3, micro_tokens=1024)
    # three parts of two prompts: three stages, and two parts behind the first
    assert found.prefill == pytest.approx(5 * (10**6 + 2000) * 1e-12)
    whole = static_batch(Linear(stages=3), 7, 1000, 1, pp=3, micro_tokens=1024)
    # seven are divided by neither three nor two
    assert whole.prefill == pytest.approx(3 * (10**6 + 70_000) * 1e-12)


def test_a_saturated_queue_is_bounded_by_steps_and_by_room():
    space = Room(1000, 16, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    rate = saturated_rate(Linear(), space, requests=6400, inputs=64, outputs=96, most_sequences=512, most_tokens=10**6)
    # ten blocks a request: a hundred at a time, all let in by one step
    step = 10**6 * 1e-12
    assert rate < 100 / step
    assert rate > 0.9 * 100 / (step + 100 * (64 + 48) * 1e-12)
    none = Room(5, 16, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    assert not saturated_rate(Linear(), none, requests=10, inputs=64, outputs=96, most_sequences=8, most_tokens=8192)


def test_fewer_tokens_a_step_and_fewer_requests_are_slower():
    space = Room(10_000, 16, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    rates = [
        saturated_rate(Linear(), space, requests=5000, inputs=512, outputs=64, most_sequences=256, most_tokens=tokens)
        for tokens in (1024, 2048, 8192)
    ]
    assert rates == sorted(rates)
    few = saturated_rate(Linear(), space, requests=257, inputs=512, outputs=64, most_sequences=256, most_tokens=8192)
    assert few < rates[-1]
