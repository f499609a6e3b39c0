"""What is promised to requests: who kept it, and what nobody can keep."""

import math
from collections.abc import Sequence

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import PlanError
from scaleout.served import Floor
from scaleout.serving.room import Room
from scaleout.serving.work import StepTimer, Work
from scaleout.specs import ServingExperiment
from scaleout.units import describe

__all__ = ["check_floor", "floor_of"]


def floor_of(experiment: ServingExperiment, timers: Sequence[StepTimer], rooms: Sequence[Room], prompt: int) -> Floor:
    """Times of a request with a prompt of so many tokens, alone in an empty system.

    With a pool that prefills and another that decodes, of each the better.
    """
    first, then, read = [], [], []
    step = experiment.max_batched_tokens
    for pool, timer, space in zip(experiment.pools, timers, rooms, strict=True):
        chip = pool.chip or experiment.system.chip
        if pool.role != "decode":
            done, ttft = 0, 0
            for _ in range(math.ceil(prompt / step)):
                new = min(step, prompt - done)
                work = Work(new, new * done + new * (new + 1) // 2, done + new, 1, rows=int(done + new == prompt))
                ttft += sum(timer.stages((work,) + (Work(),) * (pool.dp - 1)))
                done += new
            first.append(ttft / TICKS_PER_SECOND)
        if pool.role != "prefill":
            tokens = 1 + (experiment.speculation.tokens if experiment.speculation else 0)
            work = Work(0, 0, 0, 0, 1, tokens, prompt + tokens, prompt + tokens, tokens)
            # all drafted tokens taken, at the best
            then.append(sum(timer.stages((work,) + (Work(),) * (pool.dp - 1))) / TICKS_PER_SECOND / tokens)
            read.append(space.weights * pool.pp / chip.hbm_bandwidth / tokens)
    return Floor(prompt=prompt, ttft=min(first), tpot=min(then), weights=min(read))


def check_floor(experiment: ServingExperiment, floor: Floor) -> None:
    """Refuse a promise that an empty system breaks.

    Raises
    ------
    PlanError
        It says the floor, and what it is made of.
    """
    slo, mistakes = experiment.slo, []
    if slo.ttft is not None and slo.ttft < floor.ttft:
        mistakes.append(
            f"slo.ttft: {describe(slo.ttft, 's')} can be kept for no request: alone in an empty system a prompt of "
            f"{floor.prompt:,} tokens has its first token after {describe(floor.ttft, 's')}, the floor"
            f"{_why(floor)}; take more, a larger tp, or a faster chip"
        )
    if slo.tpot is not None and slo.tpot < floor.tpot:
        mistakes.append(
            f"slo.tpot: {describe(slo.tpot, 's')} can be kept for no request: alone in an empty system a token takes "
            f"{describe(floor.tpot, 's')}, the floor{_why(floor)}; take more, a larger tp, fewer bits, or a chip with "
            "more bandwidth"
        )
    if slo.latency is not None and slo.latency < floor.ttft:
        mistakes.append(
            f"slo.latency: {describe(slo.latency, 's')} can be kept for no request: the first token alone takes "
            f"{describe(floor.ttft, 's')}"
        )
    if mistakes:
        raise PlanError("\n".join(mistakes))


def _why(floor: Floor) -> str:
    return f" (of which {describe(floor.weights, 's')} to read the weights from HBM once)"
