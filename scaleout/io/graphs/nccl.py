"""NCCL's topology XML: what ``NCCL_TOPO_DUMP_FILE`` writes and ``NCCL_TOPO_FILE`` reads.

A system holds processors, below them PCIe devices: switches, GPUs, NICs. A GPU lists its NVLinks (to
a GPU, a switch, a processor) and its link to the processor's memory (C2C), a NIC its ports. All
NVSwitches are one vertex, and bandwidths are those that NCCL counts on.
"""

from pathlib import Path
from typing import Any

from scaleout.errors import SpecError
from scaleout.io.graphs.assemble import Drawing, Edge, Vertex
from scaleout.io.graphs.links import ServerLinks
from scaleout.io.graphs.xml import Element

__all__ = ["read_nccl"]

_CLASSES = (("0x068000", "nvswitch"), ("0x068001", "cpu"), ("0x03", "gpu"), ("0x02", "nic"))
_UNKNOWN = ("", "unknown", "unknown speed")


def read_nccl(root: Element, path: Path, links: ServerLinks) -> Drawing:
    """The servers of a file; those of several hosts are several nodes.

    Raises
    ------
    SpecError
        An element lacks an attribute, or has a value that is not accepted.
    """
    reader = _Reader(path, links)
    cpus = root.all("cpu")
    if not cpus:
        raise SpecError(f"{path}, line {root.line}: system without cpu")
    hosts = list(dict.fromkeys(cpu.attributes.get("host_hash", "") for cpu in cpus))
    for cpu in cpus:
        reader.host = hosts.index(cpu.attributes.get("host_hash", ""))
        reader.prefix = f"host {reader.host}/" if len(hosts) > 1 else ""
        reader.cpu(cpu)
    reader.sockets()
    reader.nvlinks()
    return reader.finished()


