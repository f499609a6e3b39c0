"""What a router knows of prefix caches: which blocks of prompts each replica was sent lately."""

from collections import OrderedDict
from collections.abc import Sequence

from scaleout.serving.request import Request

__all__ = ["Recent"]


class Recent:
    """Blocks of prompts that replicas were sent, as many as each has room for; the oldest are forgotten.

    Parameters
    ----------
    tokens
        That each replica's KV cache has room for.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens
        self._of: list[OrderedDict[int, None]] = [OrderedDict() for _ in tokens]
        """Hashes that each was sent; the first is forgotten first."""
        self._who: dict[int, int] = {}
        """Hash -> who was sent it, a bit for each."""

    def holders(self, request: Request) -> tuple[list[int], int]:
        """Places of the replicas that were sent most of a prompt's blocks from its beginning, and how many blocks."""
        found, depth = 0, 0
        for name in request.blocks:
            who = self._who.get(name, 0)
            both = who & found if depth else who
            if not both:
                break
            found, depth = both, depth + 1
        return [place for place in range(found.bit_length()) if found >> place & 1], depth

    def sent(self, place: int, request: Request) -> None:
        """A request goes to the replica at a place."""
        if not request.blocks:
            return
        mine, who, bit = self._of[place], self._who, 1 << place
        # the beginning of a prompt is of more use than its end, and so is the last to go
        for name in reversed(request.blocks):
            if name in mine:
                mine.move_to_end(name)
            else:
                mine[name] = None
                who[name] = who.get(name, 0) | bit
        most = max(1, self._tokens[place] // request.block_tokens)
        while len(mine) > most:
            self._drop(mine.popitem(last=False)[0], bit)

    def forget(self, place: int) -> None:
        """The cache of a replica is lost."""
        mine, self._of[place] = self._of[place], OrderedDict()
        for name in mine:
            self._drop(name, 1 << place)

    def _drop(self, name: int, bit: int) -> None:
        left = self._who[name] & ~bit
        if left:
            self._who[name] = left
        else:
            del self._who[name]
