"""Which layouts do not divide, many at a time: what `TrainingExperiment` refuses of each."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Ints
from scaleout.specs import Model, Stack, System
from scaleout.specs.experiment import LARGEST_MACHINE, LARGEST_STEP

__all__ = ["CONTEXTS", "DEGREES", "Ground", "refusals", "refused"]

CONTEXTS = ("ring", "all_gather", "all_to_all")
DEGREES = {
    "tp": ("layout.tp", 1), "pp": ("layout.pp", 1), "dp": ("layout.dp", 1), "vpp": ("layout.vpp", 1),
    "cp": ("layout.cp", 1), "ep": ("layout.ep", 1), "etp": ("layout.etp", 1),
    "micro": ("batch.micro", 1), "batch": ("batch.global", None), "sequence": ("batch.sequence", None),
    "chips": ("chips", None),
}  # fmt: skip
"""Whole numbers that are looked at: key of the experiment, and what it is where nothing is said."""
_WORDS = (
    "",
    "layout: tp {tp} x cp {cp} x pp {pp} x dp {dp} are more chips than the 1,048,576 of the largest machine",
    "layout.vpp: {vpp} chunks need a pipeline (pp above 1), this one has pp = 1",
    "layout.ep: ep {ep} x etp {etp} does not divide the ranks of a stage (tp {tp} x cp {cp} x dp {dp})",
    "layout.shard: {shard} does not divide the data-parallel ranks (cp {cp} x dp {dp})",
    "layout: tp {tp} x cp {cp} x pp {pp} x dp {dp} are not the {chips} chips",
    "chips: {chips} is not a multiple of the {per_node} chips of a node",
    "layout.tp: {tp} does not divide the {heads} attention heads",
    "layout.tp: {tp} neither divides the {kv_heads} key/value heads nor is a multiple of them",
    "layout.tp: {tp} does not divide the feed-forward width {ffn}",
    "model.shared_layers: {layers} layers on pp {pp} x vpp {vpp} chunks part some that share weights",
    "layout.tp: {tp} with matrices in two; accepted: 1",
    "layout.cp: the blocks of cp {cp} ranks do not divide the sequence of {sequence} tokens",
    "layout.tp: {tp} does not divide the sequence of {sequence} tokens on cp {cp} ranks",
    "layout.cp: {cp} does not divide the attention heads of a rank (tp {tp}), which all_to_all deals out",
    "layout.cp: all_to_all over {cp} ranks does not fit the key/value heads of a rank (tp {tp})",
    "layout.context: no ring attends within a window",
    "layout.cp: attention is not causal, or keeps a state; only causal attention is cut",
    "layout.cp: attention of the stack is unfused, and needs whole sequences",
    "layout.ep: ep {ep} x etp {etp}, but the model has no experts",
    "layout.ep: {ep} does not divide the {experts} experts",
    "layout.etp: {etp} does not divide the width {expert_ffn} of an expert",
    "layout.tp: {tp} does not divide the width {shared_ffn} of shared experts",
    "layout.sequence_parallel: experts with tp above 1 need it",
    "layout.pp: pp {pp} x vpp {vpp} chunks, but the model has {layers} layers",
    "batch.global: {batch} is not a multiple of dp {dp} x micro {micro}",
    "batch.global: {batch} in micro-batches of {micro} on dp {dp} are more passes than the 200,000 that are simulated",
    "batch.sequence: {sequence} tokens are more than the learned positions of the model",
)


class Ground(NamedTuple):
    """What layouts are looked at on."""

    model: Model
    system: System
    stack: Stack


def refusals(ground: Ground, at: Mapping[str, Ints]) -> Ints:
    """Number of the first sentence against each layout, 0 where there is none.

    Parameters
    ----------
    at
        `DEGREES`, and "shard" (0: none), "context" (place in `CONTEXTS`), "sequence_parallel" (0 or 1): arrays of
        one length.
    """
    model, per_node = ground.model, ground.system.chips_per_node
    product = np.ones(len(at["tp"]))
    for name in ("tp", "cp", "pp", "dp"):
        product = product * at[name]
    large = product > LARGEST_MACHINE
    # so that no product overflows in what follows
    tp, cp, pp, dp = (np.where(large, 1, at[name]) for name in ("tp", "cp", "pp", "dp"))
    vpp, ep, etp, micro, batch, sequence = (at[name] for name in ("vpp", "ep", "etp", "micro", "batch", "sequence"))
    chips, shard, split = at["chips"], at["shard"], at["sequence_parallel"] > 0
    cut, exchanged = cp > 1, at["context"] == CONTEXTS.index("all_to_all")
    ring = at["context"] == CONTEXTS.index("ring")
    blocks = np.where(cut & ~exchanged, 2 * cp, cp)
    heads, keys = model.heads // tp, np.maximum(1, model.kv_heads // tp)
    experts = model.experts
    chunks = pp.astype(np.float64) * vpp
    balanced = ground.stack.stages == "balanced"
    micro_batches = batch // (dp * micro)
    grouped = ep.astype(np.float64) * etp
    no = np.zeros(len(tp), dtype=bool)
    tests = [
        large,
        (vpp > 1) & (pp == 1),
        (grouped > LARGEST_MACHINE)
        | ((tp * cp * dp) % np.maximum(1, np.where(grouped > LARGEST_MACHINE, 1, ep * etp)) > 0),
        (shard > 0) & ((cp * dp) % np.maximum(1, shard) > 0),
        tp * cp * pp * dp != chips,
        (chips > per_node) & (chips % per_node > 0),
        model.heads % tp > 0,
        (model.kv_heads % tp > 0) & (tp % model.kv_heads > 0),
        model.ffn % tp > 0,
        (model.layers % (np.minimum(chunks, 1e9).astype(np.int64) * model.shared_layers) > 0)
        if model.shared_layers > 1
        else no,
        (tp > 1) if model.rank else no,
        sequence % blocks > 0,
        split & ((sequence // cp) % tp > 0),
        cut & exchanged & (heads % cp > 0),
        cut & exchanged & (keys % cp > 0) & (cp % keys > 0),
        cut & ring & (sequence > model.window) if model.window is not None else no,
        cut if not model.causal or model.encoder or model.linear is not None else no,
        cut if ground.stack.attention == "unfused" else no,
        grouped > 1 if experts is None else no,
        experts.count % ep > 0 if experts is not None else no,
        experts.ffn % etp > 0 if experts is not None else no,
        experts.shared_ffn % tp > 0 if experts is not None else no,
        (tp > 1) & ~split if experts is not None else no,
        chunks > model.layers + 2 * balanced,
        batch % (dp * micro) > 0,
        micro_batches * (model.layers + chunks) > LARGEST_STEP,
        sequence > model.max_sequence if model.positions == "learned" else no,
    ]
    found = np.zeros(len(tp), dtype=np.int64)
    for number in range(len(tests), 0, -1):
        found[tests[number - 1]] = number
    return found


def refused(number: int, ground: Ground, point: Mapping[str, int]) -> str:
    """The sentence against a layout, of which `point` has the columns of `refusals`."""
    model = ground.model
    experts = model.experts
    more = {
        "per_node": ground.system.chips_per_node, "heads": model.heads, "kv_heads": model.kv_heads, "ffn": model.ffn,
        "layers": model.layers, "experts": experts.count if experts else 0,
        "expert_ffn": experts.ffn if experts else 0, "shared_ffn": experts.shared_ffn if experts else 0,
    }  # fmt: skip
    return _WORDS[number].format(**{**more, **point})
