"""A chip from a file or a name, with ``--set`` carried out."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from scaleout.errors import SpecError
from scaleout.io.catalogue import find, validate
from scaleout.io.experiments import assign
from scaleout.io.yaml import read_mapping
from scaleout.specs import Chip

__all__ = ["chip"]


def chip(source: str | Path | Mapping[str, Any], settings: tuple[str, ...] = ()) -> Chip:
    """A chip from a file, a name of the catalogue, or a mapping of the same form.

    Parameters
    ----------
    settings
        Overrides such as ``design.clock=2 GHz``.

    Raises
    ------
    SpecError
        Every mistake at once, one a line, with file, key, value and what is accepted.
    """
    path: Path | None = None
    if isinstance(source, Mapping):
        where, data = "chip", deepcopy(dict(source))
    elif not isinstance(source, str | Path):
        raise SpecError(f"{source!r:.60} is no chip; expected a file, a name or a mapping")
    else:
        path = find("chip", str(source))
        where, data = str(path), read_mapping(path)
    for setting in (settings,) if isinstance(settings, str) else tuple(settings):
        assign(data, str(setting), path)
    found: Chip = validate("chip", data, f"{where} with --set" if settings else where)
    return found
