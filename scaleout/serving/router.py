"""Routers: which replica a request goes to. Rules are in ``docs/routers.md``."""

import heapq
from collections.abc import Callable, Sequence

import numpy as np

from scaleout.serving.recent import Recent
from scaleout.serving.replica import Replica
from scaleout.serving.request import Request
from scaleout.specs import Router as Rules

__all__ = ["Router"]

_DRAWN = 1024
"""Random numbers that are drawn at a time."""


class Router:
    """Sends requests to replicas.

    What a replica has to do is its `load`: all tokens, of prompt and reply, of the requests in it. Whoever
    changes it says so by `changed`.

    Parameters
    ----------
    rules
        How.
    replicas
        To whom.
    onward
        These get sequences from replicas that prefill: nobody is rejected any more, and what prompts have in common
        is of no use.
    """

    def __init__(self, rules: Rules, replicas: Sequence[Replica], *, onward: bool = False) -> None:
        self.policy = "least_load" if onward and rules.policy == "prefix" else rules.policy
        self._rules, self._most = rules, None if onward else rules.max_waiting
        self._all = list(replicas)
        self._place = {replica.number: at for at, replica in enumerate(replicas)}
        self._open = list(replicas)
        """Those that are not lost, in order."""
        self._lost: set[int] = set()
        self._turn = 0
        self._draws = _drawn(np.random.default_rng(rules.seed))
        self._loads: list[tuple[int, int]] = []
        """Heap of (load, number); one entry of each replica is true, and older ones say something else."""
        self._recent = Recent([_tokens(replica) for replica in replicas]) if self.policy == "prefix" else None
        self._rank()

    # --- what becomes of replicas --------------------------------------------------------------------

    def changed(self, replica: Replica) -> None:
        """A replica has more or less to do."""
        if len(self._loads) > 8 * len(self._all) + 64:
            self._rank()
        heapq.heappush(self._loads, (replica.load, replica.number))

    def lose(self, number: int) -> None:
        """Nobody goes to a replica any more."""
        self._lost.add(number)
        self._reopen()
        if self._recent is not None:
            self._recent.forget(self._place[number])

    def recover(self, replica: Replica) -> None:
        """A replica takes the place of the one with its number, that was lost."""
        self._lost.discard(replica.number)
        self._all[self._place[replica.number]] = replica
        self._reopen()

    @property
    def empty(self) -> bool:
        """Whether all replicas are lost."""
        return not self._open

    def _reopen(self) -> None:
        self._open = [replica for replica in self._all if replica.number not in self._lost]
        self._rank()

    def _rank(self) -> None:
        self._loads = [(replica.load, replica.number) for replica in self._open]
        heapq.heapify(self._loads)

    # --- choice ----------------------------------------------------------------------------------

    def pick(self, request: Request) -> Replica | None:
        """The replica for a request; None where all are too busy to take it, or lost."""
        if not self._open:
            return None
        chosen = self._choose(request)
        if self._full(chosen):
            rest = [replica for replica in self._open if not self._full(replica)]
            if not rest:
                return None
            chosen = min(rest, key=_by_load)
        if self._recent is not None:
            self._recent.sent(self._place[chosen.number], request)
        return chosen

    def _full(self, replica: Replica) -> bool:
        return self._most is not None and replica.waiting >= self._most

    def _choose(self, request: Request) -> Replica:
        """The replica that the policy wants, whether it has room or not."""
        match self.policy:
            case "round_robin":
                return self._next()
            case "power_of_two":
                return self._two()
            case "prefix":
                return self._holder(request) or self._least()
            case "sticky" if request.session >= 0:
                return self._home(request.session)
        return self._least()

    def _next(self) -> Replica:
        """One after the other, past those that are lost or full."""
        count = len(self._all)
        for _ in range(count):
            replica = self._all[self._turn % count]
            self._turn += 1
            if replica.number not in self._lost and not self._full(replica):
                return replica
        return self._open[0]

    def _least(self) -> Replica:
        """The one with the fewest tokens to do, of equals the first."""
        heap = self._loads
        while True:
            load, number = heap[0]
            replica = self._all[self._place[number]]
            if replica.load == load and number not in self._lost:
                return replica
            heapq.heappop(heap)

    def _two(self) -> Replica:
        """The less loaded of two that are drawn, of equals the first; of one that is full, the other."""
        count = len(self._open)
        if count == 1:
            return self._open[0]
        one = int(self._draws() * count)
        other = int(self._draws() * (count - 1))
        two = self._open[one], self._open[other + (other >= one)]
        return min(two, key=lambda replica: (self._full(replica), replica.load))

    def _home(self, session: int) -> Replica:
        """Always the same one; while it is lost, another that is always the same."""
        home = self._all[session % len(self._all)]
        if home.number in self._lost:
            return self._open[session // len(self._all) % len(self._open)]
        return home

    def _holder(self, request: Request) -> Replica | None:
        """Who was sent most of the prompt's blocks, if that is enough of them and it is not overloaded."""
        assert self._recent is not None  # noqa: S101  (of this policy alone)
        places, blocks = self._recent.holders(request)
        if not places or blocks * request.block_tokens < self._rules.match * request.inputs:
            return None
        holder = min((self._all[place] for place in places), key=_by_load)
        least, rules = self._least().requests, self._rules
        if holder.requests > rules.overload * least and holder.requests - least > rules.spare:
            return None
        return holder


def _by_load(replica: Replica) -> tuple[int, int]:
    return replica.load, replica.number


def _tokens(replica: Replica) -> int:
    """What the KV cache of a replica has room for [token]."""
    return sum(rank.blocks.total * rank.blocks.size for rank in replica.ranks)


def _drawn(generator: np.random.Generator) -> Callable[[], float]:
    """Uniform draws from 0 to 1, made many at a time."""
    left: list[float] = []

    def draw() -> float:
        if not left:
            left.extend(reversed(generator.random(_DRAWN).tolist()))
        return left.pop()

    return draw
