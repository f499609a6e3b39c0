"""What happened: when every operation of every class arrived, started and ended."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scaleout.arrays import Ints

__all__ = ["ClassTimeline", "Timeline"]


@dataclass(frozen=True, slots=True, eq=False)
class ClassTimeline:
    """Times of one class's operations [tick], each of shape (ops,).

    A compute operation starts when it arrives; a collective when its last member has arrived.
    """

    arrived: Ints
    started: Ints
    ended: Ints


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
    """

    classes: tuple[ClassTimeline, ...]
    events: int
    solves: int

    @cached_property
    def ends(self) -> Ints:
        """When the last operation of each class ended [tick]."""
        return np.array([int(c.ended.max(initial=0)) for c in self.classes], dtype=np.int64)

    @property
    def end(self) -> int:
        """When the last operation ended [tick]."""
        return int(self.ends.max(initial=0))
