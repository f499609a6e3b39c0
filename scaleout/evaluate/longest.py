"""The longest path through a job's Programs with times alone: one class for each program, no events, no shared links.

Whatever a Program can say has a time here; ``docs/analytic.md`` has the rules and why no simulated
step is shorter.
"""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Ints
from scaleout.compiled import compilable
from scaleout.engine import ClassTimeline
from scaleout.engine.accelerator import stuck_at
from scaleout.engine.program import COMPUTE, RECEIVE, STREAMS, Job, ticks
from scaleout.errors import WorkloadError
from scaleout.evaluate.alone import Ground, Line, followed, lines

__all__ = ["longest"]


class _Flat(NamedTuple):
    """All programs in one, as columns; flat lists where it runs plain.

    Parameters
    ----------
    order, first
        Operations stream by stream, and where each stream begins; shapes (ops,) and (streams + 1,).
    stream
        Stream of each operation.
    after
        What each waits for, -1 for nothing; shape (ops x width,).
    taken
        Its time [tick].
    meeting, members
        Where it meets operations of other programs, -1 for nowhere; and how many meet there.
    """

    order: Ints
    first: Ints
    stream: Ints
    after: Ints
    taken: Ints
    meeting: Ints
    members: Ints


def longest(job: Job, ground: Ground, *, compiled: bool = True) -> list[ClassTimeline]:
    """Times of every program's operations [tick].

    Raises
    ------
    WorkloadError
        Operations wait for each other for ever.
    """
    found = lines(job)
    flat = _flat(job, found, ground.times(job, found, compiled=compiled))
    sizes = [len(program) for program in job.programs]
    count, streams = sum(sizes), len(flat.first) - 1
    arrived, started, ended = (np.full(count, -1, dtype=np.int64) for _ in range(3))
    rooms = [np.full(size, -1, dtype=np.int64) for size in (count, streams, count, len(flat.members))]
    rooms += [np.zeros(streams, dtype=np.int64), np.zeros(len(flat.members), dtype=np.int64)]
    stack = np.arange(streams - 1, -1, -1)
    if compiled:
        _walk.compiled(*flat, arrived, started, ended, stack, *rooms)
    else:
        # numbers out of lists are quicker than out of arrays
        columns = [column.tolist() for column in (*flat, arrived, started, ended, stack, *rooms)]
        _walk(*columns)
        arrived, started, ended = (np.array(column, dtype=np.int64) for column in columns[len(flat) :][:3])
    edges = np.cumsum([0, *sizes])
    if (ended < 0).any():
        raise WorkloadError(_stuck(job, flat, ended, edges))
    parts = zip(*(np.split(column, edges[1:-1]) for column in (arrived, started, ended)), strict=True)
    return [ClassTimeline(*columns) for columns in parts]


def _stuck(job: Job, flat: _Flat, ended: Ints, edges: Ints) -> str:
    """The first operation of each stream that never ends, in words."""
    open_ops = [mine[ended[mine] < 0][:1] for mine in np.split(flat.order, flat.first[1:-1])]
    heads = np.concatenate(open_ops)
    program = np.searchsorted(edges, heads, "right") - 1
    ranks = followed(job)[program]
    return stuck_at(job, list(zip(ranks.tolist(), (heads - edges[program]).tolist(), strict=True)))


