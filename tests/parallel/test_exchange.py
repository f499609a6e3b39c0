"""What expert parallelism sends: bytes of every way to do it, by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scaleout.collectives.moe import ByKernel, spread
from scaleout.errors import SpecError
from scaleout.parallel import Block, Tables, shard
from scaleout.parallel.exchange import ExpertExchange
from scaleout.specs import Experts, TrainingExperiment

Make = Callable[..., TrainingExperiment]
EXPERTS = Experts(count=16, top_k=4, ffn=1024, groups=4, group_limit=2)


@pytest.fixture
def mixture(small: Make) -> Make:
    def make(layout: Any = None, precision: Any = "bf16", **changes: Any) -> TrainingExperiment:
        spec = small(system="hgx-h800", layout={"tp": 2, "pp": 2, "dp": 16, "vpp": 1}, batch={"global": 64}, **changes)
        spec = replace(spec, precision=precision, model=replace(spec.model, experts=EXPERTS))
        return replace(spec, layout=replace(spec.layout, **{"ep": 8} | (layout or {})))

    return make


def messages(spec: TrainingExperiment) -> tuple[Any, Any]:
    made = ExpertExchange(spec, shard(spec))
    return made.out, made.back


def test_a_library_sends_a_copy_for_each_choice(mixture: Make) -> None:
    spec = mixture()
    mine = shard(spec)
    (out,), (back,) = messages(spec)
    assert (out.family, out.operation) == ("ep", "all_to_all")
    assert out == back
    assert out.nbytes == pytest.approx(mine.local_tokens * 4 * mine.hidden * 2.0)
    # all that choose the favourites' rank wait for it
    skewed = replace(spec, routing=replace(spec.routing, skew=1.0))
    assert messages(skewed)[0][0].nbytes > out.nbytes * 1.5


def test_kernels_send_a_copy_to_each_node(mixture: Make) -> None:
    for precision, element in (("bf16", 2.0), ("fp8", 1.03125)):
        spec = mixture(precision=precision)
        spec = replace(spec, stack=replace(spec.stack, experts_exchange="DeepEP"))
        mine = shard(spec)
        (out,), (back,) = messages(spec)
        assert isinstance(out.details, ByKernel)
        assert out.details.kernel.copies == "node"
        assert out.nbytes == pytest.approx(mine.local_tokens * mine.hidden * element)
        assert back.nbytes == pytest.approx(mine.local_tokens * mine.hidden * 2.0)
        # of 16 experts in four groups, four of two groups: three ranks of eight in the mean, or so
        assert 2.0 < spread(out.details.exchange, 8, "rank").copies < 4.0


def test_ranks_that_cut_an_expert_get_each_others_tokens(mixture: Make) -> None:
    spec = mixture(layout={"ep": 4, "etp": 2})
    mine = shard(spec)
    out, back = messages(spec)
    assert [(m.family, m.operation) for m in out] == [("ep", "all_to_all"), ("etp", "all_gather")]
    assert [(m.family, m.operation) for m in back] == [("etp", "reduce_scatter"), ("ep", "all_to_all")]
    assert out[1].nbytes == back[0].nbytes == pytest.approx(2 * 4 * mine.local_tokens * mine.hidden * 2.0)
    block = Block(Tables())
    made = ExpertExchange(spec, mine)
    (last,) = made.combine(block, made.dispatch(block, ()))
    frozen = block.freeze()
    # one after another
    assert (last, frozen.after[:, 0].tolist()) == (3, [0, 1, 1, 1])
    assert len(np.unique(frozen.ops[:, 1])) == 1


def test_all_experts_on_each_rank_send_nothing(mixture: Make) -> None:
    assert messages(mixture(layout={"ep": 1})) == ((), ())


def test_what_the_system_lacks_is_named(mixture: Make) -> None:
    spec = mixture()
    with pytest.raises(SpecError, match=r"experts_exchange: system 'hgx-h800' has no kernels 'deepep'.*DeepEP"):
        messages(replace(spec, stack=replace(spec.stack, experts_exchange="deepep")))
