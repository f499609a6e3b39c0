"""A network that several users share: sizes of their own, fair rates, conservation, claims."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import job, line, patterns_on, program, record

from scaleout.engine import Family, Job, Lineup, Message, Repeated, SharedNetwork, discrete, equitable, quotient, run
from scaleout.engine.clock import Alarm, Clock
from scaleout.engine.quotient import Transfer
from scaleout.errors import TopologyError
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase, tally
from scaleout.specs import Fault

SECOND = 1_000_000_000_000
GB = 1e9


def ways(fabric: Fabric, pairs: list[tuple[int, int]], cap: float = np.inf) -> Pattern:
    source, target = np.array(pairs, dtype=np.int64).T
    routes = fabric.route(source, target)
    group, link, weight = tally(routes.flow, routes.link, routes.weight, fabric.topology.links)
    caps = np.full(len(pairs), cap)
    return Pattern("x", (Phase(share=1.0, group=group, link=link, weight=weight, latency=routes.latency, cap=caps),))


class Bench:
    """A network, and when each transfer that was started on it ended."""

    def __init__(self, fabric: Fabric) -> None:
        self.env = Clock()
        self.network = SharedNetwork(self.env, fabric, account=True)
        self.ends: dict[str, float] = {}

    def at(self, time: float, name: str, transfer: Transfer, nbytes: float) -> None:
        note = [lambda _: self.ends.__setitem__(name, self.env.now / SECOND)]
        Alarm(self.env, round(time * SECOND), [lambda _: self.network.start(transfer, note, nbytes)])


def test_a_transfer_has_the_size_that_it_is_started_with() -> None:
    bench = Bench(line(4, latency=0.5))
    (one,) = bench.network.add(ways(bench.network.fabric, [(0, 1)]))
    for number, nbytes in enumerate((2 * GB, 0.0, 3 * GB)):
        bench.at(10.0 * number, str(number), one, nbytes)
    bench.env.run_down()
    assert bench.ends == {"0": 2.5, "1": 10.5, "2": 23.5}


def test_one_pair_may_have_several_transfers_of_different_size_under_way() -> None:
    bench = Bench(line(4))
    (one,) = bench.network.add(ways(bench.network.fabric, [(0, 1)]))
    bench.at(0.0, "long", one, 4 * GB)
    bench.at(1.0, "short", one, 1 * GB)
    bench.env.run_down()
    # from 1 s on half the rate each: the short one is over at 3 s, the long one has 2 GB left then
    assert bench.ends == {"short": 3.0, "long": 5.0}


def test_a_pair_that_is_added_while_others_are_under_way_shares_with_them() -> None:
    bench = Bench(line(6))
    fabric = bench.network.fabric
    (one,) = bench.network.add(ways(fabric, [(0, 2)]))
    bench.at(0.0, "first", one, 4 * GB)

    def late(_: object) -> None:
        (two,) = bench.network.add(ways(fabric, [(1, 3)]))
        bench.network.start(two, [lambda _: bench.ends.__setitem__("late", bench.env.now / SECOND)], 1 * GB)

    Alarm(bench.env, 2 * SECOND, [late])
    bench.env.run_down()
    assert bench.ends == {"late": 4.0, "first": 5.0}


def test_a_cap_bounds_a_flow_and_leaves_the_rest_to_others() -> None:
    bench = Bench(line(4))
    (slow,) = bench.network.add(ways(bench.network.fabric, [(0, 1)], cap=0.25 * GB))
    (fast,) = bench.network.add(ways(bench.network.fabric, [(0, 1)]))
    bench.at(0.0, "slow", slow, 1 * GB)
    bench.at(0.0, "fast", fast, 3 * GB)
    bench.env.run_down()
    assert bench.ends == {"slow": 4.0, "fast": 4.0}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(1, 7), st.floats(0, 3), st.floats(0.01, 4)), min_size=1, max_size=24
    )
)
def test_what_is_sent_arrives_and_no_link_carries_more_than_it_can(
    sends: list[tuple[int, int, float, float]],
) -> None:
    bench = Bench(line(8))
    fabric, network = bench.network.fabric, bench.network
    pairs = [(a, (a + by) % 8) for a, by, _, _ in sends]
    made = network.add(ways(fabric, pairs))
    for number, (transfer, (_, _, begin, size)) in enumerate(zip(made, sends, strict=True)):
        bench.at(begin, str(number), transfer, size * GB)
    bench.env.run_down()
    assert len(bench.ends) == len(sends)
    expected, hops = np.zeros(fabric.topology.links), fabric.route(*np.array(pairs, dtype=np.int64).T)
    np.add.at(expected, hops.link, (hops.weight * np.array([size * GB for *_, size in sends])[hops.flow]))
    assert network.carried() == pytest.approx(expected, rel=1e-9)
    # rates between any two changes
    moved = network.account()
    edges = np.unique(np.concatenate((moved.start, moved.end)))
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        rate = np.zeros(fabric.topology.links)
        for leg, start, end, share in zip(moved.leg, moved.start, moved.end, moved.share, strict=True):
            if start <= low and high <= end:
                link, weight, count = network._loads[leg]
                rate[link] += share / (end - start) * SECOND * weight * count
        # a tick's rounding counts where a stretch is short
        assert (rate <= fabric.topology.bandwidth * (1 + 1e-9 + 4 / (high - low))).all()


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 8), st.floats(0.1, 8), st.floats(0, 2))
def test_two_on_a_link_take_their_closed_form(a: float, b: float, late: float) -> None:
    bench = Bench(line(3))
    (one,) = bench.network.add(ways(bench.network.fabric, [(0, 1)]))
    bench.at(0.0, "a", one, a * GB)
    bench.at(late, "b", one, b * GB)
    bench.env.run_down()
    if a <= late:
        expected = a, late + b
    else:
        left, first = a - late, min(a - late, b)
        expected = (late + 2 * first, late + left + b) if left <= b else (late + left + b, late + 2 * first)
    assert (bench.ends["a"], bench.ends["b"]) == pytest.approx(expected, rel=1e-9, abs=1e-11)


def ring_job(ranks: int, programs: list[list[tuple[str, str, int, tuple[int, ...]]]]) -> Job:
    families = [
        Family("world", "dp", np.arange(ranks)[None, :]),
        Family("pairs", "tp", np.arange(ranks).reshape(-1, 2)),
    ]
    messages = [Message("world", "all_reduce", 3e8), Message("pairs", "all_gather", 2e8)]
    return job([program(ops) for ops in programs], [rank % len(programs) for rank in range(ranks)], [0.3, 0.2],
               messages, families)  # fmt: skip


OPS = [
    ("compute", "compute", 0, ()),
    ("collective", "dp", 0, (0,)),
    ("collective", "tp", 1, (0,)),
    ("compute", "compute", 1, (2,)),
    ("collective", "dp", 0, (3,)),
    ("compute", "compute", 0, (4,)),
]


@pytest.mark.parametrize("ranks", [4, 8])
def test_a_job_alone_on_a_shared_network_takes_the_same_time_step_after_step(ranks: int) -> None:
    work, fabric = ring_job(ranks, [OPS]), line(ranks, latency=1e-5)
    patterns = patterns_on(fabric, work)
    folded = run(work, quotient(work, fabric, patterns, equitable(work, fabric, patterns)))
    env = Clock()
    network = SharedNetwork(env, fabric)
    wiring = network.adopt(quotient(work, fabric, patterns, discrete(work, fabric)))
    repeated = Repeated(env, network, Lineup(work, wiring))
    repeated.start()
    Alarm(env, folded.end * 5 // 2, [lambda _: repeated.stop()])
    env.run_down()
    assert list(repeated.times) == [folded.end] * 3


def test_a_job_and_a_transfer_on_its_links_slow_each_other_and_only_while_they_meet() -> None:
    work, fabric = ring_job(4, [OPS]), line(8)
    patterns = patterns_on(fabric, work)

    def steps(pair: tuple[int, int], nbytes: float) -> tuple[list[int], float]:
        bench = Bench(fabric)
        wiring = bench.network.adopt(quotient(work, fabric, patterns, discrete(work, fabric)))
        repeated = Repeated(bench.env, bench.network, Lineup(work, wiring))
        repeated.start()
        (one,) = bench.network.add(ways(fabric, [pair]))
        bench.at(0.1, "kv", one, nbytes)
        Alarm(bench.env, 8 * SECOND, [lambda _: repeated.stop()])
        bench.env.run_down()
        return list(repeated.times), bench.ends["kv"]

    alone, _ = steps((0, 1), 0.0)
    # the job's ring keeps to the links among 0 to 3
    beside, end = steps((0, 1), 2 * GB)
    apart, free = steps((6, 5), 2 * GB)
    assert len(set(alone)) == len(set(apart)) == 1
    assert apart == alone and free == 2.1
    assert beside[0] > alone[0] and end > 2.1
    assert beside[-1] == alone[0]


def test_a_job_is_folded_only_over_links_that_nobody_else_uses() -> None:
    work, fabric = ring_job(4, [OPS]), line(4)
    folded = record(work, fabric).wiring
    for use in ("add", "claim"):
        for first in (True, False):
            network = SharedNetwork(Clock(), fabric)
            calls = [
                lambda network=network: network.adopt(folded, np.zeros(0, dtype=np.int64)),  # type: ignore[misc]
                lambda network=network, use=use: (  # type: ignore[misc]
                    network.claim([0]) if use == "claim" else network.add(ways(fabric, [(0, 1)]))
                ),
            ]
            (before, after) = calls if first else calls[::-1]
            before()
            with pytest.raises(TopologyError, match="is used by others"):
                after()


def test_a_folded_job_says_what_is_its_own() -> None:
    work, fabric = ring_job(4, [OPS]), line(4)
    for others in (None, np.array([0])):
        with pytest.raises(TopologyError, match="is used by others"):
            SharedNetwork(Clock(), fabric).adopt(record(work, fabric).wiring, others)  # type: ignore[arg-type]


def test_a_job_with_faults_is_not_taken_in() -> None:
    work, fabric = ring_job(4, [OPS]), line(4)
    struck = record(work, fabric, fold=False, faults=[Fault(at=0.1, link="chip 0 -> chip 1", share=0.5)]).wiring
    with pytest.raises(TopologyError, match="without faults"):
        SharedNetwork(Clock(), fabric).adopt(struck)  # type: ignore[arg-type]


def test_a_claim_counts_what_others_have_on_its_links() -> None:
    fabric = line(6)
    bench = Bench(fabric)
    env, network = bench.env, bench.network
    told: list[float] = []
    mine, crossing, elsewhere = network.add(ways(fabric, [(0, 1), (5, 1), (3, 4)]))
    claim = network.claim(mine.legs[0].links, lambda: told.append(env.now / SECOND))
    seen: dict[float, int] = {}
    bench.at(2.0, "crossing", crossing, 1 * GB)
    bench.at(2.5, "again", crossing, 1 * GB)
    bench.at(0.0, "elsewhere", elsewhere, 9 * GB)
    Alarm(env, SECOND // 2, [lambda _: network.start(mine, [lambda _: None], GB, claim)])
    for time in (1.0, 2.2, 3.0, 7.0):
        Alarm(env, round(time * SECOND), [lambda _, time=time: seen.__setitem__(time, claim.foreign)])  # type: ignore[misc]
    env.run_down()
    assert seen == {1.0: 0, 2.2: 1, 3.0: 2, 7.0: 0}
    assert told == [2.0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.floats(0.05, 2)), min_size=2, max_size=16))
def test_leaving_out_links_that_say_nothing_new_changes_no_rate(flows: list[tuple[int, int, float]]) -> None:
    network = SharedNetwork(Clock(), line(10))
    for source, by, cap in flows:
        network.add(ways(network.fabric, [(source, (source + by) % 10)], cap=cap * GB))
    active = tuple(range(len(flows)))
    assert network._solved(active) == pytest.approx(network._wiring.rates(active), rel=1e-12)
