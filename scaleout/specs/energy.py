"""What a chip draws, by what it does; equations and evidence in ``docs/energy.md``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scaleout.specs.fields import check_fields, freeze
from scaleout.units import JoulesPerByte, JoulesPerFlop, NotNegative, Share, Watts

__all__ = ["EnergyConstants"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyConstants:
    """Power of a chip = idle + flop x work rate + (vector + hbm) x byte rates + link x link rate, at most its limit.

    Parameters
    ----------
    idle
        Of a chip that is switched on and waits inside a job [W].
    flop
        Per operation of the matrix units, by the dtype of their rate (keys of `Chip.peak_flops`) [J/flop]. With
        all that goes with it but main memory: of a large product that draws P at a rate R, (P - idle) / R. A
        dtype that is not here takes that of another, by (ratio of the rates)^0.65.
    vector
        Per byte that elementwise passes move, beside the memory's own [J/byte].
    hbm
        Per byte from or to main memory at its full rate: cells, interface, network on chip, cache, and the cores
        that wait for it [J/byte]. Of kernels that memory binds and that draw P at a rate B, (P - idle) / B.
    hbm_slope
        At a share u of memory's rate a byte takes u^slope of `hbm` [1]; 0: always the same.
    link
        Per byte that leaves over the links to other chips [J/byte].
    exponent
        How the rate of matrix units follows the power above idle that a limit leaves [1].
    residual
        Mean absolute error of the mean power of a job [1]; None where nobody compared.
    """

    idle: Watts
    flop: Mapping[str, JoulesPerFlop]
    vector: JoulesPerByte = 0.0
    hbm: JoulesPerByte
    hbm_slope: Share = 0.0
    link: JoulesPerByte = 0.0
    exponent: Share = 0.5
    residual: NotNegative | None = None
    source: str
    unverified: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "flop")
