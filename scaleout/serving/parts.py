"""Which chip sends which part of a sequence's cache to which chip, whatever the layouts of both sides."""

from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from scaleout.models import cached_tokens, kv_bytes, layer_kinds, state_bytes
from scaleout.models.kinds import LayerKind
from scaleout.serving.places import Place, heads_of, layers_of
from scaleout.specs import Model

__all__ = ["Part", "held_by", "parts_between"]


class Part(NamedTuple):
    """What one chip sends to another.

    Parameters
    ----------
    source, target
        Chips.
    stage
        Pipeline stage of the sender.
    shares
        Share of the whole cache of a layer [1], for each kind of layer: times the layers.
    """

    source: int
    target: int
    stage: int
    shares: tuple[tuple[LayerKind, float], ...]

    def nbytes(self, model: Model, tokens: int, dtype: str) -> float:
        """Of a sequence of so many tokens [byte]."""
        return sum(share * _layer(model, kind, tokens, dtype) for kind, share in self.shares)


def _layer(model: Model, kind: LayerKind, tokens: int, dtype: str) -> float:
    """Cache of a sequence in a layer of a kind [byte]."""
    return kv_bytes(model, kind, dtype) * cached_tokens(model, kind, tokens) + state_bytes(model, kind)


def parts_between(model: Model, source: Place, source_rank: int, target: Place, target_rank: int) -> list[Part]:
    """What the chips of an attention rank get from those of another, each its own layers and heads.

    Who holds heads (or latent vectors) that others of its group hold too sends to its share of the receivers.
    Parts that stay on a chip are there too.
    """
    a, b = source.first + source.tp * source_rank, target.first + target.tp * target_rank
    parts = _parts(model, source._replace(first=0), target._replace(first=0))
    return [part._replace(source=part.source + a, target=part.target + b) for part in parts]


@lru_cache(maxsize=64)
def _parts(model: Model, source: Place, target: Place) -> tuple[Part, ...]:
    """Of the first attention ranks of replicas that both begin at chip 0."""
    kinds = [kind for kind in layer_kinds(model) if kind.part == "decoder"]
    givers, takers = layers_of(len(kinds), source.pp), layers_of(len(kinds), target.pp)
    found = []
    for there, wanted in enumerate(takers):
        for here, given in enumerate(givers):
            layers = Counter(kinds[max(wanted.start, given.start) : min(wanted.stop, given.stop)])
            for shard in range(target.tp if layers else 0):
                shares: dict[int, dict[LayerKind, float]] = {}
                for kind, count in sorted(layers.items()):
                    for giver, share in _givers(model, kind, source.tp, target.tp, shard).items():
                        shares.setdefault(giver, {})[kind] = share * count
                found += [
                    Part(
                        source.chip(here, 0, giver),
                        target.chip(there, 0, shard),
                        here,
                        tuple(sorted(mine.items())),
                    )
                    for giver, mine in sorted(shares.items())
                ]
    return tuple(found)


def _givers(model: Model, kind: LayerKind, givers: int, takers: int, taker: int) -> dict[int, float]:
    """Who of a tensor-parallel group gives a receiver which share of a layer's cache [1]."""
    if kind.attention == "linear":
        # states are cut by heads; a chip's is a stretch of them
        begin, end = taker * givers, (taker + 1) * givers
        overlap = {
            giver: min(end, (giver + 1) * takers) - max(begin, giver * takers)
            for giver in range(begin // takers, -(-end // takers))
        }
        return {giver: part / (givers * takers) for giver, part in overlap.items()}
    if model.latent is not None:
        return {taker * givers // takers: 1.0}
    heads = model.kv_heads
    shares: dict[int, float] = {}
    for head in heads_of(heads, takers, taker):
        holders = [giver for giver in range(givers) if head in heads_of(heads, givers, giver)]
        # receivers of one head, in their order, take turns with those that hold it
        giver = holders[taker % len(holders)]
        shares[giver] = shares.get(giver, 0.0) + 1 / heads
    return shares


def held_by(model: Model, place: Place, rank: int) -> list[Part]:
    """What each chip of an attention rank holds of a sequence, as parts that it sends to itself."""
    return [part for part in parts_between(model, place, rank, place, rank) if part.source == part.target]
