"""Sweeps on a Ray of one's own: the same table as in one process, whoever dies on the way.

Ray lives in a process of its own: it warns of its own threads and sockets, and a test's process is not to die with it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import scaleout

SESSION = Path(__file__).with_name("ray_session.py")


def session() -> dict[str, Any]:
    """What came out of it."""
    env = {**os.environ, "PYTHONPATH": str(Path(scaleout.__file__).parent.parent)}
    done = subprocess.run([sys.executable, str(SESSION)], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return told


# one test, for Ray takes seconds to start, and tests of one file may run in several processes
def test_ray_gives_what_one_process_gives_whoever_dies() -> None:
    told = session()
    sound = json.loads(told["serial"]["table"])
    assert len(sound["rows"]) == 20
    assert told["ray"] == told["serial"]
    # two workers were killed over larger batches
    assert told["deaths"] == 2
    assert told["killed"] == told["serial"]
    # one point kills every worker that takes it: it is recorded, and its neighbours are computed
    assert told["deadly"]["failed"] == {"its worker died 3 times": [1, 1024, 0]}
    struck = json.loads(told["deadly"]["table"])
    at = [column["name"] for column in sound["columns"]].index("status")
    assert [row[at] for row in struck["rows"]].count("failed") == 1
    assert struck["rows"][1:] == sound["rows"][1:]
    # a worker of other code is refused
    assert "has another version of scaleout" in told["refusal"]
    assert "ray job submit --working-dir" in told["refusal"]
