"""Which algorithm and protocol an operation takes: the fastest with the network to itself, or what is asked for.

NCCL chooses by a model of its own (`scaleout.collectives.tuner`), which can be asked instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from scaleout.arrays import Ints
from scaleout.collectives.groups import rail_size
from scaleout.collectives.hierarchical import LEVELS
from scaleout.collectives.registry import ALGORITHMS
from scaleout.collectives.tuner import tuner_choice, tuner_name, tuner_times
from scaleout.errors import SpecError, near
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern
from scaleout.specs import Tuner

__all__ = ["Candidate", "bottleneck", "candidates", "choose", "explain", "fastest", "only", "trials"]

_DIRECT_LIMIT = 16
"""Members up to which everyone may talk to everyone."""

_SEND_BY_SEND_LIMIT = 256
"""Members up to which phases are read off a schedule, which is made send by send."""

Maker = Callable[[Fabric, Ints, str, str], Pattern]


def candidates(fabric: Fabric, groups: Ints, operation: str) -> dict[str, Callable[[Ints], Pattern]]:
    """What can do the operation on these groups: pattern by ``algorithm/protocol``, rings first."""
    makers = _makers(fabric, groups, operation)
    return {
        f"{name}/{protocol}": partial(_make, make, fabric, operation, protocol)
        for name, make in makers.items()
        for protocol, rules in fabric.protocols.items()
        if name in rules.algorithms
    }


def _make(make: Maker, fabric: Fabric, operation: str, protocol: str, groups: Ints) -> Pattern:
    return make(fabric, groups, operation, protocol)


def _makers(fabric: Fabric, groups: Ints, operation: str) -> dict[str, Maker]:
    """Algorithms that fit the operation and the groups' places, by name; rings first."""
    members, per_node = groups.shape[1], rail_size(fabric, groups)
    inside, railed = per_node == members, 1 < per_node < members
    # where NCCL would not run what could be run
    never = {
        "direct": not inside or members > _DIRECT_LIMIT,
        "one-shot": not inside or members > _DIRECT_LIMIT,
        # every group of the family must stand in one node, not the first alone
        "nvls": not inside,
        "tree": per_node >= 2,
        **dict.fromkeys(LEVELS, not railed),
    }
    listed = {name for rules in fabric.protocols.values() for name in rules.algorithms}
    return {
        name: one.pattern
        for name, one in ALGORITHMS.items()
        if name in listed
        and not never.get(name, False)
        and (one.form is not None or members <= _SEND_BY_SEND_LIMIT)
        and members > 1
        and one.fits(fabric, groups, operation)
    }


def trials(fabric: Fabric, groups: Ints, operation: str) -> dict[str, Pattern]:
    """The first group's operation by everything that can do it.

    Alone, each takes a time affine in the size: ``latency`` and `Pattern.per_byte`.
    """
    return {name: make(groups[:1]) for name, make in candidates(fabric, groups, operation).items()}


def only(tried: Mapping[str, Pattern], algorithm: str | None) -> dict[str, Pattern]:
    """Of what was tried, that of one algorithm, or of one algorithm and protocol; all of it for None.

    Parameters
    ----------
    algorithm
        Such as ``ring`` or ``ring/LL128``.

    Raises
    ------
    SpecError
        It is not among them.
    """
    if algorithm is None:
        return dict(tried)
    kept = {name: pattern for name, pattern in tried.items() if algorithm in (name, name.partition("/")[0])}
    if not kept:
        known = {part for name in tried for part in (name, name.partition("/")[0])}
        raise SpecError(f"algorithm: {algorithm!r} cannot do this here; {near(algorithm, known)}")
    return kept


def fastest(fabric: Fabric, tried: Mapping[str, Pattern], nbytes: float) -> str:
    """Name of the one with the least time for a message; ties by name.

    Parameters
    ----------
    nbytes
        Size of the message [byte].
    """
    return min(sorted(tried), key=lambda name: tried[name].alone(fabric, nbytes))


def choose(
    fabric: Fabric,
    groups: Ints,
    operation: str,
    nbytes: float,
    algorithm: str | None = None,
    tuner: Tuner | None = None,
) -> str:
    """Algorithm and protocol of a message, judged on the first group.

    Parameters
    ----------
    algorithm
        Take this one, such as ``ring`` or ``ring/LL128``.
    tuner
        Take what NCCL's tuner would; None takes the fastest.
    """
    tried = only(trials(fabric, groups, operation), algorithm)
    if tuner is not None:
        able = {name: pattern.alone(fabric, nbytes) for name, pattern in tried.items()}
        times = tuner_times(tuner, operation, *_size(fabric, groups), nbytes)
        if chosen := tuner_choice(times, able):
            return chosen
    return fastest(fabric, tried, nbytes)


def _size(fabric: Fabric, groups: Ints) -> tuple[int, int]:
    """Members of the first group, and nodes that they stand on."""
    return groups.shape[1], len(np.unique(fabric.topology.node[groups[0]]))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to do an operation.

    Parameters
    ----------
    algorithm
        Algorithm and protocol, such as ``ring/LL128``.
    time
        With the network to itself [s].
    latency
        Part of it that does not depend on the size [s].
    tuner
        What NCCL's tuner takes it for [s]; None where it knows nothing of it.
    bottleneck
        The link that holds up its bytes, or the kernels that drive no more.
    chosen
        Whether it is taken.
    """

    algorithm: str
    time: float
    latency: float
    tuner: float | None
    bottleneck: str
    chosen: bool


def explain(
    fabric: Fabric,
    groups: Ints,
    operation: str,
    nbytes: float,
    algorithm: str | None = None,
    tuner: Tuner | None = None,
    by_tuner: bool = False,
) -> tuple[Candidate, ...]:
    """Everything that can do an operation, fastest first, judged on the first group.

    Parameters
    ----------
    algorithm
        Take this one; None leaves the choice.
    tuner
        Whose times are shown.
    by_tuner
        Take what the tuner would.
    """
    tried = trials(fabric, groups, operation)
    chosen = choose(fabric, groups, operation, nbytes, algorithm, tuner if by_tuner else None)
    times = tuner_times(tuner, operation, *_size(fabric, groups), nbytes) if tuner else {}
    rows = [
        Candidate(
            algorithm=name,
            time=pattern.alone(fabric, nbytes),
            latency=pattern.latency(),
            tuner=times.get(tuner_name(name)),
            bottleneck=bottleneck(fabric, pattern),
            chosen=name == chosen,
        )
        for name, pattern in tried.items()
    ]
    return tuple(sorted(rows, key=lambda row: (row.time, row.algorithm)))


def bottleneck(fabric: Fabric, pattern: Pattern, group: int = 0) -> str:
    """The link that holds up the bytes of a group with the network to itself, by name.

    Of phases, the one that takes longest for a byte; of links that are equally short, the first.
    """
    phase = max(pattern.phases, key=lambda phase: phase.per_byte(fabric, group))
    mine = np.flatnonzero(phase.group == group)
    rates = fabric.topology.bandwidth[phase.link[mine]] / phase.weight[mine]
    if not len(mine) or phase.cap[group] < rates.min() * (1 - 1e-12):
        return f"kernels of {pattern.algorithm}"
    return fabric.topology.link_name(int(phase.link[mine[rates.argmin()]]))
