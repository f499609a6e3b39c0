"""The KV cache of one attention rank, counted in blocks.

A sequence holds the blocks of the tokens that are in the cache or about to be. Decoding, it takes a
new one every so many steps; how many sequences take one at which step is counted by residues, so that
many steps ahead are one sum.
"""

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
    """

    def __init__(self, total: int, size: int) -> None:
        self.total, self.size = total, size
        self.free = total

    def held(self, tokens: int) -> int:
        """Blocks that so many cached tokens take."""
        return -(-tokens // self.size)

    def admit(self, request: Request, tokens: int) -> bool:
        """Take blocks for so many tokens of a request, if there is room; what is cached already is noted in it."""
        wanted = -(-tokens // self.size)
        if wanted > self.free:
            return False
        self.free -= wanted
        return True

    def grow(self, blocks: int) -> None:
        """Sequences that decode take so many more."""
        self.free -= blocks

    def release(self, request: Request, tokens: int) -> None:
        """A request gives back what so many tokens took."""
        self.free += -(-tokens // self.size)
