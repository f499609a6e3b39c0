"""What links inside a server carry, by kind: ``topologies/links.yaml``."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from scaleout.errors import SpecError, near
from scaleout.io.yaml import read_mapping
from scaleout.units import Number, parse

__all__ = ["KINDS", "ServerLinks"]

KINDS = ("nvlink", "pcie", "smp", "c2c", "port")
"""Kinds of link inside a server; an NVLink and a lane of PCIe are counted one by one."""
_RATE = Number("byte/s")


@cache
def _table() -> dict[str, Any]:
    from scaleout.io.catalogue import roots

    *_, shipped = roots()
    return read_mapping(shipped / "topologies" / "links.yaml")


class ServerLinks(NamedTuple):
    """The table, with bandwidths that the caller knows better.

    Parameters
    ----------
    given
        Bandwidths by kind [byte/s]: of one NVLink, of a PCIe slot, between sockets.
    """

    given: Mapping[str, float]

    @classmethod
    def of(cls, given: Mapping[str, float | str] | None) -> "ServerLinks":
        """The table with such bandwidths, as numbers [byte/s] or text with a unit.

        Raises
        ------
        SpecError
            A kind is unknown or a bandwidth not accepted.
        """
        from scaleout.io.graphs.assemble import value_of

        for kind in given or {}:
            if kind not in KINDS:
                raise SpecError(f"links: unknown kind {str(kind)!r:.60}; {near(str(kind), KINDS)}")
        return cls({kind: value_of(value, _RATE, f"links: {kind}") for kind, value in (given or {}).items()})

    def latency(self, kind: str) -> float:
        """Of a link [s]."""
        return parse(_table()["latency"][kind], "s")

    def nvlink(self, generation: int) -> float:
        """Of one NVLink [byte/s, per direction]."""
        return self.given.get("nvlink", _rate(_table()["nvlink"][generation]))

    def nvlink_of_sm(self, sm: int) -> float:
        """Of one NVLink of a GPU of such compute capability, as NCCL takes it [byte/s, per direction]."""
        rows = [*_table()["nvlink"].values(), _table()["nvlink_of_workstations"]]
        exact = [row for row in rows if row["sm"] == sm]
        below = [row for row in rows[:-1] if row["sm"] <= sm] or rows[2:3]
        return self.given.get("nvlink", _rate((exact or below)[-1]))

    def generations(self) -> list[int]:
        """Generations of NVLink that are known."""
        return sorted(_table()["nvlink"])

    def links_of(self, generation: int) -> int:
        """NVLinks of one GPU."""
        return int(_table()["nvlink"][generation]["links"])

    def pcie_of(self, generation: int) -> int:
        """Generation of PCIe that comes with one of NVLink."""
        return int(_table()["nvlink"][generation]["pcie"])

    def pcie_generations(self) -> list[int]:
        """Generations of PCIe that are known."""
        return sorted(_table()["pcie"])

    def pcie(self, generation: int, lanes: int | None = None) -> float:
        """Of a slot [byte/s, per direction]."""
        per_lane = _rate(_table()["pcie"][generation])
        return self.given.get("pcie", per_lane * (lanes or int(_table()["lanes"])))

    def pcie_speeds(self) -> dict[float, int]:
        """Generation by transfer rate [GT/s]."""
        return {float(row["speed"]): int(generation) for generation, row in _table()["pcie"].items()}

    def cpu_of(self, generation: int) -> str:
        """Processor that is taken where only the generation of PCIe is known."""
        return str(_table()["pcie"][generation]["cpu"])

    def smp(self, cpu: str) -> float:
        """Between the sockets of a server [byte/s, per direction]."""
        return self.given.get("smp", _rate(_table()["smp"][cpu]))

    def local(self) -> float:
        """Within a socket [byte/s, per direction]."""
        return _rate(_table()["local"])

    def port(self) -> float:
        """Of a port of unknown speed [byte/s, per direction]."""
        return self.given.get("port", _rate(_table()["port"]))


def _rate(row: Mapping[str, str]) -> float:
    return parse(row["bandwidth"], "byte/s")
