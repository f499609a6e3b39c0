"""Expert exchange: every rank sends its tokens to the ranks whose experts they chose, and gets sums back.

A token that goes to `copies` ranks loads the sender's links with all copies but its own rank's;
balanced routing loads every rank alike, else the rank that most tokens choose is waited for. Some
kernels send one copy to a node, to the rank there that is the sender's like, which hands it on.
Links and the chip's own work overlap. Equations: ``docs/experts.md``.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives.flat import pairs
from scaleout.collectives.groups import rail_size
from scaleout.errors import WorkloadError
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase, tally
from scaleout.specs import MoeKernel, Protocol, System

__all__ = ["ByKernel", "Exchange", "Spread", "exchange_pattern", "exchange_seconds", "spread"]

Copies = Literal["rank", "expert", "node"]


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
    groups, group_limit
        Experts lie in so many groups, and a token's are of so many of them at most; 1 and 1 for no
        limit. Of routing at random only.
    """

    tokens: float
    hidden: int
    topk: int
    experts: int
    ranks: int
    skew: float | None = None
    groups: int = 1
    group_limit: int = 1

    def __post_init__(self) -> None:
        if self.experts % self.ranks:
            raise WorkloadError(f"{self.experts} experts do not divide over {self.ranks} ranks")
        if self.topk > self.experts:
            raise WorkloadError(f"a token cannot choose {self.topk} of {self.experts} experts")
        if self.skew is not None and not 0.0 <= self.skew < math.inf:
            raise WorkloadError(f"the exponent of a power law of routing is 0 or more, not {self.skew:g}")
        if self.topk > self.experts // self.groups * self.group_limit:
            raise WorkloadError(
                f"a token cannot choose {self.topk} experts from {self.group_limit} groups of "
                f"{self.experts // self.groups}"
            )


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


def _reached(exchange: Exchange, places: int) -> float:
    """Probability that a token, choosing at random, has an expert at one of so many equal places.

    It picks its groups, then its experts from all of theirs; nothing twice, so that the counts are
    hypergeometric.
    """
    size, own = exchange.experts // exchange.groups, exchange.experts // places
    open_ = size * exchange.group_limit

    def missed(taken: int) -> float:
        return math.comb(open_ - taken, exchange.topk) / math.comb(open_, exchange.topk)

    if size % own == 0:
        return exchange.group_limit / exchange.groups * (1.0 - missed(own))
    if own % size:
        raise WorkloadError(
            f"{own} experts of each of {places} ranks or nodes are no whole number of the groups of {size}"
        )
    whole, groups, limit = own // size, exchange.groups, exchange.group_limit
    ways = math.comb(groups, limit)
    return 1.0 - sum(
        math.comb(whole, j) * math.comb(groups - whole, limit - j) / ways * missed(j * size)
        for j in range(min(whole, limit) + 1)
    )


def _copies(exchange: Exchange, places: int, copies: Copies) -> Floats:
    """Copies of a token that go to each rank, or node. Shape (places,)."""
    each_expert = copies == "expert"
    if exchange.skew is None:
        return np.full(places, (exchange.topk if each_expert else min(exchange.topk, places)) / places)
    if exchange.skew == 0.0:
        one = exchange.topk / places if each_expert else _reached(exchange, places)
        return np.full(places, one)
    chance = _chosen(exchange).reshape(places, -1)
    # as if each expert were chosen or not for itself: a few copies in a hundred too few
    return np.asarray(chance.sum(axis=1) if each_expert else 1.0 - np.prod(1.0 - chance, axis=1))


def spread(exchange: Exchange, per_node: int, copies: Copies) -> Spread:
    """How many copies cross which links.

    Parameters
    ----------
    per_node
        Ranks of a node.
    copies
        Of a token: one to each rank, to each expert, or to each node, where it is handed on.
    """
    n, inside = exchange.ranks, min(per_node, exchange.ranks)
    to_rank = _copies(exchange, n, copies)
    sent = float(to_rank.sum())
    # a rank sends what it does not keep, and the busiest receives its part of what the others send
    busiest = max(sent / n, float(to_rank.max()))
    if copies != "node":
        return Spread(copies=sent, near=busiest * (inside - 1), far=busiest * (n - inside))
    nodes = n // inside
    # what comes from likes in other nodes, or from itself, does not cross the link into the node again
    near = busiest * n * (inside - 1) / inside
    return Spread(copies=sent, near=near, far=float(_copies(exchange, nodes, copies).max()) * (nodes - 1))


