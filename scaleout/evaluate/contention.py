"""What the transfers of a job take of the kernels beside them, by the library and the stack that carry them."""

from collections.abc import Mapping
from functools import cache

import numpy as np

from scaleout.collectives.moe import ByKernel
from scaleout.engine import Contention, Family, Job, Message
from scaleout.engine.contention import NOTHING, Taken
from scaleout.hardware.contention import hbm_passes, in_switch
from scaleout.network import Fabric
from scaleout.network.pattern import Pattern
from scaleout.specs import TrainingExperiment

__all__ = ["contention_of"]


def contention_of(
    experiment: TrainingExperiment, job: Job, fabric: Fabric, patterns: Mapping[int, Pattern]
) -> Contention | None:
    """What every message takes, and what that makes of kernels; None where the experiment asks for nothing of it.

    HBM is taken at one rate while a transfer lasts: as if it had the network to itself.
    """
    slower = job.slower
    if slower is None:
        return None
    by_cores, by_hbm = (experiment.contention in (name, "all") for name in ("cores", "hbm"))

    @cache
    def takes(index: int, group: int) -> Taken:
        message, pattern = job.messages[index], patterns[index]
        if not message.nbytes:
            return NOTHING
        family = job.families[message.family]
        if message.operation == "copy":
            # engines of their own; HBM is read or written once
            rate = message.nbytes / pattern.alone(fabric, message.nbytes, group)
            return Taken(0, round(rate) if by_hbm else 0)
        cores = round(_cores(experiment, message, family, pattern.algorithm)) if by_cores else 0
        moved = _wire(message, family.groups.shape[1]) * hbm_passes(message.operation, pattern.algorithm)
        return Taken(cores, round(moved / pattern.alone(fabric, message.nbytes, group)) if by_hbm else 0)

    return Contention(takes, lambda taken: slower(taken.cores, taken.traffic))


def _cores(experiment: TrainingExperiment, message: Message, family: Family, algorithm: str) -> float:
    """Cores that a message's kernels hold [1]."""
    library, own = experiment.system.library, experiment.stack.cores
    if message.family in own:
        return own[message.family]
    nodes = family.groups // experiment.system.chips_per_node
    inside = bool(np.all(nodes == nodes[:, :1]))
    if isinstance(message.details, ByKernel):
        return experiment.system.moe_kernels[message.details.name.partition("/")[0]].cores
    if message.operation == "send":
        return library.cores if inside else library.send_cores
    if in_switch(algorithm):
        return library.switch_cores
    return library.cores if inside else library.network_cores


def _wire(message: Message, members: int) -> float:
    """What a member puts on the wire [byte]; a ring's, which no algorithm is below but where a switch adds."""
    if message.operation == "send":
        return message.nbytes
    return message.nbytes * (members - 1) / members * (2.0 if message.operation == "all_reduce" else 1.0)
