"""The chunk engine against closed forms, recurrences, a slow simulator, and itself."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_cases import PS, lanes, networks, recurrence, ring, slow

from scaleout.engine.chunks import LaneRun, Lanes, concatenate, run_lanes
from scaleout.engine.chunks import loop as chunk_loop
from scaleout.engine.chunks.fold import folded
from scaleout.engine.chunks.loop import by_events
from scaleout.engine.chunks.rows import by_rows, rows_apply
from scaleout.engine.chunks.state import Net, State, net_of, state_of
from scaleout.engine.chunks.wires import wired
from scaleout.errors import WorkloadError

SIZES = (2, 3, 5, 6, 7, 8, 12, 16)
FEW = settings(max_examples=60, deadline=None)


def same(one: LaneRun, other: LaneRun) -> None:
    assert one.end == other.end
    for field in ("lane_end", "started", "ended"):
        assert (getattr(one, field) == getattr(other, field)).all(), field


@pytest.mark.parametrize("n", SIZES)
def test_ring_meets_its_closed_form(n):
    steps, nbytes, bandwidth, latency = 2 * (n - 1), 1e6, 50e9, 1_500_000
    run = run_lanes(ring(n, steps, [nbytes / n] * n, [latency] * n), np.full(n, bandwidth))
    expected = steps * (latency / PS + nbytes / n / bandwidth)
    assert abs(run.end / PS - expected) <= 1e-9 * expected + steps / PS
    assert run.events == run.solves == 0


@pytest.mark.parametrize("n", SIZES)
def test_ring_with_unequal_hops_takes_its_longest_window(n):
    """2(n-1) S/(nB) + the largest sum of latencies over 2(n-1) consecutive hops."""
    steps, size, bandwidth = 2 * (n - 1), 12_345.0, 50e9
    latency = np.random.default_rng(n).integers(500_000, 9_000_000, n)
    run = run_lanes(ring(n, steps, [size] * n, latency), np.full(n, bandwidth))
    windows = [sum(latency[(i + j) % n] for j in range(steps)) for i in range(n)]
    expected = steps * size / bandwidth + max(windows) / PS
    assert abs(run.end / PS - expected) <= 1e-9 * expected + steps / PS


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("by", ["rows", "events"])
def test_uneven_ring_with_unequal_links_follows_the_recurrence(n, by):
    draw = np.random.default_rng(n)
    steps = 2 * (n - 1)
    case = ring(n, steps, draw.integers(0, 20_000, n * steps), draw.integers(0, 5_000_000, n))
    rate = draw.choice([50e9, 25e9, 12.5e9], n)
    w = wired(case, rate)
    outcome = (by_rows if by == "rows" else by_events)(w, compiled=False, record=False)
    arrived = (outcome.ended + case.latency) / PS
    assert np.abs(arrived - recurrence(case, rate)).max() <= 1e-9 * arrived.max() + steps * n / PS


@FEW
@given(networks())
def test_agrees_with_a_slow_simulator(given_):
    case, capacity = given_
    run = run_lanes(case, capacity)
    expected = np.array(slow(case, capacity))
    # a rate or a start that is a tick off moves what shares a link with it by as much
    assert np.abs(run.lane_end / PS - expected).max() <= 1e-9 * expected.max() + 20 * case.sends / PS


@FEW
@given(networks())
def test_recurrence_and_events_give_the_same_ticks(given_):
    case, capacity = given_
    w = wired(case, 1e4 * capacity)
    if rows_apply(w):
        rows, events = (by(w, compiled=False, record=True) for by in (by_rows, by_events))
        assert (rows.started == events.started).all()
        assert (rows.ended == events.ended).all()


@settings(max_examples=25, deadline=None)
@given(networks())
def test_plain_and_compiled_give_the_same_bits(given_):
    case, capacity = given_
    for record in (False, True):
        one, other = (run_lanes(case, capacity, compiled=c, record=record) for c in (False, True))
        same(one, other)
        assert (one.events, one.solves) == (other.events, other.solves)


@FEW
@given(networks(), st.integers(2, 3), st.booleans())
def test_copies_fold_to_the_same_ticks(given_, copies, apart):
    """Copies on the same links, or each on links of its own."""
    case, capacity = given_
    parts = []
    for i in range(copies):
        shift = i * len(capacity) if apart else 0
        columns = {name: getattr(case, name) for name in Lanes.__slots__}
        parts.append(Lanes(**columns | {"link": case.link + shift}))
    many = concatenate(*parts)
    links = np.tile(capacity, copies)
    assert folded(wired(many, links)) is not None
    same(run_lanes(many, links, fold=True, record=True), run_lanes(many, links, record=True))
    same(run_lanes(many, links, fold=True), run_lanes(many, links))


@pytest.mark.parametrize("slow_link", [False, True])
@pytest.mark.parametrize("uneven", [False, True])
def test_rings_that_share_a_switch_fold(slow_link, uneven):
    """Eight rings of four, all over one link that is too narrow for them; in one case two of them are slow."""
    n, steps = 4, 6
    size = np.tile([4e3, 1e3, 0.0, 2e3, 3e3, 1e3], n) if uneven else [4e3] * n
    capacity = np.full(8 * n + 1, 1e9)
    capacity[-1] = 20e9
    if slow_link:
        capacity[[0, 4]] = 3e8
    parts = []
    for i in range(8):
        part = ring(n, steps, size, [1000] * n, shared=(8 * n,))
        own = np.where(part.link < n, part.link + i * n, part.link)
        parts.append(Lanes(**{name: getattr(part, name) for name in Lanes.__slots__} | {"link": own}))
    case = concatenate(*parts)
    small = folded(wired(case, capacity))
    assert small is not None and small.wired.lanes == (5 if slow_link else 1)
    one, other = run_lanes(case, capacity, fold=True, record=True), run_lanes(case, capacity, record=True)
    same(one, other)
    assert other.solves > 0


@FEW
@given(networks())
def test_no_link_is_above_capacity_and_all_bytes_are_sent(given_):
    case, capacity = given_
    w = wired(case, capacity)
    log: list[tuple[int, int, float]] = []
    plain = chunk_loop.retimed

    def watch(a, now, rate, *state):
        log.append((now, a, rate))
        return plain(a, now, rate, *state)

    net, state = (tuple(column.tolist() for column in part) for part in (net_of(w), state_of(w, net_of(w))))
    started, ended, first = [-1] * w.sends, [-1] * w.sends, (np.cumsum(w.steps) - w.steps).tolist()
    loop = chunk_loop.play.replacing({"retimed": watch})
    loop(Net(*net), State(*state), w.stride, first, 1, started, ended, [0] * 4)
    instants = sorted({*started, *ended, *(now for now, _, _ in log)})
    lane = np.repeat(np.arange(w.lanes), w.steps)
    rate, sent = np.where(w.flowing, w.alone, 0.0), np.zeros(w.sends)
    for now, then in itertools.pairwise(instants):
        for date, a, value in log:
            if date == now:
                rate[a] = value
        sends = [i for i in range(w.sends) if started[i] <= now and then <= ended[i]]
        active = np.zeros(w.lanes)
        active[lane[sends]] = rate[lane[sends]]
        load = np.bincount(case.link, case.weight * active[case.lane], len(capacity))
        assert (load <= capacity * (1 + 1e-9)).all()
        sent[sends] += rate[lane[sends]] * (then - now) / PS
    size = case.size if case.uneven else np.repeat(case.size, case.steps)
    held = np.isfinite(w.alone)[lane]
    # a tick more or less at either end, and at each change of rate
    assert (
        np.abs(sent - size)[held].max(initial=0) <= 1e-9 * size.max() + 20 * rate[np.isfinite(rate)].max(initial=0) / PS
    )


def test_bytes_over_links_are_sizes_by_weights():
    case = lanes(
        steps=[2, 3], size=[1.0, 2.0, 3.0, 4.0, 5.0], links=[[(0, 1.0), (1, 0.25)], [(1, 0.5), (1, 0.25), (2, 1.0)]]
    )
    assert run_lanes(case, np.ones(4)).link_bytes.tolist() == [3.0, 0.75 + 9.0, 12.0, 0.0]


def test_lanes_on_one_link_share_it_and_speed_up_when_one_leaves():
    """1 kB and 3 kB at 1 GB/s: each at half until 2 us, then one alone: 4 us in all."""
    case = lanes(steps=[1, 1], size=[1e3, 3e3], links=[[(0, 1.0)], [(0, 1.0)]])
    assert run_lanes(case, np.array([1e9])).lane_end.tolist() == [2_000_000, 4_000_000]


def test_a_sprayed_lane_loads_each_path_by_its_share():
    case = lanes(steps=[1, 1], size=[4e3, 1e3], links=[[(0, 0.5), (1, 0.5)], [(0, 1.0)]])
    run = run_lanes(case, np.array([1e9, 1e9]))
    # fair: r/2 + r = 1 GB/s
    assert run.lane_end[1] == 1_500_000
    assert run.link_bytes.tolist() == [3e3, 2e3]


def test_sends_of_nothing_take_latency_alone_and_self_sends_nothing():
    case = lanes(
        steps=[3, 2], size=[0.0, 5e3], latency=[10, 0], links=[[(0, 1.0)], []], edges=[(0, 0, 1, True), (0, 1, 0, True)]
    )
    assert run_lanes(case, np.array([1e9])).lane_end.tolist() == [30, 20]


def test_a_late_lane_holds_those_behind_it():
    case = lanes(steps=[1, 1], size=[0.0, 0.0], links=[[], []], edges=[(0, 1, 0, False)], begin=[777, 0])
    for fold in (False, True):
        assert run_lanes(case, np.zeros(0), fold=fold).lane_end.tolist() == [777, 777]


def test_lanes_that_nobody_holds_up_and_others_run_side_by_side():
    free, held = ring(4, 6, [1e4] * 4, [5] * 4), ring(3, 4, [2e4] * 3, [7] * 3, shared=(3,))
    both = concatenate(free, Lanes(**{n: getattr(held, n) for n in Lanes.__slots__} | {"link": held.link + 4}))
    capacity = np.full(8, 1e9)
    together = run_lanes(both, capacity, record=True)
    apart = run_lanes(free, capacity, record=True), run_lanes(held, capacity, record=True)
    assert together.ended.tolist() == [*apart[0].ended, *apart[1].ended]
    assert together.lane_end.tolist() == [*apart[0].lane_end, *apart[1].lane_end]
    assert together.events == apart[1].events > 0 == apart[0].events


@pytest.mark.parametrize("fold", [False, True])
def test_a_dead_link_stalls_with_its_name(fold):
    case = ring(4, 6, [1e4] * 4, [5] * 4)
    with pytest.raises(WorkloadError, match=r"stalled.*rank 2, step 0 of 6, on port 2 without.*3 other lanes wait"):
        run_lanes(
            case, np.array([1e9, 1e9, 0.0, 1e9]), fold=fold, lane_name="rank {}".format, link_name="port {}".format
        )


@pytest.mark.parametrize("fold", [False, True])
def test_a_circle_of_waits_is_named(fold):
    case = lanes(
        steps=[1, 2, 2, 2], size=[1.0] * 4, links=[[]] * 4, edges=[(1, 2, 0, True), (2, 3, 0, False), (3, 1, -1, True)]
    )
    with pytest.raises(WorkloadError, match=r"deadlock: 3 lanes .*lane 1, step 0 of 2.*lane 3, step [01].*lane 2"):
        run_lanes(case, np.zeros(0), fold=fold)


@pytest.mark.parametrize("shared", [(), (2,)])
def test_times_that_are_too_long_are_refused(shared):
    case = ring(2, 2, [1e13, 1e13], [0, 0], shared=shared)
    with pytest.raises(WorkloadError, match="takes more than"):
        run_lanes(case, np.full(3, 1e6))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": [-1.0, 1.0]}, r"size\[0\] is -1.0"),
        ({"size": [1.0] * 5}, "needs 2 or 4"),
        ({"latency": [0]}, "latency has 1 elements and needs 2"),
        ({"edges": [(0, 2, 0, True)]}, r"behind\[0\] is 2; accepted: lanes 0 to 1"),
        ({"links": [[(0, np.nan)], []]}, "weight"),
        ({"links": [[(9, 1.0)], []]}, "load link 9; there are links 0 to 0"),
    ],
)
def test_malformed_lanes_are_refused(change, said):
    with pytest.raises(WorkloadError, match=said):
        run_lanes(lanes(**{"steps": [2, 2], "size": [1.0, 1.0], "links": [[(0, 1.0)], []]} | change), np.ones(1))


def test_small_runs_do_not_load_numba():
    code = (
        "import sys, numpy as np; sys.path.insert(0, 'tests/engine'); from lane_cases import ring;"
        "from scaleout.engine.chunks import run_lanes;"
        "run_lanes(ring(8, 14, [1e6] * 8, [5] * 8, shared=(8,)), np.full(9, 1e9));"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
