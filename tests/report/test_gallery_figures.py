"""Figures of steps, networks and collectives: their tables against what was simulated and published, and their ink."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from figure_ink import check_ink, words_of

from scaleout.collective import collective_table
from scaleout.errors import SpecError
from scaleout.io.catalogue import load
from scaleout.io.experiments import experiment
from scaleout.network import machine
from scaleout.report.links import LinkPanel, draw_links, link_panels
from scaleout.report.pipeline import draw_pipeline, draw_pipelines, pipeline_table
from scaleout.report.stacks import stack_table
from scaleout.report.style import HATCHES, headline, new_figure, render_as
from scaleout.report.topology import draw_topology, topology_picture
from scaleout.simulate import record, simulate

PLOTS = Path(__file__).parents[2] / "plots"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"drawn_{name}", PLOTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # its dataclasses look for their module
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def axis_words(figure: Any) -> list[str]:
    """Labels of all axes."""
    return [words for ax in figure.axes for words in (ax.get_xlabel(), ax.get_ylabel()) if words]


def drawn_alike(draw: Callable[[Any], Any], table: Any) -> None:
    """Twice from the same table; a figure that was drawn before is laid out from there on."""
    one, other = (render_as(draw(table), "svg") for _ in range(2))
    assert one == other


def test_stacks_add_up_to_the_steps_and_their_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = script("breakdown_stacks")
    layouts = dict(list(stacks.LAYOUTS.items())[:2])
    monkeypatch.setattr(stacks, "LAYOUTS", layouts)
    table = stacks.measure()
    results = [simulate(experiment(stacks.JOB, settings)) for settings in layouts.values()]
    assert table.labels == tuple(layouts)
    for bar, result in enumerate(results):
        assert table.seconds[bar].sum() == pytest.approx(result.step_time, rel=1e-12)
        for at, part in enumerate(table.parts):
            assert table.seconds[bar, at] == result.breakdown[part]
        assert table.band[bar] == result.error_band.relative * result.step_time
        assert f"MFU {result.mfu:.0%}" in table.ends[bar]
    assert np.allclose(table.shares.sum(axis=1), 1.0)
    # the published layout interleaves, which is what keeps its bubble small
    bubble = table.shares[:, table.parts.index("bubble")]
    assert bubble[0] < 0.5 * bubble[1]
    figure = stacks.draw(table)
    check_ink(figure)
    assert axis_words(figure) == ["time of one step, and its error band [s]", "share of the step [%]"]
    drawn_alike(stacks.draw, table)
    with pytest.raises(SpecError, match="no step"):
        stack_table([], "nothing")


def test_schedules_share_an_axis_and_leave_the_bubbles_that_they_should() -> None:
    pipelines = script("pipeline_diagram")
    tables = dict(zip(pipelines.SCHEDULES, pipelines.measure(), strict=True))
    bubble = {words.split(",")[0]: table.bubble for words, table in tables.items()}
    # (p - 1) / (v m + p - 1) of a step of nothing but passes (docs/schedules.md)
    assert bubble["1F1B"] == pytest.approx(3 / 11, abs=0.02)
    assert bubble["interleaved"] == pytest.approx(3 / 19, abs=0.03)
    assert bubble["ZB-V"] < bubble["ZB-H1"] < bubble["1F1B"]
    for words, table in tables.items():
        assert f"nothing runs in {table.bubble:.1%} of it" in table.title
        assert table.title.startswith(words)
        assert (table.rows, table.chunks) == (4, 1 if words in ("1F1B", "ZB-H1") else 2)
        # DualPipe's two directions count as chunks
    figure = pipelines.draw(list(tables.values()))
    check_ink(figure)
    assert {ax.get_xlim() for ax in figure.axes} == {(0.0, max(table.end for table in tables.values()))}
    assert axis_words(figure) == [*["stage"] * 4, "time [s]", "stage"]
    drawn_alike(pipelines.draw, list(tables.values()))
    with pytest.raises(SpecError, match="no step"):
        draw_pipelines([], "nothing")


def test_early_stages_hold_most_and_recomputation_little() -> None:
    memory = script("memory_over_time")
    plain, chunked, frugal = memory.measure()
    for table, settings in zip((plain, chunked, frugal), memory.WAYS.values(), strict=True):
        result = simulate(experiment(memory.JOB, settings))
        assert table.capacity == result.memory.capacity
        assert max(stage.peak for stage in table.stages) <= result.memory.total <= table.capacity
        for stage in table.stages:
            assert stage.time[-1] == pytest.approx(result.step_time)
            assert len(stage.time) <= memory.STEPS + 1
    held = {
        name: [stage.peak - stage.held.sum(axis=1).min() for stage in table.stages]
        for name, table in (("plain", plain), ("chunked", chunked), ("frugal", frugal))
    }
    # 1F1B: micro-batches of all eight stages in the first, of one in the last
    assert 5.0 < held["plain"][0] / held["plain"][1] < 8.0
    assert held["chunked"][0] > held["plain"][0]
    assert held["frugal"][0] < 0.15 * held["plain"][0]
    figure = memory.draw([plain, chunked, frugal])
    check_ink(figure)
    assert axis_words(figure) == ["HBM [GB]", *["time [s]", "HBM [GB]", "time [s]", "time [s]"]]
    drawn_alike(memory.draw, [plain, chunked, frugal])


def test_messages_meet_in_the_middle_of_a_mesh() -> None:
    links = script("topology_links")
    rows = dict(zip(links.fabrics(), links.measure(), strict=True))
    times = {
        name: collective_table("all_to_all", fabric, [links.SIZE]).rows[0].time
        for name, (_, fabric) in links.fabrics().items()
    }
    # a torus of 8: two hops in each dimension, half of them each way, so a link carries what a chip sends
    assert times["torus"] == pytest.approx(links.SIZE / links.BANDWIDTH, rel=1e-3)
    assert times["mesh"] == pytest.approx(2 * times["torus"], rel=1e-3)
    for panel in rows["torus"].panels:
        assert panel.busy == pytest.approx(np.ones((8, 8)), rel=1e-3)
    along, across = rows["mesh"].panels
    # of 8 in a row, i before a link send to 8 - i behind it
    line = np.array([i * (8 - i) for i in range(1, 8)]) / 16
    assert along.busy == pytest.approx(np.tile(line, (8, 1)), rel=1e-3)
    assert across.busy == pytest.approx(along.busy.T, rel=1e-9)
    for row in rows.values():
        assert len(row.picture.place) >= 64 or row is rows["dgx-h100"]
    assert len(rows["dgx-h100"].picture.place) == 32 + 4 + 8 + 1
    figure = links.draw(list(rows.values()))
    check_ink(figure)
    assert "utilisation of a link [%]" in axis_words(figure)
    drawn_alike(links.draw, list(rows.values()))


def test_lines_are_what_is_simulated_and_points_what_was_published() -> None:
    busbw = script("busbw_measured")
    curves = {(one.system, one.chips): one for one in busbw.measure()}
    assert set(busbw.MEASURED) < set(curves)
    assert curves["dgx-h100", 16_384].nodes == 2_048
    # bus bandwidths of 8 GiB as the sources have them [GB/s]
    published = {
        ("dgx-a100", 8): 234.61, ("dgx-h100", 8): 480.16, ("hgx-h200", 16): 485.57, ("aws-p6-b200", 8): 839.07,
        ("aws-p6-b200", 32): 380.39,
    }  # fmt: skip
    for key, expected in published.items():
        one = curves[key]
        assert one.points[-1] == pytest.approx((8 * 2**30, expected * 1e9), rel=1e-4)
        assert (np.diff(one.points[:, 0]) > 0).all() and len(one.off) == len(one.points) >= 9
        assert np.median(np.abs(one.off)) < 0.25
        # large buffers are what training sends
        assert np.abs(one.off[-3:]).max() < 0.12
    one = curves["hgx-h200", 16]
    row = collective_table("all_reduce", machine(load("system", "hgx-h200"), 16), [2.0**30]).rows[0]
    assert one.busbw[one.size == 2.0**30] == pytest.approx(row.busbw)
    figure = busbw.draw(list(curves.values()))
    check_ink(figure)
    assert axis_words(figure)[:2] == ["size of the buffer [byte]", "bus bandwidth [GB/s]"]
    drawn_alike(busbw.draw, list(curves.values()))


# --- from one chip on ----------------------------------------------------------------------------


def test_one_chip_is_drawn_too() -> None:
    job = {
        "kind": "training", "system": "dgx-h100", "chips": 1, "model": "gpt3-125m", "layout": {"tp": 1, "dp": 1},
        "batch": {"global": 1, "sequence": 2048},
    }  # fmt: skip
    result, recording = record(experiment(job))
    check_ink(draw_pipeline(pipeline_table(recording, result.name)))
    links = draw_links(link_panels(recording.topology, recording.busy_links()), result.name)
    check_ink(links)
    assert "0" in {word.get_text() for word, _ in words_of(links)}
    topology = draw_topology(topology_picture(recording.topology))
    check_ink(topology)
    words = {word.get_text() for word, _ in words_of(topology)}
    assert any(text.startswith("dgx-h100 x 1: 1 chip, 1 other vertex, 2 links") for text in words)
    assert {"1 x chip", "1 x switch"} <= words


def test_a_large_machine_is_drawn_too() -> None:
    topology = machine(load("system", "dgx-h100"), 16_384).topology
    check_ink(draw_topology(topology_picture(topology)))
    panels = link_panels(topology, np.linspace(0.0, 1.0, topology.links))
    check_ink(draw_links(panels, "links of a machine with a long name, more of it than a line has room for"))


def test_the_scale_of_links_is_that_of_all_panels() -> None:
    panels = [
        LinkPanel("a", np.full((1, 3), 0.01), "row", "link"),
        LinkPanel("b", np.full((2, 2), 0.07), "row", "link"),
    ]
    figure = draw_links(panels, "two")
    assert {ax.images[0].get_clim() for ax in figure.axes[:2]} == {(0.0, 10.0)}


def test_long_titles_are_broken_to_the_width_of_the_figure() -> None:
    figure = new_figure(3.0, 1.0)
    headline(figure, "a title of a good many words for so narrow a figure as this one")
    assert figure.get_suptitle().count("\n") == 1
    assert len(set(HATCHES.values())) == len(HATCHES)
