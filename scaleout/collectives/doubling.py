"""Exchanges with one partner a step, about log2 n of them: recursive doubling, halving-doubling, Swing.

Halving-doubling reduces by giving away half of what is left at each step, then gathers the other
way round. Its partners are 1, 2, 4, ... members away; Swing's 1, 1, 3, 5, 11, ..., to and fro,
which on a ring or torus are fewer hops. Where n is no power of two, each member beyond the
largest power of two first gives what it has to one below, and gets the result from it at the end.
An exchange begins when what was to come in the step before has come to both partners, and what was
to leave has left: whoever still waits for data is not sent more in the meantime, which would only
share its link.
"""

from collections.abc import Callable

import numpy as np

from scaleout.arrays import Ints
from scaleout.collectives.algorithm import Task
from scaleout.collectives.groups import Group
from scaleout.collectives.phases import joined, phase
from scaleout.collectives.schedule import Schedule
from scaleout.collectives.sends import Sends
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern

__all__ = ["dissemination", "halving_doubling", "halving_form", "recursive_doubling", "swing", "swing_form"]

Partner = Callable[[int, int], int]
"""Partner of a member in a step."""


def _halves(core: int, steps: int, partner: Partner) -> list[list[Ints]]:
    """For each step and member, the members whose blocks it is to care for from that step on."""
    reach = [[np.array([rank]) for rank in range(core)]]
    for step in range(steps - 1, -1, -1):
        reach.append([np.sort(np.concatenate((reach[-1][r], reach[-1][partner(r, step)]))) for r in range(core)])
    return reach[::-1]


def _exchanges(name: str, task: Task, partners: list[Partner]) -> Schedule:
    """Reduce by halving, gather by doubling; of several partners each has a share of every block."""
    n, operation = task.members, task.operation
    core = 1 << (n.bit_length() - 1)
    steps, extra, colours = core.bit_length() - 1, n - core, len(partners)
    reduces, gathers = operation != "all_gather", operation != "reduce_scatter"
    blocks = core if operation == "all_reduce" else n
    goal = task.goal(blocks=blocks, chunks=colours)
    sends = Sends(goal)

    def slots(ranks: Ints, colour: int) -> Ints:
        """Of the blocks of some members of the core, and of those beyond it whose work they do."""
        both = np.concatenate((ranks, ranks[ranks < blocks - core] + core))
        return both * colours + colour

    everything = np.arange(goal.pieces)
    # the last send to each member, by colour
    came: list[dict[int, list[int]]] = [{} for _ in partners]
    for rank in range(extra):
        mine = everything // colours == core + rank
        part = everything if reduces else everything[mine]
        first = sends.send(core + rank, rank, part, reduce=reduces)
        for last in came:
            last[rank] = [first]
    halves = [_halves(core, steps, partner) for partner in partners]
    for step in range(steps) if reduces else ():
        sends.next_round()
        for colour, partner in enumerate(partners):
            before, came[colour] = came[colour], {}
            for rank in range(core):
                other = partner(rank, step)
                part = slots(halves[colour][step + 1][other], colour)
                lane, ready = ("out", rank, colour), before.get(other, ())
                came[colour][other] = [sends.send(rank, other, part, reduce=True, lane=lane, after=ready)]
    for step in reversed(range(steps)) if gathers else ():
        sends.next_round()
        for colour, partner in enumerate(partners):
            before, came[colour] = came[colour], {}
            for rank in range(core):
                other = partner(rank, step)
                part = slots(halves[colour][step + 1][rank], colour)
                lane, ready = ("out", rank, colour), before.get(other, ())
                came[colour][other] = [sends.send(rank, other, part, lane=lane, after=ready)]
    sends.next_round()
    for rank in range(extra):
        mine = everything // colours == core + rank
        if operation == "all_reduce":
            sends.send(rank, core + rank, everything)
        else:
            sends.send(rank, core + rank, everything[~mine if gathers else mine])
    return sends.schedule(name)


def halving_doubling(task: Task) -> Schedule:
    """Recursive halving and doubling; the nearest partner gets the most."""
    return _exchanges("halving-doubling", task, [lambda rank, step: rank ^ (1 << step)])


def _swung(rank: int, step: int, side: int, mirrored: bool) -> int:
    """Swing's partner along one side: to and fro by 1, 1, 3, 5, 11, ... members."""
    far: int = (1 - (-2) ** (step + 1)) // 3
    return (rank + (far if (rank % 2 == 0) != mirrored else -far)) % side


