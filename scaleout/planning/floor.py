"""What no layout is below: time of a step, and HBM; from kernels and collectives of one rank, for many layouts at once.

A stage cannot begin before the first micro-batch has come through the stages before it, it works through all
micro-batches one after another, and the step does not end before the last gradient has gone back through the stages
before it. ``docs/planning.md`` has the equations, and why nothing that is simulated is faster.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.hardware import pack
from scaleout.hardware.formats import format_of
from scaleout.models import LayerKind, layer_kinds
from scaleout.parallel.activations import kept_of
from scaleout.parallel.costs import layer_costs
from scaleout.parallel.shard import Options, Shard, chunk_parameters, cut, dimensions, options
from scaleout.planning.alone import Alone, Data, passes
from scaleout.planning.layouts import Cut, Pipe
from scaleout.specs import Layout, TrainingExperiment
from scaleout.training.stages import STATE_BYTES, layers_of

__all__ = ["Floor", "Rank", "Ranks"]

_USUAL = ("1f1b", "interleaved", "gpipe")


class Rank(NamedTuple):
    """What one rank takes for a micro-batch, forward and backward; kinds of layers in the order of `Floor.kinds`.

    Parameters
    ----------
    layer
        Of each kind of layer, with what is sent while nothing else of the rank can run [s].
    kernels
        The same without that [s].
    forward, backward
        The shortest that a layer's forward pass takes, and the longest that its backward pass does [s]; zero and
        infinite where that is not known.
    first, last
        What embedding and loss add [s].
    kept, again
        Of each kind: from forward to backward, and while its backward runs [byte].
    dense, experts
        Parameters of each kind [1].
    embedding, head
        Parameters beside layers [1].
    boundary
        What goes to the next stage [byte].
    """

    layer: tuple[float, ...]
    kernels: tuple[float, ...]
    forward: float
    backward: float
    first: float
    last: float
    kept: tuple[float, ...]
    again: tuple[float, ...]
    dense: tuple[float, ...]
    experts: tuple[float, ...]
    embedding: float
    head: float
    boundary: float


class Ranks:
    """Several ranks as arrays, a row each.

    Parameters
    ----------
    micro_batches, shared
        Of each: micro-batches, and ranks that share its experts' optimizer [1].
    """

    def __init__(self, ranks: Sequence[Rank], micro_batches: Floats, shared: Floats) -> None:
        self.micro_batches, self.shared = micro_batches[:, None], shared[:, None]
        for name, values in zip(Rank._fields, zip(*ranks, strict=True), strict=True):
            column = np.array(values, dtype=np.float64)
            setattr(self, name, column if column.ndim == 2 else column[:, None])

    def some(self, which: Ints) -> "Ranks":
        """Some of them."""
        out = object.__new__(Ranks)
        for name, column in vars(self).items():
            setattr(out, name, column[which])
        return out

    layer: Floats
    kernels: Floats
    forward: Floats
    backward: Floats
    first: Floats
    last: Floats
    kept: Floats
    again: Floats
    dense: Floats
    experts: Floats
    embedding: Floats
    head: Floats
    boundary: Floats

    def __len__(self) -> int:
        return len(self.micro_batches)


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
        self.kinds: list[LayerKind] = list(dict.fromkeys(layers))
        self.layers: Ints = np.array([self.kinds.index(kind) for kind in layers])
        self.rates = pack(base.system.chip, base.stack, base.precision)
        self.summed = pack(base.system.chip, replace(base.stack, fused_gradient_sum=True), base.precision)
        self.dimensions = {kind: dimensions(base.model, kind) for kind in self.kinds}
        self.alone = Alone(base, chips)
        self.rank = lru_cache(maxsize=None)(self._rank)
        self.shape = lru_cache(maxsize=None)(self._shape)
        self.layer = lru_cache(maxsize=None)(self._layer)
        self.with_modules = lru_cache(maxsize=None)(self._with_modules)

    # --- one rank ----------------------------------------------------------------------------

    def _rank(self, at: Cut, each: bool) -> Rank:
        """`each`: gradients are reduced in every micro-batch."""
        rates = self.summed if each else self.rates
        spec, kept, shards, layer, kernels = self.with_modules(at.recompute), [], [], [], []
        first = last = forward = 0.0
        backward = math.inf
        for kind in self.kinds:
            o = self._options(at, each, kind)
            shard = cut(self.dimensions[kind], o)
            found = passes(spec, kind, at, o, shard, self._costs(shard, each), rates, self.alone)
            layer.append(found.layer)
            kernels.append(found.kernels)
            if len(self.kinds) == 1:
                forward, backward = found.forward, found.backward
            if kind == self.kinds[0]:
                first, last = found.first, found.last
            kept.append(kept_of(shard, o, rates))
            shards.append(shard)
        return Rank(
            layer=tuple(layer),
            kernels=tuple(kernels),
            forward=forward,
            backward=backward,
            first=first,
            last=last,
            kept=tuple(one.layer for one in kept),
            again=tuple(one.again + one.whole for one in kept),
            dense=tuple(one.layer for one in shards),
            experts=tuple(one.expert_layer for one in shards),
            embedding=float(chunk_parameters(shards[0], 0.0, True, False, False)),
            head=float(chunk_parameters(shards[0], 0.0, False, True, False)),
            boundary=shards[0].boundary,
        )

    def _costs(self, shard: Shard, each: bool) -> Floats:
        """Rows of a layer; of a sequence that is cut, attention proper is not among them, and tokens alone count."""
        if shard.cp > 1.0:
            return self.layer((shard._replace(cp=2.0, batch=1.0, sequence=shard.tokens), each))
        return self.layer((shard, each))

    def _layer(self, key: tuple[Shard, bool]) -> Floats:
        return layer_costs(key[0], self.summed if key[1] else self.rates)

    def _options(self, at: Cut, each: bool, kind: LayerKind) -> Options:
        o = options(self.with_modules(at.recompute), kind)
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
        batch = replace(self.base.batch, global_=self.chips, micro=1)
        return replace(self.base, chips=self.chips, layout=Layout(dp=self.chips), batch=batch, recompute=modules)

    # --- stages ------------------------------------------------------------------------------

    def _shape(self, pp: int, vpp: int) -> tuple[Floats, Floats, Floats, Floats]:
        """Layers of each kind: before a stage's first chunk, in that chunk, and in all of its chunks, shape
        (kinds, pp); and in each chunk, shape (vpp, kinds, pp)."""
        kinds, chunks = len(self.kinds), pp * vpp
        counts = layers_of(len(self.layers), chunks, float(self.base.stack.stages == "balanced")).astype(np.int64)
        ends = np.concatenate(([0], np.cumsum(counts))).tolist()
        of = [np.bincount(self.layers[a:b], minlength=kinds) for a, b in pairwise(ends)]
        places = np.array(of, dtype=np.float64).reshape(vpp, pp, kinds)
        before = np.concatenate((np.zeros((1, kinds)), np.cumsum(places[0], axis=0)[:-1]))
        return before.T, places[0].T, places.sum(axis=0).T, places.transpose(0, 2, 1)

    def reshard(self, zero: int, pp: int) -> str:
        """`TrainingExperiment.reshard`."""
        stack = self.base.stack
        if zero == 3:
            return stack.reshard if pp == 1 else stack.reshard_stages
        if zero == 2 and stack.gather_units:
            return "backward" if pp == 1 else "step"
        return "never"

    def each(self, zero: int, pp: int) -> bool:
        """`TrainingExperiment.reduces_each`."""
        return zero > 1 and not self.base.stack.no_sync and self.reshard(zero, pp) != "step"

    def times(self, ranks: Ranks, pipe: Pipe, tp: int) -> Floats:
        """Least time of a step of each of these ranks [s].

        Parameters
        ----------
        tp
            Ranks that cut a layer.
        """
        before, chunk, mine, _ = self.shape(pipe.pp, pipe.vpp)
        usual, m, pp = pipe.schedule in _USUAL, ranks.micro_batches, pipe.pp
        layer = ranks.layer if usual else ranks.kernels
        if not usual:
            # whatever the order and the places, a stage has no less than the mean
            work = (layer @ mine).sum(axis=1, keepdims=True) + ranks.first + ranks.last
            return np.asarray((m * work / pp)[:, 0])
        stages = np.arange(pp)[None, :]
        found = m * (layer @ mine) + layer @ before
        found += np.where(stages == 0, m, 1.0) * ranks.first + np.where(stages == pp - 1, m, 0.0) * ranks.last
        wires = self.alone.wires(tp, pp)
        if pp > 1 and wires is not None:
            found += np.arange(pp)[None, :] * wires.hop(ranks.boundary)
        # the first micro-batch goes through all of the model, whatever comes behind it
        through = (layer @ mine).sum(axis=1) + ranks.first[:, 0] + ranks.last[:, 0]
        least = np.maximum(found.max(axis=1), through)
        update = self._update(ranks, pipe, self.chips // (tp * pp))
        if wires is None or self.chips == tp * pp:
            return np.asarray(least + update)
        return np.asarray(self._with_data(ranks, pipe, least, update, chunk, mine, wires))

    def _with_data(
        self,
        ranks: Ranks,
        pipe: Pipe,
        least: Floats,
        update: Floats,
        chunk: Floats,
        mine: Floats,
        wires: Data,
    ) -> Floats:
        """Times with what data-parallel ranks send: beside passes, and where nothing is beside it."""
        stack, zero, pp = self.base.stack, pipe.zero, pipe.pp
        half, whole = wires.half, wires.whole
        # of the first stage: the model's first chunk, and all chunks
        own = (ranks.dense @ chunk)[:, 0] + ranks.embedding[:, 0]
        all_ = (ranks.dense @ mine)[:, 0] + ranks.embedding[:, 0]
        reshard, kept = self.reshard(zero, pp), format_of(self.base.reduction or self.base.gradients).left
        if self.base.compression > 1.0 or self.base.sent is not None:
            return least + update
        exposed = np.zeros(len(ranks))
        gathers = reductions = 0.0 * exposed
        m = ranks.micro_batches[:, 0]
        width = format_of(stack.gather_dtype).left
        if zero > 0 and reshard == "never":
            first = own if stack.overlap_parameter_gather else all_
            exposed = exposed + first * width * half
            gathers = all_ * width * half
        elif reshard == "step":
            gathers = all_ * width * half
        elif reshard != "never":
            gathers = all_ * width * half * m * (2.0 if reshard == "forward" else 1.0)
        rate = half if zero else whole
        reductions = all_ * kept * rate * (m if self.each(zero, pp) else 1.0)
        if zero < 2 or not self.each(zero, pp):
            # no gradient is there before the last backward pass of the first chunk begins
            beside = ranks.backward[:, 0] * max(1.0, chunk.sum(axis=0)[0]) + ranks.first[:, 0]
            last = own * kept * rate
            if not stack.overlap_gradient_reduction and reshard == "never":
                beside, last = 0.0 * beside, all_ * kept * rate
            exposed = exposed + np.maximum(last - beside, 0.0)
        stream = (
            gathers + reductions if stack.one_communicator or reshard == "never" else np.maximum(gathers, reductions)
        )
        if self.each(zero, pp) and pp > 1:
            # the first stage reduces nothing before the first micro-batch has gone through all of the model
            ahead = ranks.forward[:, 0] * mine.sum()
            stream = np.maximum(stream, ahead + reductions)
        return np.asarray(np.maximum(least + update + exposed, stream + update))

    def _update(self, ranks: Ranks, pipe: Pipe, parts: int) -> Floats:
        """Least time of the first stage's update [s]."""
        base = self.base
        if base.optimizer != "adam" or base.states != "fp32" or base.offload.any:
            return np.zeros(len(ranks))
        mine = self.shape(pipe.pp, pipe.vpp)[2]
        held = (ranks.dense @ mine)[:, 0] + ranks.embedding[:, 0]
        return np.asarray(held / (parts if pipe.zero else 1) * base.stack.optimizer_traffic / self.rates.elementwise)

    def memory(self, ranks: Ranks, pipe: Pipe, parts: int) -> Floats:
        """Least HBM of the fullest stage for each of these ranks [byte].

        Parameters
        ----------
        parts
            Ranks that share the dense optimizer.
        """
        base, stack, zero = self.base, self.base.stack, pipe.zero
        _, _, mine, places = self.shape(pipe.pp, pipe.vpp)
        dense = ranks.dense @ mine
        dense[:, 0] += ranks.embedding[:, 0]
        if pipe.pp > 1 and pipe.schedule in _USUAL:
            dense[:, -1] += ranks.head[:, 0]
        routed = ranks.experts @ mine
        whole, part = dense + routed, dense / parts + routed / ranks.shared
        held = np.zeros_like(whole)
        if not base.offload.any:
            reshard = self.reshard(zero, pipe.pp)
            held = (whole if reshard == "never" else part) * (4.0 if stack.master == "own" else 2.0)
            if reshard in ("backward", "step"):
                # all that was gathered is there when the first backward begins
                held += whole * format_of(stack.gather_dtype).left
            if base.optimizer == "adam" and base.states == "fp32":
                held += (part if zero else whole) * (STATE_BYTES if stack.master == "copy" else STATE_BYTES - 4.0)
        kept = format_of(base.gradients).left
        held += (part if zero > 1 else whole) * kept
        if zero > 1 and not self.each(zero, pipe.pp):
            held += whole * kept
        if not base.offload.any and base.recompute_layers is None:
            for passes_of_chunk, chunk in zip(self._flying(ranks.micro_batches, pipe), places, strict=True):
                held += passes_of_chunk * (ranks.kept @ chunk)
            # a stage with a layer in every chunk has one when its first backward runs
            held += ranks.again.min(axis=1, keepdims=True) * (places.sum(axis=1).min(axis=0) > 0.0)
        return np.asarray(held.max(axis=1) + stack.reserved)

    def _flying(self, m: Floats, pipe: Pipe) -> list[Floats]:
        """Passes forward of each chunk before the first backward of a stage, each of shape (ranks, pp)."""
        stages = np.arange(pipe.pp)[None, :]
        if pipe.schedule == "1f1b":
            return [np.asarray(np.minimum(m, pipe.pp - stages))]
        if pipe.schedule != "interleaved":
            # no less than the one that it goes back through
            least = np.zeros_like(m + stages)
            return [least + 1.0, *([least] * (pipe.vpp - 1))] if pipe.vpp == 1 else [least] * pipe.vpp
        group = np.array([_group(pipe.pp, int(one)) for one in m[:, 0]], dtype=np.float64)[:, None]
        there = np.minimum(m * pipe.vpp, 2 * (pipe.pp - stages - 1) + (pipe.vpp - 1) * group + 1)
        found = []
        for chunk in range(pipe.vpp):
            first = np.clip(there - chunk * group, 0.0, group)
            # and of the next group of micro-batches
            found.append(first + np.clip(there - (pipe.vpp + chunk) * group, 0.0, group))
        return found


@lru_cache(maxsize=4096)
def _group(stages: int, micro_batches: int) -> int:
    """Micro-batches of a group; see `scaleout.training.schedules.interleaved`."""
    return next((n for n in range(stages, micro_batches) if not 0 < micro_batches % n < stages), micro_batches)
