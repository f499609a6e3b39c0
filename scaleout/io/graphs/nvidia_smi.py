"""The matrix that ``nvidia-smi topo -m`` prints: GPUs, NICs, and what joins each pair.

``NV#`` is a number of NVLinks. Where the numbers of a GPU add up to more links than it has, its
links lead to a switch, else straight to the others. The rest tells how far two devices are apart on
PCIe: ``PIX`` behind one switch, ``PXB`` behind several, ``PHB`` and ``NODE`` at one socket, ``SYS``
at different ones. Devices are put into a tree by those: switches, sockets, and a link from
each socket to each other.
"""

import re
from pathlib import Path

from scaleout.errors import SpecError, TopologyError, near
from scaleout.io.graphs.assemble import Drawing, Edge, Vertex
from scaleout.io.graphs.links import ServerLinks

__all__ = ["read_nvidia_smi"]

_CODES = ("X", "NV#", "PIX", "PXB", "PHB", "NODE", "SYS")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_NVLINK = re.compile(r"NV(\d{1,3})")
_NOTE = re.compile(r"^# *(nvlink|pcie): *(\d{1,2}) *$", re.MULTILINE)
_MOST = 1024
"""Devices of one server."""


def read_nvidia_smi(
    text: str, path: Path, links: ServerLinks, nvlink: int | None = None, pcie: int | None = None
) -> Drawing:
    """The server that a matrix describes.

    Parameters
    ----------
    nvlink, pcie
        Generations of the links; PCIe is needed only where there is no NVLink. A line such as
        ``# nvlink: 4`` in the file says the same.

    Raises
    ------
    SpecError
        The text is no matrix, rows and columns do not agree, a code is unknown, or a generation is
        missing.
    """
    names, codes = _matrix(text, str(path))
    noted = {key: int(value) for key, value in _NOTE.findall(text)}
    nvlink = noted.get("nvlink") if nvlink is None else nvlink
    pcie = noted.get("pcie") if pcie is None else pcie
    gpus = [i for i, name in enumerate(names) if name.startswith("GPU")]
    nv = {(i, j): int(found[1]) for i in gpus for j in gpus if (found := _NVLINK.fullmatch(codes[i][j])) and i != j}
    if nv and nvlink is None:
        raise SpecError(f"{path}: has NVLinks; say of which generation: nvlink=1 to {links.generations()[-1]}")
    if nvlink is not None and nvlink not in links.generations():
        raise SpecError(f"nvlink: generation {nvlink!r:.20} is unknown; known: {links.generations()}")
    if pcie is None:
        if nvlink is None:
            raise SpecError(f"{path}: say of which generation PCIe is: pcie=1 to {links.pcie_generations()[-1]}")
        pcie = links.pcie_of(nvlink)
    if pcie not in links.pcie_generations():
        raise SpecError(f"pcie: generation {pcie!r:.20} is unknown; known: {links.pcie_generations()}")
    drawing = Drawing(name=path.stem, where=str(path), inside="nvlink" if nv else "pcie", bundle=True)
    for i, name in enumerate(names):
        kind = "gpu" if i in gpus else "nic"
        drawing.vertices.append(Vertex(name, {"kind": kind, "name": name, "node": 0}, f"row {name}"))
    if nv and nvlink is not None:
        _nvlinks(drawing, names, nv, nvlink, links)
    slot, socket = links.pcie(pcie), links.smp(links.cpu_of(pcie))
    tree = _Tree(names, codes)
    for child, parent in tree.edges:
        drawing.edges.append(_edge(child, parent, slot, links.latency("pcie"), "pcie"))
    for vertex, kind in tree.vertices:
        drawing.vertices.append(Vertex(vertex, {"kind": kind}, f"row {vertex}"))
    cpus = [vertex for vertex, kind in tree.vertices if kind == "cpu"]
    for a, one in enumerate(cpus):
        for other in cpus[a + 1 :]:
            drawing.edges.append(_edge(one, other, socket, links.latency("smp"), "smp"))
    return drawing


def _edge(one: str, other: str, bandwidth: float, latency: float, kind: str, width: int = 1) -> Edge:
    data = {"bandwidth": bandwidth, "latency": latency, "kind": kind, "width": width}
    return Edge(one, other, True, data, f"{one} to {other}")


