"""Epochs: from one fault to the next the network stays as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaleout.arrays import Floats
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern

__all__ = ["Epoch", "epochs_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """A stretch of time with its own rates of links and its own paths.

    Parameters
    ----------
    start
        Its beginning [tick]; it lasts to that of the next, or for ever.
    bandwidth
        Of each link [byte/s], 0 where it is dead. Shape (links,).
    patterns
        Pattern of each message, by index into the job's messages. A message has the same
        algorithm in all epochs; where nothing is re-routed it has the same object.
    """

    start: int
    bandwidth: Floats
    patterns: Mapping[int, Pattern]


def epochs_of(fabric: Fabric, patterns: Mapping[int, Pattern], later: Sequence[Epoch] = ()) -> tuple[Epoch, ...]:
    """All epochs, the first from 0 on: that of the network as it was built, unless another begins there."""
    if later and later[0].start == 0:
        return tuple(later)
    return Epoch(0, fabric.topology.bandwidth, patterns), *later
