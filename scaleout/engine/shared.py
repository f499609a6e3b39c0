"""One network for several users: transfers of any size between any chips, added when they are first used.

Every link of the machine is a link here. A user brings patterns (`add`) or a whole job (`adopt`), folded
only over links that are its own; what they start shares the links as in `FlowNetwork`. Somebody
whose own traffic is not always simulated (a replica whose steps are timed once and remembered) claims
its links, and is told when others come onto them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.clock import Calls, Clock
from scaleout.engine.flows import Flow, FlowNetwork, share_of
from scaleout.engine.program import ticks
from scaleout.engine.quotient import NOTHING, Leg, Load, Quotient, Transfer, Wiring, loads_of
from scaleout.errors import TopologyError
from scaleout.network.fabric import Fabric
from scaleout.network.fairshare import by_levels, prepare
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
        Keep every stretch at a constant rate, for `account` and `stretches`; otherwise sums alone, of bounded size.
    """

    def __init__(self, env: Clock, fabric: Fabric, *, account: bool = False) -> None:
        capacity = fabric.topology.bandwidth
        self._made: list[Leg] = []
        self._loads: list[Load] = []
        self._entries: list[tuple[tuple[int, float, int], ...]] = []
        """Of each leg, as in its load: link, weight and number."""
        self._caps: list[float] = []
        super().__init__(env, [Wiring(0, self._made, self._loads, self._caps, capacity, capacity)])
        self.fabric = fabric
        self._keep = account
        self._moved: list[float] = []
        """Bytes that elementary flows of each leg have carried [byte]."""
        self._transfers = 0
        self._adopted: set[int] = set()
        """Legs of jobs."""
        self._numbers = np.arange(len(capacity))
        self._stands_for = np.arange(len(capacity))
        """The link that carries what each link does: another, where an adopted job was folded."""
        self._taken = np.zeros(len(capacity), dtype=bool)
        """Links that somebody loads or claims, other than those of one job alone."""
        self._own = np.zeros(len(capacity), dtype=bool)
        """Links that one adopted job loads alone."""
        self._claims: list[Claim] = []
        self._claims_of: dict[int, tuple[Claim, ...]] = {}

    def add(self, pattern: Pattern) -> tuple[Transfer, ...]:
        """Transfers of one byte of message each, one for each group of a pattern on this fabric, to start at a scale.

        Raises
        ------
        TopologyError
            They load links that are an adopted job's own.
        """
        for phase in pattern.phases:
            self._take(phase.link)
        groups = len(pattern.phases[0].latency)
        numbers = np.arange(groups)
        tables = [loads_of(phase, numbers, self._numbers, self._wiring.capacity) for phase in pattern.phases]
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
                self._append(leg, load, cap)
                legs.append(leg)
            made.append(Transfer(self._transfers, -1, pattern.algorithm, tuple(legs), private=False))
            self._transfers += 1
        return tuple(made)

    def adopt(self, wiring: Quotient, others: Ints | None = None) -> Quotient:
        """The transfers of a whole job, wired on this fabric and without faults.

        Of a class of links the lowest stands for all. What was private and is loaded by the job alone stays so: it is
        timed in closed form and never comes here.

        Parameters
        ----------
        others
            Links that others may load or claim; the rest of what the job loads is its own, and only there may it
            be folded. None: all of them.

        Raises
        ------
        TopologyError
            The job has faults, is wired on other links, or is folded over links that are not its own; or others load
            or claim what is to be its own.
        """
        link_of, topology = wiring.link_of, self.fabric.topology
        if len(wiring.epochs) > 1 or wiring.topology.links != topology.links:
            raise TopologyError(f"{topology.name}: only a job on the same links and without faults is taken in")
        known = np.flatnonzero(link_of >= 0)
        classes, first, sizes = np.unique(link_of[known], return_index=True, return_counts=True)
        real = np.empty(len(wiring.capacity), dtype=np.int64)
        real[classes] = known[first]
        own = np.zeros(topology.links, dtype=bool)
        if others is not None:
            own[known] = True
            own[others] = False
        several = known[np.isin(link_of[known], classes[sizes > 1])]
        self._check(several[~own[several]])
        self._check(np.flatnonzero(own & self._taken))
        self._take(known[~own[known]])
        self._own |= own
        self._stands_for[several] = real[link_of[several]]
        base, epoch = len(self._made), wiring.epochs[0]
        for leg, (link, weight, count), cap in zip(epoch.legs, wiring.loads, wiring.caps.tolist(), strict=True):
            order = np.lexsort((weight, real[link]))
            links = tuple(np.sort(real[list(leg.links)]).tolist())
            moved = Leg(base + leg.index, leg.size, links, leg.alone, leg.latency)
            self._append(moved, (real[link][order], weight[order], count[order]), cap)
            self._adopted.add(moved.index)
        transfers = {}
        for key, old in wiring.transfers.items():
            legs = tuple(self._made[base + leg.index] for leg in old.legs)
            private = old.private and all(own[list(leg.links)].all() for leg in legs)
            transfers[key] = replace(old, legs=legs, private=private)
        return replace(wiring, transfers=transfers)

    def _take(self, links: Ints) -> None:
        """Somebody loads or claims links."""
        self._check(links[self._own[links]])
        self._taken[links] = True

    def _check(self, both: Ints) -> None:
        """Refuse links that are to be a job's own and that others use."""
        if len(both):
            topology = self.fabric.topology
            raise TopologyError(
                f"{topology.name}: {topology.link_name(int(both[0]))} is used by others, but a job was wired as if "
                "it had it to itself; name it among the links of others"
            )

    def _solved(self, active: tuple[int, ...]) -> Floats:
        if any(index in self._adopted for index in active):
            # to the bit as where the job is alone
            return super()._solved(active)
        # a link that one flow loads holds it to its rate alone; links that the same flows load alike are one
        crossing: dict[int, list[tuple[int, float, int]]] = {}
        for flow, index in enumerate(active):
            for at, each, times in self._entries[index]:
                crossing.setdefault(at, []).append((flow, each, times))
        capacity = self._wiring.capacity
        distinct = {
            (float(capacity[at]), tuple(entries)): None
            for at, entries in crossing.items()
            if entries[0][0] != entries[-1][0]
        }
        alone = np.array([self._made[index].alone for index in active])
        if not distinct:
            return alone
        rows = [(number, *entry) for number, (_, entries) in enumerate(distinct) for entry in entries]
        numbers, flow_of, weights, counts = (np.array(column) for column in zip(*rows, strict=True))
        order = np.argsort(flow_of, kind="stable")
        room = np.array([key[0] for key in distinct])
        columns = (numbers[order], flow_of[order], weights[order].astype(float), counts[order])
        # many links with different numbers of flows take many rounds
        return by_levels(prepare(room, *columns, alone), compiled=False)

    def _append(self, leg: Leg, load: Load, cap: float) -> None:
        self._made.append(leg)
        self._loads.append(load)
        self._entries.append(tuple(zip(*(column.tolist() for column in load), strict=True)))
        self._caps.append(cap)
        self._shares.append(share_of(leg, load, self._wiring.capacity))
        self._moved.append(0.0)

    def claim(self, links: Iterable[int], disturbed: Callable[[], None] | None = None) -> Claim:
        """Claim links; what is under way on them already does not count.

        Raises
        ------
        TopologyError
            They are an adopted job's own.
        """
        claim = Claim(frozenset(links), disturbed)
        self._take(np.array(sorted(claim.links), dtype=np.int64))
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

    def stretches(self, link: int) -> Iterator[tuple[int, int, int, float]]:
        """What a link carried at constant rates: leg, start and end [tick], bytes [byte]; with `account` only."""
        each = {
            leg: self._made[leg].size * float((weight * count)[at == link].sum())
            for leg, (at, weight, count) in enumerate(self._loads)
            if (at == link).any()
        }
        moved = self.account()
        for leg, start, end, share in zip(
            moved.leg.tolist(), moved.start.tolist(), moved.end.tolist(), moved.share.tolist(), strict=True
        ):
            if leg in each:
                yield leg, start, end, share * each[leg]

    def carried(self) -> Floats:
        """What every link has carried so far [byte], shape (links,); of a job's own links without what is private."""
        total = np.zeros(len(self._wiring.capacity))
        for moved, (link, weight, count) in zip(self._moved, self._loads, strict=True):
            if moved:
                np.add.at(total, link, moved * weight * count)
        every: Floats = total[self._stands_for]
        return every
