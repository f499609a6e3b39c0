"""Lengths of prompts and replies, drawn some thousand at a time so that any number of them needs the same memory."""

import math
from collections.abc import Iterator

import numpy as np

from scaleout.arrays import Ints
from scaleout.specs import Length

__all__ = ["CHUNK", "EVEN", "draw", "lengths"]

CHUNK = 4096
"""Numbers that are drawn at a time."""
EVEN = 1e-6
"""Least coefficient of variation that a gamma distribution is drawn with [1]."""


def lengths(length: Length, seed: np.random.SeedSequence) -> Iterator[int]:
    """Lengths without end [token]."""
    generator = np.random.default_rng(seed)
    while True:
        yield from draw(length, generator, CHUNK).tolist()


def draw(length: Length, generator: np.random.Generator, count: int) -> Ints:
    """So many lengths [token]: drawn, rounded to whole tokens, cut to the bounds.

    A lognormal of mean m and coefficient of variation c has sigma^2 = ln(1 + c^2) and mu = ln m - sigma^2 / 2;
    a gamma has shape 1 / c^2 and scale m c^2; a geometric on 1, 2, ... has p = 1 / m.
    """
    mean, cv = length.mean or 0.0, length.cv
    if length.kind == "uniform":
        return generator.integers(length.low, length.high, count, endpoint=True)
    if length.kind == "geometric":
        return np.clip(generator.geometric(1.0 / mean, count), length.low, length.high)
    if length.kind == "constant" or cv < EVEN:
        drawn = np.full(count, mean)
    elif length.kind == "lognormal":
        variance = math.log1p(cv * cv)
        drawn = generator.lognormal(math.log(mean) - variance / 2, math.sqrt(variance), count)
    else:
        drawn = generator.gamma(1.0 / (cv * cv), mean * cv * cv, count)
    whole: Ints = np.clip(np.rint(drawn), length.low, length.high).astype(np.int64)
    return whole
