"""A builder by name, its parameters as a file gives them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import Parameter, signature
from math import prod
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from scaleout.errors import SpecError, TopologyError, near
from scaleout.io.graphs.assemble import MOST_LINKS
from scaleout.network import builders as module
from scaleout.network.fabric import Fabric
from scaleout.specs import System
from scaleout.specs.experiment import LARGEST_MACHINE
from scaleout.units import Number

__all__ = ["builders", "built"]

_WHOLE = Number(low=0, high=LARGEST_MACHINE, above=False, integer=True)
_DIMENSIONS = {"bandwidth": Number("byte/s"), "latency": Number("s", above=False)}
_PLAIN = Number(above=False)


@cache
def builders() -> dict[str, Callable[..., Fabric]]:
    """Every public function that returns a fabric, by name."""
    found = {name: getattr(module, name) for name in sorted(module.__all__)}
    return {
        name: function
        for name, function in found.items()
        if not isinstance(function, type) and get_type_hints(function).get("return") is Fabric
    }


def built(data: Mapping[str, Any], where: str) -> Fabric:
    """What a builder makes of the parameters in a file.

    Raises
    ------
    SpecError
        The builder or a parameter is unknown, missing or not accepted.
    TopologyError
        The builder refuses, or the machine would be too large.
    """
    name = data["build"]
    known = builders()
    if not isinstance(name, str) or name not in known:
        raise SpecError(f"{where}: build: {name!r:.60} is no builder; {near(str(name), known)}")
    function = known[name]
    parameters, hints = signature(function).parameters, get_type_hints(function)
    for key in data:
        if key != "build" and key not in parameters:
            raise SpecError(f"{where}: {str(key)[:60]}: {name} takes no such parameter; {near(str(key), parameters)}")
    arguments = {}
    for key, parameter in parameters.items():
        if key in data:
            arguments[key] = _argument(key, hints[key], data[key], f"{where}: {key}")
        elif parameter.default is Parameter.empty:
            raise SpecError(f"{where}: {key} is missing; {name} takes {', '.join(parameters)}")
    if _links(name, arguments) > MOST_LINKS:
        raise TopologyError(f"{where}: {name} of this size has more than {MOST_LINKS:,} links")
    try:
        fabric = function(**arguments)
    except TopologyError as error:
        raise TopologyError(f"{where}: {error}") from None
    if fabric.topology.chips > LARGEST_MACHINE:
        raise TopologyError(f"{where}: {fabric.topology.chips:,} chips; at most {LARGEST_MACHINE:,} are accepted")
    return fabric


def _links(name: str, given: Mapping[str, Any]) -> float:
    """About how many links a builder would lay, told without building: an upper bound within a small factor."""

    def number(key: str, default: float = 0.0) -> float:
        value = given.get(key, default)
        return prod(map(float, value)) if isinstance(value, tuple) else float(default if value is None else value)

    chips, dims = 0.0 if isinstance(given.get("chips"), Fabric) else number("chips"), given.get("dims", ())
    apart = 0.0 if given.get("bundled", True) else 1.0
    match name:
        case "fully_connected":
            return chips * chips
        case "hypercube":
            return float(float(dims) * 2.0 ** min(dims, 1000))
        case "hyperx":
            return number("dims") * (float(sum(dims)) + 2 * number("chips_per_switch"))
        case "fat_tree":
            return number("radix") ** 3 * 1.5
        case "leaf_spine" | "clos":
            leaves = chips / max(number("chips_per_leaf"), 1) + 1
            pods = leaves / max(number("leaves_per_pod", 1), 1) + 1
            trunks = leaves * number("spines") + pods * number("spines") * number("cores")
            return 2 * (chips + leaves + apart * trunks)
        case "dragonfly":
            groups = number("groups", number("routers") * number("long_links") + 1)
            return groups * (number("routers") * (number("routers") + 2 * number("chips_per_router")) + groups)
        case "slim_fly":
            return 2 * number("q") ** 2 * (2 * number("q") + 2 * number("chips_per_router"))
        case "jellyfish":
            return number("switches") * (number("degree") + 2 * number("chips_per_switch"))
        case "hamming_mesh":
            return 8 * number("board") * number("boards")
        case "rail_optimised" | "rail_only":
            per_node = number("chips_per_node", 8)
            leaves = (number("nodes") / max(number("nodes_per_leaf", 1), 1) + 1) * per_node
            return 4 * number("nodes") * per_node + 2 * leaves * (1 + apart * number("spines"))
        case "host_node":
            return 12 * chips + number("sockets") ** 2 + 8 * (number("nics") + number("pcie_switches"))
    return 2 * number("dims") * len(dims) if dims else 6 * chips


def _options(hint: Any) -> list[Any]:
    """What a parameter may be."""
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]


def _argument(name: str, hint: Any, value: Any, where: str) -> Any:
    options = _options(hint)
    if value is None and NoneType in options:
        return None
    if isinstance(value, dict) and Fabric in options:
        if "build" not in value:
            raise SpecError(f"{where}: build is missing; expected a builder's name")
        return built(value, where)
    hint = next(option for option in options if option is not NoneType)
    if hint is System:
        from scaleout.io.catalogue import load

        try:
            return load("system", str(value))
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise SpecError(f"{where}: {value!r:.60} is not accepted; {near(str(value), get_args(hint))}")
        return value
    if get_args(hint) == (float, float):
        if not isinstance(value, list) or len(value) != 2:
            raise SpecError(f"{where}: {value!r:.60} is not accepted; expected [bandwidth, latency]")
        return tuple(_argument(part, float, v, f"{where}: {part}") for part, v in zip(_DIMENSIONS, value, strict=True))
    if get_origin(hint) in (tuple, Sequence):
        return _list(name, get_args(hint)[0], value, where)
    if hint is bool:
        if not isinstance(value, bool):
            raise SpecError(f"{where}: {value!r:.60} is not accepted; expected true or false")
        return value
    if hint is str:
        return str(value)
    if hint in (int, float):
        dimension = next((number for end, number in _DIMENSIONS.items() if name.endswith(end)), _PLAIN)
        try:
            return (_WHOLE if hint is int else dimension).read(value)
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None
    if hint is Fabric:
        raise SpecError(f"{where}: {value!r:.60} is not accepted; expected a builder's name and parameters")
    raise SpecError(f"{where}: cannot be given in a file")


def _list(name: str, hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value:
        raise SpecError(f"{where}: {value!r:.60} is not accepted; expected a list")
    found, links = [], 0
    for i, part in enumerate(value):
        found.append(_argument(name, hint, part, f"{where}[{i}]"))
        links += found[-1].topology.links if isinstance(found[-1], Fabric) else 0
        if links > MOST_LINKS:
            raise TopologyError(f"{where}: more than {MOST_LINKS:,} links")
    return tuple(found)
