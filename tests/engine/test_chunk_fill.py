"""Levels that are kept up as lanes come and go, against levels worked out from nothing, and max-min rates."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_cases import networks

from scaleout.engine.chunks import Lanes, concatenate
from scaleout.engine.chunks.fill import settle
from scaleout.engine.chunks.fold import folded
from scaleout.engine.chunks.loop import as_lists, play
from scaleout.engine.chunks.state import Net, State, net_of, state_of
from scaleout.engine.chunks.wires import Wired, wired
from scaleout.network import max_min


def watched(w: Wired) -> int:
    """Run, and compare after each change; how many there were."""
    count, seen = len(w.capacity), [0]

    def watch(turn, dirty, changed, queue, queued, full, was, moved, links, stamp, alone, *rest):
        result = settle(turn, dirty, changed, queue, queued, full, was, moved, links, stamp, alone, *rest)
        again = [math.inf] * count
        blank = [0.0] * count, [0] * count, [0] * count
        settle(0, count, 0, list(range(count))[::-1], [1] * count, again, *blank, 1, alone, *rest)
        assert again == full, "not the bits of a new start"
        users, room, using, lane_of = rest[8:12]
        on = [lane_of[users[u]] for at in range(count) for u in range(room[at], room[at] + using[at])]
        if on:
            active = np.unique(on)
            entries = np.flatnonzero(np.isin(w.lane, active))
            flow = np.searchsorted(active, w.lane[entries])
            ones = np.ones(len(entries), dtype=np.int64)
            fair = max_min(w.capacity, w.link[entries], flow, (w.weight * w.number)[entries], ones, w.alone[active])
            mine = w.alone[active].copy()
            np.minimum.at(mine, flow, np.array(full)[w.link[entries]])
            assert np.allclose(mine, fair, rtol=1e-9, atol=0)
        seen[0] += 1
        return result

    net = net_of(w)
    out = [-1] * w.lanes, [-1] * w.lanes, [0] * 4
    play.replacing({"settle": watch})(
        Net(*as_lists(net)), State(*as_lists(state_of(w, net))), w.stride, list(range(w.lanes)), 0, *out
    )
    return seen[0]


@settings(max_examples=60, deadline=None)
@given(networks())
def test_levels_are_those_of_a_new_start_and_rates_are_fair(given_):
    watched(wired(*given_))


@settings(max_examples=20, deadline=None)
@given(networks(), st.booleans())
def test_the_same_where_a_lane_stands_for_several(given_, apart):
    case, capacity = given_
    small = folded(wired(*tripled(case, capacity, apart)))
    if small is not None:
        watched(small.wired)


def tripled(case: Lanes, capacity: np.ndarray, apart: bool) -> tuple[Lanes, np.ndarray]:
    columns = {name: getattr(case, name) for name in Lanes.__slots__}
    parts = [Lanes(**columns | {"link": case.link + i * len(capacity) * apart}) for i in range(3)]
    return concatenate(*parts), np.tile(capacity, 3)


def test_a_chain_of_links_changes_from_end_to_end():
    """Link i of capacity i + 1 carries lanes i and i + 1: what one lane takes or leaves is felt by all."""
    n, rng = 12, np.random.default_rng(0)
    first = np.arange(n + 1) * 2
    case = Lanes(
        steps=np.full(n, 3),
        size=rng.integers(1, 50, 3 * n) * 1e3,
        latency=np.zeros(n, dtype=np.int64),
        cap=np.full(n, np.inf),
        first=first,
        link=np.column_stack((np.arange(n), np.arange(1, n + 1))).ravel(),
        weight=np.ones(2 * n),
        before=np.zeros(0, dtype=np.int64),
        behind=np.zeros(0, dtype=np.int64),
        lag=np.zeros(0, dtype=np.int64),
        arrived=np.zeros(0, dtype=bool),
    )
    assert watched(wired(case, np.arange(1.0, n + 2) * 1e9)) > n
