"""Collective operations: who sends what to whom, chunk by chunk, and as load on links and latency.

`ALGORITHMS` are all of them by name; `Sends` and `Algorithm` are what one of your own is made of,
and `check` says whether it does what its operation promises.
"""

from scaleout.collectives.algorithm import Algorithm, Task
from scaleout.collectives.correctness import check
from scaleout.collectives.goal import OPERATIONS, Goal
from scaleout.collectives.groups import Group
from scaleout.collectives.phases import rounds
from scaleout.collectives.registry import ALGORITHMS, register
from scaleout.collectives.schedule import Edges, Moves, Schedule
from scaleout.collectives.select import Candidate, candidates, choose, explain, fastest, only, trials
from scaleout.collectives.sends import Sends

__all__ = [
    "ALGORITHMS",
    "OPERATIONS",
    "Algorithm",
    "Candidate",
    "Edges",
    "Goal",
    "Group",
    "Moves",
    "Schedule",
    "Sends",
    "Task",
    "candidates",
    "check",
    "choose",
    "explain",
    "fastest",
    "only",
    "register",
    "rounds",
    "trials",
]
