"""Layers as blocks: what a split backward pass does is what the whole one does."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from scaleout.engine.program import COLLECTIVE, COMPUTE
from scaleout.hardware import pack
from scaleout.parallel import Block, Context, Frozen, Layers, Tables, kept_of, layer_costs, options, shard
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]
LAYOUTS = [{}, {"sequence_parallel": False, "zero": 0}, {"tp": 1, "dp": 16, "vpp": 1, "sequence_parallel": False}]


class Written:
    """Blocks of one job, to be counted."""

    def __init__(self, spec: TrainingExperiment) -> None:
        self.tables = Tables()
        mine, rates = shard(spec), pack(spec.system.chip, spec.stack, spec.precision)
        self.layers = Layers(
            layer_costs(mine, rates),
            mine,
            options(spec),
            kept_of(mine, options(spec), rates),
            spec.stack,
            Context(mine, spec.layout.context, rates, 0),
        )

    def block(self, write: Callable[[Block], object]) -> Frozen:
        block = Block(self.tables)
        write(block)
        return block.freeze()

    def work(self, *blocks: Frozen) -> dict[str, float]:
        """Seconds of kernels by part; what the host adds depends on how they are grouped."""
        labels, found = list(self.tables.labels), Counter[str]()
        for kind, _, item in np.concatenate([block.ops for block in blocks]).tolist():
            if kind == COMPUTE:
                found.update({part: seconds for part, seconds in labels[item].parts if part != "launch"})
        return dict(found)

    def messages(self, *blocks: Frozen) -> Counter[tuple[str, float]]:
        messages = list(self.tables.messages)
        ops = np.concatenate([block.ops for block in blocks]).tolist()
        return Counter((messages[i].operation, messages[i].nbytes) for kind, _, i in ops if kind == COLLECTIVE)


def held(*blocks: Frozen) -> float:
    return float(sum(block.memory[:, 3].sum() for block in blocks))


@pytest.mark.parametrize("recompute", [[], ["norm", "mlp_product"], ["mlp"], ["attention"], ["full"]])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_input_and_of_weights_are_the_whole_backward(
    small: Make, layout: dict[str, object], recompute: list[str]
) -> None:
    spec = small(layout=layout, recompute=recompute)
    w = Written(spec)
    for backward, forward in ((w.layers.backward, w.layers.forward), (w.layers.loss_backward, w.layers.loss)):
        ahead = w.block(lambda block, forward=forward: forward(block, ()))  # type: ignore[misc]
        both, data, weight = (
            w.block(lambda block, part=part, backward=backward: backward(block, (), part))  # type: ignore[misc]
            for part in ("both", "input", "weight")
        )
        assert w.work(data, weight) == pytest.approx(w.work(both), rel=1e-12)
        assert w.messages(data, weight) == w.messages(both)
        assert all(operation == "all_gather" for operation, _ in w.messages(weight))
        assert held(ahead, both) == pytest.approx(0.0, abs=1.0)
        assert held(ahead, data, weight) == pytest.approx(0.0, abs=1.0)
        assert held(ahead, data) > 0.0


def test_weights_wait_with_the_inputs_of_their_matrices_and_the_gradients_of_the_outputs(small: Make) -> None:
    # Llama-3.1 8B over four ranks: h 4096, q 1024, k 256, f 3584; 2,048 tokens, 512 of them a rank's own
    kept = Written(small()).layers.kept
    inputs = 2 * (2 * 512 * 4096 + 2048 * 1024 + 2048 * 3584)
    gradients = 2 * 2048 * (2 * 4096 + (1024 + 2 * 256) + 2 * 3584)
    assert kept.waiting == inputs + gradients
    # head: the final norm's output, gradients of 32,064 logits a token
    assert kept.loss_waiting == 2 * 512 * 4096 + 2 * 2048 * 32064
