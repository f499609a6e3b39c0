"""A stage's steps as its program is put together: what is alike among them, and what is taken before its time.

It depends on the schedule alone, so it is worked out once for many models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from scaleout.training.schedules import Pass

__all__ = ["Form", "Itinerary", "Steps", "finished", "itinerary", "message_way"]

Steps = tuple[tuple[Pass, ...], ...]


class Form(NamedTuple):
    """What decides how a pass is written.

    Parameters
    ----------
    edge
        Forward, it is the first of its chunk; otherwise the gradients of the chunk are whole after it.
    received
        The message that it waits for was taken before its step.
    """

    kind: str
    chunk: int
    edge: bool
    received: bool


@dataclass(frozen=True, slots=True, eq=False)
class Itinerary:
    """The steps of a stage.

    Parameters
    ----------
    forms
        Of the passes of each distinct step, in the order in which these come.
    which, names
        Of each step: its number among those, and its name for timelines.
    early
        Before a step: messages for passes of later ones, by way and pass.
    chunks
        In the order in which they begin.
    """

    forms: tuple[tuple[Form, ...], ...]
    which: tuple[int, ...]
    names: tuple[str, ...]
    early: Mapping[int, tuple[tuple[int, Pass], ...]]
    chunks: tuple[int, ...]


def message_way(kind: str, came: int, goes: int) -> int:
    """Which way the message that a pass waits for comes, for a chunk whose input does so; 0 for none."""
    if kind == "W":
        return 0
    return came if kind == "F" else -goes


def finished(steps: Steps) -> dict[int, int]:
    """The step after which the gradients of each chunk are whole, in the order in which that comes."""
    last = {one.chunk: at for at, step in enumerate(steps) for one in step if one.kind in "BW"}
    return dict(sorted(last.items(), key=lambda row: row[1]))


def itinerary(steps: Steps, ways: Sequence[tuple[int, int]], inbox: Mapping[int, tuple[Pass, ...]]) -> Itinerary:
    """The steps of a stage, by which way each chunk's input comes and its output goes."""
    ends, begun = finished(steps), dict[int, None]()
    coming = {way: iter(passes) for way, passes in inbox.items()}
    received: set[Pass] = set()
    early: dict[int, tuple[tuple[int, Pass], ...]] = {}
    numbers: dict[tuple[Form, ...], int] = {}
    which, names = [], []
    for at, step in enumerate(steps):
        forms = []
        for one in step:
            way = message_way(one.kind, *ways[one.chunk])
            if way and one not in received:
                # messages are taken in the order in which they are sent, whatever they are for
                others = [(way, other) for other in takewhile(one.__ne__, coming[way])]
                if others:
                    early[at] = (*early.get(at, ()), *others)
                    received.update(other for _, other in others)
            whole = at == ends[one.chunk] and one.kind in "BW"
            edge = whole if one.kind != "F" else one.chunk not in begun
            begun[one.chunk] = None
            forms.append(Form(one.kind, one.chunk, edge, one in received))
        which.append(numbers.setdefault(tuple(forms), len(numbers)))
        names.append("&".join(f"{o.kind}{o.micro_batch}" + (f".{o.chunk}" if ways[1:] else "") for o in step))
    return Itinerary(tuple(numbers), tuple(which), tuple(names), early, tuple(begun))
