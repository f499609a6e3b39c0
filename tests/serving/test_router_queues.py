"""Queueing theory: one server with any service, and several with queues of their own."""

import math

import numpy as np
import pytest
from made_up import Linear, run, spec

from scaleout.serving.work import Work
from scaleout.specs import Pool, Router


class Inputs:
    """A step takes a thousand ticks for each token of its prompt."""

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        return (1000 * works[0].prompt_tokens,)


def sizes_of(kind: str, draws: np.random.Generator, count: int) -> np.ndarray:
    if kind == "exponential":
        return np.maximum(1, np.rint(draws.exponential(60, count))).astype(int)
    return np.where(draws.random(count) < 0.9, 20, 400)


def waits(arrivals: np.ndarray, services: np.ndarray) -> np.ndarray:
    """Of one server, first come first served (Lindley 1952)."""
    steps = np.concatenate([[0], np.cumsum(services[:-1] - np.diff(arrivals))])
    return steps - np.minimum.accumulate(steps)


@pytest.mark.parametrize("kind", ["exponential", "two sizes"])
def test_one_at_a_time_is_one_server(kind):
    draws, count = np.random.default_rng(3), 10_000
    sizes = sizes_of(kind, draws, count)
    arrivals = np.rint(np.cumsum(draws.exponential(1000 * sizes.mean() / 0.8, count))).astype(int)
    experiment = spec(scheduler={"max_sequences": 1, "max_batched_tokens": 100_000})
    log, _ = run(zip(arrivals.tolist(), sizes.tolist(), [1] * count, strict=True), experiment, timer=Inputs())
    assert list(log.scheduled) == (arrivals + waits(arrivals, 1000 * sizes)).tolist()
    # and of that, over as many as it takes, the mean is that of Pollaczek and Khinchine
    count = 10_000_000
    sizes = sizes_of(kind, draws, count)
    mean, square = 1000 * sizes.mean(), 1e6 * (sizes.astype(float) ** 2).mean()
    arrivals = np.cumsum(draws.exponential(mean / 0.8, count))
    assert waits(arrivals, 1000 * sizes).mean() == pytest.approx(0.8 / mean * square / 2 / 0.2, rel=0.02)


def test_one_at_a_time_waits_as_pollaczek_and_khinchine_say():
    draws, count = np.random.default_rng(3), 200_000
    sizes = sizes_of("exponential", draws, count)
    mean, square = 1000 * sizes.mean(), 1e6 * (sizes.astype(float) ** 2).mean()
    arrivals = np.rint(np.cumsum(draws.exponential(mean / 0.5, count))).astype(int)
    experiment = spec(scheduler={"max_sequences": 1, "max_batched_tokens": 100_000})
    log, _ = run(zip(arrivals.tolist(), sizes.tolist(), [1] * count, strict=True), experiment, timer=Inputs())
    wait = np.mean(np.array(log.scheduled) - np.array(log.arrival))
    assert wait == pytest.approx(0.5 / mean * square / 2 / 0.5, rel=0.02)


def erlang_c(servers: int, load: float) -> float:
    """Probability that one waits, of M/M/c at a load of each server."""
    offered = servers * load
    terms = [offered**at / math.factorial(at) for at in range(servers)]
    last = offered**servers / math.factorial(servers) / (1 - load)
    return last / (sum(terms) + last)


def test_replicas_with_queues_of_their_own_wait_longer_than_with_one_and_shorter_than_by_chance():
    servers, load, mean, count = 4, 0.8, 60_000, 30_000
    draws = np.random.default_rng(11)
    sizes = np.maximum(1, np.rint(draws.exponential(60, count))).astype(int).tolist()
    arrivals = np.rint(np.cumsum(draws.exponential(mean / servers / load, count))).astype(int).tolist()

    def wait(router: str) -> float:
        experiment = spec(
            (Pool(replicas=servers),), scheduler={"max_sequences": 1, "max_batched_tokens": 100_000},
            router=Router(policy=router),
        )  # fmt: skip
        log, _ = run(zip(arrivals, sizes, [1] * count, strict=True), experiment, timer=Inputs())
        return float(np.mean(np.array(log.scheduled) - np.array(log.arrival)))

    one_queue = erlang_c(servers, load) * mean / (servers * (1 - load))
    apart = load * mean / (1 - load)
    # all of a replica's tokens are its work until they end, so the least load is near the least work
    assert 0.9 * one_queue < wait("least_load") < wait("power_of_two") < wait("round_robin") < apart


def test_a_replica_with_many_seats_serves_at_most_its_steps():
    seats, step = 8, 1000
    log, _ = run([(0, 10, 50)] * 80, spec(scheduler={"max_sequences": seats}), timer=Linear(step, 0, 0))
    assert log.end == 80 / seats * 50 * step
