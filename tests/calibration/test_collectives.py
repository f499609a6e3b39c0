"""The fit of a library's constants: it finds what made the data, and predicts what the algorithms do."""

from pathlib import Path

import numpy as np
import pytest

from scaleout.calibration import collectives
from scaleout.calibration.collectives import Table, fit, predict, read_table, residuals
from scaleout.collectives.flat import ROUNDS
from scaleout.io.catalogue import load

TABLE = Path(__file__).resolve().parents[2].parent / "shared" / "validation" / "collectives.csv"


def sizes(system: str) -> Table:
    """Every operation, on 2, 4 and 8 chips, from 512 bytes to 512 MiB, at the system's own times."""
    grid = [
        (o, n, b) for o in range(len(ROUNDS)) for n in (2, 4, 8) for b in 2.0 ** np.arange(9, 30)
    ]  # fmt: skip
    operation, ranks, nbytes = (np.array(column) for column in zip(*grid, strict=True))
    table = Table(operation, ranks, nbytes, np.ones(len(grid)), np.full(len(grid), "made up"))
    seconds = residuals(table, load("system", system)) + 1
    return Table(operation, ranks, nbytes, seconds, table.library)


@pytest.mark.parametrize("name", ["dgx-a100", "dgx-h100", "dgx-b200"])
def test_closed_forms_of_the_fit_are_what_the_algorithms_take(name: str) -> None:
    table, system = sizes(name), load("system", name)
    library = system.library
    rows = [library.protocols[p] for p in collectives._names(system)]
    values = [(r.launch * 1e6, max(r.scale_up_step * 1e6, 1e-9), r.scale_up_rate) for r in rows]
    logs = np.log([library.idle_step, *np.ravel(values)])
    assert predict(logs, table, system) == pytest.approx(table.seconds, rel=1e-9)


def test_a_fit_recovers_times_made_with_known_constants() -> None:
    table = sizes("dgx-a100")
    done = fit(table, load("system", "dgx-a100"))
    assert np.abs(residuals(table, done)).mean() < 0.01


@pytest.mark.skipif(not TABLE.exists(), reason="collectives.csv of the validation tables is absent")
def test_a_run_prints_constants_and_residuals_and_writes_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    from scaleout.io.catalogue import find

    before = find("system", "dgx-h100").read_text()
    assert collectives.main([str(TABLE), "--system", "dgx-h100"]) == 0
    said = capsys.readouterr().out
    assert "idle_step:" in said
    assert "held out, 4 chips: 84 rows" in said
    assert find("system", "dgx-h100").read_text() == before


@pytest.mark.skipif(not TABLE.exists(), reason="collectives.csv of the validation tables is absent")
@pytest.mark.parametrize("name", ["dgx-a100", "dgx-h100", "dgx-b200"])
def test_shipped_constants_meet_the_measured_sizes_that_training_uses(name: str) -> None:
    table = read_table(TABLE, name)
    mine = (table.library == "NCCL 2.27.3") & (table.nbytes >= 8 * 2**20) & (table.nbytes <= 128 * 2**20)
    errors = residuals(table.take(mine), load("system", name))
    assert np.abs(errors).mean() < 0.08
    assert abs(errors.mean()) < 0.04


def test_mistakes_are_said_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("op,bytes,gpus,nodes,system,library,time_us\nall_reduce,8,2,1,dgx-2,NCCL,3\n")
    assert collectives.main([str(empty)]) == 2
    assert "no collectives of dgx-h100 in one node" in capsys.readouterr().err
    assert collectives.main([str(tmp_path / "none.csv")]) == 2
    assert "cannot be read" in capsys.readouterr().err
