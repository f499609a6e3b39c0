"""Insides of nodes, one function for each kind that system files name.

Each returns the part for all nodes of a machine at once: `nodes` of them with `per_node` chips,
numbered through. Paths are asked for chips of the same node only.
"""

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.errors import TopologyError
from scaleout.network.parts import Links, Part, both_ways
from scaleout.specs import ScaleUp

__all__ = ["INSIDE", "slice_shape"]

_NOBODY = np.zeros(0, dtype=np.int64)


def _switch(up: ScaleUp, nodes: int, per_node: int) -> Part:
    """One switch a node, and a link from every chip into it."""
    chip = np.arange(nodes * per_node)
    links = both_ways(chip, len(chip) + chip // per_node, up.payload, up.latency, chip, "scale-up")

    def paths(source: Ints, target: Ints) -> Ints:
        return np.column_stack((source, len(chip) + target))

    return Part((("switch", nodes),), links, paths)


def _mesh(up: ScaleUp, nodes: int, per_node: int) -> Part:
    """A link from every chip to every other of its node."""
    a, b = np.nonzero(~np.eye(per_node, dtype=bool))
    first = np.repeat(np.arange(nodes) * per_node, len(a))
    source = first + np.tile(a, nodes)
    links = Links(source, first + np.tile(b, nodes), up.payload, up.latency, source, "link")

    def paths(source: Ints, target: Ints) -> Ints:
        s, t = source % per_node, target % per_node
        return np.asarray(source * (per_node - 1) + t - (t > s))[:, None]

    return Part((), (links,), paths, np.arange(nodes * per_node) >= per_node // 2, True)


def _pairs(up: ScaleUp, nodes: int, per_node: int) -> Part:
    """Bridges between neighbours two by two, and a host where the pairs meet."""
    chips = nodes * per_node
    chip = np.arange(chips)
    bridged = chip[(chip ^ 1) < chips]
    bridge = Links(bridged, bridged ^ 1, up.payload, up.latency, bridged, "bridge")
    pcie = up.pcie_bandwidth or up.payload
    host = chips + 2 * (chip // per_node)
    into = Links(chip, host, pcie, up.latency, chip, "pcie")
    out = Links(host + 1, chip, pcie, up.latency, chip, "pcie")
    across = _host(chips, nodes, up.host_bandwidth or pcie * per_node)
    first = len(bridged)

    def paths(source: Ints, target: Ints) -> Ints:
        far = np.column_stack(
            (first + source, first + 2 * chips + source // per_node, first + chips + target)
        )  # fmt: skip
        near = np.full_like(far, -1)
        near[:, 0] = source
        return np.where((source ^ 1 == target)[:, None], near, far)

    return Part((("host", 2 * nodes),), (bridge, into, out, across), paths)


def _pcie(up: ScaleUp, nodes: int, per_node: int) -> Part:
    """Chips behind PCIe switches, and a host where the switches meet."""
    chips, size = nodes * per_node, up.chips_per_switch
    switches_per_node = -(-per_node // size)
    switches = nodes * switches_per_node
    chip, switch = np.arange(chips), np.arange(switches)
    of_chip = chip // per_node * switches_per_node + chip % per_node // size
    first_host = chips + switches
    host = first_host + 2 * (switch // switches_per_node)
    uplinks = (
        Links(chips + switch, host, up.payload, up.latency, _NOBODY, "uplink"),
        Links(host + 1, chips + switch, up.payload, up.latency, _NOBODY, "uplink"),
    )
    across = _host(first_host, nodes, up.host_bandwidth or up.payload * switches_per_node)
    ports = both_ways(chip, chips + of_chip, up.payload, up.latency, chip, "pcie")
    first = 2 * chips
    socket = chip // per_node * per_node + chip % per_node // (up.chips_per_socket or per_node)
    beyond = Links(chips + of_chip, chip, up.socket_bandwidth or up.payload, up.latency, chip, "from another socket")
    first_beyond = first + 2 * switches + nodes

    def paths(source: Ints, target: Ints) -> Ints:
        a, b = of_chip[source], of_chip[target]
        matrix = np.full((len(source), 5), -1, dtype=np.int64)
        matrix[:, 0], matrix[:, 4] = source, chips + target
        far = a != b
        matrix[far, 1] = first + a[far]
        matrix[far, 2] = first + 2 * switches + source[far] // per_node
        matrix[far, 3] = first + switches + b[far]
        beyond_socket = socket[source] != socket[target]
        matrix[beyond_socket, 4] = first_beyond + target[beyond_socket]
        return matrix

    links = (*ports, *uplinks, across, *([beyond] if up.chips_per_socket else []))
    return Part((("PCIe switch", switches), ("host", 2 * nodes)), links, paths)


def _host(first: int, nodes: int, bandwidth: float) -> Links:
    """The path through the host of each node, which both directions share."""
    node = np.arange(nodes)
    return Links(first + 2 * node, first + 2 * node + 1, bandwidth, 0.0, _NOBODY, "host")


def slice_shape(chips: int, shape: tuple[int, ...], wrap: int = 1) -> tuple[int, ...]:
    """The most compact grid of so many chips inside a larger one, its longest dimension last.

    Grids whose every dimension closes to a ring go first; then the one whose longest dimension is
    shortest, then the next, and so on: the slices that are offered of TPU pods.

    Raises
    ------
    TopologyError
        No grid of so many chips fits.

    >>> slice_shape(128, (16, 16, 16), 4)
    (4, 4, 8)
    >>> slice_shape(16, (16, 16, 16), 4)
    (2, 2, 4)
    >>> slice_shape(32, (16, 16), 16)
    (4, 8)
    """
    room = sorted(shape, reverse=True)
    divisors = [k for k in range(1, min(room[0], chips) + 1) if chips % k == 0]

    def grids(left: int, depth: int, longest: int) -> list[tuple[int, ...]]:
        if depth == len(room):
            return [()] if left == 1 else []
        # dimensions do not grow, so the rest can hold no more than this one to their number
        most = min(longest, room[depth], left)
        return [
            (k, *rest)
            for k in divisors
            if k <= most and left % k == 0 and k ** (len(room) - depth) >= left
            for rest in grids(left // k, depth + 1, k)
        ]

    found = grids(chips, 0, chips)
    if not found:
        whole = " x ".join(map(str, shape))
        raise TopologyError(f"no grid of {chips:,} chips fits a torus of {whole}; {_nearest(chips, room)}")
    return min(found, key=lambda grid: (any(k % wrap for k in grid), grid))[::-1]


def _nearest(chips: int, room: list[int]) -> str:
    """Numbers of chips that fit, of those that powers of two and whole dimensions make."""
    sizes = np.ones(1, dtype=np.int64)
    for most in room:
        lengths = [*(2**i for i in range(most.bit_length())), most]
        sizes = np.unique(np.minimum(np.outer(sizes, lengths), 1 << 40))
    near = [*sizes[sizes < chips][-1:].tolist(), *sizes[sizes > chips][:1].tolist()]
    return "nearest that do: " + " or ".join(f"{size:,}" for size in near)


def _torus(up: ScaleUp, nodes: int, per_node: int) -> Part:
    """A grid a node; the last dimension counts fastest.

    Paths go through the dimensions in order, the shorter way round; where both are as long, chips
    whose coordinates sum to an even number go up and the others down, so that both carry the same.
    """
    shape = slice_shape(per_node, up.shape, up.wrap)
    spacing = [int(np.prod(shape[d + 1 :])) for d in range(len(shape))]
    chip = np.arange(per_node)
    at = [chip // step % k for step, k in zip(spacing, shape, strict=True)]
    whole = not up.wrap_together or all(k % up.wrap == 0 for k in shape)
    ring = [whole and k % up.wrap == 0 and k > 2 for k in shape]
    # link of each chip along a dimension, up and down; -1 at the end of an open one
    number = np.full((len(shape), 2, per_node), -1, dtype=np.int64)
    source, target, count = [], [], 0
    for d, (k, step) in enumerate(zip(shape, spacing, strict=True)):
        for way in (0, 1):
            end = k - 1 if way == 0 else 0
            there = chip if ring[d] else chip[at[d] != end]
            other = there + ((at[d][there] + (1 - 2 * way)) % k - at[d][there]) * step
            number[d, way, there] = count + np.arange(len(there))
            source.append(there)
            target.append(other)
            count += len(there)
    first = np.repeat(np.arange(nodes) * per_node, count)
    here = first + np.tile(np.concatenate(source), nodes)
    there = first + np.tile(np.concatenate(target), nodes)
    links = Links(here, there, up.payload, up.latency, here, "link")

    def paths(source: Ints, target: Ints) -> Ints:
        node, now, goal = source // per_node, source % per_node, target % per_node
        even = sum(place[now] for place in at) % 2 == 0
        columns = []
        for d, (k, step) in enumerate(zip(shape, spacing, strict=True)):
            a, b = at[d][now], at[d][goal]
            ahead = (b - a) % k
            upward = np.where(2 * ahead == k, even, 2 * ahead < k) if ring[d] else b >= a
            hops = np.where(upward, ahead, (a - b) % k)
            taken = np.arange(int(hops.max(initial=0)))
            passed = (a[:, None] + np.where(upward, 1, -1)[:, None] * taken) % k
            chips = now[:, None] + (passed - a[:, None]) * step
            way = np.where(upward, 0, 1)[:, None]
            columns.append(np.where(taken < hops[:, None], node[:, None] * count + number[d, way, chips], -1))
            now = now + (b - a) * step
        return np.concatenate(columns, axis=1)

    alike = all(r or k <= 2 for k, r in zip(shape, ring, strict=True))
    return Part((), (links,), paths, _halves(shape, ring, at), alike, np.stack(at, axis=1))


def _halves(shape: tuple[int, ...], ring: list[bool], at: list[Ints]) -> Bools | None:
    """The cut across the longest dimension, which is the least where that is even and all are rings, or none is."""
    longest = max(range(len(shape)), key=shape.__getitem__)
    if shape[longest] % 2 or len({r for k, r in zip(shape, ring, strict=True) if k > 2}) > 1:
        return None
    return at[longest] >= shape[longest] // 2


INSIDE = {"nvswitch": _switch, "mesh": _mesh, "torus": _torus, "pairs": _pairs, "pcie": _pcie}
"""The part for each kind of `ScaleUp`."""
