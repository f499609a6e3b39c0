"""The event evaluator: build the step, fold it, run it in SimPy; or unfolded and large, in a compiled loop."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives import candidates, fastest, trials
from scaleout.collectives.moe import ByKernel, exchange_pattern
from scaleout.engine import (
    COMPILED_FROM,
    Epoch,
    Job,
    Message,
    Partition,
    Quotient,
    Timeline,
    Unfolded,
    discrete,
    equitable,
    frame,
    quotient,
    run,
    run_unfolded,
    sized,
    unfold,
)  # fmt: skip
from scaleout.engine.program import ticks
from scaleout.engine.usage import BINS, Usage, usage
from scaleout.errors import TopologyError, WorkloadError
from scaleout.evaluate.contention import contention_of
from scaleout.network import Fabric, avoiding, copies, machine, stretches, with_host, with_routing
from scaleout.network.pattern import Pattern
from scaleout.network.topology import Topology
from scaleout.parallel import HOST_OUT
from scaleout.specs import Fault, Slow, System, TrainingExperiment
from scaleout.training.mixed import seats
from scaleout.training.step import build

__all__ = ["Recording", "evaluate"]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A simulated step with everything that happened in it.

    Parameters
    ----------
    experiment
        What was simulated.
    job, wiring, timeline
        Programs; classes, orbits and transfers; times of every operation of every class.
    folded
        Whether ranks that behave alike are one class.
    """

    experiment: TrainingExperiment
    job: Job
    wiring: Quotient | Unfolded
    timeline: Timeline
    folded: bool

    def class_program(self, cls: int) -> int:
        """Index of the program of a class."""
        return int(self.job.program_of[int(self.wiring.representatives[cls])])

    def class_stage(self, cls: int) -> int:
        """Pipeline stage of a class."""
        return seats(self.experiment)[1][self.class_program(cls)].stage

    def usage(self, bins: int = BINS) -> Usage:
        """What every class of links carried, over the step and in so many parts of it; made anew at each call.

        Raises
        ------
        WorkloadError
            The compiled loop ran it, which keeps no account of what links carry.
        """
        if isinstance(self.wiring, Unfolded):
            raise WorkloadError("usage: the compiled loop keeps no account of what links carry; take compiled=False")
        return usage(self.job, self.wiring, self.timeline, bins)

    @property
    def topology(self) -> Topology:
        """The network that the step ran on."""
        return site(self.experiment).fabric.topology

    def busy_links(self) -> Floats:
        """Utilisation of every link over the step [1], shape (links,)."""
        use = self.usage()
        # -1, where nothing is loaded, is the last
        return np.append(use.busy, 0.0)[use.link_of]

    def class_words(self, cls: int) -> str:
        """A class in words: its representative, and how many ranks are like it."""
        others = int(self.wiring.sizes[cls]) - 1
        return f"rank {self.wiring.representatives[cls]}" + (f" and {others:,} like it" if others else "")


def evaluate(
    experiment: TrainingExperiment,
    *,
    fold: bool = True,
    runs: bool = True,
    job: Job | None = None,
    compiled: bool | None = None,
) -> Recording:
    """Simulate one step.

    Parameters
    ----------
    fold
        False simulates every rank; the times are the same.
    runs
        False makes an event of every operation; the times are the same.
    job
        The experiment's programs, where they are built already.
    compiled
        Of an unfolded run: in the compiled loop, or in SimPy; None for whatever is faster. The times are the same.
        With faults or contention always in SimPy.

    Raises
    ------
    SpecError
        A fault names what the machine does not have.
    TopologyError
        The system cannot be built at this size, or has no way around a dead link.
    WorkloadError
        The step is longer than the engine can count, or waits for a dead link for ever.
    """
    try:
        return _evaluate(experiment, job or build(experiment), fold=fold, runs=runs, compiled=compiled)
    except OverflowError:
        raise WorkloadError("a step longer than 106 days, in picoseconds, is beyond 64-bit integers") from None


def _evaluate(experiment: TrainingExperiment, job: Job, *, fold: bool, runs: bool, compiled: bool | None) -> Recording:
    place = site(experiment)
    patterns = place.patterns(job)
    # where no two chips run alike, there is nothing to fold
    fold = fold and not experiment.slow.spread
    later = place.epochs(job, patterns, experiment.faults)
    # the compiled loop knows one epoch only, and kernels that nothing slows
    contention = contention_of(experiment, job, place.fabric, patterns)
    if not fold and not later and not contention and (_pays(job) if compiled is None else compiled):
        unfolded = unfold(job, place.fabric, patterns)
        return Recording(experiment, job, unfolded, run_unfolded(unfolded), fold)
    if fold and not later:
        wiring = place.wiring(job, patterns)
    else:
        partition = place.partition(job, patterns, later) if fold else discrete(job, place.fabric)
        wiring = quotient(job, place.fabric, patterns, partition, later)
    return Recording(experiment, job, wiring, run(job, wiring, runs=runs, contention=contention), fold)


def _pays(job: Job) -> bool:
    """Whether a job has so many operations that loading compiled code pays."""
    sizes = np.array([len(program) for program in job.programs])
    return int(sizes[job.program_of].sum()) >= COMPILED_FROM


