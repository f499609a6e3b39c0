"""Memory of the host and of the chip where something is offloaded: what is left in HBM, and what the host must hold."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from scaleout.engine.program import COMPUTE, Job
from scaleout.errors import PlanError
from scaleout.parallel import HOST_IN, HOST_OUT, Layers
from scaleout.specs import TrainingExperiment
from scaleout.training.copies import BUFFERS
from scaleout.training.stages import Chunk
from scaleout.training.state import State
from scaleout.units import describe

__all__ = ["check_host", "on_host", "refuse_hostless", "resident"]


def refuse_hostless(experiment: TrainingExperiment) -> None:
    """Refuse to offload where nothing is known of the host.

    Raises
    ------
    PlanError
        The system describes no host.
    """
    if experiment.offload.any and experiment.system.host is None:
        raise PlanError(
            f"offload: {experiment.system.name} says nothing of its host; give system.host (kind, bandwidth, latency, "
            "memory, source), or take a system that has it, such as dgx-h100"
        )


def resident(
    state: State, layers: Iterable[Layers], chunks: Sequence[Chunk], static: Mapping[str, float]
) -> dict[str, float]:
    """HBM that a stage holds all the time, with what is on the host left out and buffers for it added [byte]."""
    share = state.experiment.offload
    units = [state.layer(kind) for chunk in chunks for kind in chunk.kinds]
    units += [state.end(embedding=chunk.embedding, loss=chunk.loss) for chunk in chunks]
    widest = max(state.stored(unit) for unit in units)
    kept = max(one.kept.layer for one in layers)
    ahead = max(state.stack.forward_prefetch, state.stack.backward_prefetch) if state.units else 1
    held = dict(static)
    held["weights"] -= share.parameters * (sum(map(state.stored, units)) - max(BUFFERS, 1 + ahead) * widest)
    held["optimizer"] *= 1.0 - share.optimizer
    held["activations"] = 2 * BUFFERS * share.activations * kept
    return held


def check_host(experiment: TrainingExperiment, job: Job, always: Sequence[float]) -> None:
    """Refuse what does not fit into the memory of a node's processors.

    Parameters
    ----------
    always
        Of each program, what one rank keeps there all the time [byte].

    Raises
    ------
    PlanError
        With the node, the shortfall and what fills it.
    """
    host = experiment.system.host
    if not experiment.offload.any or host is None:
        return
    sizes = np.array([m.nbytes if m.details == "activations" else 0.0 for m in job.messages])
    ways = np.array([(m.family == HOST_OUT) - (m.family == HOST_IN) for m in job.messages])
    kept = []
    for program in job.programs:
        moved = np.where(
            program.kind != COMPUTE, (sizes * ways)[np.where(program.kind != COMPUTE, program.item, 0)], 0.0
        )
        kept.append(float(np.cumsum(moved).max(initial=0.0)))
    each = np.array(always) + np.array(kept)
    node = np.arange(job.ranks) // experiment.system.chips_per_node
    total = np.bincount(node, each[job.program_of])
    worst = int(total.argmax())
    if total[worst] > host.memory:
        activations = float(np.bincount(node, np.array(kept)[job.program_of])[worst])
        raise PlanError(
            f"offload: the host of node {worst} needs {describe(float(total[worst]), 'byte')}, "
            f"{describe(float(total[worst]) - host.memory, 'byte')} more than the {describe(host.memory, 'byte')} "
            f"of {experiment.system.name} (activations {describe(activations, 'byte')}, weights and optimizer "
            f"{describe(float(total[worst]) - activations, 'byte')})"
        )


def on_host(state: State, chunks: Sequence[Chunk], static: Mapping[str, float]) -> float:
    """Weights and optimizer of one rank that are on the host all the time [byte]."""
    share = state.experiment.offload
    weights = sum(state.stored(state.count(chunk)) for chunk in chunks)
    return share.parameters * weights + share.optimizer * static["optimizer"]
