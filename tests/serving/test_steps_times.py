"""Step times of a pool: sums, bounds, padding, hosts, and what a draft adds."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.engine.program import ticks
from scaleout.errors import PlanError, SpecError
from scaleout.io.catalogue import load
from scaleout.io.experiments import serving_experiment
from scaleout.serving import steps as module
from scaleout.serving.steps import PoolSteps
from scaleout.serving.work import IDLE, Work, upto
from scaleout.specs import Speculation

REQUESTS = {"input": {"mean": 1000}, "output": {"mean": 200}, "arrivals": {"process": "poisson", "rate": 1.0}}


def experiment(model="llama-3.1-8b", tp=1, engine=None, **more):
    pools = more.pop("pools", [{"tp": tp}])
    spec = {"system": "dgx-h100", "model": model, "engine": "vllm-0.19", "pools": pools, "requests": REQUESTS, **more}
    found = serving_experiment(spec)
    return found if engine is None else replace(found, engine=replace(found.engine, **engine))


def timer(*args, **more):
    found = experiment(*args, **more)
    return PoolSteps(found, found.pools[0])


def decode(count, seen=1000, each=1):
    return Work(
        decodes=count, decode_tokens=count * each, context=upto(count * seen), longest=upto(seen), rows=count * each
    )


def prompt(tokens, count=1):
    return Work(
        prompt_tokens=tokens * count,
        prompt_scores=count * tokens * (tokens + 1) // 2,
        prompt_context=tokens * count,
        prompts=count,
        rows=count,
    )


def both(a, b):
    return Work(*(x + y for x, y in zip(a, b, strict=True)))


PLAIN = timer()
WORKS = st.builds(
    lambda decodes, seen, tokens: both(decode(decodes, seen) if decodes else IDLE, prompt(tokens) if tokens else IDLE),
    st.integers(0, 300), st.integers(16, 8000), st.integers(0, 4096),
).filter(lambda work: work.rows > 0)  # fmt: skip


@given(work=WORKS)
@settings(max_examples=40, deadline=None)
def test_a_program_adds_up_to_its_stages(work):
    total = PLAIN.stages((work,))
    parts = [sum(one.compute + one.alone for one in stage) for stage in PLAIN.program((work,))]
    assert tuple(parts) == total


@pytest.mark.parametrize(
    ("more", "ranks"),
    [
        ({"model": "llama-3.1-70b", "pools": [{"tp": 2, "pp": 4}]}, 1),
        ({"model": "mixtral-8x7b", "pools": [{"tp": 2, "ep": 2}]}, 1),
        ({"model": "deepseek-v3", "precision": "fp8_block", "pools": [{"tp": 1, "dp": 8, "ep": 8}]}, 8),
        ({"model": "gemma3-27b", "pools": [{"tp": 2, "pp": 2}]}, 1),
        ({"model": "llama-4-scout", "pools": [{"tp": 2, "dp": 4}]}, 4),
    ],
)
def test_programs_of_every_layout_add_up(more, ranks):
    steps = timer(**more)
    works = (decode(32),) * (ranks - 1) + (both(decode(30), prompt(300)),)
    total = steps.stages(works)
    program = steps.program(works)
    assert tuple(sum(one.compute + one.alone for one in stage) for stage in program) == total
    assert all(one.alone == 0 for stage in program for one in stage if one.message is None)
    # messages that a network can run
    for stage in program:
        for message in {one.message for one in stage if one.message is not None and one.message.details is None}:
            pattern = steps.wires.pattern(message)
            assert ticks(pattern.alone(steps.wires.fabric, message.nbytes)) == pytest.approx(
                steps.alone.of(message), rel=1e-9, abs=2
            )


def test_a_step_reads_all_weights_and_the_cache():
    chip = load("chip", "h100-sxm-80gb")
    seen, count = 4096, 128
    cache = count * seen * 32 * 2 * 8 * 128 * 2.0
    least = (8.03e9 * 2.0 - 128256 * 4096 * 2.0 + cache) / chip.hbm_bandwidth
    (step,) = PLAIN.stages((decode(count, seen),))
    assert least < step / 1e12 < 2.0 * least


def test_longer_and_larger_is_slower():
    times = [PLAIN.stages((decode(64, seen),))[0] for seen in (100, 1000, 10_000, 100_000)]
    assert times == sorted(times)
    sizes = [PLAIN.stages((prompt(tokens),))[0] for tokens in (1024, 2048, 4096, 8192)]
    assert sizes == sorted(sizes)


def test_rounding_of_cached_tokens_moves_a_step_by_little():
    for seen in (127, 129, 1025, 5000, 70_001):
        exact = Work(decodes=64, decode_tokens=64, context=64 * seen, longest=seen, rows=64)
        near, far = PLAIN.stages((exact,))[0], PLAIN.stages((decode(64, seen),))[0]
        assert -0.002 < far / near - 1.0 < 0.02


def test_graphs_pad_and_eager_steps_do_not():
    sizes = PLAIN.engine.graph_sizes
    assert PLAIN._padded(65, prompts=False) == 72
    assert PLAIN._padded(max(sizes) + 1, prompts=False) is None
    full = timer(engine={"graphs_mixed": False})
    assert full._padded(65, prompts=True) is None
    # products of 65 and of 72 tokens are the same ones; attention and logits are not padded
    one, other = (PLAIN.layers.stages[0][0], PLAIN.stages((decode(65),)))
    assert (PLAIN.around.of(one, 72), other)[0] in PLAIN.around.values()


def test_hosts_bind_where_kernels_are_short():
    eager = timer(engine={"graph_sizes": (), "host_launch": 50e-6})
    (slow,) = eager.stages((decode(1, 16),))
    kernels = 32 * 8
    assert slow > kernels * 50e-6 * 1e12
    assert eager.stages((prompt(8192),))[0] < 1.02 * PLAIN.stages((prompt(8192),))[0]


def test_slower_processors_take_longer():
    found = experiment(engine={"graph_sizes": (), "host_launch": 50e-6, "overlapped": False})
    half = replace(found, system=replace(found.system, host=replace(found.system.host, speed=0.5)))
    a, b = (PoolSteps(one, one.pools[0]).stages((decode(1, 16),))[0] for one in (found, half))
    assert b == pytest.approx(2 * a, rel=0.05)


def test_overheads_count_once_or_are_hidden():
    bare = timer(engine={"overlapped": False, "step_overhead": 0.0, "sequence_overhead": 0.0})
    added = timer(engine={"overlapped": False, "step_overhead": 5e-3, "sequence_overhead": 1e-5})
    hidden = timer(engine={"overlapped": True, "step_overhead": 5e-3, "sequence_overhead": 0.0})
    long = timer(engine={"overlapped": True, "step_overhead": 1.0, "sequence_overhead": 0.0})
    work = (decode(100),)
    assert added.stages(work)[0] - bare.stages(work)[0] == ticks(5e-3 + 100e-5)
    assert hidden.stages(work) == bare.stages(work)
    assert long.stages(work)[0] == ticks(1.0)


def test_tensor_parallel_steps_are_faster_but_not_by_as_much():
    times = [timer("llama-3.1-70b", tp=tp).stages((decode(16),))[0] for tp in (2, 4, 8)]
    assert times == sorted(times, reverse=True)
    assert times[0] < 4 * times[2]


def test_the_slowest_attention_rank_decides():
    steps = timer("deepseek-v3", precision="fp8_block", pools=[{"tp": 1, "dp": 4, "ep": 4}])
    even = steps.stages((decode(32),) * 4)
    uneven = steps.stages((decode(32),) * 3 + (decode(32, 50_000),))
    assert uneven[0] > even[0]
    # who waits for others does nothing, and is asked for nothing
    alone, all_of = steps.stages((prompt(2048), IDLE, IDLE, IDLE)), steps.stages((prompt(2048),) * 4)
    assert alone[0] < all_of[0]


def test_experts_by_kernels_of_a_library():
    gathered = experiment("deepseek-v3", precision="fp8_block", pools=[{"tp": 1, "dp": 8, "ep": 8}])
    by_kernel = replace(gathered, engine=replace(gathered.engine, experts_exchange="DeepEP"))
    work = (prompt(2048),) * 8
    a, b = (PoolSteps(one, one.pools[0]).stages(work)[0] for one in (gathered, by_kernel))
    assert b < a
    unknown = replace(gathered, engine=replace(gathered.engine, experts_exchange="DeepEqual"))
    with pytest.raises(SpecError, match="DeepEP"):
        PoolSteps(unknown, unknown.pools[0]).stages(work)


def test_verification_is_cheaper_than_as_many_steps_and_a_draft_costs():
    found = experiment("llama-3.1-70b", tp=4)
    speculating = replace(found, speculation=Speculation(tokens=3, acceptance=0.7, draft=load("model", "llama-3.2-1b")))
    plain, drafted = (PoolSteps(one, one.pools[0]) for one in (found, speculating))
    one = plain.stages((decode(16),))[0]
    verify = plain.stages((decode(16, each=4),))[0]
    assert one < verify < 2 * one
    (whole,) = drafted.stages((decode(16, each=4),))
    assert verify < whole < 4 * one
    assert sum(part.compute + part.alone for part in drafted.program((decode(16, each=4),))[0]) == whole


def test_prediction_layers_draft():
    spec = {"precision": "fp8_block", "pools": [{"tp": 8, "ep": 8}]}
    found = experiment("deepseek-v3", **spec)
    predicting = replace(found, speculation=Speculation(tokens=1, acceptance=0.8))
    plain, drafted = (PoolSteps(one, one.pools[0]).stages((decode(16, each=2),))[0] for one in (found, predicting))
    # one layer of 61, and the head
    assert 1.005 < drafted / plain < 1.2
    none = experiment("llama-3.1-8b")
    with pytest.raises(PlanError, match="multi-token prediction"):
        replaced = replace(none, speculation=Speculation(tokens=1, acceptance=0.8))
        PoolSteps(replaced, replaced.pools[0])


def test_tables_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "_MOST", 10)
    steps = timer()
    for count in range(1, 60):
        steps.stages((decode(count),))
    assert len(steps._steps) <= 10
    assert len(steps.decode) <= 10


def test_a_step_again_is_the_same():
    again = timer()
    work = (both(decode(17, 333), prompt(77)),)
    assert again.stages(work) == PLAIN.stages(work) == again.stages(work)
