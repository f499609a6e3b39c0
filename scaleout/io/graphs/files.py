"""Topology files in and out: the form is told by the file's ending, then by what it holds."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from scaleout.errors import SpecError, near
from scaleout.io.catalogue import roots
from scaleout.io.graphs.assemble import Drawing, assemble
from scaleout.io.graphs.astrasim import GIGABYTE, read_astrasim
from scaleout.io.graphs.graph import fabric_of
from scaleout.io.graphs.graphml import as_graphml, read_graphml
from scaleout.io.graphs.links import ServerLinks
from scaleout.io.graphs.nccl import read_nccl
from scaleout.io.graphs.nodelink import as_nodelink, read_nodelink
from scaleout.io.graphs.nvidia_smi import read_nvidia_smi
from scaleout.io.graphs.own import as_own, read_own
from scaleout.io.graphs.xml import read_xml
from scaleout.io.text import read_text
from scaleout.io.yaml import read_mapping
from scaleout.network.fabric import Fabric
from scaleout.network.topology import Topology

__all__ = ["SUFFIXES", "load_topology", "read_topology", "topology_names", "write_topology"]

FOLDER = "topologies/graphs"
"""Where named topologies stand, below the catalogue's roots."""
SUFFIXES = (".yaml", ".yml", ".json", ".graphml", ".xml", ".txt")
"""Endings of topology files."""
_WRITERS = {".yaml": as_own, ".yml": as_own, ".json": as_nodelink, ".graphml": as_graphml}
_MATRIX = 4_000_000
"""Size of a matrix's file above which it is refused [byte]."""


def read_topology(
    path: str | Path,
    *,
    nvlink: int | None = None,
    pcie: int | None = None,
    links: Mapping[str, float | str] | None = None,
    gigabyte: float = GIGABYTE,
) -> Fabric:
    """The fabric that a file describes.

    Read are scaleout's own YAML, GraphML, networkx's node-link JSON, ASTRA-sim's analytical network
    (``.yml``), what ``nvidia-smi topo -m`` prints (``.txt``) and NCCL's topology XML. ``docs/graphs.md``
    has their keys.

    Parameters
    ----------
    nvlink, pcie
        Generations of the links of a matrix of nvidia-smi, which does not tell them; that of PCIe
        follows from that of NVLink.
    links
        Bandwidths [byte/s, per direction], or text with a unit, that go before those of
        ``topologies/links.yaml``: ``nvlink`` of one link, ``pcie`` of a slot, ``smp`` between sockets,
        ``c2c``, ``port`` of unknown speed. For files of nvidia-smi and NCCL.
    gigabyte
        What a GB is in a file of ASTRA-sim [byte]; its own is 2^30.

    Raises
    ------
    SpecError
        The file is missing, too large, malformed, or of no known form; a value is not accepted.
    TopologyError
        The network cannot be built, or a chip cannot reach another.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".yaml" | ".yml":
            data = read_mapping(path)
            if "npus_count" in data or isinstance(data.get("topology"), list):
                return read_astrasim(data, path, gigabyte)
            return read_own(data, path)
        case ".json":
            return _fabric(read_nodelink(path))
        case ".graphml" | ".xml":
            root = read_xml(path)
            if root.tag == "graphml":
                return _fabric(read_graphml(root, path))
            if root.tag == "system":
                return _fabric(read_nccl(root, path, ServerLinks.of(links)))
            raise SpecError(
                f"{path}, line {root.line}: the root is {root.tag[:60]!r}; expected graphml, or system of NCCL"
            )
        case ".txt":
            text = read_text(path, _MATRIX, "the matrix of a server is smaller")
            return _fabric(read_nvidia_smi(text, path, ServerLinks.of(links), nvlink, pcie))
        case other:
            raise SpecError(f"{path}: ends in {other[:20] or 'nothing'!r}; expected one of {', '.join(SUFFIXES)}")


def _fabric(drawing: Drawing) -> Fabric:
    return fabric_of(assemble(drawing))


def write_topology(path: str | Path, topology: Topology | Fabric) -> None:
    """Write a topology as YAML, GraphML or node-link JSON, by the ending of the path.

    Reading the file gives the same graph; a fabric's routing is not written.

    Raises
    ------
    SpecError
        The ending is none of those, or the file cannot be written.
    """
    path = Path(path)
    topology = topology.topology if isinstance(topology, Fabric) else topology
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise SpecError(
            f"{path}: ends in {path.suffix[:20] or 'nothing'!r}; expected one of {', '.join(sorted(_WRITERS))}"
        )
    text = writer(topology)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}") from None


def topology_names() -> list[str]:
    """Every name that `load_topology` can find now, sorted."""
    return sorted(_named())


def _named() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in roots():
        # a folder that may not be read holds no names
        with suppress(OSError):
            for path in sorted((root / FOLDER).iterdir()):
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    found.setdefault(path.stem, path)
    return found


def load_topology(name: str | Path) -> Fabric:
    """The fabric of a name of the catalogue (``topologies/graphs``), or of a path.

    Raises
    ------
    SpecError
        Nothing has this name, or as in `read_topology`.
    TopologyError
        As in `read_topology`.
    """
    text = str(name)
    if Path(text).suffix.lower() in SUFFIXES:
        return read_topology(text)
    known = _named()
    if text not in known:
        raise SpecError(f"unknown topology {text!r:.80}; {near(text, known)}; a path ends in {', '.join(SUFFIXES)}")
    return read_topology(known[text])
