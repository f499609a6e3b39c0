"""The flow network on small rings, where every time can be worked out by hand."""

import numpy as np
import pytest
from machines import job, line, program, record

from scaleout.engine import Family, Job, Message, flows
from scaleout.errors import TopologyError, WorkloadError
from scaleout.evaluate.event import Recording, evaluate
from scaleout.io.catalogue import load
from scaleout.network import max_min
from scaleout.specs import Batch, Fault, Layout, TrainingExperiment

SECOND = 1_000_000_000_000
LINK = "chip 0 -> chip 1"


def sends(*sizes: float, wait: float = 0.0) -> Job:
    """Messages from rank 0 to rank 1, all at once or the second after a wait, on up to two streams."""
    streams, here, there = ("forward", "backward"), [], []
    if wait:
        here.append(("compute", "compute", 0, ()))
    for number in range(len(sizes)):
        waits = (0,) if wait and number else ()
        here.append(("send", f"send {streams[number]}", number, waits))
        there.append(("receive", f"receive {streams[number]}", number, ()))
    names = [f"m{number}" for number in range(len(sizes))]
    messages = [Message(name, "send", size) for name, size in zip(names, sizes, strict=True)]
    families = [Family(name, "pp", np.array([[0, 1]])) for name in names]
    return job([program(here), program(there)], [0, 1], [wait or 1.0], messages, families)


def ends(recording: Recording) -> list[float]:
    """When each message was over [s]."""
    receiver = recording.timeline.classes[int(recording.wiring.class_of[1])]
    return [int(end) / SECOND for end in receiver.ended]


def fault(at: float, **rest: object) -> Fault:
    return Fault(**{"at": at, "link": LINK, "share": 0.5, **rest})  # type: ignore[arg-type]


def test_a_transfer_slowed_half_way_takes_the_rest_at_the_rate_that_is_left() -> None:
    # 4 GB at 1 GB/s: 2 GB are over at 2 s, the rest at a quarter takes 8 s
    assert ends(record(sends(4e9), line(4), faults=[fault(2.0, share=0.25)])) == [10.0]


def test_faults_on_one_link_multiply_and_end() -> None:
    # 1 GB, then 1 GB/s / 4 for 2 s, then / 2 for 1 s, the last 2 GB alone at the whole rate
    faults = [fault(1.0, until=4.0), fault(1.0, until=3.0)]
    assert ends(record(sends(4e9), line(4), faults=faults)) == [6.0]


def test_a_transfer_over_a_dead_link_stalls_and_goes_on() -> None:
    stalled = [fault(1.0, until=7.5, share=0, then="stall")]
    assert ends(record(sends(4e9), line(4), faults=stalled)) == [10.5]


def test_less_than_a_tick_is_no_time() -> None:
    # a 4,000th of a byte at 1 GB/s is a quarter of a tick, at half the rate half of one
    assert ends(record(sends(0.00025), line(4))) == [0.0]
    assert ends(record(sends(0.00025, 0.00025), line(4))) == [0.0, 0.0]


def test_one_that_begins_while_its_link_is_dead_waits_for_it() -> None:
    stalled = [fault(0.0, until=7.0, share=0, then="stall")]
    assert ends(record(sends(4e9), line(4), faults=stalled)) == [11.0]


def test_two_that_share_a_link_stall_and_go_on_together() -> None:
    # half rate each: 1 GB each is over at 2 s; from 5 s on the first takes 2 s more, the second 6 GB
    stalled = [fault(2.0, until=5.0, share=0, then="stall")]
    assert ends(record(sends(2e9, 6e9), line(4), faults=stalled)) == [7.0, 11.0]


def test_a_rerouted_transfer_takes_its_rest_the_other_way_with_the_latency_that_it_began_with() -> None:
    # on a ring of four the other way from 0 to 1 is three links, of the same rate
    fabric = line(4, latency=1.0)
    assert ends(record(sends(4e9), fabric)) == [5.0]
    assert ends(record(sends(4e9), fabric, faults=[fault(1.0, share=0)])) == [5.0]
    # what begins after the fault has the latency of three links
    assert ends(record(sends(4e9), fabric, faults=[fault(0.0, share=0)])) == [7.0]
    late = record(sends(1e9, 4e9, wait=2.0), fabric, faults=[fault(1.5, share=0)])
    assert ends(late) == [2.0, 9.0]


