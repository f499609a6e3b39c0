"""One network for several users: transfers of any size between any chips, added when they are first used.

Every link of the machine is a link here, nothing is folded. A user brings patterns (`add`) or a whole
job that was wired unfolded (`adopt`); what they start shares the links as in `FlowNetwork`. Somebody
whose own traffic is not always simulated (a replica whose steps are timed once and remembered) claims
its links, and is told when others come onto them.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from scaleout.arrays import Bools, Floats
from scaleout.engine.clock import Calls, Clock
from scaleout.engine.flows import Flow, FlowNetwork, share_of
from scaleout.engine.program import ticks
from scaleout.engine.quotient import NOTHING, Leg, Load, Quotient, Transfer, Wiring, loads_of
from scaleout.errors import TopologyError
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern

__all__ = ["Claim", "SharedNetwork"]


class Claim:
    """Links that its holder uses, and how many transfers of others are on them.

    Parameters
    ----------
    links
        Of the topology.
    disturbed
        Called when a transfer of others comes onto these links and none was there.
    """

    __slots__ = ("disturbed", "foreign", "links")

    def __init__(self, links: frozenset[int], disturbed: Callable[[], None] | None = None) -> None:
        self.links, self.disturbed = links, disturbed
        self.foreign = 0
        """Transfers of others that are under way on these links, from their start to the end of their latency."""


class SharedNetwork(FlowNetwork):
    """Transfers of several users over the links of a machine.

    Parameters
    ----------
    env
        Simulated time, in ticks.
    fabric
        The machine. Its links do not fail.
    account
        Keep every stretch at a constant rate, for `account`; otherwise sums alone, of bounded size.
    """

    def __init__(self, env: Clock, fabric: Fabric, *, account: bool = False) -> None:
        capacity = fabric.topology.bandwidth
        self._made: list[Leg] = []
        self._loads: list[Load] = []
        self._caps: list[float] = []
        super().__init__(env, [Wiring(0, self._made, self._loads, self._caps, capacity, capacity)])
        self.fabric = fabric
        self._keep = account
        self._moved: list[float] = []
        """Bytes that elementary flows of each leg have carried [byte]."""
        self._transfers = 0
        self._private = np.zeros(len(capacity), dtype=bool)
        self._claims: list[Claim] = []
        self._claims_of: dict[int, tuple[Claim, ...]] = {}

    def add(self, pattern: Pattern) -> tuple[Transfer, ...]:
        """Transfers of one byte of message each, one for each group of a pattern on this fabric; start them at scale.

        Raises
        ------
        TopologyError
            They load links that a job was promised to have to itself.
        """
        groups, links = len(pattern.phases[0].latency), np.arange(len(self._wiring.capacity))
        numbers = np.arange(groups)
        tables = [loads_of(phase, numbers, links, self._wiring.capacity) for phase in pattern.phases]
        made = []
        for group in range(groups):
            legs = []
            for phase, table in zip(pattern.phases, tables, strict=True):
                load, alone = table.get(group, NOTHING)
                cap = float(phase.cap[group])
                leg = Leg(
                    index=len(self._made),
                    size=phase.share if len(load[0]) else 0.0,
                    links=tuple(np.unique(load[0]).tolist()),
                    alone=min(alone, cap),
                    latency=ticks(float(phase.latency[group])),
                )
                if self._private[load[0]].any():
                    at = int(load[0][self._private[load[0]]][0])
                    name = self.fabric.topology.link_name(at)
                    raise TopologyError(f"{self.fabric.topology.name}: {name} was to be loaded by one job alone")
                self._append(leg, load, cap)
                legs.append(leg)
            made.append(Transfer(self._transfers, -1, pattern.algorithm, tuple(legs), private=False))
            self._transfers += 1
        return tuple(made)

    def adopt(self, wiring: Quotient, alone: Bools | None = None) -> Quotient:
        """The transfers of a whole job, wired unfolded on this fabric and without faults.

        Parameters
        ----------
        alone
            Links that nobody else will load, shape (links,): what is private there stays so, is timed in closed
            form and never comes here. None: everything comes here.

        Raises
        ------
        TopologyError
            The job is folded, has faults, or is wired on other links.
        """
        link_of, topology = wiring.link_of, self.fabric.topology
        known = np.flatnonzero(link_of >= 0)
        if len(wiring.epochs) > 1 or len(known) != len(wiring.capacity) or wiring.topology.links != topology.links:
            raise TopologyError(f"{topology.name}: only an unfolded job on the same links, without faults, is taken in")
        real = np.empty(len(known), dtype=np.int64)
        real[link_of[known]] = known
        base, epoch = len(self._made), wiring.epochs[0]
        for leg, (link, weight, count), cap in zip(epoch.legs, wiring.loads, wiring.caps.tolist(), strict=True):
            order = np.lexsort((weight, real[link]))
            links = tuple(np.sort(real[list(leg.links)]).tolist())
            moved = Leg(base + leg.index, leg.size, links, leg.alone, leg.latency)
            self._append(moved, (real[link][order], weight[order], count[order]), cap)
        own = np.zeros(topology.links, dtype=bool) if alone is None else alone
        transfers = {}
        for key, old in wiring.transfers.items():
            legs = tuple(self._made[base + leg.index] for leg in old.legs)
            private = old.private and all(own[list(leg.links)].all() for leg in legs)
            if private:
                for leg in legs:
                    self._private[list(leg.links)] = True
            transfers[key] = replace(old, legs=legs, private=private)
        return replace(wiring, transfers=transfers)

    def _append(self, leg: Leg, load: Load, cap: float) -> None:
        self._made.append(leg)
        self._loads.append(load)
        self._caps.append(cap)
        self._shares.append(share_of(leg, load, self._wiring.capacity))
        self._moved.append(0.0)

    def claim(self, links: Iterable[int], disturbed: Callable[[], None] | None = None) -> Claim:
        """Claim links; what is under way on them already does not count."""
        claim = Claim(frozenset(links), disturbed)
        self._claims.append(claim)
        self._claims_of.clear()
        return claim

    def start(self, transfer: Transfer, ends: Calls, scale: float = 1.0, own: Claim | None = None) -> None:
        """As in `FlowNetwork`.

        Parameters
        ----------
        scale
            Bytes of message, for what was made by `add`.
        own
            Claim of whoever starts it, to whom it is not foreign.
        """
        first = transfer.legs[0].index
        claims = self._claims_of.get(first)
        if claims is None:
            links = {link for leg in transfer.legs for link in leg.links}
            claims = tuple(claim for claim in self._claims if not claim.links.isdisjoint(links))
            self._claims_of[first] = claims
        for claim in claims:
            if claim is not own:
                claim.foreign += 1
                # before whoever waits for the transfer hears of its end
                ends = [lambda _, claim=claim: self._gone(claim), *ends]  # type: ignore[misc]
        super().start(transfer, ends, scale)
        for claim in claims:
            if claim is not own and claim.foreign == 1 and claim.disturbed:
                claim.disturbed()

    @staticmethod
    def _gone(claim: Claim) -> None:
        claim.foreign -= 1

    def _note(self, flow: Flow, now: int, share: float) -> None:
        self._moved[flow.place] += share * flow.scale * flow.leg.size
        if self._keep:
            super()._note(flow, now, share)

    def carried(self) -> Floats:
        """What every link has carried so far, but for what jobs have to themselves [byte], shape (links,)."""
        total = np.zeros(len(self._wiring.capacity))
        for moved, (link, weight, count) in zip(self._moved, self._loads, strict=True):
            if moved:
                np.add.at(total, link, moved * weight * count)
        return total
