"""Replicas with made-up step times, for tests of what happens between steps."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from hypothesis import strategies as st

from scaleout.engine.clock import Alarm, Clock
from scaleout.io.catalogue import load
from scaleout.serving.cluster import Cluster
from scaleout.serving.log import Log
from scaleout.serving.request import Request
from scaleout.serving.work import Work
from scaleout.specs import Arrivals, InferenceEngine, Length, Pool, Requests, Scheduler, ServingExperiment

ENGINE = InferenceEngine(
    name="made-up", version="1", max_sequences=64, max_batched_tokens=512, block=16, memory_share=0.9, reserved=0.0,
    kernel_gap=0.0, elementwise_efficiency=1.0, elementwise_launch=0.0, prefill_attention=("none",),
    decode_attention=("none",), source="none",
)  # fmt: skip
SYSTEM, MODEL, EXPERTS = load("system", "dgx-h100"), load("model", "llama-3.1-8b"), load("model", "mixtral-8x7b")


class Linear:
    """So many ticks a step, a new token, and a token that is seen; the slowest attention rank decides."""

    def __init__(self, step: int = 1000, token: int = 7, seen: int = 1, stages: int = 1) -> None:
        self.step, self.token, self.seen, self.count = step, token, seen, stages

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        slowest = max(
            self.token * (work.prompt_tokens + work.decode_tokens) + self.seen * work.context // 8 for work in works
        )
        return (self.step + slowest,) * self.count


class Kept:
    """Another timer, that remembers what it was asked for."""

    def __init__(self, timer: object) -> None:
        self.timer, self.works = timer, []

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        self.works.append(works)
        return self.timer.stages(works)


class Slow:
    """Carries caches in so many ticks, and so many more a token."""

    def __init__(self, env: Clock, ticks: int, token: int) -> None:
        self.env, self.ticks, self.token = env, ticks, token

    def carry(
        self, request: int, here: object, there: object, tokens: int, done: Callable[[], None], *, over: int = 0,
        pieces: int = 1,
    ) -> None:  # fmt: skip
        """What leaves while it is computed is there a piece after the last of it is."""
        Alarm(self.env, over + self.ticks + self.token * tokens // pieces, [lambda _: done()])


class Listed:
    """Requests that are given."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    def after(self, request: Request, now: int) -> tuple[Request, ...]:
        return ()


def spec(pools: tuple[Pool, ...] = (Pool(),), *, model: object = MODEL, scheduler: dict | None = None, **more: object):
    one = Length(mean=1)
    requests = Requests(input=one, output=one, arrivals=Arrivals(rate=1))
    return ServingExperiment(
        system=SYSTEM, model=model, engine=ENGINE, pools=pools, requests=requests,
        scheduler=Scheduler(**(scheduler or {})), **more,
    )  # fmt: skip


def run(
    rows: Iterable[tuple[int, ...]], experiment: ServingExperiment, *, blocks: int = 4000, closed: bool = True,
    timer: object = None, hosts: list | None = None, slow: int | None = None,
) -> tuple[Log, Cluster]:  # fmt: skip
    """Rows are what `Request` takes: arrival, inputs, outputs, ...; caches are `slow` ticks and more on their way."""
    requests = [Request(at, *row) for at, row in enumerate(rows)]
    timers = [timer or Linear(stages=pool.pp) for pool in experiment.pools]
    env = Clock()
    carrier = None if slow is None else Slow(env, slow, 3)
    cluster = Cluster(
        experiment, Listed(requests), timers, [blocks] * len(timers), env=env, carrier=carrier, closed=closed,
        hosts=hosts,
    )  # fmt: skip
    return cluster.run(), cluster


def table(log: Log) -> list[tuple[int, ...]]:
    columns = (log.number, log.scheduled, log.first, log.finish, log.preempted, log.replica, log.state)
    return sorted(zip(*columns, strict=True))


def left_behind(cluster: Cluster, blocks: int, most: int) -> list[str]:
    """What replicas still hold when everything is over."""
    found = []
    for replica in cluster.replicas:
        if replica.load or replica.waiting or replica.running or replica.requests:
            found.append(f"{replica.number}: {replica.load} {replica.waiting} {replica.running} {replica.requests}")
        found += [
            f"{replica.number}: {rank.blocks.free} of {blocks} blocks, {rank.seats} of {most} seats"
            for rank in replica.ranks
            if rank.blocks.free != blocks or rank.seats != most
        ]
        lanes = chain.from_iterable(batch.lanes for batch in replica._batches)
        found += [f"{replica.number}: {lane.running}" for lane in lanes if lane.running or lane.decodes]
    return found


rows = st.lists(
    st.tuples(st.integers(0, 50_000), st.integers(1, 700), st.integers(1, 60)), min_size=1, max_size=25
).map(sorted)
pools = st.sampled_from(
    [
        (Pool(),),
        (Pool(replicas=3),),
        (Pool(pp=2),),
        (Pool(role="prefill", replicas=2), Pool(role="decode")),
        (Pool(role="prefill"), Pool(role="decode", replicas=2, pp=2)),
    ]
)
