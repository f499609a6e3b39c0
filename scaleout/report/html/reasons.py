"""Many messages as few reasons: those that differ in numbers, or in brackets, are one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Reason", "plain_message", "reasons_of"]

_WHERE = re.compile(r"^[^\s:]*\.ya?ml(?: with --set)?: |^[^\s:]+ with --set: |^experiment(?: with --set)?: ")
_NUMBER = re.compile(r"(?<![A-Za-z_.\d-])-?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?(?:\s?[kMGTP]i?B\b)?")

_ASIDE = re.compile(r"\s*\([^()]*\)")
"""What a message adds in brackets: it differs from point to point, and is in the example."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, why so many points have no outcome.

    Parameters
    ----------
    pattern
        The message, with "…" in place of numbers, and without what is in brackets.
    count
        Points [1].
    example, row
        A message in full, and whose it is.
    """

    pattern: str
    count: int
    example: str
    row: int


def plain_message(message: str) -> str:
    """Without the file that each of its lines begins with."""
    return "\n".join(_WHERE.sub("", line) for line in message.strip().splitlines())


def reasons_of(messages: Iterable[tuple[int, str]]) -> tuple[Reason, ...]:
    """Reasons by the first lines of messages, each with its row: the most frequent first.

    >>> found = reasons_of([(4, "needs 90 GB of 80 GB"), (7, "needs 95.5 GB of 80 GB"), (9, "tp does not divide")])
    >>> [(reason.pattern, reason.count, reason.row) for reason in found]
    [('needs … of …', 2, 4), ('tp does not divide', 1, 9)]
    """
    first: dict[str, tuple[int, str]] = {}
    counts: dict[str, int] = {}
    patterns: dict[str, str] = {}
    for row, message in messages:
        pattern = patterns.get(message)
        if pattern is None:
            lines = plain_message(message).splitlines() or ["no reason was kept"]
            pattern = patterns[message] = _NUMBER.sub("…", _ASIDE.sub("", lines[0]) or lines[0])
            first.setdefault(pattern, (row, plain_message(message)))
        counts[pattern] = counts.get(pattern, 0) + 1
    order = sorted(counts, key=lambda pattern: (-counts[pattern], pattern))
    return tuple(Reason(pattern, counts[pattern], first[pattern][1], first[pattern][0]) for pattern in order)
