import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest

import scaleout
from scaleout.comparison import Comparison, compare
from scaleout.errors import PlanError, SpecError
from scaleout.result import ErrorBand, Result
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]


def with_breakdown(result: Result, factor: float = 1.0, **breakdown: float) -> Result:
    """A made-up result with these parts [s]; `factor` times the tokens of the original."""
    seconds = sum(breakdown.values())
    rate = result.tokens_per_second * result.step_time * factor / seconds
    return replace(result, breakdown=breakdown, step_time=seconds, tokens_per_second=rate)


@pytest.fixture(scope="module")
def base() -> Result:
    return simulate(scaleout.experiment("llama-3.1-8b-1k"))


def test_shares_and_differences_add_up_to_the_whole(small: Make) -> None:
    comparison = compare(small(), small(stack="megatron-lm", layout={"pp": 2, "dp": 8}))
    whole = comparison.b.step_time - comparison.a.step_time
    assert sum(part.difference for part in comparison.parts) == pytest.approx(whole)
    assert sum(part.share or 0.0 for part in comparison.parts) == pytest.approx(1.0)
    assert comparison.parts[0].a == comparison.a.breakdown["compute"]


def test_settings_that_differ_are_listed_and_no_others(small: Make) -> None:
    b = small(layout={"pp": 2, "dp": 8}, stack="megatron-lm")
    b = replace(b, system=replace(b.system, network=replace(b.system.network, bandwidth=1e11)), settings=("x=1",))
    found = compare(small(), b).settings
    assert found["stack"] == ("pytorch", "megatron-lm")
    assert found["layout.pp"] == (4, 2)
    assert found["system.network.bandwidth"][1] == 1e11
    assert set(found) == {"stack", "layout.pp", "layout.dp", "system.network.bandwidth"}


def test_an_experiment_with_itself(small: Make) -> None:
    comparison = compare(small(), small())
    assert dict(comparison.settings) == {}
    assert comparison.words == "Both take the same time, in every part."
    assert all(part.share is None and part.difference == 0 for part in comparison.parts)


def test_a_result_compares_with_an_experiment_by_the_settings_on_record(small: Make) -> None:
    kept = Result.from_json(simulate(small()).to_json())
    comparison = compare(kept, small(recompute=["full"]))
    assert dict(comparison.settings) == {"recompute": ("none", "full")}
    assert comparison.words.startswith("B takes 1.")
    assert "more time in kernels" in comparison.words


def test_the_sentence_names_the_part_that_explains_most(base: Result) -> None:
    a = with_breakdown(base, compute=4.0, exposed_tp=2.0)
    words = compare(a, with_breakdown(base, compute=3.5, exposed_tp=0.5)).words
    assert words == (
        "B is 1.5 times as fast (4 s a step against 6 s): 75% of it is less time "
        "waiting for tensor-parallel transfers (2 s in A, 500 ms in B)."
    )
    slower = compare(a, with_breakdown(base, compute=3.0, exposed_tp=2.0, bubble=4.0)).words
    assert slower == (
        "B takes 1.5 times as long (9 s a step against 6 s): all of it and more, partly undone elsewhere, is "
        "more time in the pipeline bubble (0 s in A, 4 s in B)."
    )


def test_steps_of_different_work_are_compared_token_by_token(base: Result) -> None:
    a = with_breakdown(base, compute=4.0, bubble=2.0)
    twice = with_breakdown(base, 2.0, compute=8.0, bubble=2.0)
    comparison = compare(a, twice)
    assert comparison.per_token
    assert {part.name: part.share for part in comparison.parts} == pytest.approx({"compute": 0.0, "bubble": 1.0})
    assert comparison.words.startswith("B is 1.2 times as fast")
    assert "100% of it is less time in the pipeline bubble" in comparison.words
    same = compare(a, with_breakdown(base, 2.0, compute=8.0, bubble=4.0))
    assert same.per_token
    assert same.words == "Both take the same time, in every part."


def test_a_comparison_is_frozen_and_plain_as_json(small: Make) -> None:
    comparison = scaleout.compare(small(), small(recompute=["full"]))
    assert isinstance(comparison, Comparison)
    with pytest.raises(FrozenInstanceError):
        comparison.words = ""  # type: ignore[misc]
    data = json.loads(json.dumps(comparison.to_dict()))
    assert data["settings"] == {"recompute": {"a": [], "b": ["full"]}}
    assert data["b"]["step_time"] - data["a"]["step_time"] == data["step_time_difference"]
    assert data["speed_up"] < 1


def test_what_cannot_be_compared_is_refused(small: Make) -> None:
    with pytest.raises(SpecError, match="neither an experiment nor a result"):
        compare(small(), "llama")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="does not fit in HBM"):
        compare(small(), small(model="llama-3.1-405b"))


def test_a_difference_within_the_wider_band_is_a_tie(base: Result) -> None:
    a = with_breakdown(base, compute=4.0)
    half, twice = a.error_band.relative / 2, a.error_band.relative * 2
    near, far = (compare(a, with_breakdown(base, compute=4.0 * (1 + step))) for step in (half, twice))
    assert (near.tie, far.tie) == (True, False)
    assert near.words.endswith(f"That is within the error band ({a.error_band.relative:.0%}): treat it as a tie.")
    assert "tie" not in far.words
    # as good a tie the other way round, and where one step has twice the tokens
    assert compare(near.b, near.a).tie
    assert compare(a, with_breakdown(base, 2.0, compute=8.0 * (1 + half))).tie
    wide = replace(far.b, error_band=ErrorBand(relative=2 * twice, parts={"matmul": 2 * twice}))
    assert compare(a, wide).tie
    assert compare(a, wide).to_dict()["tie"] is True
    assert compare(a, wide).to_dict()["b"]["error_band"] == {"relative": 2 * twice, "parts": {"matmul": 2 * twice}}
