from collections.abc import Callable
from itertools import pairwise

import pytest

from scaleout.report.pipeline import draw_pipeline, pipeline_table
from scaleout.report.style import PASS_COLOURS, render_as
from scaleout.simulate import record
from scaleout.specs import TrainingExperiment
from scaleout.training import SCHEDULES, timetable

Make = Callable[..., TrainingExperiment]


@pytest.mark.parametrize(("name", "vpp"), [("1f1b", 1), ("zb-v", 2), ("dualpipe", 1)])
def test_boxes_are_the_passes_in_order_and_never_over_each_other(small: Make, name: str, vpp: int) -> None:
    spec = small(chips=16, layout={"tp": 2, "pp": 4, "dp": 2, "vpp": vpp, "schedule": name}, batch={"global": 20})
    result, recording = record(spec)
    table = pipeline_table(recording, result.name)
    steps = timetable(SCHEDULES[name], 4, vpp, 10).steps
    for stage in range(4):
        boxes = [box for box in table.boxes if box.row == stage]
        passes = [(box.kind, box.micro_batch, box.chunk) for box in boxes if box.kind]
        assert passes == [tuple(one) for step in steps[stage] for one in step]
        alone = [box for box in boxes if box.half < 2]
        assert all(a.end <= b.start < b.end for a, b in pairwise(alone))
        assert all(a[1:3] == b[1:3] for a, b in pairwise(boxes) if b.half == 2)
        assert 0 < table.idle(stage) < 1
    assert boxes[-1].end <= table.end == pytest.approx(result.step_time)


def test_the_figure_numbers_its_boxes_and_is_the_same_each_time(small: Make) -> None:
    layout = {"tp": 2, "pp": 4, "dp": 1, "vpp": 2, "schedule": "zb-v"}
    spec = small(chips=8, layout=layout, batch={"global": 7})
    _, recording = record(spec)
    table = pipeline_table(recording, "pipeline")
    figure = draw_pipeline(table)
    (ax,) = figure.axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time [ms]", "pipeline stage")
    numbers = [text.get_text() for text in ax.texts]
    # forward, input and weight gradients of 7 micro-batches through 8 chunks
    assert sorted(numbers) == sorted(3 * 8 * [str(m) for m in range(7)])
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words[:3] == ["forward", "input gradient", "weight gradient"]
    assert len(PASS_COLOURS) == len(set(PASS_COLOURS.values()))
    assert render_as(figure, "svg") == render_as(draw_pipeline(table), "svg")
