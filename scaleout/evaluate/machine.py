"""A machine as the analytic evaluator sees it: times alone of what equally spaced ranks do together."""

from functools import lru_cache

import numpy as np

from scaleout.collectives import trials
from scaleout.network import rail_fat_tree
from scaleout.specs import System, TrainingExperiment

__all__ = ["Machine", "Row", "machine"]

Row = tuple[float, float, float]
"""Latency [s], share of the message that is moved [1], rate alone [byte/s] of one algorithm and protocol."""

_MANY = 256


class Machine:
    """One system at one size, and what was found out about it so far."""

    def __init__(self, system: System, chips: int) -> None:
        self.fabric = rail_fat_tree(system, chips)
        self._rows: dict[tuple[int, int, int, str], list[Row]] = {}

    def shifted(self, first: int) -> int:
        """Where the same ranks would start in the first node.

        Nodes are alike; from the first one on, a group of neighbours crosses the fewest leaves
        and pods, so times alone there are no longer than elsewhere.
        """
        return first % self.fabric.chips_per_node

    def rows(self, start: int, stride: int, members: int, operation: str) -> list[Row]:
        """Rows of a collective of ranks start, start + stride, ..."""
        key = (start, stride, members, operation)
        if key not in self._rows:
            group = start + stride * np.arange(members)
            self._rows[key] = self._try(group, operation)
        return self._rows[key]

    def world_rows(self) -> list[Row]:
        """Rows of everybody's all-reduce of next to nothing, whose latency grows with the number of ranks.

        Beyond `_MANY` ranks it is that of so many of them: less, by microseconds in a step.
        """
        most = max(_MANY, 2 * self.fabric.chips_per_node)
        return self.rows(0, 1, min(self.fabric.topology.chips, most), "all_reduce")

    def send_rows(self, source: int, target: int) -> list[Row]:
        """Rows of a message from one rank to another."""
        per_node = self.fabric.chips_per_node
        # as far apart from the first node on: towards either side the way is equally long
        shift = min(source, target) // per_node * per_node
        key = (source - shift, target - shift, 2, "send")
        if key not in self._rows:
            self._rows[key] = self._try(np.array([source - shift, target - shift]), "send")
        return self._rows[key]

    def _try(self, group: "np.ndarray[tuple[int], np.dtype[np.int64]]", operation: str) -> list[Row]:
        tried = trials(self.fabric, group[None, :], operation).values()
        return [(float(pattern.latency[0]), pattern.share, pattern.rate(self.fabric)) for pattern in tried]


def machine(experiment: TrainingExperiment) -> Machine:
    """The machine of an experiment, without its slow parts."""
    return _machine(experiment.system, experiment.chips)


@lru_cache(maxsize=256)
def _machine(system: System, chips: int) -> Machine:
    return Machine(system, chips)
