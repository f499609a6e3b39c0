"""Lanes for tests, and two independent oracles: a max-plus recurrence and a slow simulator in real time."""

from collections import defaultdict

import numpy as np
from hypothesis import strategies as st

from scaleout.engine.chunks import Lanes
from scaleout.network import max_min

PS = 1e12


def lanes(**given) -> Lanes:
    """Lanes from lists; `links` lists (link, weight) of each lane, `edges` rows of before, behind, lag, arrived."""
    count, links, edges = len(given["steps"]), given["links"], given.get("edges", [])
    columns = list(zip(*edges, strict=True)) or [[]] * 4
    flat = [entry for row in links for entry in row]
    return Lanes(
        steps=np.array(given["steps"], dtype=np.int64),
        size=np.array(given["size"], dtype=float),
        latency=np.array(given.get("latency", [0] * count), dtype=np.int64),
        cap=np.array(given.get("cap", [np.inf] * count), dtype=float),
        first=np.concatenate(([0], np.cumsum([len(row) for row in links]))).astype(np.int64),
        link=np.array([at for at, _ in flat], dtype=np.int64),
        weight=np.array([weight for _, weight in flat], dtype=float),
        before=np.array(columns[0], dtype=np.int64),
        behind=np.array(columns[1], dtype=np.int64),
        lag=np.array(columns[2], dtype=np.int64),
        arrived=np.array(columns[3], dtype=bool),
        begin=np.array(given["begin"], dtype=np.int64) if "begin" in given else None,
    )


def ring(n: int, steps: int, size, latency, *, shared=()) -> Lanes:
    """A ring of n lanes, each with a link of its own; links in `shared` carry all lanes too."""
    return lanes(
        steps=[steps] * n,
        size=size,
        latency=latency,
        links=[[(i, 1.0), *((at, 1.0) for at in shared)] for i in range(n)],
        edges=[(i, (i + 1) % n, 1, True) for i in range(n)],
    )


def recurrence(case: Lanes, rate: np.ndarray) -> list[float]:
    """Arrival of the last step of each lane [s], where every lane has a rate of its own: by recursion."""
    into, known = defaultdict(list), {}
    for b, a, lag, arrived in zip(case.before, case.behind, case.lag, case.arrived, strict=True):
        into[int(a)].append((int(b), int(lag), bool(arrived)))
    at = np.cumsum(case.steps) - case.steps

    def left(a: int, k: int) -> float:
        if (a, k) not in known:
            start = left(a, k - 1) if k else (0.0 if case.begin is None else case.begin[a] / PS)
            for b, lag, arrived in into[a]:
                if 0 <= k - lag < case.steps[b]:
                    start = max(start, left(b, k - lag) + arrived * case.latency[b] / PS)
            known[a, k] = start + case.size[at[a] + k if case.uneven else a] / rate[a]
        return known[a, k]

    for k in range(int(case.steps.max())):
        for a in range(len(case.steps)):
            if k < case.steps[a]:
                left(a, k)
    return [left(a, int(n) - 1) + case.latency[a] / PS for a, n in enumerate(case.steps)]


def slow(case: Lanes, capacity: np.ndarray) -> list[float]:
    """Arrival of the last step of each lane [s]: real time, all rates solved again whenever anything happens."""
    count, now = len(case.steps), 0.0
    step, left, arrived = [0] * count, [[] for _ in range(count)], [[] for _ in range(count)]
    open_ = {}  # lane -> bytes to go
    at = np.cumsum(case.steps) - case.steps
    begin = np.zeros(count) if case.begin is None else case.begin / PS

    def may_start(a: int) -> bool:
        if a in open_ or step[a] == case.steps[a] or begin[a] > now:
            return False
        for b, behind, lag, arrival in zip(case.before, case.behind, case.lag, case.arrived, strict=True):
            k = step[a] - lag
            if behind == a and 0 <= k < case.steps[b]:
                dates = arrived[b] if arrival else left[b]
                if len(dates) <= k or dates[k] > now:
                    return False
        return True

    def end(a: int) -> None:
        left[a].append(now)
        arrived[a].append(now + case.latency[a] / PS)
        step[a] += 1

    while True:
        again = True
        while again:
            again = False
            for a in range(count):
                if may_start(a):
                    again = True
                    nbytes = case.size[at[a] + step[a] if case.uneven else a]
                    nowhere = case.first[a] == case.first[a + 1] and case.cap[a] == np.inf
                    if nbytes and not nowhere:
                        open_[a] = nbytes
                    else:
                        end(a)
        dates = [b for b in begin if b > now] + [t for row in arrived for t in row if t > now]
        rate = {}
        if open_:
            active = sorted(open_)
            rows = [range(case.first[a], case.first[a + 1]) for a in active]
            entries = [e for row in rows for e in row]
            flow = np.repeat(np.arange(len(active)), [len(row) for row in rows])
            ones = np.ones(len(entries), dtype=np.int64)
            rates = max_min(capacity, case.link[entries], flow, case.weight[entries], ones, case.cap[active])
            rate = dict(zip(active, rates, strict=True))
            dates.append(now + min(open_[a] / rate[a] for a in active))
        if not dates:
            break
        passed, now = min(dates) - now, min(dates)
        for a in sorted(open_):
            open_[a] -= passed * rate[a]
            if open_[a] <= 1e-7:
                del open_[a]
                end(a)
    assert step == case.steps.tolist()
    return [row[-1] if row else b for row, b in zip(arrived, begin, strict=True)]


@st.composite
def networks(draw: st.DrawFn, *, uneven: bool | None = None) -> tuple[Lanes, np.ndarray]:
    """A few lanes on a few links, many of them alike; edges go forward in (step, lane), so that all can run."""
    count, links = draw(st.integers(1, 6)), draw(st.integers(1, 4))

    def several(values, size=count):
        return draw(st.lists(st.sampled_from(values), min_size=size, max_size=size))

    steps = several([1, 2, 3, 5])
    rows = []
    for _ in range(count):
        chosen = draw(st.lists(st.integers(0, links - 1), max_size=3))
        rows.append([(at, draw(st.sampled_from([1.0, 1.0, 0.5, 1 / 3]))) for at in chosen])
    edges = []
    for _ in range(draw(st.integers(0, 8))):
        before, behind = draw(st.integers(0, count - 1)), draw(st.integers(0, count - 1))
        lag = draw(st.integers(0 if before < behind else 1, 3))
        edges.append((before, behind, lag, draw(st.booleans())))
    uneven = draw(st.booleans()) if uneven is None else uneven
    case = lanes(
        steps=steps,
        size=several([0.0, 1e3, 2e3, 3333.0], sum(steps) if uneven else count),
        latency=several([0, 0, 1_000_000, 7_000_003]),
        cap=several([np.inf, np.inf, 1e9, 3e8]),
        links=rows,
        edges=edges,
        begin=several([0, 0, 0, 5_000_000]),
    )
    return case, np.array(several([1e9, 1e9, 2.5e9], links))
