"""Chunks in time on a crossbar, by a recurrence written here and nowhere else, and the crossbar itself."""

import numpy as np

from scaleout.collectives.schedule import Schedule
from scaleout.network import Fabric, Topology


def crossbar(n: int, bandwidth: float, latency: float) -> Fabric:
    """n chips around one switch without limits of its own; a way takes `latency`."""
    chips = np.arange(n)
    switch = np.full(n, n)
    topology = Topology(
        name="crossbar",
        chips=n,
        vertices=(("chip", n), ("switch", 1)),
        source=np.concatenate((chips, switch)),
        target=np.concatenate((switch, chips)),
        bandwidth=np.full(2 * n, bandwidth),
        latency=np.full(2 * n, latency / 2),
        kind=np.zeros(2 * n, dtype=np.int64),
        kinds=("link",),
    )

    def paths(source: np.ndarray, target: np.ndarray) -> np.ndarray:
        links = np.stack((source, n + target), axis=1)
        return np.where((source == target)[:, None], -1, links)

    return Fabric(topology=topology, paths=paths)


def ends(schedule: Schedule, nbytes: float, latency: float, rate: float) -> list[float]:
    """When each send has arrived, each lane at its own constant rate [s].

    The definition of a schedule, step by step: a step starts when the one before it in its lane has left,
    and what the edges say has happened; it then takes bytes / rate, and arrives a latency later.
    """
    first = np.concatenate(([0], np.cumsum(schedule.steps))).tolist()
    each = len(schedule.share) == schedule.lanes
    into: dict[int, list[tuple[int, int, bool]]] = {}
    edges = schedule.edges
    for before, behind, lag, arrived in zip(edges.before, edges.behind, edges.lag, edges.arrived, strict=True):
        into.setdefault(int(behind), []).append((int(before), int(lag), bool(arrived)))
    left: dict[tuple[int, int], float] = {}
    came: dict[tuple[int, int], float] = {}
    todo = [(lane, 0) for lane in range(schedule.lanes)]
    # ask for every step; a step asks for what it waits for
    for lane, _ in todo:
        stack = [(lane, step) for step in reversed(range(int(schedule.steps[lane])))]
        while stack:
            at, step = stack[-1]
            if (at, step) in left:
                stack.pop()
                continue
            needs = [((at, step - 1), False)] if step else []
            for before, lag, arrived in into.get(at, ()):
                if 0 <= step - lag < schedule.steps[before]:
                    needs.append(((before, step - lag), arrived))
            missing = [need for need, _ in needs if need not in left]
            if missing:
                stack.extend(missing)
                assert len(stack) < 1_000_000, "a circle"
                continue
            stack.pop()
            start = max((came[need] if arrived else left[need] for need, arrived in needs), default=0.0)
            local = schedule.source[at] == schedule.target[at]
            share = 0.0 if local else float(schedule.share[at if each else first[at] + step])
            left[at, step] = start + share * nbytes / rate
            came[at, step] = left[at, step] + (0.0 if local else latency)
    return [came[lane, step] for lane in range(schedule.lanes) for step in range(int(schedule.steps[lane]))]


def time(schedule: Schedule, nbytes: float, latency: float, rate: float) -> float:
    """When the last send has arrived [s]."""
    return max(ends(schedule, nbytes, latency, rate), default=0.0)
