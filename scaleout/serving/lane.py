"""A lane: the sequences of one attention rank that go from step to step together.

Sequences that decode are not touched one by one. A lane counts its decode steps; what a sequence
has seen, when it ends and when it takes its next block follow from the count at which it joined,
so a step costs the same however many sequences it carries.
"""

import heapq
from collections.abc import Callable

from scaleout.serving.blocks import Blocks
from scaleout.serving.log import Log
from scaleout.serving.queue import Queue
from scaleout.serving.request import Request
from scaleout.serving.work import IDLE, Work, upto

__all__ = ["Lane", "Rank"]


class Rank:
    """What the lanes of one attention rank share.

    Parameters
    ----------
    queue, blocks, seats
        Who waits, the KV cache, and how many sequences may be worked on at a time.
    fetch
        Asks for the cache of a request that another replica holds.
    swap
        Who loses a seat has its cache kept in the host's memory, if there is room.
    """

    def __init__(
        self, queue: Queue, blocks: Blocks, seats: int, fetch: Callable[[Request], None], *, swap: bool = False
    ) -> None:
        self.queue, self.blocks, self.fetch, self.swap = queue, blocks, fetch, swap
        self.seats = seats
        """Those that are free."""


class Lane:
    """Sequences of one attention rank in one batch.

    Parameters
    ----------
    rank
        Queue, KV cache and seats.
    log
        Gaps between tokens are counted there.
    together
        All leave when the last is done (static batches).
    """

    each = 1
    """New tokens of a sequence in a decode step."""

    def __init__(self, rank: Rank, log: Log, *, together: bool = False) -> None:
        self.rank, self.log, self.together = rank, log, together
        self.running: dict[int, Request] = {}
        """Everybody with a seat here, in the order in which they got it."""
        self.prompts: list[Request] = []
        """Those of them whose prompt is not through."""
        self.chunks: list[tuple[Request, int]] = []
        """Of the step under way: prompts and how many of their tokens."""
        self.arriving: dict[int, Request] = {}
        """Those of them whose cache is on its way, from another replica or the host."""
        self.ready: list[Request] = []
        """Those whose cache has come since the last step began."""
        self.full = False
        """Whether somebody was sent away for want of room just now: nobody gets a seat then."""
        self.steps = 0
        """Decode steps so far."""
        self.decodes = 0
        self.decoding_now = False
        """Whether the step under way is one of them."""
        self.filling = False
        """Whether prompts are let in although others wait to decode."""
        self._base = 0
        """Tokens that the sequences see, altogether, less `decodes` for each step so far."""
        self._longest: list[tuple[int, int, int]] = []
        self._ends: list[tuple[int, int, int]] = []
        """Heaps of (less what it sees but for steps, or last step; number; when it joined)."""
        self._takes = [0] * rank.blocks.size
        """Sequences that take a new block at a step, by the residue of its count."""
        self._reserved = 0
        """Blocks that the step under way takes, in the cache's books already."""
        self._tokens: dict[int, int] = {}
        """When those who decode had their last token [tick] -> how many."""
        self._last = -1
        self._done: dict[int, int] = {}
        """Those who wait for the others to end, and their tokens in the cache."""

    # --- a step --------------------------------------------------------------------------------

    def context(self, ahead: int = 1) -> int:
        """Tokens that those who decode see, altogether, so many decode steps from now."""
        return self._base + self.decodes * (self.steps + ahead)

    def longest(self, ahead: int = 1) -> int:
        """Tokens that one of them sees at most."""
        heap = self._longest
        while heap and not self._still(heap[0]):
            heapq.heappop(heap)
        return self.steps + ahead - heap[0][0] if heap else 0

    def _still(self, entry: tuple[int, int, int]) -> bool:
        """Whether an entry of a heap speaks of somebody who decodes here."""
        request = self.running.get(entry[1])
        return request is not None and request.born == entry[2] and request.steps > 0

    @property
    def decode_tokens(self) -> int:
        """New tokens of replies in a decode step."""
        return self.decodes * self.each

    def work(self, ahead: int = 1) -> Work:
        """What the next step does here, or a decode step after it."""
        decodes = self.decodes if self.decoding_now else 0
        tokens = decodes * self.each
        if not self.chunks:
            if not decodes:
                return IDLE
            return Work(0, 0, 0, 0, decodes, tokens, upto(self.context(ahead)), upto(self.longest(ahead)), tokens)
        new = scores = seen = rows = 0
        for request, chunk in self.chunks:
            before = request.prefilled
            new += chunk
            # twice the pairs, so that it stays whole
            scores += chunk * (2 * before + chunk + 1)
            seen += before + chunk
            rows += before + chunk == request.target
        context, longest = (upto(self.context()), upto(self.longest())) if decodes else (0, 0)
        return Work(new, scores // 2, seen, len(self.chunks), decodes, tokens, context, longest, rows + tokens)

    def steps_alike(self) -> int:
        """Decode steps from now on until a sequence ends or the KV cache is full."""
        heap = self._ends
        while heap and not self._still(heap[0]):
            heapq.heappop(heap)
        return min(heap[0][0] - self.steps, self.room())

    def room(self) -> int:
        """Decode steps that the free blocks are enough for."""
        free, size, takes = self.rank.blocks.free + self._reserved, len(self._takes), self._takes
        rounds = free // self.decodes
        left, at = free - rounds * self.decodes, self.steps + 1
        count = rounds * size
        for ahead in range(size):
            left -= takes[(at + ahead) % size]
            if left < 0:
                break
            count += 1
        return count

    def growth(self) -> int:
        """Blocks that the replies take with their next step."""
        return self._takes[(self.steps + 1) % len(self._takes)]

    def reserve(self) -> None:
        """Take the blocks of a step that begins."""
        self._reserved = self.growth()
        self.rank.blocks.grow(self._reserved)

    def advance(self, steps: int, ticks: int, now: int) -> None:
        """So many decode steps of so many ticks each are over; the last of them now."""
        first = now - (steps - 1) * ticks
        gaps = self.log.gaps
        for last, count in self._tokens.items():
            gaps[first - last] += count
        if steps > 1:
            gaps[ticks] += self.decodes * (steps - 1)
        self._tokens = {now: self.decodes}
        self._last = now
        size, takes, at = len(self._takes), self._takes, self.steps + 1
        taken = steps // size * self.decodes
        for ahead in range(steps % size):
            taken += takes[(at + ahead) % size]
        self.rank.blocks.grow(taken - self._reserved)
        self._reserved = 0
        self.steps += steps

    # --- coming and going ------------------------------------------------------------------------

    def take(self, request: Request) -> None:
        """Somebody gets a seat."""
        self.rank.seats -= 1
        request.state = "running"
        self.running[request.number] = request

    def bring(self, request: Request, blocks: int) -> None:
        """Somebody with a new seat waits for its cache, if that is elsewhere: so many blocks of it at the host."""
        if not blocks and request.prefilled < request.target:
            return
        self.arriving[request.number] = request
        host = self.rank.blocks.host
        if blocks and host is not None:
            host.bring(request, blocks)
        else:
            self.rank.fetch(request)

    def arrive(self, request: Request) -> bool:
        """The cache of one that has waited for it is there."""
        if self.arriving.pop(request.number, None) is None:
            return False
        self.rank.blocks.fill(request, request.prefilled)
        (self.ready if request.prefilled == request.target else self.prompts).append(request)
        return True

    def chunk(self, request: Request, tokens: int) -> None:
        """The step has so many tokens of a prompt."""
        self.chunks.append((request, tokens))
        self.rank.blocks.fill(request, request.prefilled + tokens)

    def join(self, request: Request, now: int) -> None:
        """It decodes from the next step on; it has had a token now."""
        request.born, request.joined = self.steps, now
        request.steps = request.outputs - request.reply
        seen = request.target - self.steps
        self.decodes += 1
        self._base += seen
        heapq.heappush(self._longest, (-seen, request.number, self.steps))
        heapq.heappush(self._ends, (self.steps + request.steps, request.number, self.steps))
        self._takes[(1 - seen) % len(self._takes)] += 1
        self._tokens[now] = self._tokens.get(now, 0) + 1

    def leave(self, request: Request) -> int:
        """It decodes no more; how many tokens of it are in the cache."""
        seen = request.target - request.born
        self.decodes -= 1
        self._base -= seen
        self._takes[(1 - seen) % len(self._takes)] -= 1
        # its token from elsewhere may be older than this lane's last step
        last = self._last if self.steps > request.born else request.joined
        self._tokens[last] -= 1
        if not self._tokens[last]:
            del self._tokens[last]
        done = self.steps - request.born
        request.reply += done
        request.steps -= done
        request.joined = last
        return seen + self.steps

    def let_go(self, request: Request) -> None:
        """It gives its seat back; its blocks are kept until another replica has them."""
        del self.running[request.number]
        self.rank.seats += 1

    def give_up(self, request: Request, tokens: int) -> None:
        """It gives its seat and its blocks back."""
        del self.running[request.number]
        self.rank.seats += 1
        self.rank.blocks.release(request, tokens)
        request.steps = 0

    def _ending(self) -> list[Request]:
        """Those whose last token came with the last step, in order."""
        heap = self._ends
        found: list[Request] = []
        while heap and heap[0][0] <= self.steps:
            entry = heapq.heappop(heap)
            # one that went and came back between two steps is there twice
            if self._still(entry) and not (found and found[-1].number == entry[1]):
                found.append(self.running[entry[1]])
        return found

    def ended(self) -> list[Request]:
        """Those whose last token came with the last step, in order; they are gone from here."""
        found = self._ending()
        for request in found:
            tokens = self.leave(request)
            request.steps = 0
            if self.together:
                self._done[request.number] = tokens
            else:
                self.give_up(request, tokens)
        if not self.together:
            return found
        if self.decodes or self.prompts:
            return []
        done, self._done = self._done, {}
        left = [self.running[number] for number in done]
        for request in left:
            self.give_up(request, done[request.number])
        return left

    def lose(self) -> list[Request]:
        """Everybody with a seat here; the lane is of no use any more."""
        for request in self.running.values():
            if request.steps:
                self.leave(request)
        return list(self.running.values())

    def victim(self) -> Request | None:
        """Who loses a seat first: the lowest priority that runs, where that is the order, and of equals who came last;
        else who got a seat last.
        """
        kept = self._done.keys() | self.arriving.keys()
        able = (one for one in reversed(self.running.values()) if one.number not in kept)
        if self.rank.queue.by_priority:
            return min(able, key=lambda one: (one.priority, -one.number), default=None)
        return next(able, None)

    def preempt(self, request: Request) -> Request:
        """One gives its seat back; its cache goes to the host, or will be computed again."""
        if decoding := request.steps > 0:
            tokens = self.leave(request)
            # the last token of the reply is not in the cache yet
            there = request.inputs + request.reply - 1
        else:
            self.prompts.remove(request)
            tokens, there = request.target, request.prefilled
        self.give_up(request, tokens)
        blocks = self.rank.blocks
        if self.rank.swap and blocks.host is not None and blocks.host.swap(request, blocks.held(there)):
            if decoding:
                request.prefilled = request.target = there
        else:
            request.prefilled, request.target = 0, request.inputs + request.reply
        request.preempted += 1
        request.state = "waiting"
        return request
