"""HBM as a ledger: what a program holds, by kind, as its operations start and end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.program import Program
from scaleout.engine.timeline import ClassTimeline

__all__ = ["Ledger", "ledger", "peak"]


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """HBM in use after each change.

    Parameters
    ----------
    time
        Of each change [tick], shape (changes,); the first is 0.
    held
        By kind [byte], shape (changes, kinds).
    kinds
        Names.
    """

    time: Ints
    held: Floats
    kinds: tuple[str, ...]

    def at_peak(self) -> dict[str, float]:
        """What is held, by kind, when the sum is largest [byte]."""
        row = self.held[int(self.held.sum(axis=1).argmax())]
        return {kind: float(value) for kind, value in zip(self.kinds, row, strict=True)}


def ledger(
    program: Program, static: Mapping[str, float], kinds: Sequence[str], times: ClassTimeline | None = None
) -> Ledger:
    """Run the program's changes in the order of time; without times, in program order.

    All changes belong to operations of one stream, whose order is that of the program, so both
    orders have the same peak.
    """
    held = np.array([static.get(kind, 0.0) for kind in kinds])
    op, at_end = program.memory_op, program.memory_end
    when = np.where(at_end, times.ended[op], times.started[op]) if times else 2 * op + at_end
    taking = program.memory_bytes > 0
    # in program order one key says it all, and is nearly sorted
    order = np.lexsort((taking, at_end, op, when)) if times else np.argsort(2 * when + taking, kind="stable")
    changes = np.zeros((len(op) + 1, len(kinds)))
    changes[0] = held
    changes[np.arange(1, len(op) + 1), program.memory_kind[order]] = program.memory_bytes[order]
    time = np.concatenate(([0], when[order])) if times else np.concatenate(([0], order))
    return Ledger(time.astype(np.int64), np.cumsum(changes, axis=0), tuple(kinds))


def peak(program: Program, static: Mapping[str, float], kinds: Sequence[str]) -> dict[str, float]:
    """What is held, by kind, when the sum is largest [byte]."""
    return ledger(program, static, kinds).at_peak()
