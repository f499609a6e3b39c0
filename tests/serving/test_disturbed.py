"""Steps of a replica whose links a training job uses too."""

import pytest

from scaleout.io.experiments import serving_experiment
from scaleout.serve import serve_log
from scaleout.specs import ServingExperiment

# node 0: a replica by itself; nodes 1 and 2: one replica over two leaves; nodes 3 to 5: the training job
LEAVES = {"kind": "leaf-spine", "nodes_per_leaf": 2, "oversubscription": 4.0}
SERVING = {
    "system": "dgx-h100", "model": "llama-3.1-70b", "engine": "vllm-0.19", "pools": [{"tp": 8}, {"tp": 16}],
    "requests": {
        "input": {"mean": 2000}, "output": {"mean": 8}, "count": 12, "arrivals": {"process": "constant", "rate": 8},
    },
}  # fmt: skip
TRAINING = {
    "kind": "training", "system": "dgx-h100", "chips": 24, "model": "llama-3.1-8b", "layout": {"dp": 24, "zero": 1},
    "batch": {"global": 24, "micro": 1, "sequence": 2048}, "recompute": ["full"], "stack": "pytorch",
}  # fmt: skip


def spec(training: bool, **network: object) -> ServingExperiment:
    settings = [f"{path}system.network.{key}={value}" for key, value in network.items() for path in
                (("", "training.") if training else ("",))]  # fmt: skip
    return serving_experiment(SERVING | ({"training": TRAINING} if training else {}), tuple(settings))


def times(experiment: ServingExperiment, closed: bool = True) -> dict[int, list[int]]:
    """First and last token of each request, by replica [tick]."""
    log = serve_log(experiment, closed=closed, sensitivity=False)[1]
    rows = sorted(zip(log.number, log.replica, log.first, log.finish, strict=True))
    return {replica: [time for _, at, *both in rows if at == replica for time in both] for replica in (0, 1)}


def test_a_training_job_slows_those_whose_links_it_uses_and_nobody_else():
    alone, beside = times(spec(False, **LEAVES)), times(spec(True, **LEAVES))
    assert beside[0] == alone[0]
    assert all(late >= early for early, late in zip(alone[1], beside[1], strict=True))
    assert sum(beside[1]) > sum(alone[1])


def test_with_links_of_its_own_nothing_changes():
    assert times(spec(True)) == times(spec(False))


def test_single_steps_are_the_same():
    experiment = spec(True, **LEAVES)
    assert times(experiment) == times(experiment, closed=False)


@pytest.mark.parametrize("tp", [8, 16])
def test_a_step_on_an_empty_network_takes_the_time_that_is_remembered(tp):
    from scaleout.engine import SharedNetwork
    from scaleout.engine.clock import Clock
    from scaleout.evaluate.beside import shared_machine
    from scaleout.serving.disturbed import LiveSteps
    from scaleout.serving.places import Place
    from scaleout.serving.steps import PoolSteps
    from scaleout.serving.transfer import Carrier
    from scaleout.serving.work import Work

    experiment = serving_experiment(SERVING, ("pools.0.tp=16",) if tp == 16 else ())
    env = Clock()
    network = SharedNetwork(env, shared_machine(experiment.system, 32))
    places = [Place(0, tp), Place(16, 16)]
    live = LiveSteps(experiment, network, Carrier(network, experiment.model, "bf16", places))
    work = Work(300, 300 * 150, 300, 1, 5, 5, 4000, 1000, 6)
    ended = []
    live.carry_out(0, (work,), lambda: ended.append(env.now))
    env.run_down()
    (expected,) = PoolSteps(experiment, experiment.pools[0]).stages((work,))
    # a message is rounded once there, once a leg here
    assert ended[0] == pytest.approx(expected, abs=8 * 165)
