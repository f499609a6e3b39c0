"""Knobs of a machine: what an architect may have more of, and what the machine is then.

A turn changes one figure of the data sheet, or of the design that it follows from, and leaves all
others: constants of kernels are shares of those figures, so that kernels follow. Equations in ``docs/architect.md``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from scaleout.errors import SpecError, near
from scaleout.hardware.design import redesigned
from scaleout.hardware.power import eased, energy_of
from scaleout.specs import Chip, Design, System

__all__ = ["Knob", "knob_of", "knobs_of"]

Turn = Callable[[System, float], System]


@dataclass(frozen=True, slots=True)
class Knob:
    """Something that a machine may have more of.

    Parameters
    ----------
    name, words
        For a person to type, and to read.
    turn
        The machine with so many times as much of it.
    """

    name: str
    words: str
    turn: Turn


def _chip(change: Callable[[Chip, float], Chip], system: System, factor: float) -> System:
    return replace(system, chip=change(system.chip, factor))


def _scaled(names: tuple[str, ...], spec: Any, factor: float) -> Any:
    """A spec with some of its numbers scaled; those that are not known stay so."""
    given = {name: getattr(spec, name) for name in names}
    return replace(spec, **{name: value * factor for name, value in given.items() if value is not None})


def _tensor(chip: Chip, factor: float) -> Chip:
    """Rates of the matrix units; what the power limit sustains stays."""
    return replace(chip, peak_flops={k: v * (1.0 if k == "fp32" else factor) for k, v in chip.peak_flops.items()})


def _vector(chip: Chip, factor: float) -> Chip:
    peaks = {k: v * (factor if k == "fp32" else 1.0) for k, v in chip.peak_flops.items()}
    faster: Chip = _scaled(("exponentials",), chip, factor)
    return replace(faster, peak_flops=peaks)


def _launch(chip: Chip, factor: float) -> Chip:
    """Fixed times of kernels, shorter."""
    gemm = {name: replace(c, launch=c.launch / factor) for name, c in chip.gemm.items()}
    return replace(chip, gemm=gemm)


def _limit(chip: Chip, factor: float) -> Chip:
    """A higher power limit, and what it sustains; the board of a design is made for it."""
    design = None if chip.design is None else replace(chip.design, power=chip.design.power * factor)
    return replace(eased(chip, limit=factor), design=design)


def _flop_energy(chip: Chip, factor: float) -> Chip:
    """Less energy an operation of the matrix units, which run faster where the power limit holds them."""
    return eased(chip, flop=factor)


def _byte_energy(chip: Chip, factor: float) -> Chip:
    return replace(chip, energy=_scaled(("hbm", "link"), energy_of(chip), 1.0 / factor))


def _links(name: str, system: System, factor: float) -> System:
    part = getattr(system, name)
    names = ("bandwidth", "pcie_bandwidth", "host_bandwidth", "socket_bandwidth")
    design = system.chip.design
    if name == "scale_up" and design is not None and design.link_bandwidth is not None:
        # ports on the die are made for it
        wider = replace(design, link_bandwidth=design.link_bandwidth * factor)
        system = replace(system, chip=replace(system.chip, design=wider))
    return replace(system, **{name: _scaled(tuple(n for n in names if hasattr(part, n)), part, factor)})


def _sooner(name: str, system: System, factor: float) -> System:
    part = getattr(system, name)
    names = ("latency", "hop_latency")
    return replace(system, **{name: _scaled(tuple(n for n in names if hasattr(part, n)), part, 1.0 / factor)})


_POWER = (
    Knob("power-limit", "power limit of the board, and what it sustains", partial(_chip, _limit)),
    Knob("energy-per-flop", "less energy an operation of the matrix units", partial(_chip, _flop_energy)),
    Knob("energy-per-byte", "less energy a byte of main memory and of links", partial(_chip, _byte_energy)),
)
_SHEET = (
    Knob("tensor", "rate of the matrix units", partial(_chip, _tensor)),
    Knob("vector", "rate of the vector units, and of exponentials", partial(_chip, _vector)),
    Knob("hbm-bandwidth", "bandwidth of main memory", partial(_chip, partial(_scaled, ("hbm_bandwidth",)))),
    Knob("hbm-capacity", "capacity of main memory", partial(_chip, partial(_scaled, ("hbm_bytes",)))),
    Knob("l2", "capacity of the cache that all cores share", partial(_chip, partial(_scaled, ("l2_bytes",)))),
    Knob("launch", "how soon a matrix multiplication starts", partial(_chip, _launch)),
)
_LINKS = (
    Knob("scale-up-bandwidth", "bandwidth of links inside a node", partial(_links, "scale_up")),
    Knob("scale-up-latency", "shorter latency of links inside a node", partial(_sooner, "scale_up")),
    Knob("network-bandwidth", "bandwidth of ports of the network", partial(_links, "network")),
    Knob("network-latency", "shorter latency of the network", partial(_sooner, "network")),
)


def _designed(change: Callable[[Design, float], Design], system: System, factor: float) -> System:
    chip = system.chip
    if chip.design is None:
        raise SpecError(f"chip {chip.name!r} has no design whose knobs could be turned")
    return replace(system, chip=redesigned(chip, change(chip.design, factor)))


def _macs(design: Design, factor: float) -> Design:
    unit = design.tensor
    return replace(design, tensor=replace(unit, macs={k: v * factor for k, v in unit.macs.items()}))


def _cores(design: Design, factor: float) -> Design:
    return replace(design, cores=max(1, round(design.cores * factor)))


def _memory(name: str, design: Design, factor: float) -> Design:
    return replace(design, memory=_scaled((name,), design.memory, factor))


_DESIGN = (
    Knob("cores", "cores", partial(_designed, _cores)),
    Knob("clock", "clock of the cores", partial(_designed, partial(_scaled, ("clock",)))),
    Knob("macs", "multiply-adds of a matrix unit in a clock", partial(_designed, _macs)),
    Knob("lanes", "vector lanes of a core", partial(_designed, partial(_scaled, ("vector_lanes", "exponentials")))),
    Knob("l2", "capacity of the cache that all cores share", partial(_designed, partial(_scaled, ("l2",)))),
    Knob("hbm-bandwidth", "bandwidth of a memory stack", partial(_designed, partial(_memory, "bandwidth"))),
    Knob("hbm-capacity", "capacity of a memory stack", partial(_designed, partial(_memory, "capacity"))),
    Knob("launch", "how soon a matrix multiplication starts", partial(_chip, _launch)),
)


def knobs_of(system: System) -> tuple[Knob, ...]:
    """Every knob of a machine: of its chip's design, or of its data sheet; of its power; and of its links."""
    chip = _SHEET if system.chip.design is None else _DESIGN
    alone = system.network.kind == "none"
    return (*chip, *_POWER, *(knob for knob in _LINKS if not (alone and knob.name.startswith("network"))))


def knob_of(system: System, name: str) -> Knob:
    """A knob by name.

    Raises
    ------
    SpecError
        The machine has no such knob; the message names near ones.
    """
    found = {knob.name: knob for knob in knobs_of(system)}
    if name not in found:
        raise SpecError(f"knob: {name!r:.40} is unknown to {system.name}; {near(name, found)}")
    return found[name]
