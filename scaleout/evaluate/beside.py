"""A training job beside others on one machine: its steps, one after another, over the links that all share."""

from dataclasses import replace

import numpy as np

from scaleout.arrays import Ints
from scaleout.engine import Family, Lineup, Repeated, SharedNetwork, discrete, equitable, quotient
from scaleout.engine.clock import Clock
from scaleout.errors import PlanError
from scaleout.evaluate.contention import contention_of
from scaleout.evaluate.event import Site
from scaleout.network import Fabric, copies, machine, with_host
from scaleout.specs import Slow, System, TrainingExperiment
from scaleout.training.step import build

__all__ = ["first_chip", "links_among", "shared_machine", "training_beside"]

_ROWS = 1 << 16
"""Pairs that are routed at a time."""


def first_chip(system: System, chips: int) -> int:
    """The first chip after so many others for a job that has its nodes to itself."""
    return -(-chips // system.chips_per_node) * system.chips_per_node


def shared_machine(
    system: System, chips: int, training: TrainingExperiment | None = None, *, hosts: bool = False
) -> Fabric:
    """The fabric of so many chips, and of a training job's on the nodes after them.

    Parameters
    ----------
    hosts
        With the links to the hosts' memory, where the system describes hosts.

    Raises
    ------
    PlanError
        The training job is one for another system, or has faults.
    TopologyError
        The machine cannot be built at this size.
    """
    slow = Slow()
    if training is not None:
        if replace(training.system, chip=system.chip) != system:
            raise PlanError(
                f"training.system: {training.system.name} is not the {system.name} on whose network the job is to run"
            )
        if training.faults:
            raise PlanError("training.faults: links of a machine that is shared do not fail; take the faults out")
        first = first_chip(system, chips)
        chips = first + training.chips
        slow = Slow(
            ports={first + rank: left for rank, left in training.slow.ports.items()},
            scale_up={first + rank: left for rank, left in training.slow.scale_up.items()},
        )
    fabric = machine(system, chips, slow)
    hosts = hosts or (training is not None and training.offload.any)
    return with_host(fabric, system.host) if hosts and system.host else fabric


def links_among(fabric: Fabric, chips: int) -> Ints:
    """Links on all ways among the first chips, and those to their hosts where the fabric has hosts."""
    topology = fabric.topology
    found = np.zeros(topology.links, dtype=bool)
    for low in range(0, chips * chips, _ROWS):
        source, target = np.divmod(np.arange(low, min(low + _ROWS, chips * chips)), chips)
        apart = source != target
        found[fabric.route(source[apart], target[apart]).link] = True
    if any(name == "host" for name, _ in topology.vertices):
        for out in (True, False):
            found[copies(fabric, np.arange(chips), out=out).phases[0].link] = True
    return np.flatnonzero(found)


def training_beside(
    env: Clock, network: SharedNetwork, training: TrainingExperiment, first: int, others: Ints | None = None
) -> Repeated:
    """A training job on the chips from `first` on, ready to start; its programs are those of `simulate`.

    Parameters
    ----------
    others
        Links that others may load, as `links_among` finds them: what is alike in the job is folded, what they can
        disturb is not. None: nothing is folded.
    """
    job, fabric = build(training), network.fabric
    moved = replace(
        job, families={name: Family(name, f.category, f.groups + first) for name, f in job.families.items()}
    )
    patterns = Site(fabric).patterns(moved)
    # members of groups are ranks of the job, the links are where its chips stand
    if others is None or training.slow.spread:
        partition = discrete(job, fabric)
    else:
        partition = equitable(job, fabric, patterns, apart=others)
    wiring = network.adopt(quotient(job, fabric, patterns, partition), others)
    return Repeated(env, network, Lineup(job, wiring, contention=contention_of(training, job, fabric, patterns)))
