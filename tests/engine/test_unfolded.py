"""The compiled loop gives the integers of SimPy: of a folded run, of an unfolded one, and of jobs made by hand."""

import heapq
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from machines import job, line, program
from random_layouts import random_experiments
from test_engine import sends
from test_folding import CASES, same

from scaleout.collectives import candidates
from scaleout.engine import Family, Job, Message, Timeline, discrete, quotient, run, run_unfolded, unfold
from scaleout.engine.unfolded.agenda import BUCKETS, HEAD, HEAP, HEAP_DATE, agenda, close_first, schedule, take
from scaleout.errors import ScaleoutError, WorkloadError
from scaleout.evaluate.assumptions import assumptions
from scaleout.evaluate.breakdown import breakdown, critical_path, ends_last
from scaleout.evaluate.event import evaluate
from scaleout.network import Fabric
from scaleout.network.pattern import Pattern
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]


@pytest.mark.parametrize("name", CASES)
def test_compiled_equals_folded_integer_for_integer(small: Make, name: str) -> None:
    spec = small(**CASES[name])
    assert same(evaluate(spec), evaluate(spec, fold=False, compiled=True))


def test_compiled_equals_folded_on_experiments_drawn_at_random() -> None:
    done = 0
    for spec in random_experiments(seed=4, most_micro_batches=3):
        if spec.chips > 256:
            continue
        try:
            folded = evaluate(spec)
        except ScaleoutError:
            continue
        assert same(folded, evaluate(spec, fold=False, compiled=True)), spec
        done += 1
        if done == 12:
            break


@pytest.mark.parametrize("name", ["64 ranks, one slow chip", "64 ranks, two chips a port, one slow"])
def test_what_is_told_of_a_run_does_not_depend_on_the_engine(small: Make, name: str) -> None:
    spec = small(**CASES[name])
    simpy, compiled = evaluate(spec, fold=False, compiled=False), evaluate(spec, fold=False, compiled=True)
    assert same(simpy, compiled)
    assert compiled.wiring.classes == spec.chips
    assert compiled.wiring.class_of.tolist() == compiled.wiring.representatives.tolist() == list(range(spec.chips))
    assert compiled.wiring.sizes.tolist() == [1] * spec.chips
    assert ends_last(compiled) == ends_last(simpy)
    assert breakdown(compiled, 5) == breakdown(simpy, 5)
    assert critical_path(compiled) == critical_path(simpy)
    assert assumptions(spec, compiled) == assumptions(spec, simpy)
    for family, groups in compiled.job.families.items():
        for rank in groups.groups[0].tolist():
            assert sorted(compiled.wiring.members(family, 0, rank)) == sorted(simpy.wiring.members(family, 0, rank))


def chosen(work: Job, fabric: Fabric) -> dict[int, Pattern]:
    """Some algorithm for each message, another for each."""
    patterns = {}
    for index, message in enumerate(work.messages):
        groups = work.families[message.family].groups
        menu = candidates(fabric, groups, message.operation)
        patterns[index] = list(menu.values())[index % len(menu)](groups)
    return patterns


def equal(a: Timeline, b: Timeline) -> bool:
    names = ("arrived", "started", "ended")
    pairs = zip(a.classes, b.classes, strict=True)
    return all((getattr(x, name) == getattr(y, name)).all() for x, y in pairs for name in names)


def drawn(seed: int) -> tuple[Job, Fabric]:
    """A job whose operations have one order that all ranks keep; links of a ring, each of another bandwidth.

    It comes to an end, unless a communicator is used on two streams: its members may then meet crosswise.
    """
    draw = random.Random(seed)
    ranks = draw.choice([4, 6, 9])
    order = draw.sample(range(ranks), ranks)
    half = ranks // 2
    families = [
        Family("tp", "tp", np.array([order[:half], order[half : 2 * half]])),
        Family("world", "dp", np.array([list(range(ranks))])),
        sends(*((order[i], order[(i + 1) % ranks]) for i in range(ranks)), name="p2p"),
    ]
    streams = {"tp": ["tp"], "world": ["dp", "tp"] if seed % 3 == 0 else ["dp"]}
    messages = [
        Message("tp", "all_gather", draw.uniform(1e6, 1e9)),
        Message("tp", "reduce_scatter", 0.0),
        Message("world", "all_reduce", draw.uniform(1e6, 1e9)),
        Message("p2p", "send", draw.uniform(1e6, 1e9)),
        Message("p2p", "send", draw.uniform(1e6, 1e9)),
    ]
    ops: list[list[tuple[str, str, int, tuple[int, ...]]]] = [[] for _ in range(ranks)]

    def add(rank: int, kind: str, stream: str, item: int) -> None:
        mine = ops[rank]
        waits = draw.sample(range(len(mine)), min(len(mine), draw.choice([0, 1, 1, 2, 3])))
        mine.append((kind, stream, item, tuple(waits)))

    for _ in range(60):
        if draw.random() < 0.5:
            add(draw.randrange(ranks), "compute", "compute", draw.randrange(4))
            continue
        item = draw.randrange(len(messages))
        family = next(f for f in families if f.name == messages[item].family)
        members = family.groups[draw.randrange(len(family.groups))].tolist()
        if family.name == "p2p":
            add(members[0], "send", "send forward", item)
            add(members[1], "receive", "receive forward", item)
        else:
            stream = draw.choice(streams[family.name])
            for rank in members:
                add(rank, "collective", stream, item)
    seconds = [draw.uniform(0.0, 1.0) for _ in range(3)] + [0.0]
    work = job([program(own) for own in ops], list(range(ranks)), seconds, messages, families)
    work = replace(work, speed={order[0]: 0.7})
    fabric = line(ranks, latency=draw.choice([0.0, 1e-3]))
    bandwidth = np.array([draw.choice([1e9, draw.uniform(1e8, 1e9)]) for _ in range(fabric.topology.links)])
    return work, replace(fabric, topology=replace(fabric.topology, bandwidth=bandwidth))