def _matrix(text: str, where: str) -> tuple[list[str], list[list[str]]]:
    """Names of devices and the code of each pair."""
    lines = [_ESCAPE.sub("", line) for line in text.splitlines()]
    at = next((i for i, line in enumerate(lines) if line.split()[:1] == ["GPU0"]), None)
    if at is None:
        raise SpecError(f"{where}: no line begins with GPU0; expected what nvidia-smi topo -m prints")
    header = lines[at].split()
    names = header[: next((i for i, word in enumerate(header) if word in ("CPU", "NUMA")), len(header))]
    if len(names) > _MOST:
        raise SpecError(f"{where}, line {at + 1}: {len(names):,} devices; at most {_MOST:,} are accepted")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SpecError(f"{where}, line {at + 1}: column {twice!r:.40} is there twice")
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(lines[at + 1 :], at + 2):
        words = line.split()
        if not words and len(rows) < len(names):
            continue
        if not words or words[0] == "Legend:" or words[:2] == ["NIC", "Legend:"]:
            break
        if words[0] not in names:
            raise SpecError(f"{where}, line {number}: row {words[0]!r:.40} has no column; {near(words[0], names)}")
        if words[0] in rows:
            raise SpecError(f"{where}, line {number}: row {words[0]!r:.40} is there twice")
        found = words[1 : len(names) + 1]
        if len(found) < len(names):
            raise SpecError(f"{where}, line {number}: row {words[0]} has {len(found)} entries; expected {len(names)}")
        for name, code in zip(names, found, strict=True):
            if code != "X" if name == words[0] else code not in _CODES[2:] and not _NVLINK.fullmatch(code):
                expected = "X" if name == words[0] else ", ".join(_CODES[1:])
                raise SpecError(
                    f"{where}, line {number}: {words[0]} to {name}: {code!r:.40} is not accepted; expected {expected}"
                )
        rows[words[0]] = found
    missing = [name for name in names if name not in rows]
    if missing:
        raise SpecError(f"{where}: {missing[0]} has a column and no row; expected as many rows as columns")
    for a, one in enumerate(names):
        for b, other in enumerate(names[:a]):
            if rows[one][b] != rows[other][a]:
                raise SpecError(
                    f"{where}: {one} to {other} is {rows[one][b]}, but {other} to {one} is {rows[other][a]}; "
                    "expected a symmetric matrix"
                )
    return names, [rows[name] for name in names]


def _nvlinks(
    drawing: Drawing, names: list[str], nv: dict[tuple[int, int], int], generation: int, links: ServerLinks
) -> None:
    rate, latency = links.nvlink(generation), links.latency("nvlink")
    most = links.links_of(generation)
    total = {i: sum(count for (one, _), count in nv.items() if one == i) for i, _ in nv}
    if max(total.values()) <= most:
        for (i, j), count in sorted(nv.items()):
            if i < j:
                drawing.edges.append(_edge(names[i], names[j], count * rate, latency, "nvlink", count))
        return
    groups = _classes(len(names), nv)
    for number, group in enumerate(group for group in groups if len(group) > 1):
        counts = {nv.get((i, j), 0) for i in group for j in group if i != j}
        (count,) = counts if len(counts) == 1 else (0,)
        if not 0 < count <= most:
            raise TopologyError(
                f"{drawing.where}: {names[group[0]]} has {total[group[0]]} NVLinks in all, and a GPU of generation "
                f"{generation} has {most}; behind a switch every pair would have the same number, up to {most}"
            )
        switch = f"nvswitch {number}"
        drawing.vertices.append(Vertex(switch, {"kind": "nvswitch", "node": 0}, switch))
        drawing.edges += [_edge(names[i], switch, count * rate, latency, "nvlink", count) for i in group]


def _classes(count: int, pairs: "dict[tuple[int, int], int] | set[tuple[int, int]]") -> list[list[int]]:
    """Connected components, each ascending, by their first member."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for i, j in pairs:
        a, b = sorted((root(i), root(j)))
        parent[b] = a
    found: dict[int, list[int]] = {}
    for i in range(count):
        found.setdefault(root(i), []).append(i)
    return list(found.values())


class _Tree:
    """Devices below switches below sockets: a vertex where at least two things meet, and at sockets."""

    def __init__(self, names: list[str], codes: list[list[str]]) -> None:
        self.vertices: list[tuple[str, str]] = []
        self.edges: list[tuple[str, str]] = []
        count = len(names)
        top = list(names)
        joined: set[tuple[int, int]] = set()
        for level in (("PIX",), ("PXB",), ("PHB", "NODE")):
            joined |= {(i, j) for i in range(count) for j in range(i) if codes[i][j] in level}
            for group in _classes(count, joined):
                below = list(dict.fromkeys(top[i] for i in group))
                socket = level == ("PHB", "NODE")
                if len(below) < 2 and not socket:
                    continue
                kind = "cpu" if socket else "pcie switch"
                name = f"{kind} {sum(kind == other for _, other in self.vertices)}"
                self.vertices.append((name, kind))
                self.edges += [(child, name) for child in below]
                for i in group:
                    top[i] = name
