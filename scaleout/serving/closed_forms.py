"""Whole batches in closed form: static ones, and a queue of requests that are all alike.

Nothing is simulated event by event: steps that differ in the length of what they see alone are added up
from some of them. ``docs/steps.md`` has the formulas.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.serving.room import Room
from scaleout.serving.work import StepTimer, Work, upto

__all__ = ["StaticBatch", "saturated_rate", "static_batch"]

_SAMPLES = 24
"""Steps of a reply that are timed; those between lie on lines."""


class StaticBatch(NamedTuple):
    """Times of a batch whose requests enter and leave together [s].

    Parameters
    ----------
    prefill
        To the first token of each reply.
    decode
        All further tokens.
    steps
        Of decoding.
    """

    prefill: float
    decode: float
    steps: int

    @property
    def step(self) -> float:
        """Mean time of a step of decoding [s]."""
        return self.decode / max(1, self.steps)


def static_batch(
    timer: StepTimer, batch: int, inputs: int, outputs: int, *, pp: int = 1, micro_tokens: int | None = None
) -> StaticBatch:
    """A batch of `batch` prompts of `inputs` tokens, and replies of `outputs`.

    Parameters
    ----------
    pp, micro_tokens
        Stages; see `InferenceEngine.micro_batch_tokens`.
    """
    first = _pipelined(timer, batch, pp, micro_tokens, inputs, partial(prompts, tokens=inputs))
    steps = outputs - 1
    total = 0.0
    if steps:
        marks = sorted({1 + (steps - 1) * k // (_SAMPLES - 1) for k in range(_SAMPLES)})
        times = [_pipelined(timer, batch, pp, micro_tokens, 1, partial(replies, seen=inputs + mark)) for mark in marks]
        total = _between(marks, times)
    return StaticBatch(first, total, steps)


def prompts(count: int, tokens: int) -> Work:
    """Whole prompts of so many tokens."""
    return Work(
        prompt_tokens=count * tokens,
        prompt_scores=count * tokens * (tokens + 1) // 2,
        prompt_context=count * tokens,
        prompts=count,
        rows=count,
    )


def replies(count: int, seen: float) -> Work:
    """A token of each of so many replies, which see so many tokens on average."""
    return Work(
        decodes=count,
        decode_tokens=count,
        context=upto(round(count * seen)),
        longest=upto(math.ceil(seen)),
        rows=count,
    )


def _between(marks: list[int], times: list[float]) -> float:
    """Sum over all whole numbers from the first mark to the last, of what lies on lines between the marks."""
    total = times[-1]
    for (low, a), (high, b) in pairwise(zip(marks, times, strict=True)):
        # low is counted, high is not
        total += (high - low) * (a + b) / 2.0 + (a - b) / 2.0
    return total


def _pipelined(
    timer: StepTimer, batch: int, pp: int, micro_tokens: int | None, each: int, work: Callable[[int], Work]
) -> float:
    """A step of a whole batch, cut into parts that follow one another through the stages [s]."""
    part = batch
    if pp > 1 and micro_tokens is not None:
        part = batch // pp if batch % pp == 0 else batch
        while part * each > micro_tokens and part % 2 == 0:
            part //= 2
    stages = timer.stages((work(part),))
    parts = -(-batch // part)
    return (sum(stages) + (parts - 1) * max(stages)) / TICKS_PER_SECOND


def saturated_rate(
    timer: StepTimer, room: Room, *, requests: int, inputs: int, outputs: int, most_sequences: int, most_tokens: int,
    ranks: int = 1, pp: int = 1,
) -> float:  # fmt: skip
    """Replies' tokens a second of a queue of equal requests that are all there from the beginning [token/s].

    So many requests as the cache has room for to their ends are worked on; when one ends, another begins.
    Since all are alike, those that began in one step end in one step: a round of `outputs` steps has steps
    with prompts as long as there are any to be let in, and steps of replies alone.
    """
    held = -(-(inputs + outputs) // room.block_tokens)
    n = min(most_sequences, room.blocks // held, -(-requests // ranks))
    if n < 1:
        return 0.0
    each = -(-requests // ranks)
    rounds, left = divmod(each, n)
    seconds = rounds * _round(timer, n, inputs, outputs, most_tokens, ranks, pp)
    if left:
        seconds += _round(timer, left, inputs, outputs, most_tokens, ranks, pp)
    return requests * outputs / seconds


def _round(timer: StepTimer, n: int, inputs: int, outputs: int, most_tokens: int, ranks: int, pp: int) -> float:
    """Time in which n requests are let in and served, while as many before them end [s]."""
    micro = -(-n // pp)
    mean = inputs + outputs / 2.0
    spare = max(1, most_tokens - micro)
    # whole prompts
    count = min(max(1, spare // inputs), micro)
    mixed = micro / count
    work = prompts(count, inputs)
    beside = max(0, micro - count)
    if beside:
        others = replies(beside, mean)
        work = Work(
            work.prompt_tokens, work.prompt_scores, work.prompt_context, work.prompts, beside, beside,
            others.context, others.longest, count + beside,
        )  # fmt: skip
    alone = max(0.0, outputs - mixed)
    slow = _stage(timer, work, ranks, pp)
    quick = _stage(timer, replies(micro, mean), ranks, pp)
    return mixed * slow + alone * quick


def _stage(timer: StepTimer, work: Work, ranks: int, pp: int) -> float:
    """Time of a step of all micro-batches, one behind the other [s]."""
    stages = timer.stages((work,) * ranks)
    return pp * max(stages) / TICKS_PER_SECOND if pp > 1 else stages[0] / TICKS_PER_SECOND
