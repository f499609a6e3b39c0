"""What an optimizer keeps and moves of each parameter, and the products that Muon adds.

Adam keeps two moments of each parameter. Adafactor (Shazeer and Stern, arXiv 1804.04235) keeps the
second one alone, of a matrix as sums over its rows and over its columns. Muon (Jordan et al., 2024)
keeps the first one of the matrices of layers and makes their updates orthogonal by five
Newton-Schulz iterations; embedding, head and vectors are left to Adam.
"""

from scaleout.hardware import Rates
from scaleout.hardware.formats import format_of
from scaleout.hardware.rates import matmuls
from scaleout.parallel import Shard
from scaleout.specs import TrainingExperiment

__all__ = [
    "MASTER", "MUON_WIDTH", "end_moments", "expert_moments", "layer_moments", "matrices", "newton_schulz",
    "update_bytes",
]  # fmt: skip

MASTER = 4.0
"""A weight in fp32 [byte]."""
MUON_WIDTH = 2.0
"""Muon iterates in bf16 [byte]."""
_ITERATIONS = 5
_ADAM = 8.0
"""Adam's moments in fp32 [byte per parameter]."""
_SCALES = 8.0
"""Adafactor reads fp32 gradients twice more: for the sums of their squares, and for the size of the update, which it
limits [byte per parameter]."""


def matrices(s: Shard) -> tuple[tuple[float, float], ...]:
    """Rows and columns of the matrices of a dense layer on one rank."""
    attention = ((s.hidden, s.query), (s.hidden, s.key), (s.hidden, s.key), (s.query, s.hidden))
    return (*attention, *[(s.hidden, s.ffn)] * int(s.gates), (s.ffn, s.hidden))


def layer_moments(experiment: TrainingExperiment, s: Shard) -> float:
    """Moments of the dense parameters of a layer [byte]."""
    return _moments(experiment, matrices(s), s.layer, orthogonal=True)


def expert_moments(experiment: TrainingExperiment, s: Shard) -> float:
    """Moments of the experts of a layer [byte]."""
    return _moments(experiment, (), s.expert_layer, orthogonal=False)


def end_moments(experiment: TrainingExperiment, s: Shard, parameters: float) -> float:
    """Moments of embedding or head, whatever there is of them [byte]."""
    whole = parameters >= s.vocabulary * s.hidden
    return _moments(experiment, ((s.vocabulary, s.hidden),) if whole else (), parameters, orthogonal=False)


def _moments(
    experiment: TrainingExperiment, shapes: tuple[tuple[float, float], ...], parameters: float, *, orthogonal: bool
) -> float:
    width = format_of(experiment.states).left
    inside = sum(rows * columns for rows, columns in shapes)
    if experiment.optimizer == "adafactor":
        return width * (parameters - inside + sum(rows + columns for rows, columns in shapes))
    if experiment.optimizer == "muon" and orthogonal:
        return width * (2.0 * parameters - inside)
    return width * 2.0 * parameters


def update_bytes(experiment: TrainingExperiment, parameters: float, moments: float) -> float:
    """HBM traffic of an update: the stack's, with these moments read and written in place of Adam's [byte]."""
    nbytes = parameters * experiment.stack.optimizer_traffic + 2.0 * (moments - _ADAM * parameters)
    return nbytes + _SCALES * parameters if experiment.optimizer == "adafactor" else nbytes


def newton_schulz(rows: float, columns: float, rates: Rates) -> float:
    """Time to make a matrix orthogonal [s]: each iteration is X X', its square, and their product with X."""
    short, long = min(rows, columns), max(rows, columns)
    products = (
        matmuls(1.0, short, short, long, rates)
        + matmuls(1.0, short, short, short, rates)
        + matmuls(1.0, short, long, short, rates)
    )
    # its norm, and the division by it: three passes
    return _ITERATIONS * (products + 3.0 * rates.gap) + 3.0 * MUON_WIDTH * rows * columns / rates.elementwise