def test_a_rerouted_transfer_shares_links_with_those_that_are_there() -> None:
    # 0 -> 1 moves at 1 s onto 0 -> 3 -> 2 -> 1, where 3 -> 2 is busy with 4 GB from the beginning on
    here, there = program([("send", "send forward", 0, ())]), program([("receive", "receive forward", 0, ())])
    other, peer = program([("send", "send forward", 1, ())]), program([("receive", "receive forward", 1, ())])
    families = [Family("a", "pp", np.array([[0, 1]])), Family("b", "pp", np.array([[3, 2]]))]
    work = job(
        [here, there, peer, other],
        [0, 1, 2, 3],
        [1.0],
        [Message("a", "send", 3e9), Message("b", "send", 4e9)],
        families,
    )
    for fold in (True, False):
        recording = record(work, line(4), fold=fold, faults=[fault(1.0, share=0)])
        times = [recording.timeline.classes[int(recording.wiring.class_of[rank])].ended[0] for rank in range(4)]
        # from 1 s half rate each: the 2 GB that are left end at 5 s, then 1 GB of the other is left
        assert [int(time) / SECOND for time in times] == [5.0, 5.0, 6.0, 6.0]


def test_a_fault_at_the_instant_of_an_end_changes_nothing() -> None:
    assert ends(record(sends(4e9), line(4), faults=[fault(4.0, share=0, then="stall", until=9.0)])) == [4.0]
    assert ends(record(sends(4e9), line(4), faults=[fault(100.0)])) == [4.0]


def test_what_stalls_for_ever_is_named_with_its_dead_links() -> None:
    for fold in (True, False):
        with pytest.raises(WorkloadError, match=r"send on m0 of ranks 0, 1; dead: chip 0 -> chip 1"):
            record(sends(4e9), line(4), fold=fold, faults=[fault(1.0, share=0, then="stall")])


def test_what_nothing_else_joins_cannot_be_rerouted() -> None:
    cut = [fault(1.0, share=0), fault(1.0, link="chip 3 -> chip 2", share=0)]
    with pytest.raises(TopologyError, match="no path from chip 0 to chip 1"):
        record(sends(4e9), line(4), faults=cut)


def test_a_dead_link_gives_rate_zero_and_others_share_what_they_have() -> None:
    # two flows over links 0 and 1, one over link 1 alone; link 0 is dead
    link, flow = np.array([0, 1, 1]), np.array([0, 0, 1])
    ones = np.ones(3)
    for cap in (np.inf, 3.0):
        rate = max_min(np.array([0.0, 4.0]), link, flow, ones, ones.astype(np.int64), np.full(2, cap))
        assert rate.tolist() == [0.0, min(4.0, cap)]
    nothing = max_min(np.zeros(2), link, flow, ones, ones.astype(np.int64), np.full(2, np.inf))
    assert nothing.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(4))
def test_dead_links_among_many_shares(seed: int) -> None:
    # many different shares take the solver by levels
    draw = np.random.default_rng(seed)
    capacity = draw.uniform(1, 2, 40) * (draw.random(40) < 0.8)
    link, flow = draw.integers(0, 40, 240), np.repeat(np.arange(60), 4)
    rate = max_min(capacity, link, flow, np.ones(240), np.ones(240, dtype=np.int64), np.full(60, np.inf))
    load = np.bincount(link, rate[flow], 40)
    assert (load <= capacity * (1 + 1e-9)).all()
    crosses_dead = np.bincount(flow, capacity[link] == 0) > 0
    assert (rate[crosses_dead] == 0).all()
    assert (rate[~crosses_dead] > 0).all()


def test_links_that_cannot_bind_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # experts, stages and replicas on the same ports and leaves; with every shared link solved as if it bound
    layout = Layout(pp=4, dp=64, ep=32, zero=1)
    spec = TrainingExperiment(
        system=load("system", "dgx-h100"),
        chips=256,
        model=load("model", "deepseek-v2-lite"),
        layout=layout,
        batch=Batch(global_=64 * 8, sequence=4096),
        stack=load("stack", "megatron-lm"),
    )
    fast = evaluate(spec)
    monkeypatch.setattr(flows, "_FULL", -1)
    whole = evaluate(spec)
    assert whole.timeline.solves > fast.timeline.solves > 0
    assert whole.timeline.events > fast.timeline.events
    for one, other in zip(fast.timeline.classes, whole.timeline.classes, strict=True):
        for times in ("arrived", "started", "ended"):
            assert np.array_equal(getattr(one, times), getattr(other, times))
    assert fast.usage().busy == pytest.approx(whole.usage().busy, rel=1e-12)
