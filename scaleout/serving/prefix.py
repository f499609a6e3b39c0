"""Prefix cache: blocks of prompts stay where they are, and later prompts that begin alike find them.

A block in the table is referred to by some sequences, or idle: then it counts as free room, and the
one that was given back longest ago is the first to be overwritten. Of blocks that are given back
together the last of the prompt goes first, since it is of no use without those before it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from scaleout.serving.blocks import Blocks
from scaleout.serving.host import HostMemory
from scaleout.serving.request import Request

__all__ = ["PrefixBlocks", "names"]


def names(request: Request, size: int) -> Sequence[int]:
    """Names of a prompt's full blocks of so many tokens, as far as its hashes reach.

    A hash stands for all tokens up to its end, so a block that lies in front of it is told by the hash
    and the block's place.

    >>> list(names(Request(0, 0, 100, 1, blocks=(7, 8, 9), block_tokens=32), 16))
    [14, 15, 16, 17, 18, 19]
    >>> list(names(Request(0, 0, 100, 1, blocks=(7, 8, 9), block_tokens=32), 64))
    [8]
    """
    piece = request.block_tokens
    if not piece:
        return ()
    count = min(request.inputs, len(request.blocks) * piece) // size
    if piece == size:
        return request.blocks if len(request.blocks) == count else request.blocks[:count]
    # blocks that one hash can tell
    width = -(-piece // size)
    if piece % size == 0:
        return [hash_ * width + at for hash_ in request.blocks for at in range(width)][:count]
    return [request.blocks[((at + 1) * size - 1) // piece] * width + at % width for at in range(count)]


class _Held:
    """What of a request's blocks is in the table.

    Parameters
    ----------
    names
        Of its prompt's blocks.
    mine
        Places of those that it refers to.
    coming
        Places of those that are on their way from the host.
    next
        Place from which on they are not in the cache yet.
    """

    __slots__ = ("coming", "mine", "names", "next")

    def __init__(self, names: Sequence[int], mine: list[int], coming: list[int], after: int) -> None:
        self.names, self.mine, self.coming, self.next = names, mine, coming, after


class _Found(NamedTuple):
    """What there is of a prompt's beginning.

    Parameters
    ----------
    names
        Of all its blocks.
    there
        Blocks of its beginning that there are.
    idle
        Those that no sequence refers to.
    outside
        Places of those that are in the host's memory alone.
    """

    names: Sequence[int]
    there: int
    idle: int
    outside: list[int]


class PrefixBlocks(Blocks):
    """Blocks that are found again."""

    def __init__(self, total: int, size: int, host: HostMemory | None = None) -> None:
        super().__init__(total, size, host)
        self._users: dict[int, int] = {}
        """Name of a block in the table -> sequences that refer to it."""
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Those without any; the first goes first."""
        self._held: dict[int, _Held] = {}
        self._names: tuple[int, Sequence[int]] = (-1, ())
        """Of the request that was looked for last."""
        self._openings = 0
        """Changes after which one that had no room may have."""
        self._refused = (-1, -1)
        """Who had none, and after how many such changes."""

    # --- who waits -----------------------------------------------------------------------------------

    def found(self, request: Request) -> int:
        """Tokens of one that waits that need not be computed."""
        if request.prefilled == request.target:
            return request.target
        return max(request.prefilled, self._look(request).there * self.size)

    def fits(self, request: Request, left: int = 0) -> bool:
        """As of `Blocks`."""
        if self._refused == (request.number, self._openings):
            return False
        return self._taken(request, self._look(request)) <= self.free - left

    def _look(self, request: Request) -> _Found:
        """The longest beginning that is there."""
        if self._names[0] != request.number:
            self._names = request.number, names(request, self.size)
        listed = self._names[1]
        swapped = self._swapped(request)
        # one token has to be computed for its logits, unless the first token of the reply is there
        handed = request.prefilled == request.target and not swapped
        most = (request.target if handed else request.target - 1) // self.size
        # whose cache comes as a whole takes nothing else from the host
        beside = None if handed or swapped or self.host is None else self.host.names
        users, count, idle, outside = self._users, 0, 0, []
        for name in listed if most >= len(listed) else listed[:most]:
            using = users.get(name)
            if using is None:
                if beside is None or name not in beside:
                    break
                outside.append(count)
            elif not using:
                idle += 1
            count += 1
        return _Found(listed, count, idle, outside)

    def _taken(self, request: Request, found: _Found) -> int:
        """Free blocks that it would take; those that are idle are free as well."""
        return -(-request.target // self.size) - (found.there - len(found.outside)) + found.idle

    def admit(self, request: Request, left: int = 0) -> int | None:
        """As of `Blocks`; what is found is not computed again."""
        if self._refused == (request.number, self._openings):
            return None
        found = self._look(request)
        taken = self._taken(request, found)
        if taken > self.free - left:
            # replies only take more until somebody leaves
            self._refused = request.number, self._openings
            return None
        listed, count, _, outside = found
        apart = set(outside)
        mine = [at for at in range(count) if at not in apart] if apart else list(range(count))
        users, idle = self._users, self._idle
        for at in mine:
            name = listed[at]
            using = users[name]
            if not using:
                del idle[name]
            users[name] = using + 1
        if self.host is not None:
            self.host.touch([listed[at] for at in outside])
        self._held[request.number] = _Held(listed, mine, outside, count)
        self.free -= taken
        self._evict()
        return self._start(request, found)

    def _start(self, request: Request, found: _Found) -> int:
        """Note in a request what need not be computed; blocks of it that come from the host."""
        tokens = found.there * self.size
        if self.host is not None and self._swapped(request):
            missing = self.held(request.prefilled) - found.there
            if missing <= 0:
                self.host.forget(request)
            request.prefilled = max(request.prefilled, tokens)
            return max(0, missing)
        if request.prefilled == request.target:
            return 0
        request.prefilled = tokens
        if request.scheduled < 0:
            request.cached, request.hosted = tokens, len(found.outside) * self.size
        return len(found.outside)

    # --- who runs ------------------------------------------------------------------------------------

    def fill(self, request: Request, tokens: int) -> None:
        """So many tokens of a request are in the cache with the step that is formed now: others find its blocks."""
        held = self._held[request.number]
        until = min(len(held.names), tokens // self.size)
        places: Sequence[int] = range(held.next, until)
        if held.coming:
            places, held.coming = [*held.coming, *places], []
        if not places:
            return
        held.next = max(held.next, until)
        users, listed, mine = self._users, held.names, held.mine
        for at in places:
            name = listed[at]
            # one that somebody else computed meanwhile stays the one that is found
            if name not in users:
                users[name] = 1
                mine.append(at)
        self._openings += 1

    def grow(self, blocks: int) -> None:
        """Sequences that decode take so many more, over those that are idle."""
        self.free -= blocks
        self._evict()

    def release(self, request: Request, tokens: int) -> None:
        """A request gives back what so many tokens took; its prompt's blocks stay to be found."""
        held = self._held.pop(request.number)
        users, idle, listed = self._users, self._idle, held.names
        # those from the host were added last
        held.mine.sort()
        still = 0
        for at in reversed(held.mine):
            name = listed[at]
            users[name] = using = users[name] - 1
            if using:
                still += 1
            else:
                idle[name] = None
        self.free += -(-tokens // self.size) - still
        self._openings += 1

    def _evict(self) -> None:
        """Overwrite idle blocks until there are no more of them than free ones."""
        idle, users, host = self._idle, self._users, self.host
        for _ in range(len(idle) - self.free):
            name = idle.popitem(last=False)[0]
            del users[name]
            if host is not None:
                host.keep(name)
