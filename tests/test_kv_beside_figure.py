"""The figure of caches beside a training job: what it shows, and that it is drawn alike each time."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from scaleout.report.style import render

SCRIPT = Path(__file__).parent.parent / "plots" / "kv_transfer_beside_training.py"


@pytest.fixture(name="script", scope="module")
def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kv_transfer_beside_training", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # its dataclasses look for their module
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_caches_and_steps_slow_each_other_where_they_meet(script: ModuleType) -> None:
    found = script.measure()
    # 16,384 tokens of 320 KiB over eight ports of 48.5 GB/s
    assert found.alone == pytest.approx(16_384 * 327_680 / 8 / 48.5e9 * 1e3, rel=1e-3)
    # alone where nothing is met; at worst the training job takes half of every way
    assert found.beside.min() == pytest.approx(found.alone, rel=1e-9)
    assert 1.8 < found.beside.max() / found.alone <= 2.01
    assert len(set(found.steps_alone)) == 1
    assert (found.steps > found.steps_alone * 1.1).all()
    both = found.caches + found.training
    assert (both <= found.capacity * (1 + 1e-9)).all()
    # all that was sent went through
    sent = np.sum(both * np.diff(found.edges)) / 1e3
    assert sent >= (len(found.beside) - 1) * 16_384 * 327_680 / 1e9

    figure = script.draw(found)
    assert all("[" in axes.get_ylabel() for axes in figure.axes) and "[ms]" in figure.axes[-1].get_xlabel()
    assert render(figure, "a") == render(script.draw(found), "a")
