"""What constants of one chip miss on another: ``python -m scaleout.calibration.transfer TABLE``.

Every chip of a table of products in turn lends its constants to the others, by data sheets alone. Printed is each pair,
with the band that is stated; and what `Growth` would be with each pair of chips left out, and how many rows of those
two chips lie inside the bands of that. Nothing is written: `scaleout.hardware.likeness` holds the rule.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaleout.arrays import Floats
from scaleout.calibration.command import carry_out
from scaleout.hardware.likeness import BAND, KINDS, UNFITTED, Distance, Growth, distance, expected_error
from scaleout.io.catalogue import known_chips
from scaleout.validation import gemm

__all__ = ["Pair", "growth", "left_out", "main", "pairs_of"]

_MARGIN = 1.15
"""Over what the pairs at hand need, for those that are not [1]."""
_SAME_MEMORY = 1.0
"""Distance of memories up to which a pair tells of generations, and beyond of memories [1]."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Constants of a donor on another chip.

    Parameters
    ----------
    residual
        Of the constants on the donor [1].
    errors
        |simulated / measured - 1| of every row [1].
    """

    donor: str
    chip: str
    dtype: str
    apart: Distance
    residual: float
    errors: Floats

    @property
    def needed(self) -> float:
        """Mean error that would have to be stated for four of five rows to lie inside its band [1]."""
        return float(np.quantile(self.errors, 0.8)) / BAND

    def inside(self, error: float) -> float:
        """Share of the rows inside the band of an expected error [1]."""
        return float(np.mean(self.errors <= BAND * error))


def pairs_of(table: Path) -> list[Pair]:
    """Every donor of a table on every other chip, in every dtype that both were measured in."""
    chips = known_chips()
    seen = {chips[row.keys["chip"]].name for row in gemm.compare(table).compared}
    found = []
    for donor in sorted(seen):
        groups: dict[tuple[str, str], list[float]] = {}
        for row in gemm.compare(table, donor=donor).compared:
            groups.setdefault((chips[row.keys["chip"]].name, row.keys["dtype"]), []).append(abs(row.error))
        for (name, dtype), errors in groups.items():
            known = chips[donor].gemm.get({"bfloat16": "bf16"}.get(dtype, dtype))
            if known is not None:
                residual = UNFITTED if known.residual is None else known.residual
                apart = distance(chips[name], chips[donor])
                found.append(Pair(donor, name, dtype, apart, residual, np.array(errors)))
    return found


def growth(pairs: Sequence[Pair]) -> Growth:
    """The least that covers all pairs of 16 bits, with a margin: of generations first, then of memories."""
    plain = [pair for pair in pairs if pair.dtype == "bfloat16"]
    another = Growth().another

    def beyond(pair: Pair, generation: float) -> float:
        rest = pair.needed**2 - pair.residual**2 - another**2 - generation**2 * pair.apart.generations
        return math.sqrt(max(0.0, rest))

    near = [pair for pair in plain if pair.apart.memory < _SAME_MEMORY and pair.apart.generations]
    far = [pair for pair in plain if pair.apart.memory >= _SAME_MEMORY]
    generation = max((beyond(pair, 0.0) / math.sqrt(pair.apart.generations) for pair in near), default=0.0)
    memory = max((beyond(pair, generation) / pair.apart.memory for pair in far), default=0.0)
    return Growth(another, _MARGIN * generation, _MARGIN * memory)


def left_out(pairs: Sequence[Pair]) -> Iterator[tuple[Pair, Growth, float]]:
    """Each pair, the growth without these two chips together, and the share of its rows inside the band by that."""
    for pair in pairs:
        two = {pair.donor, pair.chip}
        rule = growth([other for other in pairs if {other.donor, other.chip} != two])
        kind = "gemm" if pair.dtype == "bfloat16" else "narrow"
        yield pair, rule, pair.inside(expected_error(pair.residual, pair.apart, kind, growth=rule))


def _lines(pairs: Sequence[Pair]) -> Iterator[str]:
    yield f"from {growth(pairs)}: generation and memory, {KINDS}"
    yield f"{'donor':18}{'chip':18}{'dtype':12}{'n':>6}{'MAPE':>8}{'median':>8}{'band':>8}{'inside':>8}{'left out':>10}"
    for pair, _, alone in left_out(pairs):
        stated = expected_error(pair.residual, pair.apart, "gemm" if pair.dtype == "bfloat16" else "narrow")
        shares = pair.errors.mean(), np.median(pair.errors), BAND * stated, pair.inside(stated)
        words = "".join(f"{share:8.1%}" for share in shares)
        yield f"{pair.donor:18}{pair.chip:18}{pair.dtype:12}{len(pair.errors):6,}{words}{alone:10.1%}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the pairs of a table."""
    made = argparse.ArgumentParser(prog="python -m scaleout.calibration.transfer", description=__doc__)
    made.add_argument("table", type=Path, help="CSV with the columns " + ", ".join(gemm.COLUMNS))
    options = made.parse_args(arguments)
    return carry_out(lambda: print(*_lines(pairs_of(options.table)), sep="\n"))


if __name__ == "__main__":
    sys.exit(main())