class _Reader:
    """Walks the tree once, then joins what refers across it."""

    def __init__(self, path: Path, links: ServerLinks) -> None:
        self.where, self.links = str(path), links
        self.drawing = Drawing(name=path.stem, where=self.where, inside="nvlink")
        self.host, self.prefix = 0, ""
        self.gpus: list[tuple[str, Element | None, str, int, int]] = []  # id, element, processor, host, line
        self.cpus: list[tuple[str, int, float]] = []
        self.seen: set[str] = set()

    def vertex(self, ident: str, kind: str, name: str, line: int) -> str:
        if ident in self.seen:
            raise SpecError(f"{self.where}, line {line}: {name} is there twice")
        self.seen.add(ident)
        self.drawing.vertices.append(
            Vertex(ident, {"kind": kind, "name": self.prefix + name, "node": self.host}, f"line {line}")
        )
        return ident

    def link(self, one: str, other: str, bandwidth: float, kind: str, line: int, **data: Any) -> None:
        row = {"bandwidth": bandwidth, "latency": self.links.latency(kind), "kind": kind, **data}
        self.drawing.edges.append(Edge(one, other, True, row, f"line {line}"))

    def text(self, element: Element, name: str) -> str:
        if name not in element.attributes:
            raise SpecError(f"{self.where}, line {element.line}: {element.tag} without {name}")
        return element.attributes[name]

    def whole(self, element: Element, name: str, default: int | None = None, least: int = 0) -> int:
        value = self.text(element, name) if default is None else element.attributes.get(name, str(default))
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if not least <= number <= 10**9:
            raise SpecError(
                f"{self.where}, line {element.line}: {element.tag} {name}: {value!r:.40} is not accepted; "
                f"expected a whole number, at least {least}"
            )
        return number

    def cpu(self, element: Element) -> None:
        numa = self.whole(element, "numaid", least=-1)
        ident = self.vertex(f"{self.host}/cpu {numa}", "cpu", f"cpu {numa}", element.line)
        self.cpus.append((ident, self.host, self.links.smp(self.model(element))))
        for child in element.children:
            if child.tag == "pci":
                self.pci(child, ident, ident)
            elif child.tag == "nic":
                nic = self.nic(child, f"{ident}/{len(self.drawing.vertices)}")
                self.link(nic, ident, self.links.local(), "pcie", child.line)

    def model(self, element: Element) -> str:
        """Which processor it is, of those that NCCL tells apart."""
        arch = self.text(element, "arch")
        if arch in ("arm64", "ppc64"):
            return "arm" if arch == "arm64" else "power9"
        vendor = self.text(element, "vendor")
        family, model = self.whole(element, "familyid", 0), self.whole(element, "modelid", 0)
        if vendor == "GenuineIntel":
            if family == 6 and (model >= 0xCF or model in (0xAD, 0xAE, 0xAF)):
                return "emerald-rapids"
            return "sapphire-rapids" if family == 6 and model >= 0x8F else (
                "skylake" if family == 6 and model >= 0x55 else "broadwell"
            )  # fmt: skip
        if vendor == "AuthenticAMD":
            return "zen5" if family in (26, 0xBF) else "zen4" if family in (25, 0xAF) else "zen2"
        if vendor.strip() in ("CentaurHauls", "Shanghai"):
            return "yongfeng" if (family, model) == (7, 0x5B) else "zhaoxin"
        raise SpecError(
            f"{self.where}, line {element.line}: cpu of arch {arch!r:.40} and vendor {vendor!r:.40} is unknown; "
            "expected arch arm64 or ppc64, or x86_64 of GenuineIntel, AuthenticAMD, CentaurHauls or Shanghai"
        )

    def pci(self, element: Element, parent: str, cpu: str) -> None:
        ident = f"{self.host}/{self.text(element, 'busid').lower()}"
        bus = ident.partition("/")[2]
        rate = self.slot(element)
        cards, nics = element.all("gpu"), element.all("nic")
        given = element.attributes.get("class", "")
        kind = next((kind for start, kind in _CLASSES if given.startswith(start)), "pcie switch")
        kind = "gpu" if cards else "nic" if nics else kind
        if kind == "gpu":
            self.vertex(ident, "gpu", f"gpu {bus}", element.line)
            self.gpus.append((ident, cards[0] if cards else None, cpu, self.host, element.line))
        elif kind == "nic":
            self.nic(nics[0] if nics else element, ident, bus)
        else:
            self.vertex(ident, "pcie switch", f"pcie switch {bus}", element.line)
            for child in element.all("pci"):
                self.pci(child, ident, cpu)
        self.link(ident, parent, rate, "pcie", element.line)

    def slot(self, element: Element) -> float:
        lanes = self.whole(element, "link_width", 0) or 16
        given = element.attributes.get("link_speed", "").strip()
        # as NCCL does, a speed that the kernel does not tell is that of the third generation
        if given.lower() in _UNKNOWN:
            return self.links.pcie(3, lanes)
        speeds = self.links.pcie_speeds()
        number = given.removesuffix("PCIe").strip().removesuffix("GT/s").strip()
        try:
            return self.links.pcie(speeds[float(number)], lanes)
        except (KeyError, ValueError):
            known = ", ".join(f"{speed:g} GT/s" for speed in speeds)
            raise SpecError(
                f"{self.where}, line {element.line}: pci link_speed: {given!r:.40} is not accepted; expected {known}"
            ) from None

    def nic(self, element: Element, ident: str, bus: str = "") -> str:
        self.vertex(ident, "nic", f"nic {bus or ident.partition('/')[2]}", element.line)
        for net in element.all("net"):
            if "dev" not in net.attributes or net.attributes.get("net") == "0":
                continue
            dev, speed = self.whole(net, "dev"), self.whole(net, "speed", 0, least=-1)
            name = net.attributes.get("name") or f"port {dev}"
            port = self.vertex(f"{self.host}/port {dev}", "port", name, net.line)
            self.link(ident, port, speed * 1e6 / 8 if speed > 0 else self.links.port(), "port", net.line)
        return ident

    def sockets(self) -> None:
        for a, (one, host, rate) in enumerate(self.cpus):
            for other, there, _ in self.cpus[a + 1 :]:
                if there == host:
                    self.link(one, other, rate, "smp", 0)

    def nvlinks(self) -> None:
        known = {ident for ident, *_ in self.gpus}
        switch = ""
        for ident, card, cpu, host, _ in self.gpus:
            for element in card.children if card else ():
                if element.tag == "c2c":
                    # NCCL counts this in MB/s
                    rate = self.whole(element, "bw", least=1) * self.whole(element, "count", least=1) * 1e6
                    self.link(ident, cpu, self.links.given.get("c2c", rate), "c2c", element.line)
                if element.tag != "nvlink":
                    continue
                count = self.whole(element, "count", least=1)
                rate = self.links.nvlink_of_sm(self.whole(card, "sm", least=10) if card else 0)
                tclass = self.text(element, "tclass")
                kind = next((kind for start, kind in _CLASSES if tclass.startswith(start)), "nvswitch")
                row = {"width": count}
                if kind == "gpu":
                    target = f"{host}/{self.text(element, 'target').lower()}"
                    if target not in known:
                        raise SpecError(
                            f"{self.where}, line {element.line}: nvlink target {target.partition('/')[2]!r:.40} "
                            "is no GPU of this system"
                        )
                    self.link(ident, target, count * rate, "nvlink", element.line, **row)
                    # the other end lists it too
                    self.drawing.edges[-1] = self.drawing.edges[-1]._replace(both=False)
                elif kind == "cpu":
                    self.link(ident, cpu, count * rate, "nvlink", element.line, **row)
                else:
                    if not switch:
                        switch = "nvswitch"
                        self.drawing.vertices.append(
                            Vertex(switch, {"kind": "nvswitch", "name": "nvswitch 0"}, f"line {element.line}")
                        )
                    self.link(ident, switch, count * rate, "nvlink", element.line, **row)

    def finished(self) -> Drawing:
        """GPUs by rank where all have one, else as they stand; named by that order."""
        order = {ident: i for i, (ident, *_) in enumerate(self.gpus)}
        cards = [(ident, card) for ident, card, *_ in self.gpus if card is not None and "rank" in card.attributes]
        if len(cards) == len(self.gpus):
            order = {ident: self.whole(card, "rank") for ident, card in cards}
            if len(set(order.values())) < len(order):
                raise SpecError(f"{self.where}: two GPUs have the same rank")
        ranked = sorted(order, key=lambda ident: order[ident])
        place = {vertex.id: vertex for vertex in self.drawing.vertices}
        named = [
            place[ident]._replace(attributes={**place[ident].attributes, "name": f"gpu {i}"})
            for i, ident in enumerate(ranked)
        ]
        rest = [vertex for vertex in self.drawing.vertices if vertex.id not in order]
        self.drawing.vertices = named + rest
        return self.drawing
