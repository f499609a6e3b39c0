"""Room for the KV cache: how many blocks an attention rank has, by the engine's own rule.

Bytes of weights, cache and activations are counted from the model; rules and figures are in ``docs/engines.md``.
"""

from collections import Counter
from dataclasses import replace
from typing import NamedTuple

from scaleout.errors import PlanError
from scaleout.hardware.formats import format_of
from scaleout.models import CACHE_WIDTH, LayerKind, layer_kinds
from scaleout.parallel.inference import serving_shard, stage_kinds
from scaleout.specs import Chip, InferenceEngine, Pool, ServingExperiment

__all__ = ["Needs", "Room", "cache_bytes", "needs", "room", "room_on", "weight_bytes"]

_WIDTH = 2.0
"""Bytes of an activation, and of what stays in 16 bits: embedding, head, norms, routers [byte]."""
_SHORTEST = 1
"""Blocks without which nothing can be served."""


class Room(NamedTuple):
    """HBM of the fullest chip of a replica [byte], and what is left for the cache.

    Parameters
    ----------
    blocks
        On each attention rank.
    block_tokens
        Tokens of one.
    weights, activations, graphs, reserved, cache
        What takes HBM; the last is all blocks together.
    token
        Cache of one token [byte].
    """

    blocks: int
    block_tokens: int
    weights: float
    activations: float
    graphs: float
    reserved: float
    cache: float
    token: float

    @property
    def tokens(self) -> int:
        """Tokens that an attention rank can hold."""
        return self.blocks * self.block_tokens


def cache_bytes(experiment: ServingExperiment, pool: Pool, kinds: tuple[LayerKind, ...]) -> float:
    """Of one token in the layers of a stage, on one chip [byte].

    A layer with a window keeps it whole: blocks are dealt out for all layers alike.
    """
    width, model = CACHE_WIDTH[experiment.cache.dtype], experiment.model
    total = 0.0
    for kind, times in Counter(kinds).items():
        s = serving_shard(model, kind, pool)
        # compressed keys are the same for all heads, and held by every rank
        elements = s.key_rank + s.rope if s.latents else s.key + s.value
        total += times * elements * width
    return total


def weight_bytes(experiment: ServingExperiment, pool: Pool) -> float:
    """Of the fullest chip of a replica [byte]; with its draft model or its prediction layers."""
    model, width = experiment.model, format_of(experiment.products).right
    most = 0.0
    stages = stage_kinds(model, pool.pp)
    for number, kinds in enumerate(stages):
        total = 0.0
        for kind, times in Counter(kinds).items():
            total += times * _layer(experiment, pool, kind, width)
        s = serving_shard(model, kinds[0], pool)
        last = number + 1 == pool.pp
        if number == 0:
            total += s.embedding * _WIDTH
        if last and not (model.tied_embeddings and number == 0):
            total += s.head * _WIDTH
        if last:
            total += _drafting(experiment, pool)
        most = max(most, total)
    return most


def _layer(experiment: ServingExperiment, pool: Pool, kind: LayerKind, width: float) -> float:
    s = serving_shard(experiment.model, kind, pool)
    # routers and norms stay in 16 bits
    wide = (s.hidden * s.router + 2.0 * s.hidden) / experiment.model.shared_layers
    return (s.layer - wide + s.expert_layer) * width + wide * _WIDTH


def _drafting(experiment: ServingExperiment, pool: Pool) -> float:
    """Weights of what drafts, on a chip of the last stage [byte]."""
    speculation = experiment.speculation
    if speculation is None:
        return 0.0
    if speculation.draft is not None:
        draft = replace(
            experiment,
            model=speculation.draft,
            speculation=None,
            precision="bf16",
            sparsity="none",
            pools=(replace(pool, pp=1, dp=1, ep=1),),
        )
        return weight_bytes(draft, draft.pools[0])
    last = layer_kinds(experiment.model)[-1]
    if last.part != "prediction":
        return 0.0
    return _layer(experiment, pool, last, format_of(experiment.products).right)


def _activations(experiment: ServingExperiment, pool: Pool) -> float:
    """Of the largest step that the engine may make [byte]: what a layer holds at a time, and logits."""
    model, tokens = experiment.model, float(experiment.max_batched_tokens)
    kinds = {kind for stage in stage_kinds(model, pool.pp) for kind in stage}
    most = 0.0
    for kind in kinds:
        s = serving_shard(model, kind, pool)
        inner = s.inner_rank + max(s.inner + s.attended, (s.gates + 1.0) * max(s.ffn, s.shared_ffn))
        if s.router:
            copies = s.top_k * tokens * pool.dp / max(1, pool.ep)
            inner += copies / tokens * (s.hidden + (s.gates + 1.0) * s.expert_ffn)
        most = max(most, tokens * (2.0 * s.hidden + inner) * _WIDTH)
    rows = min(experiment.max_sequences, experiment.max_batched_tokens)
    # gathered in 16 bits, sampled in 32
    return max(most, rows * model.vocabulary * (_WIDTH + 4.0))


