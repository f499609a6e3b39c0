"""The network that replicas share with each other and with a training job beside them."""

from typing import TYPE_CHECKING

from scaleout.engine.clock import Clock
from scaleout.serving.places import Place
from scaleout.specs import ServingExperiment

if TYPE_CHECKING:
    from scaleout.engine import Repeated
    from scaleout.serving.disturbed import LiveSteps
    from scaleout.serving.transfer import Carrier

__all__ = ["network_of"]


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


def _places(experiment: ServingExperiment) -> list[Place]:
    """Where each replica stands: one after the other."""
    found, first = [], 0
    for pool in experiment.pools:
        for _ in range(pool.replicas):
            found.append(Place(first, pool.tp, pool.pp, pool.dp, pool.ep))
            first += pool.chips_each
    return found
