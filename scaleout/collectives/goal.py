"""What an operation promises: which pieces of data each rank holds before it and after it.

The message is cut into pieces, and a rank's buffer into slots. In most operations piece p lies in
slot p on every rank, before and after. In all-to-alls a rank's piece for rank d starts in slot d,
and what came from rank s ends in slot `out` + s.
"""

from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.errors import WorkloadError, near

__all__ = ["BLOCKWISE", "EACH_ITS_OWN", "OPERATIONS", "REDUCING", "Goal"]

MOST_PIECES = 1 << 26
"""Of a message."""

OPERATIONS = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "broadcast",
    "reduce",
    "all_to_all",
    "gather",
    "scatter",
    "barrier",
    "send",
    "shift",
)
"""Names of operations."""
REDUCING = ("all_reduce", "reduce_scatter", "reduce", "barrier")
"""Operations in which every rank gives to every piece."""
BLOCKWISE = ("all_gather", "reduce_scatter", "gather", "scatter", "shift")
"""Operations in which a block of pieces belongs to each rank."""
EACH_ITS_OWN = ("all_to_all", "shift")
"""Operations whose message is what one rank sends, and which each rank has its own of."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Goal:
    """Pieces of an operation, and where they lie.

    Parameters
    ----------
    operation
        One of `OPERATIONS`. A send goes from member 0 to member 1; in a shift each member's block goes
        to the next, and the last one's to the first; a barrier's one piece is the knowledge of who
        has come, which may be counted more than once.
    members
        Ranks of the group.
    pieces
        Pieces of the message. In `BLOCKWISE` operations a multiple of the members: block r, of
        pieces / members, belongs to rank r; in all-to-alls a multiple of their square: block
        s x members + d goes from rank s to rank d.
    sizes
        Bytes of each piece over bytes of the message [1], shape (pieces,). The message is what an
        all-gather ends with, a reduce-scatter starts from, and a rank sends in an all-to-all, its
        own part included, or in a shift (the mean over ranks where they differ).
    root
        Of broadcasts, reductions to one rank, gathers and scatters.
    out
        First slot of the result.
    compact
        Whether a rank that holds its own block alone has it in the first slots (of the input or of
        the result) instead of in its place in the whole.

    >>> Goal.of("reduce_scatter", 3).end(1)
    {1: 1}
    """

    operation: str
    members: int
    pieces: int
    sizes: Floats
    root: int = 0
    out: int = 0
    compact: bool = False

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            raise WorkloadError(f"unknown operation {self.operation!r}; {near(self.operation, OPERATIONS)}")
        if self.members < 1 or self.pieces < 1 or len(self.sizes) != self.pieces:
            raise WorkloadError(
                f"{self.operation}: {self.members} members and {len(self.sizes)} sizes of {self.pieces} pieces; "
                "expected at least one member and one piece, and a size for each piece"
            )
        if not (np.isfinite(self.sizes).all() and (self.sizes >= 0).all()):
            raise WorkloadError(f"{self.operation}: sizes of pieces must be finite and zero or more")
        if self.operation == "send" and self.members != 2:
            raise WorkloadError(f"a send has 2 members, not {self.members}")
        if not 0 <= self.root < self.members:
            raise WorkloadError(f"{self.operation}: root {self.root} is not a member; expected 0 to {self.members - 1}")
        blocks = self.blocks
        if self.pieces % blocks:
            raise WorkloadError(f"{self.operation}: {self.pieces} pieces are no multiple of {blocks} blocks")

    @classmethod
    def of(
        cls,
        operation: str,
        members: int,
        *,
        chunks: int = 1,
        blocks: int = 0,
        parts: Floats | None = None,
        root: int = 0,
        out: int = 0,
    ) -> "Goal":
        """The goal of an operation with the usual slots.

        Parameters
        ----------
        chunks
            Pieces that each block is cut into.
        blocks
            Blocks of the message; 0 is one for each member (for each pair in an all-to-all; one in a barrier).
        parts
            Relative sizes of the blocks, shape (blocks,), or (members, members) in an all-to-all,
            from row to column; None is alike. Normalised so that the message is 1.
        """
        if operation == "barrier":
            return cls(operation=operation, members=members, pieces=1, sizes=np.zeros(1), out=out)
        pairs = operation == "all_to_all"
        count = members**2 if pairs else blocks or members
        if not (blocks >= 0 and chunks >= 1 and count * chunks <= MOST_PIECES):
            raise WorkloadError(
                f"{operation}: {blocks:,} blocks of {chunks:,} chunks; expected at least one chunk and "
                f"at most {MOST_PIECES:,} pieces in all"
            )
        sizes = np.ones(count) if parts is None else np.asarray(parts, dtype=float).ravel()
        if len(sizes) != count:
            raise WorkloadError(f"{operation}: {len(sizes)} sizes of parts, expected {count}")
        total = sizes.sum()
        if not (np.isfinite(total) and total > 0 and (sizes >= 0).all()):
            raise WorkloadError(f"{operation}: sizes of parts must be finite, zero or more, and not all zero")
        sizes = np.repeat(sizes * ((members if operation in EACH_ITS_OWN else 1) / (total * chunks)), chunks)
        return cls(operation=operation, members=members, pieces=count * chunks, sizes=sizes, root=root, out=out)

    @property
    def blocks(self) -> int:
        """Blocks that must divide the pieces."""
        if self.operation == "all_to_all":
            return self.members**2
        return self.members if self.operation in BLOCKWISE else 1

    @property
    def chunks(self) -> int:
        """Pieces of a block."""
        return self.pieces // self.blocks

    @property
    def slots(self) -> int:
        """Slots that the input and the result take."""
        whole = self.pieces // (self.members if self.operation == "all_to_all" else 1)
        return max(whole, self.out + whole)

    def _own(self, rank: int) -> range:
        return range(rank * self.chunks, (rank + 1) * self.chunks)

    def start(self, rank: int) -> dict[int, int]:
        """Piece in each slot of a rank before the operation; empty slots are left out."""
        own, chunks = self._own(rank), self.chunks
        if self.operation == "all_to_all":
            row = self.members * chunks
            return {slot: rank * row + slot for slot in range(row)}
        if self.operation in ("all_gather", "gather", "shift"):
            return {piece - own.start * self.compact: piece for piece in own}
        if self.operation in ("broadcast", "scatter", "send") and rank != self.giver:
            return {}
        return {piece: piece for piece in range(self.pieces)}

    def end(self, rank: int) -> dict[int, int]:
        """Piece in each slot of a rank that the operation is to fill."""
        own, chunks, out = self._own(rank), self.chunks, self.out
        if self.operation == "all_to_all":
            return {
                out + s * chunks + c: (s * self.members + rank) * chunks + c
                for s in range(self.members)
                for c in range(chunks)
            }
        if self.operation == "shift":
            own = self._own((rank - 1) % self.members)
        if self.operation in ("reduce_scatter", "scatter", "shift"):
            return {out + piece - own.start * self.compact: piece for piece in own}
        if self.operation in ("reduce", "gather") and rank != self.root:
            return {}
        if self.operation == "send" and rank != 1:
            return {}
        return {out + piece: piece for piece in range(self.pieces)}

    @property
    def giver(self) -> int:
        """The one rank that gives everything in a broadcast, scatter or send."""
        return 0 if self.operation == "send" else self.root

    def givers(self, piece: int) -> tuple[int, ...]:
        """Ranks whose data a finished piece is the sum of."""
        if self.operation in REDUCING:
            return tuple(range(self.members))
        if self.operation == "all_to_all":
            return (piece // self.chunks // self.members,)
        if self.operation in ("all_gather", "gather", "shift"):
            return (piece // self.chunks,)
        return (self.giver,)

    def block(self, index: int) -> Ints:
        """Slots of a block in its place in the whole."""
        return np.arange(index * self.chunks, (index + 1) * self.chunks)