def room(experiment: ServingExperiment, pool: Pool) -> Room:
    """Blocks of an attention rank.

    Raises
    ------
    PlanError
        Weights leave no room.
    """
    found = _room(experiment, pool)
    if experiment.cache.blocks is not None:
        if found.blocks < experiment.cache.blocks:
            raise PlanError(
                f"cache.blocks: {experiment.cache.blocks:,} blocks of {found.block_tokens} tokens are more than the "
                f"{max(0, found.blocks):,} that fit beside {found.weights / 2**30:.1f} GiB of weights"
            )
        taken = experiment.cache.blocks
        return found._replace(blocks=taken, cache=taken * found.block_tokens * found.token)
    if found.blocks < _SHORTEST:
        chip = pool.chip or experiment.system.chip
        gib = 2.0**30
        raise PlanError(
            f"{experiment.model.name} at {experiment.precision} on tp {pool.tp}, pp {pool.pp}: "
            f"{found.weights / gib:.1f} GiB of weights, {found.activations / gib:.1f} GiB of activations and "
            f"{(found.graphs + found.reserved) / gib:.1f} GiB of graphs and runtime leave no room for the KV cache in "
            f"the {chip.hbm_bytes / gib:.1f} GiB of a {chip.name}, {-found.cache / gib:.1f} GiB short; "
            f"{_nearest(experiment, pool)}"
        )
    return found


class Needs(NamedTuple):
    """What a model takes of the fullest chip of a replica, whatever the chip: weights, activations, and the cache of
    one token [byte]."""

    weights: float
    activations: float
    token: float


def needs(experiment: ServingExperiment, pool: Pool) -> Needs:
    """Of a pool's replicas."""
    token = max(cache_bytes(experiment, pool, kinds) for kinds in stage_kinds(experiment.model, pool.pp))
    token += _draft_cache(experiment, pool)
    return Needs(weight_bytes(experiment, pool), _activations(experiment, pool), token)


def _room(experiment: ServingExperiment, pool: Pool) -> Room:
    return room_on(pool.chip or experiment.system.chip, experiment.engine, needs(experiment, pool))


def room_on(chip: Chip, engine: InferenceEngine, needed: Needs) -> Room:
    """What a chip leaves for the cache under an engine; without a block, or with fewer than none, the model does not
    fit."""
    weights, activations, token = needed
    taken = weights + activations + engine.graph_pool + engine.reserved
    if engine.memory_rule == "total":
        left = engine.memory_share * chip.hbm_bytes - taken
    else:
        left = engine.memory_share * (chip.hbm_bytes - taken)
    blocks = int(left // (token * engine.block))
    cache = blocks * engine.block * token if blocks > 0 else left
    return Room(blocks, engine.block, weights, activations, engine.graph_pool, engine.reserved, cache, token)


def _draft_cache(experiment: ServingExperiment, pool: Pool) -> float:
    """Of a token in what drafts [byte]."""
    speculation = experiment.speculation
    if speculation is None:
        return 0.0
    if speculation.draft is None:
        return cache_bytes(experiment, pool, layer_kinds(experiment.model)[-1:])
    draft = replace(experiment, model=speculation.draft, speculation=None, pools=(replace(pool, pp=1, dp=1, ep=1),))
    return cache_bytes(draft, draft.pools[0], stage_kinds(speculation.draft, 1)[0])


def _nearest(experiment: ServingExperiment, pool: Pool) -> str:
    """The layout with the fewest chips that fits, in words."""
    model, node = experiment.model, experiment.system.chips_per_node
    found = []
    for tp in (1, 2, 4, 8, 16, 32, 64):
        for pp in (1, 2, 4, 8, 16):
            if tp > max(node, pool.tp) or pp > model.layers or tp * pp <= pool.tp * pool.pp:
                continue
            try:
                other = replace(pool, tp=tp, pp=pp, ep=tp * pool.dp if pool.ep > 1 else 1)
                tried = replace(experiment, pools=(replace(other, role="both"),), failures=())
                if _room(tried, other).blocks >= _SHORTEST:
                    found.append((tp * pp, pp, tp))
            except PlanError:
                continue
    if not found:
        return "no layout of up to 64 x 16 chips fits; take fewer bits, or chips with more memory"
    _, pp, tp = min(found)
    return f"tp {tp}, pp {pp} fits"
