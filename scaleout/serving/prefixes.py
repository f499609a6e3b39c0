"""Beginnings that prompts share: names of their blocks, so that a prefix cache finds them again."""

from collections.abc import Iterator

import numpy as np

from scaleout.serving.lengths import CHUNK

__all__ = ["Beginnings"]


class Beginnings:
    """Names of blocks of prompts whose first tokens are one of a few beginnings.

    Block i of beginning v has the number v n + i, with n full blocks in a beginning; all other full
    blocks, that in which a beginning ends too, have negative numbers that no other prompt has.

    Parameters
    ----------
    tokens
        Of a beginning.
    variants
        How many beginnings there are, each as likely.
    block
        Tokens of a block.
    """

    def __init__(self, tokens: int, variants: int, block: int, seed: np.random.SeedSequence) -> None:
        self._shared, self._block = tokens // block, block
        self._choices = self._choose(variants, np.random.default_rng(seed))
        self._own = 0

    @staticmethod
    def _choose(variants: int, generator: np.random.Generator) -> Iterator[int]:
        while True:
            yield from generator.integers(variants, size=CHUNK).tolist()

    def blocks(self, inputs: int) -> tuple[int, ...]:
        """Names of the full blocks of the next prompt."""
        full = inputs // self._block
        shared = min(full, self._shared)
        start, own = next(self._choices) * self._shared, -1 - self._own
        self._own += full - shared
        return (*range(start, start + shared), *range(own, own - (full - shared), -1))
