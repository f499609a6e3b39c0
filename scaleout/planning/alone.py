"""Passes of one rank, and what it sends, with the chip and the links to itself: what `Floor` adds up."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.collectives.alone import HALF, send_rows
from scaleout.collectives.places import Rails, rail_size_of_all, railed, rails, reach
from scaleout.errors import ScaleoutError
from scaleout.evaluate.analytic import given
from scaleout.evaluate.ranges import repeats
from scaleout.hardware import Rates
from scaleout.models import LayerKind
from scaleout.parallel import rows
from scaleout.parallel.context import pieces
from scaleout.parallel.costs import core_costs
from scaleout.parallel.shard import Options, Shard
from scaleout.parallel.wires import Wires, rows_of_places, wires_of
from scaleout.planning.layouts import Cut
from scaleout.planning.waits import Sent, exchanged, waits
from scaleout.specs import ALGORITHMS, Batch, Layout, TrainingExperiment
from scaleout.training.passes import least, passes_of

__all__ = ["Alone", "Data", "Taken", "passes"]

_TICK = 1e-12
_PAIRWISE = ALGORITHMS.index("pairwise")
_NONE = np.zeros((0, 3))
_FREE = Wires(_NONE, _NONE, _NONE, _NONE, np.empty((0, 0, 3)), _NONE, _NONE)


class Taken(NamedTuple):
    """A micro-batch on one rank [s]: a layer, with and without what is sent while nothing else runs; its forward pass,
    and the most that its backward pass takes, zero and infinite where that is not known; and what embedding and loss
    add."""

    layer: float
    kernels: float
    forward: float
    backward: float
    first: float
    last: float


class Data(NamedTuple):
    """What data-parallel ranks and stages send.

    Parameters
    ----------
    half, whole
        All-gather or reduce-scatter, and all-reduce, a byte of the whole [s/byte].
    send
        Of a message to the next stage, and of one to the one before: latencies [s] and times of a byte [s/byte].
    """

    half: float
    whole: float
    send: tuple[float, float]

    def hop(self, nbytes: Floats) -> Floats:
        """A message to the next stage and, later, one back [s]."""
        return 2.0 * (self.send[0] + nbytes * self.send[1])


class Alone:
    """Links of a machine that nobody else uses; nothing takes any time where no closed form is known.

    Parameters
    ----------
    base, chips
        As of `Floor`.
    """

    def __init__(self, base: TrainingExperiment, chips: int) -> None:
        self.base, self.chips = base, chips
        self.machine: Rails | None = None
        if railed(base.system):
            try:
                self.machine = rails(base.system, chips)
            except ScaleoutError:
                self.machine = None
        self._tensor: dict[int, Wires] = {}
        self._data: dict[tuple[int, int], Data | None] = {}
        self._context: dict[tuple[int, int], tuple[Floats, Floats]] = {}

    def tensor(self, tp: int) -> Wires:
        """Collectives of the first tensor-parallel group, which is placed no worse than others."""
        if tp not in self._tensor:
            self._tensor[tp] = self._tensor_wires(tp)
        return self._tensor[tp]

    def _tensor_wires(self, tp: int) -> Wires:
        if tp == 1:
            return _FREE
        if self.machine is not None:
            return wires_of(self.machine, tp, 1, 1, True, True)
        if tp > self.base.system.chips_per_node:
            return _FREE
        dp = self.chips // tp
        batch = Batch(global_=dp, sequence=self.base.batch.sequence)
        try:
            spec = replace(self.base, chips=self.chips, layout=Layout(tp=tp, dp=dp), batch=batch, recompute=())
            machine = given(spec).machine
        except ScaleoutError:
            return _FREE
        return machine if isinstance(machine, Wires) else _FREE

    def wires(self, tp: int, pp: int) -> Data | None:
        """What the first stage's data-parallel ranks, and stages, send; None where that is not known."""
        if (tp, pp) not in self._data:
            self._data[tp, pp] = None if self.machine is None else self._data_wires(self.machine, tp, pp)
        return self._data[tp, pp]

    def _data_wires(self, machine: Rails, tp: int, pp: int) -> Data:
        dp = self.chips // (tp * pp)
        half, whole = (wires_of(machine, tp, pp, dp, sharded, False) for sharded in (True, False))
        return Data(
            half=_slope(half.dp_half),
            whole=_slope(whole.dp_whole),
            send=(_latency(half.send.reshape(-1, 3)), _slope(half.send.reshape(-1, 3))),
        )

    def context(self, tp: int, cp: int) -> tuple[Floats, Floats]:
        """Rows of a gather over a group that shares a sequence, and of the farthest of its messages."""
        if (tp, cp) not in self._context:
            found = _NONE, _NONE
            if (r := self.machine) is not None:
                size = rail_size_of_all(tp * cp, self.chips // (tp * cp), tp, tp, cp, r.per_node)
                gather = rows_of_places(r, HALF, np.zeros(1, dtype=np.int64), tp, cp, size)
                found = gather, send_rows(r)[reach(r, 0, tp * (cp - 1))]
            self._context[tp, cp] = found
        return self._context[tp, cp]

    def exchange(self, tp: int, cp: int, nbytes: float) -> float:
        """Least time in which every rank of a group gives each other its part [s]."""
        r = self.machine
        if r is None:
            return 0.0
        here = max(1, min(r.per_node // tp, cp)) if tp < r.per_node else 1
        out = nbytes * (cp - here) / cp / (r.bandwidth[1] / r.share)
        return float(max(out, nbytes * (here - 1) / cp / r.bandwidth[0]))

    def pairs(self, stride: int, members: int, nbytes: float) -> float:
        """The same by the library, for ranks so far apart."""
        r = self.machine
        if r is None or not nbytes:
            return 0.0
        here = max(1, min(r.per_node // stride, members))
        out, inside = nbytes * (members - here) / members, nbytes * (here - 1) / members
        rules = r.protocols[r.runs[:, _PAIRWISE] > 0.0]
        launch, near, far = rules[:, 0], np.minimum(1.0, rules[:, 3]), np.minimum(1.0, rules[:, 4])
        found = launch + np.maximum(out / (far * r.bandwidth[1]), inside / (near * r.bandwidth[0]))
        # chips that share a port wait for each other
        return float(np.maximum(found, out * r.share / r.bandwidth[1]).min()) if len(found) else 0.0


def _slope(found: Floats) -> float:
    return float((found[:, 1] / found[:, 2]).min()) if len(found) else 0.0


def _latency(found: Floats) -> float:
    return float(found[:, 0].min()) if len(found) else 0.0


def _row(found: Floats, nbytes: float) -> float:
    return int(least(found, nbytes)) * _TICK if len(found) else 0.0


def busy(row: Floats, rates: Rates) -> float:
    """Least time of an operation [s]: a host that launches slowly may make it longer."""
    return float(row[: rows.LAUNCH].sum() + row[rows.KERNELS] * rates.gap)


def passes(
    spec: TrainingExperiment,
    kind: LayerKind,
    at: Cut,
    o: Options,
    shard: Shard,
    costs: Floats,
    rates: Rates,
    alone: Alone,
) -> Taken:
    """Passes of a layer of one kind, and of the ends of the model.

    Parameters
    ----------
    spec
        With the modules that are recomputed.
    costs
        Rows of `layer_costs`.
    """
    own, sent = costs, 0.0
    if at.cp > 1:
        own, sent = _attending(costs, shard, at, rates, alone, full="full" in at.recompute)
    if _plain(spec, kind):
        return _exactly(own, o, shard, at, alone, sent, spec.stack.overlap_tensor_parallel)
    taken = sum(
        repeats(row, spec, 1) * busy(costs[row], rates)
        for row in range(rows.F_EMBEDDING)
        if costs[row, rows.KERNELS] > 0.0
    )
    if at.cp > 1 and kind.attention != "linear":
        forward, backward = _cores(shard, at.context, rates)
        taken += forward + backward
    first = sum(busy(costs[row], rates) for row in (rows.F_EMBEDDING, rows.F_EMBEDDED, rows.B_EMBEDDING))
    ends = rows.F_LOGITS, rows.F_LOSS, rows.B_LOGITS, rows.B_HEAD_WEIGHT, rows.B_FINAL_NORM
    last = sum(busy(costs[row], rates) for row in ends)
    sent += waits(spec, shard, o, own, _messages(spec, shard, at, alone))
    return Taken(taken + sent, taken, 0.0, math.inf, first, last)


def _messages(spec: TrainingExperiment, s: Shard, at: Cut, alone: Alone) -> Sent:
    """Of a layer, each as short as it can be."""
    wires, entry = alone.tensor(at.tp), s.tokens * s.latents * s.width or s.activation
    experts = spec.model.experts
    out = 0.0
    if s.experts and experts is not None:
        out = alone.pairs(at.etp, at.ep, exchanged(spec, s, at.ep))
        whole = at.etp * experts.top_k * s.local_tokens * s.hidden * s.width
        out += _row(alone.tensor(at.etp).tp_half, whole)
    if at.sequence_parallel:
        one, other = _row(wires.tp_half, s.activation), _row(wires.tp_half, entry)
        return Sent(one, one, other, other, out, out)
    return Sent(0.0, _row(wires.tp_whole, s.activation), 0.0, _row(wires.tp_whole, entry), out, out)


def _exactly(costs: Floats, o: Options, shard: Shard, at: Cut, alone: Alone, sent: float, overlap: bool) -> Taken:
    """Passes as the recurrence has them."""
    wires = alone.tensor(at.tp)
    parts = passes_of(shard, o, costs, wires, np.array([0.0, 1.0, 0.0]), 1, float(overlap))
    ends = passes_of(shard, o, costs, wires, np.zeros(1), 1, float(overlap))
    entered = int(parts.enter)
    first = int(parts.forward[0] + parts.backward[0]) - entered
    backward = int(parts.backward[1]) - entered
    return Taken(
        layer=(int(parts.forward[1]) - entered + backward) * _TICK + sent,
        kernels=int(parts.forward_kernels[1] + parts.backward_kernels[1]) * _TICK,
        forward=(int(parts.forward[1]) - entered) * _TICK,
        backward=math.inf if at.cp > 1 else backward * _TICK,
        first=first * _TICK,
        last=(int(ends.forward[0] + ends.backward[0]) - first) * _TICK,
    )


def _plain(base: TrainingExperiment, kind: LayerKind) -> bool:
    """Whether passes of these layers are those of the recurrence."""
    model = base.model
    return (
        kind.part == "decoder"
        and not kind.experts
        and kind.attention != "linear"
        and model.latent is None
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


def _attending(costs: Floats, s: Shard, at: Cut, rates: Rates, alone: Alone, *, full: bool) -> tuple[Floats, float]:
    """Rows in which attention is whole, and what ranks that share a sequence send while nothing else runs [s]."""
    forward, backward = _cores(s, at.context, rates)
    out = costs.copy()
    # what comes after attention proper is a row of its own
    out[rows.F_ATTENTION] += costs[rows.F_ATTENTION_OUT]
    out[rows.F_ATTENTION, rows.ELEMENTWISE] += forward
    out[rows.B_ATTENTION, rows.ELEMENTWISE] += backward
    keys = s.tokens * (s.key + s.value) * s.width
    gather, send = alone.context(at.tp, at.cp)
    times = 2 if full else 1
    if at.context == "all_gather":
        return out, (times + 2) * _row(gather, at.cp * keys)
    if at.context == "all_to_all":
        keys *= max(1.0, at.cp / s.kv_heads)
        nbytes = s.tokens * (s.query + s.attended) * s.width + keys
        return out, (times + 1) * alone.exchange(at.tp, at.cp, nbytes)
    # while a rank attends to what it has, the next comes
    further = at.cp - 1
    waits = times * further * max(0.0, _row(send, keys) - forward / at.cp)
    # backward, their gradients come along
    waits += (at.cp - 2) * max(0.0, _row(send, 2.0 * keys) - backward / at.cp)
    return out, waits
