"""Model and layout: what one rank computes, keeps and sends."""

from scaleout.parallel.activations import Kept, kept_of
from scaleout.parallel.block import DEPENDENCIES, Block, Frozen, Tables, interleave, join
from scaleout.parallel.context import Context
from scaleout.parallel.costs import layer_costs
from scaleout.parallel.exchange import ExpertExchange
from scaleout.parallel.layer import KINDS, Layers
from scaleout.parallel.ranks import families, stage_of
from scaleout.parallel.shard import Options, Shard, chunk_parameters, options, shard
from scaleout.parallel.wires import Wires, wires_of

__all__ = [
    "DEPENDENCIES", "KINDS", "Block", "Context", "ExpertExchange", "Frozen", "Kept", "Layers", "Options", "Shard",
    "Tables", "Wires", "chunk_parameters", "families", "interleave", "join", "kept_of", "layer_costs", "options",
    "shard", "stage_of", "wires_of",
]  # fmt: skip
