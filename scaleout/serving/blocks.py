"""The KV cache of one attention rank, counted in blocks.

A sequence holds the blocks of the tokens that are in the cache or about to be. Decoding, it takes a
new one every so many steps; how many sequences take one at which step is counted by residues, so that
many steps ahead are one sum. Rules are in ``docs/kv_cache.md``.
"""

from scaleout.serving.host import HostMemory
from scaleout.serving.request import Request

__all__ = ["Blocks"]


class Blocks:
    """Blocks of one attention rank.

    Parameters
    ----------
    total
        How many there are.
    size
        Tokens of one.
    host
        Memory beside HBM; None for none.
    """

    def __init__(self, total: int, size: int, host: HostMemory | None = None) -> None:
        self.total, self.size, self.host = total, size, host
        self.free = total
        """Those that no sequence holds."""

    def held(self, tokens: int) -> int:
        """Blocks that so many cached tokens take."""
        return -(-tokens // self.size)

    def found(self, request: Request) -> int:
        """Tokens of one that waits that need not be computed."""
        return request.prefilled

    def fits(self, request: Request, left: int = 0) -> bool:
        """Whether there is room for one that waits, and so many blocks besides."""
        return -(-request.target // self.size) <= self.free - left

    def admit(self, request: Request, left: int = 0) -> int | None:
        """Take blocks for a request, if so many are left then; what of it need not be computed is noted in it.

        Returns
        -------
        Blocks that have to come from the host's memory before it goes on; None where there is no room.
        """
        wanted = -(-request.target // self.size)
        if wanted > self.free - left:
            return None
        self.free -= wanted
        return self.held(request.prefilled) if self._swapped(request) else 0

    def _swapped(self, request: Request) -> bool:
        """Whether its cache waits in the host's memory."""
        return self.host is not None and request.number in self.host.swapped

    def fill(self, request: Request, tokens: int) -> None:
        """So many tokens of a request are in the cache with the step that is formed now."""

    def grow(self, blocks: int) -> None:
        """Sequences that decode take so many more."""
        self.free -= blocks

    def release(self, request: Request, tokens: int) -> None:
        """A request gives back what so many tokens took."""
        self.free += -(-tokens // self.size)
