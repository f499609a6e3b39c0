"""The network that replicas share with each other and with a training job beside them."""

from typing import TYPE_CHECKING

import numpy as np

from scaleout.engine.clock import Clock
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.served import Links
from scaleout.serving.places import Place
from scaleout.specs import ServingExperiment

if TYPE_CHECKING:
    from scaleout.engine import Repeated, SharedNetwork
    from scaleout.serving.disturbed import LiveSteps
    from scaleout.serving.transfer import Carrier

__all__ = ["links_of", "network_of"]


def network_of(experiment: ServingExperiment, env: Clock) -> "tuple[Carrier | None, LiveSteps | None, Repeated | None]":
    """What carries caches, what runs disturbed steps, and the training job beside, on one network.

    None where nothing is carried.
    """
    training = experiment.training
    if training is None and all(pool.role == "both" for pool in experiment.pools):
        return None, None, None
    # it knows training steps, which most who serve have none of
    from scaleout.engine import SharedNetwork
    from scaleout.evaluate.beside import first_chip, links_among, shared_machine, training_beside
    from scaleout.serving.disturbed import LiveSteps
    from scaleout.serving.transfer import Carrier

    chips = experiment.chips
    fabric = shared_machine(experiment.system, chips, training)
    network = SharedNetwork(env, fabric)
    job = None
    if training is not None:
        first = first_chip(experiment.system, chips)
        job = training_beside(env, network, training, first, links_among(fabric, chips))
    carrier = Carrier(network, experiment.model, experiment.cache.dtype, _places(experiment))
    return carrier, LiveSteps(experiment, network, carrier), job


def links_of(network: "SharedNetwork", span: int) -> tuple[Links, ...]:
    """What the links carried in a span of time [tick], a row for each kind that carried anything."""
    topology, carried = network.fabric.topology, network.carried()
    could = topology.bandwidth * (span / TICKS_PER_SECOND)
    busy = np.divide(carried, could, out=np.zeros_like(carried), where=could > 0.0)
    rows = []
    for kind, name in enumerate(topology.kinds):
        mine = np.flatnonzero(topology.kind == kind)
        if not len(mine) or not carried[mine].any():
            continue
        top = int(mine[busy[mine].argmax()])
        rows.append(
            Links(
                kind=name,
                count=len(mine),
                bytes=float(carried[mine].sum()),
                utilisation=float(carried[mine].sum() / could[mine].sum()) if span else 0.0,
                busiest=topology.link_name(top),
                busiest_utilisation=float(busy[top]),
            )
        )
    return tuple(rows)


def _places(experiment: ServingExperiment) -> list[Place]:
    """Where each replica stands: one after the other."""
    found, first = [], 0
    for pool in experiment.pools:
        for _ in range(pool.replicas):
            found.append(Place(first, pool.tp, pool.pp, pool.dp, pool.ep))
            first += pool.chips_each
    return found
