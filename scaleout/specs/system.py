"""A system: how chips of one kind stand in nodes, and how nodes are joined."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from scaleout.errors import SpecError, near
from scaleout.specs.chip import Chip
from scaleout.specs.fields import check_fields, freeze
from scaleout.specs.moe import MoeLibrary
from scaleout.units import BytesPerSecond, Count, Fraction, NotNegative, Positive, Seconds

ALGORITHMS = ("ring", "direct", "tree", "hierarchical", "hierarchical-tree", "nvls", "nvls-tree", "pairwise", "send")
"""Algorithms of collective operations and of sends; see ``docs/collectives.md``."""

__all__ = ["ALGORITHMS", "CollectiveLibrary", "Launch", "Network", "Protocol", "ScaleUp", "System"]


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
    """Links between nodes: network ports on a fat tree of rails.

    Parameters
    ----------
    bandwidth
        Nominal rate of a port [byte/s, per direction].
    ports_per_node
        Network ports of a node; None is one a chip. With fewer than chips, neighbouring chips
        share a port: two a port are chips 0 and 1, 2 and 3, and so on.
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
    ports_per_node: Count | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One way in which the library's kernels carry bytes: what it costs and how fast it gets.

    Small messages take a protocol of small fixed times, large ones a protocol of high rate.

    Parameters
    ----------
    algorithms
        Those of `ALGORITHMS` that run by it.
    launch
        Once an operation [s].
    scale_up_step, network_step
        Once a step of an algorithm, inside a node and between nodes, beside the links [s].
    scale_up_rate, network_rate
        What the kernels of one chip drive into a link inside the node and into a port, as a
        share of the payload rate of that link [1]. A cap on this operation, not a capacity:
        another operation beside it finds the rest.
    """

    algorithms: tuple[str, ...]
    launch: Seconds
    scale_up_step: Seconds
    network_step: Seconds
    scale_up_rate: Fraction = 1.0
    network_rate: Fraction = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in self.algorithms:
            if name not in ALGORITHMS:
                raise SpecError(f"protocol.algorithms: unknown {name!r}; {near(name, ALGORITHMS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveLibrary:
    """What the communication library adds to the wires.

    Parameters
    ----------
    protocols
        By name; of all algorithms by all protocols the fastest with the network to itself is taken.
    idle_step
        Time of a chunk's step that sends nothing over that of one that sends [1]. A chunk goes
        through n steps for n - 1 sends, so rings of few members fall short of the links' rate.
    residual
        Mean absolute error in one node on the numbers of chips held out of the fit [1]; None where
        nothing was fitted.
    """

    name: str
    version: str
    protocols: Mapping[str, Protocol]
    idle_step: NotNegative = 0.0
    residual: NotNegative | None = None
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "protocols")
        for needed in ("ring", "send"):
            if not any(needed in protocol.algorithms for protocol in self.protocols.values()):
                raise SpecError(f"library.protocols: one of them must run {needed!r}, which works on every group")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a benchmark's host starts the library's operations, where it is no captured graph.

    An operation that takes t by itself is measured at ``max(t + call, issue)``.

    Parameters
    ----------
    libraries
        What tables of measurements call a library that is started like this.
    call
        Added to every operation [s]: the host waits for one before it starts the next.
    issue
        From one operation to the next at the soonest [s]: the host is ahead of long ones, and its
        slowest rank holds up the others' short ones.
    """

    libraries: tuple[str, ...]
    call: Seconds = 0.0
    issue: Seconds = 0.0
    source: str

    def __post_init__(self) -> None:
        check_fields(self)

    def seconds(self, alone: float) -> float:
        """What is measured of an operation that takes so long by itself [s]."""
        return max(alone + self.call, self.issue)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Nodes of equal chips, their links and their communication library.

    Parameters
    ----------
    chip
        The accelerator.
    chips_per_node
        Chips that share the scale-up links.
    launches
        How hosts of benchmarks start operations, by a name of ours; none of them is part of a step.
    moe_kernels
        Libraries of kernels that exchange tokens of experts, by name.
    """

    name: str
    chip: Chip
    chips_per_node: Count
    scale_up: ScaleUp
    network: Network
    library: CollectiveLibrary
    launches: Mapping[str, Launch] = field(default_factory=dict)
    moe_kernels: Mapping[str, MoeLibrary] = field(default_factory=dict)
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "launches", "moe_kernels")
        if self.chips_per_node % self.ports_per_node:
            raise SpecError(
                f"system.network.ports_per_node: {self.ports_per_node} ports do not divide the "
                f"{self.chips_per_node} chips of a {self.name} node"
            )
        if not self.source.strip():
            raise SpecError(f"system.{self.name}.source: a system needs a source for its figures")

    @property
    def ports_per_node(self) -> int:
        """Network ports of a node."""
        return self.network.ports_per_node or self.chips_per_node
