"""Communicators of layouts: every rank once in each family, families across each other, Megatron-Core's examples."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scaleout.parallel import families, stage_of
from scaleout.specs import Layout

ORDERS = st.permutations(("tp", "cp", "dp", "pp")).map(tuple)
DEGREES = st.integers(1, 4)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    tp, cp, dp, pp = (draw(DEGREES) for _ in range(4))
    of_experts = [(ep, etp) for ep in range(1, 65) for etp in range(1, 5) if tp * cp * dp % (ep * etp) == 0]
    ep, etp = draw(st.sampled_from(of_experts))
    shard = draw(st.sampled_from([None, *(n for n in range(1, 17) if cp * dp % n == 0)]))
    return Layout(tp=tp, cp=cp, dp=dp, pp=pp, ep=ep, etp=etp, shard=shard, order=draw(ORDERS))


def groups(layout: Layout, name: str) -> list[list[int]]:
    """Of a family; a rank alone where the layout has none of this name."""
    found = families(layout, tied_embeddings=True)
    return found[name].groups.tolist() if name in found else [[rank] for rank in range(layout.chips)]


@given(layouts())
def test_every_rank_is_in_one_group_of_each_family(layout: Layout) -> None:
    sizes = {
        "tp": layout.tp, "cp": layout.cp, "dp": layout.replicas, "ep": layout.ep, "etp": layout.etp,
        "edp": layout.expert_replicas, "world": layout.chips,
    }  # fmt: skip
    if layout.shard is not None:
        sizes |= {"shard": layout.shard, "copies": layout.replicas // layout.shard}
    for name, size in sizes.items():
        made = groups(layout, name)
        assert sorted(rank for group in made for rank in group) == list(range(layout.chips))
        assert {len(group) for group in made} == {size}
        assert all(group == sorted(group) for group in made)


@given(layouts())
def test_groups_stay_in_their_stage_and_families_cross_in_one_rank(layout: Layout) -> None:
    stage = stage_of(layout)
    assert np.bincount(stage).tolist() == [layout.chips // layout.pp] * layout.pp
    for cut in (("tp", "dp"), ("etp", "ep", "edp"), *((("tp", "shard", "copies"),) if layout.shard else ())):
        numbers = np.empty((layout.chips, len(cut)), dtype=int)
        for column, name in enumerate(cut):
            for number, group in enumerate(groups(layout, name)):
                assert len(set(stage[group])) == 1
                numbers[group, column] = number
        # two families meet in one rank at most
        for a in range(len(cut)):
            for b in range(a):
                assert len(np.unique(numbers[:, [a, b]], axis=0)) == layout.chips


@given(layouts())
def test_stages_pass_on_to_the_like_of_each_rank(layout: Layout) -> None:
    assume(layout.pp > 1)
    stage, made = stage_of(layout), families(layout, tied_embeddings=True)
    for name, step in (("pp_forward", 1), ("pp_backward", -1)):
        sender, receiver = made[name].groups.T
        assert sorted(sender) == sorted(receiver) == list(range(layout.chips))
        assert ((stage[sender] + step) % layout.pp == stage[receiver]).all()
    first, last = made["embedding"].groups.T
    assert (set(stage[first]), set(stage[last])) == ({0}, {layout.pp - 1})


def test_the_example_of_megatron_core() -> None:
    # parallel_state.initialize_model_parallel: 16 GPUs, two a tensor group, four stages
    layout = Layout(tp=2, pp=4, dp=2)
    assert groups(layout, "dp") == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11], [12, 14], [13, 15]]
    assert groups(layout, "tp") == [[rank, rank + 1] for rank in range(0, 16, 2)]
    assert families(layout, tied_embeddings=False)["pp_forward"].groups[::4].tolist() == [
        [0, 4], [4, 8], [8, 12], [12, 0]
    ]  # fmt: skip
    # tp-cp-ep-dp-pp: the context group is next, and the experts' ranks are counted again from the first
    layout = Layout(tp=2, cp=2, dp=2, pp=2, ep=4, etp=1)
    assert groups(layout, "cp")[:2] == [[0, 2], [1, 3]]
    assert groups(layout, "dp")[:2] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert groups(layout, "ep")[:2] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert groups(layout, "edp")[:4] == [[0, 4], [1, 5], [2, 6], [3, 7]]
    # with etp = tp the expert groups lie across the tensor groups
    layout = Layout(tp=2, dp=8, ep=4, etp=2)
    assert groups(layout, "etp") == groups(layout, "tp")
    assert groups(layout, "ep") == [[0, 2, 4, 6], [1, 3, 5, 7], [8, 10, 12, 14], [9, 11, 13, 15]]
    assert groups(layout, "edp")[0] == [0, 8]


def test_the_stage_may_be_counted_before_the_copies() -> None:
    layout = Layout(tp=2, pp=2, dp=2, order=("tp", "cp", "pp", "dp"))
    assert stage_of(layout).tolist() == [0, 0, 1, 1] * 2
    assert groups(layout, "dp") == [[0, 4], [1, 5], [2, 6], [3, 7]]
    layout = Layout(tp=2, pp=4, order=("pp", "tp", "cp", "dp"))
    assert stage_of(layout).tolist() == [0, 1, 2, 3] * 2
    assert groups(layout, "tp") == [[0, 4], [1, 5], [2, 6], [3, 7]]


@pytest.mark.parametrize(("shard", "first"), [(2, [[0, 2], [4, 6]]), (4, [[0, 2, 4, 6]])])
def test_parts_of_the_model_lie_close_together_and_their_copies_apart(shard: int, first: list[list[int]]) -> None:
    layout = Layout(tp=2, dp=4, shard=shard)
    assert groups(layout, "shard")[: len(first)] == first
    assert groups(layout, "copies")[0] == ([0, 4] if shard == 2 else [0])
