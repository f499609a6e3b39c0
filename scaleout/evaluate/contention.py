"""What the transfers of a job take of the kernels beside them, by the library and the stack that carry them."""

from collections.abc import Mapping

import numpy as np

from scaleout.engine import Contention, Family, Job, Message
from scaleout.hardware.contention import hbm_passes, in_switch
from scaleout.network.pattern import Pattern
from scaleout.specs import TrainingExperiment

__all__ = ["contention_of"]


def contention_of(experiment: TrainingExperiment, job: Job, patterns: Mapping[int, Pattern]) -> Contention | None:
    """What every message takes; None where the experiment asks for none, or nothing takes anything."""
    slower = job.slower
    if slower is None:
        return None
    cores: dict[int, int] = {}
    moved: dict[int, float] = {}
    for index, message in enumerate(job.messages):
        if not message.nbytes:
            continue
        family, algorithm = job.families[message.family], patterns[index].algorithm
        if experiment.contention in ("cores", "all"):
            cores[index] = round(_cores(experiment, message, family, algorithm))
        if experiment.contention in ("hbm", "all"):
            moved[index] = _wire(message, family.groups.shape[1]) * hbm_passes(message.operation, algorithm)
    if not any(cores.values()) and not moved:
        return None
    return Contention(cores, moved, lambda taken: slower(taken.cores, taken.traffic))


def _cores(experiment: TrainingExperiment, message: Message, family: Family, algorithm: str) -> float:
    """Cores that a message's kernels hold [1]."""
    library, own = experiment.system.library, experiment.stack.cores
    if message.family in own:
        return own[message.family]
    nodes = family.groups // experiment.system.chips_per_node
    inside = bool(np.all(nodes == nodes[:, :1]))
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
