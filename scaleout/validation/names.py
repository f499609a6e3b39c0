"""Names that tables use for what the catalogue knows."""

from scaleout.errors import near
from scaleout.io.catalogue import list_names, load
from scaleout.specs import Chip

__all__ = ["known_chips", "unknown"]


def known_chips() -> dict[str, Chip]:
    """Every chip of the catalogue, by its name and by its aliases; a name goes before an alias."""
    chips: list[Chip] = [load("chip", name) for name in list_names("chip")]
    return {alias: chip for chip in chips for alias in chip.aliases} | {chip.name: chip for chip in chips}


def unknown(what: str, name: str, known: dict[str, Chip]) -> str:
    """Why a row is left out whose name means nothing here."""
    return f"unknown {what} {name!r}; {near(name, known)}"
