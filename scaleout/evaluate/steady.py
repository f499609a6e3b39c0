"""Replicas in a steady state, in closed form: what a batch settles at when requests come at a mean rate.

No events and no distributions: means of lengths, and times of the same steps that the simulation asks
for. It is for thousands of chips or layouts, of which the simulation then looks at few; equations and
how far they are off are in ``docs/steady.md``.
"""

import math
from dataclasses import dataclass

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import PlanError, SpecError
from scaleout.serving.room import Room
from scaleout.serving.work import StepTimer, Work, upto
from scaleout.specs import Pool, ServingExperiment

__all__ = ["Steady", "Typical", "steady"]

_TURNS = 12
"""Of the search for the batch, at most."""
_CLOSE = 0.01
"""Change of the batch from which on it is found [1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typical:
    """Requests on the average.

    Parameters
    ----------
    rate
        Over all replicas [1/s].
    prompt, reply
        Tokens.
    """

    rate: float
    prompt: float
    reply: float

    def __post_init__(self) -> None:
        for name in ("rate", "prompt", "reply"):
            value = getattr(self, name)
            if not 0.0 < value < 1e12:
                raise SpecError(f"requests.{name}: {value!r:.40} is not a number above 0, at most 1e12")


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Means of a stream of requests that is kept up with.

    Parameters
    ----------
    ttft, tpot
        Time to the first token, and per token after it [s]; infinite where more come than are served.
    batch
        Sequences that decode in a replica.
    busy
        Share of the time that prompts take of the replicas that have them [1].
    most
        Requests that all replicas can serve [1/s].
    bound_by
        What `most` is bound by: "KV cache", "seats", or "prompts".
    tokens_per_second
        Put out by all replicas: at the given rate, or at `most` where that is less [1/s].
    """

    ttft: float
    tpot: float
    batch: float
    busy: float
    most: float
    bound_by: str
    tokens_per_second: float


def steady(
    experiment: ServingExperiment, timers: list[StepTimer], rooms: list[Room], typical: Typical
) -> Steady:  # fmt: skip
    """The steady state of an experiment's pools.

    Parameters
    ----------
    timers, rooms
        Of its pools, as `scaleout.serve.prepare` gives them.

    Raises
    ------
    PlanError
        A request has no room in the KV cache.
    """
    found = [
        _Replica(experiment, pool, timer, room, typical)
        for pool, timer, room in zip(experiment.pools, timers, rooms, strict=True)
    ]
    first = min((one for one in found if one.pool.role != "decode"), key=lambda one: one.most)
    then = min((one for one in found if one.pool.role != "prefill"), key=lambda one: one.most)
    slowest = min((first, then), key=lambda one: one.most)
    served = min(typical.rate, slowest.most)
    over = typical.rate >= slowest.most
    batch, tpot = then.settle(then.share(typical.rate))
    busy = min(1.0, first.share(typical.rate) * first.marginal(batch if first is then else 0.0))
    ttft = first.first_token(first.share(typical.rate), batch if first is then else 0.0)
    return Steady(
        ttft=math.inf if over else ttft,
        tpot=math.inf if then.most <= typical.rate else tpot,
        batch=batch,
        busy=busy,
        most=slowest.most,
        bound_by=slowest.bound_by,
        tokens_per_second=served * typical.reply,
    )