def _swing_partners(core: int, grid: tuple[int, ...]) -> list[Partner]:
    """One partner function; on a grid one for each direction of each side, which start at different sides."""
    sides = tuple(side for side in grid if side > 1)
    if len(sides) == 0 or any(side & (side - 1) for side in sides) or int(np.prod(sides)) != core:
        return [lambda rank, step: _swung(rank, step, core, False)]
    strides = [int(np.prod(sides[i + 1 :])) for i in range(len(sides))]

    def partner(first: int, mirrored: bool) -> Partner:
        # which side each step works on, and the how many-th step of that side it is
        turns: list[tuple[int, int]] = []
        left = [side.bit_length() - 1 for side in sides]
        at = first
        while any(left):
            if left[at % len(sides)]:
                side = at % len(sides)
                turns.append((side, sides[side].bit_length() - 1 - left[side]))
                left[side] -= 1
            at += 1

        def find(rank: int, step: int) -> int:
            side, turn = turns[step]
            place = rank // strides[side] % sides[side]
            return rank + (_swung(place, turn, sides[side], mirrored) - place) * strides[side]

        return find

    return [partner(first, mirrored) for first in range(len(sides)) for mirrored in (False, True)]


def swing(task: Task) -> Schedule:
    """Swing (De Sensi et al. 2024, arXiv 2401.09356).

    On a grid whose sides are powers of two the message is cut over all directions at once. Other
    numbers of members are done by the largest power of two, on a line.
    """
    core = 1 << (task.members.bit_length() - 1)
    return _exchanges("swing", task, _swing_partners(core, task.group.grid if core == task.members else ()))


def recursive_doubling(task: Task) -> Schedule:
    """An all-reduce whose every step exchanges the whole message."""
    n = task.members
    core = 1 << (n.bit_length() - 1)
    steps, extra = core.bit_length() - 1, n - core
    # the sum after each step has a slot of its own: slot 0 is the start, slot 1 the result
    sends = Sends(task.goal(blocks=1, out=1 if n > 1 else 0))
    at = [0] * core
    came: dict[int, list[int]] = {}
    for rank in range(extra):
        came[rank] = [sends.send(core + rank, rank, 0, 2, add=0)]
        at[rank] = 2
    for step in range(steps):
        sends.next_round()
        then = 1 if step == steps - 1 else 3 + step
        coming: dict[int, list[int]] = {}
        for rank in range(core):
            other = rank ^ (1 << step)
            coming[other] = [sends.send(rank, other, at[rank], then, add=at[other], after=came.get(other, ()))]
        at, came = [then] * core, coming
    sends.next_round()
    for rank in range(extra):
        sends.send(rank, core + rank, 1)
    return sends.schedule("recursive-doubling")


def dissemination(task: Task) -> Schedule:
    """A barrier: in round k everyone tells the member 2^k on who has come so far."""
    n = task.members
    steps = (n - 1).bit_length()
    sends = Sends(task.goal(out=steps))
    for step in range(steps):
        sends.next_round()
        for rank in range(n):
            sends.send(rank, (rank + (1 << step)) % n, step, step + 1, add=step)
    return sends.schedule("dissemination")


def _form(
    name: str, fabric: Fabric, groups: Ints, operation: str, protocol: str, partners: Callable[[int], list[Partner]]
) -> Pattern:
    """Phases of exchanges without their slots, which are many."""
    n = groups.shape[1]
    core = 1 << (n.bit_length() - 1)
    steps, extra = core.bit_length() - 1, n - core
    found = partners(core)
    rank, beyond = np.arange(core), np.arange(extra)
    reduces, gathers = operation != "all_gather", operation != "reduce_scatter"
    blocks = core if operation == "all_reduce" else n
    # blocks that each member of the core ends with, and those of all that it cares for from a step on
    own = np.where(rank < blocks - core, 2, 1)
    phases = []
    halves = []
    for partner in found:
        to = [np.array([partner(r, step) for r in range(core)], dtype=np.int64) for step in range(steps)]
        cares = [own]
        for step in range(steps - 1, -1, -1):
            cares.append(cares[-1] + cares[-1][to[step]])
        halves.append((to, cares[::-1]))
    source = np.tile(rank, len(found))
    scale = 1 / (blocks * len(found))

    def add(source: Ints, target: Ints, share: Ints | float) -> None:
        phases.append(phase(fabric, protocol, groups, source, target, np.broadcast_to(share, source.shape) * 1.0))

    if extra:
        add(core + beyond, beyond, 1.0 if reduces else 1 / n)
    for step in range(steps) if reduces else ():
        target = np.concatenate([to[step] for to, _ in halves])
        add(source, target, np.concatenate([cares[step + 1][to[step]] for to, cares in halves]) * scale)
    for step in reversed(range(steps)) if gathers else ():
        target = np.concatenate([to[step] for to, _ in halves])
        add(source, target, np.concatenate([cares[step + 1] for _, cares in halves]) * scale)
    if extra:
        add(beyond, core + beyond, 1.0 if operation == "all_reduce" else (n - 1) / n if gathers else 1 / n)
    return joined(name, fabric, protocol, phases, len(groups))


def halving_form(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """Two phases a step."""
    return _form(
        "halving-doubling", fabric, groups, operation, protocol, lambda _: [lambda rank, step: rank ^ (1 << step)]
    )


def swing_form(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """Two phases a step."""
    n = groups.shape[1]

    def partners(core: int) -> list[Partner]:
        return _swing_partners(core, Group.on(fabric, groups[0]).grid if core == n else ())

    return _form("swing", fabric, groups, operation, protocol, partners)
