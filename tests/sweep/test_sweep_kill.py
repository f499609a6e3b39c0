"""Drivers that are killed at once: what was recorded is there, and the next one ends with the same table."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from slow_sweep import SWEEP

import scaleout
from scaleout.sweep.execute import connect, serial
from scaleout.sweep.results import results_of
from scaleout.sweep.run import run_sweep
from scaleout.sweep.spec import Sweep

DRIVER = Path(__file__).with_name("slow_sweep.py")


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed() -> str:
    return SWEEP.run().to_json()


def killed(store: Path, until: str, *options: str) -> tuple[int, int]:
    """Start a driver, kill it when it says so, and give its number and the points that it said were recorded."""
    env = {**os.environ, "PYTHONPATH": str(Path(scaleout.__file__).parent.parent)}
    command = [sys.executable, str(DRIVER), str(store), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True) as driver:
        assert driver.stdout is not None
        recorded = 0
        for line in driver.stdout:
            stage, count = map(int, line.split())
            if stage == 1:
                recorded = count
            if line.startswith(until) and count:
                break
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert driver.returncode == -signal.SIGKILL
    return driver.pid, recorded


def test_a_driver_that_is_killed_loses_the_batch_under_way(
    tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = killed(tmp_path, "1 ")
    assert len(results_of(tmp_path)) >= first > 0
    _, second = killed(tmp_path, "2 ")
    # what the first had recorded was not computed again
    assert first + second == 20
    counted: list[int] = []
    original = serial.evaluate_batch

    def count(sweep: Sweep, evaluator: str, texts: list[str]) -> object:
        counted.append(len(texts))
        return original(sweep, evaluator, texts)

    monkeypatch.setattr(serial, "evaluate_batch", count)
    before = results_of(tmp_path).missing
    results = run_sweep(SWEEP, store=tmp_path)
    assert sum(counted) == before
    assert results.to_json() == undisturbed == results_of(tmp_path).to_json()


def test_a_ray_of_its_own_ends_with_its_driver(tmp_path: Path, undisturbed: str) -> None:
    driver, recorded = killed(tmp_path, "1 ", "local")
    assert recorded > 0
    mark = f"scaleout-ray-{driver}-"
    until = time.monotonic() + 60
    while (left := processes(mark)) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []
    assert run_sweep(SWEEP, store=tmp_path).to_json() == undisturbed
    # its files go when the next one starts
    assert list(Path(tempfile.gettempdir()).glob(f"{mark}*"))
    connect._folder().rmdir()
    assert not list(Path(tempfile.gettempdir()).glob(f"{mark}*"))


def processes(mark: str) -> list[str]:
    """Command lines of processes that work in a folder of this mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in command:
            found.append(command)
    return found
