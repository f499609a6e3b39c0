"""Many experiments at once by the analytic evaluator, for searches over designs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Bools, Floats, Ints
from scaleout.collectives.places import Rails, rails, refuse_unrailed
from scaleout.compiled import compilable
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import PlanError, SpecError, TopologyError
from scaleout.evaluate.analytic import analyse_programs, given, plan_of, refuse_slow
from scaleout.hardware import Rates, pack
from scaleout.hardware.formats import format_of
from scaleout.models import training_flops
from scaleout.parallel.activations import kept_of
from scaleout.parallel.costs import layer_costs
from scaleout.parallel.rows import ROWS
from scaleout.parallel.shard import Dimensions, Options, cut, dimensions, options
from scaleout.parallel.wires import wires_of
from scaleout.specs import TrainingExperiment
from scaleout.specs.experiment import LARGEST_MACHINE, LARGEST_STEP
from scaleout.training.missing import uncovered
from scaleout.training.peaks import peaks
from scaleout.training.recurrence import OUTCOME, Plan, step_ticks

__all__ = ["PARTS", "PROBLEMS", "Outcomes", "analyse_many", "design_space"]

PARTS = OUTCOME[1:]
"""Parts of the first stage's step, the columns of `Outcomes.breakdown_ps`."""
PROBLEMS = (
    "", "does not divide", "does not fit in HBM", "cannot be built", "slow parts", "no constants", "no time model",
)  # fmt: skip
"""Why a point has no step; see `Outcomes.problem`."""
_FINE, _DIVIDES_NOT, _FITS_NOT, _NO_MACHINE, _SLOW, _NO_CONSTANTS, _NO_MODEL = range(len(PROBLEMS))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """A table with a row for each point, in the order in which they were given.

    Parameters
    ----------
    problem
        Index into `PROBLEMS`; 0 where there is none. Shape (points,).
    step_time, step_time_ps
        Time of a step [s], NaN with a problem; and exactly [ps], 0 with a problem. Shape (points,).
    breakdown_ps
        `PARTS` of the first stage's step [ps], which sum to it. Shape (points, parts).
    memory
        Peak HBM of the fullest stage, one chip [byte]; NaN where nothing divides. Shape (points,).
    tokens_per_second
        Over all chips [token/s], NaN with a problem. Shape (points,).
    mfu
        Model FLOPs over time, chips and the chip's dense peak [1], NaN with a problem. Shape (points,).
    """

    problem: Ints
    step_time: Floats
    step_time_ps: Ints
    breakdown_ps: Ints
    memory: Floats
    tokens_per_second: Floats
    mfu: Floats

    def __len__(self) -> int:
        return len(self.problem)

    @property
    def best(self) -> int:
        """The point of the largest MFU, the first of equals; -1 where every point has a problem."""
        return int(np.nanargmax(self.mfu)) if (self.problem == _FINE).any() else -1


def _table(ticks: Ints, memory: Floats, problem: Ints, tokens: Floats, flops: Floats) -> Outcomes:
    """`flops`: model FLOPs of a step over the peak of all chips [s]."""
    fine = problem == _FINE
    ticks[~fine] = 0
    seconds = np.where(fine, ticks[:, 0] / TICKS_PER_SECOND, np.nan)
    columns = (problem, seconds, ticks[:, 0].copy(), ticks[:, 1:].copy(), memory, tokens / seconds, flops / seconds)
    for column in columns:
        column.setflags(write=False)
    names = ("problem", "step_time", "step_time_ps", "breakdown_ps", "memory", "tokens_per_second", "mfu")
    return Outcomes(**dict(zip(names, columns, strict=True)))


