import numpy as np
import pytest
from machines import job, line, program, record, simulate

from scaleout.engine import Family, Message
from scaleout.engine.program import ticks
from scaleout.errors import WorkloadError
from scaleout.evaluate.breakdown import breakdown, ends_last
from scaleout.evaluate.event import Recording
from scaleout.training import Pass

SECOND = 1_000_000_000_000


def sends(*pairs: tuple[int, int], name: str = "p2p") -> Family:
    return Family(name, "pp", np.array(pairs))


def test_kernels_run_one_after_another() -> None:
    work = job([program([("compute", "compute", 0, ()), ("compute", "compute", 1, ())])], [0], [1.0, 2.5], [], [])
    times = simulate(work, line(2)).classes[0]
    assert times.started.tolist() == [0, SECOND]
    assert times.ended.tolist() == [SECOND, 3 * SECOND + SECOND // 2]


def test_a_message_starts_when_both_sides_are_there_and_ends_for_both() -> None:
    sender = program([("compute", "compute", 0, ()), ("send", "send forward", 0, (0,))])
    receiver = program([("receive", "receive forward", 0, ()), ("compute", "compute", 1, (0,))])
    work = job([sender, receiver], [0, 1], [2.0, 1.0], [Message("p2p", "send", 3e9)], [sends((0, 1))])
    first, second = simulate(work, line(2)).classes
    assert first.ended.tolist() == [2 * SECOND, 5 * SECOND]
    assert (second.arrived[0], second.started[0], second.ended[0]) == (0, 2 * SECOND, 5 * SECOND)
    assert second.ended[1] == 6 * SECOND


def test_two_messages_share_a_link_and_the_longer_one_speeds_up_when_alone() -> None:
    # over one link of 1 GB/s: 2 GB and 6 GB; half rate each until 4 s, then the rest of 4 GB alone
    both = program([("send", "send forward", 0, ()), ("send", "send backward", 1, ())])
    peer = program([("receive", "receive forward", 0, ()), ("receive", "receive backward", 1, ())])
    messages = [Message("a", "send", 2e9), Message("b", "send", 6e9)]
    work = job([both, peer], [0, 1], [1.0], messages, [sends((0, 1), name="a"), sends((0, 1), name="b")])
    times = simulate(work, line(2)).classes[0]
    assert times.ended.tolist() == [4 * SECOND, 8 * SECOND]


def test_a_transfer_that_comes_late_takes_its_share() -> None:
    # the first of 4 GB has 3 GB left after one second; both at half rate: the second of 1 GB ends
    # at 3 s, the first at 5 s
    both = program([("send", "send forward", 0, ()), ("compute", "compute", 0, ()), ("send", "send backward", 1, (1,))])
    peer = program([("receive", "receive forward", 0, ()), ("receive", "receive backward", 1, ())])
    messages = [Message("a", "send", 4e9), Message("b", "send", 1e9)]
    work = job([both, peer], [0, 1], [1.0], messages, [sends((0, 1), name="a"), sends((0, 1), name="b")])
    times = simulate(work, line(2)).classes[0]
    assert (times.ended[0], times.ended[2]) == (5 * SECOND, 3 * SECOND)


def test_a_collective_waits_for_its_last_member_and_holds_the_stream_of_the_others() -> None:
    fast = program([("compute", "compute", 0, ()), ("collective", "dp", 0, (0,)), ("compute", "compute", 0, (1,))])
    slow = program([("compute", "compute", 1, ()), ("collective", "dp", 0, (0,)), ("compute", "compute", 0, (1,))])
    family = Family("dp", "dp", np.array([[0, 1]]))
    work = job([fast, slow], [0, 1], [1.0, 4.0], [Message("dp", "all_reduce", 2e9)], [family])
    a, b = simulate(work, line(2)).classes
    assert a.arrived[1] == SECOND
    assert a.started[1] == b.started[1] == 4 * SECOND
    # ring of two: 2 (n-1)/n S/B = 2 s
    assert a.ended[1] == b.ended[1] == 6 * SECOND
    assert a.ended[2] == b.ended[2] == 7 * SECOND


def test_communicators_are_first_in_first_out() -> None:
    one = program([("collective", "dp", 0, ()), ("collective", "dp", 1, ())])
    family = Family("dp", "dp", np.array([[0, 1]]))
    work = job([one], [0, 0], [1.0], [Message("dp", "all_reduce", 2e9), Message("dp", "all_reduce", 1e9)], [family])
    times = simulate(work, line(2)).classes[0]
    assert times.started.tolist() == [0, 2 * SECOND]
    assert times.ended.tolist() == [2 * SECOND, 3 * SECOND]


def test_ranks_that_wait_for_each_other_for_ever_are_named() -> None:
    # each receives before it sends
    families = [sends((0, 1), name="there"), sends((1, 0), name="back")]
    messages = [Message("there", "send", 1.0), Message("back", "send", 1.0)]
    a = program([("receive", "receive forward", 1, ()), ("send", "send forward", 0, (0,))])
    b = program([("receive", "receive forward", 0, ()), ("send", "send forward", 1, (0,))])
    with pytest.raises(WorkloadError, match=r"rank 0, stream receive forward: operation 0 \(send on back\)"):
        simulate(job([a, b], [0, 1], [1.0], messages, families), line(2))


@pytest.mark.parametrize("stages", [2, 3, 4, 7])
@pytest.mark.parametrize("micro_batches", [4, 8])
def test_bubble_of_1f1b_is_its_closed_form(stages: int, micro_batches: int) -> None:
    from scaleout.training.schedules import one_f_one_b

    recording = pipeline([list(one_f_one_b(s, stages, 1, micro_batches)) for s in range(stages)], stages, 1)
    check_bubble(recording, stages - 1, micro_batches)


@pytest.mark.parametrize(("stages", "chunks", "micro_batches"), [(2, 2, 4), (4, 2, 8), (4, 4, 4), (3, 2, 6)])
def test_bubble_of_the_interleaved_schedule_is_its_closed_form(stages: int, chunks: int, micro_batches: int) -> None:
    from scaleout.training.schedules import interleaved

    plans = [list(interleaved(s, stages, chunks, micro_batches)) for s in range(stages)]
    # the pass of a chunk takes 1/chunks of a stage's; the bubble shrinks by as much
    check_bubble(pipeline(plans, stages, chunks), stages - 1, micro_batches * chunks)


def check_bubble(recording: Recording, idle: int, busy: int) -> None:
    """The step takes `busy` passes and `idle` more; the breakdown calls the rest of it bubble."""
    assert recording.timeline.end == (busy + idle) * 3 * SECOND
    first = recording.wiring.class_of[0]
    parts = breakdown(recording, int(first))
    assert ends_last(recording) == first
    assert parts == {**dict.fromkeys(parts, 0), "compute": busy * 3 * SECOND, "bubble": idle * 3 * SECOND}


def pipeline(plans: list[list[Pass]], stages: int, chunks: int) -> Recording:
    """A pipeline of uniform stages, forward 1 s and backward 2 s a chunk, messages for free."""
    programs = []
    for stage, plan in enumerate(plans):
        ops: list[tuple[str, str, int, tuple[int, ...]]] = []
        for kind, _, chunk in plan:
            backward = kind != "F"
            place = chunk * stages + stage
            way = "backward" if backward else "forward"
            comes = place < stages * chunks - 1 if backward else place > 0
            goes = place > 0 if backward else place < stages * chunks - 1
            waits: tuple[int, ...] = ()
            if comes:
                ops.append(("receive", f"receive {way}", int(backward), ()))
                waits = (len(ops) - 1,)
            ops.append(("compute", "compute", int(backward), waits))
            if goes:
                ops.append(("send", f"send {way}", int(backward), (len(ops) - 1,)))
        programs.append(program(ops))
    ranks = np.arange(stages)
    families = [
        Family("f", "pp", np.column_stack((ranks, (ranks + 1) % stages))),
        Family("b", "pp", np.column_stack((ranks, (ranks - 1) % stages))),
    ]
    messages = [Message("f", "send", 0.0), Message("b", "send", 0.0)]
    work = job(programs, list(range(stages)), [1.0, 2.0], messages, families)
    return record(work, line(max(2, stages)))


def test_ticks_are_whole_picoseconds() -> None:
    assert ticks(1e-12) == 1
    assert ticks(2.28e-9) == 2280


def test_an_operation_that_could_start_before_its_run_is_not_put_into_one() -> None:
    # the collective waits for the first kernel only; the second kernel waits for a late message
    family = Family("tp", "tp", np.array([[0, 1], [2, 3]]))
    ops: list[tuple[str, str, int, tuple[int, ...]]] = [
        ("compute", "compute", 0, ()),
        ("receive", "receive forward", 1, ()),
        ("compute", "compute", 0, (1,)),
        ("collective", "tp", 0, (0,)),
        ("compute", "compute", 0, (2, 3)),
    ]
    sender = program([("compute", "compute", 1, ()), ("send", "send forward", 1, (0,))])
    messages = [Message("tp", "all_gather", 3e9), Message("p2p", "send", 0.0)]
    work = job([program(ops), sender], [0, 0, 1, 1], [1.0, 5.0], messages, [family, sends((2, 0), (3, 1))])
    fabric = line(4)
    assert record(work, fabric).timeline.end == record(work, fabric, runs=False).timeline.end
    assert record(work, fabric).timeline.classes[0].started[3] == SECOND
