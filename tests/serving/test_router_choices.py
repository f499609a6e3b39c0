"""Routers: who is chosen, and what it is good for."""

import random
from collections import Counter
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import Linear, run, spec

from scaleout.io.requests import Trace
from scaleout.serving.recent import Recent
from scaleout.serving.request import STATES, Request
from scaleout.serving.router import Router
from scaleout.specs import Cache, Pool
from scaleout.specs import Router as Rules

STEP = 1000


class Blocks:
    total, size = 100, 16


class Rank:
    blocks = Blocks()


class Stub:
    """A replica whose load is said."""

    ranks = (Rank(),)

    def __init__(self, number: int) -> None:
        self.number, self.load, self.waiting, self.requests = number, 0, 0, 0


def router(policy: str, count: int, **more: object) -> tuple[Router, list[Stub]]:
    replicas = [Stub(at) for at in range(count)]
    return Router(Rules(policy=policy, **more), replicas), replicas


def asked(number: int = 0, inputs: int = 100, session: int = -1, blocks: tuple[int, ...] = ()) -> Request:
    return Request(number, 0, inputs, 10, 0, session, blocks, 16 if blocks else 0)


changes = st.lists(
    st.one_of(
        st.tuples(st.just("load"), st.integers(0, 6), st.integers(0, 30)),
        st.tuples(st.just("lose"), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("recover"), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("waiting"), st.integers(0, 6), st.integers(0, 3)),
    ),
    max_size=300,
)


@given(changes=changes, most=st.none() | st.integers(1, 3))
@settings(deadline=None)
def test_least_load_is_the_least_of_all(changes, most):
    one, replicas = router("least_load", 7, max_waiting=most)
    lost: set[int] = set()
    for what, at, value in changes:
        if what == "load":
            replicas[at].load = value
            if at not in lost:
                one.changed(replicas[at])
        elif what == "waiting":
            replicas[at].waiting = value
        elif what == "lose" and at not in lost:
            lost.add(at)
            one.lose(at)
        elif what == "recover" and at in lost:
            lost.discard(at)
            replicas[at] = Stub(at)
            one.recover(replicas[at])
        able = [replica for replica in replicas if replica.number not in lost]
        able = [replica for replica in able if most is None or replica.waiting < most]
        least = min(able, key=lambda replica: (replica.load, replica.number), default=None)
        assert one.pick(asked()) is least
        assert one.empty == (len(lost) == 7)


def test_round_robin_goes_past_those_that_are_lost_or_full():
    one, replicas = router("round_robin", 4, max_waiting=2)
    one.lose(1)
    replicas[2].waiting = 2
    assert [one.pick(asked()).number for _ in range(4)] == [0, 3, 0, 3]
    replicas[2].waiting = 1
    assert [one.pick(asked()).number for _ in range(3)] == [0, 2, 3]


@pytest.mark.parametrize("policy", ["round_robin", "least_load", "power_of_two", "prefix", "sticky"])
def test_nobody_is_chosen_when_all_are_full_or_lost(policy):
    one, replicas = router(policy, 3, max_waiting=1)
    for replica in replicas:
        replica.waiting = 1
    assert one.pick(asked(session=1, blocks=(1, 2))) is None
    replicas[1].waiting = 0
    assert one.pick(asked(session=2, blocks=(1, 2))) is replicas[1]
    for number in range(3):
        one.lose(number)
    assert one.pick(asked(session=1)) is None and one.empty


def test_two_choices_keep_queues_short():
    """Balls into bins: ln ln n / ln 2 above the mean instead of about ln n / ln ln n (Mitzenmacher 2001)."""
    count = 1000
    two, replicas = router("power_of_two", count)
    for _ in range(count):
        two.pick(asked()).load += 1
    chance = random.Random(1)
    thrown = Counter(chance.randrange(count) for _ in range(count))
    assert max(replica.load for replica in replicas) <= 4 < max(thrown.values())


def test_two_that_are_drawn_are_never_the_same():
    one, replicas = router("power_of_two", 2)
    replicas[0].load = 5
    assert {one.pick(asked()).number for _ in range(100)} == {1}


def test_sessions_stay_where_they_are():
    one, replicas = router("sticky", 5)
    home = {session: one.pick(asked(session=session)).number for session in range(50)}
    assert set(Counter(home.values()).values()) == {10}
    one.lose(2)
    for session, number in home.items():
        found = one.pick(asked(session=session)).number
        assert found == number if number != 2 else found != 2
    one.recover(Stub(2))
    assert {session: one.pick(asked(session=session)).number for session in range(50)} == home
    replicas[0].load = replicas[1].load = replicas[3].load = 9
    for replica in replicas:
        one.changed(replica)
    assert one.pick(asked()).number == 2


