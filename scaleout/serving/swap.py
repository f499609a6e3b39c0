"""Copies of KV cache between HBM and the host's memory: how long they take, and how much there is room for.

Every chip of an attention rank copies its share of a block over its own way to the host, all at the same time.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scaleout.engine.clock import Alarm, Clock
from scaleout.engine.program import ticks
from scaleout.errors import PlanError
from scaleout.network import machine
from scaleout.network.host import copies, with_host
from scaleout.serving.request import Request
from scaleout.serving.room import Room
from scaleout.specs import Pool, ServingExperiment

__all__ = ["HostLink", "HostShare", "host_share"]


class HostShare(NamedTuple):
    """What a host is to one attention rank.

    Parameters
    ----------
    blocks
        That it has room for.
    latency, block_time
        Of a copy, and of each block in it, over links that the replica's chips use at the same time [s].
    """

    blocks: int
    latency: float
    block_time: float


class HostLink:
    """Copies one after another in each direction, over links that are used for nothing else."""

    def __init__(self, env: Clock, share: HostShare) -> None:
        self._env, self._share = env, share
        self._free = {True: 0, False: 0}
        """When the last copy out, or in, is through [tick]."""

    def copy(self, request: Request, blocks: int, out: bool, done: Callable[[], None]) -> None:
        """Copy so many blocks of a request."""
        share, now = self._share, self._env.now
        end = max(now, self._free[out]) + ticks(share.latency + blocks * share.block_time)
        self._free[out] = end
        Alarm(self._env, end - now, [lambda _: done()])


def host_share(experiment: ServingExperiment, pool: Pool, room: Room) -> HostShare | None:
    """Of a pool's attention ranks; None where hosts hold no cache.

    Raises
    ------
    PlanError
        The system describes no host, or the replicas of a node want more of its memory than there is.
    """
    system, wanted = experiment.system, experiment.cache.host
    if not wanted:
        return None
    if system.host is None:
        raise PlanError(f"cache.host: {system.name} describes no host; take 0, or a system with one")
    # as its share of the chips
    most = system.host.memory * pool.chips_each / system.chips_per_node
    if wanted > most:
        raise PlanError(
            f"cache.host: {wanted / 1e9:,.0f} GB a replica are more than its {pool.chips_each} chips' part of the "
            f"{system.host.memory / 1e9:,.0f} GB of a node of {system.chips_per_node}, {most / 1e9:,.0f} GB"
        )
    block = room.token * room.block_tokens
    fabric = with_host(machine(system, system.chips_per_node), system.host)
    pattern = copies(fabric, np.arange(min(pool.chips_each, system.chips_per_node)), out=True)
    phase = pattern.phases[0]
    # all of the replica's chips copy at the same time
    users = np.bincount(phase.link, weights=phase.weight)
    rate = float((fabric.topology.bandwidth[phase.link] / users[phase.link]).min())
    return HostShare(int(wanted / pool.dp // (block * pool.tp * pool.pp)), pattern.latency(), block / rate)
