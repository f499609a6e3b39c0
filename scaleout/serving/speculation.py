"""Speculative decoding: a step verifies drafted tokens of each reply, and keeps those before the first wrong one.

How many are kept is drawn for each reply and each of its tokens, so that it does not depend on who else is in the
batch. The model is in ``docs/speculation.md``.
"""

from scaleout.serving.lane import Lane, Rank
from scaleout.serving.log import Log
from scaleout.serving.request import Request
from scaleout.specs import Speculation

__all__ = ["Drafted", "kept", "lane_of"]

_WORD = (1 << 64) - 1


def kept(spec: Speculation, number: int, reply: int) -> int:
    """Drafted tokens that are taken in a step of a request, after so many tokens of its reply."""
    draw = _uniform(spec.seed, number, reply)
    chance, count = spec.acceptance, 0
    # each drafted token is taken if all before it were: with a probability of a^count at least so many
    while count < spec.tokens and draw < chance:
        count += 1
        chance *= spec.acceptance
    return count


def _uniform(seed: int, number: int, reply: int) -> float:
    """A draw from 0 to 1 that these three alone decide (splitmix64: Steele, Lea and Flood, OOPSLA 2014)."""
    return _mixed(_mixed(_mixed(seed) ^ number) ^ reply) / 2.0**64


def _mixed(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) & _WORD
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _WORD
    return word ^ (word >> 31)


def lane_of(spec: Speculation | None, rank: Rank, log: Log, *, together: bool) -> Lane:
    """A lane, with speculation or without."""
    return Lane(rank, log, together=together) if spec is None else Drafted(spec, rank, log, together=together)


class Drafted(Lane):
    """A lane whose replies grow by different numbers of tokens; each of its steps is one of its own.

    Parameters
    ----------
    spec
        How many tokens are drafted, and how likely they are taken.
    """

    def __init__(self, spec: Speculation, rank: Rank, log: Log, *, together: bool = False) -> None:
        super().__init__(rank, log, together=together)
        self.spec, self.each = spec, spec.tokens + 1
        self._seen: dict[int, int] = {}
        """Of those who decode: tokens in the cache."""
        self._room: dict[int, int] = {}
        """Of the same: tokens that their blocks are taken for."""
        self._over: list[Request] = []
        """Those whose last token came with the last step."""

    def context(self, ahead: int = 1) -> int:
        """Tokens that those who decode see, altogether, all that is drafted included."""
        return sum(self._seen.values()) + self.decodes * self.each

    def longest(self, ahead: int = 1) -> int:
        """Tokens that one of them sees at most."""
        return max(self._seen.values(), default=-self.each) + self.each

    def room(self) -> int:
        """Whether there is room for the next step, with all that is drafted: 1 or 0."""
        return int(self.growth() <= self.rank.blocks.free)

    def growth(self) -> int:
        """Blocks that are taken for the next step, with all that is drafted."""
        held = self.rank.blocks.held
        return sum(held(self._next(number)) - held(there) for number, there in self._room.items())

    def _next(self, number: int) -> int:
        """Tokens that blocks are needed for in the next step; nobody drafts beyond the end of a reply."""
        request = self.running[number]
        most = min(self._seen[number] + self.each, request.inputs + request.outputs)
        return max(self._room[number], most)

    def reserve(self) -> None:
        """Take blocks for all that is drafted in the next step; they are kept, whatever is taken of it."""
        blocks = self.rank.blocks
        for number, there in self._room.items():
            more = self._next(number)
            blocks.grow(blocks.held(more) - blocks.held(there))
            self._room[number] = more

    def advance(self, steps: int, ticks: int, now: int) -> None:
        """One step is over; its tokens come together."""
        gaps, seen, spec = self.log.gaps, self._seen, self.spec
        self.steps += 1
        for number in seen:
            request = self.running[number]
            more = min(kept(spec, number, request.reply) + 1, request.steps)
            gaps[now - request.joined] += 1
            if more > 1:
                gaps[0] += more - 1
            request.reply += more
            request.steps -= more
            request.joined = now
            seen[number] += more
            if not request.steps:
                self._over.append(request)

    def join(self, request: Request, now: int) -> None:
        """It decodes from the next step on; it has had a token now."""
        request.joined = now
        request.steps = request.outputs - request.reply
        self.decodes += 1
        self._seen[request.number] = self._room[request.number] = request.target

    def leave(self, request: Request) -> int:
        """It decodes no more; how many tokens its blocks are for."""
        self.decodes -= 1
        del self._seen[request.number]
        return self._room.pop(request.number)

    def _ending(self) -> list[Request]:
        found, self._over = sorted(self._over, key=lambda request: request.number), []
        return found
