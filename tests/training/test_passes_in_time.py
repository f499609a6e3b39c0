"""Schedules as Programs: whole seconds of the engine where layers alone take time; bytes, memory, folding."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from unit_time import run

from scaleout.engine.hbm import ledger
from scaleout.engine.program import RECEIVE, SEND, Job
from scaleout.errors import PlanError
from scaleout.evaluate.event import evaluate
from scaleout.hardware import pack
from scaleout.parallel import kept_of, options, rows, shard
from scaleout.specs import TrainingExperiment
from scaleout.training import SCHEDULES, build
from scaleout.training.memory import stage_peaks

Make = Callable[..., TrainingExperiment]
EVERY = [
    ("gpipe", 1),
    ("gpipe", 2),
    ("1f1b", 1),
    ("interleaved", 2),
    ("zb-h1", 1),
    ("zb-v", 2),
    ("dualpipe", 1),
    ("dualpipe-v", 2),
]
SECONDS = {rows.F_MLP: 2.0, rows.B_MLP_DATA: 2.0, rows.B_MLP_WEIGHT: 1.0}
TIMES = {"F": 2, "B": 3, "I": 2, "W": 1, "&": 5}


def tiny(small: Make, name: str, vpp: int, micro_batches: int, pp: int = 4) -> TrainingExperiment:
    """A chip a stage and a layer a chunk."""
    layout = {"tp": 1, "pp": pp, "dp": 1, "vpp": vpp, "schedule": name, "zero": 0, "sequence_parallel": False}
    spec = small(chips=pp, layout=layout, batch={"global": micro_batches, "sequence": 128})
    return replace(spec, model=replace(spec.model, layers=pp * vpp))


def layers_alone(job: Job) -> Job:
    """Kernels that are not the feed-forward block take no time."""
    taken = {rows.LABELS[index]: seconds for index, seconds in SECONDS.items()}
    return replace(
        job,
        slower=None,
        labels=[replace(label, parts=(("matmul", taken.get(label.name, 0.0)),)) for label in job.labels],
    )


@pytest.mark.parametrize("micro_batches", [8, 10])
@pytest.mark.parametrize(("name", "vpp"), EVERY)
def test_the_engine_takes_whole_passes_as_long_as_the_recurrence(
    small: Make, name: str, vpp: int, micro_batches: int
) -> None:
    spec = tiny(small, name, vpp, micro_batches)
    recording = evaluate(spec, job=layers_alone(build(spec)))
    end, _ = run(SCHEDULES[name], 4, vpp, micro_batches, TIMES)
    # messages, which take milliseconds, are all that is beside the layers
    assert round(recording.timeline.end / 1e12) == end
    assert end - 0.1 < recording.timeline.end / 1e12 < end + 0.1


@pytest.mark.parametrize(("name", "vpp"), EVERY)
def test_folded_and_unfolded_are_the_same_integers(small: Make, name: str, vpp: int) -> None:
    layout = {"tp": 2, "pp": 4, "dp": 2, "vpp": vpp, "schedule": name}
    spec = small(chips=16, layout=layout, batch={"global": 20})
    folded, unfolded = evaluate(spec), evaluate(spec, fold=False, compiled=False)
    for rank in range(spec.chips):
        mine = folded.timeline.classes[int(folded.wiring.class_of[rank])]
        assert np.array_equal(mine.ended, unfolded.timeline.classes[rank].ended)


@pytest.mark.parametrize(("name", "vpp"), EVERY)
def test_bytes_and_memory_add_up(small: Make, name: str, vpp: int) -> None:
    spec = small(layout={"vpp": vpp, "schedule": name, "zero": 1})
    job, copies = build(spec), 2 if name == "dualpipe" else 1
    sent, received = (
        sum(job.messages[item].nbytes for p in job.programs for item in p.item[p.kind == kind].tolist())
        for kind in (SEND, RECEIVE)
    )
    # a V turns round inside its last stage
    boundaries = 4 * vpp - 1 - (SCHEDULES[name].placement == "v")
    activation = spec.batch.sequence * spec.model.hidden * 2 / spec.layout.tp
    assert sent == received == 2 * boundaries * spec.micro_batches * activation
    for program, static in zip(job.programs, job.static, strict=True):
        messages = [job.messages[item] for item in program.item[program.kind > 0].tolist()]
        family = "dp" if copies == 1 else "dp_copies"
        for operation, kind in (("reduce_scatter", "gradients"), ("all_gather", "weights")):
            moved = sum(m.nbytes for m in messages if (m.family, m.operation) == (family, operation))
            assert moved == pytest.approx(static[kind])
        assert static["optimizer"] == pytest.approx(static["weights"] / 2 * 12 / (4 * copies))
        book = ledger(program, static, job.memory_kinds)
        assert book.held[-1] == pytest.approx(book.held[0], abs=1.0)
        assert (book.held >= -1.0).all()
    once = build(small(layout={"vpp": 1})).static
    assert sum(s["weights"] for s in job.static) == copies * sum(s["weights"] for s in once)


def test_zb_h1_keeps_inputs_until_the_weight_gradient(small: Make) -> None:
    # stage p of 4 has 4 - p micro-batches whole and p that wait for their weight gradients
    spec = small(layout={"vpp": 1, "schedule": "zb-h1"})
    kept = kept_of(shard(spec), options(spec), pack(spec.system.chip, spec.stack, spec.precision))
    peaks = stage_peaks(build(spec))
    for stage in (1, 2):
        least = 8 * ((3 - stage) * kept.layer + stage * kept.waiting)
        more = peaks[stage]["activations"] - least
        # the last one is between its forward pass and the end of its input gradients
        assert 8 * min(kept.layer, kept.waiting) <= more <= 8 * max(kept.layer, kept.waiting) * (1 + 1e-9)


def test_stages_of_any_size_and_mistakes_in_them(small: Make) -> None:
    layout = {"vpp": 1, "chunks": [5, 10, 10, 7]}
    job = build(small(layout=layout))
    weights = [static["weights"] for static in job.static]
    assert weights[1] == weights[2]
    layer = shard(small()).layer * 2
    ends = [weights[0] - 5 * layer, weights[3] - 7 * layer]
    even = [static["weights"] - 8 * layer for static in build(small(layout={"vpp": 1})).static]
    assert ends == pytest.approx([even[0], even[3]])
    for chunks, words in (
        ([16, 16], "2 chunks; accepted: pp 4 x vpp 1 = 4"),
        ([8, 8, 8, 9], "33 layers"),
        ([16, 0, 8, 8], "chunk 1 is empty"),
    ):
        with pytest.raises(PlanError, match=words):
            build(small(layout={"vpp": 1, "chunks": chunks}))


def test_an_embedding_alone_on_its_chunk_goes_through_split_passes(small: Make) -> None:
    layout = {"vpp": 2, "schedule": "zb-v", "chunks": [0, 5, 5, 5, 5, 5, 7, 0]}
    spec = small(layout=layout)
    recording, job = evaluate(spec), build(spec)
    assert recording.timeline.end > 0
    messages = [job.messages[item] for item in job.programs[0].item[job.programs[0].kind > 0].tolist()]
    reduced = sum(m.nbytes for m in messages if (m.family, m.operation) == ("dp", "reduce_scatter"))
    assert reduced == pytest.approx(job.static[0]["gradients"])


def test_tied_embeddings_on_one_stage_are_one_matrix_and_need_no_message(small: Make) -> None:
    def built(**layout: object) -> Job:
        return build(small(model="gemma-2b", chips=16, layout={"tp": 1, "pp": 4, "dp": 4, **layout}))

    loop, v, both = (
        built(vpp=2), built(vpp=2, schedule="zb-v"), built(vpp=1, schedule="dualpipe")
    )  # fmt: skip
    assert "embedding" in loop.families
    assert "embedding" not in {*v.families, *both.families}
    weights = [sum(static["weights"] for static in job.static) for job in (loop, v, both)]
    matrix = 2 * 256_000 * 2048
    assert weights[0] - weights[1] == pytest.approx(matrix)
    assert weights[2] == pytest.approx(2 * weights[1])


def test_the_example_of_the_docs_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scaleout.training.registry.SCHEDULES", dict(SCHEDULES))
    exec(code, {})
    assert "forward" in (tmp_path / "pipeline.svg").read_text()


def test_the_docs_name_every_schedule() -> None:
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
    assert [name for name in SCHEDULES if f"| `{name}` |" not in page] == []
