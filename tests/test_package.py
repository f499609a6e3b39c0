"""What the package promises as a whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scaleout

ROOT = Path(__file__).parent.parent


def run(*args: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(args, capture_output=True, text=True, check=True, **kwargs)  # type: ignore[call-overload]


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    for name in scaleout.__all__:
        assert getattr(scaleout, name).__doc__, name
    assert set(scaleout.__all__) <= set(dir(scaleout))
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        scaleout.simulat  # noqa: B018


@pytest.mark.parametrize("first", ["compare", "scaling_table", "record", "simulate"])
def test_simulate_is_the_function_whatever_is_used_before(first: str) -> None:
    code = f"import scaleout; scaleout.{first}; scaleout.experiment; print(scaleout.simulate.__name__)"
    assert run(sys.executable, "-c", code).stdout.strip() == "simulate"


@pytest.mark.parametrize("name", ["simulate", "serve", "capacity"])
def test_a_function_stays_one_when_its_module_is_imported(name: str) -> None:
    code = f"import scaleout; from scaleout.{name} import {name} as f; print(callable(scaleout.{name}), callable(f))"
    assert run(sys.executable, "-c", code).stdout.strip() == "True True"


def test_importing_loads_no_heavy_library() -> None:
    heavy = "('ray', 'matplotlib', 'numba', 'pandas', 'pydantic', 'networkx', 'scipy')"
    code = f"import sys, scaleout.simulate; print([m for m in {heavy} if m in sys.modules])"
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def test_a_simulation_loads_neither_ray_nor_matplotlib_nor_numba() -> None:
    code = (
        "import sys, scaleout; scaleout.simulate(scaleout.experiment('llama-3.1-8b-1k')); "
        "print([m for m in ('ray', 'matplotlib', 'numba', 'pandas', 'networkx', 'scipy') if m in sys.modules])"
    )
    assert run(sys.executable, "-c", code, cwd=ROOT).stdout.strip() == "[]"


def test_the_wheel_carries_its_data_and_runs_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    run(*build)
    (wheel,) = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel))
    env = {**os.environ, "PYTHONPATH": str(site)}
    where = run(sys.executable, "-c", "import scaleout; print(scaleout.__file__)", cwd=elsewhere, env=env).stdout
    assert where.startswith(str(site))
    done = run(sys.executable, "-m", "scaleout", "run", "llama-3.1-8b-1k", cwd=elsewhere, env=env)
    assert "model FLOP/s per chip" in done.stdout
    assert sorted(path.name for path in (elsewhere / "results" / "llama-3.1-8b-1k").iterdir()) == [
        "breakdown.png",
        "breakdown.svg",
        "result.json",
        "timeline.json",
    ]


def test_serving_loads_neither_training_nor_compilers(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['scaleout', 'run', 'llama3-70b-poisson', '--set', 'requests.count=3', '--json']\n"
        "from scaleout.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('numba', 'ray', 'pandas', 'scipy', 'matplotlib', 'scaleout.training', 'scaleout.simulate')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path).stderr.strip().splitlines()[-1] == "[]"
