"""Rings, trees and switches among some members of a group, as sends into a larger schedule."""

from collections.abc import Hashable, Sequence

from scaleout.arrays import Ints
from scaleout.collectives.sends import Sends

__all__ = ["ring_gather", "ring_scatter", "switch_gather", "switch_scatter", "tree_all_reduce"]

Slots = Sequence[int] | Ints


def ring_scatter(sends: Sends, order: Sequence[int], blocks: Sequence[Slots], tag: Hashable) -> None:
    """Reduce-scatter round a ring: member order[i] ends with the sum of blocks[i]."""
    n = len(order)
    for step in range(n - 1):
        for i in range(n):
            after = order[(i + 1) % n]
            sends.send(order[i], after, blocks[(i - step - 1) % n], reduce=True, lane=(tag, order[i], after))


def ring_gather(sends: Sends, order: Sequence[int], blocks: Sequence[Slots], tag: Hashable) -> None:
    """All-gather round a ring: member order[i] begins with blocks[i]."""
    n = len(order)
    for step in range(n - 1):
        for i in range(n):
            after = order[(i + 1) % n]
            sends.send(order[i], after, blocks[(i - step) % n], lane=(tag, order[i], after))


def tree_all_reduce(sends: Sends, order: Sequence[int], slots: Slots, tag: Hashable) -> None:
    """Up a heap, whose position 0 stands above the others, and down again."""
    n = len(order)
    for i in range(n - 1, 0, -1):
        sends.send(order[i], order[i // 2], slots, reduce=True, lane=(tag, "up", order[i]))
    for i in range(1, n):
        sends.send(order[i // 2], order[i], slots, lane=(tag, "down", order[i]))


def switch_scatter(sends: Sends, members: Sequence[int], switch: int, blocks: Sequence[Slots], tag: Hashable) -> None:
    """Members put everything into the switch, which adds, and take their own block of the sum."""
    n = len(members)
    for step in range(n):
        for i, member in enumerate(members):
            sends.send(member, switch, blocks[(i + step) % n], reduce=True, lane=(tag, member, "in"))
    for member, block in zip(members, blocks, strict=True):
        sends.send(switch, member, block, lane=(tag, member, "out"))


def switch_gather(sends: Sends, members: Sequence[int], switch: int, blocks: Sequence[Slots], tag: Hashable) -> None:
    """Members hand their own block to the switch, which copies it to all."""
    for member, block in zip(members, blocks, strict=True):
        sends.send(member, switch, block, lane=(tag, member, "back"))
    for block in blocks:
        for member in members:
            sends.send(switch, member, block, lane=(tag, member, "copies"))
