"""Attention ranks that share experts: they go from step to step together, and the slowest decides."""

import made_up
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import EXPERTS, Kept, Linear, left_behind, run, spec, table

from scaleout.serving.request import Request
from scaleout.serving.work import IDLE, Work
from scaleout.specs import POLICIES, Pool


def ranks(count: int) -> tuple[Pool, ...]:
    return (Pool(dp=count, ep=count),)


class ByRank:
    """A step takes what the rank with the most to do takes: so many ticks a sequence, of each rank its own."""

    def __init__(self, *ticks: int) -> None:
        self.ticks = ticks

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        return (1000 + max(each * (work.decodes + work.prompts) for each, work in zip(self.ticks, works, strict=True)),)


def test_the_slowest_rank_decides_and_idle_ones_take_part():
    timer = Kept(ByRank(1, 500))
    log, _ = run([(0, 10, 5), (0, 10, 9)], spec(ranks(2), model=EXPERTS), timer=timer)
    # both decode as long as the first does, at the pace of the second, which then goes on by itself
    assert dict(zip(log.number, log.finish, strict=True)) == {0: 5 * 1500, 1: 9 * 1500}
    assert all(len(works) == 2 for works in timer.works)
    assert timer.works[-1][0] == IDLE and timer.works[-1][1].decodes == 1
    log, _ = run([(0, 10, 9), (0, 10, 5)], spec(ranks(2), model=EXPERTS), timer=ByRank(1, 500))
    assert dict(zip(log.number, log.finish, strict=True)) == {1: 5 * 1500, 0: 5 * 1500 + 4 * 1001}


def test_a_prompt_on_one_rank_holds_up_all():
    class Prompts:
        def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
            return (100 + max(work.prompt_tokens for work in works),)

    log, _ = run([(0, 10, 20), (1000, 400, 1)], spec(ranks(2), model=EXPERTS), timer=Prompts())
    # the step with the prompt, on the other rank, is the one long gap of the first
    assert log.gaps == {100: 18, 500: 1}


def test_requests_go_to_the_rank_with_the_fewest_tokens():
    _, cluster = run([], spec(ranks(4), model=EXPERTS))
    (replica,) = cluster.replicas
    rows = [(0, 100, 50), (0, 10, 5), (0, 10, 5), (0, 10, 5), (0, 10, 5), (0, 10, 200), (0, 10, 5)]
    requests = [Request(at, *row) for at, row in enumerate(rows)]
    for request in requests:
        replica.submit(request)
    assert [replica.rank_of(request) for request in requests] == [0, 1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("count", [2, 8])
def test_even_requests_are_served_evenly(count):
    timer = Kept(Linear(1000, 0, 0))
    run([(0, 10, 40)] * (count * 5), spec(ranks(count), model=EXPERTS), timer=timer)
    assert all(len({work.decodes for work in works}) == 1 for works in timer.works)


@given(
    rows=made_up.rows, policy=st.sampled_from(POLICIES), count=st.sampled_from([2, 4]), blocks=st.integers(50, 120),
    most=st.integers(1, 20),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_many_steps_at_once_are_equal_to_single_steps(rows, policy, count, blocks, most):
    experiment = spec(ranks(count), model=EXPERTS, scheduler={"policy": policy, "max_sequences": most})
    log, cluster = run(rows, experiment, blocks=blocks)
    single, _ = run(rows, experiment, blocks=blocks, closed=False)
    assert table(log) == table(single)
    assert log.gaps == single.gaps and log.steps == single.steps and log.busy == single.busy
    assert sorted(log.number) == list(range(len(rows)))
    assert sum(log.gaps.values()) == sum(log.outputs) - len(rows)
    assert left_behind(cluster, blocks, most) == []
