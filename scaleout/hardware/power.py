"""Power of a chip by what it does, and what a limit of it does to its rates; ``docs/energy.md``."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Floats
from scaleout.errors import SpecError
from scaleout.hardware.formats import FORMATS
from scaleout.specs import AttentionConstants, Chip, EnergyConstants, GemmConstants, SystolicConstants
from scaleout.units import describe

__all__ = ["Drawn", "default_energy", "drawn", "eased", "energy_of", "flop_energy", "limit_of", "settled", "throttled"]

_IDLE = 0.22
"""Idle over the power limit [1]: 148 of 700 W on an H200, 270 of 1,000 W on a B200."""
_REACHED = 0.7
"""Share of the dense rate that long products hold at the limit [1], where no sustained rate is known: 0.70 in bf16 on
an H200, 0.63 on a B200."""
_NARROW = 0.65
"""Exponent by which an operation of fewer bits takes less energy: on the H200 fp8 takes 0.65 of bf16's at twice the
rate, on the B200 0.68, and fp4 at four times the rate 0.37."""
_HBM = 100e-12
"""A byte of memory and all on its way [J/byte]: 108 on an H200, 78 on a B200."""
_MOST_HBM = 0.85
"""Share of the limit that kernels draw which memory binds [1]: 0.85 on an H200, 0.71 on a B200."""
_LINK = 40e-12
"""A byte over links to other chips [J/byte]: 5 pJ a bit, the class of NVLink; from memory."""
_AT_LIMIT = 0.97
"""Share of the limit from which on a kernel counts as slowed by it [1]."""


class Drawn(NamedTuple):
    """Energy beside idle power of operations, each an array of one shape.

    Parameters
    ----------
    compute, vector, hbm
        [J]
    capped
        Whether the chip's limit held the operation down.
    """

    compute: Floats
    vector: Floats
    hbm: Floats
    capped: Bools


def energy_of(chip: Chip) -> EnergyConstants:
    """The chip's constants; by `default_energy` where it has none."""
    return chip.energy or default_energy(chip)


def default_energy(chip: Chip) -> EnergyConstants:
    """Constants from the power limit and the rates of a data sheet.

    Idle is a share of the limit; a long product in 16 bits draws all of it; memory takes what it takes on chips
    with stacks of HBM, but no more than keeps a kernel that it binds below the limit.
    """
    idle = _IDLE * chip.power
    dtype = next((name for name in ("bf16", "fp16") if name in chip.peak_flops), min(chip.peak_flops))
    rate = chip.sustained.get(dtype, _REACHED * chip.peak_flops[dtype])
    hbm = min(_HBM, (_MOST_HBM * chip.power - idle) / chip.hbm_bandwidth)
    return EnergyConstants(
        idle=idle,
        flop={dtype: (chip.power - idle) / rate},
        hbm=hbm,
        link=_LINK,
        source=(
            f"by rule from {describe(chip.power, 'W')}: {_IDLE:.0%} of it at rest, all of it at "
            f"{describe(rate, 'flop/s')} in {dtype}; {hbm * 1e12:.0f} pJ a byte of memory"
        ),
        unverified=("idle", "flop", "hbm", "link", "exponent"),
    )


def limit_of(chip: Chip) -> float:
    """What the board is held to [W].

    Raises
    ------
    SpecError
        Not more than it draws at rest.
    """
    limit, idle = min(chip.power_limit or chip.power, chip.power), energy_of(chip).idle
    if limit <= idle:
        raise SpecError(
            f"chip.power_limit: {describe(limit, 'W')} is not above the {describe(idle, 'W')} that {chip.name} draws "
            f"at rest; accepted: up to {describe(chip.power, 'W')}"
        )
    return limit


def flop_energy(chip: Chip, dtype: str) -> float:
    """An operation of the matrix units at the rate of a dtype [J/flop]."""
    known = energy_of(chip).flop
    if dtype in known:
        return known[dtype]
    other = next((name for name in ("bf16", "fp16") if name in known), min(known))
    if dtype not in chip.peak_flops or other not in chip.peak_flops:
        return known[other]
    return known[other] * float((chip.peak_flops[other] / chip.peak_flops[dtype]) ** _NARROW)


def drawn(chip: Chip, rates: tuple[str, str], work: Floats, products: Floats, passes: Floats, seconds: Floats) -> Drawn:
    """Energy beside idle power of operations, held to the chip's limit.

    Parameters
    ----------
    rates
        Dtypes of the rates at which the first two columns of `work` run.
    work
        Operations of the matrix units at each [flop], bytes of elementwise passes and of products with
        attention [byte]. Shape (..., 4).
    products, passes, seconds
        Time of products with attention, of passes, and all of it [s].
    """
    c, room = energy_of(chip), limit_of(chip) - energy_of(chip).idle
    compute = work[..., 0] * flop_energy(chip, rates[0]) + work[..., 1] * flop_energy(chip, rates[1])
    vector = work[..., 2] * c.vector
    rate = chip.hbm_bandwidth
    hbm = _memory(c, work[..., 2], passes * rate) + _memory(c, work[..., 3], products * rate)
    total, most = compute + vector + hbm, room * seconds
    share = _ratio(most, np.maximum(total, most))
    capped = total >= _AT_LIMIT * most
    return Drawn(compute * share, vector * share, hbm * share, capped & (total > 0.0))


