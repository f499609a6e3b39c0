"""KV caches on their way beside a training job: what a shared link carries, and how long each cache takes.

Llama-3.1 70B prompts go from a prefill node to a decode node; a training job runs on the nodes after them.
Nodes of 8 H100 stand two under a leaf, with half as much bandwidth up as down, so decode node and training job
share the ways into their leaf. Run it as ``python plots/kv_transfer_beside_training.py [folder]``.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaleout.engine import SharedNetwork
from scaleout.engine.clock import Clock
from scaleout.evaluate.beside import first_chip, links_among, shared_machine, training_beside
from scaleout.io.catalogue import load
from scaleout.io.experiments import experiment
from scaleout.report.files import output_folder, write_all
from scaleout.report.style import COLOURS, OTHER_COLOUR, house_style, new_figure, render
from scaleout.serving.places import Place
from scaleout.serving.transfer import Carrier
from scaleout.specs import TrainingExperiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "kv_transfer_beside_training"
TOKENS, STEPS = 16_384, 2
PLACES = [Place(0, 8), Place(8, 8), Place(16, 8)]
BINS = 240
MS = 1e9
"""Ticks in a millisecond."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What was found.

    Parameters
    ----------
    edges
        Of the bins of time [ms].
    caches, training
        What the ways into the leaf carried for each, in each bin [GB/s].
    capacity
        Of these ways [GB/s].
    starts, alone, beside
        When each cache set out beside the training job [ms]; how long it took [ms]. Alone all take the same.
    steps_alone, steps
        Steps of the training job without and with caches beside it [ms].
    """

    edges: np.ndarray
    caches: np.ndarray
    training: np.ndarray
    capacity: float
    starts: np.ndarray
    alone: float
    beside: np.ndarray
    steps_alone: np.ndarray
    steps: np.ndarray


def spec() -> TrainingExperiment:
    """The training job: Llama-3.1 8B on three nodes."""
    job = experiment(
        {
            "kind": "training", "system": "dgx-h100", "chips": 24, "model": "llama-3.1-8b",
            "layout": {"tp": 8, "dp": 3, "sequence_parallel": True, "zero": 1},
            "batch": {"global": 12, "sequence": 2048},
        }
    )  # fmt: skip
    network = replace(job.system.network, kind="leaf-spine", nodes_per_leaf=2, oversubscription=2.0)
    return replace(job, system=replace(job.system, network=network))


def run(
    job: TrainingExperiment, *, train: bool, caches: bool
) -> tuple[SharedNetwork, list[int], list[tuple[int, int]], set[int]]:
    """Two steps, caches one after another, or both.

    Gives the network, times of the steps [tick], starts and ends of the caches [tick], legs of the training job.
    """
    env = Clock()
    chips = PLACES[-1].first + PLACES[-1].tp
    fabric = shared_machine(job.system, chips, job)
    network = SharedNetwork(env, fabric, account=True)
    training = training_beside(env, network, job, first_chip(job.system, chips), links_among(fabric, chips))
    took: list[tuple[int, int]] = []
    carrier = Carrier(
        network, load("model", "llama-3.1-70b"), "bf16", PLACES, lambda start, end, *_: took.append((start, end))
    )

    def go() -> None:
        if caches and (len(training.times) < STEPS if train else not took):
            carrier.carry(0, (0, 0), (2, 0), TOKENS, go)

    if train:
        training.told = lambda: training.stop() if len(training.times) == STEPS else None
        training.start()
    go()
    env.run_down()
    legs = {leg.index for transfer in training.lineup.wiring.transfers.values() for leg in transfer.legs}
    return network, list(training.times), took, legs


def measure() -> Beside:
    """Three runs: caches alone, the training job alone, and both."""
    job = spec()
    _, _, [(begin, end)], _ = run(job, train=False, caches=True)
    _, steps_alone, _, _ = run(job, train=True, caches=False)
    network, steps, took, legs = run(job, train=True, caches=True)
    topology = network.fabric.topology
    # ways into the leaf of the third node: those that its caches and the training job both load
    into = [
        link for link in range(topology.links)
        if topology.source[link] >= topology.chips and topology.target[link] >= topology.chips and topology.kind[link]
    ]  # fmt: skip
    users = {link: {leg in legs for leg, *_ in network.stretches(link)} for link in into}
    shared = [link for link in into if users[link] == {True, False}]
    edges = np.linspace(0, sum(steps), BINS + 1)
    found = {True: np.zeros(BINS), False: np.zeros(BINS)}
    for link in shared:
        for leg, start, stop, nbytes in network.stretches(link):
            share = np.diff(np.clip((edges - start) / max(stop - start, 1), 0, 1))
            found[leg in legs] += share * nbytes
    seconds = np.diff(edges) / 1e12
    starts, ends = np.array(took, dtype=float).T
    return Beside(
        edges=edges / MS, caches=found[False] / seconds / 1e9, training=found[True] / seconds / 1e9,
        capacity=float(topology.bandwidth[shared].sum()) / 1e9, starts=starts / MS, alone=(end - begin) / MS,
        beside=(ends - starts) / MS, steps_alone=np.array(steps_alone) / MS, steps=np.array(steps) / MS,
    )  # fmt: skip


def draw(found: Beside) -> "Figure":
    """The rate over time above, the times of the caches below."""
    with house_style():
        figure = new_figure(7.2, 5.0)
        above, below = figure.subplots(2, 1, sharex=True)
        above.stairs(found.training + found.caches, found.edges, fill=True, color=COLOURS["compute"], label="KV caches")
        above.stairs(found.training, found.edges, fill=True, color=COLOURS["exposed_pp"], label="training job")
        above.axhline(found.capacity, color=OTHER_COLOUR, linewidth=0.8, linestyle="--", label="capacity")
        above.set_ylabel("rate into the shared leaf [GB/s]")
        above.set_ylim(0, found.capacity * 1.3)
        above.legend(loc="upper left", ncols=3)
        above.set_title("Caches and a training job share the ways into a leaf")
        below.plot(found.starts, found.beside, ".", color=COLOURS["compute"], label="beside the training job")
        below.axhline(found.alone, color=OTHER_COLOUR, linewidth=0.8, linestyle="--", label="alone")
        below.set_ylim(0, found.beside.max() * 1.25)
        below.set_ylabel("time of a cache [ms]")
        below.set_xlabel("time since the training job began [ms]")
        below.legend(loc="upper left", ncols=2)
        below.set_title(
            f"{TOKENS:,} tokens of Llama-3.1 70B; a training step takes {found.steps.mean():.1f} ms "
            f"(alone {found.steps_alone.mean():.1f} ms)"
        )
        for end in np.cumsum(found.steps)[:-1]:
            for axes in (above, below):
                axes.axvline(end, ymax=0.77, color=OTHER_COLOUR, linewidth=0.8)
        below.set_xlim(0, found.edges[-1])
    return figure


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
