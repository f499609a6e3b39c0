"""Layers as blocks: what a split backward pass does is what the whole one does."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from scaleout.engine.program import COLLECTIVE, COMPUTE
from scaleout.hardware import pack
from scaleout.models import LayerKind, layer_kinds
from scaleout.parallel import Block, ExpertExchange, Frozen, Layers, Tables, kept_of, layer_costs, options, shard
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]
LAYOUTS = [{}, {"sequence_parallel": False, "zero": 0}, {"tp": 1, "dp": 16, "vpp": 1, "sequence_parallel": False}]


class Written:
    """Blocks of one job, to be counted."""

    def __init__(self, spec: TrainingExperiment, kind: LayerKind | None = None) -> None:
        self.tables = Tables()
        mine, rates, choices = (
            shard(spec, kind),
            pack(spec.system.chip, spec.stack, spec.precision),
            options(spec, kind),
        )
        exchange = ExpertExchange(spec, mine) if mine.experts else None
        kept = kept_of(mine, choices, rates)
        self.layers = Layers(layer_costs(mine, rates), mine, choices, kept, spec.stack, exchange)

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


KINDS = {
    "deepseek-v3": [[], ["mla_up_proj", "moe_act", "shared_experts"], ["moe"], ["full"]],
    "qwen3-next-80b-a3b": [[], ["full"]],
    "t5-3b": [[], ["core_attention"], ["full"]],
    "gpt-oss-20b": [["moe"]],
}


@pytest.mark.parametrize(("model", "recompute"), [(name, modules) for name in KINDS for modules in KINDS[name]])
@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize("beside", [False, True])
def test_split_backward_of_every_kind_is_the_whole(
    small: Make, model: str, recompute: list[str], tp: int, beside: bool
) -> None:
    layout = {"tp": tp, "pp": 1, "dp": 8 // tp, "vpp": 1, "sequence_parallel": tp > 1}
    spec = small(model=model, chips=8, layout=layout, batch={"global": 8, "sequence": 512}, recompute=recompute)
    if spec.model.experts is not None:
        spec = replace(spec, layout=replace(spec.layout, ep=4))
    spec = replace(spec, stack=replace(spec.stack, overlap_experts=beside))
    for kind in dict.fromkeys(layer_kinds(spec.model)):
        w = Written(spec, kind)
        ahead = w.block(lambda block, w=w: w.layers.forward(block, ()))  # type: ignore[misc]
        both, data, weight = (
            w.block(lambda block, part=part, w=w: w.layers.backward(block, (), part))  # type: ignore[misc]
            for part in ("both", "input", "weight")
        )
        assert w.work(data, weight) == pytest.approx(w.work(both), rel=1e-12)
        assert w.messages(data, weight) == w.messages(both)
        assert all(operation == "all_gather" for operation, _ in w.messages(weight))
        assert held(ahead, both) == pytest.approx(0.0, abs=1.0)
        assert held(ahead, data, weight) == pytest.approx(0.0, abs=1.0)
        exchanged = sum(n for (operation, _), n in w.messages(ahead).items() if operation == "all_to_all")
        assert exchanged == 2 * kind.experts
        # once there and back for gradients, and again for what is computed again
        again = bool({"full", "moe"} & set(recompute))
        exchanged = sum(n for (operation, _), n in w.messages(both).items() if operation == "all_to_all")
        assert exchanged == (4 if again else 2) * kind.experts
