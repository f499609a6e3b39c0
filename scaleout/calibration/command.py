"""What the calibration scripts have in common at the command line."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from scaleout.errors import ScaleoutError, SpecError, near
from scaleout.io.catalogue import known_chips
from scaleout.specs import Chip

__all__ = ["carry_out", "chosen_chips", "parser"]


def parser(
    name: str, words: str | None, table: str, *, chips: bool = True, writes: bool = True
) -> argparse.ArgumentParser:
    """Arguments of ``python -m scaleout.calibration.NAME``: a table, perhaps chips, and whether to write."""
    made = argparse.ArgumentParser(prog=f"python -m scaleout.calibration.{name}", description=words)
    made.add_argument("table", type=Path, help=table)
    if chips:
        made.add_argument("--chip", action="append", help="name or alias; all chips of the table otherwise")
    if writes:
        made.add_argument("--write", action="store_true", help="put the constants into the files of the catalogue")
    return made


def chosen_chips(names: Sequence[str] | None) -> list[Chip]:
    """The chips of these names or aliases, in the order of the catalogue; all of them for none."""
    known = known_chips()
    for name in names or ():
        if name not in known:
            raise SpecError(f"unknown chip {name!r}; {near(name, known)}")
    wanted = {known[name].name for name in names or known}
    return [known[name] for name in sorted(wanted)]


def carry_out(action: Callable[[], None]) -> int:
    """The exit status; an error is said in words."""
    try:
        action()
    except ScaleoutError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
