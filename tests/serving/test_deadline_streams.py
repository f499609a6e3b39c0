"""Items through stages on chips, with times that are given: against closed forms and recursions of queues."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from scaleout.engine.program import ticks
from scaleout.io.catalogue import load
from scaleout.serving.streams import Pieces, Streams, arrivals
from scaleout.specs import StreamExperiment, StreamSource, StreamStage

SYSTEM = load("system", "jetson-thor")
MS = ticks(1e-3)


def stage(name: str = "work", time: float = 4.0, **more: Any) -> StreamStage:
    return StreamStage(name=name, time=time * 1e-3, **more)


def source(name: str = "camera", into: str = "work", period: float = 10.0, **more: Any) -> StreamSource:
    return StreamSource(name=name, into=(into,), period=period * 1e-3, **more)


def run(
    stages: list[StreamStage],
    sources: list[StreamSource],
    duration: float = 1.0,
    each: Pieces | None = None,
    **more: Any,
) -> Streams:
    """`each`: pieces of jobs of the first stage, in place of its time."""
    spec = StreamExperiment(
        system=SYSTEM, stages=tuple(stages), sources=tuple(sources), duration=duration,
        **({"chips": 1 + max(one.chip for one in stages)} | more),
    )  # fmt: skip

    def pieces(at: int, items: int) -> Pieces:
        return each if each and at == 0 else Pieces((ticks(stages[at].time or 0.0),), 1)

    streams = Streams(spec, pieces, Counter())
    streams.run()
    return streams


def latencies(streams: Streams, number: int = 0) -> list[int]:
    return [item.ended - item.came for item in streams.items if item.source == number]


def test_a_periodic_stream_below_the_capacity_takes_its_service_time_exactly() -> None:
    streams = run([stage(pre=1e-3, post=2e-3)], [source()])
    assert latencies(streams) == [7 * MS] * 100
    assert streams.chips[0].busy == 400 * MS


def test_stages_follow_one_another_and_chips_work_side_by_side() -> None:
    line = [stage("a", 8.0), stage("b", 9.0, chip=1, after=("a",))]
    assert latencies(run(line, [source(into="a")])) == [17 * MS] * 100
    # one chip never rests: it has done 1.7 s of work after 1.7 s, and the last item came after 0.99
    assert latencies(run([line[0], stage("b", 9.0, after=("a",))], [source(into="a")]))[-1] == 710 * MS


def test_two_sources_on_a_chip_obey_lindleys_recursion() -> None:
    sources = [
        source("a", process="poisson", period=11.0), source("b", jitter=5e-3, phases="random", period=7.0, count=2),
    ]  # fmt: skip
    streams = run([stage(time=2.0)], sources, duration=3.0)
    came = sorted(time for at, one in enumerate(sources) for unit in arrivals(one, at, 3.0, 0) for time in unit)
    waits = [0]
    for before, now in pairwise(came):
        waits.append(max(0, waits[-1] + 2 * MS - (now - before)))
    found = sorted((item.came, item.ended) for item in streams.items)
    assert [time for time, _ in found] == came
    assert sorted(end for _, end in found) == [time + wait + 2 * MS for time, wait in zip(came, waits, strict=True)]


@pytest.mark.parametrize("gather", [2, 4])
def test_a_batch_begins_when_its_last_item_comes(gather: int) -> None:
    streams = run([stage(gather=gather)], [source(count=8, phases="even", period=80.0)], duration=0.8)
    # one comes every 10 ms; the first of a batch waits for all others
    assert latencies(streams) == [((gather - 1 - at % gather) * 10 + 4) * MS for at in range(80)]
    assert {len(job.items) for job in streams.jobs} == {gather}


def test_a_batch_that_does_not_fill_goes_at_its_timeout_or_stays() -> None:
    sources = [source(count=3, period=100.0)]
    assert set(latencies(run([stage(gather=4, timeout=20e-3)], sources))) == {24 * MS}
    left = run([stage(gather=4)], sources, duration=0.25)
    assert sum(item.ended < 0 and not item.dropped for item in left.items) == 1


def test_a_higher_priority_waits_for_one_piece_at_most() -> None:
    stages = [stage("reply"), stage("urgent", 1.0, priority=1)]
    sources = [source("talk", "reply", period=200.0), source("brake", "urgent", period=7.0, phases="random")]
    streams = run(stages, sources, each=Pieces((5 * MS,) * 20, 20))
    assert max(latencies(streams, 1)) <= 6 * MS
    # what was interrupted goes on where it was: its own work, and that of the others meanwhile
    assert all(took >= 100 * MS for took in latencies(streams))
    mine = [job for job in streams.jobs if job.stage == 0]
    assert {sum(end - begin for begin, end in job.spans) for job in mine} == {100 * MS}
    turned = run([stages[0], stage("urgent", 1.0)], sources, each=Pieces((5 * MS,) * 20, 20))
    assert max(latencies(turned, 1)) > 50 * MS


def test_the_next_stage_begins_with_the_first_pieces_and_the_rest_goes_on() -> None:
    stages = [stage("reply"), stage("speak", 3.0, priority=1, after=("reply",))]
    streams = run(stages, [source("talk", "reply", period=200.0)], each=Pieces((5 * MS,) * 20, 4))
    assert set(latencies(streams)) == {(4 * 5 + 3) * MS}
    assert {job.ended - job.started for job in streams.jobs if job.stage == 0} == {103 * MS}
    assert {job.worked for job in streams.jobs if job.stage == 0} == {20 * MS}


def test_of_those_that_come_at_one_moment_the_higher_priority_goes_first() -> None:
    stages = [stage("low", 3.0), stage("high", 2.0, priority=5)]
    streams = run(stages, [source("a", "low"), source("b", "high")], duration=0.1)
    assert set(latencies(streams, 1)) == {2 * MS}
    assert set(latencies(streams, 0)) == {5 * MS}


def test_only_the_latest_waits_where_older_items_are_dropped() -> None:
    streams = run([stage(time=25.0, drop="latest")], [source()])
    # one is worked on all the time, and nobody waits longer than from one item to the next
    assert len(streams.items) == 100
    assert sum(not item.dropped for item in streams.items) == 1000 // 25 + 1
    assert max(item.ended - item.came for item in streams.items if not item.dropped) <= 35 * MS
    # a batch that waits becomes smaller when newer items of some of its cameras come
    gathered = run([stage(time=25.0, gather=2, drop="latest")], [source(count=3, phases="even", period=30.0)])
    assert {len(job.items) for job in gathered.jobs if job.ended >= 0} == {1, 2}
    # cameras do not replace each other
    both = run([stage(time=25.0, drop="latest")], [source(count=2, period=200.0)])
    assert not any(item.dropped for item in both.items)


def test_what_comes_is_done_dropped_or_left() -> None:
    stages = [
        stage("detect", 9.0, gather=3, timeout=4e-3, drop="latest", pre=1e-3), stage("lanes", 2.0, after=("detect",)),
        stage("fuse", 3.0, after=("detect", "lanes"), priority=1, drop="latest"),
    ]  # fmt: skip
    streams = run(stages, [source(into="detect", count=4, period=11.0, jitter=6e-3)])
    states = Counter("dropped" if one.dropped else "done" if one.ended >= 0 else "left" for one in streams.items)
    assert states["done"] > 50
    assert states["dropped"] > 50
    assert not states["left"]
    worked = sum(end - begin for job in streams.jobs for begin, end in job.spans)
    assert worked == streams.chips[0].busy == sum(sum(job.pieces) for job in streams.jobs if job.ended >= 0)
    spans = sorted(span for job in streams.jobs for span in job.spans)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans)), "a chip does one thing at a time"


def test_the_same_seed_gives_the_same_times_and_another_gives_others() -> None:
    one = source(process="poisson", count=3)
    times = [list(arrivals(one, 0, 5.0, seed)) for seed in (1, 1, 2)]
    assert times[0] == times[1] != times[2]
    rate = np.mean([len(unit) for unit in times[0]]) / 5.0
    assert rate == pytest.approx(100.0, rel=0.1)
    # another source beside it changes nothing
    assert list(arrivals(one, 1, 5.0, 1)) != times[0]