class _Replica:
    """One of a pool's replicas, whose steps stand for those of all."""

    def __init__(
        self, experiment: ServingExperiment, pool: Pool, timer: StepTimer, room: Room, typical: Typical
    ) -> None:
        self.pool, self.timer, self.typical = pool, timer, typical
        self.decodes, self.prefills = pool.role != "prefill", pool.role != "decode"
        self.context = typical.prompt + typical.reply / 2.0
        self.largest = max(1, experiment.max_batched_tokens)
        # a sequence holds its whole blocks
        held = math.ceil((self.context + room.block_tokens / 2.0) / room.block_tokens)
        fits = room.blocks / held
        if fits < 1.0:
            raise PlanError(
                f"pool: the KV cache of {room.tokens:,} tokens has no room for a request of {self.context:,.0f}"
            )
        seats = float(experiment.max_sequences)
        # of all attention ranks, in steps that go together
        self.seats = min(fits, seats) * pool.dp
        self.bound_by = "KV cache" if fits < seats else "seats"
        self.most = self._most()

    def share(self, rate: float) -> float:
        """Requests a second of one replica."""
        return rate / self.pool.replicas

    def _most(self) -> float:
        """Requests that all replicas of the pool can serve [1/s]."""
        taken = self.marginal(self.seats) if self.prefills else 0.0
        if not self.decodes:
            self.bound_by = "prompts"
            return self.pool.replicas / taken
        # a full batch puts out a token a sequence in the time that prompts leave
        each = self.typical.reply * self.step(self.seats) / self.seats
        if taken > each:
            self.bound_by = "prompts"
        return self.pool.replicas / (each + taken)

    def step(self, batch: float) -> float:
        """Time between two tokens of a sequence in a batch of so many, without prompts [s]."""
        if not batch or not self.decodes:
            return 0.0
        return self._time(self._work(batch))

    def marginal(self, batch: float) -> float:
        """What a prompt adds to the steps of a batch [s]."""
        if not self.prefills:
            return 0.0
        left, done, total = self.typical.prompt, 0.0, 0.0
        alone = self.step(batch)
        while left > 0.0:
            new = min(left, float(self.largest))
            work = self._work(batch) if batch and self.decodes else Work()
            scores = new * done + new * (new + 1.0) / 2.0
            last = new == left
            total += self._time(
                work._replace(
                    prompt_tokens=max(1, round(new)), prompt_scores=max(1, round(scores)),
                    prompt_context=max(1, round(done + new)), prompts=1, rows=work.rows + last,
                )
            ) - alone  # fmt: skip
            done, left = done + new, left - new
        # ranks that go together prefill as many prompts at a time
        return total / self.pool.dp

    def _work(self, batch: float) -> Work:
        """A step of one of the parts that are in flight, on one attention rank."""
        each = max(1, round(batch / self.pool.dp / self.pool.pp))
        return Work(
            0, 0, 0, 0, each, each, upto(max(1, round(each * self.context))), upto(round(self.context) + 1), each
        )

    def _time(self, work: Work) -> float:
        stages = self.timer.stages((work,) * self.pool.dp)
        return max(sum(stages), self.pool.pp * max(stages)) / TICKS_PER_SECOND

    def settle(self, rate: float) -> tuple[float, float]:
        """Sequences that decode in a replica, and the time between two tokens of one [s].

        Little's law: as many as come in the time that a reply takes. Steps are stretched by the prompts between.
        """
        low, slope = self.step(1.0), 0.0
        batch, tpot = 1.0, low
        for _ in range(_TURNS):
            free = 1.0 - rate * self.marginal(batch)
            each = rate * self.typical.reply / free if free > 0.0 else math.inf
            # a straight line through the step of one sequence and the last that was looked at
            left = 1.0 - each * slope
            wanted = each * (low - slope) / left if left > 0.0 else self.seats
            wanted = min(self.seats, wanted)
            if abs(wanted - batch) <= _CLOSE * max(1.0, batch):
                return wanted, tpot if free > 0.0 else math.inf
            batch = wanted
            step = self.step(max(1.0, batch))
            tpot = step / free if free > 0.0 else math.inf
            slope = (step - low) / (batch - 1.0) if batch > 1.0 else 0.0
        return batch, tpot

    def first_token(self, rate: float, batch: float) -> float:
        """Time to the first token on the average [s]: what is left of a step, prompts before, and the prompt's own."""
        added = self.marginal(batch)
        busy = min(1.0, rate * added)
        if busy >= 1.0:
            return math.inf
        alone = self.step(batch) if batch >= 1.0 else batch * self.step(1.0)
        # a server with one queue and one time of service: Pollaczek and Khinchine
        waits = busy * added / (2.0 * (1.0 - busy))
        return waits + 1.5 * alone + added