def test_a_prompt_goes_where_most_of_it_was_sent():
    one, replicas = router("prefix", 3)
    replicas[0].load = 5
    one.changed(replicas[0])
    assert one.pick(asked(blocks=(1, 2, 3, 4))) is replicas[1]
    replicas[1].load = 50
    one.changed(replicas[1])
    assert one.pick(asked(blocks=(1, 2, 3, 5))) is replicas[1]
    # three blocks of 16 tokens are 0.3 of the first, and less of the second
    assert one.pick(asked(inputs=160, blocks=(1, 2, 3, *range(10, 17)))) is replicas[1]
    assert one.pick(asked(inputs=161, blocks=(1, 2, 3, *range(20, 27)))) is replicas[2]
    # nothing of it comes after something else
    assert one.pick(asked(blocks=(9, 2, 3, 4))) is replicas[2]


def test_an_overloaded_replica_does_not_get_what_it_holds():
    for requests, idle, kept in ((3, 0, True), (4, 0, False), (8, 4, True), (9, 4, False), (9, 5, True)):
        one, (holder, other) = router("prefix", 2, overload=2.0, spare=3)
        assert one.pick(asked(blocks=(1, 2, 3))) is holder
        holder.requests, other.requests = requests, idle
        holder.load, other.load = 10 * requests, 10 * idle
        one.changed(holder)
        one.changed(other)
        assert one.pick(asked(blocks=(1, 2, 3))) is (holder if kept else other)


@given(
    sent=st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 12), unique=True, max_size=6)), max_size=60),
    asking=st.lists(st.integers(0, 12), unique=True, max_size=6), forget=st.integers(0, 60),
)  # fmt: skip
def test_blocks_that_were_sent_lately(sent, asking, forget):
    recent = Recent([5 * 16] * 3)
    plain: list[list[int]] = [[], [], []]
    for step, (place, blocks) in enumerate(sent):
        if step == forget:
            recent.forget(1)
            plain[1] = []
        recent.sent(place, asked(blocks=tuple(blocks)))
        for name in reversed(blocks):
            plain[place] = [one for one in plain[place] if one != name] + [name]
        plain[place] = plain[place][-5:]
    depths = []
    for held in plain:
        depth = 0
        while depth < len(asking) and asking[depth] in held:
            depth += 1
        depths.append(depth)
    best = max(depths)
    expected = ([place for place in range(3) if depths[place] == best] if best else [], best)
    assert recent.holders(asked(blocks=tuple(asking))) == expected
    assert sorted(recent._who) == sorted({name for held in plain for name in held})


def test_of_conversations_more_is_found_again_by_a_router_that_knows_of_it():
    trace = [
        (int(row.arrival * 1e12), row.inputs, row.outputs, 0, row.session, row.blocks, row.block_tokens)
        for row in Trace("workloads/traces/chat-multi-turn.jsonl")
    ]
    steps = Linear(10**10, 5 * 10**7, 10**5)

    def found(policy: str) -> float:
        """Share of the prompts' tokens that are found in the prefix cache."""
        experiment = spec((Pool(replicas=4),), router=Rules(policy=policy), cache=Cache(prefix=True))
        log, _ = run(trace, experiment, blocks=20_000, timer=steps)
        return sum(log.cached) / sum(log.inputs)

    shares = {policy: found(policy) for policy in ("round_robin", "least_load", "sticky", "prefix")}
    assert shares["prefix"] >= shares["sticky"] > 1.2 * max(shares["round_robin"], shares["least_load"])


def test_requests_are_rejected_when_all_are_full_and_counted():
    experiment = spec(
        (Pool(replicas=2),), scheduler={"max_sequences": 1}, router=Rules(policy="least_load", max_waiting=2)
    )
    log, cluster = run([(0, 10, 5)] * 10, experiment, timer=Linear(STEP, 0, 0))
    states = Counter(STATES[state] for state in log.state)
    # all come before the first step: two wait at each
    assert states == {"served": 4, "rejected": 6} and cluster.seen == 10


@pytest.mark.parametrize("policy", ["round_robin", "least_load", "power_of_two"])
def test_prompts_that_were_prefilled_together_go_to_different_replicas(policy):
    pools = (Pool(role="prefill"), Pool(role="decode", replicas=4))
    log, _ = run([(0, 10, 50)] * 8, spec(pools, router=Rules(policy=policy)), timer=Linear(STEP, 0, 0))
    counts = Counter(log.replica)
    assert counts.total() == 8 and set(counts) <= {1, 2, 3, 4}
    if policy != "power_of_two":
        assert set(counts.values()) == {2}
    assert mean(counts.values()) >= 2
