"""A chip: what the data sheet says, and the constants of its kernels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from scaleout.errors import SpecError, near
from scaleout.specs.attention import AttentionConstants
from scaleout.specs.design import Design
from scaleout.specs.elementwise import ElementwiseConstants
from scaleout.specs.energy import EnergyConstants
from scaleout.specs.fields import check_fields, freeze
from scaleout.specs.gemm import GemmConstants
from scaleout.specs.kernels import KernelTable
from scaleout.specs.systolic import SystolicConstants
from scaleout.units import (
    Bytes,
    BytesPerSecond,
    Dollars,
    Flops,
    Number,
    Positive,
    Watts,
)

__all__ = ["RATES", "Chip"]

RATES = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "fp6", "fp4", "int8", "int4", "int2", "int1")
"""Dtypes that units multiply; block formats run at the rate of their elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One accelerator, as its data sheet describes it.

    Parameters
    ----------
    aliases
        Other names under which published tables know it.
    cores
        Streaming multiprocessors, or whatever runs one tile at a time.
    peak_flops
        Dense rate per dtype [flop/s].
    hbm_bytes, hbm_bandwidth
        Capacity [byte] and peak rate [byte/s].
    power
        Board power limit [W].
    sustained
        Rate that long runs of matrix multiplications hold under the power cap, per dtype, where
        the data sheet's clock does not last [flop/s]; kernels that are slower anyway do not feel it.
    best
        Rate of the best large product that somebody measured, per dtype [flop/s]; of use where the other constants are
        those of another chip (`like`).
    l2_bytes
        Capacity of the cache that all cores share [byte]; None where unknown.
    exponentials
        Exponentials that all cores compute [1/s]; None where unknown.
    power_limit
        What the board is held to, where that is less than `power` [W].
    gemm, attention, elementwise
        Constants per dtype (of tiles, or of systolic arrays), per kernel name, and per operation.
    tables
        Measurements of its kernels, by "gemm" and "attention", which go before the constants.
    energy
        What it draws, by what it does; None where unknown.
    price
        Of one, in quantities of a cluster [USD]; None where unknown.
    price_source
        Of it, with its date.
    year
        In which it was first sold; None for a chip that does not exist.
    process
        Of the compute die, such as "N4".
    like
        The chip whose kernels these constants were measured on, where that is another; "" for its own.
    design
        What it was made from, where it is a design and no product.
    source
        Where the figures come from; a chip without a source is refused.
    unverified
        Fields that nobody has checked against a source.
    """

    name: str
    aliases: tuple[str, ...] = ()
    vendor: str
    cores: Annotated[int, Number(low=1, high=1_000_000, above=False, integer=True)]
    peak_flops: Mapping[str, Flops]
    hbm_bytes: Bytes
    hbm_bandwidth: BytesPerSecond
    l2_bytes: Bytes | None = None
    exponentials: Positive | None = None
    power: Watts
    power_limit: Watts | None = None
    sustained: Mapping[str, Flops] = field(default_factory=dict)
    sustained_source: str = ""
    best: Mapping[str, Flops] = field(default_factory=dict)
    gemm: Mapping[str, GemmConstants | SystolicConstants] = field(default_factory=dict)
    attention: Mapping[str, AttentionConstants] = field(default_factory=dict)
    elementwise: Mapping[str, ElementwiseConstants] = field(default_factory=dict)
    tables: Mapping[str, KernelTable] = field(default_factory=dict)
    energy: EnergyConstants | None = None
    price: Dollars | None = None
    price_source: str = ""
    year: Annotated[int, Number(low=1950, high=2100, above=False, integer=True)] | None = None
    process: str = ""
    like: str = ""
    design: Design | None = None
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "peak_flops", "sustained", "best", "gemm", "attention", "elementwise", "tables")
        for kind, table in self.tables.items():
            if table.kind != kind:
                raise SpecError(f"chip.{self.name}.tables.{kind}: a table of {table.kind} is not accepted here")
        for dtype in self.peak_flops:
            if dtype not in RATES:
                raise SpecError(f"chip.{self.name}.peak_flops: unknown dtype {dtype!r:.40}; {near(dtype, RATES)}")
        for dtype, rate in self.best.items():
            if dtype not in self.peak_flops:
                raise SpecError(f"chip.{self.name}.best: no rate of {dtype!r:.40}; {near(dtype, self.peak_flops)}")
            if rate > self.peak_flops[dtype]:
                raise SpecError(
                    f"chip.{self.name}.best.{dtype}: {rate / 1e12:,.4g} TFLOP/s is above the data sheet's "
                    f"{self.peak_flops[dtype] / 1e12:,.4g} TFLOP/s"
                )
        if not self.source.strip():
            raise SpecError(f"chip.{self.name}.source: a chip needs a source for its figures")

    def flops(self, dtype: str) -> float:
        """Dense peak of a dtype [flop/s]."""
        if dtype not in self.peak_flops:
            raise SpecError(f"chip {self.name!r} has no rate for {dtype!r}; {near(dtype, self.peak_flops)}")
        return self.peak_flops[dtype]

    def ridge(self, dtype: str) -> float:
        """Arithmetic intensity at which compute overtakes HBM [flop/byte]."""
        return self.flops(dtype) / self.hbm_bandwidth
