"""Times of schedules against closed forms, and phases against schedules.

The oracle in time is `chunk_recurrence.time`, a max-plus recurrence on a crossbar where no two lanes share a
link. Where a member sends on several lanes at once, each gets its part of the link.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from chunk_recurrence import crossbar, ends, time
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.collectives.algorithm import Algorithm
from scaleout.collectives.correctness import levels
from scaleout.collectives.groups import Group, grid_of
from scaleout.collectives.phases import rounds
from scaleout.collectives.registry import ALGORITHMS
from scaleout.collectives.rings import rotations
from scaleout.collectives.sends import Sends
from scaleout.errors import WorkloadError
from scaleout.io.catalogue import load
from scaleout.network import Fabric, Topology, rail_fat_tree, ring

COUNTS = [2, 3, 5, 6, 7, 8, 12, 16]
S, A, B, C = 1.7e9, 3e-6, 50e9, 5
"""Message [byte], latency [s], bandwidth [byte/s], chunks of pipelines."""
STEP = 1e-12
"""What a step may be off beside 1e-9 of the time [s]."""
SYSTEM = load("system", "dgx-h100")


def log(n: int) -> int:
    return (n - 1).bit_length()


def core(n: int) -> int:
    return 1 << (n.bit_length() - 1)


def extra(n: int, message: float) -> float:
    """First in and last out, where n is no power of two."""
    return 0.0 if core(n) == n else 2 * (A + message / B)


FORMS: dict[tuple[str, str], Callable[[int], float]] = {
    ("ring", "all_reduce"): lambda n: 2 * (n - 1) * (A + S / n / B),
    ("ring", "all_gather"): lambda n: (n - 1) * (A + S / n / B),
    ("ring", "reduce_scatter"): lambda n: (n - 1) * (A + S / n / B),
    ("ring", "broadcast"): lambda n: (n - 1) * A + (n - 2 + C) * S / C / B,
    ("ring", "reduce"): lambda n: (n - 1) * A + (n - 2 + C) * S / C / B,
    ("tree", "all_reduce"): lambda n: 2 * log(n) * A + (2 * log(n) - 1 + C) * S / 2 / C / B,
    ("tree", "broadcast"): lambda n: log(n) * A + (log(n) - 1 + C) * S / 2 / C / B,
    ("tree", "reduce"): lambda n: log(n) * A + (log(n) - 1 + C) * S / 2 / C / B,
    ("recursive-doubling", "all_reduce"): lambda n: log(core(n)) * (A + S / B) + extra(n, S),
    ("halving-doubling", "all_reduce"): (
        lambda n: 2 * (log(core(n)) * A + (core(n) - 1) / core(n) * S / B) + extra(n, S)
    ),
    ("swing", "all_reduce"): lambda n: 2 * (log(core(n)) * A + (core(n) - 1) / core(n) * S / B) + extra(n, S),
    ("bruck", "all_gather"): lambda n: log(n) * A + (n - 1) / n * S / B,
    ("bruck", "all_to_all"): (lambda n: sum(A + sum(j >> k & 1 for j in range(n)) / n * S / B for k in range(log(n)))),
    ("pairwise-steps", "all_to_all"): lambda n: (n - 1) * (A + S / n / B),
    ("dissemination", "barrier"): lambda n: log(n) * A,
    ("sharp", "all_reduce"): lambda n: 2 * A + (1 + C) * S / C / B,
    ("send", "send"): lambda n: A + S / B,
    ("send", "shift"): lambda n: A + S / B,
    # n - 1 lanes at once share a link
    ("direct", "all_reduce"): lambda n: 2 * (A + (n - 1) / n * S / B),
    ("direct", "all_gather"): lambda n: A + (n - 1) / n * S / B,
    ("direct", "reduce_scatter"): lambda n: A + (n - 1) / n * S / B,
    ("direct", "broadcast"): lambda n: A + (n - 1) * S / B,
    ("direct", "gather"): lambda n: A + (n - 1) / n * S / B,
    ("one-shot", "all_reduce"): lambda n: A + (n - 1) * S / B,
    ("pairwise", "all_to_all"): lambda n: A + (n - 1) / n * S / B,
}
POWERS: dict[tuple[str, str], Callable[[int], float]] = {
    ("halving-doubling", "all_gather"): lambda n: log(n) * A + (n - 1) / n * S / B,
    ("halving-doubling", "reduce_scatter"): lambda n: log(n) * A + (n - 1) / n * S / B,
    ("swing", "all_gather"): lambda n: log(n) * A + (n - 1) / n * S / B,
    ("swing", "reduce_scatter"): lambda n: log(n) * A + (n - 1) / n * S / B,
    ("binomial", "broadcast"): lambda n: log(n) * (A + S / B),
    ("binomial", "reduce"): lambda n: log(n) * (A + S / B),
    ("binomial", "gather"): lambda n: log(n) * A + (n - 1) / n * S / B,
    ("binomial", "scatter"): lambda n: log(n) * A + (n - 1) / n * S / B,
}
AT_ONCE = {"direct", "one-shot", "pairwise"}
PIPELINES = {"ring", "tree", "sharp", "send"}


def near(schedule, expected: float) -> bool:  # type: ignore[no-untyped-def]
    sends = int(levels(schedule).max(initial=1))
    return abs(time(schedule, S, A, B) - expected) <= 1e-9 * expected + STEP * sends


def alone_rate(name: str, n: int) -> float:
    return B / (n - 1) if name in AT_ONCE else B


@pytest.mark.parametrize(("name", "operation"), sorted(FORMS))
@pytest.mark.parametrize("n", COUNTS)
def test_chunks_meet_the_closed_form(name: str, operation: str, n: int) -> None:
    if operation == "send" and n > 2:
        pytest.skip("a send has two members")
    schedule = ALGORITHMS[name].schedule(n, operation, chunks=C)
    steps = int(levels(schedule).max())
    expected = FORMS[name, operation](n)
    assert time(schedule, S, A, alone_rate(name, n)) == pytest.approx(expected, rel=1e-9, abs=STEP * steps)


@pytest.mark.parametrize(("name", "operation"), sorted(POWERS))
@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_chunks_meet_the_closed_form_of_powers_of_two(name: str, operation: str, n: int) -> None:
    schedule = ALGORITHMS[name].schedule(n, operation)
    assert near(schedule, POWERS[name, operation](n))


@pytest.mark.parametrize("grid", [(2, 3), (3, 2), (4, 4), (2, 2, 3), (5,), (3, 4)])
def test_a_bucket_goes_side_after_side(grid: tuple[int, ...]) -> None:
    group = Group(members=math.prod(grid), grid=grid)
    left, expected = 1, 0.0
    for side in grid:
        expected += 2 * (side - 1) * A + 2 * (side - 1) / side * S / left / B
        left *= side
    assert near(ALGORITHMS["bucket"].schedule(group, "all_reduce"), expected)
    n = math.prod(grid)
    assert expected == pytest.approx(2 * sum(side - 1 for side in grid) * A + 2 * (n - 1) / n * S / B)


@pytest.mark.parametrize("grid", [(4, 4), (3, 3), (3, 3, 3)])
def test_a_multi_ring_keeps_all_directions_busy(grid: tuple[int, ...]) -> None:
    n, d = math.prod(grid), len(grid)
    group = Group(members=n, grid=grid)
    schedule = ALGORITHMS["multi-ring"].schedule(group, "all_reduce")
    assert near(schedule, 2 * sum(side - 1 for side in grid) * A + 2 * (n - 1) / n * S / (2 * d * B))
    # at any time a member sends one thing on each of its links
    done = np.round(np.array(ends(schedule, S, A, B)), 12)
    links = schedule.source[schedule.lane] * n + schedule.target[schedule.lane]
    assert len(np.unique(np.stack((links, done * 1e12)), axis=1).T) == schedule.sends


@pytest.mark.parametrize(("size", "nodes"), [(2, 2), (2, 3), (4, 2), (4, 4), (3, 5)])
def test_two_levels_are_the_sum_of_both_in_one_chunk_and_overlap_in_many(size: int, nodes: int) -> None:
    n = size * nodes
    group = Group(members=n, node=np.arange(n) // size)
    inner = 2 * (size - 1) * (A + S / size / B)
    outer = 2 * (nodes - 1) * (A + S / size / nodes / B)
    make = ALGORITHMS["hierarchical"].schedule
    assert near(make(group, "all_reduce"), inner + outer)
    times = [time(make(group, "all_reduce", chunks=chunks), S, A, B) for chunks in (1, 2, 4, 8)]
    assert times == sorted(times, reverse=True)
    # on lanes that share nothing, scattering and gathering run side by side
    assert times[-1] >= max(inner, outer) / 2
    for operation in ("all_gather", "reduce_scatter"):
        assert near(make(group, operation), (inner + outer) / 2)


@pytest.mark.parametrize(("size", "nodes"), [(2, 2), (2, 3), (4, 2), (3, 5)])
def test_an_all_to_all_over_rails_sends_everything_twice(size: int, nodes: int) -> None:
    n = size * nodes
    group = Group(members=n, node=np.arange(n) // size)
    schedule = ALGORITHMS["pxn"].schedule(group, "all_to_all")
    # every lane carries as much as each other of its level, but they are of two sizes
    assert near(schedule, A + S / size / B + A + S / nodes / B)
    between = group.node[schedule.source] != group.node[schedule.target]
    assert schedule.share[between].sum() == pytest.approx(n * (nodes - 1) / nodes)
    assert between.sum() == n * (nodes - 1)
    rail = np.arange(n) % size
    assert (rail[schedule.source[between]] == rail[schedule.target[between]]).all()


@pytest.mark.parametrize("n", COUNTS)
def test_members_of_a_switch_move_the_message_and_their_part(n: int) -> None:
    schedule = ALGORITHMS["nvls"].schedule(n, "all_reduce")
    out = np.bincount(schedule.source, schedule.share, n + 1)
    into = np.bincount(schedule.target, schedule.share, n + 1)
    assert out[:n] == pytest.approx(np.full(n, 1 + 1 / n))
    assert into[:n] == pytest.approx(np.full(n, 1 + 1 / n))
    # one way after the other in one chunk; all at once in many, then bound by the longest
    assert near(schedule, 4 * A + (2 + 2 / n) * S / B)
    many = ALGORITHMS["nvls"].schedule(n, "all_reduce", chunks=16)
    assert time(many, S, A, B) <= 4 * A + (1 + 3 / 16) * S / B * (1 + 1e-9)


@pytest.mark.parametrize("size", [2, 4])
def test_the_switch_tree_has_two_levels_between_nodes(size: int) -> None:
    group = Group(members=3 * size, node=np.arange(3 * size) // size)
    schedule = ALGORITHMS["sharp"].schedule(group, "all_reduce", chunks=C)
    assert schedule.virtual == 4
    assert near(schedule, 4 * A + (3 + C) * S / C / B)


ALIKE = sorted(
    (name, operation)
    for name in ALGORITHMS
    for operation in ALGORITHMS[name].operations
    if name not in PIPELINES | {"nvls", "hierarchical", "hierarchical-tree", "nvls-tree", "pxn", "bucket", "multi-ring"}
)


@pytest.mark.parametrize(("name", "operation"), ALIKE)
@pytest.mark.parametrize("n", [2, 3, 4, 6, 8, 16])
def test_phases_alone_are_as_long_as_the_chunks(name: str, operation: str, n: int) -> None:
    fabric = crossbar(n, B, A)
    pattern = ALGORITHMS[name].pattern(fabric, np.arange(n)[None, :], operation, "wires")
    chunks = time(ALGORITHMS[name].schedule(n, operation), S, A, alone_rate(name, n))
    phases = pattern.alone(fabric, S)
    uneven = n & (n - 1) and (name, operation) not in FORMS
    if uneven or (name, operation) in {("binomial", "broadcast"), ("binomial", "scatter")}:
        # rounds wait for their slowest send; a root's sends take turns
        assert phases >= chunks * (1 - 1e-9)
    else:
        assert phases == pytest.approx(chunks, rel=1e-9)


@pytest.mark.parametrize("operation", ["all_reduce", "broadcast", "reduce"])
@pytest.mark.parametrize("name", ["tree", "ring"])
@pytest.mark.parametrize("n", [2, 3, 8, 13])
def test_phases_of_pipelines_are_their_limit(name: str, operation: str, n: int) -> None:
    fabric = crossbar(n, 1e30, A)
    pattern = ALGORITHMS[name].pattern(fabric, np.arange(n)[None, :], operation, "wires")
    assert pattern.latency() == pytest.approx(time(ALGORITHMS[name].schedule(n, operation), 0.0, A, B))
    loads = np.zeros(2 * n)
    for phase in pattern.phases:
        np.add.at(loads, phase.link, phase.weight * phase.share)
    schedule = ALGORITHMS[name].schedule(n, operation, chunks=4)
    portion = schedule.portion
    assert loads[:n] == pytest.approx(np.bincount(schedule.source[schedule.lane], portion, n))
    assert loads[n:] == pytest.approx(np.bincount(schedule.target[schedule.lane], portion, n))


FORMED = sorted((name, op) for name in ("halving-doubling", "swing", "one-shot") for op in ALGORITHMS[name].operations)


@pytest.mark.parametrize(("name", "operation"), FORMED)
@pytest.mark.parametrize("n", [2, 3, 5, 6, 7, 8, 11, 16])
def test_forms_without_slots_are_the_rounds_of_the_schedule(name: str, operation: str, n: int) -> None:
    fabric, groups = crossbar(n, B, A), np.arange(n)[None, :]
    algorithm = ALGORITHMS[name]
    formed = algorithm.pattern(fabric, groups, operation, "wires")
    by_rounds = rounds(fabric, groups, algorithm.schedule(n, operation), "wires")
    for one in (formed, by_rounds):
        loads = np.zeros(2 * n)
        for phase in one.phases:
            np.add.at(loads, phase.link, phase.weight * phase.share)
        expected = algorithm.schedule(n, operation)
        assert loads[:n] == pytest.approx(np.bincount(expected.source[expected.lane], expected.portion, n))
    assert formed.alone(fabric, S) == pytest.approx(by_rounds.alone(fabric, S), rel=1e-12)


def torus(grid: tuple[int, ...], bandwidth: float = B, latency: float = A) -> Fabric:
    """A wrapped grid written here: links to the next and the one before along each side, shortest ways."""
    n = math.prod(grid)
    where = np.stack(np.unravel_index(np.arange(n), grid), axis=1)
    pairs = []
    for axis, side in enumerate(grid):
        for turn in (1, -1) if side > 2 else (1,):
            there = where.copy()
            there[:, axis] = (there[:, axis] + turn) % side
            pairs.append(np.stack((np.arange(n), np.ravel_multi_index(tuple(there.T), grid)), axis=1))
    source, target = np.concatenate(pairs).T
    links = {(int(a), int(b)): i for i, (a, b) in enumerate(zip(source, target, strict=True))}
    topology = Topology(
        name="torus",
        chips=n,
        vertices=(("chip", n),),
        source=source,
        target=target,
        bandwidth=np.full(len(source), bandwidth),
        latency=np.full(len(source), latency),
        kind=np.zeros(len(source), dtype=np.int64),
        kinds=("link",),
    )

    def paths(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = np.full((len(a), sum(side // 2 for side in grid) + 1), -1)
        for row, (here, there) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
            at, hop = list(where[here]), 0
            for axis, side in enumerate(grid):
                while at[axis] != where[there][axis]:
                    gap = (where[there][axis] - at[axis]) % side
                    before = int(np.ravel_multi_index(at, grid))
                    at[axis] = (at[axis] + (1 if gap <= side // 2 else -1)) % side
                    out[row, hop] = links[before, int(np.ravel_multi_index(at, grid))]
                    hop += 1
        return out

    return Fabric(topology=topology, paths=paths)


@pytest.mark.parametrize("grid", [(5,), (3, 4), (4, 4), (2, 3), (2, 2, 3), (4, 4, 4), (8, 4)])
def test_a_grid_is_found_from_its_links(grid: tuple[int, ...]) -> None:
    fabric = torus(grid)
    assert grid_of(fabric, np.arange(math.prod(grid))) == grid
    assert grid_of(fabric, np.arange(math.prod(grid))[::2]) in ((), (math.prod(grid) // 2,))
    assert grid_of(crossbar(6, B, A), np.arange(6)) == ()
    assert grid_of(ring(6, bandwidth=B, latency=A), np.arange(6)) == (6,)


@pytest.mark.parametrize("operation", ["all_reduce", "all_gather", "reduce_scatter"])
@pytest.mark.parametrize("grid", [(4, 4), (3, 3, 3), (5,)])
@pytest.mark.parametrize("name", ["bucket", "multi-ring"])
def test_phases_on_a_torus_are_as_long_as_the_chunks(name: str, grid: tuple[int, ...], operation: str) -> None:
    fabric, n = torus(grid), math.prod(grid)
    pattern = ALGORITHMS[name].pattern(fabric, np.arange(n)[None, :], operation, "wires")
    # every lane has a link of its own here, whenever it is busy
    schedule = ALGORITHMS[name].schedule(Group(members=n, grid=grid), operation)
    assert pattern.alone(fabric, S) == pytest.approx(time(schedule, S, A, B), rel=1e-9)
    assert ALGORITHMS[name].fits(fabric, np.arange(n)[None, :], operation)
    assert not ALGORITHMS[name].fits(crossbar(n, B, A), np.arange(n)[None, :], operation)


def test_swing_takes_fewer_hops_than_doubling_on_a_ring() -> None:
    n = 64
    fabric, groups = torus((n,)), np.arange(n)[None, :]
    swing, doubling = (
        ALGORITHMS[name].pattern(fabric, groups, "all_reduce", "wires") for name in ("swing", "halving-doubling")
    )
    # distances of 1, 1, 3, 5, 11, 21 against 1, 2, 4, 8, 16, 32
    assert swing.latency() == pytest.approx(2 * (1 + 1 + 3 + 5 + 11 + 21) * A)
    assert doubling.latency() == pytest.approx(2 * 63 * A)
    assert swing.per_byte(fabric) < doubling.per_byte(fabric)


@pytest.mark.parametrize(("size", "nodes"), [(2, 2), (4, 2), (4, 3), (8, 3), (8, 4), (3, 3)])
def test_rings_leave_each_node_at_another_member_and_stay_on_rails(size: int, nodes: int) -> None:
    n = size * nodes
    orders = rotations(Group(members=n, node=np.arange(n) // size))
    assert orders.shape == (size, n)
    leaves = set()
    for order in orders.tolist():
        assert sorted(order) == list(range(n))
        for a, b in zip(order, [*order[1:], order[0]], strict=True):
            if a // size != b // size:
                assert a % size == b % size
                leaves.add(a)
    assert leaves == set(range(n))


@pytest.mark.parametrize("nodes", [2, 4])
def test_rings_over_rails_load_ports_as_their_phases_do(nodes: int) -> None:
    fabric, n = rail_fat_tree(SYSTEM, 8 * nodes), 8 * nodes
    groups = np.arange(n)[None, :]
    (phase,) = ALGORITHMS["ring"].pattern(fabric, groups, "all_reduce", "Simple").phases
    schedule = ALGORITHMS["ring"].schedule(Group.on(fabric, groups[0]), "all_reduce")
    routes = fabric.route(schedule.source, schedule.target)
    carried = (schedule.share * schedule.steps)[routes.flow] * routes.weight
    loads = np.bincount(routes.link, carried, fabric.topology.links)
    expected = np.bincount(phase.link, phase.weight * phase.share, fabric.topology.links)
    assert loads == pytest.approx(expected)


def test_unequal_nodes_fall_back_and_say_so() -> None:
    group = Group(members=7, node=np.array([0, 0, 0, 1, 1, 2, 2]))
    for name, operation, other in [
        ("hierarchical", "all_reduce", "ring"),
        ("nvls-tree", "all_reduce", "ring"),
        ("pxn", "all_to_all", "pairwise"),
    ]:
        schedule = ALGORITHMS[name].schedule(group, operation)
        assert other in schedule.name
        assert "unequal numbers of members" in schedule.note
        flat = ALGORITHMS[other].schedule(7, operation)
        assert time(schedule, S, A, B) == time(flat, S, A, B)


def test_virtual_members_have_no_phases_of_their_own() -> None:
    schedule = ALGORITHMS["nvls"].schedule(4, "all_reduce")
    with pytest.raises(WorkloadError, match="sends to switches"):
        rounds(crossbar(4, B, A), np.arange(4)[None, :], schedule, "wires")
    with pytest.raises(WorkloadError, match="has 4 members, the groups 3"):
        rounds(crossbar(4, B, A), np.arange(3)[None, :], ALGORITHMS["ring"].schedule(4, "all_gather"), "wires")


def test_sharp_loads_every_link_of_the_tree_once() -> None:
    fabric = rail_fat_tree(SYSTEM, 32)
    members = np.arange(32)[None, ::8]
    (phase,) = ALGORITHMS["sharp"].pattern(fabric, members, "all_reduce", "Simple").phases
    assert (phase.weight == 1.0).all()
    assert len(np.unique(phase.link)) == len(phase.link)


NEEDED = {"all_gather": 1, "reduce_scatter": 1, "all_reduce": 2, "all_to_all": 1}


@settings(max_examples=40)
@given(
    st.sampled_from([(n, op) for n in sorted(ALGORITHMS) for op in ALGORITHMS[n].operations if op in NEEDED]),
    st.integers(2, 16),
    st.integers(1, 3),
)
def test_members_together_take_in_what_they_must(pair: tuple[str, str], n: int, chunks: int) -> None:
    name, operation = pair
    schedule = ALGORITHMS[name].schedule(n, operation, chunks=chunks)
    if schedule.virtual:
        return
    into = np.bincount(schedule.target[schedule.lane], schedule.portion, n)
    out = np.bincount(schedule.source[schedule.lane], schedule.portion, n)
    assert into.sum() == pytest.approx(out.sum())
    least = NEEDED[operation] * (n - 1) / n
    assert into.sum() >= n * least * (1 - 1e-9)
    if operation == "all_gather":
        assert into.min() >= least * (1 - 1e-9)
    # with every member's link to itself, no schedule is faster than its bytes
    assert (
        time(schedule, S, A, B)
        >= A + out.max() * S / B / max(1, np.bincount(schedule.source, minlength=n).max()) - 1e-12
    )


def test_large_rings_are_built_without_looking_at_each_send() -> None:
    schedule = ALGORITHMS["ring"].schedule(4096, "all_reduce")
    assert schedule.lanes == len(schedule.edges.before) == 4096
    assert schedule.sends == 4096 * 2 * 4095
    tree = ALGORITHMS["tree"].schedule(4096, "all_reduce", chunks=64)
    assert tree.lanes == 4 * 4095


def test_any_schedule_has_phases() -> None:
    """A user's algorithm: reduce to rank 0 and back, on a ring where the way is long."""

    def star(task):  # type: ignore[no-untyped-def]
        sends = Sends(task.goal(blocks=1))
        for rank in range(1, task.members):
            sends.send(rank, 0, 0, reduce=True)
        for rank in range(1, task.members):
            sends.send(0, rank, 0)
        return sends.schedule("star")

    mine = Algorithm(name="star", operations=("all_reduce",), make=star)
    fabric = crossbar(5, B, A)
    pattern = mine.pattern(fabric, np.array([[0, 1, 2], [4, 3, 2]]), "all_reduce", "wires")
    assert pattern.algorithm == "star/wires"
    assert len(pattern.phases) == 2
    for group in range(2):
        assert pattern.alone(fabric, S, group) == pytest.approx(2 * A + 2 * 2 * S / B)


def test_equal_rounds_are_one_phase() -> None:
    fabric, groups = crossbar(6, B, A), np.arange(6)[None, :]
    by_rounds = rounds(fabric, groups, ALGORITHMS["ring"].schedule(6, "all_reduce"), "wires")
    assert len(by_rounds.phases) == 1
    assert by_rounds.alone(fabric, S) == pytest.approx(FORMS["ring", "all_reduce"](6))