def analyse_many(experiments: Sequence[TrainingExperiment]) -> Outcomes:
    """Analyse experiments of any models, systems, stacks and layouts, each a lower bound of its simulated step.

    Runs compiled: the first call on a machine compiles, which takes about a minute.

    Raises
    ------
    SpecError
        Something in the list is no experiment.
    """
    count = len(experiments)
    ticks = np.zeros((count, len(OUTCOME)), dtype=np.int64)
    memory, problem = np.full(count, np.nan), np.zeros(count, dtype=np.int64)
    tokens, flops = np.zeros(count), np.zeros(count)
    for i, spec in enumerate(experiments):
        if not isinstance(spec, TrainingExperiment):
            raise SpecError(f"experiments: number {i}, {spec!r:.60}, is no experiment")
        if spec.slow.chips or spec.slow.spread or spec.slow.ports or spec.slow.scale_up or spec.faults:
            problem[i] = _SLOW
            continue
        capacity = spec.system.chip.hbm_bytes
        try:
            ticks[i], memory[i] = _analysed(spec, capacity)
        except (SpecError, TopologyError, PlanError) as error:
            problem[i] = _RAISED[type(error)]
            continue
        if memory[i] > capacity:
            problem[i] = _FITS_NOT
        tokens[i] = spec.batch.tokens
        peak = spec.system.chip.flops(format_of(spec.precision).rate) * spec.chips
        flops[i] = training_flops(spec.model, spec.batch.global_, spec.batch.sequence) / peak
    return _table(ticks, memory, problem, tokens, flops)


_RAISED = {TopologyError: _NO_MACHINE, PlanError: _NO_MODEL, SpecError: _NO_CONSTANTS}


def _analysed(spec: TrainingExperiment, capacity: float) -> tuple[Ints, float]:
    """`OUTCOME` of a step [tick], and what its fullest stage holds [byte]."""
    if uncovered(spec):
        end, parts, peaks = analyse_programs(spec)
        return np.array([end, *parts.values()]), max(sum(kinds.values()) for kinds in peaks)
    numbers = given(spec)
    ticks, stages = numbers.point.compiled(*numbers, capacity)
    return ticks, float(stages.sum(axis=1).max())


def design_space(
    base: TrainingExperiment,
    *,
    tp: npt.ArrayLike | None = None,
    pp: npt.ArrayLike | None = None,
    dp: npt.ArrayLike | None = None,
    vpp: npt.ArrayLike | None = None,
    sequence_parallel: npt.ArrayLike | None = None,
    zero: npt.ArrayLike | None = None,
    global_batch: npt.ArrayLike | None = None,
    micro: npt.ArrayLike | None = None,
    recompute: Sequence[str] | Sequence[Sequence[str]] | None = None,
) -> Outcomes:
    """Analyse many layouts of one model on one system, each a lower bound of its simulated step.

    Runs compiled: the first call on a machine compiles, which takes about a minute.

    Parameters
    ----------
    base
        Model, system, stack, precision and sequence; and what no argument changes.
    tp, pp, dp, vpp, sequence_parallel, zero
        As in `Layout`, one value or one for each point [1]. A point takes tp x pp x dp chips.
    global_batch, micro
        As in `Batch` [sequence].
    recompute
        Modules that are recomputed: one list, or a list for each point.

    Returns
    -------
    Outcomes
        Points that do not divide, do not fit, or cannot be built have a `problem` and no step.

    Raises
    ------
    SpecError
        Arguments of different lengths, or values that no point could have.

    Examples
    --------
    >>> import numpy as np, scaleout
    >>> base = scaleout.experiment("llama-3.1-8b-1k")
    >>> tp, pp = (axis.ravel() for axis in np.meshgrid([1, 2, 4, 8], [1, 2, 4]))
    >>> table = scaleout.design_space(base, tp=tp, pp=pp, dp=base.chips // (tp * pp))  # doctest: +SKIP
    >>> tp[table.best], pp[table.best]  # doctest: +SKIP
    """
    refuse_slow(base)
    refuse_unrailed(base.system)
    if beyond := uncovered(base):
        raise SpecError(f"design_space: {', '.join(beyond)}: its recurrence does not know these; take 'analyse_many'")
    layout, batch = base.layout, base.batch
    columns = {
        "tp": _whole("tp", tp, layout.tp),
        "pp": _whole("pp", pp, layout.pp),
        "dp": _whole("dp", dp, layout.dp),
        "vpp": _whole("vpp", vpp, layout.vpp),
        "sequence_parallel": _whole("sequence_parallel", sequence_parallel, layout.sequence_parallel, 0, 1),
        "zero": _whole("zero", zero, layout.zero, 0, 1),
        "global_batch": _whole("global_batch", global_batch, batch.global_, high=2**31),
        "micro": _whole("micro", micro, batch.micro),
    }
    modules, which = _modules(base, recompute)
    try:
        at = dict(zip((*columns, "which"), np.broadcast_arrays(*columns.values(), which), strict=True))
    except ValueError:
        sizes = ", ".join(f"{name} {column.size}" for name, column in columns.items() if column.size > 1)
        raise SpecError(f"design_space: arguments of different lengths: {sizes}, recompute {which.size}") from None
    return _layouts(base, {name: column.astype(np.int64) for name, column in at.items()}, modules)


