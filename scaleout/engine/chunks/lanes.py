"""Lanes: what the chunk engine runs, in numbers, and what comes out.

A lane sends piece after piece, in order, over links that it shares with other lanes. It knows
nothing of ranks or collectives: whoever has a schedule and a fabric makes lanes of them.
"""

from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.errors import WorkloadError

__all__ = ["LaneRun", "Lanes", "concatenate"]

LIMIT = 1 << 62
"""Times stay below this many ticks (53 days)."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Lanes:
    """Lanes on a network.

    Step k of a lane starts when its step k - 1 has left (its last byte is sent) and everything that
    it waits for has happened: for each edge, step k - lag of lane `before` has arrived or, where not
    `arrived`, has left. Steps that lane `before` does not have are not waited for.

    Parameters
    ----------
    steps
        Sends of each lane, shape (lanes,).
    size
        Bytes of a send [byte]: of each lane, shape (lanes,), where all its sends are alike, else of
        each send, lane by lane, shape (sum of steps,). A send of nothing takes its latency alone.
    latency
        From the last byte sent to its arrival [tick], shape (lanes,).
    cap
        Largest rate of each lane, or inf [byte/s], shape (lanes,). A lane without links and without
        a cap takes no time to send.
    first, link, weight
        Links of each lane, in compressed rows, and the share of its bytes on each [1]; shapes
        (lanes + 1,), (entries,), (entries,).
    before, behind, lag, arrived
        Edges, shape (edges,): lane `behind` waits for lane `before`.
    begin
        Earliest start of each lane's first step [tick], shape (lanes,); None is 0 for all.
    """

    steps: Ints
    size: Floats
    latency: Ints
    cap: Floats
    first: Ints
    link: Ints
    weight: Floats
    before: Ints
    behind: Ints
    lag: Ints
    arrived: Bools
    begin: Ints | None = None

    def __post_init__(self) -> None:
        lanes, entries, edges = len(self.steps), len(self.link), len(self.before)
        shapes = {
            "latency": (len(self.latency), lanes),
            "cap": (len(self.cap), lanes),
            "first": (len(self.first), lanes + 1),
            "weight": (len(self.weight), entries),
            "behind": (len(self.behind), edges),
            "lag": (len(self.lag), edges),
            "arrived": (len(self.arrived), edges),
            "begin": (lanes if self.begin is None else len(self.begin), lanes),
        }
        for name, (found, wanted) in shapes.items():
            if found != wanted:
                raise WorkloadError(f"lanes: {name} has {found} elements and needs {wanted}")
        _check("steps", self.steps, self.steps >= 0, "0 or more")
        if len(self.size) not in (lanes, self.sends):
            raise WorkloadError(f"lanes: size has {len(self.size)} elements and needs {lanes} or {self.sends}")
        _check("size", self.size, np.isfinite(self.size) & (self.size >= 0), "0 or more bytes")
        _check("latency", self.latency, (self.latency >= 0) & (self.latency < LIMIT), "0 to 2**62 ticks")
        _check("cap", self.cap, self.cap >= 0, "0 byte/s or more")
        _check("weight", self.weight, np.isfinite(self.weight) & (self.weight >= 0), "0 or more")
        _check("lag", self.lag, np.abs(self.lag) < LIMIT, "less than 2**62")
        for name, ends in (("before", self.before), ("behind", self.behind)):
            _check(name, ends, (ends >= 0) & (ends < lanes), f"lanes 0 to {lanes - 1}")
        if self.begin is not None:
            _check("begin", self.begin, (self.begin >= 0) & (self.begin < LIMIT), "0 to 2**62 ticks")
        if self.first[0] != 0 or self.first[-1] != entries or (np.diff(self.first) < 0).any():
            raise WorkloadError(f"lanes: first must ascend from 0 to {entries}, the number of links listed")

    @property
    def sends(self) -> int:
        """Sends of all lanes."""
        return int(self.steps.sum())

    @property
    def uneven(self) -> bool:
        """Whether sizes are given for each send."""
        return len(self.size) != len(self.steps)

    @property
    def lane(self) -> Ints:
        """Lane of each entry of `link`."""
        return np.repeat(np.arange(len(self.steps)), np.diff(self.first))

    @property
    def bytes(self) -> Floats:
        """Bytes of all sends of each lane [byte]."""
        if not self.uneven:
            return self.size * self.steps
        total, some = np.zeros(len(self.steps)), self.steps > 0
        if some.any():
            total[some] = np.add.reduceat(self.size, (np.cumsum(self.steps) - self.steps)[some])
        return total


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LaneRun:
    """What happened.

    Parameters
    ----------
    end
        When the last send of all has arrived [tick].
    lane_end
        When the last send of each lane has arrived [tick], shape (lanes,); a lane without sends ends
        when it may begin.
    started, ended
        When the first byte of a send left, and its last one [tick]: of the last send of each lane,
        shape (lanes,), or of all sends, lane by lane, where recorded. A lane without sends has -1.
    link_bytes
        Bytes over each link [byte], shape (links,).
    events
        Sends that ended, arrivals that somebody waited for, and starts at a set time, one by one. 0
        where times followed from a recurrence, without events.
    solves
        Links for which it was worked out anew at which rate they are full.
    """

    end: int
    lane_end: Ints
    started: Ints
    ended: Ints
    link_bytes: Floats
    events: int
    solves: int


def concatenate(*parts: Lanes) -> Lanes:
    """Lanes of several schedules on the same links: they run side by side, without waiting for each other.

    Lanes and edges keep their order; lanes of the second part are counted on from those of the first.
    """
    if not parts:
        raise WorkloadError("no lanes to put together: give at least one part")
    lanes = np.concatenate(([0], np.cumsum([len(p.steps) for p in parts])))
    entries = np.concatenate(([0], np.cumsum([len(p.link) for p in parts])))
    uneven = any(p.uneven for p in parts)
    return Lanes(
        steps=np.concatenate([p.steps for p in parts]),
        size=np.concatenate([np.repeat(p.size, p.steps) if uneven and not p.uneven else p.size for p in parts]),
        latency=np.concatenate([p.latency for p in parts]),
        cap=np.concatenate([p.cap for p in parts]),
        first=np.concatenate([[0], *(p.first[1:] + at for p, at in zip(parts, entries, strict=False))]),
        link=np.concatenate([p.link for p in parts]),
        weight=np.concatenate([p.weight for p in parts]),
        before=np.concatenate([p.before + at for p, at in zip(parts, lanes, strict=False)]),
        behind=np.concatenate([p.behind + at for p, at in zip(parts, lanes, strict=False)]),
        lag=np.concatenate([p.lag for p in parts]),
        arrived=np.concatenate([p.arrived for p in parts]),
        begin=np.concatenate([np.zeros_like(p.steps) if p.begin is None else p.begin for p in parts]),
    )


def _check(name: str, values: Floats | Ints, good: Bools, accepted: str) -> None:
    wrong = np.flatnonzero(~good)
    if len(wrong):
        raise WorkloadError(f"lanes: {name}[{wrong[0]}] is {values[wrong[0]]}; accepted: {accepted}")
