"""Caches on their way: from replica to replica, and between HBM and the host's memory, over the shared network."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from scaleout.engine.clock import Alarm
from scaleout.engine.quotient import Transfer
from scaleout.engine.shared import Claim, SharedNetwork
from scaleout.network.fabric import Fabric
from scaleout.network.host import copies
from scaleout.network.pattern import Pattern, Phase, tally
from scaleout.serving.parts import Part, held_by, parts_between
from scaleout.serving.places import Place, inner_links
from scaleout.specs import Model

__all__ = ["Carrier", "written"]

Lane = tuple[int, int]
"""Number of a replica, and an attention rank of it."""
Note = Callable[[int, int, int, float], None]
"""Takes start and end [tick], request, and bytes of a transfer that is over."""


class Bundle(NamedTuple):
    """Parts that are alike: of one stage of the sender, each with as many bytes. They go at the pace of the slowest.

    Parameters
    ----------
    part
        One of them.
    copies
        How many there are.
    transfer
        Of a byte of each.
    """

    part: Part
    copies: int
    transfer: Transfer


class Carrier:
    """Carries caches of sequences over the network.

    Parameters
    ----------
    network
        Of the whole machine, with its hosts where something is to be swapped.
    model, dtype
        Whose cache it is, and the cache's dtype.
    places
        Where each replica stands.
    note
        Told of every transfer that is over.
    """

    def __init__(
        self,
        network: SharedNetwork,
        model: Model,
        dtype: str,
        places: Sequence[Place],
        note: Note | None = None,
    ) -> None:
        self.network, self.model, self.dtype, self.places, self.note = network, model, dtype, tuple(places), note
        self._ways: dict[tuple[Lane, Lane], list[Bundle]] = {}
        self._copies: dict[tuple[Lane, bool], list[Bundle]] = {}
        self.claims: list[Claim] = [network.claim(inner_links(network.fabric, place)) for place in self.places]
        """Of each replica, on the links of its own collectives."""

    def busy(self, replica: int) -> bool:
        """Whether transfers of others are on links that a replica's own collectives use."""
        return self.claims[replica].foreign > 0

    def watch(self, replica: int, disturbed: Callable[[], None]) -> None:
        """Have a call made whenever a replica that was not busy becomes so."""
        self.claims[replica].disturbed = disturbed

    def carry(
        self,
        request: int,
        source: Lane,
        target: Lane,
        tokens: int,
        done: Callable[[], None],
        *,
        over: int = 0,
        pieces: int = 1,
    ) -> None:
        """Carry the cache of a sequence from one replica to another.

        Parameters
        ----------
        tokens
            Whose keys and values are carried.
        done
            Called when all is there.
        over
            The sender computes them from now on for so long, layer by layer at an even pace [tick]; 0: it has them.
        pieces
            Parts of a stage's layers that leave one after the other, each as soon as it is computed and the one
            before is there; as many as layers is layer by layer.
        """
        stages = self.places[source[0]].pp
        _Cargo(self, request, self._between(source, target), tokens, done, over, pieces if over else 1, stages)

    def swap(self, request: int, lane: Lane, tokens: int, done: Callable[[], None], *, out: bool) -> None:
        """Copy the cache of a sequence to the memory of the host (out) or back.

        Raises
        ------
        TopologyError
            The machine has no hosts.
        """
        if (lane, out) not in self._copies:
            held = held_by(self.model, self.places[lane[0]], lane[1])
            # all at once, whatever their stage
            parts = [part._replace(stage=0) for part in held]
            chips = np.array([part.source for part in parts], dtype=np.int64)
            self._copies[lane, out] = self._bundles(parts, copies(self.network.fabric, chips, out=out))
        _Cargo(self, request, self._copies[lane, out], tokens, done, 0, 1, 1)

    def nbytes(self, source: Lane, target: Lane, tokens: int) -> float:
        """What `carry` puts on links for so many tokens [byte]."""
        bundles = self._between(source, target)
        return sum(times * part.nbytes(self.model, tokens, self.dtype) for part, times, _ in bundles)

    def _between(self, source: Lane, target: Lane) -> list[Bundle]:
        """What goes from one to the other; made when it is first asked for."""
        if (source, target) not in self._ways:
            places = self.places
            parts = parts_between(self.model, places[source[0]], source[1], places[target[0]], target[1])
            far = [part for part in parts if part.source != part.target]
            self._ways[source, target] = self._bundles(far, written(self.network.fabric, far)) if far else []
        return self._ways[source, target]

    def _bundles(self, parts: Sequence[Part], pattern: Pattern) -> list[Bundle]:
        """One transfer for all parts that are alike, from a pattern of one phase with a group for each part."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for number, part in enumerate(parts):
            alike.setdefault((part.stage, part.shares), []).append(number)
        phase = pattern.phases[0]
        owner = np.empty(len(parts), dtype=np.int64)
        for number, members in enumerate(alike.values()):
            owner[members] = number
        latency = np.zeros(len(alike))
        np.maximum.at(latency, owner, phase.latency)
        group, link, weight = tally(owner[phase.group], phase.link, phase.weight, self.network.fabric.topology.links)
        whole = Phase(
            share=1.0, group=group, link=link, weight=weight, latency=latency, cap=np.full(len(alike), np.inf)
        )
        made = self.network.add(Pattern(pattern.algorithm, (whole,)))
        return [
            Bundle(parts[members[0]], len(members), transfer)
            for members, transfer in zip(alike.values(), made, strict=True)
        ]


def written(fabric: Fabric, parts: Sequence[Part]) -> Pattern:
    """Writes from chip to chip, one group for each part: on the ways of the fabric, by engines that no kernel feeds."""
    source, target = (np.array([part[end] for part in parts], dtype=np.int64) for end in (0, 1))
    routes = fabric.route(source, target)
    group, link, weight = tally(routes.flow, routes.link, routes.weight, fabric.topology.links)
    cap = np.full(len(parts), np.inf)
    return Pattern("write", (Phase(share=1.0, group=group, link=link, weight=weight, latency=routes.latency, cap=cap),))


class _Cargo:
    """One sequence's cache under way."""

    __slots__ = ("begun", "carrier", "done", "left", "over", "pieces", "request", "stages", "total")

    def __init__(
        self,
        carrier: Carrier,
        request: int,
        bundles: list[Bundle],
        tokens: int,
        done: Callable[[], None],
        over: int,
        pieces: int,
        stages: int,
    ) -> None:
        self.carrier, self.request, self.done = carrier, request, done
        self.over, self.pieces, self.stages = over, pieces, stages
        self.begun, self.total = carrier.network.env.now, 0.0
        # what never leaves its chip is there when it is computed
        self.left = 1
        for part, times, transfer in bundles:
            nbytes = part.nbytes(carrier.model, tokens, carrier.dtype)
            self.total += times * nbytes
            self.left += 1
            self._piece(part.stage, transfer, nbytes / pieces, 0)
        Alarm(carrier.network.env, over, [self._through])

    def _piece(self, stage: int, transfer: Transfer, nbytes: float, number: int, event: object = None) -> None:
        """Begin a piece as soon as it is computed; the one before is there."""
        if number == self.pieces:
            self._through(event)
            return
        network = self.carrier.network
        # stage after stage computes its layers in its part of the time
        ready = self.begun + self.over * (stage * self.pieces + number + 1) // (self.stages * self.pieces)
        following = partial(self._piece, stage, transfer, nbytes, number + 1)
        if ready > network.env.now:
            Alarm(network.env, ready - network.env.now, [lambda _: network.start(transfer, [following], nbytes)])
        else:
            network.start(transfer, [following], nbytes)

    def _through(self, _: object) -> None:
        self.left -= 1
        if self.left:
            return
        carrier = self.carrier
        if carrier.note is not None:
            carrier.note(self.begun, carrier.network.env.now, self.request, self.total)
        self.done()
