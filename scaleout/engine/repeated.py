"""A job that runs again and again, on a network that it shares with others."""

from array import array
from collections.abc import Callable

from scaleout.engine.accelerator import Lineup
from scaleout.engine.clock import Clock
from scaleout.engine.flows import FlowNetwork

__all__ = ["Repeated"]


class Repeated:
    """A job's steps one after another: each begins when the last operation of the one before has ended.

    Parameters
    ----------
    env, network
        Simulated time, and the network that has taken in the job's transfers.
    lineup
        The job, wired on that network.
    told
        Called after each step, before the next.
    """

    def __init__(
        self, env: Clock, network: FlowNetwork, lineup: Lineup, told: Callable[[], None] | None = None
    ) -> None:
        self.env, self.network, self.lineup, self.told = env, network, lineup, told
        self.times = array("q")
        """Of every step that has ended [tick]."""
        self._stopped, self._under_way = True, False
        self._left, self._begun = 0, 0

    def start(self) -> None:
        """Begin the first step now, unless one is under way."""
        self._stopped = False
        if not self._under_way:
            self._step()

    def stop(self) -> None:
        """Let the step under way be the last."""
        self._stopped = True

    def _step(self) -> None:
        self._under_way, self._begun, self._left = True, self.env.now, self.lineup.busy_classes
        self.lineup.begin(self.env, self.network, self._ended)

    def _ended(self) -> None:
        """One of its classes is through."""
        self._left -= 1
        if self._left:
            return
        self.times.append(self.env.now - self._begun)
        self._under_way = False
        if self.told is not None:
            self.told()
        if not self._stopped:
            self._step()
