"""The loops of path finding, over numbers: distances, walks along shortest paths, even splits.

They take lists when run plain and arrays when compiled; `scaleout.network.routing` says what they
search and when they run compiled. A cost counts hops in its lowest `HOPS` values, so least cost
means fewest hops among equals, and the hops of a path are what its cost leaves over.
"""

from scaleout.arrays import Floats, Ints
from scaleout.compiled import compilable

__all__ = ["HOPS", "distances", "scramble", "spread", "walk"]

Reals = Floats | list[float]
Whole = Ints | list[int]

HOPS = 1 << 16
"""Room for hops in a cost; what is above counts picoseconds."""


@compilable
def scramble(x: int) -> int:
    """A number of 32 bits in which every bit depends on every bit of `x` (the mixer of C. Wellons' hash-prospector)."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x735A2D97) & 0xFFFFFFFF
    return x ^ (x >> 15)


@compilable
def distances(
    table: Whole, rows: Whole, goals: Whole, first: Whole, tail: Whole, cost: Whole, relay: Whole,
    queue: Whole, waiting: Whole,
) -> None:  # fmt: skip
    """Least cost from every vertex to each goal; -1 where no path leads there.

    Written: row `rows[i]` of `table`, filled with -1, for `goals[i]`. Read: links into each vertex
    from `first[v]` on, where they come from (`tail`), and what they cost. Only vertices marked
    `relay` are passed through. Where all costs are alike every vertex is looked at once.
    """
    size = len(queue)
    for i in range(len(goals)):
        goal, low = goals[i], rows[i] * size
        table[low + goal] = 0
        queue[0] = goal
        head, held = 0, 1
        while held:
            v = queue[head]
            head = head + 1 if head + 1 < size else 0
            held -= 1
            waiting[v] = 0
            if not relay[v] and v != goal:
                continue
            here = table[low + v]
            for e in range(first[v], first[v + 1]):
                u = tail[e]
                if table[low + u] < 0 or here + cost[e] < table[low + u]:
                    table[low + u] = here + cost[e]
                    if not waiting[u]:
                        waiting[u] = 1
                        end = head + held
                        queue[end if end < size else end - size] = u
                        held += 1


@compilable
def nearer(table: Whole, low: int, v: int, u: int, cost: int, goal: int, relay: Whole) -> bool:
    """Whether a link from `v` to `u` lies on a shortest path to the goal."""
    return table[low + u] >= 0 and table[low + u] + cost == table[low + v] and (relay[u] > 0 or u == goal)


@compilable
def walk(
    found: Whole, begin: Whole, at: Whole, goal: Whole, row: Whole, key: Whole, hashed: bool, size: int,
    table: Whole, first: Whole, head: Whole, cost: Whole, link: Whole, relay: Whole,
) -> None:  # fmt: skip
    """One shortest path a flow, `found[begin[f]:]`.

    Among equal next hops a hash of the flow's key and the vertex decides, or the digits of the key:
    its rest modulo their number, and so on with the quotient at the next choice.
    """
    for f in range(len(at)):
        v, low, p, left = at[f], row[f] * size, begin[f], key[f]
        while v != goal[f]:
            choices = 0
            for e in range(first[v], first[v + 1]):
                if nearer(table, low, v, head[e], cost[e], goal[f], relay):
                    choices += 1
            if hashed:
                pick = scramble((left + v * 0x9E3779B1) & 0xFFFFFFFF) % choices
            else:
                pick = left % choices
                left //= choices
            for e in range(first[v], first[v + 1]):
                if nearer(table, low, v, head[e], cost[e], goal[f], relay):
                    if pick == 0:
                        found[p] = link[e]
                        v = head[e]
                        break
                    pick -= 1
            p += 1


@compilable
def spread(
    found: Whole, weight: Reals, latency: Reals, sizes: Whole, begin: Whole, fill: bool, at: Whole, goal: Whole,
    row: Whole, size: int, table: Whole, first: Whole, head: Whole, cost: Whole, link: Whole, delay: Reals,
    relay: Whole, mark: Whole, reach: Whole, before: Whole, share: Reals, far: Reals,
) -> None:  # fmt: skip
    """Every flow split evenly over all next hops at every vertex.

    Written: `sizes[f]`, how many links a flow takes; where `fill`, also the links and their shares
    from `begin[f]` on, and the latency of the longest path. Scratch, one for each vertex: `mark` =
    -1, `reach`, `before`, `share`, `far`.
    """
    for f in range(len(at)):
        low, entries = row[f] * size, 0
        reach[0], mark[at[f]], before[at[f]], share[at[f]], far[at[f]] = at[f], f, 0, 1.0, 0.0
        i, known = 0, 1
        while i < known:
            v = reach[i]
            i += 1
            for e in range(first[v], first[v + 1]):
                u = head[e]
                if v != goal[f] and nearer(table, low, v, u, cost[e], goal[f], relay):
                    entries += 1
                    if mark[u] != f:
                        mark[u], before[u], share[u], far[u] = f, 0, 0.0, 0.0
                        reach[known] = u
                        known += 1
                    before[u] += 1
        sizes[f] = entries
        if not fill:
            continue
        i, known, p = 0, 1, begin[f]
        while i < known:
            v = reach[i]
            i += 1
            choices = 0
            for e in range(first[v], first[v + 1]):
                if v != goal[f] and nearer(table, low, v, head[e], cost[e], goal[f], relay):
                    choices += 1
            for e in range(first[v], first[v + 1]):
                u = head[e]
                if choices and nearer(table, low, v, u, cost[e], goal[f], relay):
                    part = share[v] / choices
                    found[p], weight[p] = link[e], part
                    p += 1
                    share[u] += part
                    far[u] = max(far[u], far[v] + delay[e])
                    before[u] -= 1
                    # all that flows into it is known
                    if before[u] == 0:
                        reach[known] = u
                        known += 1
        latency[f] = far[goal[f]]
