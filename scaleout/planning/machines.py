"""A machine that a training may run on: what a step of some length comes to on it, and what it is held to."""

from dataclasses import dataclass, replace
from math import gcd, inf

import numpy as np

from scaleout.arrays import Floats
from scaleout.errors import PlanError
from scaleout.evaluate.cost import cost_of, run_of
from scaleout.evaluate.energy import step_energy
from scaleout.evaluate.plant import energy_over
from scaleout.footprint import Energy
from scaleout.hardware import pack
from scaleout.hardware.cost import HOUR
from scaleout.hardware.formats import format_of
from scaleout.hardware.gemm import measured_products
from scaleout.hardware.power import energy_of, flop_energy, limit_of
from scaleout.hardware.rates import preferred_attention
from scaleout.models import training_flops
from scaleout.network.inventory import inventory
from scaleout.result import Result
from scaleout.specs import Batch, Layout, Stack, System, TrainingExperiment
from scaleout.specs.experiment import LARGEST_MACHINE

__all__ = ["Goal", "Machine", "counts_of", "stack_for", "template"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a training is to come to.

    Parameters
    ----------
    tokens
        To be trained on.
    objective
        As of `Plan`.
    time, power, cost
        At most; infinite for anything [s, W, USD].
    goodput
        Share of the time that is not lost [1].
    """

    tokens: float
    objective: str
    time: float = inf
    power: float = inf
    cost: float = inf
    goodput: float = 1.0


class Machine:
    """So many chips of a system, and the training on them.

    Parameters
    ----------
    base
        Everything but layout, micro-batch and recomputation.

    Raises
    ------
    ScaleoutError
        There is no such machine, or its chips have no constants for the training.
    """

    def __init__(self, base: TrainingExperiment, chips: int, goal: Goal) -> None:
        self.base, self.chips, self.goal = base, chips, goal
        pack(base.system.chip, base.stack, base.precision)
        self.network = chips <= base.system.chips_per_node or base.system.network.kind != "none"
        if not self.network:
            raise PlanError(f"{base.system.name}: nodes of {base.system.chips_per_node} chips stand alone")
        inventory(base.system, chips)
        self.steps = goal.tokens / base.batch.tokens / goal.goodput
        self.longest = goal.time / self.steps
        rest, moving = self._energy(1.0), self._energy(2.0)
        # a step of t seconds takes no less than still x t + moved
        self.still = moving - rest
        self.moved = max(0.0, rest - self.still)
        self.hour, self.electricity = self._prices()

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.chips:,} {self.base.system.chip.name} ({self.base.system.name})"

    def _placed(self) -> TrainingExperiment:
        """The base on all chips, whatever the batch, for what asks for chips alone."""
        batch = Batch(global_=self.chips, micro=1, sequence=self.base.batch.sequence)
        return replace(self.base, chips=self.chips, layout=Layout(dp=self.chips), batch=batch)

    def _energy(self, seconds: float) -> float:
        """Least energy of a step that takes so long [J]: chips at rest, and the products that no layout leaves out."""
        base, chip = self.base, self.base.system.chip
        parts = dict.fromkeys(("idle", "compute", "vector", "hbm", "links"), 0.0)
        parts["idle"] = self.chips * energy_of(chip).idle * seconds
        if base.routing.capacity is None and base.model.rank == 0 and not base.others:
            dtype = format_of(base.precision).rate
            # an operation is capped where it would draw more than the limit at the chip's full rate
            joules = min(flop_energy(chip, dtype), (limit_of(chip) - energy_of(chip).idle) / chip.flops(dtype))
            parts["compute"] = joules * training_flops(base.model, base.batch.tokens, 1)
        found = energy_over(base.system, base.facility, self.chips, seconds, parts, base.batch.tokens)
        return found.total

    def _prices(self) -> tuple[float, float]:
        """An hour of the machine beside its electricity, and of a watt [USD/h]; nothing without a facility."""
        placed, facility = self._placed(), self.base.facility
        if facility is None:
            return 0.0, 0.0
        nothing = Energy(
            span=1.0, parts={"idle": 0.0}, chip_power=0.0, node_power=0.0, power=0.0, tokens=1.0, error=0.0
        )
        found = cost_of(placed, 1.0, 1.0, nothing)
        hour = 0.0 if found is None else found.hour_total
        return hour, 0.0 if facility.rent else facility.electricity * HOUR

    # --- bounds ------------------------------------------------------------------------------

    def least_step(self) -> float:
        """Time of a step's linear layers, all of them at the best rate of the chip's products [s]."""
        base, chip = self.base, self.base.system.chip
        if base.routing.capacity is not None or base.model.rank:
            return 0.0
        rate = format_of(base.precision).rate
        shares = [c.compute_efficiency for name, c in chip.gemm.items() if format_of(name).rate == rate]
        best = 1.0 if measured_products(chip, base.precision) else max(shares, default=1.0)
        return training_flops(base.model, base.batch.tokens, 1) / (self.chips * chip.flops(rate) * min(1.0, best))

    def least_power(self) -> float:
        """That the machine draws if it is to be in time [W]."""
        longest = min(self.longest, 1e12)
        return self.still + self.moved / longest

    def values(self, steps: Floats) -> Floats:
        """Least value of steps of these lengths [s]; infinite where a limit is broken whatever else."""
        steps = np.maximum(steps, self._fed(self.moved))
        return self._judged(self.steps * steps, self.steps * (self.still * steps + self.moved))

    def _fed(self, moved: float) -> float:
        """How long a step takes at the least that draws no more than the limit [s]; `moved`: beside what is at rest."""
        left = self.goal.power - self.still
        return moved / left if left > 0.0 else inf

    def _judged(self, time: Floats, energy: Floats) -> Floats:
        goal = self.goal
        cost = self.hour * time / HOUR + self.electricity * energy / HOUR
        value = {"time": time, "cost": cost, "energy": energy, "chips": np.full_like(time, float(self.chips))}
        broken = (time > goal.time) | (cost > goal.cost) | np.isinf(time)
        return np.where(broken, inf, value[goal.objective])

    def analysed(self, spec: TrainingExperiment, step: float) -> float:
        """Least value of a layout whose step takes no less [s]; energy is no less than that of such a step."""
        moved = step_energy(spec, step).total - self.still * step
        longer = np.array([max(step, self._fed(moved))])
        return float(self._judged(self.steps * longer, self.steps * (self.still * longer + moved))[0])

    def longest_of(self, value: float) -> float:
        """The longest step whose value is no more [s]."""
        goal = self.goal
        if goal.objective == "time":
            found = value / self.steps
        elif goal.objective == "energy":
            found = (value / self.steps - self.moved) / self.still if self.still else inf
        elif goal.objective == "cost":
            each = self.hour + self.electricity * self.still
            found = (value * HOUR / self.steps - self.electricity * self.moved) / each if each else inf
        else:
            found = inf if value >= self.chips else 0.0
        return min(found * (1.0 + 1e-9), self.longest)

    # --- what came out -----------------------------------------------------------------------

    def figures(self, result: Result) -> dict[str, float]:
        """Of a simulated layout, as in `Candidate`."""
        run = run_of(result, self.goal.tokens, self.goal.goodput)
        found = {
            "step_time": result.step_time,
            "time": run.time,
            "tokens_per_second": result.tokens_per_second,
            "mfu": result.mfu,
            "memory": result.memory.total,
        }
        if result.energy is not None and run.energy is not None:
            found |= {"energy": run.energy, "power": result.energy.power}
        if run.cost is not None:
            found["cost"] = run.cost
        return found

    def value(self, figures: dict[str, float]) -> float:
        """Of what came out; infinite where a limit is broken."""
        goal = self.goal
        broken = (
            figures["time"] > goal.time
            or figures.get("power", 0.0) > goal.power
            or figures.get("cost", 0.0) > goal.cost
        )
        if broken:
            return inf
        return float(self.chips) if goal.objective == "chips" else figures[goal.objective]


def template(base: TrainingExperiment, batch: int, sequence: int) -> TrainingExperiment:
    """The base with a batch of so many sequences, in whatever layout divides it."""
    dp = gcd(batch, base.system.chips_per_node)
    shape = Batch(global_=batch, micro=batch // dp, sequence=sequence)
    return replace(base, chips=dp, layout=Layout(dp=dp), batch=shape)


def counts_of(system: System, most: int = LARGEST_MACHINE) -> list[int]:
    """Numbers of chips that are tried: powers of two, and three times these, of nodes; a part of a node by halves."""
    per_node = system.chips_per_node
    small = [per_node >> at for at in range(1, per_node.bit_length()) if per_node % (1 << at) == 0]
    if system.network.kind == "none":
        return sorted([*small, per_node])
    nodes = sorted({factor << at for factor in (1, 3) for at in range(21)})
    return sorted({*small, *(per_node * number for number in nodes if per_node * number <= most)})


def stack_for(system: System, stack: Stack, precision: str) -> Stack:
    """A stack whose attention kernel the chip has constants for: another kernel, where it has none for the stack's.

    Raises
    ------
    SpecError
        It has none for the precision either.
    """
    if stack.attention != "unfused" and stack.attention not in system.chip.attention:
        stack = replace(stack, attention=preferred_attention(system.chip))
    pack(system.chip, stack, precision)
    return stack
