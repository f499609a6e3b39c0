"""What communication takes under one layout with the network to itself: one source for every message size.

A row stands for one algorithm by one protocol, whose time is affine in the size of the message.
Groups are those of `families`, seen from the first rank of every stage. `wires_of` counts rows of
rail fat trees without a fabric; `wires_on` reads them off the patterns of any.
"""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives import candidates
from scaleout.collectives.alone import HALF, WHOLE, collective_rows, send_rows
from scaleout.collectives.places import Rails, rail_size_of_all, reach
from scaleout.compiled import compilable
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.network import Fabric
from scaleout.network.pattern import Pattern
from scaleout.parallel.ranks import families
from scaleout.specs import Layout

__all__ = ["HALVES", "MANY", "Wires", "pattern_row", "rows_of_places", "wires_of", "wires_on"]

_EACH = 8
"""Algorithms of a collective, at most."""
MANY = 256
"""Ranks as of which the eight bytes of everybody are counted."""


class Wires(NamedTuple):
    """Times alone of operations: rows of latency [s], share of the message that is moved [1] and rate
    [byte/s]; the fastest row is taken.

    Parameters
    ----------
    tp_half, tp_whole, dp_half, dp_whole
        All-gather or reduce-scatter, and all-reduce, of the groups of any stage. Shape (rows, 3).
    send
        Of each stage, to the next and (second half) to the one before. Shape (2 pp, rows, 3).
    embedding, world
        All-reduce of first and last stage, and of everybody.
    """

    tp_half: Floats
    tp_whole: Floats
    dp_half: Floats
    dp_whole: Floats
    send: Floats
    embedding: Floats
    world: Floats


@compilable
def _canonical(r, start, stride, members):  # type: ignore[no-untyped-def]
    """Where a group would start in the first leaf, or pod, in which it lies in the same way."""
    node, last = start // r.per_node, (start + stride * (members - 1)) // r.per_node
    chip = start - node * r.per_node
    if node // r.leaf_nodes == last // r.leaf_nodes:
        return chip
    if node // r.pod_nodes == last // r.pod_nodes:
        return node % r.leaf_nodes * r.per_node + chip
    return node % r.pod_nodes * r.per_node + chip


@compilable
def rows_of_places(r: Rails, operation: int, starts: Ints, stride: int, members: int, size: int) -> Floats:
    """Rows of the groups that begin at `starts`, once for those that lie alike; none of one member.

    Parameters
    ----------
    operation
        `HALF` or `WHOLE`.
    size
        `rail_size` of the whole family.
    """
    if members == 1:
        return np.zeros((0, 3))
    seen = np.empty(len(starts), dtype=np.int64)
    places = 0
    for i in range(len(starts)):
        start = _canonical(r, starts[i], stride, members)
        if not (seen[:places] == start).any():
            seen[places] = start
            places += 1
    out = np.empty((places * len(r.protocols) * _EACH, 3))
    count = 0
    for place in range(places):
        count = collective_rows(r, operation, seen[place], stride, members, size, out, count)
    return out[:count].copy()


@compilable
def _of_stages(r, operation, stages, step, stride, members, size):  # type: ignore[no-untyped-def]
    """Rows of the first group of every stage."""
    return rows_of_places(r, operation, np.arange(stages) * step, stride, members, size)


