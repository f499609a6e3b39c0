"""Schedules with whole numbers for times, by a recurrence of its own over routes of micro-batches."""

from collections.abc import Mapping, Sequence

from scaleout.training import Pass, Schedule

Route = Sequence[tuple[int, int]]


def routes_of(placement: str, stages: int, chunks: int) -> list[Route]:
    """Stage and chunk there, in the order of the model, written down from the papers' figures."""
    down, up = list(range(stages)), list(reversed(range(stages)))
    if placement == "bidirectional":
        return [[(s, 0) for s in down], [(s, 1) for s in up]]
    turns = [down if c % 2 == 0 or placement == "looped" else up for c in range(chunks)]
    return [[(s, c) for c, turn in enumerate(turns) for s in turn]]


def plans_of(schedule: Schedule, stages: int, chunks: int, micro_batches: int) -> list[list[tuple[Pass, ...]]]:
    """Steps of all stages, each a tuple of passes."""
    return [
        [(step,) if isinstance(step, Pass) else step for step in schedule.passes(s, stages, chunks, micro_batches)]
        for s in range(stages)
    ]


def run(
    schedule: Schedule, stages: int, chunks: int, micro_batches: int, times: Mapping[str, int]
) -> tuple[int, list[int]]:
    """When the last stage ends, and how long each works; `times` by kind of pass, "&" for two overlapped."""
    routes = routes_of(schedule.placement, stages, chunks)
    plans = plans_of(schedule, stages, chunks, micro_batches)
    stop: dict[tuple[str, int, int, int], int] = {}  # ("there" or "back", route, place on it, micro-batch)
    where = {spot: (r, i) for r, route in enumerate(routes) for i, spot in enumerate(route)}
    free, at = [0] * stages, [0] * stages
    while any(at[s] < len(plans[s]) for s in range(stages)):
        before = list(at)
        for s in range(stages):
            while at[s] < len(plans[s]):
                step, needs = plans[s][at[s]], []
                for one in step:
                    r, i = where[s, one.chunk]
                    m = one.micro_batch
                    if one.kind == "F" and i:
                        needs.append(("there", r, i - 1, m))
                    if one.kind in "BI":
                        needs.append(("there", r, i, m))
                        needs += [("back", r, i + 1, m)] if i + 1 < len(routes[r]) else []
                    if one.kind == "W":
                        needs.append(("back", r, i, m))
                if any(need not in stop for need in needs):
                    break
                took = times["&"] if len(step) == 2 else times[step[0].kind]
                free[s] = max([free[s], *(stop[need] for need in needs)]) + took
                for one in step:
                    r, i = where[s, one.chunk]
                    if one.kind != "W":
                        stop["there" if one.kind == "F" else "back", r, i, one.micro_batch] = free[s]
                at[s] += 1
        assert at != before, "deadlock"
    work = [sum(times["&"] if len(step) == 2 else times[step[0].kind] for step in plan) for plan in plans]
    return max(free), work


def most_kept(plan: Sequence[tuple[Pass, ...]]) -> int:
    """Micro-batches of a chunk whose activations a stage keeps at most, until their weight gradients."""
    kept = most = 0
    for step in plan:
        for one in step:
            kept += {"F": 1, "B": -1, "W": -1, "I": 0}[one.kind]
            most = max(most, kept)
    return most
