import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from scaleout.comparison import compare
from scaleout.errors import ScaleoutError
from scaleout.report.breakdown import breakdown_table, draw_breakdown
from scaleout.report.comparison import comparison_tables, draw_comparison
from scaleout.report.files import figure_file, output_folder, write_all, write_atomically
from scaleout.report.scaling import draw_scaling, scaling_tables
from scaleout.report.style import render
from scaleout.report.trace import trace_json
from scaleout.scaling import scaling_table
from scaleout.simulate import record
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]


def test_the_breakdown_table_has_a_bar_a_class_that_sums_to_the_step(small: Make) -> None:
    result, recording = record(small())
    table = breakdown_table(result, recording)
    assert table.labels == ("0", "1", "2", "3")
    assert table.seconds.sum(axis=1) == pytest.approx(np.full(4, result.step_time))
    assert table.memory.sum(axis=1) == pytest.approx(np.array(result.memory.stages))
    assert table.left_out == 0


def test_many_classes_are_thinned_out_and_say_so(small: Make) -> None:
    result, recording = record(small(), fold=False)
    table = breakdown_table(result, recording)
    assert len(table.labels) == 32
    assert table.left_out == 32
    assert table.labels[0] == "0 (rank 0)"


@pytest.mark.parametrize(
    "case", [{}, {"chips": 1, "layout": {"tp": 1, "pp": 1, "dp": 1, "vpp": 1}, "model": "gpt3-125m"}]
)
def test_figures_are_the_same_bytes_each_time(small: Make, case: dict[str, object]) -> None:
    files = [render(draw_breakdown(breakdown_table(*record(small(**case)))), "x") for _ in range(2)]
    assert files[0] == files[1]
    assert files[0]["x.png"].startswith(b"\x89PNG")
    assert b"time of one step [ms]" in files[0]["x.svg"]


def test_no_text_of_the_figure_overlaps_another(small: Make) -> None:
    figure = draw_breakdown(breakdown_table(*record(small(slow={"chips": {5: 0.8}}))))
    figure.canvas.draw()
    for ax in figure.axes:
        boxes = [label.get_window_extent() for label in ax.get_yticklabels() if label.get_visible()]
        assert all(a.y0 >= b.y1 or b.y0 >= a.y1 for i, a in enumerate(boxes) for b in boxes[i + 1 :])
        legend, title = ax.get_legend().get_window_extent(), figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
        assert legend.y1 <= title.y0


def test_the_timeline_is_a_chrome_trace_of_the_step(small: Make) -> None:
    result, recording = record(small())
    trace = json.loads(trace_json(recording))
    rows = trace["traceEvents"]
    names = {row["args"]["name"] for row in rows if row["name"] == "process_name"}
    assert names == {f"stage {s}: rank {16 * s} and 15 like it" for s in range(4)}
    slices = [row for row in rows if row["ph"] == "X"]
    assert {row["name"] for row in slices} >= {"attention", "mlp", "F0.0", "B7.1", "update", "gradient norm"}
    assert max(row["ts"] + row["dur"] for row in slices) == pytest.approx(result.step_time * 1e6, abs=0.01)
    # slices of one thread do not overlap, the property that a viewer needs
    threads: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for row in slices:
        threads.setdefault((row["pid"], row["tid"]), []).append((row["ts"], row["ts"] + row["dur"]))
    for spans in threads.values():
        spans.sort()
        assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(spans))
    held = [row["args"]["held"] for row in rows if row["ph"] == "C" and row["pid"] == 0]
    assert max(held) == pytest.approx(result.memory.stages[0] / 1e9, rel=0.02)


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a", b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    with pytest.raises(ScaleoutError, match="cannot be written"), output_folder(path / "below"):
        pass
    (tmp_path / "taken").mkdir()
    with pytest.raises(ScaleoutError, match="cannot be written"):
        write_all(tmp_path, {"b": b"1", "taken": b"2"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "taken"]


def test_a_folder_without_output_does_not_stay(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no luck"), output_folder(tmp_path / "a" / "b"):
        raise ValueError("no luck")
    assert list(tmp_path.iterdir()) == []


def text_of(renderable: object) -> str:
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_comparison_and_scaling_fit_a_terminal_and_are_drawn_alike_each_time(small: Make) -> None:
    comparison = compare(small(), small(recompute=["full"], batch={"global": 64}))
    text = text_of(comparison_tables(comparison, "one.yaml", "other[/].yaml"))
    for words in (
        "other[/].yaml",
        "recompute",
        "batch.global",
        "step time",
        "HBM at its peak",
        "share a token",
        "B takes",
    ):
        assert words in text
    scaling = scaling_table(small(), [32, 40, 64])
    table = text_of(scaling_tables(scaling))
    assert "40 chips: not a multiple" in table
    assert "…" not in table
    for draw in (lambda: draw_comparison(comparison, "a", "b"), lambda: draw_scaling(scaling)):
        assert render(draw(), "x") == render(draw(), "x")


def test_a_figure_names_its_kind_and_a_folder_that_is_there(tmp_path: Path) -> None:
    assert (figure_file(tmp_path / "x.PNG"), figure_file(tmp_path / "x.svg")) == ("png", "svg")
    for path in (tmp_path / "x.pdf", tmp_path / "x", tmp_path / "no" / "x.png", tmp_path / ".."):
        with pytest.raises(ScaleoutError):
            figure_file(path)
