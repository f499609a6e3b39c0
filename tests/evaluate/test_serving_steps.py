"""What the time of a serving step is made of."""

from typing import Any

import pytest

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.evaluate.serving_steps import Typical, errors_of, parts_of
from scaleout.io.experiments import serving_experiment
from scaleout.serve import prepare
from scaleout.serving.work import Work, upto


def made(**changes: Any) -> Any:
    base = {"kind": "serving", "system": "dgx-h100", "model": "llama-3.1-70b", "engine": "vllm-0.19",
            "pools": [{"tp": 4}], "requests": {"trace": "chat-1000"}}  # fmt: skip
    spec = serving_experiment({**base, **changes})
    return spec, prepare(spec).timers[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pools": [{"tp": 4, "pp": 2}]},
        {"model": "llama-3.1-8b", "pools": [{}]},
        {"model": "deepseek-v3", "pools": [{"dp": 16, "ep": 16}], "precision": "fp8_block"},
        {"precision": "fp8"},
    ],
)
def test_parts_are_the_step(changes: dict[str, Any]) -> None:
    spec, timer = made(**changes)
    # as many as a graph is captured for, so that nothing is padded
    typical = Typical(decodes=16, context=1000, prompt=1000, prompt_steps=0.0)
    parts = parts_of(timer, typical)
    work = Work(0, 0, 0, 0, 16, 16, upto(16000), upto(1000), 16)
    step = sum(timer.stages((work,) * timer.pool.dp)) / TICKS_PER_SECOND
    assert sum(parts.values()) == pytest.approx(step, rel=0.02)
    assert min(parts.values()) >= 0.0
    assert ("tp" in parts) == (timer.pool.tp > 1)
    assert ("pp" in parts) == (timer.pool.pp > 1)
    assert ("ep" in parts) == (timer.pool.dp > 1)
    errors = errors_of(spec, timer.layers.chip, parts)
    assert set(errors) == {kind for kind, seconds in parts.items() if seconds} | {"software"}
    assert all(0.0 < error < 0.5 for error in errors.values())


def test_prompts_bring_arithmetic_and_long_contexts_attention() -> None:
    _, timer = made()

    def share(kind: str, typical: Typical) -> float:
        parts = parts_of(timer, typical)
        return parts[kind] / sum(parts.values())

    few = Typical(decodes=16, context=500, prompt=1000, prompt_steps=0.0)
    assert share("attention", few._replace(context=20_000)) > 2.0 * share("attention", few)
    assert share("launch", few._replace(prompt_steps=1.0)) < share("launch", few)
    assert sum(parts_of(timer, few._replace(decodes=0, prompt_steps=1.0)).values()) > 0.0
