"""A batch in flight, and the stretch of steps that it goes on by at once."""

from collections.abc import Sequence

from scaleout.engine.clock import Alarm
from scaleout.serving.lane import Lane
from scaleout.serving.work import StepTimer, Work

__all__ = ["Batch", "steps_ahead"]


class Batch:
    """One batch in flight: a lane for each attention rank, and its step or stretch of steps under way."""

    __slots__ = ("alarm", "lanes", "start", "stretch", "works")

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.lanes = lanes
        self.start = 0
        self.works: tuple[Work, ...] = ()
        """Of the step under way, or the first of its stretch."""
        self.stretch: list[tuple[int, int]] = []
        """(steps, ticks of each) one after the other; empty while it does nothing."""
        self.alarm: Alarm | None = None

    @property
    def ahead(self) -> bool:
        """Whether more steps than the one under way are planned."""
        return len(self.stretch) > 1 or (bool(self.stretch) and self.stretch[0][0] > 1)

    def begun(self, now: int) -> list[tuple[int, int]]:
        """Steps of the stretch that have begun, the one under way included."""
        spent = now - self.start
        kept: list[tuple[int, int]] = []
        for count, ticks in self.stretch:
            # a step that would begin at this very moment has not begun
            need = -(-spent // ticks) if kept else max(1, -(-spent // ticks))
            if need <= count:
                kept += [(need, ticks)] if need else []
                break
            kept.append((count, ticks))
            spent -= count * ticks
        return kept


def steps_ahead(lanes: Sequence[Lane], timer: StepTimer) -> list[tuple[int, int]]:
    """Decode steps until a sequence ends or has no room: how many, of how many ticks."""
    busy = [lane for lane in lanes if lane.decodes]
    left = min(lane.steps_alike() for lane in busy)
    done, found = 0, []
    while left:
        works = tuple(lane.work(done + 1) for lane in lanes)
        # until one of them sees more than its time knows
        count = left
        for lane, work in zip(lanes, works, strict=True):
            if work.decodes:
                more = (work.context - lane.context(done + 1)) // work.decodes
                count = min(count, more + 1, work.longest - lane.longest(done + 1) + 1)
        found.append((count, timer.stages(works)[0]))
        done, left = done + count, left - count
    return found
