"""A step carried out on the network, where its messages share links with others."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from scaleout.engine.clock import Alarm
from scaleout.engine.program import ticks
from scaleout.engine.quotient import Transfer
from scaleout.engine.shared import Claim, SharedNetwork
from scaleout.serving.work import Work

__all__ = ["Live", "Segment", "alone", "carry_out"]


class Live(Protocol):
    """Runs steps of replicas on the network, where somebody else is on their links."""

    def busy(self, replica: int) -> bool:
        """Whether somebody is."""

    def watch(self, replica: int, disturbed: Callable[[], None]) -> None:
        """Have a call made whenever somebody comes."""

    def carry_out(self, replica: int, works: tuple[Work, ...], done: Callable[[], None]) -> None:
        """Carry out a step from now on, and make a call at its end."""


class Segment(NamedTuple):
    """Kernels, and then messages that begin together.

    Parameters
    ----------
    compute
        Time of the kernels [tick].
    messages
        Transfers of one byte each, and the bytes of the message [byte]; the segment is over when all are.
    """

    compute: int
    messages: tuple[tuple[Transfer, float], ...] = ()


def carry_out(
    network: SharedNetwork, segments: Sequence[Segment], done: Callable[[], None], own: Claim | None = None
) -> None:
    """Carry out segments one after another from now on, and make a call at the end.

    Parameters
    ----------
    own
        The claim of the replica, to which its own messages are not foreign.
    """
    _Course(network, segments, done, own).follow()


def alone(segments: Sequence[Segment]) -> int:
    """Time of segments that share links with nobody, nor their messages with each other [tick]."""
    return sum(
        segment.compute + max((_alone(transfer, nbytes) for transfer, nbytes in segment.messages), default=0)
        for segment in segments
    )


def _alone(transfer: Transfer, nbytes: float) -> int:
    moving = [leg for leg in transfer.legs if leg.size * nbytes]
    return sum(ticks(leg.size * nbytes / leg.alone) for leg in moving) + sum(leg.latency for leg in transfer.legs)


class _Course:
    """Where a step stands."""

    __slots__ = ("done", "left", "network", "own", "rest")

    def __init__(
        self, network: SharedNetwork, segments: Sequence[Segment], done: Callable[[], None], own: Claim | None
    ) -> None:
        self.network, self.done, self.own = network, done, own
        self.rest = iter(segments)
        self.left = 0

    def follow(self) -> None:
        """Begin the next segment, or tell that it was the last."""
        segment = next(self.rest, None)
        if segment is None:
            self.done()
        else:
            Alarm(self.network.env, segment.compute, [partial(self._send, segment)])

    def _send(self, segment: Segment, _: object) -> None:
        self.left = len(segment.messages)
        if not self.left:
            self.follow()
        for transfer, nbytes in segment.messages:
            self.network.start(transfer, [self._arrived], nbytes, self.own)

    def _arrived(self, _: object) -> None:
        self.left -= 1
        if not self.left:
            self.follow()
