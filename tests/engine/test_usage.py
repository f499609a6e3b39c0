"""What links carry: conserved, within their rates, and the same folded or not, to the bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from machines import job, line, program, record

from scaleout.engine import Family, Message
from scaleout.engine.program import COMPUTE, RECEIVE
from scaleout.evaluate.event import Recording, evaluate
from scaleout.evaluate.links import link_use
from scaleout.simulate import record as simulated
from scaleout.specs import Fault, TrainingExperiment

Make = Callable[..., TrainingExperiment]

TINY: dict[str, Any] = {
    "model": "gpt3-125m", "chips": 32, "layout": {"tp": 2, "pp": 2, "dp": 8, "vpp": 1},
    "batch": {"global": 32, "sequence": 256},
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "sound": {},
    "everything beside kernels": {"stack": "megatron-lm"},
    "two chips a port": {"system": "vtrain-a100-4xhdr200"},
    "slow port": {"slow": {"ports": {5: 0.5}}},
    "degraded": {"faults": [{"at": "3 ms", "port": 5, "share": 0.5}]},
    "rerouted": {"faults": [{"at": "3 ms", "port": 5, "share": 0}]},
    "stalled": {"faults": [{"at": "3 ms", "until": "5 ms", "port": 5, "share": 0, "then": "stall"}]},
}


def asked(recording: Recording) -> float:
    """Bytes that all transfers put on all links in a network without faults: size by weight [byte]."""
    job, wiring = recording.job, recording.wiring
    total = 0.0
    for rank in range(job.ranks):
        program = job.programs[job.program_of[rank]]
        counts = np.bincount(program.item[(program.kind != COMPUTE) & (program.kind != RECEIVE)], minlength=1)
        for message, times in enumerate(counts.tolist()):
            if times:
                family = job.messages[message].family
                transfer = wiring.transfers[wiring.orbit_of[family, 0, int(wiring.class_of[rank])], message]
                senders = 1 if job.messages[message].operation == "send" else job.families[family].groups.shape[1]
                for leg in transfer.legs:
                    # every member counts its part of the group's load
                    _, weight, count = wiring.loads[leg.index]
                    total += times * leg.size * float((weight * count).sum()) / senders
    return total


def per_link(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of each link over the step, and in each bin."""
    use, of = recording.usage(), recording.wiring.link_of
    used = of >= 0
    return np.where(used, use.carried[of], 0.0), np.where(used[:, None], use.over_time[of], 0.0)


@pytest.mark.parametrize("name", CASES)
def test_folded_or_not_or_without_runs_every_link_carries_the_same(small: Make, name: str) -> None:
    spec = small(**TINY | CASES[name])
    folded, unfolded, singly = evaluate(spec), evaluate(spec, fold=False), evaluate(spec, runs=False)
    for mine, whole, events in zip(per_link(folded), per_link(unfolded), per_link(singly), strict=True):
        assert np.array_equal(mine, whole)
        assert np.array_equal(mine, events)
    assert link_use(folded) == link_use(unfolded)


@pytest.mark.parametrize("name", ["sound", "everything beside kernels", "two chips a port", "degraded", "stalled"])
def test_bytes_are_conserved(small: Make, name: str) -> None:
    recording = evaluate(small(**TINY | CASES[name]), fold=False)
    carried, over_time = per_link(recording)
    assert carried.sum() == pytest.approx(asked(recording), rel=1e-12)
    assert over_time.sum(axis=1) == pytest.approx(carried, rel=1e-6, abs=1.0)


@pytest.mark.parametrize("name", CASES)
def test_no_link_carries_more_than_its_rate_in_any_bin(small: Make, name: str) -> None:
    recording = evaluate(small(**TINY | CASES[name]))
    use = recording.usage()
    assert (use.over_time <= use.room * (1 + 1e-6) + 1.0).all()
    assert 0 < use.utilisation.max() <= 1 + 1e-6
    assert (np.diff(use.edges) > 0).all()
    assert use.edges[-1] == recording.timeline.end


def two(size: float) -> Any:
    sender = program(
        [("compute", "compute", 0, ()), ("send", "send forward", 0, (0,)), ("compute", "compute", 0, (1,))]
    )
    receiver = program([("receive", "receive forward", 0, ())])
    families = [Family("m", "pp", np.array([[0, 1]]))]
    return job([sender, receiver], [0, 1], [1.0], [Message("m", "send", size)], families)


def test_a_single_transfer_is_where_it_was_when_it_was() -> None:
    # idle for 1 s, 3 GB at 1 GB/s, idle for 1 s; in ten bins of half a second
    recording = record(two(3e9), line(4))
    use = recording.usage(10)
    assert use.carried.tolist() == [3e9]
    assert use.utilisation.tolist() == [[0.0, 0.0, *[1.0] * 6, 0.0, 0.0]]
    assert recording.wiring.topology.link_name(int(use.first[0])) == "chip 0 -> chip 1"


def test_a_dead_link_carries_nothing_and_the_way_around_carries_it_all() -> None:
    dead = Fault(at=2.0, link="chip 0 -> chip 1", share=0)
    recording = record(two(3e9), line(4), faults=[dead])
    topology, (carried, over_time) = recording.wiring.topology, per_link(recording)
    by_name = {topology.link_name(link): carried[link] for link in np.flatnonzero(carried)}
    around = dict.fromkeys(["chip 0 -> chip 3", "chip 3 -> chip 2", "chip 2 -> chip 1"], 2e9)
    assert by_name == {"chip 0 -> chip 1": 1e9, **around}
    assert not over_time[0, 40:].any()
    stalled = record(two(3e9), line(4), faults=[Fault(**{**vars_of(dead), "until": 4.0, "then": "stall"})])
    # 7 s in all, of which the link is alive for 5 and busy for 3
    (row,) = link_use(stalled)
    assert (row.bytes, row.busiest, row.busiest_utilisation) == (3e9, "chip 0 -> chip 1", 0.6)


def vars_of(fault: Fault) -> dict[str, Any]:
    return {name: getattr(fault, name) for name in ("at", "link", "share")}


def test_the_result_says_which_links_are_busy(small: Make) -> None:
    result, recording = simulated(small(**TINY))
    rows = {row.kind: row for row in result.links}
    assert list(rows) == [kind for kind in recording.wiring.topology.kinds if kind in rows]
    port = rows["port"]
    assert port.count == 64
    assert 0 < port.utilisation <= port.busiest_utilisation <= port.peak <= 1
    assert port.busiest.startswith(("chip", "leaf"))
    assert port.bytes >= port.busiest_bytes > 0
    assert len(port.over_time) == 100
    # all links of a kind have one rate here, and bins one length
    assert sum(port.over_time) / 100 == pytest.approx(port.utilisation, abs=2e-6)
    idle = rows["leaf-spine"]
    assert (idle.bytes, idle.busiest, idle.over_time) == (0.0, "", ())


def test_a_single_chip_has_links_that_carry_nothing(small: Make) -> None:
    result, _ = simulated(
        small(model="gpt2", chips=1, layout={"tp": 1, "pp": 1, "dp": 1, "vpp": 1}, batch={"global": 1, "sequence": 512})
    )
    assert all(row.bytes == 0 for row in result.links)