@compilable
def wires_of(r: Rails, tp: int, pp: int, dp: int, sharded: bool, sequence_parallel: bool) -> Wires:
    """Rows of a layout; those of operations that it does not have are empty.

    Parameters
    ----------
    sharded
        The dp group gathers and scatters; otherwise it reduces.
    """
    stage = tp * dp
    nobody = np.zeros((0, 3))
    tp_half, tp_whole, dp_half, dp_whole, embedding, world = nobody, nobody, nobody, nobody, nobody, nobody
    if tp > 1:
        size = rail_size_of_all(tp, r.chips // tp, 1, 1, tp, r.per_node)
        tp_half = _of_stages(r, HALF, pp, stage, 1, tp, size)
        tp_whole = _of_stages(r, WHOLE, pp, stage, 1, tp, size)
    if dp > 1:
        size = rail_size_of_all(stage, pp, tp, tp, dp, r.per_node)
        if sharded:
            dp_half = _of_stages(r, HALF, pp, stage, tp, dp, size)
        else:
            dp_whole = _of_stages(r, WHOLE, pp, stage, tp, dp, size)
    ways = send_rows(r)
    send = np.empty((2 * pp if pp > 1 else 0, ways.shape[1], 3))
    if pp > 1:
        for p in range(pp):
            send[p] = ways[reach(r, p * stage, (p + 1) % pp * stage)]
            send[pp + p] = ways[reach(r, p * stage, (p - 1) % pp * stage)]
        apart = (pp - 1) * stage
        embedding = _of_stages(r, WHOLE, 1, 0, apart, 2, rail_size_of_all(0, 1, stage, apart, 2, r.per_node))
    if r.chips > 1:
        # beyond so many ranks as of so many: less, by microseconds in a step
        most = max(MANY // r.per_node, 2) * r.per_node
        everyone = min(r.chips, most)
        size = rail_size_of_all(0, 1, 1, 1, r.chips, r.per_node)
        world = _of_stages(r, WHOLE, 1, 0, 1, everyone, everyone if size == r.chips else size)
    return Wires(tp_half, tp_whole, dp_half, dp_whole, send, embedding, world)


_ABOVE = 1.0 + 1e-13
"""The last bits of a rate depend on who counted it: a bound takes a hair more."""
HALVES = ("all_gather", "reduce_scatter")
"""Operations that load links alike."""


def wires_on(fabric: Fabric, layout: Layout) -> Wires:
    """Rows of a layout on any fabric, from the patterns that its operations may take there.

    All that is asked for by either kind of optimizer is there, so that one layout has one set.
    """
    found = families(layout, tied_embeddings=True)
    pp, stage = layout.pp, layout.tp * layout.dp
    nobody = np.zeros((0, 3))

    def rows(family: str, first: list[int], *operations: str) -> Floats:
        if family not in found:
            return nobody
        groups = found[family].groups
        return np.concatenate([_rows(fabric, groups, first, operation) for operation in operations])

    tp, dp = ([p * step for p in range(pp)] for step in (layout.dp, layout.tp))
    ways = []
    if pp > 1:
        # a stage sends its own message in either family: the pair back is listed under its receiver
        for family, first in (
            ("pp_forward", [p * stage for p in range(pp)]),
            ("pp_backward", [(p - 1) % pp * stage for p in range(pp)]),
        ):
            ways += [_rows(fabric, found[family].groups, [group], "send") for group in first]
    return Wires(
        tp_half=rows("tp", tp, *HALVES),
        tp_whole=rows("tp", tp, "all_reduce"),
        dp_half=rows("dp", dp, *HALVES),
        dp_whole=rows("dp", dp, "all_reduce"),
        send=np.stack(ways) if ways else np.empty((0, 0, 3)),
        embedding=rows("embedding", [0], "all_reduce"),
        world=rows("world", [0], "all_reduce"),
    )


def _rows(fabric: Fabric, groups: Ints, chosen: list[int], operation: str) -> Floats:
    """Rows of an operation by everything that the family may take, for some of its groups."""
    made = [make(groups[chosen]) for make in candidates(fabric, groups, operation).values()]
    return np.array([pattern_row(fabric, pattern, at) for pattern in made for at in range(len(chosen))])


def pattern_row(fabric: Fabric, pattern: Pattern, group: int) -> tuple[float, float, float]:
    """Latency [s], share [1] and rate [byte/s] of one group."""
    latency = pattern.latency(group)
    if len(pattern.phases) == 1:
        (phase,) = pattern.phases
        return latency, phase.share, phase.rate(fabric, group) * _ABOVE
    # every phase is rounded to ticks twice, the row but once
    latency -= (len(pattern.phases) + 1) / TICKS_PER_SECOND
    return max(latency, 0.0), 1.0, _ABOVE / pattern.per_byte(fabric, group)
