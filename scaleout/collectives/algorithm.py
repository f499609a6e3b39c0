"""What an algorithm is: a function from a task to a schedule, and from it the load on a network.

A user's own is one `Algorithm` with one function; it needs to say nothing of networks:

>>> from scaleout.collectives.sends import Sends
>>> def star(task):
...     sends = Sends(task.goal(blocks=1))
...     others = range(1, task.members)
...     for rank in others:
...         _ = sends.send(rank, 0, 0, reduce=True)
...     for rank in others:
...         _ = sends.send(0, rank, 0)
...     return sends.schedule("star")
>>> algorithm = Algorithm(name="star", operations=("all_reduce",), make=star)
>>> algorithm.schedule(4, "all_reduce").sends
6
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives.goal import BLOCKWISE, EACH_ITS_OWN, Goal
from scaleout.collectives.groups import Group
from scaleout.collectives.phases import rounds
from scaleout.collectives.schedule import Schedule
from scaleout.errors import WorkloadError
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern

__all__ = ["Algorithm", "Task"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """An operation of a group, for an algorithm to do.

    Parameters
    ----------
    operation
        One of `scaleout.collectives.goal.OPERATIONS`.
    group
        Who takes part, and where they lie.
    root
        Of broadcasts, reductions to one rank, gathers and scatters.
    chunks
        Pieces that a pipeline cuts each block into; algorithms in rounds take no notice.
    parts
        Relative sizes of the ranks' blocks, shape (members,), or (members, members) from row to
        column in an all-to-all; None is alike. For all-gathers, reduce-scatters, gathers, scatters,
        shifts and all-to-alls.
    elements
        Elements of the message, which cannot be cut: blocks then differ by at most one of them;
        None cuts evenly.
    """

    operation: str
    group: Group
    root: int = 0
    chunks: int = 1
    parts: Floats | None = None
    elements: int | None = None

    def __post_init__(self) -> None:
        if self.chunks < 1:
            raise WorkloadError(f"{self.operation}: a pipeline has at least one chunk, not {self.chunks}")
        if self.elements is not None and self.elements < 1:
            raise WorkloadError(f"{self.operation}: a message has at least one element, not {self.elements}")
        if self.parts is not None and self.operation not in (*BLOCKWISE, "all_to_all"):
            raise WorkloadError(f"{self.operation} has no parts of ranks to be uneven")
        if self.parts is not None and self.elements is not None:
            raise WorkloadError(f"{self.operation}: give parts or elements, not both")

    @property
    def members(self) -> int:
        """Ranks of the group."""
        return self.group.members

    def goal(self, *, blocks: int = 0, chunks: int = 1, out: int = 0) -> Goal:
        """The goal with so many blocks (0: one a member), each cut into chunks."""
        goal = Goal.of(
            self.operation, self.members, chunks=chunks, blocks=blocks, parts=self.parts, root=self.root, out=out
        )
        if self.elements is not None and self.operation != "barrier":
            share = goal.pieces // self.members if self.operation in EACH_ITS_OWN else goal.pieces
            edges = np.arange(share + 1) * self.elements // share
            sizes = np.tile(np.diff(edges) / self.elements, goal.pieces // share)
            object.__setattr__(goal, "sizes", sizes)
        return goal


Form = Callable[[Fabric, Ints, str, str], Pattern]
"""Phases of an operation on every group: of a fabric, groups of ranks (groups, members), operation, protocol."""


def _anywhere(_task: Task) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One way to do some operations.

    Parameters
    ----------
    name
        As libraries' protocols list it.
    operations
        What it can do.
    make
        The schedule of a task.
    form
        How it loads a network, where the schedule's rounds do not say it well (pipelines), or would
        be many; None takes the rounds.
    lacks
        What a task lacks for this algorithm to be worth a choice, in words; empty for nothing.
        `make` still does such tasks, if need be in another way that the schedule's note names.

    Raises
    ------
    WorkloadError
        From `schedule` and `pattern`: an operation that it does not do.
    """

    name: str
    operations: tuple[str, ...]
    make: Callable[[Task], Schedule]
    form: Form | None = None
    lacks: Callable[[Task], str] = _anywhere

    def fits(self, fabric: Fabric, groups: Ints, operation: str) -> bool:
        """Whether it does the operation, and these groups lie as it needs them."""
        if operation not in self.operations:
            return False
        if self.lacks is _anywhere:
            return True
        return not self.lacks(Task(operation=operation, group=Group.on(fabric, groups[0])))

    def schedule(
        self,
        group: Group | int,
        operation: str,
        *,
        root: int = 0,
        chunks: int = 1,
        parts: Floats | None = None,
        elements: int | None = None,
    ) -> Schedule:
        """Who sends what to whom, chunk by chunk; parameters as of `Task`."""
        self._able(operation)
        group = Group(members=group) if isinstance(group, int) else group
        return self.make(
            Task(operation=operation, group=group, root=root, chunks=chunks, parts=parts, elements=elements)
        )

    def pattern(self, fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
        """How it loads the network, for every group of a family; all lie as the first does.

        Parameters
        ----------
        groups
            Ranks of each group, shape (groups, members).
        """
        self._able(operation)
        if self.form is not None:
            return self.form(fabric, groups, operation, protocol)
        return rounds(fabric, groups, self.schedule(Group.on(fabric, groups[0]), operation), protocol)

    def _able(self, operation: str) -> None:
        if operation not in self.operations:
            raise WorkloadError(f"{self.name} does {', '.join(self.operations)}, not {operation!r}")
