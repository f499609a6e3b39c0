"""Pipeline schedules: in which order a stage runs the passes of its micro-batches.

A schedule is one generator of passes for each stage, and where the chunks of the model lie. Here
are those that do whole backward passes; ``zero_bubble.py`` and ``dual_pipe.py`` have those that
split them. ``docs/schedules.md`` has bubble and memory of each.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["KINDS_OF_PASS", "Pass", "Placement", "Schedule", "Step", "gpipe", "interleaved", "one_f_one_b"]

KINDS_OF_PASS = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}
"""Kinds of passes; a backward pass is an input gradient and a weight gradient in one."""


class Pass(NamedTuple):
    """One micro-batch through one of the stage's model chunks.

    Parameters
    ----------
    kind
        Of `KINDS_OF_PASS`.
    micro_batch, chunk
        Which, from 0 on; chunks as the stage counts its own.
    """

    kind: Literal["F", "B", "I", "W"]
    micro_batch: int
    chunk: int = 0


Step = Pass | tuple[Pass, Pass]
"""What a stage does next: a pass, or two that are overlapped, messages of the one behind kernels of the other."""
Placement = Literal["looped", "v", "bidirectional"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """An order of passes for every stage.

    Parameters
    ----------
    name
        As `layout.schedule` gives it.
    passes
        Generator of a stage's steps: (stage, stages, chunks, micro-batches) -> `Step` after `Step`.
        `chunks` is `layout.vpp`. May refuse numbers that it has no order for with a `PlanError`.
    placement
        Where the chunks of the model lie. "looped": chunk c of stage p of P is the model's chunk c P + p.
        "v": there and back, so that odd chunks lie the other way round, c P + P - 1 - p. "bidirectional":
        the model twice, stage p has chunk p as its chunk 0 and chunk P - 1 - p as its chunk 1; the first
        half of the micro-batches goes down through chunks 0, the second half up through chunks 1.
    chunks
        The one `layout.vpp` that it is made for; None for any.
    """

    name: str
    passes: Callable[[int, int, int, int], Iterable[Step]]
    placement: Placement = "looped"
    chunks: int | None = None


def gpipe(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Pass]:
    """All forward passes, then all backward passes (arXiv 1811.06965); over several chunks, breadth first."""
    for chunk in range(chunks):
        for m in range(micro_batches):
            yield Pass("F", m, chunk)
    for chunk in reversed(range(chunks)):
        for m in range(micro_batches):
            yield Pass("B", m, chunk)


def one_f_one_b(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Pass]:
    """Warm-up forwards, then one forward one backward, then drain (arXiv 2104.04473, figure 4).

    >>> "".join(step.kind for step in one_f_one_b(1, 4, 1, 4))
    'FFFBFBBB'
    """
    warm_up = min(stages - stage - 1, micro_batches)
    for m in range(warm_up):
        yield Pass("F", m)
    for m in range(micro_batches - warm_up):
        yield Pass("F", warm_up + m)
        yield Pass("B", m)
    for m in range(micro_batches - warm_up, micro_batches):
        yield Pass("B", m)


def interleaved(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Pass]:
    """1F1B over several model chunks a stage (arXiv 2104.04473, section 2.2).

    Micro-batches go through the chunks in groups; forward from the first chunk to the last, backward
    the other way. A group is as many as there are stages where that divides the micro-batches;
    otherwise as few more as leave a last group that is no smaller than that (the rule of Megatron-Core
    for ``microbatch_group_size_per_vp_stage``).
    """
    group = next((n for n in range(stages, micro_batches) if not 0 < micro_batches % n < stages), micro_batches)
    order = [
        (m, chunk)
        for first in range(0, micro_batches, group)
        for chunk in range(chunks)
        for m in range(first, min(first + group, micro_batches))
    ]
    forward = [Pass("F", m, chunk) for m, chunk in order]
    backward = [Pass("B", m, chunks - 1 - chunk) for m, chunk in order]
    warm_up = min((stages - stage - 1) * 2 + (chunks - 1) * group, len(order))
    yield from forward[:warm_up]
    for there, back in zip(forward[warm_up:], backward, strict=False):
        yield there
        yield back
    yield from backward[len(order) - warm_up :]