def _whole(name: str, given: npt.ArrayLike | None, default: int, low: int = 1, high: int = LARGEST_MACHINE) -> Ints:
    values = np.atleast_1d(np.asarray(default if given is None else given))
    if values.size == 0:
        return values.reshape(-1).astype(np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iub" or not ((values >= low) & (values <= high)).all():
        accepted = "0 or 1" if high == 1 else f"whole numbers from 1 to {high:,}"
        raise SpecError(f"design_space: {name}: {given!r:.60} is not accepted; expected {accepted}, at most one axis")
    return values.astype(np.int64)


def _modules(base: TrainingExperiment, recompute: Any) -> tuple[list[tuple[str, ...]], Ints]:
    """Distinct lists of modules, and which of them each point takes."""
    lists = [base.recompute] if recompute is None else list(recompute)
    if recompute is not None and all(isinstance(item, str) for item in lists):
        lists = [tuple(lists)]
    found: dict[tuple[str, ...], int] = {}
    which = np.array([found.setdefault(tuple(item), len(found)) for item in lists], dtype=np.int64)
    # the experiment checks the names
    return [replace(base, recompute=names).recompute for names in found], which


def _divides(base: TrainingExperiment, at: dict[str, Ints]) -> Bools:
    """What `TrainingExperiment` accepts."""
    model, per_node = base.model, base.system.chips_per_node
    tp, pp, vpp = at["tp"], at["pp"], at["vpp"]
    chips, ranks = tp * pp * at["dp"], at["dp"] * at["micro"]
    micro_batches = at["global_batch"] // ranks
    fine: Bools = (chips <= LARGEST_MACHINE) & ((chips <= per_node) | (chips % per_node == 0))
    fine &= (model.heads % tp == 0) & (model.ffn % tp == 0)
    fine &= (model.kv_heads % tp == 0) | (tp % model.kv_heads == 0)
    fine &= (at["sequence_parallel"] == 0) | (base.batch.sequence % tp == 0)
    fine &= (pp * vpp <= model.layers + 2 * (base.stack.stages == "balanced")) & (at["global_batch"] % ranks == 0)
    fine &= (vpp == 1) | (pp > 1)
    # no product of accepted values overflows
    fine &= micro_batches * (model.layers + np.minimum(pp * vpp, model.layers + 3)) <= LARGEST_STEP
    return fine


def _layouts(base: TrainingExperiment, at: dict[str, Ints], modules: list[tuple[str, ...]]) -> Outcomes:
    system, sequence = base.system, base.batch.sequence
    chips = at["tp"] * at["pp"] * at["dp"]
    # the recurrence knows rounds of as many micro-batches as there are stages alone
    rounds = (at["vpp"] == 1) | (at["global_batch"] // (at["dp"] * at["micro"]) % at["pp"] == 0)
    problem = np.where(_divides(base, at), np.where(rounds, _FINE, _NO_MODEL), _DIVIDES_NOT)
    ticks = np.zeros((len(chips), len(OUTCOME)), dtype=np.int64)
    memory = np.full(len(chips), np.nan)
    model, rates = dimensions(base.model), pack(system.chip, base.stack, base.precision)
    tables = np.array([tuple(options(replace(base, recompute=names))) for names in modules])
    # points that share wires follow one another
    key = (at["tp"] << 21 | at["pp"]) << 21 | at["zero"] << 1 | at["sequence_parallel"]
    order = np.lexsort((key, chips))
    order = order[problem[order] == _FINE]
    shards, costs_of = _distinct(np.stack([at[name][order] for name in _SHARD]))
    costs = _costs.compiled(model, tables, shards, rates)
    rows = np.stack([at[name][order] for name in _COLUMNS] + [costs_of], axis=1)
    edges = np.flatnonzero(np.diff(chips[order], prepend=-1, append=-1))
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        mine = order[low:high]
        try:
            machine = rails(system, int(chips[mine[0]]))
        except TopologyError:
            problem[mine] = _NO_MACHINE
            continue
        found, full = _run.compiled(
            model, tables, rows[low:high], costs, rates, machine, plan_of(base), system.chip.hbm_bytes
        )
        ticks[mine], memory[mine] = found, full
    problem[memory > system.chip.hbm_bytes] = _FITS_NOT
    peak = chips * system.chip.flops(format_of(base.precision).rate)
    flops: Floats = training_flops(base.model, 1, sequence) * at["global_batch"] / peak
    return _table(ticks, memory, problem, at["global_batch"].astype(np.float64) * sequence, flops)


def _distinct(columns: Ints) -> tuple[Ints, Ints]:
    """Distinct columns, and which of them each is."""
    sizes = [int(row.max(initial=0)) + 1 for row in columns]
    if math.prod(sizes) >= 2**62:
        unique, which = np.unique(columns, axis=1, return_inverse=True)
        return unique, which.reshape(-1)
    code = columns[0].copy()
    for row, size in zip(columns[1:], sizes[1:], strict=True):
        code = code * size + row
    _, first, which = np.unique(code, return_index=True, return_inverse=True)
    return columns[:, first], which


_SHARD = ("tp", "sequence_parallel", "micro", "which")
_COLUMNS = ("tp", "pp", "dp", "vpp", "sequence_parallel", "zero", "global_batch", "micro", "which")


@compilable
def _choices(row, tp, sequence_parallel, micro):  # type: ignore[no-untyped-def]
    """`Options` of a list of modules under a layout."""
    cut_too = 1.0 if sequence_parallel > 0 and tp > 1 else 0.0
    return Options(
        float(tp), cut_too, float(micro), row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], row[11],
        row[12], row[13], row[14], row[15], row[16], row[17], row[18], row[19], row[20],
    )  # fmt: skip


@compilable
def _costs(model: Dimensions, tables: Floats, shards: Ints, rates: Rates) -> Floats:
    """Rows of `layer_costs` of every distinct shard."""
    count = shards.shape[1]
    out = np.empty((count, ROWS, 5))
    for i in range(count):
        o = _choices(tables[shards[3, i]], shards[0, i], shards[1, i], shards[2, i])
        out[i] = layer_costs(cut(model, o), rates)
    return out


@compilable
def _run(
    model: Dimensions,
    tables: Floats,
    rows: Ints,
    costs: Floats,
    rates: Rates,
    machine: Rails,
    base: Plan,
    capacity: float,
) -> tuple[Ints, Floats]:
    """Step and fullest stage of points on one machine; neighbours that share wires count them once."""
    count = len(rows)
    ticks = np.zeros((count, len(OUTCOME)), dtype=np.int64)
    full = np.empty(count)
    wired = -1
    wires = wires_of(machine, 1, 1, 1, False, False)
    for i in range(count):
        tp, pp, dp, vpp = rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3]
        zero = rows[i, 5]
        o = _choices(tables[rows[i, 8]], tp, rows[i, 4], rows[i, 7])
        s = cut(model, o)
        plan = Plan(
            pp,
            vpp,
            dp,
            rows[i, 6] // (dp * rows[i, 7]),
            base.layers,
            float(zero),
            base.balanced,
            base.overlap_tp,
            base.overlap_gather,
            base.overlap_reduction,
            base.overlap_sends,
            base.bucket,
            base.optimizer_traffic,
            base.reserved,
        )
        full[i] = peaks(s, kept_of(s, o, rates), plan, rates).sum(axis=1).max()
        if full[i] > capacity:
            continue
        if wired < 0 or (rows[i, :3] != rows[wired, :3]).any() or (rows[i, 4:6] != rows[wired, 4:6]).any():
            wires = wires_of(machine, tp, pp, dp, zero > 0, s.sequence_parallel > 0.0)
            wired = i
        ticks[i] = step_ticks(s, o, costs[rows[i, 9]], rates, wires, plan)
    return ticks, full
