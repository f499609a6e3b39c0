"""The host's memory beside HBM: blocks that the prefix cache had no room for, and caches of sequences
that lost their seat. They come back over the chips' links to the host.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

from scaleout.serving.request import Request

__all__ = ["Copy", "HostMemory"]

Copy = Callable[[Request, int, bool, Callable[[], None]], None]
"""Copies so many blocks of a request out of HBM (True) or in, and later makes a call when they are there."""


class HostMemory:
    """Memory of the host for one attention rank.

    Parameters
    ----------
    blocks
        How many it holds.
    copy
        Carries blocks.
    arrived
        Called when a request's blocks are back in HBM.
    counts
        How many "swaps" and "loads" there were, and blocks "out" and "in", are counted there.
    """

    def __init__(self, blocks: int, copy: Copy, arrived: Callable[[Request], None], counts: Counter[str]) -> None:
        self.blocks, self._copy, self._arrived, self._counts = blocks, copy, arrived, counts
        self.names: OrderedDict[int, None] = OrderedDict()
        """Of blocks of prompts; the first goes first."""
        self.swapped: dict[int, int] = {}
        """Requests whose cache is here -> blocks of it."""
        self._swapped_blocks = 0
        self._leaving: set[int] = set()
        """Requests whose cache is on its way out."""
        self._wanted: dict[int, tuple[Request, int]] = {}
        """Those of them that want it back already, and how many blocks."""

    def keep(self, name: int) -> None:
        """A block of a prompt loses its place in HBM."""
        names = self.names
        if name in names:
            names.move_to_end(name)
            return
        if self._swapped_blocks < self.blocks:
            names[name] = None
            self._counts["out"] += 1
            self._shrink()

    def touch(self, names: Iterable[int]) -> None:
        """Blocks are asked for."""
        for name in names:
            self.names.move_to_end(name)

    def _shrink(self) -> None:
        while len(self.names) + self._swapped_blocks > self.blocks:
            self.names.popitem(last=False)

    def swap(self, request: Request, blocks: int) -> bool:
        """Take the cache of a request that loses its seat, if there is room; before blocks of prompts."""
        if not 0 < blocks <= self.blocks - self._swapped_blocks:
            return False
        self.swapped[request.number] = blocks
        self._swapped_blocks += blocks
        self._shrink()
        self._counts["swaps"] += 1
        self._counts["out"] += blocks
        self._leaving.add(request.number)
        self._copy(request, blocks, True, lambda: self._left(request))
        return True

    def _left(self, request: Request) -> None:
        self._leaving.discard(request.number)
        wanted = self._wanted.pop(request.number, None)
        if wanted:
            self._bring(*wanted)

    def bring(self, request: Request, blocks: int) -> None:
        """Copy blocks of a request into HBM; of one that was swapped, behind the copy out."""
        if request.number in self._leaving:
            self._wanted[request.number] = request, blocks
        else:
            self._bring(request, blocks)

    def _bring(self, request: Request, blocks: int) -> None:
        def through() -> None:
            self.forget(request)
            self._arrived(request)

        self._counts["loads"] += 1
        self._counts["in"] += blocks
        self._copy(request, blocks, False, through)

    def forget(self, request: Request) -> None:
        """The cache of a request is not kept any more."""
        self._swapped_blocks -= self.swapped.pop(request.number, 0)
        self._wanted.pop(request.number, None)
