"""Functions that return a fabric: one module a family of topologies."""

from scaleout.network.builders.rails import TreeShape, nvswitch_node, rail_fat_tree, tree_shape
from scaleout.network.builders.ring import ring

__all__ = ["TreeShape", "nvswitch_node", "rail_fat_tree", "ring", "tree_shape"]
