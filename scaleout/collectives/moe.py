"""Expert exchange: every rank sends its tokens to the ranks whose experts they chose, and gets sums back.

A token that goes to `copies` ranks loads the sender's links with all copies but its own rank's;
balanced routing loads every rank alike, else the rank that most tokens choose is waited for.
Links and the chip's own work overlap. Equations: ``docs/collectives.md``.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scaleout.arrays import Floats
from scaleout.errors import WorkloadError
from scaleout.specs import MoeKernel, System

__all__ = ["Exchange", "Spread", "exchange_seconds", "spread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What is exchanged.

    Parameters
    ----------
    tokens
        Of each rank.
    hidden
        Elements of a token.
    topk, experts
        Experts that a token chooses, of how many.
    ranks
        That hold the experts, as many each; neighbours, node after node.
    skew
        Exponent s of a power law: the i-th expert is chosen in proportion to i^-s; 0 is at random,
        None is balanced by hand: each token on as many ranks as it can, all ranks alike.
    """

    tokens: int
    hidden: int
    topk: int
    experts: int
    ranks: int
    skew: float | None = None

    def __post_init__(self) -> None:
        if self.experts % self.ranks:
            raise WorkloadError(f"{self.experts} experts do not divide over {self.ranks} ranks")
        if self.topk > self.experts:
            raise WorkloadError(f"a token cannot choose {self.topk} of {self.experts} experts")
        if self.skew is not None and not 0.0 <= self.skew < math.inf:
            raise WorkloadError(f"the exponent of a power law of routing is 0 or more, not {self.skew:g}")


@dataclass(frozen=True, slots=True)
class Spread:
    """Copies of a token, and of those that cross a link the most loaded rank's share.

    Parameters
    ----------
    copies
        Of one token, its own rank's included.
    near, far
        Over the busiest rank's link into its node, and over its port, in copies for each of its tokens.
    """

    copies: float
    near: float
    far: float


def _chosen(exchange: Exchange) -> Floats:
    """Probability that a token chooses each expert, the sum of which is `topk`. Shape (experts,)."""
    weight: Floats = np.arange(1, exchange.experts + 1, dtype=float) ** -(exchange.skew or 0.0)
    chance: Floats = weight * (exchange.topk / weight.sum())
    # nobody is chosen twice: what is over 1 goes to the others
    for _ in range(exchange.experts):
        over = chance > 1.0
        if not over.any():
            break
        full = chance >= 1.0
        left = exchange.topk - full.sum()
        chance = np.where(full, 1.0, chance * (left / max(chance[~full].sum(), 1e-300)))
    return chance


def spread(exchange: Exchange, per_node: int, copies: Literal["rank", "expert"]) -> Spread:
    """How many copies cross which links.

    Parameters
    ----------
    per_node
        Ranks of a node.
    """
    n = exchange.ranks
    if exchange.skew is None:
        sent = float(exchange.topk if copies == "expert" else min(exchange.topk, n))
        to_rank = np.full(n, sent / n)
    else:
        chance = _chosen(exchange).reshape(n, -1)
        # as if each expert were chosen or not for itself: a few copies in a hundred too few
        to_rank = chance.sum(axis=1) if copies == "expert" else 1.0 - np.prod(1.0 - chance, axis=1)
        sent = float(to_rank.sum())
    inside = min(per_node, n)
    # a rank sends what it does not keep, and the busiest receives its part of what the others send
    busiest = max(sent / n, float(to_rank.max()))
    return Spread(copies=sent, near=busiest * (inside - 1), far=busiest * (n - inside))


def exchange_seconds(kernel: MoeKernel, exchange: Exchange, element: float, system: System) -> float:
    """Time of one exchange with the network to itself [s].

    Parameters
    ----------
    element
        Bytes of an element, where the kernel has none of its own.
    """
    payload = exchange.hidden * (element if kernel.element is None else kernel.element)
    split = spread(exchange, system.chips_per_node, kernel.copies)
    up, net = system.scale_up, system.network
    near = split.near * payload / (kernel.scale_up_rate * up.bandwidth * up.efficiency)
    far = split.far * payload / (kernel.network_rate * net.bandwidth * net.efficiency)
    work = kernel.token + (payload / kernel.local if kernel.local else 0.0)
    per_token = max(work, kernel.overhead + max(near, far))
    return kernel.launch + kernel.step * math.log2(exchange.ranks) + exchange.tokens * per_token
