"""A builder by name, its parameters as a file gives them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import Parameter, signature
from math import prod
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

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
    chips, dims = float(given.get("chips", 0)), given.get("dims", ())
    points: float = prod(map(float, dims)) if isinstance(dims, tuple) else 2.0 ** min(dims, 1000)
    match name:
        case "fully_connected":
            return chips * chips
        case "hypercube":
            return float(dims) * points
        case "hyperx":
            return points * float(sum(dims) + 2 * given.get("chips_per_switch", 0))
        case "fat_tree":
            return float(given["radix"]) ** 3 * 1.5
        case "leaf_spine" | "clos":
            leaves = chips / max(given["chips_per_leaf"], 1) + 1
            spines, cores = float(given["spines"]), float(given.get("cores", 0))
            pods = leaves / max(given.get("leaves_per_pod", 1), 1) + 1
            apart = 0.0 if given.get("bundled", True) else leaves * spines + pods * spines * cores
            return 2 * (chips + leaves + apart)
    return 2 * points * len(dims) if isinstance(dims, tuple) and dims else 6 * chips


def _argument(name: str, hint: Any, value: Any, where: str) -> Any:
    options = [part for part in get_args(hint) if part is not NoneType] if NoneType in get_args(hint) else [hint]
    if value is None and len(options) < len(get_args(hint)):
        return None
    hint = options[0]
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
    if get_origin(hint) in (tuple, Sequence):
        if not isinstance(value, list) or not value:
            raise SpecError(f"{where}: {value!r:.60} is not accepted; expected a list")
        return tuple(_argument(name, get_args(hint)[0], part, f"{where}[{i}]") for i, part in enumerate(value))
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
    raise SpecError(f"{where}: cannot be given in a file")
