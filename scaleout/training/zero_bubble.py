"""Schedules that split the backward pass, so that weight gradients fill what were bubbles."""

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from scaleout.training.schedules import Pass

__all__ = ["zb_h1", "zb_v"]


def zb_h1(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Pass]:
    """1F1B with weight gradients that come later, the later the stage (arXiv 2401.10241, figure 3, top).

    Stage p puts them off by p micro-batches: then each stage keeps as many as the first stage of
    1F1B does, and what is left over of them fills the drain.

    >>> "".join(step.kind for step in zb_h1(1, 4, 1, 4))
    'FFFIFIWIWIWW'
    """
    warm_up = min(stages - stage - 1, micro_batches)
    for m in range(warm_up):
        yield Pass("F", m)
    for m in range(micro_batches):
        if warm_up + m < micro_batches:
            yield Pass("F", warm_up + m)
        yield Pass("I", m)
        if m >= stage:
            yield Pass("W", m - stage)
    for m in range(max(0, micro_batches - stage), micro_batches):
        yield Pass("W", m)


def zb_v(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Pass]:
    """Two chunks a stage, down and up again, with no bubble between a stage's first pass and its last.

    arXiv 2401.10241, section 6: stages begin and end one forward pass after another. It takes
    2 P - 1 micro-batches; with fewer it is the same without those that there are not.
    """
    return (
        step for step in _zb_v(stage, stages, max(micro_batches, 2 * stages - 1)) if step.micro_batch < micro_batches
    )


def _zb_v(stage: int, stages: int, micro_batches: int) -> Iterator[Pass]:
    done: Counter[tuple[str, int]] = Counter()

    def following(kind: Literal["F", "I", "W"], chunk: int) -> Pass:
        done[kind, chunk] += 1
        return Pass(kind, done[kind, chunk] - 1, chunk)

    # until the first micro-batch is back; then in turns; then until the first gradient is back
    for _ in range(2 * (stages - stage) - 1):
        yield following("F", 0)
    for _ in range(stage):
        yield following("F", 1)
        yield following("F", 0)
    for _ in range(stages - stage):
        yield following("F", 1)
        yield following("I", 1)
        yield following("W", 1)
    while done["F", 1] < micro_batches:
        if done["F", 0] < micro_batches:
            yield following("F", 0)
        yield following("I", 0)
        yield following("W", 0)
        yield following("F", 1)
        yield following("I", 1)
        yield following("W", 1)
    # the drain; weight gradients that were put off come last
    for _ in range(stage):
        yield following("I", 0)
        yield following("I", 1)
    for _ in range(stages - stage):
        yield following("I", 0)
        yield following("W", 0)
    for chunk in (1, 0):
        while done["W", chunk] < micro_batches:
            yield following("W", chunk)
