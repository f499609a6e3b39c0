"""Model and layout: what one rank computes, keeps and sends."""

from scaleout.parallel.activations import Kept, kept_of
from scaleout.parallel.block import DEPENDENCIES, Block, Frozen, Tables, begins, interleave, join
from scaleout.parallel.context import Context
from scaleout.parallel.costs import layer_costs
from scaleout.parallel.exchange import ExpertExchange
from scaleout.parallel.layer import KINDS, Layers
from scaleout.parallel.ranks import HOST_IN, HOST_OUT, families, host_families, stage_of
from scaleout.parallel.shard import Options, Shard, chunk_parameters, options, shard
from scaleout.parallel.wires import Wires, wires_of

__all__ = [
    "DEPENDENCIES", "HOST_IN", "HOST_OUT", "KINDS", "Block", "Context", "ExpertExchange", "Frozen", "Kept", "Layers",
    "Options", "Shard", "Tables", "Wires", "begins", "chunk_parameters", "families", "host_families", "interleave",
    "join", "kept_of", "layer_costs", "options", "shard", "stage_of", "wires_of",
]  # fmt: skip
