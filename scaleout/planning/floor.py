"""What no layout is below: time of a step, and HBM; from kernels and collectives of one rank, for many layouts at once.

A stage cannot begin before the first micro-batch has come through the stages before it, it works through all
micro-batches one after another, and the step does not end before the last gradient has gone back through the stages
before it. ``docs/planning.md`` has the equations, and why nothing that is simulated is faster.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.collectives.places import Rails
from scaleout.errors import ScaleoutError
from scaleout.evaluate.analytic import given
from scaleout.evaluate.ranges import repeats
from scaleout.hardware import Rates, pack
from scaleout.models import LayerKind, layer_kinds
from scaleout.parallel import rows
from scaleout.parallel.activations import Kept, kept_of
from scaleout.parallel.context import pieces
from scaleout.parallel.costs import core_costs, layer_costs
from scaleout.parallel.shard import Options, Shard, chunk_parameters, cut, dimensions, options
from scaleout.parallel.wires import Wires, wires_of
from scaleout.planning.layouts import Cut, Pipe
from scaleout.specs import Batch, Layout, TrainingExperiment
from scaleout.training.passes import passes_of
from scaleout.training.stages import STATE_BYTES, layers_of

__all__ = ["Floor", "Rank", "rank_of"]

_SECONDS = 1e-12


class Rank(NamedTuple):
    """What one rank takes for a micro-batch, forward and backward; kinds of layers in the order of `Floor.kinds`.

    Parameters
    ----------
    layer
        Of each kind of layer, with what is sent between tensor-parallel ranks while nothing else runs [s].
    kernels
        The same without that [s].
    first, last
        What embedding and loss add [s].
    kept, again
        Of each kind: from forward to backward, and while its backward runs [byte].
    parameters, experts
        Of each kind: dense ones, and those of experts [1].
    embedding, head
        Parameters beside layers [1].
    """

    layer: tuple[float, ...]
    kernels: tuple[float, ...]
    first: float
    last: float
    kept: tuple[float, ...]
    again: tuple[float, ...]
    parameters: tuple[float, ...]
    experts: tuple[float, ...]
    embedding: float
    head: float


def _busy(row: Floats, rates: Rates) -> float:
    """Least time of an operation [s]: a host that launches slowly may make it longer."""
    return float(row[: rows.LAUNCH].sum() + row[rows.KERNELS] * rates.gap)


class Floor:
    """Lower bounds of layouts of one model on so many chips of one system.

    Parameters
    ----------
    base
        Everything but layout, micro-batch and recomputation.
    """

    def __init__(self, base: TrainingExperiment, chips: int) -> None:
        self.base, self.chips = base, chips
        layers = layer_kinds(base.model)
        self.kinds: list[LayerKind] = sorted(dict.fromkeys(layers), key=layers.index)
        self.layers = np.array([self.kinds.index(kind) for kind in layers])
        self.alike = len(self.kinds) == 1 and _plain(base, self.kinds[0])
        self.rates = pack(base.system.chip, base.stack, base.precision)
        self.summed = pack(base.system.chip, replace(base.stack, fused_gradient_sum=True), base.precision)
        self.dimensions = {kind: dimensions(base.model, kind) for kind in self.kinds}
        self._wires: dict[tuple[int, bool], Wires | None] = {}
        self.rank = lru_cache(maxsize=None)(self._rank)
        self.shape = lru_cache(maxsize=None)(self._shape)
        self._recomputing = lru_cache(maxsize=None)(self._with_modules)

    # --- one rank ----------------------------------------------------------------------------

    def _rank(self, at: Cut, each: bool) -> Rank:
        """`each`: gradients are reduced in every micro-batch."""
        rates = self.summed if each else self.rates
        found = [self._kind(at, each, kind, rates) for kind in self.kinds]
        _, _, shard, costs = found[0]
        wires = self._tp(at.tp, at.sequence_parallel) if self.alike else None
        first = sum(_busy(costs[row], rates) for row in (rows.F_EMBEDDING, rows.F_EMBEDDED, rows.B_EMBEDDING))
        last = rows.F_LOGITS, rows.F_LOSS, rows.B_LOGITS, rows.B_HEAD_WEIGHT, rows.B_FINAL_NORM
        after = _busy(costs[rows.F_NORM], rates) + sum(_busy(costs[row], rates) for row in last)
        kernels = tuple(one[0] for one in found)
        layer = kernels
        if wires is not None:
            o = self._options(at, each, self.kinds[0])
            overlap = float(self.base.stack.overlap_tensor_parallel)
            own = _with_core(costs, shard, at, rates)
            whole = passes_of(shard, o, own, wires, np.array([0.0, 1.0, 0.0]), 1, overlap)
            ends = passes_of(shard, o, own, wires, np.zeros(1), 1, overlap)
            entered = 2 * int(whole.enter)
            layer = ((int(whole.forward[1] + whole.backward[1]) - entered) * _SECONDS,)
            first = int(whole.forward[0] + whole.backward[0] - whole.enter) * _SECONDS
            after = int(ends.forward[0] + ends.backward[0]) * _SECONDS - first
        kept: list[Kept] = [one[1] for one in found]
        return Rank(
            layer=layer,
            kernels=kernels,
            first=first,
            last=after,
            kept=tuple(one.layer for one in kept),
            again=tuple(one.again + one.whole for one in kept),
            parameters=tuple(one[2].layer for one in found),
            experts=tuple(one[2].expert_layer for one in found),
            embedding=chunk_parameters(shard, 0.0, True, False, False),
            head=chunk_parameters(shard, 0.0, False, True, False),
        )

    def _kind(self, at: Cut, each: bool, kind: LayerKind, rates: Rates) -> tuple[float, Kept, Shard, Floats]:
        """Kernels of a layer of one kind, forward and backward [s], and what it keeps."""
        o = self._options(at, each, kind)
        shard = cut(self.dimensions[kind], o)
        costs = layer_costs(shard, rates)
        spec = self._recomputing(at.recompute)
        taken = sum(
            repeats(row, spec, 1) * _busy(costs[row], rates)
            for row in range(rows.F_EMBEDDING)
            if costs[row, rows.KERNELS] > 0.0
        )
        if at.cp > 1:
            forward, backward = _cores(shard, at.context, rates)
            taken += forward * (2 if "full" in at.recompute else 1) + backward
        return taken, kept_of(shard, o, rates), shard, costs

    def _options(self, at: Cut, each: bool, kind: LayerKind) -> Options:
        o = options(self._recomputing(at.recompute), kind)
        routing = self.base.routing
        return o._replace(
            tp=float(at.tp),
            sequence_parallel=float(at.sequence_parallel and at.tp > 1),
            micro=float(at.micro),
            gradient_width=1.0 if each else o.gradient_width,
            ep=float(at.ep),
            etp=float(at.etp),
            cp=float(at.cp),
            # the busiest rank has no less than its share, but for what is dropped
            load=1.0 if routing.capacity is None else min(1.0, routing.capacity),
        )

    def _with_modules(self, modules: tuple[str, ...]) -> TrainingExperiment:
        """The base with these modules; not cut, so that no gradients are reduced in every micro-batch."""
        flat = Layout(dp=self.chips)
        batch = replace(self.base.batch, global_=self.chips, micro=1)
        return replace(self.base, chips=self.chips, layout=flat, batch=batch, recompute=modules)

    def _tp(self, tp: int, parallel: bool) -> Wires | None:
        """Collectives of a tensor-parallel group that lies in a node; None where it does not, or no closed form is."""
        if (tp, parallel) not in self._wires:
            self._wires[tp, parallel] = self._wired(tp, parallel)
        return self._wires[tp, parallel]

    def _wired(self, tp: int, parallel: bool) -> Wires | None:
        none = np.zeros((0, 3))
        free = Wires(none, none, none, none, np.empty((0, 0, 3)), none, none)
        if tp == 1 or tp > self.base.system.chips_per_node:
            return free
        dp = self.chips // tp
        layout, batch = Layout(tp=tp, dp=dp, sequence_parallel=parallel), Batch(global_=dp, sequence=8192)
        spec = replace(self.base, chips=self.chips, layout=layout, batch=batch, recompute=())
        try:
            numbers = given(spec)
        except ScaleoutError:
            return free
        if isinstance(numbers.machine, Rails):
            return wires_of(numbers.machine, tp, 1, 1, False, parallel)
        return numbers.machine

    # --- stages ------------------------------------------------------------------------------

    def _shape(self, pp: int, vpp: int) -> tuple[Floats, Floats, Floats]:
        """Layers of each kind: before a stage's first chunk, of all its chunks, and of its least chunk.

        Each of shape (kinds, pp).
        """
        kinds, chunks = len(self.kinds), pp * vpp
        counts = layers_of(len(self.layers), chunks, float(self.base.stack.stages == "balanced")).astype(np.int64)
        ends = np.concatenate(([0], np.cumsum(counts)))
        of = np.stack([np.bincount(self.layers[a:b], minlength=kinds) for a, b in zip(ends, ends[1:], strict=False)])
        by_stage = of.reshape(vpp, pp, kinds)
        before = np.concatenate((np.zeros((1, kinds)), np.cumsum(by_stage[0], axis=0)[:-1]))
        return before.T.astype(float), by_stage.sum(axis=0).T.astype(float), by_stage.min(axis=0).T.astype(float)

    def each(self, zero: int, pp: int) -> bool:
        """Whether gradients are reduced in every micro-batch; `TrainingExperiment.reduces_each`."""
        stack = self.base.stack
        return zero > 1 and not stack.no_sync and self.reshard(zero, pp) != "step"

    def reshard(self, zero: int, pp: int) -> str:
        """`TrainingExperiment.reshard`."""
        stack = self.base.stack
        if zero == 3:
            return stack.reshard if pp == 1 else stack.reshard_stages
        if zero == 2 and stack.gather_units:
            return "backward" if pp == 1 else "step"
        return "never"

    def times(self, ranks: Sequence[Rank], micro_batches: Floats, pipe: Pipe, parts: int) -> Floats:
        """Least time of a step of each of these ranks [s]; `parts`: ranks that share the dense optimizer."""
        before, mine, _ = self.shape(pipe.pp, pipe.vpp)
        usual = pipe.schedule in ("1f1b", "interleaved", "gpipe")
        layer = np.array([rank.layer if usual else rank.kernels for rank in ranks])
        first = np.array([rank.first for rank in ranks])[:, None]
        last = np.array([rank.last for rank in ranks])[:, None]
        m = micro_batches[:, None]
        work = layer @ mine
        if usual:
            stages = np.arange(pipe.pp)[None, :]
            found = m * work + layer @ before
            found = found + np.where(stages == 0, m, 1.0) * first + np.where(stages == pipe.pp - 1, m, 0.0) * last
            least = found.max(axis=1)
        else:
            # whatever the order and the places, a stage has no less than the mean
            least = (m[:, 0] * (work.sum(axis=1) + first[:, 0])) / pipe.pp
        return np.asarray(least + self._update(ranks, pipe, parts))

    def _update(self, ranks: Sequence[Rank], pipe: Pipe, parts: int) -> Floats:
        """Least time of the first stage's update, and of the norm of its gradients [s]."""
        base = self.base
        if base.optimizer != "adam" or base.states != "fp32" or pipe.schedule not in ("1f1b", "interleaved", "gpipe"):
            return np.zeros(len(ranks))
        _, mine, _ = self.shape(pipe.pp, pipe.vpp)
        held = np.array([np.dot(rank.parameters, mine[:, 0]) + rank.embedding for rank in ranks])
        share = held / (parts if pipe.zero else 1)
        return np.asarray(share * base.stack.optimizer_traffic / self.rates.elementwise)

    def memory(self, ranks: Sequence[Rank], micro_batches: Floats, pipe: Pipe, parts: int, experts: Floats) -> Floats:
        """Least HBM of the fullest stage for each of these ranks [byte].

        Parameters
        ----------
        experts
            Ranks that share the optimizer of experts, of each [1].
        """
        base, stack, zero = self.base, self.base.stack, pipe.zero
        _, mine, least = self.shape(pipe.pp, pipe.vpp)
        dense = np.array([rank.parameters for rank in ranks]) @ mine
        dense[:, 0] += [rank.embedding for rank in ranks]
        if pipe.pp > 1:
            dense[:, -1] += [rank.head for rank in ranks]
        routed = np.array([rank.experts for rank in ranks]) @ mine
        part = dense / parts + routed / experts[:, None]
        whole = dense + routed
        units = self.reshard(zero, pipe.pp) != "never"
        width = 4.0 if stack.master == "own" else 2.0
        held = (part if units else whole) * width
        kept = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0}[base.gradients]
        held = held + (part if zero > 1 else whole) * kept
        if zero > 1 and not self.each(zero, pipe.pp):
            held = held + whole * kept
        if base.optimizer == "adam" and base.states == "fp32" and not base.offload.any:
            state = STATE_BYTES - (4.0 if stack.master != "copy" else 0.0)
            held = held + (part if zero else whole) * state
        if base.offload.any:
            held = held * 0.0
        flying = self._flying(micro_batches, pipe)
        layer = np.array([rank.kept for rank in ranks]) @ least
        # a stage that has a layer in every chunk has one when its first backward runs
        again = np.array([min(rank.again) for rank in ranks])[:, None] * (least.sum(axis=0) > 0.0)
        live = 0.0 if base.offload.any or base.recompute_layers is not None else flying * layer + again
        return np.asarray((held + live).max(axis=1) + stack.reserved)

    def _flying(self, micro_batches: Floats, pipe: Pipe) -> Floats:
        """Least passes forward of each stage before its first backward, shape (ranks, pp)."""
        stages = np.arange(pipe.pp)[None, :]
        m = micro_batches[:, None]
        if pipe.schedule == "1f1b":
            return np.minimum(m, pipe.pp - stages)
        if pipe.schedule == "interleaved":
            # a group is no smaller than the pipeline, or all micro-batches
            group = np.minimum(m, pipe.pp)
            return np.minimum(m * pipe.vpp, 2 * (pipe.pp - stages - 1) + (pipe.vpp - 1) * group + 1)
        return np.ones_like(m + stages)


