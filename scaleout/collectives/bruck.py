"""Bruck's algorithms: ceil(log2 n) steps for any n (Bruck et al. 1997).

In step k everyone deals with the member 2^k away, when what was to come in the step before has
come. An all-gather doubles what it holds; an all-to-all passes on all data whose way is not yet
gone in the k-th binary digit.
"""

from scaleout.collectives.algorithm import Task
from scaleout.collectives.schedule import Schedule
from scaleout.collectives.sends import Sends

__all__ = ["bruck"]


def bruck(task: Task) -> Schedule:
    """An all-gather or an all-to-all."""
    return _gather(task) if task.operation == "all_gather" else _all_to_all(task)


def _gather(task: Task) -> Schedule:
    n = task.members
    sends = Sends(task.goal())
    distance = 1
    came: dict[int, list[int]] = {}
    while distance < n:
        sends.next_round()
        coming: dict[int, list[int]] = {}
        for rank in range(n):
            other = (rank - distance) % n
            held = [block % n for block in range(rank, rank + min(distance, n - distance))]
            coming[other] = [sends.send(rank, other, held, lane=("out", rank), after=came.get(rank, ()))]
        came = coming
        distance *= 2
    return sends.schedule("bruck")


def _all_to_all(task: Task) -> Schedule:
    n = task.members
    sends = Sends(task.goal(out=n))
    # what is to go j members on lies, after so many of j's digits are gone, in a slot of its own
    hops = [0] * n
    for rank in range(n):
        sends.copy(rank, rank, n + rank)
    came: dict[int, list[int]] = {}
    for k in range((n - 1).bit_length()):
        sends.next_round()
        coming: dict[int, list[int]] = {}
        now = [j for j in range(1, n) if j >> k & 1]
        for rank in range(n):
            other = (rank + (1 << k)) % n
            slots, to = [], []
            for j in now:
                gone = j & ((1 << k) - 1)
                slots.append((rank + j) % n if not gone else (2 + hops[j]) * n + j)
                done = j < 1 << (k + 1)
                to.append(n + (other - j) % n if done else (3 + hops[j]) * n + j)
            coming[other] = [sends.send(rank, other, slots, to, lane=("out", rank), after=came.get(rank, ()))]
        came = coming
        for j in now:
            hops[j] += 1
    return sends.schedule("bruck")
