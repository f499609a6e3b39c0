"""What happened: when every operation of every class arrived, started and ended."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from scaleout.arrays import Floats, Ints

__all__ = ["ClassTimeline", "Moved", "Timeline"]

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class ClassTimeline:
    """Times of one class's operations [tick], each of shape (ops,).

    A compute operation starts when it arrives; a collective when its last member has arrived.
    `inside` lists the operations that were timed in runs: the flow network never saw them.
    """

    arrived: Ints
    started: Ints
    ended: Ints
    inside: Ints = field(default_factory=_NONE.copy)


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """What the flow network carried: stretches at a constant rate, each array of shape (stretches,).

    Parameters
    ----------
    leg
        Index of the leg, plus the number of legs for each epoch before the one whose links it
        loads: its own, or an earlier one in which it loads the same.
    start, end
        Of the stretch [tick].
    share
        Of the leg's bytes that was carried [1]; over a leg's whole life they sum to the number of
        times that it was carried. Those of one leg are in the order of time.
    """

    leg: Ints
    start: Ints
    end: Ints
    share: Floats


@dataclass(frozen=True, eq=False)
class Timeline:
    """Times of every class, and how much work it was to find them.

    Parameters
    ----------
    classes
        By class number.
    events
        Of SimPy; of the compiled loop, whatever had a date.
    solves
        Distinct sets of transfers whose fair rates were computed.
    moved
        What the flow network carried; None where nobody kept account.
    """

    classes: tuple[ClassTimeline, ...]
    events: int
    solves: int
    moved: Moved | None = None

    @cached_property
    def ends(self) -> Ints:
        """When the last operation of each class ended [tick]."""
        return np.array([int(c.ended.max(initial=0)) for c in self.classes], dtype=np.int64)

    @property
    def end(self) -> int:
        """When the last operation ended [tick]."""
        return int(self.ends.max(initial=0))
