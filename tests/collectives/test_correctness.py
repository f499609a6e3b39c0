"""Every algorithm does what its operation promises, whoever takes part; and the check finds what does not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.collectives.algorithm import Algorithm
from scaleout.collectives.correctness import check
from scaleout.collectives.goal import BLOCKWISE, EACH_ITS_OWN, OPERATIONS, Goal
from scaleout.collectives.groups import Group
from scaleout.collectives.registry import ALGORITHMS, algorithm, register
from scaleout.collectives.schedule import Edges, Moves, Schedule
from scaleout.collectives.sends import Sends
from scaleout.errors import WorkloadError
from scaleout.specs import ALGORITHMS as NAMES

PAIRS = [(name, operation) for name in sorted(ALGORITHMS) for operation in ALGORITHMS[name].operations]
COUNTS = list(range(2, 18))


def groups(n: int) -> list[Group]:
    """The same members in one node, in nodes of two and three sizes, and on grids."""
    out = [Group(members=n)]
    for size in (2, 3, 4):
        if n % size == 0 and n > size:
            out.append(Group(members=n, node=np.arange(n) // size))
            out.append(Group(members=n, grid=(n // size, size)))
    if n > 3:
        out.append(Group(members=n, node=np.minimum(np.arange(n) // 3, (n - 1) // 3)))
        out.append(Group(members=n, grid=(n,)))
    return out


@pytest.mark.parametrize(("name", "operation"), PAIRS)
def test_every_rank_ends_with_what_the_operation_defines(name: str, operation: str) -> None:
    for n in [2] if operation == "send" else [1, *COUNTS]:
        flat = operation in ("barrier", "broadcast", "reduce", "gather", "scatter")
        for group in groups(n)[: 1 if flat or n > 12 else None]:
            check(ALGORITHMS[name].schedule(group, operation, root=n // 2 if operation != "send" else 0))


@settings(max_examples=25)
@given(st.sampled_from(PAIRS), st.integers(2, 17), st.data())
def test_sizes_that_do_not_divide(pair: tuple[str, str], n: int, data: st.DataObject) -> None:
    name, operation = pair
    n = 2 if operation == "send" else n
    group = data.draw(st.sampled_from(groups(n)))
    root = data.draw(st.integers(0, n - 1))
    chunks = data.draw(st.integers(1, 3))
    options: dict[str, object] = {"elements": data.draw(st.integers(1, 40))}
    if operation in (*BLOCKWISE, "all_to_all") and data.draw(st.booleans()):
        count = n * n if operation == "all_to_all" else n
        options = {"parts": np.array(data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)), float)}
        if not options["parts"].any():  # type: ignore[attr-defined]
            options["parts"] += 1.0  # type: ignore[operator]
    schedule = ALGORITHMS[name].schedule(group, operation, root=root, chunks=chunks, **options)  # type: ignore[arg-type]
    check(schedule)
    assert schedule.goal is not None and schedule.moves is not None
    if operation != "barrier":
        whole = n if operation in EACH_ITS_OWN else 1
        assert schedule.goal.sizes.sum() == pytest.approx(whole)
    # a send's bytes are those of what it moves, within memory none
    moves, lane = schedule.moves(), schedule.lane
    held = sizes(schedule)
    carried = np.bincount(moves.send, [held[i] for i in range(len(moves.send))], schedule.sends)
    far = (schedule.source != schedule.target)[lane]
    assert schedule.portion == pytest.approx(np.where(far, carried, 0.0))


def sizes(schedule: Schedule) -> list[float]:
    """Size of what each row of a schedule's moves carries, found by following the pieces."""
    assert schedule.goal is not None and schedule.moves is not None
    goal, moves = schedule.goal, schedule.moves()
    what = {(r, s): p for r in range(goal.members) for s, p in goal.start(r).items()}
    source, target = schedule.source[schedule.lane][moves.send], schedule.target[schedule.lane][moves.send]
    out = [-1.0] * len(moves.send)
    while min(out, default=0.0) < 0:
        before = out.count(-1.0)
        for row in range(len(out)):
            here = (int(source[row]), int(moves.origin[row]))
            if out[row] < 0 and here in what:
                what[int(target[row]), int(moves.destination[row])] = what[here]
                out[row] = float(goal.sizes[what[here]])
        assert out.count(-1.0) < before
    return out


def test_operations_and_names_are_known() -> None:
    done = {operation for _, operation in PAIRS}
    assert done == set(OPERATIONS)
    assert set(ALGORITHMS) == set(NAMES)


# --- what the check finds -----------------------------------------------------------------------


def ring_of(n: int) -> Sends:
    sends = Sends(Goal.of("all_gather", n))
    for step in range(n - 1):
        for rank in range(n):
            sends.send(rank, (rank + 1) % n, (rank - step) % n)
    return sends


@pytest.mark.parametrize("n", [3, 6])
def test_a_lost_send_is_found(n: int) -> None:
    whole = ring_of(n).schedule("ring")
    check(whole)
    moves = whole.moves()  # type: ignore[misc]
    for gone in range(whole.sends):
        keep = moves.send != gone
        less = replace(whole, moves=lambda keep=keep: Moves(*(column[keep] for column in moves)))
        with pytest.raises(WorkloadError, match=r"holds nothing yet|ends with nothing in slot"):
            check(less)


