"""A training job beside others: alone as `simulate` has it, slower where links are shared, the same otherwise."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scaleout.engine import SharedNetwork
from scaleout.engine.clock import Alarm, Clock
from scaleout.errors import PlanError, TopologyError
from scaleout.evaluate.beside import first_chip, links_among, shared_machine, training_beside
from scaleout.evaluate.event import evaluate
from scaleout.io.catalogue import load
from scaleout.serving.places import Place
from scaleout.serving.transfer import Carrier
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]

TINY: dict[str, Any] = {
    "model": "gpt3-125m", "chips": 16, "layout": {"tp": 2, "pp": 2, "dp": 4, "vpp": 1},
    "batch": {"global": 16, "sequence": 256},
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "kernels beside transfers": {"stack": "megatron-lm"},
    "sharded": {"layout": {"dp": 16, "zero": 3, "tp": 1, "pp": 1, "vpp": 1}},
    "slow": {"slow": {"ports": {5: 0.5}, "chips": {3: 0.8}}},
    "two chips a port": {"system": "vtrain-a100-4xhdr200"},
    "offload": {"offload": {"optimizer": 0.5}},
}
MODEL = load("model", "llama-3.1-8b")


class Beside:
    """A training job after serving chips, and caches that go between these."""

    def __init__(self, spec: TrainingExperiment, chips: int, places: list[Place], *, fold: bool) -> None:
        self.env = Clock()
        fabric = shared_machine(spec.system, chips, spec)
        self.network = SharedNetwork(self.env, fabric)
        first, others = first_chip(spec.system, chips), links_among(fabric, chips) if fold else None
        self.training = training_beside(self.env, self.network, spec, first, others)
        self.took: list[int] = []
        note = lambda start, end, *_: self.took.append(end - start)  # noqa: E731
        self.carrier = Carrier(self.network, MODEL, "bf16", places, note)

    def run(self, steps: float, step: int, caches: list[tuple[int, int, int, int]] = (), *, train: bool = True) -> None:  # type: ignore[assignment]
        if train:
            self.training.start()
            Alarm(self.env, round(step * steps), [lambda _: self.training.stop()])
        for number, (at, source, target, tokens) in enumerate(caches):
            go = lambda _, job=(number, (source, 0), (target, 0), tokens): self.carrier.carry(*job, lambda: None)  # noqa: E731
            Alarm(self.env, at, [go])
        self.env.run_down()


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_alone_its_steps_are_those_of_a_simulation(small: Make, name: str, fold: bool) -> None:
    spec = small(**TINY | CASES[name])
    step = evaluate(spec).timeline.end
    beside = Beside(spec, 20, [Place(0, 4)], fold=fold)
    beside.run(1.5, step)
    assert list(beside.training.times) == [step, step]


def leaves(spec: TrainingExperiment) -> TrainingExperiment:
    """The same with two nodes a leaf, which has fewer ways up than down."""
    net = replace(spec.system.network, kind="leaf-spine", nodes_per_leaf=2, oversubscription=4.0)
    return replace(spec, system=replace(spec.system, network=net))


@pytest.mark.parametrize("fold", [True, False])
def test_a_cache_and_a_training_job_on_the_same_links_slow_each_other(small: Make, fold: bool) -> None:
    spec = leaves(small(**TINY))
    step = evaluate(spec).timeline.end
    # three nodes of replicas: the third stands under one leaf with the first of the training job
    places = [Place(0, 8), Place(8, 8), Place(16, 8)]
    caches = [(step * at // 10, 0, 2, 4096) for at in range(1, 9)]
    alone, beside, apart = (Beside(spec, 24, places, fold=fold) for _ in range(3))
    alone.run(0, 0, caches, train=False)
    beside.run(3.5, step, caches)
    # between nodes under one leaf the training job is not met
    apart.run(3.5, step, [(at, 0, 1, tokens) for at, _, _, tokens in caches])
    assert sum(beside.took) > sum(alone.took)
    assert all(b >= a for a, b in zip(alone.took, beside.took, strict=True))
    assert beside.training.times[0] > apart.training.times[0]
    assert len(set(apart.training.times)) == 1
    assert beside.training.times[-1] == apart.training.times[0]


@pytest.mark.parametrize("name", CASES)
def test_folded_over_what_nobody_else_loads_it_is_the_same(small: Make, name: str) -> None:
    spec = small(**TINY | CASES[name])
    spec = leaves(spec) if name == "plain" else spec
    step = evaluate(spec).timeline.end
    each = spec.system.chips_per_node
    places = [Place(node * each, min(each, 4)) for node in range(3)]
    caches = [(step * at // 7, at % 2, 2, 2048 + at) for at in range(1, 9)]
    runs = [Beside(spec, 3 * each, places, fold=fold) for fold in (True, False)]
    for one in runs:
        one.run(2.5, step, caches)
    folded, unfolded = runs
    assert list(folded.training.times) == list(unfolded.training.times)
    assert folded.took == unfolded.took
    # of what is the job's own the network does not see all
    seen = links_among(folded.network.fabric, 3 * each)
    assert folded.network.carried()[seen] == pytest.approx(unfolded.network.carried()[seen], rel=1e-9)
    assert folded.training.lineup.wiring.classes < unfolded.training.lineup.wiring.classes or name == "slow"


def test_what_a_job_was_folded_over_is_kept_from_others(small: Make) -> None:
    spec = small(**TINY)
    fabric = shared_machine(spec.system, 8, spec)
    network = SharedNetwork(Clock(), fabric)
    training_beside(network.env, network, spec, 8, np.zeros(0, dtype=np.int64))
    with pytest.raises(TopologyError, match="is used by others, but a job was wired"):
        Carrier(network, MODEL, "bf16", [Place(0, 8), Place(8, 8)])


def test_jobs_that_do_not_belong_on_the_machine_are_refused(small: Make) -> None:
    spec = small(**TINY)
    with pytest.raises(PlanError, match=r"training.system: .* is not the"):
        shared_machine(load("system", "hgx-h800"), 8, spec)
    faulty = small(**TINY, faults=[{"at": "1 ms", "port": 5, "share": 0.5}])
    with pytest.raises(PlanError, match="faults"):
        shared_machine(spec.system, 8, faulty)


def test_a_job_begins_on_a_node_of_its_own() -> None:
    system = load("system", "dgx-h100")
    assert [first_chip(system, chips) for chips in (0, 1, 8, 9)] == [0, 8, 8, 16]
