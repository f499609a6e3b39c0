"""Measured kernels of one chip, as its user's table has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from scaleout.specs.fields import check_fields, freeze

__all__ = ["KernelTable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTable:
    """Times of kernels that were measured on a chip; see ``docs/backends.md``.

    Parameters
    ----------
    kind
        Matrix products or attention.
    file, digest
        Where the rows were read, and SHA-256 of the file: rows are not hashed again.
    rows
        Products by dtype: m, n, k and time [s]. Attention by kernel, phase, dtype and dtype of the cache, with
        spaces between: sequences, queries of each, tokens that the last one sees, query heads, key/value heads,
        head size and time [s].
    left_out
        Rows of this chip that are faster than its data sheet allows, and not in `rows`.
    """

    kind: Literal["gemm", "attention"]
    file: str
    digest: str
    rows: Mapping[str, tuple[tuple[float, ...], ...]] = field(hash=False, repr=False)
    left_out: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "rows")

    @property
    def count(self) -> int:
        """Rows that are used."""
        return sum(len(rows) for rows in self.rows.values())
