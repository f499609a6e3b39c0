"""Any networkx graph becomes a fabric."""

from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any

from scaleout.errors import SpecError, TopologyError
from scaleout.io.graphs.assemble import Drawing, Edge, Vertex, assemble
from scaleout.network.fabric import Fabric, Routing
from scaleout.network.routing import shortest, with_routing
from scaleout.network.topology import Topology

if TYPE_CHECKING:
    import networkx

__all__ = ["drawing_of", "fabric_of", "from_networkx"]


def from_networkx(
    graph: "networkx.Graph[Any]",
    *,
    chips: Collection[Hashable] | None = None,
    bandwidth: str = "bandwidth",
    latency: str = "latency",
    default_bandwidth: float | str | None = None,
    default_latency: float | str | None = None,
    parallel: str | None = None,
    routing: Callable[[Topology], Routing] | None = None,
    name: str | None = None,
) -> Fabric:
    """The fabric of a graph; an edge of an undirected graph is a link each way.

    Parameters
    ----------
    graph
        Any graph of networkx. Read from a vertex: ``chip`` (true or false), ``kind`` (text), ``node``
        or ``island`` (which node a chip stands in), ``name``. From an edge: bandwidth, latency,
        ``kind`` and ``width`` (parallel links that it stands for; the bandwidth is that of all).
    chips
        Vertices that are chips, in the order of their ranks. None: those with ``chip=True`` or a
        ``kind`` such as ``gpu``, in the order of the graph; all, where no vertex has either.
    bandwidth, latency
        Names of the attributes of edges: SI numbers [byte/s of payload, s] or text with a unit.
    default_bandwidth, default_latency
        Of edges without the attribute [byte/s, s], or text with a unit. None: every edge has it.
    parallel
        What becomes of parallel edges of one kind and latency: ``together``, one link with the sum
        of their bandwidths, which is exact where traffic is spread evenly; or ``apart``. None: what
        the graph says in an attribute of this name, else together.
    routing
        What makes a routing for the topology; None: shortest paths.
    name
        None: that of the graph.

    Raises
    ------
    SpecError
        An attribute is missing or not accepted.
    TopologyError
        No vertex is a chip, or a chip cannot reach another.

    >>> import networkx
    >>> fabric = from_networkx(networkx.petersen_graph(), default_bandwidth="50 GB/s", default_latency=1e-6)
    >>> fabric.topology.chips, fabric.topology.links
    (10, 30)
    """
    drawing = drawing_of(graph, "graph", name=name, parallel=parallel)
    drawing.bandwidth, drawing.latency = default_bandwidth, default_latency
    return fabric_of(assemble(drawing, chips, bandwidth=bandwidth, latency=latency), routing)


def fabric_of(topology: Topology, routing: Callable[[Topology], Routing] | None = None) -> Fabric:
    """A fabric over a topology, by shortest paths unless told otherwise."""
    if routing is not None and not callable(routing):
        raise TopologyError(
            f"routing: expected a function from a topology to a routing, such as spray, not {routing!r:.60}"
        )
    found = (routing or shortest)(topology)
    return with_routing(Fabric(topology=topology, paths=found), found)


def drawing_of(
    graph: "networkx.Graph[Any]", where: str, *, name: str | None = None, parallel: str | None = None
) -> Drawing:
    """A graph of networkx as vertices and edges."""
    try:
        directed, about = graph.is_directed(), graph.graph
    except AttributeError:
        raise SpecError(f"{type(graph).__name__} is no graph of networkx") from None
    parallel = about.get("parallel", "together") if parallel is None else parallel
    if parallel not in ("together", "apart"):
        raise SpecError(f"{where}: parallel: {parallel!r:.60} is not accepted; expected 'together' or 'apart'")
    name = name or str(about.get("name") or "graph")
    return Drawing(
        name=name,
        where=where if name == "graph" else f"{where} {name!r:.60}",
        vertices=[Vertex(v, data, f"vertex {v!r:.60}") for v, data in graph.nodes(data=True)],
        edges=[Edge(u, v, not directed, data, f"edge {u!r:.40} to {v!r:.40}") for u, v, data in graph.edges(data=True)],
        inside=str(about.get("inside") or ""),
        bundle=parallel == "together",
    )
