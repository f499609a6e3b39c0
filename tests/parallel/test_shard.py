"""What one rank holds of a model, against the model's own count and by hand."""

from collections.abc import Callable

import pytest

from scaleout.io.catalogue import list_names, load
from scaleout.models import LayerKind, layer_kinds, parameters
from scaleout.parallel.shard import Shard, cut, dimensions, options
from scaleout.specs import Model, TrainingExperiment

Make = Callable[..., TrainingExperiment]
MODELS = [name for name in list_names("model") if set(layer_kinds(load("model", name))) == {LayerKind()}]
"""Whose layers are all dense and alike; the others are in test_layer_kinds.py."""
CUT = ("gpt2", "gpt3-175b", "llama-3.1-405b", "qwen2.5-72b", "bloom-176b", "mpt-30b-foundry", "gemma-7b")
"""Of every norm, bias, embedding and feed-forward block."""


def share(make: Make, model: Model, tp: int = 1, *, sequence_parallel: bool = False, split_sends: bool = True) -> Shard:
    chosen = options(make())._replace(
        tp=float(tp), sequence_parallel=float(sequence_parallel), split_sends=float(split_sends)
    )
    return cut(dimensions(model), chosen)


def padding(model: Model, tp: int) -> int:
    """Parameters of rows that no token has: parts are even, and multiples of 128 unless they are of 8."""
    part = -(-model.vocabulary // tp)
    part = part if part % 8 == 0 else -(-part // 128) * 128
    return (part * tp - model.vocabulary) * model.hidden * (1 if model.tied_embeddings else 2)


def held(mine: Shard, layers: int) -> float:
    """Parameters of a rank that has every layer; a tied head is the embedding."""
    head = mine.head - mine.tied * mine.vocabulary * mine.hidden
    return layers * mine.layer + mine.embedding + head


@pytest.mark.parametrize("name", MODELS)
def test_a_rank_alone_holds_the_whole_model(small: Make, name: str) -> None:
    model = load("model", name)
    assert held(share(small, model), model.layers) == parameters(model) + padding(model, 1)


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("tp", [2, 4])
def test_shares_of_a_group_sum_to_the_model_and_what_every_rank_repeats(small: Make, name: str, tp: int) -> None:
    model = load("model", name)
    norm = model.hidden * (2 if model.norm == "layer" else 1)
    # norms, biases after matrices that are cut by rows, learned positions
    in_layer = 2 * norm + (2 * model.hidden if model.bias is True else 0)
    outside = norm * (1 + model.embedding_norm) + (model.max_sequence * model.hidden) * (model.positions == "learned")
    repeated = (tp - 1) * (model.layers * in_layer + outside)
    assert tp * held(share(small, model, tp), model.layers) == parameters(model) + repeated + padding(model, tp)


def test_key_value_heads_fewer_than_ranks_are_held_more_than_once(small: Make) -> None:
    model = load("model", "llama-3.1-8b")  # 8 key/value heads of 128
    assert [share(small, model, tp).key for tp in (1, 4, 8, 16)] == [1024, 256, 128, 128]
    assert [share(small, model, tp).query for tp in (1, 4, 8, 16)] == [4096, 1024, 512, 256]


def test_a_message_to_the_next_stage_is_cut_where_the_stack_or_the_layers_cut_it(small: Make) -> None:
    model = load("model", "llama-3.1-8b")
    whole = 2048 * 4096 * 2  # tokens x hidden x 16 bits
    sizes = {
        (cut_by_layers, cut_by_stack): share(
            small, model, 4, sequence_parallel=cut_by_layers, split_sends=cut_by_stack
        ).boundary
        for cut_by_layers in (False, True)
        for cut_by_stack in (False, True)
    }
    assert sizes == {
        (False, False): whole, (False, True): whole / 4, (True, False): whole / 4, (True, True): whole / 4,
    }  # fmt: skip


def test_norms_work_on_their_part_of_the_sequence_alone(small: Make) -> None:
    model = load("model", "llama-3.1-8b")
    with_it, without = (share(small, model, 8, sequence_parallel=on) for on in (True, False))
    assert (with_it.local_tokens, without.local_tokens) == (256, 2048)
    assert with_it.tokens == without.tokens == 2048
    assert with_it.local_activation * 8 == without.local_activation == with_it.activation