def outcome(engine: Callable[[], Timeline]) -> tuple[str, Timeline | None]:
    try:
        return "", engine()
    except WorkloadError as error:
        return str(error), None


@pytest.mark.parametrize("seed", range(40))
def test_jobs_drawn_at_random_run_alike_in_simpy_plain_and_compiled(seed: int) -> None:
    work, fabric = drawn(seed)
    patterns = chosen(work, fabric)
    wiring = quotient(work, fabric, patterns, discrete(work, fabric))
    unfolded = unfold(work, fabric, patterns)
    said, simpy = outcome(lambda: run(work, wiring, runs=False))
    for plain in (True, False):
        told, times = outcome(lambda plain=plain: run_unfolded(unfolded, plain=plain))  # type: ignore[misc]
        assert told == said
        if simpy is not None and times is not None:
            assert equal(simpy, times)
            assert times.solves > 0
    assert simpy is not None or seed % 3 == 0


def test_ranks_that_wait_for_each_other_for_ever_are_named_alike() -> None:
    families = [sends((0, 1), name="there"), sends((1, 0), name="back")]
    messages = [Message("there", "send", 1.0), Message("back", "send", 1.0)]
    # each receives before it sends
    a = program([("receive", "receive forward", 1, ()), ("send", "send forward", 0, (0,))])
    b = program([("receive", "receive forward", 0, ()), ("send", "send forward", 1, (0,))])
    work, fabric = job([a, b], [0, 1], [1.0], messages, families), line(2)
    patterns = chosen(work, fabric)
    wiring = quotient(work, fabric, patterns, discrete(work, fabric))
    said = []
    for engine in (lambda: run(work, wiring), lambda: run_unfolded(unfold(work, fabric, patterns), plain=True)):
        with pytest.raises(WorkloadError) as error:
            engine()
        said.append(str(error.value))
    assert said[0] == said[1]
    assert "rank 1, stream send forward: operation 1 (send on back)" in said[1]


def test_a_rank_without_a_communicator_is_named() -> None:
    ops: list[tuple[str, str, int, tuple[int, ...]]] = [("collective", "tp", 0, ())]
    family = Family("tp", "tp", np.array([[0, 1]]))
    work = job([program(ops)], [0, 0, 0], [1.0], [Message("tp", "all_gather", 1.0)], [family])
    fabric = line(3)
    with pytest.raises(WorkloadError, match="rank 2: its program uses tp"):
        unfold(work, fabric, chosen(work, fabric))


def test_a_step_beyond_all_dates_is_refused() -> None:
    work = job([program([("compute", "compute", 0, ()), ("compute", "compute", 0, ())])], [0], [9e6], [], [])
    with pytest.raises(OverflowError):
        run_unfolded(unfold(work, line(2), {}), plain=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_agenda_hands_items_out_in_the_order_of_their_dates(seed: int) -> None:
    draw = random.Random(seed)
    buckets, items, recent, size = agenda(30)
    dates: dict[int, int] = {}
    now = 0
    for _ in range(2000):
        item = draw.randrange(30)
        if item in dates and draw.random() < 0.5:
            take(buckets, items, item)
            del dates[item]
        elif item not in dates:
            dates[item] = now + draw.choice([0, 1, 2, 300, draw.randrange(1 << 40)])
            schedule(buckets, items, recent, size, dates[item], item)
        elif draw.random() < 0.3:
            first = min(dates.values())
            while buckets[HEAD, buckets[HEAP, 0]] < 0:
                close_first(buckets, size)
            now = int(buckets[HEAP_DATE, 0])
            assert now == first
            while buckets[HEAD, buckets[HEAP, 0]] >= 0:
                out = int(buckets[HEAD, buckets[HEAP, 0]])
                assert dates.pop(out) == now
                take(buckets, items, out)
            close_first(buckets, size)
        heap = buckets[HEAP_DATE, : size[BUCKETS]].tolist()
        assert heapq.nsmallest(1, heap) == heap[:1]


def test_large_unfolded_runs_are_compiled_and_small_ones_are_not(small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from scaleout.engine import Unfolded

    spec = small()
    assert not isinstance(evaluate(spec, fold=False).wiring, Unfolded)
    monkeypatch.setattr("scaleout.evaluate.event.COMPILED_FROM", 1000)
    assert isinstance(evaluate(spec, fold=False).wiring, Unfolded)
    assert not isinstance(evaluate(spec).wiring, Unfolded)
