"""Replicas with made-up step times, for tests of the KV cache: experiments, requests, and what must hold at the end."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from scaleout.io.catalogue import load
from scaleout.serving.cluster import Cluster
from scaleout.serving.log import Log
from scaleout.serving.request import STATES, Request
from scaleout.serving.swap import HostShare
from scaleout.serving.work import Work
from scaleout.specs import Arrivals, Cache, InferenceEngine, Length, Pool, Requests, Scheduler, ServingExperiment

SIZE = 16
ENGINE = InferenceEngine(
    name="made-up", version="1", max_sequences=64, max_batched_tokens=512, block=SIZE, memory_share=0.9, reserved=0.0,
    kernel_gap=0.0, elementwise_efficiency=1.0, elementwise_launch=0.0, prefill_attention=("none",),
    decode_attention=("none",), source="none",
)  # fmt: skip
SERVED = STATES.index("served")
TICK = 1e-12


class Linear:
    """So many ticks a step, a new token, and a token that is seen."""

    def __init__(self, stages: int = 1) -> None:
        self.count = stages

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        slowest = max(7 * (work.prompt_tokens + work.decode_tokens) + work.context // 8 for work in works)
        return (1000 + slowest,) * self.count


class Listed:
    """Requests that are given."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    def after(self, request: Request, now: int) -> tuple[Request, ...]:
        return ()


def experiment(
    pools: tuple[Pool, ...] = (Pool(),), *, prefix: bool = True, block: int = SIZE, **scheduler: object
) -> ServingExperiment:
    one = Length(mean=1)
    model = "mixtral-8x7b" if any(pool.dp > 1 for pool in pools) else "llama-3.1-8b"
    return ServingExperiment(
        system=load("system", "dgx-h100"), model=load("model", model), engine=replace(ENGINE, block=block), pools=pools,
        requests=Requests(input=one, output=one, arrivals=Arrivals(rate=1)), scheduler=Scheduler(**scheduler),
        cache=Cache(prefix=prefix),
    )  # fmt: skip


def run(
    requests: Sequence[Request], spec: ServingExperiment, blocks: int = 4000, *, closed: bool = True, host: int = 0,
    latency: int = 500, block_time: int = 40, **more: object,
) -> tuple[Log, Cluster]:  # fmt: skip
    """Simulate; the host holds so many blocks, and copies take so many ticks."""
    fresh = [
        Request(r.number, r.arrival, r.inputs, r.outputs, r.priority, r.session, r.blocks, r.block_tokens)
        for r in requests
    ]
    timers = [Linear(stages=pool.pp) for pool in spec.pools]
    share = HostShare(host, latency * TICK, block_time * TICK) if host else None
    count = len(spec.pools)
    cluster = Cluster(
        spec, Listed(fresh), timers, [blocks] * count, closed=closed, hosts=[share] * count, **more
    )  # fmt: skip
    return cluster.run(), cluster


def table(log: Log) -> list[tuple[int, ...]]:
    columns = (
        log.number, log.scheduled, log.first, log.finish, log.preempted, log.replica, log.state, log.cached, log.hosted
    )  # fmt: skip
    return sorted(zip(*columns, strict=True))


def assert_all_served(log: Log, requests: Sequence[Request]) -> None:
    """Every request ends, in order of its times, and every token but each reply's first has a gap before it."""
    assert sorted(log.number) == list(range(len(requests)))
    assert set(log.state) <= {SERVED}
    assert all(a <= s <= f <= e for a, s, f, e in zip(log.arrival, log.scheduled, log.first, log.finish, strict=True))
    assert sum(log.gaps.values()) == sum(log.outputs) - len(requests)
    assert all(0 <= h <= c < n for h, c, n in zip(log.hosted, log.cached, log.inputs, strict=True))


def assert_nothing_held(cluster: Cluster, blocks: int) -> None:
    """Nobody refers to anything; what is left in the prefix cache is free room."""
    for replica in cluster.replicas:
        assert replica.load == replica.waiting == replica.running == 0
        for rank in replica.ranks:
            assert rank.blocks.free == blocks
            assert rank.seats == cluster.spec.max_sequences
            if rank.blocks.host is not None:
                assert not rank.blocks.host.swapped
                assert len(rank.blocks.host.names) <= rank.blocks.host.blocks
        for batch in replica._batches:
            assert all(lane._base == 0 == lane.decodes and not any(lane._takes) for lane in batch.lanes)


@st.composite
def alike(draw, most: int = 20, longest: int = 400, priorities: int = 1) -> list[Request]:
    """Requests whose prompts begin in one of three ways, and go on as one of a few before them or on their own."""
    piece = draw(st.sampled_from([8, 16, 24, 32, 64]))
    found: list[Request] = []
    at = 0
    for number in range(draw(st.integers(1, most))):
        at += draw(st.sampled_from([0, 0, 1, 700, 4000, 20_000]))
        inputs, family = draw(st.integers(1, longest)), draw(st.integers(0, 2))
        shared = draw(st.integers(0, 12))
        names = [
            family * 1000 + place if place < shared else 10_000 * (number + 1) + place
            for place in range(inputs // piece)
        ]
        if found and draw(st.booleans()):
            before = found[draw(st.integers(0, len(found) - 1))].blocks[: len(names)]
            names[: len(before)] = before
        outputs = draw(st.integers(1, 60))
        priority = draw(st.integers(0, priorities - 1))
        found.append(Request(number, at, inputs, outputs, priority, blocks=tuple(names), block_tokens=piece))
    return found
