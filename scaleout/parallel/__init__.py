"""Model and layout: what one rank computes, keeps and sends."""

from scaleout.parallel.block import Block, Frozen, Tables, join
from scaleout.parallel.costs import layer_costs
from scaleout.parallel.layer import KINDS, Layers
from scaleout.parallel.ranks import families, stage_of
from scaleout.parallel.shard import Shard, shard

__all__ = [
    "KINDS", "Block", "Frozen", "Layers", "Shard", "Tables", "families", "join", "layer_costs", "shard", "stage_of",
]  # fmt: skip
