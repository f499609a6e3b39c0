"""What is written down while requests are served: a row for each, and the course of every replica."""

from array import array
from collections import Counter
from random import Random

from scaleout.serving.request import STATES, Request
from scaleout.serving.tally import Tally

__all__ = ["KEPT", "Course", "Log"]

_ROWS = 4096
"""Rows of a course up to which each is kept; beyond, every second one is dropped."""
KEPT = 1_000_000
"""Requests, and carried caches, whose rows are kept: of more, a sample in which each is as likely."""
_GAPS = 1 << 18
"""Different gaps that are told apart; beyond, they are rounded to 0.1 %."""
_COLUMNS = (
    "number", "arrival", "inputs", "outputs", "scheduled", "first", "finish", "cached", "hosted", "preempted",
    "replica",
)  # fmt: skip


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

    Requests are written down in the order in which they end; columns are of equal length. Of more than
    `KEPT` requests they hold a sample, and `weight` says for how many each stands; `ended` counts all.

    Parameters
    ----------
    replicas
        How many there are.
    """

    def __init__(self, replicas: int) -> None:
        self.ended: Counter[str] = Counter()
        """Requests that have ended, by how."""
        self._draws = Random(0)
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
        self.tallies = [Tally() for _ in range(replicas)]
        """Work of each replica's steps."""
        self.retries = 0
        """Requests that were lost with a replica and sent to another."""
        self.transfers: list[tuple[int, int, int, float]] = []
        """KV caches that went from replica to replica: start, end [tick], request, bytes; the first `KEPT`."""
        self.carried, self.carried_bytes, self.carried_time = 0, 0.0, 0
        """Of all of them: how many, bytes, and time [tick]."""
        self.end = 0
        """When the last request ended [tick]."""

    def __len__(self) -> int:
        return self.ended.total()

    @property
    def weight(self) -> float:
        """Requests that each row stands for."""
        return len(self) / len(self.number) if self.number else 1.0

    def carry(self, start: int, end: int, request: int, nbytes: float) -> None:
        """A cache has gone from replica to replica."""
        self.carried += 1
        self.carried_bytes += nbytes
        self.carried_time += end - start
        if self.carried <= KEPT:
            self.transfers.append((start, end, request, nbytes))

    def write(self, request: Request) -> None:
        """A request has ended."""
        self.ended[request.state] += 1
        self.end = max(self.end, request.finish)
        if len(self.number) < KEPT:
            for name in _COLUMNS:
                getattr(self, name).append(getattr(request, name))
            self.state.append(STATES.index(request.state))
            return
        # reservoir sampling: Vitter, ACM Transactions on Mathematical Software 11, 1985, algorithm R
        at = self._draws.randrange(len(self))
        if at < KEPT:
            for name in _COLUMNS:
                getattr(self, name)[at] = getattr(request, name)
            self.state[at] = STATES.index(request.state)
        if len(self.gaps) > _GAPS:
            self._round_gaps()

    def _round_gaps(self) -> None:
        rounded: Counter[int] = Counter()
        for gap, count in self.gaps.items():
            fine = max(0, gap.bit_length() - 10)
            rounded[(gap >> fine << fine) + (1 << fine >> 1)] += count
        # whoever counts holds on to the counter itself
        self.gaps.clear()
        self.gaps.update(rounded)
