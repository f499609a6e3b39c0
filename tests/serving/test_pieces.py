"""Caches that leave piece by piece while they are computed."""

from dataclasses import replace

import made_up
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import left_behind, run, spec, table

from scaleout.errors import PlanError
from scaleout.io.experiments import serving_experiment
from scaleout.serve import serve_log
from scaleout.serving.request import STATES
from scaleout.specs import POLICIES, Cache, Failure, Pool

POOLS = (Pool(role="prefill", replicas=2), Pool(role="decode", replicas=2))
APART = {
    "system": "dgx-h100", "model": "llama-3.1-70b", "engine": "vllm-0.19",
    "pools": [{"role": "prefill", "tp": 4}, {"role": "decode", "tp": 4}],
    "requests": {
        "input": {"mean": 4000}, "output": {"mean": 5}, "count": 6, "arrivals": {"process": "constant", "rate": 1},
    },
}  # fmt: skip


@given(
    rows=made_up.rows, policy=st.sampled_from(POLICIES), blocks=st.integers(50, 200), most=st.integers(1, 20),
    slow=st.integers(0, 5000), pieces=st.integers(2, 9),
    lost=st.none() | st.tuples(st.integers(0, 3), st.integers(1, 60_000), st.integers(1, 60_000)),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_requests_end_once_and_single_steps_are_the_same(rows, policy, blocks, most, slow, pieces, lost):
    failures = ()
    if lost is not None:
        replica, at, more = lost
        failures = (Failure(replica=replica, at=at * 1e-12, until=(at + more) * 1e-12),)
    experiment = spec(
        POOLS, scheduler={"policy": policy, "max_sequences": most}, cache=Cache(pieces=pieces), failures=failures
    )
    log, cluster = run(rows, experiment, blocks=blocks, slow=slow)
    assert sorted(log.number) == list(range(len(rows)))
    assert {STATES[state] for state in log.state} == {"served"}
    assert left_behind(cluster, blocks, most) == []
    assert not cluster._early and not cluster._moving
    single, _ = run(rows, experiment, blocks=blocks, slow=slow, closed=False)
    assert table(log) == table(single)


def test_the_second_token_comes_a_piece_after_the_first():
    """Alone the last of k pieces is what is left after the prompt: see (4) of docs/transfers.md."""
    whole, log_whole = serve_log(serving_experiment(APART), sensitivity=False)
    parts, log_parts = serve_log(serving_experiment(APART, ("cache.pieces=80",)), sensitivity=False)
    assert parts.ttft == whole.ttft
    ended = dict(zip(log_parts.number, log_parts.first, strict=True))
    for (start, end, number, nbytes), (late_start, late, same, equal) in zip(
        sorted(log_parts.transfers, key=lambda row: row[2]), sorted(log_whole.transfers, key=lambda row: row[2]),
        strict=True,
    ):  # fmt: skip
        assert (number, nbytes) == (same, pytest.approx(equal))
        assert start < ended[number] <= end < late
        assert end - ended[number] == pytest.approx((late - late_start) / 80, rel=0.2)
    assert parts.gap.max < whole.gap.max


def test_one_piece_is_the_whole_after_the_prompt():
    experiment = serving_experiment(APART)
    again = replace(experiment, cache=Cache(pieces=1))
    assert table(serve_log(experiment)[1]) == table(serve_log(again)[1])


def test_more_pieces_than_layers_are_refused():
    with pytest.raises(PlanError, match=r"cache\.pieces: 81 of the 80 layers of a stage of pools\.0"):
        serving_experiment(APART, ("cache.pieces=81",))
