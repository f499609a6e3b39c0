"""A system: how chips of one kind stand in nodes, and how nodes are joined."""

from dataclasses import dataclass
from typing import Literal

from scaleout.errors import SpecError, near
from scaleout.specs.chip import Chip
from scaleout.specs.fields import check_fields
from scaleout.units import BytesPerSecond, Count, Fraction, Positive, Seconds

ALGORITHMS = ("ring", "direct", "tree", "hierarchical", "hierarchical-tree")
"""Collective algorithms, beside the plain send; see ``docs/collectives.md``."""

__all__ = ["ALGORITHMS", "CollectiveLibrary", "Network", "ScaleUp", "System"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleUp:
    """Links inside a node.

    Parameters
    ----------
    bandwidth
        Nominal rate of one chip into the node's switch [byte/s, per direction].
    efficiency
        Share of it that carries payload in large transfers [1].
    latency
        One link, one way [s].
    """

    kind: Literal["nvswitch"]
    bandwidth: BytesPerSecond
    efficiency: Fraction
    latency: Seconds

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Links between nodes: one network port a chip, on a fat tree of rails.

    Parameters
    ----------
    bandwidth
        Nominal rate of a port [byte/s, per direction].
    efficiency
        Share of it that carries payload in large transfers [1].
    latency
        Port, cable and first switch, one way [s].
    radix
        Ports of a switch.
    hop_latency
        One more link between switches, one way [s].
    oversubscription
        Bandwidth into a leaf switch over bandwidth out of it [1]; 1 is non-blocking.
    tiers
        Tiers of switches; None takes the least that reaches every node.
    """

    kind: Literal["rail-fat-tree"]
    bandwidth: BytesPerSecond
    efficiency: Fraction
    latency: Seconds
    radix: Count
    hop_latency: Seconds
    oversubscription: Positive = 1.0
    tiers: Literal[1, 2, 3] | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveLibrary:
    """What the communication library adds to the wires.

    Parameters
    ----------
    algorithms
        Which of `ALGORITHMS` it has; the fastest with the network to itself is taken.
    launch
        Once an operation [s].
    scale_up_step, network_step
        Once a step of an algorithm, inside a node and between nodes [s].
    """

    name: str
    version: str
    algorithms: tuple[str, ...]
    launch: Seconds
    scale_up_step: Seconds
    network_step: Seconds
    source: str

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Nodes of equal chips, their links and their communication library.

    Parameters
    ----------
    chip
        The accelerator.
    chips_per_node
        Chips that share the scale-up links.
    """

    name: str
    chip: Chip
    chips_per_node: Count
    scale_up: ScaleUp
    network: Network
    library: CollectiveLibrary
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        for name in self.library.algorithms:
            if name not in ALGORITHMS:
                raise SpecError(f"system.library.algorithms: unknown {name!r}; {near(name, ALGORITHMS)}")
        if "ring" not in self.library.algorithms:
            raise SpecError("system.library.algorithms: 'ring' must be one of them, it works on every group")
        if not self.source.strip():
            raise SpecError(f"system.{self.name}.source: a system needs a source for its figures")
