"""Time of a fused kernel of experts on one chip: products of tokens with the experts that they chose.

Tiles of all experts share the waves of one kernel, and every expert that is chosen has its weights
read. Equations, constants and their errors are in ``docs/layers.md``.
"""

import math
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.errors import SpecError
from scaleout.hardware.formats import format_of
from scaleout.hardware.gemm import gemm_constants, gemm_vector, joined, menu, quantise_vector
from scaleout.hardware.systolic import expert_work
from scaleout.hardware.vector import KIND, SYSTOLIC
from scaleout.specs import Chip, GemmConstants, GroupedConstants

__all__ = ["Loads", "experts_seconds", "grouped_constants", "loads", "loop_bytes"]

_DRAWS = 5.0
"""Draws of popular experts that a loop of the published tables goes round (ai-dynamo/aiconfigurator,
collector/trtllm/collect_moe.py); where all are alike every turn is the same."""
_PASSES = 0.8
"""Share of HBM bandwidth that passes of tokens to experts and back reach [1]."""


class Loads(NamedTuple):
    """Experts of a rank.

    Parameters
    ----------
    rows
        Tokens that each is expected to get.
    taken
        Probability that it gets any.
    """

    rows: Floats
    taken: Floats


def loads(tokens: int, top_k: int, experts: int, ranks: int, exponent: float | None) -> Loads:
    """What the busiest of the ranks gets.

    Parameters
    ----------
    exponent
        Of a power law, by whose quantiles between 1 and 0.8 `tokens` experts are popular; which rank
        holds which is drawn once. None: all alike.
    """
    mine = experts // ranks
    if exponent is None:
        copies = float(tokens * top_k)
        return Loads(np.full(mine, copies / experts), np.full(mine, min(1.0, copies / experts)))
    at = (np.arange(experts) + 0.5) / experts
    power, largest = 1.0 - exponent, max(2.0, 0.8 * tokens)
    popular = ((largest**power - 1.0) * at + 1.0) ** (1.0 / power)
    chance = popular * (top_k / popular.sum())
    while (chance > 1.0 + 1e-12).any():
        # nobody is chosen twice by a token: what is over goes to the others
        full = chance >= 1.0
        chance = np.where(full, 1.0, chance * ((top_k - full.sum()) / chance[~full].sum()))
    chance = np.minimum(chance, 1.0)
    if ranks > 1:
        dealt = np.random.default_rng(0).permutation(chance).reshape(ranks, mine)
        chance = dealt[dealt.sum(axis=1).argmax()]
    return Loads(tokens * chance, 1.0 - (1.0 - chance) ** tokens)


def grouped_constants(chip: Chip, dtype: str) -> GroupedConstants:
    """Constants of fused kernels of experts.

    Raises
    ------
    SpecError
        The chip has none for the dtype.
    """
    constants = gemm_constants(chip, dtype).grouped
    if constants is None:
        raise SpecError(f"chip {chip.name!r} has no constants of fused experts (gemm.{dtype}.grouped)")
    return constants


def loop_bytes(dtype: str, hidden: int, ffn: int, each: Loads, *, drawn: bool) -> float:
    """Weights that a loop over one shape reads again and again [byte].

    Parameters
    ----------
    drawn
        The experts of every turn are drawn anew, as those of a power law are.
    """
    read = 1.0 - (1.0 - each.taken) ** _DRAWS if drawn else each.taken
    return float(read.sum()) * 3.0 * hidden * ffn * format_of(dtype).right


def experts_seconds(
    chip: Chip, dtype: str, tokens: int, hidden: int, ffn: int, each: Loads, *, loop: float = math.inf
) -> float:
    """Experts with a gate of inner width `ffn`, from `tokens` tokens to the sums of what their experts give [s].

    Parameters
    ----------
    loop
        Weights that a benchmark's loop reads turn after turn, from `loop_bytes` [byte]; without one they come from HBM.
    """
    c, vector = grouped_constants(chip, dtype), gemm_vector(chip, dtype)
    plain = gemm_constants(chip, dtype)
    ratio = plain.l2_ratio if isinstance(plain, GemmConstants) else None
    # from L2, where they stayed from the turn before, or from HBM
    faster = (ratio or math.inf) / plain.hbm_efficiency if loop <= c.l2_resident else 1.0
    rows = float(each.rows.sum())
    seconds = _product(vector, c, each, 2.0 * ffn, float(hidden), faster)
    seconds += _product(vector, c, each, float(hidden), float(ffn), faster)
    # tokens to their experts, gate, results back and their sum
    nbytes = 4.0 * tokens * hidden + 4.0 * rows * hidden + 6.0 * rows * ffn
    seconds += nbytes / (chip.hbm_bandwidth * _PASSES)
    if dtype not in ("bf16", "fp16"):
        seconds += (tokens * hidden + rows * ffn) * float(quantise_vector(chip, dtype)[1])
    return c.launch + seconds


def _product(vector: Floats, c: GroupedConstants, each: Loads, n: float, k: float, faster: float) -> float:
    """C_e[m_e, n] = A_e[m_e, k] B_e[k, n] of every expert in one kernel, without its launch [s]."""
    m = menu(vector)
    traffic = each.rows.sum() * (k * m.left + 2.0 * n) + each.taken.sum() * k * n * m.right / faster
    hbm = c.traffic * float(traffic) / m.hbm
    rows = each.rows / np.maximum(each.taken, 1e-12)
    if vector[KIND] >= SYSTOLIC:
        return joined(c.work * expert_work(vector, rows, each.taken, n, k), hbm, m.norm)
    best = math.inf
    for high, wide, unit in m.tiles:
        tiles = float((each.taken * np.ceil(rows / high - 1e-9)).sum()) * math.ceil(n / wide)
        full = math.floor(tiles / m.cores)
        part = tiles / m.cores - full
        waves = full + (m.tail + (1.0 - m.tail) * part if part > 0.0 else 0.0)
        work = max(1.0, waves) * k * unit * c.work
        starved = hbm * (1.0 + m.idle * max(0.0, m.cores / tiles - 1.0))
        extra = m.overhead * max(0.0, math.ceil(tiles / m.cores) - 1.0)
        best = min(best, extra + joined(work, starved, m.norm))
    return best
