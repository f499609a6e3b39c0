"""Times alone of what the chips of a replica say to each other in a serving step."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scaleout.arrays import Ints
from scaleout.collectives import trials
from scaleout.collectives.moe import ByKernel, exchange_pattern
from scaleout.collectives.registry import ALGORITHMS
from scaleout.engine.program import Message
from scaleout.network import Fabric
from scaleout.network.pattern import Pattern
from scaleout.specs import InferenceEngine, Protocol, System

__all__ = ["ReplicaWires"]

_OWN = "engine"


class ReplicaWires:
    """Who talks to whom in a replica, and how long it takes with the network to itself.

    Parameters
    ----------
    fabric
        Machine on which the replica stands.
    ranks
        Its chips: stage by stage, in it attention rank by attention rank. Shape (pp, dp, tp).
    system
        What the machine is made of.
    engine
        Whose own all-reduce takes small messages in a node.
    """

    def __init__(self, fabric: Fabric, ranks: Ints, system: System, engine: InferenceEngine) -> None:
        self.fabric, self.engine = fabric, engine
        self._shared = system.scale_up.kind in ("pcie", "pairs")
        self._peers = system.scale_up.peer_access
        pp, dp, tp = ranks.shape
        self.groups: dict[str, Ints] = {}
        """Ranks of each communicator of a family, shape (groups, members); families carry the stage's number."""
        for stage in range(pp):
            if tp > 1:
                self.groups[f"tp{stage}"] = ranks[stage]
            if dp > 1:
                self.groups[f"ep{stage}"] = ranks[stage].reshape(1, -1)
            if stage + 1 < pp:
                self.groups[f"pp{stage}"] = np.stack([ranks[stage].ravel(), ranks[stage + 1].ravel()], axis=1)
        self._lines: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {}
        self._tried: dict[tuple[str, str, int], dict[str, Pattern]] = {}
        self._own_made: dict[tuple[str, str, int], Pattern] = {}
        self._exchanges: dict[tuple[str, ByKernel], Pattern] = {}
        self._inside: dict[str, bool] = {}
        self._own: dict[tuple[str, str], tuple[float, float]] = {}

    def seconds(self, message: Message) -> float:
        """Of a message alone [s]."""
        if not message.nbytes:
            return 0.0
        if isinstance(message.details, ByKernel):
            return self.pattern(message).alone(self.fabric, message.nbytes)
        own = self._own_line(message)
        if own is not None:
            return own[0] + message.nbytes * own[1]
        key = message.family, message.operation
        if key not in self._lines:
            self._lines[key] = _lower(self._affine(self.patterns(*key)))
        return min(latency + message.nbytes * slope for latency, slope in self._lines[key])

    def patterns(self, family: str, operation: str, group: int = 0) -> dict[str, Pattern]:
        """Everything that can carry an operation of one group of a family, by name."""
        key = family, operation, group
        if key not in self._tried:
            self._tried[key] = trials(self.fabric, self.groups[family][group:], operation)
        return self._tried[key]

    def pattern(self, message: Message, group: int = 0) -> Pattern:
        """What carries a message of one group, to run it on the network live."""
        if isinstance(message.details, ByKernel):
            known = message.family, message.details
            if known not in self._exchanges:
                self._exchanges[known] = exchange_pattern(self.fabric, self.groups[message.family], message.details)
            return self._exchanges[known]
        own = self._own_name(message)
        if own is not None:
            return self._own_pattern(message.family, own, group)
        tried = self.patterns(message.family, message.operation, group)
        return min(tried.values(), key=lambda one: (one.alone(self.fabric, message.nbytes), one.algorithm))

    def _affine(self, tried: dict[str, Pattern]) -> list[tuple[float, float]]:
        return [(one.latency(), one.per_byte(self.fabric)) for one in tried.values()]

    def _own_name(self, message: Message) -> str | None:
        """How the engine's own kernels do it, if they do."""
        if message.operation != "all_reduce" or not self._peers:
            return None
        group = self.groups[message.family][0]
        members = str(len(group))
        one, two = self.engine.one_shot.get(members, 0.0), self.engine.two_shot.get(members, 0.0)
        if message.nbytes >= max(one, two) or (self._shared and len(group) > 2):
            return None
        if message.family not in self._inside:
            self._inside[message.family] = len(np.unique(self.fabric.topology.node[group])) == 1
        if not self._inside[message.family]:
            return None
        return "one-shot" if message.nbytes < one else "direct"

    def _own_line(self, message: Message) -> tuple[float, float] | None:
        name = self._own_name(message)
        if name is None:
            return None
        key = message.family, name
        if key not in self._own:
            one = self._own_pattern(*key)
            self._own[key] = (one.latency(), one.per_byte(self.fabric))
        return self._own[key]

    def _own_pattern(self, family: str, name: str, group: int = 0) -> Pattern:
        key = family, name, group
        if key not in self._own_made:
            self._own_made[key] = self._make_own(*key)
        return self._own_made[key]

    def _make_own(self, family: str, name: str, group: int) -> Pattern:
        engine = self.engine
        rules = Protocol(
            algorithms=("one-shot", "direct"),
            launch=engine.own_launch,
            scale_up_step=engine.own_step,
            network_step=0.0,
            scale_up_rate=engine.own_rate,
        )
        fabric = replace(self.fabric, protocols={_OWN: rules}, idle_step=0.0)
        return ALGORITHMS[name].pattern(fabric, self.groups[family][group : group + 1], "all_reduce", _OWN)


def _lower(lines: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Those that are the fastest at some size."""
    kept: list[tuple[float, float]] = []
    for latency, slope in sorted(set(lines)):
        if not kept or slope < kept[-1][1]:
            kept.append((latency, slope))
    return tuple(kept)
