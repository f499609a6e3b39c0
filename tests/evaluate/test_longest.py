"""The longest path through Programs: the recurrence's step where that holds, and right where only it does."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from random_layouts import random_experiments

from scaleout.engine import Family, Job, Message
from scaleout.engine.program import COLLECTIVE, COMPUTE, RECEIVE, SEND, STREAMS, Label
from scaleout.errors import PlanError, ScaleoutError, SpecError, WorkloadError
from scaleout.evaluate.alone import Ground
from scaleout.evaluate.analytic import Analysis, analyse, analyse_programs, uncovered
from scaleout.evaluate.breakdown import breakdown, ends_last
from scaleout.evaluate.event import evaluate
from scaleout.evaluate.longest import longest
from scaleout.io.catalogue import load
from scaleout.parallel.block import Block, Tables, join
from scaleout.space import PROBLEMS, analyse_many, design_space
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]


@pytest.fixture(scope="module")
def analyses() -> list[tuple[TrainingExperiment, Analysis, Analysis]]:
    """Layouts by the Programs and by the recurrence, on machines of all kinds."""
    made = []
    for rails, count in ((True, 90), (False, 40)):
        for spec in islice(random_experiments(seed=11, rails=rails), count):
            if uncovered(spec):
                continue
            try:
                made.append((spec, analyse_programs(spec, compiled=False), analyse(spec, compiled=False)))
            except ScaleoutError:
                # no constants for the stack's attention kernel, or no tree of so many nodes
                continue
    return made


def test_the_recurrence_is_the_longest_path(analyses: list[tuple[TrainingExperiment, Analysis, Analysis]]) -> None:
    assert len(analyses) >= 40
    for spec, mine, theirs in analyses:
        assert mine.end == theirs.end, spec.layout
        for part in ("compute", "optimizer", "exposed_tp", "imbalance"):
            assert mine.parts[part] == theirs.parts[part], (part, spec.layout)
        assert mine.parts.keys() == theirs.parts.keys()
        for one, other in zip(mine.peaks, theirs.peaks, strict=True):
            assert one == pytest.approx(other, abs=1.0)


def test_the_parts_sum_exactly_to_the_step(analyses: list[tuple[TrainingExperiment, Analysis, Analysis]]) -> None:
    for _, mine, _ in analyses:
        assert sum(mine.parts.values()) == mine.end
        assert min(mine.parts.values()) >= 0


def test_plain_equals_compiled(analyses: list[tuple[TrainingExperiment, Analysis, Analysis]]) -> None:
    for spec, mine, _ in analyses[::10]:
        assert analyse_programs(spec) == mine


def test_alone_on_its_links_the_breakdown_is_the_events(small: Make) -> None:
    spec = small(chips=4, layout={"tp": 1, "pp": 4, "dp": 1, "vpp": 1, "sequence_parallel": False, "zero": 0})
    # forward and backward sends leave a chip on one link; so do no two here, for one micro-batch
    spec = replace(spec, batch=replace(spec.batch, global_=1))
    event = evaluate(spec)
    mine = analyse_programs(spec, compiled=False)
    assert mine.end == event.timeline.end
    assert mine.parts == breakdown(event, ends_last(event))


LAYOUTS = {
    "zero 2": {"zero": 2},
    "fsdp": {"zero": 3, "pp": 1, "vpp": 1, "dp": 16},
    "hsdp": {"zero": 3, "pp": 1, "vpp": 1, "dp": 16, "shard": 4},
    "gpipe": {"schedule": "gpipe", "vpp": 1},
    "split backward": {"schedule": "zb-h1", "vpp": 1},
    "v": {"schedule": "zb-v"},
    "both ways": {"schedule": "dualpipe", "vpp": 1},
    "pipeline first": {"order": ["pp", "tp", "cp", "dp"]},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_simulated_step_is_shorter_whatever_the_programs_say(small: Make, name: str) -> None:
    spec = small(layout=LAYOUTS[name], batch={"sequence": 512})
    assert uncovered(spec)
    try:
        event = evaluate(spec)
    except PlanError as error:
        pytest.skip(str(error))
    mine = analyse_programs(spec, compiled=False)
    assert mine.end <= event.timeline.end
    # what is left out is links that gathers of weights and collectives of layers share
    assert mine.end >= 0.65 * event.timeline.end
    assert sum(mine.parts.values()) == mine.end
    # kernels take the same time in both
    parts = breakdown(event, ends_last(event))
    assert (mine.parts["compute"], mine.parts["optimizer"]) == (parts["compute"], parts["optimizer"])


def ring(late: float, *, crossed: bool = False) -> Job:
    """Two programs of two ranks each; each sends to the other beside a kernel, and all meet at the end."""
    tables = Tables()
    programs = []
    for program, seconds in enumerate((1e-3, late)):
        block = Block(tables)
        to, fro = (("there", "back"), ("back", "there"))[program]
        if crossed:
            # each waits for the other's message before it sends its own
            got = block.receive(Message(fro, "send", 1e6), "receive forward")
            block.send(Message(to, "send", 1e6), "send forward", (got,))
        else:
            work = block.compute(Label("work", "compute", (("matmul", seconds),)))
            block.send(Message(to, "send", 1e6), "send forward", (work,))
            got = block.receive(Message(fro, "send", 1e6), "receive forward")
        block.collective(Message("all", "all_reduce", 0.0), (got,), STREAMS.index("ep"))
        programs.append(join([block.freeze()], [""]))
    pairs = np.array([[0, 2], [1, 3]])
    return Job(
        programs=programs,
        program_of=np.array([0, 0, 1, 1]),
        families={
            "there": Family("there", "pp", pairs),
            "back": Family("back", "pp", pairs[:, ::-1].copy()),
            "all": Family("all", "ep", np.arange(4)[None, :]),
        },
        labels=list(tables.labels),
        messages=list(tables.messages),
        memory_kinds=("weights",),
        static=[{}, {}],
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_messages_match_by_order_and_a_meeting_waits_for_its_last(compiled: bool) -> None:
    job, ground = ring(2e-3), Ground(load("system", "dgx-h100"), 4)
    first, second = longest(job, ground, compiled=compiled)
    assert [int(job.programs[0].kind[op]) for op in range(4)] == [COMPUTE, SEND, RECEIVE, COLLECTIVE]
    sent, got, met = 1, 2, 3
    assert first.ended[0] == 1_000_000_000
    assert first.started[sent] == second.started[got] == first.ended[0]
    assert first.arrived[got] == 0
    # the later message holds everybody up, on both sides alike
    assert first.started[got] == second.started[sent] == 2_000_000_000
    moving = first.ended[got] - first.started[got]
    assert moving == second.ended[sent] - second.started[sent] > 0
    assert second.arrived[met] < first.arrived[met] == first.started[met] == second.started[met]
    assert first.ended[met] == second.ended[met]


def test_programs_that_wait_for_each_other_are_named() -> None:
    with pytest.raises(WorkloadError, match=r"for ever(.|\n)*rank 0, stream receive forward: operation 0"):
        longest(ring(0.0, crossed=True), Ground(load("system", "dgx-h100"), 4), compiled=False)


def test_what_has_no_time_model_and_what_no_recurrence_knows(small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small(layout={"zero": 3}, optimizer="adafactor")
    assert uncovered(spec) == ["layout.zero", "optimizer"]
    with pytest.raises(SpecError, match=r"design_space: layout.zero, optimizer: .*analyse_many"):
        design_space(spec, tp=[1, 2])
    monkeypatch.setattr("scaleout.space.analyse_programs", _refuse)
    assert PROBLEMS[analyse_many([spec]).problem[0]] == "no time model"


def _refuse(*_: object, **__: object) -> Analysis:
    raise PlanError("layout.zero: no time model exists for what is asked here")
