"""Steps of replicas on whose links others are: message by message over the shared network."""

from collections.abc import Callable, Sequence
from functools import partial

from scaleout.engine.program import Message
from scaleout.engine.quotient import Transfer
from scaleout.engine.shared import SharedNetwork
from scaleout.serving.live import Segment, carry_out
from scaleout.serving.steps import PoolSteps
from scaleout.serving.transfer import Carrier
from scaleout.serving.work import Work
from scaleout.specs import Pool, ServingExperiment

__all__ = ["LiveSteps"]


class LiveSteps:
    """Runs steps of an experiment's replicas on the network.

    Parameters
    ----------
    experiment
        Whose replicas they are.
    network
        Of the whole machine.
    carrier
        Knows the links that each replica claims.
    """

    def __init__(self, experiment: ServingExperiment, network: SharedNetwork, carrier: Carrier) -> None:
        self._experiment, self._network, self._carrier = experiment, network, carrier
        self._pools: Sequence[Pool] = [pool for pool in experiment.pools for _ in range(pool.replicas)]
        self._steps: dict[int, PoolSteps] = {}
        self._made: dict[tuple[int, str, str, str], list[Transfer]] = {}
        self.steps = 0
        """Steps that were run here."""

    def busy(self, replica: int) -> bool:
        """Whether others are on the links of a replica."""
        return self._carrier.busy(replica)

    def watch(self, replica: int, disturbed: Callable[[], None]) -> None:
        """Have a call made whenever others come onto them."""
        self._carrier.watch(replica, disturbed)

    def carry_out(self, replica: int, works: tuple[Work, ...], done: Callable[[], None]) -> None:
        """Carry out a step from now on, and make a call at its end."""
        self.steps += 1
        if replica not in self._steps:
            place = self._carrier.places[replica]
            pool, fabric = self._pools[replica], self._network.fabric
            self._steps[replica] = PoolSteps(self._experiment, pool, place.first, fabric)
        (stage,) = self._steps[replica].program(works)
        # those of layers that are alike are the same objects
        made = {
            id(one): Segment(one.compute, partial(self._messages, replica, one.message), one.alone)
            for one in {id(one): one for one in stage}.values()
        }
        segments = [made[id(one)] for one in stage]
        carry_out(self._network, segments, done, self._carrier.claims[replica])

    def _messages(self, replica: int, message: Message | None) -> tuple[tuple[Transfer, float], ...]:
        """Transfers of a message, one for each group of its family."""
        if message is None or not message.nbytes:
            return ()
        wires = self._steps[replica].wires
        key = replica, message.family, message.operation, wires.pattern(message).algorithm
        if key not in self._made:
            groups = range(len(wires.groups[message.family]))
            patterns = [wires.pattern(message, group) for group in groups]
            self._made[key] = [one for pattern in patterns for one in self._network.add(pattern)]
        return tuple((transfer, message.nbytes) for transfer in self._made[key])
