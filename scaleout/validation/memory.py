"""HBM of a training step: the ledger against the published closed form (arXiv 2205.05198, figures 1 and 7).

The paper counts the layers of the first stage, the fullest: 18 bytes a parameter, and the
activations of the micro-batches under way, with attention that keeps its scores, and dropout.
Embedding, loss and what exists only while an operation runs are left out, so they are here.
"""

from functools import cache
from pathlib import Path

from scaleout.errors import SpecError
from scaleout.hardware import pack
from scaleout.io.experiments import experiment
from scaleout.io.table import Row, Watch, take_rows
from scaleout.models import LayerKind
from scaleout.parallel import Tables, shard
from scaleout.specs import TrainingExperiment
from scaleout.training.memory import stage_peaks
from scaleout.training.stages import Chunk
from scaleout.training.state import State
from scaleout.training.step import build
from scaleout.validation.agreement import Agreement, Compared, Skipped

__all__ = ["COLUMNS", "MODELS", "MODES", "compare", "held"]

COLUMNS = ("model", "mode", "params_optimizer_gib", "activations_gib", "activations_pct_of_tp_baseline")
MODELS = {
    "megatron-22B": "megatron-22b-selective",
    "gpt3-175B": "megatron-175b-selective",
    "turing-530B": "megatron-530b-selective",
    "megatron-1T": "megatron-1t-selective",
}
"""The paper's configurations (table 3) by the names of the table."""
MODES: dict[str, tuple[bool, tuple[str, ...]]] = {
    "none": (False, ()),
    "seqpar": (True, ()),
    "selective": (False, ("core_attention",)),
    "seqpar+selective": (True, ("core_attention",)),
    "full": (False, ("full",)),
}
"""Sequence parallelism, and what is recomputed; "none" is the baseline, tensor parallelism alone."""
_GIB = 2.0**30
_STATE = ("weights", "gradients", "optimizer")


def compare(path: Path, watch: Watch | None = None) -> Agreement:
    """Every figure of the table; a row may hold two."""
    rows = [found for row in take_rows(path, COLUMNS, _compare_row, watch) for found in row]
    return Agreement.of("memory", rows, combined=[("model", "quantity")], unit="byte")


def _compare_row(row: Row) -> list[Compared | Skipped]:
    name, mode = row.text("model"), row.text("mode", tuple(MODES))
    state = row.optional_number("params_optimizer_gib")
    activations = row.optional_number("activations_gib")
    share = row.optional_number("activations_pct_of_tp_baseline")
    if name not in MODELS:
        return [Skipped(row.line, f"layout of {name!r} is not known; known: {', '.join(MODELS)}")]
    here = held(name, mode)
    # a share is compared in bytes, as part of the simulated baseline: its error is that of the share
    baseline = held(name, "none")[1]
    quantities = {
        "parameters and optimizer": (state, _GIB, here[0]),
        "activations": (activations, _GIB, here[1]),
        "activations over baseline": (share, baseline / 100, here[1]),
    }
    found: list[Compared | Skipped] = []
    for quantity, (value, factor, simulated) in quantities.items():
        if value is None:
            continue
        if mode == "none" and quantity == "activations over baseline":
            found.append(Skipped(row.line, "the baseline over itself says nothing"))
        else:
            keys = {"source": row.optional("source"), "model": name, "mode": mode, "quantity": quantity}
            found.append(Compared(row.line, keys, value * factor, simulated))
    return found or [Skipped(row.line, "holds no measurement")]


@cache
def held(name: str, mode: str) -> tuple[float, float]:
    """Parameters with optimizer, and activations, of the layers of the first stage [byte]."""
    spec = _experiment(name, mode)
    kind = LayerKind()
    state = State(spec, {kind: shard(spec)}, pack(spec.system.chip, spec.stack, spec.precision), Tables())
    static = state.static([Chunk((kind,) * (spec.model.layers // spec.layout.pp), embedding=False, loss=False)])
    return sum(static[kind] for kind in _STATE), stage_peaks(build(spec))[0]["activations"]


def _experiment(name: str, mode: str) -> TrainingExperiment:
    """The paper's run; where one stage holds everything, the loss is moved to a stage of its own."""
    sequence_parallel, modules = MODES[mode]
    settings = (
        f"layout.sequence_parallel={str(sequence_parallel).lower()}",
        f"recompute=[{', '.join(modules)}]",
        "stack.attention=unfused",
        "stack.dropout=true",
    )
    spec = experiment(MODELS[name], settings)
    layout, batch = spec.layout, spec.batch
    if layout.pp > 1:
        return spec
    if batch.global_ != batch.micro * layout.dp:
        raise SpecError(f"{MODELS[name]}: more than one micro-batch without a pipeline")
    return experiment(
        MODELS[name], (*settings, "layout.pp=2", f"model.layers={2 * spec.model.layers}", f"chips={2 * spec.chips}")
    )