def exchange_seconds(kernel: MoeKernel, exchange: Exchange, element: float, system: System) -> float:
    """Time of one exchange with the network to itself [s].

    Parameters
    ----------
    element
        Bytes of an element, where the kernel has none of its own.
    """
    payload = _payload(kernel, exchange, element)
    split = spread(exchange, system.chips_per_node, kernel.copies)
    up, net = system.scale_up, system.network
    near = split.near * payload / (kernel.scale_up_rate * up.bandwidth * up.efficiency)
    far = split.far * payload / (kernel.network_rate * net.bandwidth * net.efficiency)
    work = kernel.token + (payload / kernel.local if kernel.local else 0.0)
    per_token = max(work, kernel.overhead + max(near, far))
    return kernel.launch + kernel.step * math.log2(exchange.ranks) + exchange.tokens * per_token


def _payload(kernel: MoeKernel, exchange: Exchange, element: float) -> float:
    """Bytes of one copy of a token [byte]."""
    return exchange.hidden * (element if kernel.element is None else kernel.element)


class ByKernel(NamedTuple):
    """An exchange by a kernel of a library: what `exchange_pattern` needs to know of a message.

    Parameters
    ----------
    name
        Of library and kernel, such as ``DeepEP/dispatch``.
    element
        Bytes of an element, where the kernel has none of its own.
    """

    name: str
    kernel: MoeKernel
    exchange: Exchange
    element: float

    @property
    def nbytes(self) -> float:
        """The message: one copy of each token of a rank [byte]."""
        return self.exchange.tokens * _payload(self.kernel, self.exchange, self.element)


def exchange_pattern(fabric: Fabric, groups: Ints, by: ByKernel) -> Pattern:
    """How an exchange loads the network, for every group of a family; alone it takes `exchange_seconds`.

    Where nodes hold unequal numbers of members, copies go to each rank instead of to each node.
    """
    kernel, exchange = by.kernel, by.exchange
    count, n = groups.shape
    size = rail_size(fabric, groups)
    rules = Protocol(
        algorithms=("pairwise",),
        launch=kernel.launch,
        scale_up_step=0.0,
        network_step=0.0,
        scale_up_rate=kernel.scale_up_rate,
        network_rate=kernel.network_rate,
    )
    if kernel.copies == "node" and 1 < size < n:
        split = spread(exchange, size, "node")
        nodes = groups.reshape(count, -1, size)
        rails = nodes.transpose(0, 2, 1).reshape(-1, n // size)
        levels = [(nodes.reshape(-1, size), split.near / (size - 1)), (rails, split.far / (n // size - 1))]
    else:
        split = spread(exchange, n, "expert" if kernel.copies == "expert" else "rank")
        levels = [(groups, split.near / (n - 1))]
    loads = []
    for ranks, copies in levels:
        part, over, flows, _ = pairs(fabric, ranks, rules)
        loads.append((part // (len(ranks) // count), over, flows * copies))
    every_group, every_link, every_weight = (np.concatenate(column) for column in zip(*loads, strict=True))
    group, link, weight = tally(every_group, every_link, every_weight, fabric.topology.links)
    work = kernel.token + (by.nbytes / exchange.tokens / kernel.local if kernel.local else 0.0) - kernel.overhead
    cap = fabric.cap(rules, count, group, link, weight)
    latency = kernel.launch + kernel.step * math.log2(n) + exchange.tokens * kernel.overhead
    phase = Phase(
        share=1.0,
        group=group,
        link=link,
        weight=weight,
        latency=np.full(count, latency),
        cap=np.minimum(cap, by.nbytes / exchange.tokens / work) if work > 0.0 else cap,
    )
    return Pattern(by.name, (phase,))
