"""Counts of a step's work: closed forms, and what does not depend on how it is laid out."""

from typing import Any

import numpy as np
import pytest

from scaleout.engine.program import COMPUTE, RECEIVE
from scaleout.io.experiments import experiment
from scaleout.specs import TrainingExperiment
from scaleout.training import work as counting
from scaleout.training.mixed import seats
from scaleout.training.step import build
from scaleout.training.work import step_work

MODEL = {
    "name": "small", "layers": 4, "hidden": 512, "heads": 8, "kv_heads": 4, "head_size": 64, "ffn": 1024,
    "vocabulary": 2048, "gated": True, "norm": "rms", "bias": False, "positions": "rope", "tied_embeddings": False,
    "max_sequence": 4096, "source": "made up",
}  # fmt: skip
SEQUENCE, GLOBAL = 256, 16


def made(*settings: str, **changes: Any) -> TrainingExperiment:
    base = {
        "kind": "training", "system": "hgx-h200", "chips": 8, "model": MODEL, "layout": {"dp": 8, "zero": 1},
        "batch": {"global": GLOBAL, "micro": 1, "sequence": SEQUENCE}, "precision": "bf16", "stack": "megatron-lm",
    }  # fmt: skip
    return experiment({**base, **changes}, settings)


def flop(spec: TrainingExperiment) -> float:
    """Of all ranks."""
    return float(step_work(spec).flop @ np.bincount(seats(spec)[0]))


def forward() -> tuple[float, float, float]:
    """Products of the layers, attention below the diagonal and on it, the head: of the whole batch [flop]."""
    h, heads, keys, size, ffn = 512, 8, 4, 64, 1024
    tokens = GLOBAL * SEQUENCE
    layer = 2 * h * (heads + 2 * keys) * size + 2 * heads * size * h + 3 * 2 * h * ffn
    pairs = GLOBAL * heads * SEQUENCE * (SEQUENCE + 1) / 2
    return 4.0 * tokens * layer, 4.0 * pairs * 2 * 2 * size, 2.0 * tokens * h * 2048


def test_operations_are_those_of_the_products_and_of_half_of_attention() -> None:
    layers, attention, head = forward()
    # two gradients of every product; attention multiplies queries and keys once more
    assert flop(made()) == pytest.approx(3 * layers + (1 + 2.5) * attention + 3 * head, rel=1e-9)


def test_recomputation_is_counted() -> None:
    layers, attention, _ = forward()
    more = flop(made("recompute=[full]")) - flop(made())
    assert more == pytest.approx(layers + attention, rel=1e-9)


@pytest.mark.parametrize(
    "layout",
    [
        {"tp": 2, "dp": 4, "sequence_parallel": True, "zero": 1},
        {"pp": 2, "dp": 4},
        {"pp": 2, "vpp": 2, "dp": 4, "zero": 1},
        {"dp": 8, "zero": 3},
    ],
)
def test_operations_do_not_depend_on_the_layout(layout: dict[str, Any]) -> None:
    assert flop(made(layout=layout)) == pytest.approx(flop(made()), rel=1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("precision=fp8",),
        ("optimizer=adafactor", "recompute=[norm]"),
        ("layout.schedule=zb-h1",),
        ("layout.vpp=2",),
    ],
)
def test_operations_of_the_pieces_are_those_of_the_whole_programs(settings: tuple[str, ...]) -> None:
    spec = made(*settings, layout={"pp": 2, "dp": 4}, batch={"global": 4 * 12, "micro": 1, "sequence": SEQUENCE})
    work, job = step_work(spec), build(spec)
    for number, program in enumerate(job.programs):
        kernels = program.kind == COMPUTE
        whole = {job.labels[item]: 0 for item in program.item[kernels].tolist()}
        for item in program.item[kernels].tolist():
            whole[job.labels[item]] += 1
        assert whole == {label: times for label, at in work.labels.items() if (times := work.times[number, at])}
        out = program.item[(program.kind != COMPUTE) & (program.kind != RECEIVE)].tolist()
        members = {name: family.groups.shape[1] for name, family in job.families.items()}
        messages = [job.messages[item] for item in out]
        assert work.sent[number] == pytest.approx(sum(one.leaving(members[one.family]) for one in messages), rel=1e-12)


def test_low_precision_moves_products_to_its_units_and_adds_casts() -> None:
    low, plain = step_work(made("precision=fp8")), step_work(made())
    layers, attention, head = forward()
    assert low.flop[0] == pytest.approx(plain.flop[0], rel=1e-9)
    # attention and the head stay in 16 bits
    assert 8 * low.totals[0, 1] == pytest.approx(3.5 * attention + 3 * head, rel=1e-9)
    assert 8 * low.totals[0, 0] == pytest.approx(3 * layers, rel=1e-9)
    assert low.totals[0, 2] > plain.totals[0, 2]
    assert low.totals[0, 3] < plain.totals[0, 3]


def test_time_is_never_less_than_the_work_at_the_full_rates() -> None:
    spec = made()
    chip, work = spec.system.chip, step_work(spec)
    assert (work.products >= work.work[:, :2].sum(axis=1) / chip.flops("bf16") * (1 - 1e-9)).all()
    assert (work.products * chip.hbm_bandwidth >= work.work[:, 3] * (1 - 1e-9)).all()
    assert (work.passes * chip.hbm_bandwidth >= work.work[:, 2] * (1 - 1e-9)).all()


def test_programs_that_count_run_the_same_operations() -> None:
    spec = made("precision=fp8", layout={"tp": 2, "pp": 2, "dp": 2, "sequence_parallel": True, "zero": 2})
    for unit in ("bytes", "all", "fp8"):
        twin = build(counting._twin(spec, unit))
        for mine, other in zip(build(spec).programs, twin.programs, strict=True):
            assert (mine.kind == other.kind).all()
            assert (mine.stream == other.stream).all()


def test_what_leaves_a_chip_is_what_rings_send() -> None:
    parameters = 2 * 2048 * 512 + 4 * (512 * 16 * 64 + 512 * 512 + 3 * 512 * 1024 + 2 * 512) + 512
    # gradients in 32 bits are reduced, parameters in 16 gathered
    assert step_work(made()).sent[0] == pytest.approx(parameters * (4 + 2) * 7 / 8, rel=1e-6)
