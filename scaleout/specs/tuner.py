"""What NCCL's tuner is told of a machine: figures that it chooses by, which are not how long anything takes."""

from dataclasses import dataclass
from typing import Literal

from scaleout.specs.fields import check_fields
from scaleout.units import BytesPerSecond, Count, Share

__all__ = ["Tuner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuner:
    """Rings, trees and the limits of their kernels, as NCCL's tuner takes them.

    Rates of `ring_ll128`, `tree`, `tree_ll128` and `nvls_tree` are those of one channel, `ll` that
    of all; three of each: for one node, for two, for more.

    Parameters
    ----------
    link
        What joins the chips of a node.
    channels, channel_rate
        Rings (and trees) inside one node, and the rate of each.
    network_channels, network_channel_rate
        The same over several nodes.
    ll_*, ring_ll128_*, tree_*, tree_ll128_*, nvls_tree_*
        Limits [byte/s].
    nvls_rate
        Rate of a chip's part in the switch's sums, at most [byte/s]; None where the switch does not add.
    nvls_efficiency
        Share of it that is reached [1].
    """

    link: Literal["nvlink", "pcie"] = "nvlink"
    channels: Count
    channel_rate: BytesPerSecond
    network_channels: Count
    network_channel_rate: BytesPerSecond
    ll_one: BytesPerSecond
    ll_two: BytesPerSecond
    ll_more: BytesPerSecond
    ring_ll128: BytesPerSecond
    tree_one: BytesPerSecond
    tree_two: BytesPerSecond
    tree_more: BytesPerSecond
    tree_ll128_one: BytesPerSecond
    tree_ll128_two: BytesPerSecond
    tree_ll128_more: BytesPerSecond
    nvls_tree_two: BytesPerSecond | None = None
    nvls_tree_more: BytesPerSecond | None = None
    nvls_rate: BytesPerSecond | None = None
    nvls_efficiency: Share = 0.0
    source: str

    def __post_init__(self) -> None:
        check_fields(self)

    def limit(self, name: str, nodes: int) -> float:
        """One of the limits for so many nodes [byte/s]; infinite where there is none."""
        value = getattr(self, f"{name}_{'one' if nodes == 1 else 'two' if nodes == 2 else 'more'}", None)
        return float("inf") if value is None else float(value)
