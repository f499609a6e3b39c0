"""What is written down while requests are served: a row for each, and the course of every replica."""

from array import array
from collections import Counter

from scaleout.serving.request import STATES, Request

__all__ = ["Course", "Log"]

_ROWS = 4096
"""Rows of a course up to which each is kept; beyond, every second one is dropped."""


class Course:
    """A replica over time: what holds from each moment to the next.

    Parameters
    ----------
    time
        [tick]
    running, waiting, blocks
        Sequences that are worked on and that wait, blocks of the KV cache in use (of all attention ranks).
    """

    __slots__ = ("_every", "_seen", "blocks", "running", "time", "waiting")

    def __init__(self) -> None:
        self.time, self.running, self.waiting, self.blocks = array("q"), array("q"), array("q"), array("q")
        self._every, self._seen = 1, 0

    def note(self, time: int, running: int, waiting: int, blocks: int) -> None:
        """One row; with many, rows that are spread evenly over those that came."""
        self._seen += 1
        if self._seen % self._every:
            return
        self.time.append(time)
        self.running.append(running)
        self.waiting.append(waiting)
        self.blocks.append(blocks)
        if len(self.time) >= _ROWS:
            self._every *= 2
            for name in ("time", "running", "waiting", "blocks"):
                setattr(self, name, getattr(self, name)[1::2])


class Log:
    """Everything that a result is made of.

    Requests are written down in the order in which they end; columns are of equal length.

    Parameters
    ----------
    replicas
        How many there are.
    """

    def __init__(self, replicas: int) -> None:
        self.number, self.arrival = array("q"), array("q")
        self.inputs, self.outputs, self.state = array("q"), array("q"), array("b")
        self.scheduled, self.first, self.finish = array("q"), array("q"), array("q")
        self.cached, self.preempted, self.replica = array("q"), array("q"), array("q")
        self.hosted = array("q")
        """Of the cached tokens, those that came from the host's memory."""
        self.host: Counter[str] = Counter()
        """Of hosts: "swaps" and "loads", and blocks that went "out" and came "in"."""
        self.gaps: Counter[int] = Counter()
        """Time between two tokens of a reply [tick] -> how many such gaps."""
        self.courses = [Course() for _ in range(replicas)]
        self.busy = [0] * replicas
        """Time that each replica's steps took [tick]."""
        self.steps = [0] * replicas
        self.events = 0
        """Changes of the composition of a batch."""
        self.decoded = [0] * replicas
        """Sequences that decoded, summed over all steps."""
        self.retries = 0
        """Requests that were lost with a replica and sent to another."""
        self.transfers: list[tuple[int, int, int, float]] = []
        """KV caches that went from replica to replica: start, end [tick], request, bytes."""
        self.end = 0
        """When the last request ended [tick]."""

    def __len__(self) -> int:
        return len(self.number)

    def write(self, request: Request) -> None:
        """A request has ended."""
        self.number.append(request.number)
        self.arrival.append(request.arrival)
        self.inputs.append(request.inputs)
        self.outputs.append(request.outputs)
        self.state.append(STATES.index(request.state))
        self.scheduled.append(request.scheduled)
        self.first.append(request.first)
        self.finish.append(request.finish)
        self.cached.append(request.cached)
        self.hosted.append(request.hosted)
        self.preempted.append(request.preempted)
        self.replica.append(request.replica)
        self.end = max(self.end, request.finish)
