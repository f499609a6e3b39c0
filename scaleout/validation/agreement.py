"""How far simulated and measured agree: rows, and the statistics of their errors.

The error of a row is simulated / measured - 1: -0.1 says that the simulator is 10 % too fast.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scaleout.errors import MeasurementError

__all__ = ["Agreement", "Compared", "Skipped", "statistics"]


@dataclass(frozen=True, slots=True)
class Compared:
    """A row that was simulated.

    Parameters
    ----------
    line
        Of the file, counted from 1.
    keys
        What the row belongs to, such as ``{"chip": "h100-sxm", "dtype": "fp8"}``; "" for unknown.
    measured, simulated
        In the unit of the table, above 0.
    flags
        What was assumed because the row does not say it, each in a few words.
    label
        What the row is, in a few words, such as "1024 x 10240 x 5120"; it makes no group.
    band
        Largest |error| that is stated for four of five rows, where constants are those of another chip [1].

    Raises
    ------
    MeasurementError
        Measured or simulated is not a finite number above 0.
    """

    line: int
    keys: Mapping[str, str]
    measured: float
    simulated: float
    flags: tuple[str, ...] = ()
    label: str = ""
    band: float | None = None

    def __post_init__(self) -> None:
        if not (0.0 < self.measured < math.inf and 0.0 < self.simulated < math.inf):
            raise MeasurementError(
                f"line {self.line}: measured {self.measured:g}, simulated {self.simulated:g}; "
                "expected finite numbers above 0"
            )

    @property
    def error(self) -> float:
        """Simulated / measured - 1 [1]."""
        return self.simulated / self.measured - 1.0


@dataclass(frozen=True, slots=True)
class Skipped:
    """A well-formed row that cannot be compared.

    Parameters
    ----------
    line
        Of the file, counted from 1.
    reason
        In words; equal for all rows that are left out for the same reason.
    """

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A table, compared row by row.

    Parameters
    ----------
    kind
        Name of the form of the table, such as ``gemm``.
    compared, skipped
        Its rows, in the order of the file.
    combined
        Keys that also make groups together, such as ``(("chip", "dtype"),)``.
    unit
        Of measured and simulated.
    """

    kind: str
    compared: tuple[Compared, ...]
    skipped: tuple[Skipped, ...]
    combined: tuple[tuple[str, ...], ...] = field(default=())
    unit: str = "s"

    @classmethod
    def of(
        cls,
        kind: str,
        rows: Iterable[Compared | Skipped],
        *,
        combined: Sequence[Sequence[str]] = (),
        unit: str = "s",
    ) -> "Agreement":
        """Sort rows into compared and skipped ones."""
        rows = list(rows)
        return cls(
            kind=kind,
            compared=tuple(row for row in rows if isinstance(row, Compared)),
            skipped=tuple(row for row in rows if isinstance(row, Skipped)),
            combined=tuple(tuple(keys) for keys in combined),
            unit=unit,
        )

    def groups(self) -> dict[str, list[Compared]]:
        """Rows by ``key=value``, by ``key=value & key=value`` for combined keys, and by ``flag=words``."""
        found: dict[str, list[Compared]] = defaultdict(list)
        names = [(key,) for key in dict.fromkeys(key for row in self.compared for key in row.keys)]
        for keys in (*names, *self.combined):
            part: dict[str, list[Compared]] = defaultdict(list)
            for row in self.compared:
                values = [row.keys.get(key, "") for key in keys]
                if all(values):
                    part[" & ".join(f"{k}={v}" for k, v in zip(keys, values, strict=True))].append(row)
            found.update(sorted(part.items()))
        for flag in sorted({flag for row in self.compared for flag in row.flags}):
            found[f"flag={flag}"] = [row for row in self.compared if flag in row.flags]
        return dict(found)

    def reasons(self) -> dict[str, list[int]]:
        """Lines of the skipped rows by reason, most frequent first."""
        found: dict[str, list[int]] = defaultdict(list)
        for row in self.skipped:
            found[row.reason].append(row.line)
        return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))

    def worst(self, count: int) -> list[Compared]:
        """Rows that are furthest off, by the factor between the two, in either direction."""
        return sorted(self.compared, key=lambda row: (-abs(np.log(row.simulated / row.measured)), row.line))[:count]

    def summary(self) -> dict[str, Any]:
        """``kind``, ``n``, ``skipped``, ``mape``, ``median``, ``p90``, ``bias``, and ``groups`` of the same.

        Errors are fractions; those of no row are None. Where rows have bands, the whole and the groups also have
        ``band``, the mean of them, and ``inside``, the share of these rows whose error is no larger.
        """
        whole = statistics(self.compared)
        return {
            "kind": self.kind,
            "n": whole.pop("n"),
            "skipped": len(self.skipped),
            **whole,
            "groups": {name: statistics(rows) for name, rows in self.groups().items()},
        }


def statistics(rows: Sequence[Compared]) -> dict[str, Any]:
    """``n``; mean, median and 90th percentile of the absolute error; mean of the signed one [1]; bands, if any."""
    if not rows:
        return {"n": 0, "mape": None, "median": None, "p90": None, "bias": None}
    errors = np.array([row.error for row in rows])
    size = np.abs(errors)
    found = {
        "n": len(rows),
        "mape": float(size.mean()),
        "median": float(np.median(size)),
        "p90": float(np.percentile(size, 90)),
        "bias": float(errors.mean()),
    }
    bands = [(row.band, abs(row.error)) for row in rows if row.band is not None]
    if bands:
        found["band"] = float(np.mean([wide for wide, _ in bands]))
        found["inside"] = float(np.mean([error <= wide for wide, error in bands]))
    return found
