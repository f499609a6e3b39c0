"""A recommender with embedding tables and a cross network of low rank (DLRM with DCNv2).

Naumov et al., arXiv 1906.00091; Wang et al., arXiv 2008.13535: x' = x0 * (W (V x) + b) + x.
"""

from itertools import pairwise

from scaleout.models.nets.operators import Gather, Operator, Product
from scaleout.models.nets.transformer import linear
from scaleout.specs.net import Dlrm

__all__ = ["operators", "width"]


def width(net: Dlrm) -> int:
    """Elements of an item after the lookups: the sums of all tables, and what the bottom gives [1]."""
    return (len(net.rows) + 1) * net.dimension


def operators(net: Dlrm, batch: float) -> tuple[Operator, ...]:
    """Operators of a batch of samples, each of `pairs` pairs."""
    items, wide, rank = batch * net.pairs, width(net), net.cross_rank
    found: list[Operator] = [Gather("lookups", items, net.rows, net.lookups, (net.dimension,) * len(net.rows))]
    found += _perceptron("bottom", items, (net.dense, *net.bottom))
    for layer in range(1, net.cross_layers + 1):
        found.append(linear(f"cross {layer} in", items, rank, wide, bias=False))
        # x0 and x are read where what comes out is multiplied and added
        found.append(
            Product(
                f"cross {layer} out",
                m=items,
                n=wide,
                k=rank,
                read=items * rank,
                extra=2.0 * items * wide,
                activation=True,
                parameters=wide,
            )
        )
    return (*found, *_perceptron("top", items, (wide, *net.top)))


def _perceptron(name: str, items: float, widths: tuple[int, ...]) -> list[Operator]:
    return [
        linear(f"{name} {at}", items, out, into, activation=True) for at, (into, out) in enumerate(pairwise(widths), 1)
    ]
