"""Kernels beside transfers: fluid closed forms, order, runs and folding."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from machines import job, line, patterns_on, program, same
from random_layouts import random_experiments

from scaleout.engine import Contention, Family, Job, Label, Message, Timeline, discrete, equitable, quotient, run
from scaleout.engine.contention import NOTHING, Kernels, Row, Segment, Stretch, Taken
from scaleout.evaluate.event import evaluate
from scaleout.specs import TrainingExperiment
from scaleout.training.step import build

SECOND = 1_000_000_000_000


def slowed(labels: Sequence[Label], taken: Taken) -> list[float]:
    """Of 10 cores those held are missing; of 1 GB/s of HBM what is taken."""
    return [label.seconds / ((1 - taken.cores / 10) * (1 - taken.traffic / 1e9)) for label in labels]


def beside(
    work: Job, *, cores: dict[int, int], moved: dict[int, float], fold: bool = True, runs: bool = True, chips: int = 2
) -> Timeline:
    fabric = line(chips)
    patterns = patterns_on(fabric, work)
    wiring = quotient(work, fabric, patterns, equitable(work, fabric, patterns) if fold else discrete(work, fabric))

    def takes(message: int, group: int) -> Taken:
        alone = patterns[message].alone(fabric, work.messages[message].nbytes, group)
        return Taken(cores.get(message, 0), round(moved.get(message, 0.0) / alone))

    contention = Contention(takes, lambda taken: slowed(work.labels, taken))
    return run(work, wiring, runs=runs, contention=contention)


def reducing(seconds: Sequence[float], nbytes: float) -> Job:
    """A kernel, then a reduction beside the other kernels."""
    ops = [("compute", "compute", 0, ()), ("collective", "dp", 0, (0,))]
    ops += [("compute", "compute", label, ()) for label in range(1, len(seconds))]
    family = Family("dp", "dp", np.array([[0, 1]]))
    return job([program(ops)], [0, 0], seconds, [Message("dp", "all_reduce", nbytes)], [family])


def test_a_kernel_slows_while_a_transfer_holds_cores_and_not_after() -> None:
    # the reduction takes from 1 s to 3 s; with half of the cores the second kernel does 1 s of its 4 s
    times = beside(reducing([1.0, 4.0], 2e9), cores={0: 5}, moved={}).classes[0]
    assert times.ended.tolist() == [SECOND, 3 * SECOND, 6 * SECOND]


def test_hbm_is_taken_at_the_rate_of_the_transfer() -> None:
    # 1.5 GB in 2 s of 1 GB/s: a quarter is left, and 0.5 s of work is done meanwhile
    times = beside(reducing([1.0, 4.0], 2e9), cores={}, moved={0: 1.5e9}).classes[0]
    assert times.ended.tolist() == [SECOND, 3 * SECOND, 6 * SECOND + SECOND // 2]


def test_a_kernel_that_ends_as_something_comes_has_ended() -> None:
    times = beside(reducing([1.0, 1.0, 1.0, 1.0], 2e9), cores={0: 5}, moved={}).classes[0]
    # two kernels of a second do not fit beside the reduction: one takes two, those after it one each
    assert times.ended.tolist() == [SECOND, 3 * SECOND, 3 * SECOND, 4 * SECOND, 5 * SECOND]


def test_cores_are_held_from_arrival_and_hbm_is_taken_from_the_start() -> None:
    family = Family("dp", "dp", np.array([[0, 1]]))
    early = program([("collective", "dp", 0, ()), ("compute", "compute", 0, ())])
    late = program([("compute", "compute", 1, ()), ("collective", "dp", 0, (0,))])
    work = job([early, late], [0, 1], [6.0, 2.0], [Message("dp", "all_reduce", 2e9)], [family])
    held = beside(work, cores={0: 5}, moved={})
    # half of the cores for 4 s until the reduction ends
    assert held.classes[0].ended.tolist() == [4 * SECOND, 8 * SECOND]
    taken = beside(work, cores={}, moved={0: 1e9})
    # half of HBM for its 2 s
    assert taken.classes[0].ended.tolist() == [4 * SECOND, 7 * SECOND]
    assert held.classes[1].ended[0] == taken.classes[1].ended[0] == 2 * SECOND


def test_a_send_holds_cores_only_while_it_moves() -> None:
    sender = program([("compute", "compute", 1, ()), ("send", "send forward", 0, (0,))])
    receiver = program([("receive", "receive forward", 0, ()), ("compute", "compute", 0, ())])
    family = Family("p2p", "pp", np.array([(0, 1)]))
    work = job([sender, receiver], [0, 1], [6.0, 2.0], [Message("p2p", "send", 2e9)], [family])
    times = beside(work, cores={0: 5}, moved={})
    assert times.classes[1].ended.tolist() == [4 * SECOND, 7 * SECOND]


def test_without_cores_and_traffic_nothing_changes() -> None:
    work = reducing([1.0, 4.0, 0.5], 2e9)
    alone = beside(work, cores={}, moved={}).classes[0]
    assert alone.ended.tolist() == [SECOND, 3 * SECOND, 5 * SECOND, 5 * SECOND + SECOND // 2]


def kernels(seconds: Sequence[float]) -> Kernels:
    labels = [Label(str(value), "compute", (("matmul", value),)) for value in seconds]
    return Kernels(Contention(lambda *_: NOTHING, lambda taken: slowed(labels, taken)), 1.0)


def test_what_counts_is_how_it_is_at_the_end_of_an_instant() -> None:
    stretch = kernels([3.0]).alone(0, 3 * SECOND)
    half, most = Taken(5, 0), Taken(9, 0)
    plain = stretch.changed(stretch.begun(NOTHING), SECOND, half)
    assert plain.end == 5 * SECOND
    # the engine goes back to the course before the instant, whatever happened in it
    assert stretch.changed(stretch.begun(NOTHING), SECOND, most).before is stretch.begun(NOTHING)


@pytest.mark.parametrize("seed", range(6))
def test_a_stretch_goes_as_its_operations_one_by_one(seed: int) -> None:
    # segments, and the courses through them, against one segment of everything
    draw = np.random.default_rng(seed)
    seconds = draw.integers(1, 9, 6) / 8.0
    shared = kernels(seconds.tolist())
    rows = []
    for at in range(24):
        after = tuple(sorted({int(n) for n in draw.integers(max(0, at - 3), at, 2)})) if at else ()
        if draw.random() < 0.4 and at and at < 23:
            rows.append(Row(1, -1, int(draw.integers(0, SECOND)), Taken(int(draw.integers(0, 4)), 0), after))
        else:
            label = int(draw.integers(6))
            rows.append(Row(0, label, round(seconds[label] * SECOND), NOTHING, after))
    # the last waits for all
    rows[-1] = rows[-1]._replace(after=tuple(range(23)))
    stretch = Stretch(rows, shared)
    assert len(stretch._segments) > 1
    history = [(0, NOTHING)]
    course = stretch.begun(NOTHING)
    for at in sorted(int(n) for n in draw.integers(1, 9 * SECOND, 7)):
        taken = Taken(int(draw.integers(0, 6)), 0)
        if at < course.end and taken != history[-1][1]:
            course = stretch.changed(course, at, taken)
            history.append((at, taken))
    begin, end = Segment(tuple(rows), shared).timed(tuple(history))
    assert stretch.times(course).tolist() == [begin, end]
    assert course.end == end[-1]


def drawn(count: int) -> list[TrainingExperiment]:
    """Experiments that fit, of stacks that overlap."""

    def fits(spec: TrainingExperiment) -> bool:
        known = spec.stack.attention in (*spec.system.chip.attention, "unfused")
        overlaps = spec.stack.overlap_gradient_reduction or spec.stack.overlap_tensor_parallel
        return known and overlaps and 1 < spec.chips <= 32

    return list(islice((spec for spec in random_experiments(11, 3) if fits(spec)), count))


def test_random_steps_fold_and_run_alike_and_are_no_faster_than_alone() -> None:
    slowed_down = 0
    for number, spec in enumerate(drawn(10)):
        spec = replace(spec, contention=("all", "cores", "hbm")[number % 3])
        work = build(spec)
        folded, unfolded, single = (
            evaluate(spec, job=work, fold=fold, runs=runs)
            for fold, runs in ((True, True), (False, True), (True, False))
        )
        assert same(folded, unfolded)
        assert same(folded, single)
        alone = evaluate(replace(spec, contention="none"))
        assert folded.timeline.end >= alone.timeline.end
        slowed_down += folded.timeline.end > alone.timeline.end
    assert slowed_down >= 5


def test_sharded_weights_fold_and_slow_by_what_is_overlapped(small: Callable[..., TrainingExperiment]) -> None:
    layout = {"tp": 1, "pp": 1, "dp": 16, "vpp": 1, "zero": 3, "sequence_parallel": False}
    spec = small(chips=16, stack="llm-foundry", layout=layout, batch={"global": 16}, contention="all")
    spec = replace(spec, model=replace(spec.model, layers=4), stack=replace(spec.stack, attention="flash-attention-2"))
    folded, unfolded, single = (
        evaluate(spec, fold=fold, runs=runs) for fold, runs in ((True, True), (False, True), (True, False))
    )
    assert same(folded, unfolded)
    assert same(folded, single)
    alone = evaluate(replace(spec, contention="none")).timeline.end
    assert 1.0 < folded.timeline.end / alone < 1.25
