"""Times alone: what each message of a job takes for one rank of every program, with the network to itself.

A communicator is seen from the ranks that are followed: the first of each program. An operation
takes the least over everything that can do it, and over the communicators of all programs of its
family, as the rows of `scaleout.parallel.wires` do. Equally spaced ranks on a rail fat tree are
counted without a fabric, all others read off patterns.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives import candidates
from scaleout.collectives.alone import HALF, WHOLE, send_rows
from scaleout.collectives.groups import rail_size_of
from scaleout.collectives.moe import ByKernel, exchange_pattern
from scaleout.collectives.places import Rails, railed, rails, reach
from scaleout.engine.partition import roles
from scaleout.engine.program import RECEIVE, Family, Job, Message
from scaleout.network import Fabric, copy_alone, machine
from scaleout.parallel.wires import HALVES, MANY, pattern_row, rows_of_places
from scaleout.specs import System
from scaleout.training.passes import least

__all__ = ["Ground", "Line", "followed", "lines"]


class Line(NamedTuple):
    """A communicator as the followed ranks see it.

    Parameters
    ----------
    family, group
        Which it is.
    members
        Program and role of the followed ranks in it; the role tells sender and receiver apart.
    """

    family: str
    group: int
    members: tuple[tuple[int, int], ...]


def followed(job: Job) -> Ints:
    """The first rank of each program."""
    return np.unique(job.program_of, return_index=True)[1]


def lines(job: Job) -> dict[tuple[str, int, int], Line]:
    """Communicator of each family, role and program that has one."""
    program_of = np.full(job.ranks, -1, dtype=np.int64)
    ranks = followed(job)
    program_of[ranks] = np.arange(len(ranks))
    found: dict[tuple[str, int, int], Line] = {}
    for name in sorted(job.families):
        programs, role_of = program_of[job.families[name].groups], roles(job, name).tolist()
        members: dict[int, list[tuple[int, int]]] = {}
        for group, place in np.argwhere(programs >= 0).tolist():
            members.setdefault(group, []).append((int(programs[group, place]), role_of[place]))
        for group, several in members.items():
            line = Line(name, group, tuple(sorted(several)))
            found |= {(name, role, program): line for program, role in several}
    return found


class Ground:
    """One machine under one layout, and what was counted on it so far."""

    def __init__(self, system: System, chips: int) -> None:
        self.system, self.chips = system, chips
        self.rails: Rails | None = rails(system, chips) if railed(system) else None
        self._rows: dict[tuple[str, str, Hashable, tuple[int, ...]], Floats] = {}

    @cached_property
    def fabric(self) -> Fabric:
        """The network, made where something has to be read off it."""
        return machine(self.system, self.chips)

    def times(
        self, job: Job, found: Mapping[tuple[str, int, int], Line], *, compiled: bool
    ) -> dict[tuple[int, int, int], int]:
        """Time alone of each program, kind and message that it has [tick]."""
        groups: dict[str, list[int]] = {}
        for line in found.values():
            groups.setdefault(line.family, []).append(line.group)
        chosen = {name: tuple(sorted(set(several))) for name, several in groups.items()}
        known: dict[tuple[Message, tuple[int, ...]], int] = {}
        out = {}
        for program, mine in enumerate(job.programs):
            for kind, item in mine.meetings():
                message = job.messages[item]
                line = found[message.family, int(kind == RECEIVE), program]
                where = (line.group,) if message.operation == "send" else chosen[message.family]
                if (message, where) not in known:
                    rows = self.rows(job.families[message.family], message, where, compiled=compiled)
                    known[message, where] = int(least(rows, message.nbytes))
                out[program, kind, item] = known[message, where]
        return out

    def rows(self, family: Family, message: Message, chosen: tuple[int, ...], *, compiled: bool) -> Floats:
        """Rows of latency [s], share [1] and rate [byte/s] of everything that can carry a message on some groups."""
        operation = HALVES[0] if message.operation in HALVES else message.operation
        key = family.name, operation, message.details, chosen
        if key not in self._rows:
            if isinstance(message.details, ByKernel):
                pattern = exchange_pattern(self.fabric, family.groups, message.details)
                self._rows[key] = np.array([pattern_row(self.fabric, pattern, group) for group in chosen])
            elif operation == "copy":
                self._rows[key] = np.array([copy_alone(self.system)])
            else:
                self._rows[key] = self._counted(family, operation, chosen, compiled=compiled)
        return self._rows[key]

    def _counted(self, family: Family, operation: str, chosen: Sequence[int], *, compiled: bool) -> Floats:
        groups, r = family.groups, self.rails
        mine = groups[list(chosen)]
        if r is not None and operation == "send":
            ways = send_rows(r)
            return np.concatenate([ways[reach(r, *pair)] for pair in mine.tolist()])
        if r is not None and operation in ("all_reduce", HALVES[0]):
            stride = int(mine[0, 1] - mine[0, 0])
            if stride > 0 and (np.diff(mine, axis=1) == stride).all():
                size, members = rail_size_of(groups // r.per_node), groups.shape[1]
                if len(groups) == 1 and members == r.chips:
                    # of everybody as of so many: less, by microseconds in a step
                    members = min(members, max(MANY // r.per_node, 2) * r.per_node)
                    size = members if size == r.chips else size
                count = rows_of_places.compiled if compiled else rows_of_places
                return count(r, WHOLE if operation == "all_reduce" else HALF, mine[:, 0].copy(), stride, members, size)
        operations = HALVES if operation == HALVES[0] else (operation,)
        made = [make for each in operations for make in candidates(self.fabric, groups, each).values()]
        return np.array([pattern_row(self.fabric, make(mine), at) for make in made for at in range(len(mine))])
