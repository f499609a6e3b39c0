"""Replicas that are lost, and when. What becomes of their requests is in ``docs/routers.md``."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from simpy.events import EventPriority

from scaleout.engine.clock import Alarm, Clock
from scaleout.engine.program import ticks
from scaleout.specs import Failure

__all__ = ["Outage", "outages", "schedule"]

_AFTER = EventPriority(3)
"""After all else of the instant, steps that begin then included: whatever is at the replica by then is lost."""


class Outage(NamedTuple):
    """A replica is gone for a while.

    Parameters
    ----------
    at, until
        From when to when [tick]; None: for good.
    replica
        Its number.
    retried
        Whether its requests go to others, or fail.
    """

    at: int
    until: int | None
    replica: int
    retried: bool


def outages(failures: Iterable[Failure]) -> list[Outage]:
    """Failures in the order of time; those of one replica that touch or overlap are one, as the first has it."""
    found: dict[int, list[Outage]] = {}
    for failure in sorted(failures, key=lambda one: (one.replica, one.at)):
        at = ticks(failure.at)
        until = None if failure.until is None else max(ticks(failure.until), at + 1)
        mine = found.setdefault(failure.replica, [])
        if mine and (mine[-1].until is None or mine[-1].until >= at):
            before = mine.pop()
            latest = None if before.until is None or until is None else max(before.until, until)
            mine.append(before._replace(until=latest))
        else:
            mine.append(Outage(at, until, failure.replica, failure.requests == "retried"))
    return sorted((one for mine in found.values() for one in mine), key=lambda one: (one.at, one.replica))


def schedule(
    env: Clock, planned: Iterable[Outage], lose: Callable[[Outage], None], recover: Callable[[int], None]
) -> None:
    """Make a call at each loss, and with its number whenever a replica is back."""
    for outage in planned:
        Alarm(env, outage.at - env.now, [lambda _, outage=outage: lose(outage)], _AFTER)  # type: ignore[misc]
        if outage.until is not None:
            number = outage.replica
            Alarm(env, outage.until - env.now, [lambda _, number=number: recover(number)])  # type: ignore[misc]
