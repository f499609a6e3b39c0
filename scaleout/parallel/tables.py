"""Embedding tables dealt out over chips: whole tables, the busiest cut by columns; ``docs/nets.md``."""

from typing import NamedTuple

from scaleout.specs.net import Dlrm

__all__ = ["Dealt", "deal"]

_NARROWEST = 32
"""Elements of a row that a piece has at least."""


class Piece(NamedTuple):
    """Columns of a table: its rows, lookups of an item, elements of a row."""

    table: int
    rows: int
    lookups: int
    width: int


class Dealt(NamedTuple):
    """What the busiest chip has of the tables, and what the fullest.

    Parameters
    ----------
    pieces
        Of each chip.
    elements
        Of the fullest chip [1].
    """

    pieces: tuple[tuple[Piece, ...], ...]
    elements: float

    @property
    def busiest(self) -> tuple[Piece, ...]:
        """Pieces of the chip that reads the most."""
        return max(self.pieces, key=load)


def load(pieces: tuple[Piece, ...]) -> float:
    """Elements that an item reads of them [1]."""
    return float(sum(one.lookups * one.width for one in pieces))


def deal(net: Dlrm, chips: int) -> Dealt:
    """Tables over chips: the largest piece first, to the chip that reads the least.

    A table that has more than a chip's share of all reads or of all elements is halved by columns until its
    pieces have not, or are 32 elements wide.
    """
    reads = sum(net.lookups) * net.dimension / chips
    holds = sum(net.rows) * net.dimension / chips
    pieces: list[Piece] = []
    for table, (rows, lookups) in enumerate(zip(net.rows, net.lookups, strict=True)):
        width, parts = net.dimension, 1
        while width % 2 == 0 and width // 2 >= _NARROWEST and (lookups * width > reads or rows * width > holds):
            width, parts = width // 2, parts * 2
        pieces += [Piece(table, rows, lookups, width)] * parts
    hands: list[list[Piece]] = [[] for _ in range(chips)]
    reading, holding = [0.0] * chips, [0.0] * chips
    for one in sorted(pieces, key=lambda p: (-p.lookups * p.width / reads - p.rows * p.width / holds, p.table)):
        # both what is read and what is held should be even
        at = min(range(chips), key=lambda c: (max(reading[c] / reads, holding[c] / holds), c))
        hands[at].append(one)
        reading[at] += one.lookups * one.width
        holding[at] += one.rows * one.width
    return Dealt(tuple(tuple(hand) for hand in hands), max(holding))
