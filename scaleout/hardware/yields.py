"""Dies of a wafer, and how many of them work; equations in ``docs/silicon.md``.

A number of defects that varies from place to place is a mixture of Poisson laws: each model is a distribution of the
rate, as points and weights, over which what a die needs to work is averaged.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats

__all__ = ["WAFER", "Rates", "die_yield", "dies_per_wafer", "rates"]

WAFER = 0.3
"""Diameter [m], as all foundries of these processes have it (SEMI M1)."""


class Rates(NamedTuple):
    """Defect rates over their mean [1], and their weights [1]."""

    rate: Floats
    weight: Floats


def dies_per_wafer(area: float, *, edge: float = 0.0, scribe: float = 0.0) -> float:
    """Whole square dies on a wafer, on average over where the grid lies [1]; 0 where none fits.

    Parameters
    ----------
    area
        Of a die [m2].
    edge, scribe
        Rim that no die may reach, and street between dies [m].
    """
    side = math.sqrt(area) + scribe
    diameter = WAFER - 2.0 * edge
    if side * math.sqrt(2.0) > diameter:
        return 0.0
    # the usual form: what the rim cuts is a strip along the circumference, as wide as half a diagonal
    return max(1.0, math.pi * diameter**2 / (4.0 * side**2) - math.pi * diameter / (math.sqrt(2.0) * side))


@lru_cache(maxsize=16)
def rates(model: str, clustering: float) -> Rates:
    """The distribution of defect rates of a yield model: "negative-binomial", "murphy" or "poisson"."""
    if model == "poisson" or (model == "negative-binomial" and clustering >= 1e9):
        return Rates(np.ones(1), np.ones(1))
    if model == "murphy":
        # Murphy (1964): a triangle from 0 to twice the mean
        points, weights = np.polynomial.legendre.leggauss(64)
        rising = (points + 1.0) / 2.0
        return Rates(np.concatenate((rising, 2.0 - rising)), np.concatenate((rising * weights, rising * weights)) / 2.0)
    # a gamma density in the logarithm of the rate, where the trapezoid rule converges exponentially
    spread = 12.0 / math.sqrt(clustering)
    logs = np.linspace(-max(spread, 40.0 / clustering), min(spread, 40.0), 801)
    density = np.exp(clustering * (logs - np.expm1(logs)))
    return Rates(np.exp(logs), density / density.sum())


def die_yield(cores: int, spare: int, core: float, rest: float, defects: float, law: Rates) -> float:
    """Share of dies on which enough cores, and all of the rest, work [1].

    Parameters
    ----------
    cores, spare
        Cores that must work, and those beyond them.
    core, rest
        Area of one core, and of everything else [m2].
    defects
        Mean density of those that kill what they hit [1/m2].
    """
    hits = law.rate * defects
    alive, kills = np.exp(-hits * core), -np.expm1(-hits * core)
    all_cores = cores + spare
    # binomial: up to `spare` of the cores are dead
    enough = alive**all_cores
    with np.errstate(divide="ignore"):
        dead, live = np.log(kills), -hits * core
    ways = 0.0
    for count in range(1, spare + 1):
        ways += math.log((all_cores - count + 1) / count)
        enough = enough + np.exp(ways + count * dead + (all_cores - count) * live)
    return float(np.sum(law.weight * np.minimum(enough, 1.0) * np.exp(-hits * rest)))
