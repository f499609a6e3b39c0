"""How much work the steps of a replica were, in few numbers.

Steps are told apart by whether they have prompts and by the power of two that their tokens reach.
Of the steps of a kind sums are kept: nearly all that kernels do grows in proportion to one of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from scaleout.serving.work import Work

__all__ = ["Steps", "Tally"]


_BINS = 512
"""Of time, in which steps are told apart."""
_NARROWEST = 1 << 30
"""Ticks of a bin at first: a millisecond."""


class Steps(NamedTuple):
    """Sums over steps of a kind, and over all attention ranks.

    Parameters
    ----------
    steps, ticks
        How many, and the time that they took [tick].
    prompts, prompt_tokens, prompt_scores
        Sequences with new tokens of prompts; those; pairs of those with the tokens that each of them sees.
    decodes, decode_tokens, context
        Sequences that decode, their new tokens, and the tokens that they see.
    rows
        Tokens whose logits are asked for.
    """

    steps: int = 0
    ticks: int = 0
    prompts: int = 0
    prompt_tokens: int = 0
    prompt_scores: int = 0
    decodes: int = 0
    decode_tokens: int = 0
    context: int = 0
    rows: int = 0

    def plus(self, other: "Steps") -> "Steps":
        """Both together."""
        return Steps(*(a + b for a, b in zip(self, other, strict=True)))


class Tally:
    """Sums over the steps of a replica, by kind: whether with prompts, and bits of the number of tokens.

    When steps of each kind were under way is known by bins of time, which become wider as time goes on.
    """

    __slots__ = ("_bins", "_sums", "width")

    def __init__(self) -> None:
        self._sums: dict[tuple[bool, int], list[int]] = {}
        self._bins: dict[tuple[bool, int], list[int]] = {}
        self.width = _NARROWEST
        """Of a bin [tick]; the first begins at 0."""

    def note(self, works: Sequence[Work], contexts: Sequence[int], count: int, ticks: int, end: int) -> None:
        """So many steps of so many ticks each, one after the other.

        Parameters
        ----------
        works
            Of the first of them, or of one before it from which it differs in what is seen alone.
        contexts
            What the sequences that decode see in the first of them, by attention rank.
        end
            When the last of them is over [tick].
        """
        prompts = new = scores = decodes = tokens = seen = rows = 0
        for work, context in zip(works, contexts, strict=True):
            prompts += work.prompts
            new += work.prompt_tokens
            scores += work.prompt_scores
            if work.decodes:
                decodes += work.decodes
                tokens += work.decode_tokens
                # each sees one more token with every step
                seen += count * context + work.decodes * (count * (count - 1) // 2)
            rows += work.rows
        key = (prompts > 0, (new + tokens).bit_length())
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0] * 9
            self._bins[key] = [0] * _BINS
        sums[0] += count
        sums[1] += count * ticks
        sums[2] += count * prompts
        sums[3] += count * new
        sums[4] += count * scores
        sums[5] += count * decodes
        sums[6] += count * tokens
        sums[7] += seen
        sums[8] += count * rows
        while end > self.width * _BINS:
            self._widen()
        width, bins, start = self.width, self._bins[key], end - count * ticks
        for at in range(start // width, -(-end // width)):
            bins[at] += min(end, (at + 1) * width) - max(start, at * width)

    def _widen(self) -> None:
        self.width *= 2
        for key, bins in self._bins.items():
            self._bins[key] = [a + b for a, b in zip(bins[::2], bins[1::2], strict=True)] + [0] * (_BINS // 2)

    @property
    def bins(self) -> dict[tuple[bool, int], list[int]]:
        """Time of steps of each kind in each bin [tick], in order."""
        return {key: self._bins[key] for key in sorted(self._bins)}

    @property
    def kinds(self) -> dict[tuple[bool, int], Steps]:
        """Sums of each kind, in order."""
        return {key: Steps(*self._sums[key]) for key in sorted(self._sums)}