def test_a_wrong_slot_is_found_and_named() -> None:
    sends = Sends(Goal.of("all_gather", 2))
    sends.send(0, 1, 0)
    sends.send(1, 0, 1, to=0)
    with pytest.raises(WorkloadError, match="rank 0 ends with piece 1 with the data of rank 1 in slot 0; all_gather"):
        check(sends.schedule("mixed up"))


def test_data_counted_twice_are_found() -> None:
    sends = Sends(Goal.of("reduce", 3, blocks=1))
    sends.send(1, 0, 0, reduce=True)
    sends.send(2, 0, 0, reduce=True)
    check(sends.schedule("right"))
    sends.send(1, 0, 0, reduce=True)
    with pytest.raises(
        WorkloadError, match=r"data of ranks 0, 1, 1, 2 in slot 0; reduce asks for piece 0 with .* 0 to 2"
    ):
        check(sends.schedule("twice"))


def test_a_sum_of_two_pieces_is_found() -> None:
    sends = Sends(Goal.of("all_reduce", 2))
    sends.send(0, 1, 0, 1, reduce=True)
    with pytest.raises(WorkloadError, match="adds piece 0 to piece 1 in slot 1 of rank 1"):
        check(sends.schedule("wrong sum"))


def test_an_order_that_is_not_forced_is_found() -> None:
    """Without what waits for what the executed order still gives the right sums, but others would not."""
    for name, operation, n in [
        ("ring", "all_reduce", 4),
        ("direct", "all_reduce", 4),
        ("tree", "broadcast", 7),
    ]:
        whole = ALGORITHMS[name].schedule(n, operation, chunks=2)
        check(whole)
        edges = whole.edges
        for gone in range(len(edges.before)):
            keep = np.arange(len(edges.before)) != gone
            less = replace(whole, edges=Edges(*(column[keep] for column in edges)))
            with pytest.raises(WorkloadError, match=r"depends on the order of sends|nothing yet|ends with"):
                check(less)


def test_overwriting_what_is_still_to_be_sent_is_found() -> None:
    sends = Sends(Goal.of("all_to_all", 2))
    sends.send(0, 1, 1, 0)
    sends.send(1, 0, 0, 1)
    with pytest.raises(WorkloadError, match="rank 0 ends with piece 1 with the data of rank 0 in slot 1"):
        check(sends.schedule("in place"))


@pytest.mark.parametrize("n", [3, 5])
def test_a_deadlock_is_named(n: int) -> None:
    whole = ring_of(n).schedule("ring")
    edges = whole.edges
    # the first send of block 0 waits for the second one, which passes it on
    more = [(n + 1,), (0,), (0,), (True,)]
    circle = replace(whole, edges=Edges(*(np.append(a, b) for a, b in zip(edges, more, strict=True))))
    send, on = "send from rank 0 to rank 1", "send from rank 1 to rank 2"
    with pytest.raises(WorkloadError, match=rf"deadlock, ({send}|{on}) .* waits for ({send}|{on}) .* waits for"):
        check(circle)


def test_what_cannot_be_asked_for_is_refused() -> None:
    with pytest.raises(WorkloadError, match="unknown algorithm 'rong'; did you mean"):
        algorithm("rong")
    with pytest.raises(WorkloadError, match="bruck does all_gather, all_to_all, not 'reduce'"):
        algorithm("bruck").schedule(4, "reduce")
    with pytest.raises(WorkloadError, match="is there already"):
        register(algorithm("ring"))
    with pytest.raises(WorkloadError, match="root 4 is not a member; expected 0 to 3"):
        algorithm("ring").schedule(4, "broadcast", root=4)
    with pytest.raises(WorkloadError, match="3 sizes of parts, expected 4"):
        algorithm("ring").schedule(4, "all_gather", parts=np.ones(3))
    with pytest.raises(WorkloadError, match="finite, zero or more"):
        algorithm("ring").schedule(2, "all_gather", parts=np.array([1.0, np.nan]))
    with pytest.raises(WorkloadError, match="no parts"):
        algorithm("ring").schedule(2, "all_reduce", parts=np.ones(2))
    with pytest.raises(WorkloadError, match="grid of 2 x 3 does not hold 5"):
        Group(members=5, grid=(2, 3))
    with pytest.raises(WorkloadError, match="no member 7"):
        ring_of(3).send(7, 0, 0)
    with pytest.raises(WorkloadError, match="slot 9 holds nothing yet"):
        ring_of(3).send(1, 0, 9)
    with pytest.raises(WorkloadError, match="at least one chunk"):
        algorithm("tree").schedule(4, "all_reduce", chunks=0)
    with pytest.raises(WorkloadError, match="says nothing of what its sends move"):
        check(replace(algorithm("ring").schedule(3, "all_gather"), moves=None))


def test_a_users_algorithm_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaleout.collectives.registry.ALGORITHMS", dict(ALGORITHMS))

    def star(task):  # type: ignore[no-untyped-def]
        sends = Sends(task.goal(blocks=1))
        for rank in range(1, task.members):
            sends.send(rank, 0, 0, reduce=True)
        for rank in range(1, task.members):
            sends.send(0, rank, 0)
        return sends.schedule("star")

    mine = register(Algorithm(name="star", operations=("all_reduce",), make=star))
    assert algorithm("star") is mine
    for n in COUNTS:
        check(mine.schedule(n, "all_reduce"))


def test_the_algorithm_of_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaleout.collectives.registry.ALGORITHMS", dict(ALGORITHMS))
    page = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text()
    block = page.split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(block, names)
    assert isinstance(names["mine"], Algorithm)
