from collections.abc import Callable

import numpy as np
import pytest

from scaleout.errors import SpecError
from scaleout.report.memory import draw_memories, draw_memory, memory_table
from scaleout.report.style import render
from scaleout.simulate import record
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]


def test_the_curve_peaks_where_the_result_says_and_returns_to_where_it_began(small: Make) -> None:
    result, recording = record(small())
    table = memory_table(result, recording)
    assert max(stage.peak for stage in table.stages) == pytest.approx(result.memory.total)
    for stage in table.stages:
        assert np.allclose(stage.held[0], stage.held[-1])
        assert (np.diff(stage.time) >= 0).all()
        assert stage.time[-1] == pytest.approx(result.step_time)
    assert len(table.stages) in (3, 4)


def test_thinning_keeps_the_peak(small: Make) -> None:
    result, recording = record(small())
    whole, thin = memory_table(result, recording), memory_table(result, recording, most=20)
    assert max(len(stage.time) for stage in thin.stages) <= 21
    assert [stage.peak for stage in thin.stages] == [stage.peak for stage in whole.stages]


def test_stages_are_those_that_are_asked_for(small: Make) -> None:
    result, recording = record(small())
    table = memory_table(result, recording, stages=(0, -1), title="two stages")
    assert table.title == "two stages"
    assert [stage.label.split(" (")[0] for stage in table.stages] == ["stage 0", "stage 3"]
    with pytest.raises(SpecError, match="no stage 4; stages are 0 to 3"):
        memory_table(result, recording, stages=(4,))
    with pytest.raises(SpecError, match="the same number of stages"):
        draw_memories([table, memory_table(result, recording, stages=(1,))], "unlike")
    with pytest.raises(SpecError, match="at least one step"):
        draw_memories([], "none")


def test_the_figure_is_the_same_bytes_each_time(small: Make) -> None:
    result, recording = record(small())
    one, other = (render(draw_memory(memory_table(result, recording)), "memory") for _ in range(2))
    assert one == other
    assert one["memory.png"].startswith(b"\x89PNG")
