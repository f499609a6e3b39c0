"""What happened: when every operation of every class arrived, started and ended."""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Times of every class, and how much work it was to find them.

    Parameters
    ----------
    classes
        By class number.
    events
        SimPy events.
    solves
        Distinct sets of transfers whose fair rates were computed.
    """

    classes: tuple[ClassTimeline, ...]
    events: int
    solves: int

    @property
    def end(self) -> int:
        """When the last operation ended [tick]."""
        return max((int(c.ended.max()) for c in self.classes if len(c.ended)), default=0)
