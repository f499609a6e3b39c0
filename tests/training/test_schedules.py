import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.models import LayerKind
from scaleout.training import Pass, deal, interleaved, one_f_one_b, schedule

GRIDS = st.tuples(st.integers(1, 8), st.integers(1, 4), st.integers(1, 4))


@given(GRIDS)
def test_every_micro_batch_goes_once_through_every_chunk_each_way(grid: tuple[int, int, int]) -> None:
    stages, chunks, rounds = grid
    micro_batches = stages * rounds
    expected = {Pass(b, m, c) for b in (False, True) for m in range(micro_batches) for c in range(chunks)}
    for stage in range(stages):
        plan = list(schedule(stage, stages, chunks, micro_batches))
        assert len(plan) == len(expected)
        assert set(plan) == expected


@given(GRIDS)
def test_backward_comes_after_its_own_forward(grid: tuple[int, int, int]) -> None:
    stages, chunks, rounds = grid
    for stage in range(stages):
        place = {step: index for index, step in enumerate(schedule(stage, stages, chunks, stages * rounds))}
        for step, index in place.items():
            if step.backward:
                assert place[Pass(False, step.micro_batch, step.chunk)] < index


@pytest.mark.parametrize("stage", range(4))
def test_1f1b_holds_no_more_than_its_distance_from_the_end(stage: int) -> None:
    held, most = 0, 0
    for step in one_f_one_b(stage, 4, 16):
        held += -1 if step.backward else 1
        most = max(most, held)
    assert (held, most) == (0, 4 - stage)


def test_interleaved_warm_up_is_that_of_megatron() -> None:
    # (p - s - 1) 2 + (v - 1) p forwards before the first backward, and one more in steady state
    for stage in range(4):
        plan = list(interleaved(stage, 4, 3, 8))
        assert next(i for i, step in enumerate(plan) if step.backward) == (4 - stage - 1) * 2 + 2 * 4 + 1


@given(st.integers(1, 200), st.integers(1, 130))
def test_layers_are_dealt_completely_and_evenly(layers: int, chunks: int) -> None:
    if chunks > layers + 2:
        return
    dealt = deal([LayerKind()] * layers, chunks)
    assert sum(chunk.layers for chunk in dealt) == layers
    assert [chunk.embedding for chunk in dealt] == [True] + [False] * (chunks - 1)
    assert [chunk.loss for chunk in dealt] == [False] * (chunks - 1) + [True]
    counts = [chunk.layers for chunk in dealt]
    assert max(counts) - min(counts) <= 1


def test_llama_405b_on_128_chunks_gives_embedding_and_loss_a_place_each() -> None:
    counts = [chunk.layers for chunk in deal([LayerKind()] * 126, 128)]
    assert counts == [0] + [1] * 126 + [0]
