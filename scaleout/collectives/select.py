"""Which algorithm and protocol an operation takes: the fastest with the network to itself."""

from collections.abc import Callable, Mapping
from functools import partial

from scaleout.arrays import Ints
from scaleout.collectives.flat import direct, nvls, point_to_point, ring, tree
from scaleout.collectives.groups import rail_size
from scaleout.collectives.hierarchical import LEVELS, hierarchical
from scaleout.errors import SpecError, near
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern

__all__ = ["candidates", "choose", "fastest", "only", "trials"]

_DIRECT_LIMIT = 16
"""Members up to which everyone may talk to everyone."""

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
    """Algorithms that fit the operation and the groups' places, by name."""
    if operation == "send":
        return {"send": point_to_point}
    if operation == "all_to_all":
        return {"pairwise": partial(direct, name="pairwise")}
    members, per_node = groups.shape[1], rail_size(fabric, groups)
    one_node, reduce = per_node == members, operation == "all_reduce"
    menu: dict[str, Maker] = {"ring": ring}
    if one_node and members <= _DIRECT_LIMIT:
        menu["direct"] = direct
    if one_node and reduce and members > 1:
        menu["nvls"] = nvls
    if reduce and per_node < 2 and members > 1:
        menu["tree"] = tree
    if 1 < per_node < members:
        menu |= {name: partial(hierarchical, name=name) for name in LEVELS if reduce or name == "hierarchical"}
    return menu


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


def choose(fabric: Fabric, groups: Ints, operation: str, nbytes: float, algorithm: str | None = None) -> str:
    """Algorithm and protocol of a message, judged on the first group.

    Parameters
    ----------
    algorithm
        Take this one, such as ``ring`` or ``ring/LL128``.
    """
    return fastest(fabric, only(trials(fabric, groups, operation), algorithm), nbytes)
