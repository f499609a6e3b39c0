"""Fit fused kernels of experts: ``python -m scaleout.calibration.moe TABLE [--chip NAME] [--dtype NAME] [--write]``.

Three constants beside those of plain products, which have to be there, and a bound: weights up to which a loop finds
them in L2, which the fit chooses among shares of its capacity. 30 % of the shapes are held out, each at all its
numbers of tokens.
"""

import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from scaleout.calibration.chipfile import dated, lines_of
from scaleout.calibration.command import carry_out, chosen_chips, parser
from scaleout.calibration.files import write_section
from scaleout.calibration.fit import Fit, best_fit, held_out, summary
from scaleout.calibration.gemm import named
from scaleout.hardware.formats import FORMATS, SPELLINGS
from scaleout.hardware.moe import Loads, experts_seconds, loads, loop_bytes
from scaleout.io.catalogue import find
from scaleout.io.table import Row, take_rows
from scaleout.specs import Chip, GroupedConstants
from scaleout.validation.moe import COLUMNS, exponent_of

__all__ = ["Experts", "fit", "main", "measurements"]

_FREE = {"work": (0.3, 6.0), "traffic": (0.5, 2.0), "launch": (1e-6, 1e-4)}
_SHARES = (0.0, 0.5, 0.95)
"""Shares of L2 that a loop may find again: none; the half of it that is near, where it is two; nearly all."""
_START = GroupedConstants(work=1.2, traffic=1.0, launch=2e-5, source="a first guess")


@dataclass(frozen=True, slots=True)
class Experts:
    """One row: tokens through the experts of a rank.

    Parameters
    ----------
    exponent
        Of the power law by which experts are chosen; None: all alike.
    """

    tokens: int
    hidden: int
    ffn: int
    top_k: int
    experts: int
    ranks: int
    exponent: float | None
    seconds: float

    def loads(self) -> Loads:
        """Rows of the busiest rank's experts."""
        return _loads(self.tokens, self.top_k, self.experts, self.ranks, self.exponent)

    def loop(self, dtype: str) -> float:
        """Weights that the loop around it reads again and again [byte]."""
        return loop_bytes(dtype, self.hidden, self.ffn, self.loads(), drawn=self.exponent is not None)


@cache
def _loads(tokens: int, top_k: int, experts: int, ranks: int, exponent: float | None) -> Loads:
    return loads(tokens, top_k, experts, ranks, exponent)


def measurements(path: Path) -> dict[tuple[str, str], tuple[list[Experts], str]]:
    """Rows by chip as the table names it and dtype as we do, and their source."""
    rows: dict[tuple[str, str], list[Experts]] = defaultdict(list)
    sources: dict[tuple[str, str], str] = {}

    def take(row: Row) -> None:
        tokens, hidden, ffn, top_k, experts, tp, ep = (
            row.whole(key) for key in ("tokens", "hidden", "ffn", "topk", "experts", "tp", "ep")
        )
        dtype, seconds = row.text("dtype"), row.number("time_us") * 1e-6
        known, exponent = exponent_of(row.text("routing"))
        if known and ffn % tp == 0 and experts % ep == 0 and top_k <= experts:
            key = (row.text("chip"), SPELLINGS.get(dtype, dtype))
            rows[key].append(Experts(tokens, hidden, ffn // tp, top_k, experts, ep, exponent, seconds))
            sources[key] = row.optional("source")

    take_rows(path, COLUMNS, take)
    return {key: (part, sources[key]) for key, part in sorted(rows.items())}


def fit(chip: Chip, dtype: str, rows: list[Experts]) -> Fit:
    """Constants of the fused kernels of a dtype, whose plain products the chip has constants of."""
    measured = np.array([row.seconds for row in rows])
    loops = [row.loop(dtype) for row in rows]
    choices = {"l2_resident": tuple(share * (chip.l2_bytes or 0.0) for share in _SHARES)}

    def predict(constants: GroupedConstants) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        trial = replace(chip, gemm={**chip.gemm, dtype: replace(chip.gemm[dtype], grouped=constants)})
        times = [
            experts_seconds(trial, dtype, row.tokens, row.hidden, row.ffn, row.loads(), loop=loop)
            for row, loop in zip(rows, loops, strict=True)
        ]
        return np.array(times)

    held = held_out((row.hidden, row.ffn, row.top_k, row.experts, row.ranks) for row in rows)
    found = best_fit(_START, _FREE, choices, predict, measured, held)
    constants = replace(
        found.constants, **{name: float(f"{getattr(found.constants, name):.3g}") for name in _FREE},
        residual=round(found.residual, 3),
    )  # fmt: skip
    return Fit(constants, predict(constants) / measured - 1.0, held)


def main(arguments: list[str] | None = None) -> int:
    """Fit, print the errors, and write the constants where asked to."""
    made = parser("moe", __doc__, "CSV with the columns " + ", ".join(COLUMNS))
    made.add_argument("--dtype", action="append", help="all dtypes of the table otherwise")
    options = made.parse_args(arguments)
    return carry_out(lambda: _calibrate(options.table, options.chip, options.dtype, options.write))


def _calibrate(table: Path, names: list[str] | None, dtypes: list[str] | None, write: bool) -> None:
    tables = measurements(table)
    for chip in chosen_chips(names):
        for (known, dtype), (rows, source) in tables.items():
            if known not in (chip.name, *chip.aliases) or dtype not in FORMATS or (dtypes and dtype not in dtypes):
                continue
            if dtype not in chip.gemm:
                print(f"{chip.name} {dtype}: left out, the chip has no constants of plain products")
                continue
            print(f"{chip.name} {dtype}: {len(rows):,} rows")
            found = fit(chip, dtype, rows)
            print(f"    fitted    {summary(found.errors[~found.held])}")
            print(f"    held out  {summary(found.errors[found.held])}")
            for low, high in ((0, 64), (64, 1024), (1024, np.inf)):
                inside = np.array([low < row.tokens <= high for row in rows])
                print(f"      tokens {low} to {high}: {summary(found.errors[inside])}")
            library, origin = named(source)
            words = f"{origin}, {len(rows):,} fused kernels of experts, 30 % of the shapes held out"
            constants = dated(replace(found.constants, library=library, source=words), chip.gemm[dtype].grouped)
            print("\n".join(f"    {line}" for line in lines_of(constants)))
            if write:
                write_section(find("chip", chip.name), ("gemm", dtype, "grouped"), "\n".join(lines_of(constants)))


if __name__ == "__main__":
    sys.exit(main())