def _memory(c: EnergyConstants, nbytes: Floats, could: Floats) -> Floats:
    """Bytes that are moved in the time in which so many `could` be [J]."""
    found: Floats = c.hbm * nbytes * _ratio(nbytes, np.maximum(nbytes, could)) ** c.hbm_slope
    return found


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Of a part to its whole [1]; 1 where there is nothing."""
    found: Floats = np.divide(part, whole, out=np.ones_like(whole), where=whole > 0.0)
    return found


# --- a lower limit -------------------------------------------------------------------------------


def throttled(chip: Chip) -> Chip:
    """The chip as a lower `power_limit` leaves it: matrix units slower, memory and links as ever.

    The rates of its file were measured under `power`. At each of them the chip draws idle + rate x energy, at
    most `power`; where a limit L is less, the rate falls by ((L - idle) / (draw - idle))^exponent. What is given
    back has the limit as its `power` and none below it, so doing it twice does nothing more.

    Raises
    ------
    SpecError
        The limit is not above what the chip draws at rest.
    """
    if chip.power_limit is None or chip.power_limit >= chip.power:
        return chip
    limit, energy = limit_of(chip), energy_of(chip)
    full = {dtype: chip.sustained.get(dtype, _burst(chip, dtype)) for dtype in chip.peak_flops}
    left = {dtype: _left(chip, dtype, rate, limit) for dtype, rate in full.items()}
    return replace(
        chip,
        power=limit,
        power_limit=None,
        energy=energy,
        sustained={**chip.sustained, **{dtype: full[dtype] * share for dtype, share in left.items() if share < 1.0}},
        sustained_source=f"{chip.sustained_source}; held to {describe(limit, 'W')}".lstrip("; "),
        gemm={name: _slower_experts(c, left.get(FORMATS[name].rate, 1.0)) for name, c in chip.gemm.items()},
        attention={name: _slower_attention(chip, one, limit) for name, one in chip.attention.items()},
    )


def settled(chip: Chip) -> Chip:
    """The chip with its energy, and the rates that its limit sustains, as figures of its own.

    By rule they would follow from rates and limit, and so from whatever of these is changed next: more units would
    need less energy an operation. A dtype without a sustained rate gets the one whose energy is all that the limit
    leaves, or what short runs reach, where that is more: times stay what they are.
    """
    if chip.design is None:
        chip = throttled(chip)
    room, rates = chip.power - energy_of(chip).idle, dict(chip.sustained)
    for dtype in sorted(chip.peak_flops):
        rates.setdefault(dtype, max(room / flop_energy(chip, dtype), _burst(chip, dtype)))
    return replace(chip, energy=energy_of(chip), sustained=rates)


def eased(chip: Chip, *, limit: float = 1.0, flop: float = 1.0) -> Chip:
    """The chip with a higher limit, or with less energy an operation: its matrix units as fast as that sustains.

    The law of `throttled`, the other way: a rate that the limit holds rises by (room / demand)^exponent, at most to
    what short runs reach; at a higher clock an operation takes more energy, by the rise^(1/exponent - 1). Dtypes
    without a sustained rate keep theirs.

    Parameters
    ----------
    limit, flop
        So many times the limit, and so many times less energy an operation of the matrix units [1].

    Raises
    ------
    SpecError
        The limit is not above what the chip draws at rest.
    """
    power = limit_of(chip) * limit
    if limit < 1.0:
        chip = throttled(replace(chip, power_limit=power))
    chip, c = throttled(chip), energy_of(chip)
    energies = {dtype: flop_energy(chip, dtype) / flop for dtype in chip.peak_flops}
    rates, room = dict(chip.sustained), chip.power - c.idle
    most = max((_burst(chip, dtype) / peak for dtype, peak in chip.peak_flops.items()), default=1.0)
    for dtype, rate in chip.sustained.items():
        if dtype not in energies:
            continue
        had = min(room, rate * energies[dtype] * flop)
        ratio = (power - c.idle) / room * flop
        if had < _AT_LIMIT * room:
            ratio = min(1.0, ratio * room / had)  # something else holds it
        rise = min(ratio**c.exponent, max(1.0, most * chip.peak_flops[dtype] / rate))
        rates[dtype] = rate * rise
        if rise > 1.0:
            energies[dtype] *= rise ** (1.0 / c.exponent - 1.0)
    return replace(chip, power=power, energy=replace(c, flop=energies), sustained=rates)


def _burst(chip: Chip, dtype: str) -> float:
    """The best rate that products reach in a dtype [flop/s]."""
    reached = [c.compute_efficiency for name, c in chip.gemm.items() if FORMATS[name].rate == dtype]
    return chip.peak_flops[dtype] * max(reached, default=_REACHED)


def _left(chip: Chip, dtype: str, rate: float, limit: float) -> float:
    """Share of a rate that a limit leaves [1]."""
    c = energy_of(chip)
    demand = min(chip.power, c.idle + rate * flop_energy(chip, dtype))
    return 1.0 if demand <= limit else float(((limit - c.idle) / (demand - c.idle)) ** c.exponent)


def _slower_experts(c: GemmConstants | SystolicConstants, share: float) -> GemmConstants | SystolicConstants:
    # fused kernels of experts know no sustained rate
    if not isinstance(c, GemmConstants) or c.grouped is None or share == 1.0:
        return c
    return replace(c, grouped=replace(c.grouped, work=c.grouped.work / share))


def _slower_attention(chip: Chip, one: AttentionConstants, limit: float) -> AttentionConstants:
    prefill = {}
    for dtype, c in one.prefill.items():
        rate = c.products or dtype.split("/")[0]
        share = _left(chip, rate, chip.peak_flops[rate] * c.efficiency, limit) if rate in chip.peak_flops else 1.0
        prefill[dtype] = replace(c, efficiency=c.efficiency * share)
    return replace(one, prefill=prefill)