class Site:
    """One machine under one layout: its fabric, and what was found out about it so far.

    Patterns and partitions do not depend on the model, so they are made once for many experiments.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self._patterns: dict[tuple[str, str, str], Pattern] = {}
        self._trials: dict[tuple[str, str], dict[str, Pattern]] = {}
        self._choices: dict[tuple[str, str, float], str] = {}
        self._exchanges: dict[tuple[str, ByKernel], Pattern] = {}
        self._partitions: dict[tuple[object, ...], Partition] = {}
        self._frames: dict[tuple[object, ...], Quotient] = {}

    def patterns(self, job: Job) -> dict[int, Pattern]:
        """Pattern of every message, by the fastest algorithm."""
        return {index: self._pattern(job, message) for index, message in enumerate(job.messages)}

    def _pattern(self, job: Job, message: Message) -> Pattern:
        groups = job.families[message.family].groups
        if isinstance(message.details, ByKernel):
            kernel = (message.family, message.details)
            if kernel not in self._exchanges:
                self._exchanges[kernel] = exchange_pattern(self.fabric, groups, message.details)
            return self._exchanges[kernel]
        if message.operation == "copy":
            way = (message.family, message.operation, "")
            if way not in self._patterns:
                self._patterns[way] = copies(self.fabric, groups[:, 0], out=message.family == HOST_OUT)
            return self._patterns[way]
        choice = (message.family, message.operation, message.nbytes)
        if choice not in self._choices:
            if choice[:2] not in self._trials:
                self._trials[choice[:2]] = trials(self.fabric, groups, message.operation)
            self._choices[choice] = fastest(self.fabric, self._trials[choice[:2]], message.nbytes)
        key = (message.family, message.operation, self._choices[choice])
        if key not in self._patterns:
            self._patterns[key] = candidates(self.fabric, groups, message.operation)[key[2]](groups)
        return self._patterns[key]

    def epochs(self, job: Job, patterns: dict[int, Pattern], faults: tuple[Fault, ...]) -> tuple[Epoch, ...]:
        """What faults leave of the links, and where messages go then; each keeps its algorithm."""
        found: dict[int, Epoch] = {}
        known: dict[bytes, dict[int, Pattern]] = {b"": patterns}
        for start, bandwidth, avoid in stretches(self.fabric.topology, faults) if faults else ():
            if avoid.tobytes() not in known:
                try:
                    known[avoid.tobytes()] = self._around(job, patterns, avoid)
                except TopologyError as error:
                    raise TopologyError(
                        f"faults, from {start:g} s on: {error}; take then: stall, or leave them a share above 0"
                    ) from None
            found[ticks(start)] = Epoch(ticks(start), bandwidth, known[avoid.tobytes()])
        return tuple(found.values())

    def _around(self, job: Job, patterns: dict[int, Pattern], dead: Ints) -> dict[int, Pattern]:
        """Pattern of every message; those that load a dead link lead around it."""
        fabric = with_routing(self.fabric, avoiding(self.fabric.topology, dead, self.fabric.paths))
        made: dict[int, Pattern] = {}
        for index, pattern in patterns.items():
            if id(pattern) not in made:
                message = job.messages[index]
                groups = job.families[message.family].groups
                if isinstance(message.details, ByKernel):
                    made[id(pattern)] = exchange_pattern(fabric, groups, message.details)
                    continue
                if message.operation == "copy":
                    # there is no other way to the host
                    made[id(pattern)] = pattern
                    continue
                name = self._choices[message.family, message.operation, message.nbytes]
                hit = any(np.isin(phase.link, dead).any() for phase in pattern.phases)
                menu = candidates(fabric, groups, message.operation) if hit else {name: lambda _, same=pattern: same}
                if name not in menu:
                    raise TopologyError(f"{self.fabric.topology.name}: no {name} of {message.operation}")
                made[id(pattern)] = menu[name](groups)
        return {index: made[id(pattern)] for index, pattern in patterns.items()}

    def partition(self, job: Job, patterns: dict[int, Pattern], later: tuple[Epoch, ...] = ()) -> Partition:
        """The coarsest equitable partition of a job on this machine."""
        if later:
            return equitable(job, self.fabric, patterns, later)
        key = self._kinds(job, patterns)
        if key not in self._partitions:
            self._partitions[key] = equitable(job, self.fabric, patterns)
        return self._partitions[key]

    def _kinds(self, job: Job, patterns: dict[int, Pattern]) -> tuple[object, ...]:
        """What decides who is alike and which links messages load, whatever their sizes."""
        sent = tuple(
            (m.family, m.operation, patterns[i].algorithm, m.nbytes > 0, m.details) for i, m in enumerate(job.messages)
        )
        return sent, job.program_of.tobytes(), tuple(sorted(job.speed.items()))

    def wiring(self, job: Job, patterns: dict[int, Pattern]) -> Quotient:
        """The job folded, on links without faults; jobs that differ but in sizes share all the rest."""
        key = self._kinds(job, patterns), tuple(tuple(program.meetings()) for program in job.programs)
        if key not in self._frames:
            self._frames[key] = frame(job, self.fabric, patterns, self.partition(job, patterns))
        return sized(self._frames[key], job)


def site(experiment: TrainingExperiment) -> Site:
    """The site of an experiment: links depend on no rate of a chip, ranks and groups on degrees and order alone."""
    layout = experiment.layout
    degrees = (layout.tp, layout.cp, layout.dp, layout.pp, layout.ep, layout.etp, layout.shard, layout.order)
    slow = replace(experiment.slow, chips={}, spread=0.0, seed=0)
    return _site(experiment.system, experiment.chips, slow, degrees, experiment.offload.any)


@lru_cache(maxsize=8)
def _site(system: System, chips: int, slow: Slow, degrees: tuple[object, ...], hosts: bool) -> Site:
    fabric = machine(system, chips, slow)
    return Site(with_host(fabric, system.host) if hosts and system.host else fabric)
