"""Sweeps on a Ray of one's own: the same table as in one process, whoever dies on the way.

Ray lives in a process of its own: it warns of its own threads and sockets, and a test's process is not to die with it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import scaleout

SESSION = Path(__file__).with_name("ray_session.py")


@pytest.fixture(name="told", scope="module")
def _told() -> dict[str, Any]:
    """One session, for Ray takes seconds to start."""
    root = str(Path(scaleout.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, str(SESSION)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return told


def test_ray_gives_the_bytes_that_one_process_gives(told: dict[str, Any]) -> None:
    assert told["ray"] == told["serial"]
    rows = json.loads(told["serial"]["table"])["rows"]
    assert len(rows) == 20


def test_workers_that_are_killed_change_nothing(told: dict[str, Any]) -> None:
    assert told["deaths"] == 2
    assert told["killed"] == told["serial"]


def test_a_point_that_kills_its_workers_is_recorded_and_stops_nothing(told: dict[str, Any]) -> None:
    assert told["deadly"]["failed"] == {"its worker died 3 times": [1, 1024, 0]}
    sound, struck = (json.loads(told[name]["table"]) for name in ("serial", "deadly"))
    at = [column["name"] for column in sound["columns"]].index("status")
    assert [row[at] for row in struck["rows"]].count("failed") == 1
    assert struck["rows"][1:] == sound["rows"][1:]


def test_a_worker_of_other_code_is_refused(told: dict[str, Any]) -> None:
    assert "has another version of scaleout" in told["refusal"]
    assert "ray job submit --working-dir" in told["refusal"]