def _flat(job: Job, found: dict[tuple[str, int, int], Line], times: dict[tuple[int, int, int], int]) -> _Flat:
    label_ticks = np.array([ticks(label.seconds) for label in job.labels], dtype=np.int64)
    edges = np.cumsum([0, *(len(program) for program in job.programs)])
    stream = np.concatenate([p.stream + at * len(STREAMS) for at, p in enumerate(job.programs)])
    after = np.concatenate(
        [np.where(p.after < 0, -1, p.after + low) for p, low in zip(job.programs, edges[:-1], strict=True)]
    )
    meeting = np.full(edges[-1], -1, dtype=np.int64)
    taken = np.empty(edges[-1], dtype=np.int64)
    # operations of each program on a family and role, in order: the k-th meets the k-th of the others
    several = sorted(
        {line for line in found.values() if len(line.members) > 1}, key=lambda line: (line.family, line.group)
    )
    names = {family: [m.family == family for m in job.messages] for family in {line.family for line in several}}
    for at, program in enumerate(job.programs):
        mine = taken[edges[at] : edges[at + 1]]
        computing = program.kind == COMPUTE
        mine[computing] = label_ticks[program.item[computing]]
        table = np.zeros((RECEIVE + 1, len(job.messages)), dtype=np.int64)
        for kind, item in program.meetings():
            table[kind, item] = times[at, kind, item]
        mine[~computing] = table[program.kind[~computing], program.item[~computing]]
    members: list[Ints] = []
    begin = 0
    for line in several:
        ours = np.array(names[line.family])
        rows = []
        for at, role in line.members:
            program = job.programs[at]
            busy = np.flatnonzero((program.kind != COMPUTE) & ((program.kind == RECEIVE) == bool(role)))
            rows.append(edges[at] + busy[ours[program.item[busy]]])
        size = max(len(row) for row in rows)
        for row in rows:
            meeting[row] = begin + np.arange(len(row))
        # what a member lacks is waited for for ever, as in the engine
        members.append(np.full(size, len(rows), dtype=np.int64))
        begin += size
    order = np.argsort(stream, kind="stable")
    first = np.searchsorted(stream[order], np.arange(len(job.programs) * len(STREAMS) + 1))
    everyone = np.concatenate(members) if members else np.zeros(0, dtype=np.int64)
    return _Flat(order, first, stream, after.ravel(), taken, meeting, everyone)


@compilable
def _wake(op, waiter, queue, stack, top):  # type: ignore[no-untyped-def]
    """Streams that waited for an operation go on the stack; returns its height."""
    stream = waiter[op]
    while stream >= 0:
        stack[top] = stream
        top += 1
        stream = queue[stream]
    waiter[op] = -1
    return top


@compilable
def _walk(  # type: ignore[no-untyped-def]
    order, first, stream, after, taken, meeting, members, arrived, started, ended, stack, waiter, queue, fellow, head,
    at, latest,
):  # fmt: skip
    """Go through the streams, each as far as it can; one that waits for an operation goes on after it.

    A stream is on the stack, or waits in the line of one operation, or in a meeting. `waiter` is the first stream that
    waits for an operation, `queue` the next; `head` the operation that came last to a meeting, `fellow` the one before.
    """
    width = len(after) // len(taken)
    top = len(stack)
    while top > 0:
        top -= 1
        line = stack[top]
        while first[line] + at[line] < first[line + 1]:
            place = first[line] + at[line]
            op = order[place]
            if ended[op] < 0:
                now = ended[order[place - 1]] if at[line] > 0 else 0
                blocked = -1
                for j in range(op * width, op * width + width):
                    if after[j] >= 0:
                        if ended[after[j]] < 0:
                            blocked = after[j]
                            break
                        now = max(now, ended[after[j]])
                if blocked >= 0:
                    queue[line] = waiter[blocked]
                    waiter[blocked] = line
                    break
                arrived[op] = now
                meet = meeting[op]
                if meet < 0:
                    started[op] = now
                    ended[op] = now + taken[op]
                    top = _wake(op, waiter, queue, stack, top)
                else:
                    latest[meet] = max(latest[meet], now)
                    members[meet] -= 1
                    fellow[op] = head[meet]
                    head[meet] = op
                    if members[meet] > 0:
                        break
                    while op >= 0:
                        started[op] = latest[meet]
                        ended[op] = latest[meet] + taken[op]
                        if stream[op] != line:
                            stack[top] = stream[op]
                            top += 1
                        top = _wake(op, waiter, queue, stack, top)
                        op = fellow[op]
            at[line] += 1
