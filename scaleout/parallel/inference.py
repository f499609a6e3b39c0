"""A model on the chips of a replica: the kernels and messages of one serving step, by part.

A layer's time falls into parts that depend on few numbers each: products and passes on the number
of new tokens, attention on what they see. Whoever simulates keeps the parts (`scaleout.serving.steps`).
Kernels and bytes of each part are listed in ``docs/steps.md``.
"""

from copy import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np

from scaleout.arrays import Floats
from scaleout.collectives.moe import ByKernel, Exchange
from scaleout.engine.program import Message
from scaleout.errors import PlanError, SpecError, near
from scaleout.hardware.formats import format_of
from scaleout.hardware.gemm import gemm_constants
from scaleout.hardware.moe import Loads, experts_seconds
from scaleout.hardware.power import throttled
from scaleout.models import LayerKind, layer_kinds
from scaleout.once import once
from scaleout.parallel.inference_kernels import (
    LATENT_SHARE,
    UNMEASURED_CAST,
    Cost,
    Kernels,
    able,
    kin_of,
)
from scaleout.parallel.shard import Options, Shard, cut, dimensions
from scaleout.specs import Chip, GroupedConstants, InferenceEngine, Model, Pool, Routing, System

__all__ = ["Layers", "serving_shard", "stage_kinds", "stand_ins"]

_LOGITS, _SAMPLING = 4.0, 10
"""Bytes of a logit that greedy sampling moves [byte], and its kernels: vLLM's takes 25 us and 0.3 us a token
of 128,256 logits on an RTX PRO 6000 (kernel profiles of LLMServingSim 2.0)."""
_UNMEASURED = GroupedConstants(
    work=1.4, traffic=1.0, launch=20e-6, source="mean of those measured on H100, where the chip has none in this dtype"
)
ALL_GATHER = "all_gather"
_ALIKE = ("bf16", "fp16", "fp8_current", "mxfp8")
"""Formats whose products are those of another, on the same units."""


def serving_shard(model: Model, kind: LayerKind, pool: Pool) -> Shard:
    """What one chip of a replica holds of a layer.

    Raises
    ------
    PlanError
        The degrees do not divide the experts' width.
    """
    experts = model.experts
    etp = 1 if pool.ep > 1 else pool.tp * pool.dp
    if kind.experts and experts is not None and experts.ffn % etp:
        raise PlanError(f"pool: tp x dp = {etp} does not divide the experts' width {experts.ffn} of {model.name}; ep")
    return cut(
        dimensions(model, kind),
        Options(
            tp=float(pool.tp), sequence_parallel=0.0, micro=1.0, sequence=float(model.max_sequence), gradient_width=0.0,
            full=0.0, attention=0.0, mlp=0.0, core=0.0, norm=0.0, product=0.0, split_sends=1.0, ep=float(pool.ep),
            etp=float(etp), load=1.0, encoder_sequence=0.0, moe=0.0, moe_act=0.0, shared_experts=0.0, up=0.0, cp=1.0,
        ),
    )  # fmt: skip


