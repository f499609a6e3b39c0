"""Any schedule as phases: one phase a round, with what the round's sends load each link with.

A send's round is the one that the algorithm says, or else one more than the latest that it waits
for. That is exact alone where all sends of a round take as long; otherwise rounds wait for their
slowest send, which the chunks would not.
Consecutive rounds of equal traffic are one phase.
"""

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives.correctness import levels
from scaleout.collectives.schedule import Schedule
from scaleout.errors import WorkloadError
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase, tally

__all__ = ["joined", "phase", "rounds"]


def phase(
    fabric: Fabric, protocol: str, groups: Ints, source: Ints, target: Ints, share: Floats, times: int = 1
) -> Phase:
    """One phase of sends between members, the same in every group, so many times over; without launch.

    Parameters
    ----------
    source, target, share
        Members of each send, and bytes over bytes of the message [1], shape (sends,).
    """
    rules, count = fabric.protocols[protocol], len(groups)
    routes = fabric.route(groups[:, source].ravel(), groups[:, target].ravel())
    largest = float(share.max()) or 1.0
    relative = np.tile(share / largest, count) if share.any() else np.ones(count * len(share))
    flow = routes.flow
    group, link, weight = tally(flow // len(source), routes.link, relative[flow] * routes.weight, fabric.topology.links)
    carries = weight > 0
    group, link, weight = group[carries], link[carries], weight[carries]
    step = fabric.step(routes, rules).reshape(count, len(source)).max(axis=1)
    return Phase(
        share=times * float(share.max()),
        group=group,
        link=link,
        weight=weight,
        latency=times * step,
        cap=fabric.cap(rules, count, group, link, weight),
    )


def _alike(a: Phase, b: Phase) -> bool:
    return (
        a.share == b.share
        and np.array_equal(a.group, b.group)
        and np.array_equal(a.link, b.link)
        and np.array_equal(a.weight, b.weight)
    )


def joined(name: str, fabric: Fabric, protocol: str, phases: list[Phase], groups: int) -> Pattern:
    """A pattern of phases one after another: equal ones merged, the launch added to the first."""
    if not phases:
        # a group of one has nothing to send
        none = np.zeros(0, dtype=np.int64)
        phases = [
            Phase(
                share=0.0,
                group=none,
                link=none,
                weight=np.zeros(0),
                latency=np.zeros(groups),
                cap=np.full(groups, np.inf),
            )
        ]
    out: list[tuple[Phase, float, Floats]] = []
    for one in phases:
        if out and _alike(out[-1][0], one):
            out[-1] = one, out[-1][1] + one.share, out[-1][2] + one.latency
        else:
            out.append((one, one.share, one.latency))
    launch = fabric.protocols[protocol].launch
    return Pattern(
        f"{name}/{protocol}",
        tuple(
            Phase(
                share=share,
                group=one.group,
                link=one.link,
                weight=one.weight,
                latency=latency + (launch if not i else 0.0),
                cap=one.cap,
            )
            for i, (one, share, latency) in enumerate(out)
        ),
    )


def rounds(fabric: Fabric, groups: Ints, schedule: Schedule, protocol: str) -> Pattern:
    """Phases of a schedule on every group of a family.

    Parameters
    ----------
    groups
        Ranks of each group, shape (groups, members).

    Raises
    ------
    WorkloadError
        The schedule has other members than the groups, or virtual ones, which no path leads to.
    """
    if schedule.members != groups.shape[1]:
        raise WorkloadError(f"{schedule.name}: has {schedule.members} members, the groups {groups.shape[1]}")
    if schedule.virtual:
        raise WorkloadError(f"{schedule.name}: sends to switches, so its phases need a form of their own")
    level = levels(schedule) if schedule.rounds is None else schedule.rounds
    lane = schedule.lane
    source, target, share = schedule.source[lane], schedule.target[lane], schedule.portion
    far = source != target
    phases = [
        phase(fabric, protocol, groups, source[at], target[at], share[at])
        for at in (np.flatnonzero(far & (level == k)) for k in range(int(level.max(initial=0)) + 1))
        if len(at)
    ]
    return joined(schedule.name, fabric, protocol, phases, len(groups))