def _plain(base: TrainingExperiment, kind: LayerKind) -> bool:
    """Whether passes of these layers are those of the recurrence."""
    model = base.model
    return (
        model.experts is None
        and model.latent is None
        and model.linear is None
        and model.predictions == 0
        and model.encoder == 0
        and model.rank == 0
        and base.recompute_layers is None
        and not base.offload.any
    )


def _cores(s: Shard, context: str, rates: Rates) -> tuple[float, float]:
    """Attention proper of a sequence that is cut: kernels forward, and backward [s]."""
    parts = pieces(s, context)
    alike = len(parts) if context == "ring" else 1
    steps = parts[:1] if context == "ring" else parts
    found = [
        alike * sum(float(core_costs(part, rates, backward)[: rows.LAUNCH].sum()) for part in steps)
        for backward in (False, True)
    ]
    return found[0], found[1]


def _with_core(costs: Floats, s: Shard, at: Cut, rates: Rates) -> Floats:
    """Rows in which attention is whole where a sequence is cut."""
    if at.cp == 1:
        return costs
    forward, backward = _cores(s, at.context, rates)
    out = costs.copy()
    # what comes after the core is a row of its own
    out[rows.F_ATTENTION] += costs[rows.F_ATTENTION_OUT]
    out[rows.F_ATTENTION, rows.ELEMENTWISE] += forward
    out[rows.B_ATTENTION, rows.ELEMENTWISE] += backward
    return out


def rank_of(floor: Floor, at: Cut, pipe: Pipe) -> Rank:
    """What a rank of a layout takes."""
    return floor.rank(at, floor.each(pipe.zero, pipe.pp))
