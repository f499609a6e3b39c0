"""Every way to make replicas of a model on machines: which divide, fit, and can be timed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from scaleout.errors import PlanError, ScaleoutError, SpecError
from scaleout.io.experiments import serving_experiment
from scaleout.parallel.inference_kernels import measured
from scaleout.planning.serve_question import Question, as_mapping
from scaleout.serving.room import Room, room
from scaleout.specs import Cache, Model, Pool, Scheduler, ServingExperiment

__all__ = ["STAGES", "Space", "Way", "space_of"]

STAGES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16)
"""Pipeline stages of a replica that are looked at."""
_EXPERT_STAGES = (1, 2, 4, 8)
_RANKS = (1, 2, 4, 8, 16, 32, 64)
"""Attention ranks of a replica, of models with experts."""
_LARGEST = 512
"""Chips of a replica."""


class Way(NamedTuple):
    """One way to make replicas.

    Parameters
    ----------
    system, precision, cache
        Names.
    chunk
        Tokens of a step; None is what the engine does.
    pools
        One, or two apart; with one replica each.
    """

    system: str
    precision: str
    cache: str
    chunk: int | None
    pools: tuple[Pool, ...]

    @property
    def name(self) -> str:
        """In words."""
        parts = [self.precision, *(f"KV {self.cache}" for _ in range(self.cache != "bf16"))]
        if self.chunk is not None:
            parts.append(f"steps of {self.chunk:,} tokens")
        return f"{self.system}: {', '.join(parts)}, {' + '.join(map(_layout, self.pools))}"

    @property
    def chips_each(self) -> int:
        """Chips of one replica of each pool."""
        return sum(pool.chips_each for pool in self.pools)


def _layout(pool: Pool) -> str:
    words = f"tp {pool.tp}"
    for name in ("pp", "dp", "ep"):
        if (value := getattr(pool, name)) > 1:
            words += f", {name} {value}"
    return words if pool.role == "both" else f"{pool.role} {words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """All ways, and what became of the rest.

    Parameters
    ----------
    bases
        Of each system, an experiment that ways change.
    ways
        Those that divide and fit.
    rooms
        Of each pool of each of them.
    left_out
        How many others, by why.
    notes
        Systems of which no way is left, and why.
    """

    bases: dict[str, ServingExperiment]
    ways: list[Way]
    rooms: list[tuple[Room, ...]]
    left_out: dict[str, int]
    notes: tuple[str, ...]

    def experiment(self, way: Way, counts: tuple[int, ...]) -> ServingExperiment:
        """With so many replicas of each pool."""
        pools = tuple(replace(pool, replicas=count) for pool, count in zip(way.pools, counts, strict=True))
        return _changed(self.bases[way.system], way.precision, way.cache, way.chunk, pools)


def _changed(
    base: ServingExperiment, precision: str, cache: str, chunk: int | None, pools: tuple[Pool, ...]
) -> ServingExperiment:
    changes: dict[str, Any] = {"precision": precision, "cache": Cache(dtype=cache), "pools": pools}  # type: ignore[arg-type]
    if chunk is not None:
        changes["scheduler"] = Scheduler(max_batched_tokens=chunk)
    return replace(base, **changes)


def space_of(question: Question, longest: int) -> Space:
    """The space of a question.

    Parameters
    ----------
    longest
        Prompt and reply of a request together, at most [token].

    Raises
    ------
    SpecError
        A name is unknown, or a request is longer than the model takes.
    """
    found = Space(bases={}, ways=[], rooms=[], left_out=Counter(), notes=())
    notes: list[str] = []
    for system in question.systems:
        before = len(found.ways)
        problem = ""
        try:
            base = serving_experiment(as_mapping(question, system))
        except ScaleoutError as error:
            if len(question.systems) == 1:
                raise
            notes.append(f"{system}: {error}".splitlines()[0])
            found.left_out["no serving there"] += 1
            continue
        if longest > base.max_length:
            raise SpecError(
                f"requests: a prompt with its reply has {longest:,} tokens; {base.model.name} takes "
                f"{base.max_length:,}: shorter means, or a model with a longer context"
            )
        found.bases[system] = base
        for precision in question.precisions:
            if not measured(base.system.chip, precision):
                found.left_out["no constants of the precision"] += 1
                problem = problem or f"no constants of {precision}"
                continue
            for cache in question.caches:
                for chunk in question.chunks:
                    one = (base, precision, cache, chunk)
                    problem = _add(found, question, one, longest) or problem
        if len(found.ways) == before:
            notes.append(f"{system}: {problem or 'no layout divides the model'}")
    return replace(found, notes=tuple(notes))


def _add(
    found: Space, question: Question, setting: tuple[ServingExperiment, str, str, int | None], longest: int
) -> str:  # fmt: skip
    """Ways of a precision on a system; why the last of the others was left out."""
    base, precision, cache, chunk = setting
    fitting: list[tuple[Pool, Room]] = []
    problem = ""
    limit = min(question.max_chips or _LARGEST, _LARGEST)
    for pool in _layouts(base.model, base.system.chips_per_node):
        try:
            spec = _changed(base, precision, cache, chunk, (pool,))
        except PlanError as error:
            found.left_out["does not divide"] += 1
            problem = problem or str(error).splitlines()[0]
            continue
        except SpecError as error:
            found.left_out["not served so"] += 1
            problem = problem or str(error).splitlines()[0]
            continue
        if pool.chips_each > limit:
            found.left_out["beyond a limit"] += 1
            problem = problem or f"a replica has more than {limit:,} chips"
            continue
        try:
            space = room(spec, pool)
        except ScaleoutError as error:
            found.left_out["does not fit in HBM"] += 1
            problem = str(error).splitlines()[0]
            continue
        if space.tokens < longest:
            found.left_out["KV cache too small for a request"] += 1
            problem = problem or f"KV caches have no room for a request of {longest:,} tokens"
            continue
        fitting.append((pool, space))
    if question.kinds != "apart":
        for pool, space in fitting:
            found.ways.append(Way(base.system.name, precision, cache, chunk, (pool,)))
            found.rooms.append((space,))
    if question.kinds != "together":
        for first, one in fitting:
            for then, other in fitting:
                pair = [(replace(first, role="prefill"), one), (replace(then, role="decode"), other)]
                # so that no replica of the smaller stands across two nodes
                pair.sort(key=lambda row: -row[0].chips_each)
                if sum(pool.chips_each for pool, _ in pair) > limit:
                    found.left_out["beyond a limit"] += 1
                    continue
                found.ways.append(Way(base.system.name, precision, cache, chunk, tuple(pool for pool, _ in pair)))
                found.rooms.append(tuple(space for _, space in pair))
    return problem


def _layouts(model: Model, node: int) -> Iterator[Pool]:
    """Degrees of a replica: tp inside a node."""
    experts = model.experts
    for tp in range(1, node + 1):
        if model.heads % tp:
            continue
        for pp in STAGES if experts is None else _EXPERT_STAGES:
            for dp in (1,) if experts is None else _RANKS:
                for ep in sorted({1, tp * dp if experts is not None else 1}):
                    if tp * pp * dp <= _LARGEST:
                        yield Pool(tp=tp, pp=pp, dp=dp, ep=ep)
