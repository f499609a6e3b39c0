"""A step carried out on the network, where its messages share links with others."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from scaleout.engine.clock import Alarm
from scaleout.engine.program import ticks
from scaleout.engine.quotient import Transfer
from scaleout.engine.shared import Claim, SharedNetwork
from scaleout.serving.work import Work

__all__ = ["Live", "Segment", "alone", "carry_out"]


Messages = tuple[tuple[Transfer, float], ...]


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
        Transfers of one byte each, and the bytes of the message [byte]; the segment is over when all are. Or what
        gives them when they begin.
    quiet
        Time of the messages with the network to themselves, where it is known [tick]: once the others are gone,
        what is left of a step is over after the sum. -1: not known.
    """

    compute: int
    messages: Messages | Callable[[], Messages] = ()
    quiet: int = -1


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
        segment.compute + max((_alone(transfer, nbytes) for transfer, nbytes in _messages(segment)), default=0)
        for segment in segments
    )


def _messages(segment: Segment) -> Messages:
    return segment.messages() if callable(segment.messages) else segment.messages


def _alone(transfer: Transfer, nbytes: float) -> int:
    moving = [leg for leg in transfer.legs if leg.size * nbytes]
    return sum(ticks(leg.size * nbytes / leg.alone) for leg in moving) + sum(leg.latency for leg in transfer.legs)


class _Course:
    """Where a step stands."""

    __slots__ = ("done", "known", "left", "network", "own", "rest")

    def __init__(
        self, network: SharedNetwork, segments: Sequence[Segment], done: Callable[[], None], own: Claim | None
    ) -> None:
        self.network, self.done, self.own = network, done, own
        self.rest = deque(segments)
        self.left = 0
        self.known = own is not None and all(segment.quiet >= 0 for segment in segments)

    def follow(self) -> None:
        """Begin the next segment, or tell that it was the last."""
        if not self.rest:
            self.done()
        elif self.known and self.own is not None and not self.own.foreign:
            left = sum(segment.compute + segment.quiet for segment in self.rest)
            Alarm(self.network.env, left, [lambda _: self.done()])
        else:
            segment = self.rest.popleft()
            Alarm(self.network.env, segment.compute, [partial(self._send, segment)])

    def _send(self, segment: Segment, _: object) -> None:
        messages = _messages(segment)
        self.left = len(messages)
        if not self.left:
            self.follow()
        for transfer, nbytes in messages:
            self.network.start(transfer, [self._arrived], nbytes, self.own)

    def _arrived(self, _: object) -> None:
        self.left -= 1
        if not self.left:
            self.follow()