def stage_kinds(model: Model, pp: int) -> tuple[tuple[LayerKind, ...], ...]:
    """Kinds of the layers of each stage, dealt evenly; later stages have those that are over."""
    kinds = [kind for kind in layer_kinds(model) if kind.part == "decoder"]
    edges = [len(kinds) * stage // pp for stage in range(pp + 1)]
    return tuple(tuple(kinds[low:high]) for low, high in pairwise(edges))


class Layers:
    """Parts of a step on one chip of a replica.

    Parameters
    ----------
    compiled
        Kernels are timed by machine code, for many chips; see `Kernels`.

    Raises
    ------
    PlanError
        The model has layers whose time nobody models.
    """

    def __init__(
        self, model: Model, system: System, chip: Chip, engine: InferenceEngine, pool: Pool, precision: str, cache: str,
        routing: Routing, compiled: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.pool, self.engine, self.system = model, pool, engine, system
        self.precision, self.cache, self.skew, self.compiled = precision, cache, routing.skew, compiled
        self._put_on(chip)
        self.stages = stage_kinds(model, pool.pp)
        kinds = dict.fromkeys(kind for stage in self.stages for kind in stage)
        self.shards = {kind: serving_shard(model, kind, pool) for kind in kinds}
        if any(kind.attention == "linear" for kind in self.shards):
            raise PlanError(
                f"model: {model.name} has layers of linear attention, whose decode steps have no time model yet; "
                "take a model without"
            )
        self.chances = _chances(model, pool, routing)

    def _put_on(self, chip: Chip) -> None:
        self.chip = once(throttled, chip)
        self.kernels = Kernels(self.chip, self.engine, self.precision, self.cache, self.compiled)
        if self.model.experts is not None:
            self.expert_dtype, self.expert_chip = _expert_chip(self.chip, self.precision)

    def on(self, chip: Chip) -> "Layers":
        """The same on another chip: what is cut and dealt out stays."""
        other = copy(self)
        other._put_on(chip)
        return other

    def _norms(self, s: Shard, tokens: float) -> Cost:
        """Before a block, with the residual; and after it, where the model has that."""
        before = self.kernels.add_norm(tokens * s.hidden)
        return before.plus(self.kernels.passes(4.0 * tokens * s.hidden)) if s.post_norms else before

    def _linear(self, s: Shard, m: float, n: float, k: float, fused_cast: bool = True) -> Cost:
        """A linear layer: one product, or two through the inner width of the model's matrices."""
        if not s.inner_rank:
            return self.kernels.linear(m, n, k, fused_cast)
        first = self.kernels.linear(m, s.inner_rank, k, fused_cast)
        return first.plus(self.kernels.linear(m, n, s.inner_rank, fused_cast=False))

    # --- attention ---------------------------------------------------------------------------

    def around(self, kind: LayerKind, tokens: int) -> Cost:
        """What comes before and after attention proper, from the norm to the output projection."""
        s, k, t = self.shards[kind], self.kernels, float(tokens)
        if not tokens:
            return Cost()
        cost = self._norms(s, t)
        if s.latents:
            rank = s.query_rank or s.hidden
            down = k.linear(t, s.query_rank + s.key_rank + s.rope, s.hidden)
            cost = cost.plus(down, k.passes(4.0 * t * (s.query_rank + s.key_rank)), k.linear(t, s.query, rank))
            # queries into the space of compressed keys and results out of it; or keys and values for all heads
            each = s.value_size * s.heads + (s.head_size - s.rope) * s.heads
            cost = cost.plus(k.plain(t, each, s.key_rank)._replace(kernels=2))
            cost = cost.plus(k.rope_cache(t, (s.heads + 1.0) * s.rope, s.key_rank + s.rope))
        else:
            cost = cost.plus(self._linear(s, t, s.inner, s.hidden))
            if s.query_norm:
                cost = cost.plus(k.passes(4.0 * t * (s.query + s.key), 2))
            if not (s.rotary and k.prepared):
                cost = cost.plus(k.rope_cache(t, (s.query + s.key) * s.rotary, s.key + s.value))
        if s.output_gate:
            cost = cost.plus(k.passes(6.0 * t * s.attended))
        return cost.plus(self._linear(s, t, s.hidden, s.attended, fused_cast=False))

    def prefill(self, kind: LayerKind, prompts: int, new: int, scores: int) -> Cost:
        """Attention of new tokens of prompts."""
        s = self.shards[kind]
        if not new:
            return Cost()
        if s.latents:
            return self.kernels.prefill(prompts, new, scores, s.heads, s.heads, s.head_size, s.value_size, 0.0)
        return self.kernels.prefill(
            prompts, new, scores, s.heads, s.kv_heads, s.head_size, s.value_size, self._window(kind)
        )

    def decode(self, kind: LayerKind, sequences: int, tokens: int, context: int, longest: int) -> Cost:
        """Attention of sequences that decode; `context` is what they see altogether."""
        s = self.shards[kind]
        if not sequences:
            return Cost()
        mean, most = context / sequences, float(longest)
        if window := self._window(kind):
            mean, most = min(mean, window), min(most, window)
        if s.latents:
            return self.kernels.decode_latent(float(tokens), sequences, mean, s.heads, s.key_rank, s.rope)
        each = tokens / sequences
        return self.kernels.decode(sequences, each, mean, most, s.heads, s.kv_heads, s.head_size)

    def _window(self, kind: LayerKind) -> float:
        return float(self.model.window or 0) if kind.attention == "window" else 0.0

    # --- feed-forward blocks -----------------------------------------------------------------

    def feed(self, kind: LayerKind, tokens: int) -> Cost:
        """The norm and a dense block; of experts the norm, the router and what every token goes through."""
        s, k, t = self.shards[kind], self.kernels, float(tokens)
        if not tokens:
            return Cost()
        cost = self._norms(s, t)
        for ffn in (s.ffn, s.shared_ffn):
            if ffn:
                cost = cost.plus(
                    self._linear(s, t, s.gates * ffn, s.hidden),
                    k.activation(t * ffn, s.gates),
                    self._linear(s, t, s.hidden, ffn),
                )
        if s.router:
            # scores, choice; with shared experts a sum
            cost = cost.plus(k.plain(t, s.router, s.hidden), k.passes(8.0 * t * s.router, 2))
            if s.shared_ffn:
                cost = cost.plus(k.passes(6.0 * t * s.hidden))
        return cost

    def experts(self, kind: LayerKind, tokens: int) -> Cost:
        """Experts of the busiest rank, of the tokens of all attention ranks."""
        s = self.shards[kind]
        if not tokens or not s.router:
            return Cost()
        chances = self.chances
        each = Loads(tokens * chances, 1.0 - (1.0 - chances) ** tokens)
        mine = max(1, round(tokens / self.pool.ep)) if self.pool.ep > 1 else tokens
        return Cost(
            experts_seconds(self.expert_chip, self.expert_dtype, mine, int(s.hidden), int(s.expert_ffn), each), 4
        )

    # --- both ends ---------------------------------------------------------------------------

    def embedding(self, tokens: int) -> Cost:
        """Rows of the table."""
        return self.kernels.passes(4.0 * tokens * self.model.hidden)

    def head(self, tokens: int, rows: int) -> Cost:
        """The last norm, logits of `rows` tokens and sampling."""
        s, k = next(iter(self.shards.values())), self.kernels
        if not rows:
            return k.add_norm(float(tokens * self.model.hidden))
        cost = k.add_norm(float(tokens * self.model.hidden)).plus(k.plain(float(rows), s.vocabulary, s.hidden))
        return cost.plus(k.passes(_LOGITS * rows * self.model.vocabulary, _SAMPLING))

    # --- messages ----------------------------------------------------------------------------

    def reduce(self, stage: int, tokens: int) -> Message | None:
        """Sum over the tensor-parallel ranks."""
        return self._message(f"tp{stage}", "all_reduce", tokens) if self.pool.tp > 1 else None

    def gather_logits(self, stage: int, rows: int) -> Message | None:
        """Parts of the vocabulary, gathered."""
        if self.pool.tp == 1 or not rows:
            return None
        return Message(f"tp{stage}", "all_gather", 2.0 * rows * self.model.vocabulary)

    def send(self, stage: int, tokens: int) -> Message | None:
        """Activations to the next stage: each rank a part, as they are the same on all of a group."""
        if stage + 1 >= self.pool.pp or not tokens:
            return None
        return Message(f"pp{stage}", "send", 2.0 * tokens * self.model.hidden / self.pool.tp)

    def exchange(self, stage: int, most: int, altogether: int, back: bool) -> Message | None:
        """Tokens of the attention ranks to their experts, or results back."""
        pool, experts, library = self.pool, self.model.experts, self.engine.experts_exchange
        if pool.dp == 1 or experts is None or not altogether:
            return None
        if library == ALL_GATHER or pool.ep == 1:
            return self._message(f"ep{stage}", "reduce_scatter" if back else "all_gather", altogether)
        known = self.system.moe_kernels
        if library not in known:
            raise SpecError(
                f"engine.experts_exchange: system {self.system.name!r} has no kernels {library!r}; "
                f"{near(library, (ALL_GATHER, *known))}"
            )
        kernel = known[library].combine if back else known[library].dispatch
        # ranks of a tensor-parallel group have the same tokens, and share the sending of them
        by = ByKernel(
            f"{library}/{'combine' if back else 'dispatch'}",
            kernel if self.kernels.cast else replace(kernel, element=None),
            Exchange(
                tokens=max(1.0, most / pool.tp),
                hidden=self.model.hidden,
                topk=experts.top_k,
                experts=experts.count,
                ranks=pool.ep,
                skew=self.skew,
                groups=experts.groups or 1,
                group_limit=experts.group_limit or 1,
            ),
            2.0,
        )
        return Message(f"ep{stage}", by.name, by.nbytes, by)

    def _message(self, family: str, operation: str, tokens: int) -> Message | None:
        return Message(family, operation, 2.0 * tokens * self.model.hidden) if tokens else None


def _chances(model: Model, pool: Pool, routing: Routing) -> Floats:
    """Probability that a token goes to each expert of the busiest rank. Shape (experts of a rank,)."""
    experts = model.experts
    if experts is None:
        return np.zeros(0)
    popular = np.arange(1, experts.count + 1, dtype=np.float64) ** -routing.skew
    chance = popular * (experts.top_k / popular.sum())
    while (chance > 1.0 + 1e-12).any():
        # nobody is chosen twice by a token: what is over goes to the others
        full = chance >= 1.0
        chance = np.where(full, 1.0, chance * ((experts.top_k - full.sum()) / chance[~full].sum()))
    dealt = np.random.default_rng(routing.seed).permutation(np.minimum(chance, 1.0)).reshape(pool.ep, -1)
    busiest: Floats = dealt[dealt.sum(axis=1).argmax()]
    return busiest


def _expert_chip(chip: Chip, precision: str) -> tuple[str, Chip]:
    """Dtype of experts, and the chip with constants of their kernels, those of plain products where it has none."""
    dtype = precision.partition("/")[0]
    chip = able(chip, dtype)
    constants = gemm_constants(chip, dtype)
    if constants.grouped is None and format_of(dtype).weight_only and "bf16" in chip.gemm:
        # kernels of 16 bits, which widen their weights inside the product
        constants = replace(constants, grouped=chip.gemm["bf16"].grouped)
    if constants.grouped is None:
        constants = replace(constants, grouped=_UNMEASURED)
    if chip.gemm.get(dtype) != constants:
        chip = replace(chip, gemm={**chip.gemm, dtype: constants})
    return dtype, chip


def stand_ins(model: Model, chip: Chip, precision: str, cache: str = "bf16") -> tuple[str, ...]:
    """What of a model's kernels nobody measured on a chip, and what takes its place, in words.

    Parameters
    ----------
    cache
        Dtype of the cached keys and values.
    """
    found, linear = [], precision.partition("/")[0]
    shape, kin = format_of(linear), kin_of(chip, linear)
    widened = f", {shape.dequantise:.0%} more arithmetic to widen weights" if shape.dequantise else ""
    if kin is not None and linear not in (*chip.gemm, *_ALIKE):
        own = "" if format_of(kin).dequantise else widened
        found.append(f"products in {precision}: as those in {kin}, at the bytes of the format{own}")
    if kin is None:
        words = f"products in {precision}: as those in bf16, at the rate and bytes of the format{widened}"
        if shape.cast:
            cast = UNMEASURED_CAST
            words += f", casts at {cast.hbm_efficiency:.0%} of HBM's rate and {cast.launch * 1e6:.0f} us"
        found.append(words)
    if model.experts is not None:
        dtype, able_chip = _expert_chip(chip, precision)
        if gemm_constants(able_chip, dtype).grouped is _UNMEASURED:
            found.append(
                f"fused experts in {dtype}: {_UNMEASURED.work:g} of the arithmetic of plain products and "
                f"{_UNMEASURED.launch * 1e6:.0f} us, the mean of those measured on H100"
            )
    if cache not in ("bf16", "fp16") and not any(cache in kernel.decode for kernel in chip.attention.values()):
        found.append(f"attention to a cache in {cache}: as that to one in 16 bits, at the bytes of the format")
    if model.latent is not None:
        found.append(f"attention to compressed keys: {LATENT_SHARE:.0%} of the dense rate, FlashMLA's on an H800")
    return tuple(found)
