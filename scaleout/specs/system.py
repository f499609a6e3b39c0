"""A system: how chips of one kind stand in nodes, and how nodes are joined."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from scaleout.errors import SpecError, near
from scaleout.specs.chip import Chip
from scaleout.specs.facility import NodeCosts
from scaleout.specs.fields import check_fields, freeze
from scaleout.specs.moe import MoeLibrary
from scaleout.specs.tuner import Tuner
from scaleout.units import Bytes, BytesPerSecond, Count, Fraction, NotNegative, Number, Positive, Seconds

ALGORITHMS = (
    "ring",
    "direct",
    "tree",
    "hierarchical",
    "hierarchical-tree",
    "nvls",
    "nvls-tree",
    "pairwise",
    "send",
    "one-shot",
    "recursive-doubling",
    "halving-doubling",
    "swing",
    "bruck",
    "binomial",
    "pairwise-steps",
    "pxn",
    "bucket",
    "multi-ring",
    "sharp",
    "dissemination",
)
"""Algorithms of collective operations and of sends; see ``docs/collectives.md``."""

__all__ = ["ALGORITHMS", "CollectiveLibrary", "Host", "Launch", "Network", "Protocol", "ScaleUp", "System"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleUp:
    """Links inside a node.

    Parameters
    ----------
    kind
        ``nvswitch``: every chip has one link into the node's switch. ``mesh``: every chip has a
        link to every other. ``torus``: a grid with links to the neighbours, and round it where it
        is long enough. ``pairs``: chips 0 and 1, 2 and 3, ... have a bridge; the other pairs meet
        over PCIe. ``pcie``: chips behind PCIe switches, which meet in the host.
    bandwidth
        Nominal rate [byte/s, per direction]: of one chip into the node's switch or its PCIe
        switch; of the link between two chips (mesh, torus, bridge of a pair).
    efficiency
        Share of it that carries payload in large transfers [1].
    latency
        One link, one way [s].
    shape
        Torus: chips along each dimension of the largest one [1]. A job of fewer takes the most
        compact grid that fits inside it.
    wrap
        Torus: a dimension is closed to a ring where its length is a multiple of this [1].
    wrap_together
        Torus: dimensions close only where all of them can, as in slices of whole cubes.
    chips_per_switch
        PCIe: neighbouring chips behind one PCIe switch.
    pcie_bandwidth
        Pairs: payload rate of a chip's link to the host [byte/s, per direction].
    host_bandwidth
        Pairs and PCIe: payload rate of the path through the host, which everything shares that
        goes from pair to pair or from switch to switch, in either direction [byte/s]; None where
        it limits nothing.
    chips_per_socket, socket_bandwidth
        PCIe: neighbouring chips on one processor, and the payload rate at which a chip reads
        what comes from another's side [byte/s]; None where it makes no difference.
    peer_access
        Chips read each other's memory; otherwise what they send goes through the host's memory, at the
        `efficiency` that this leaves, and kernels that read from peers do not run.
    """

    kind: Literal["nvswitch", "mesh", "torus", "pairs", "pcie"]
    bandwidth: BytesPerSecond
    efficiency: Fraction
    latency: Seconds
    shape: tuple[int, ...] = ()
    wrap: Count = 1
    wrap_together: bool = False
    chips_per_switch: Count = 1
    pcie_bandwidth: BytesPerSecond | None = None
    host_bandwidth: BytesPerSecond | None = None
    chips_per_socket: Count | None = None
    socket_bandwidth: BytesPerSecond | None = None
    peer_access: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        mistakes = []
        if (self.chips_per_socket is None) != (self.socket_bandwidth is None):
            mistakes.append("scale_up: chips_per_socket and socket_bandwidth go together")
        if self.kind == "torus" and not (
            0 < len(self.shape) <= 6 and all(type(k) is int and 1 <= k <= 65536 for k in self.shape)
        ):
            mistakes.append(
                f"scale_up.shape: {list(self.shape)} is not accepted; a torus needs 1 to 6 lengths such as [16, 16], "
                "each a whole number at least 1, at most 65,536"
            )
        if self.kind == "pairs" and self.pcie_bandwidth is None:
            mistakes.append("scale_up.pcie_bandwidth: missing; chips of different pairs meet over PCIe")
        for name, kinds in _ONLY.items():
            if self.kind not in kinds and getattr(self, name) not in (None, (), 1, False):
                mistakes.append(f"scale_up.{name}: a node of kind {self.kind!r} has none; {' and '.join(kinds)} only")
        if mistakes:
            raise SpecError("\n".join(mistakes))

    @property
    def payload(self) -> float:
        """Payload rate of one of the links that `bandwidth` stands for [byte/s, per direction]."""
        return self.bandwidth * self.efficiency


_ONLY = {
    "shape": ("torus",),
    "wrap": ("torus",),
    "wrap_together": ("torus",),
    "chips_per_switch": ("pcie",),
    "pcie_bandwidth": ("pairs",),
    "host_bandwidth": ("pairs", "pcie"),
    "chips_per_socket": ("pcie",),
    "socket_bandwidth": ("pcie",),
}
"""Fields of a node that belong to some kinds alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Links between nodes: network ports, and switches that join them.

    Parameters
    ----------
    kind
        ``rail-fat-tree``: port i of every node hangs on the leaf switches of rail i, and spines
        join the rails. ``rail-only``: the rails stay apart; what changes rails does so inside
        the sender's node. ``leaf-spine``, ``clos``: all ports of a node hang on one leaf; leaves
        meet in spines, and pods of them (clos) in cores. ``none``: a node stands alone.
    bandwidth
        Nominal rate of a port [byte/s, per direction]; needed but for ``none``.
    ports_per_node
        Network ports of a node; None is one a chip. With fewer than chips, neighbouring chips
        share a port: two a port are chips 0 and 1, 2 and 3, and so on.
    chips_per_port
        The same the other way round, where the number of chips of a node is not fixed.
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
        Rail fat tree: tiers of switches; None takes the least that reaches every node.
    nodes_per_leaf, nodes_per_pod
        Leaf-spine and clos: nodes under a leaf, and (clos) under the spines of a pod; None is
        what the radix allows.
    pod_oversubscription
        Clos: bandwidth into the spines of a pod over bandwidth out of them [1].
    """

    kind: Literal["rail-fat-tree", "rail-only", "leaf-spine", "clos", "none"]
    bandwidth: Annotated[float, Number("byte/s", above=False)] = 0.0
    efficiency: Fraction = 1.0
    latency: Seconds = 0.0
    radix: Count = 64
    hop_latency: Seconds = 0.0
    oversubscription: Positive = 1.0
    tiers: Literal[1, 2, 3] | None = None
    ports_per_node: Count | None = None
    chips_per_port: Count | None = None
    nodes_per_leaf: Count | None = None
    nodes_per_pod: Count | None = None
    pod_oversubscription: Positive = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        mistakes = []
        if self.kind != "none" and not self.bandwidth:
            mistakes.append(f"network.bandwidth: missing; a network of kind {self.kind!r} needs a rate above 0")
        if self.ports_per_node is not None and self.chips_per_port is not None:
            mistakes.append("network.chips_per_port: ports_per_node is given too; give one of them")
        for name, kinds in _NETWORK_ONLY.items():
            if self.kind not in kinds and getattr(self, name) not in (None, 1.0):
                mistakes.append(f"network.{name}: a network of kind {self.kind!r} has none; {' and '.join(kinds)} only")
        if self.nodes_per_leaf and self.nodes_per_pod and self.nodes_per_pod % self.nodes_per_leaf:
            mistakes.append(
                f"network.nodes_per_pod: {self.nodes_per_pod} is not a multiple of the {self.nodes_per_leaf} "
                "nodes under a leaf"
            )
        if mistakes:
            raise SpecError("\n".join(mistakes))

    @property
    def payload(self) -> float:
        """Payload rate of a port [byte/s, per direction]; 0 where there is no network."""
        return self.bandwidth * self.efficiency


_NETWORK_ONLY = {
    "tiers": ("rail-fat-tree",),
    "nodes_per_leaf": ("leaf-spine", "clos"),
    "nodes_per_pod": ("clos",),
    "pod_oversubscription": ("clos",),
}
"""Fields of a network that belong to some kinds alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The memory of a node's processors, and how its chips reach it.

    A chip copies out and in at the same time, each by an engine of its own.

    Parameters
    ----------
    kind
        ``pcie`` or ``c2c``: links of their own; ``scale-up``: the PCIe links that join the chips of a
        node, whose traffic copies share.
    bandwidth
        Nominal rate of a chip's link [byte/s, per direction]; none for ``scale-up``.
    efficiency
        Share of it that carries payload in large copies [1].
    latency
        Of a copy [s].
    chips_per_link
        Neighbouring chips that share one link into the host; one alone may fill it.
    memory
        Of a node, for what is offloaded [byte].
    speed
        One thread of its processors over one of a DGX H100's [1]: serving engines launch kernels and
        prepare steps from there.
    """

    kind: Literal["pcie", "c2c", "scale-up"]
    bandwidth: BytesPerSecond | None = None
    efficiency: Fraction = 1.0
    latency: Seconds
    chips_per_link: Count = 1
    memory: Bytes
    speed: Positive = 1.0
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.bandwidth is None) != (self.kind == "scale-up"):
            raise SpecError(
                f"host.bandwidth: kind {self.kind!r} " + ("has one" if self.bandwidth is None else "has none")
            )

    @property
    def payload(self) -> float:
        """Payload rate of a chip's own link [byte/s, per direction]; 0 where it has none."""
        return (self.bandwidth or 0.0) * self.efficiency


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
        Mean absolute error on the numbers of chips, or the sizes, held out of the fit [1]; None
        where nothing was fitted.
    cores, network_cores, send_cores
        Cores of a chip that an operation's kernels hold: inside a node, over several nodes, and a
        send between two nodes [1]. 0 where other engines move the bytes.
    switch_cores
        The same where the node's switch adds.
    """

    name: str
    version: str
    protocols: Mapping[str, Protocol]
    idle_step: NotNegative = 0.0
    residual: NotNegative | None = None
    cores: NotNegative = 0
    network_cores: NotNegative = 0
    send_cores: NotNegative = 0
    switch_cores: NotNegative = 0
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

    An operation that takes t by itself is measured at ``max(t + call, issue)``, a send at ``t + call``.

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

    def seconds(self, alone: float, operation: str) -> float:
        """What is measured of an operation that takes so long by itself [s]."""
        # a send ends in the receiver's buffer, and waits for nobody
        return max(alone + self.call, 0.0 if operation == "send" else self.issue)


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
    tuner
        What NCCL's tuner is told of the machine; None where the library is another.
    host
        Where chips may keep what does not fit in HBM; None where its figures are not known.
    node
        What a node draws and costs beside its chips; None where unknown.
    """

    name: str
    chip: Chip
    chips_per_node: Count
    scale_up: ScaleUp
    network: Network
    library: CollectiveLibrary
    launches: Mapping[str, Launch] = field(default_factory=dict)
    moe_kernels: Mapping[str, MoeLibrary] = field(default_factory=dict)
    tuner: Tuner | None = None
    host: Host | None = None
    node: NodeCosts | None = None
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "launches", "moe_kernels")
        network, up = self.network, self.scale_up
        if network.ports_per_node and self.chips_per_node % network.ports_per_node:
            raise SpecError(
                f"system.network.ports_per_node: {network.ports_per_node} ports do not divide the "
                f"{self.chips_per_node} chips of a {self.name} node"
            )
        for part, name, size in (
            ("network", "chips_per_port", network.chips_per_port),
            ("scale_up", "chips_per_switch", up.chips_per_switch),
            ("scale_up", "kind", 2 if up.kind == "pairs" else 1),
            ("host", "chips_per_link", self.host.chips_per_link if self.host else None),
        ):
            if size and self.chips_per_node % size:
                raise SpecError(
                    f"system.{part}.{name}: {size} chips each do not divide the {self.chips_per_node} chips of a "
                    f"{self.name} node"
                )
        if self.host and self.host.kind == "scale-up" and up.kind not in ("pairs", "pcie"):
            raise SpecError(f"system.host.kind: links of a node of kind {up.kind!r} lead to no host; pcie or c2c")
        if up.kind == "torus" and self.chips_per_node > math.prod(up.shape):
            raise SpecError(
                f"system.chips_per_node: {self.chips_per_node} chips of a {self.name} do not fit its torus of "
                f"{' x '.join(map(str, up.shape))}"
            )
        if not self.source.strip():
            raise SpecError(f"system.{self.name}.source: a system needs a source for its figures")

    @property
    def ports_per_node(self) -> int:
        """Network ports of a node."""
        return self.chips_per_node // self.chips_per_port

    def launch_of(self, library: str) -> Launch | None:
        """How tables of measurements start the operations of a library that they call so; None as they take alone."""
        return next((launch for launch in self.launches.values() if library in launch.libraries), None)

    @property
    def chips_per_port(self) -> int:
        """Neighbouring chips that share a network port."""
        ports = self.network.ports_per_node
        return self.network.chips_per_port or (self.chips_per_node // ports if ports else 1)
