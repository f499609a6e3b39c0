"""Optimizers: what they keep of each parameter, what an update moves, and Muon's products."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from scaleout.engine.program import COLLECTIVE
from scaleout.evaluate.event import evaluate
from scaleout.hardware import pack
from scaleout.parallel import shard
from scaleout.specs import TrainingExperiment
from scaleout.training import build
from scaleout.training.optimizer import end_moments, layer_moments, matrices, newton_schulz, update_bytes

Make = Callable[..., TrainingExperiment]
ALONE = {"tp": 1, "pp": 1, "dp": 8, "vpp": 1, "sequence_parallel": False, "zero": 1}


def on_a_node(small: Make, **changes: object) -> TrainingExperiment:
    layout = {**ALONE, **changes.pop("layout", {})}  # type: ignore[dict-item]
    spec = small(chips=8, batch={"global": 16}, stack="torchtitan", layout=layout, **changes)
    return replace(spec, model=replace(spec.model, layers=4))


@pytest.mark.parametrize(("states", "width"), [("fp32", 4), ("bf16", 2), ("fp8", 1)])
def test_adam_keeps_two_moments(small: Make, states: str, width: int) -> None:
    spec = on_a_node(small, states=states)
    mine = shard(spec)
    assert layer_moments(spec, mine) == 2 * width * mine.layer
    assert end_moments(spec, mine, mine.head) == 2 * width * mine.head


def test_adafactor_keeps_a_row_and_a_column_of_each_matrix(small: Make) -> None:
    spec = on_a_node(small, optimizer="adafactor")
    mine = shard(spec)
    # Llama-3.1 8B: queries and output 4096 x 4096, keys and values 4096 x 1024, three of 4096 x 14336, two norms
    sums = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336) + 2 * 4096
    assert layer_moments(spec, mine) == 4 * sums
    assert end_moments(spec, mine, mine.head) == 4 * (128256 + 4096 + 4096)


def test_the_matrices_of_a_layer_are_its_parameters_but_for_the_norms(small: Make) -> None:
    mine = shard(on_a_node(small))
    assert sum(rows * columns for rows, columns in matrices(mine)) == mine.layer - 2 * 4096


def test_muon_keeps_one_moment_of_matrices_and_two_of_the_rest(small: Make) -> None:
    spec = on_a_node(small, optimizer="muon")
    mine = shard(spec)
    assert layer_moments(spec, mine) == 4 * (mine.layer - 8192) + 8 * 8192
    assert end_moments(spec, mine, mine.head) == 8 * mine.head


def test_an_update_moves_what_it_keeps(small: Make) -> None:
    adam = on_a_node(small)
    # weights in fp32 and gradients: 12 bytes; moments are read and written
    assert update_bytes(adam, 1.0, 8.0) == adam.stack.optimizer_traffic == 12 + 2 * 8
    assert update_bytes(replace(adam, states="bf16"), 1.0, 4.0) == 12 + 2 * 4
    assert update_bytes(replace(adam, optimizer="adafactor"), 1.0, 0.0) == 12 + 8


@pytest.mark.parametrize(("rows", "columns"), [(4096, 4096), (4096, 14336), (14336, 4096)])
def test_newton_schulz_has_the_flops_of_its_products(small: Make, rows: int, columns: int) -> None:
    spec = on_a_node(small)
    chip, rates = spec.system.chip, pack(spec.system.chip, spec.stack, "bf16")
    short, long = min(rows, columns), max(rows, columns)
    flops = 5 * (4 * short**2 * long + 2 * short**3)
    least = flops / chip.peak_flops["bf16"]
    assert least < newton_schulz(rows, columns, rates) < 2 * least
    assert newton_schulz(rows, columns, rates) == newton_schulz(columns, rows, rates)


def test_muon_deals_matrices_out_over_the_ranks(small: Make) -> None:
    def seconds(dp: int, zero: int) -> float:
        spec = on_a_node(small, optimizer="muon", layout={"dp": dp, "tp": 8 // dp, "zero": zero})
        return next(label.seconds for label in build(spec).labels if label.name == "newton-schulz")

    # four layers: every shape comes a multiple of four times
    assert seconds(4, 1) == pytest.approx(seconds(4, 0) / 4)
    assert seconds(8, 0) == pytest.approx(seconds(4, 0))


def test_sharded_matrices_are_brought_to_their_rank_and_back(small: Make) -> None:
    spec = on_a_node(small, optimizer="muon", layout={"zero": 3})
    job = build(spec)
    (program,) = job.programs
    moved = [job.messages[item] for item in program.item[program.kind == COLLECTIVE].tolist()]
    exchanged = [message.nbytes for message in moved if message.operation == "all_to_all"]
    layers = spec.model.layers * (shard(spec).layer - 2 * 4096)
    assert exchanged == [pytest.approx(2 * layers / 8)] * 2
    assert evaluate(spec).timeline.end > evaluate(replace(spec, optimizer="adam")).timeline.end
