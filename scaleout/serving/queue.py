"""Those who wait for a seat, in the order in which they get one."""

import heapq
from collections import deque
from typing import Literal

from scaleout.serving.request import Request

__all__ = ["Queue"]


class Queue:
    """Waiting requests of one attention rank.

    Parameters
    ----------
    order
        See `Scheduler`. With "fcfs" who was preempted goes first; with the others it waits by the same order, and of
        equals who came first goes first.
    """

    def __init__(self, order: Literal["fcfs", "priority", "shortest"]) -> None:
        self._fifo: deque[Request] | None = deque() if order == "fcfs" else None
        self._heap: list[tuple[int, int, Request]] = []
        self.by_priority = order == "priority"

    def __len__(self) -> int:
        return len(self._heap) if self._fifo is None else len(self._fifo)

    def push(self, request: Request) -> None:
        """One more."""
        if self._fifo is not None:
            self._fifo.append(request)
            return
        rank = -request.priority if self.by_priority else request.inputs
        heapq.heappush(self._heap, (rank, request.number, request))

    def push_back(self, request: Request) -> None:
        """One that had a seat before."""
        if self._fifo is not None:
            self._fifo.appendleft(request)
        else:
            self.push(request)

    def first(self) -> Request | None:
        """Who is next; None where nobody waits."""
        if self._fifo is not None:
            return self._fifo[0] if self._fifo else None
        return self._heap[0][2] if self._heap else None

    def pop(self) -> Request:
        """Take who is next."""
        return heapq.heappop(self._heap)[2] if self._fifo is None else self._fifo.popleft()

    def remove(self, request: Request) -> bool:
        """Take one out, if it is here."""
        all_ = self.drain()
        for one in all_:
            if one is not request:
                self.push(one)
        return len(self) < len(all_)

    def drain(self) -> list[Request]:
        """Everybody, in order; nobody is left."""
        found = []
        while self:
            found.append(self.pop())
        return found
