"""The fit of a library's constants: it finds what made the data, and predicts what the algorithms do."""

from pathlib import Path

import numpy as np
import pytest

from scaleout.calibration import collectives, moe_alltoall
from scaleout.calibration.collectives import Table, fit, predict, read_table, residuals, vector
from scaleout.io.catalogue import find, load
from scaleout.validation.collective import OPERATIONS

TABLES = Path(__file__).resolve().parents[2].parent / "shared" / "validation"
TABLE = TABLES / "collectives.csv"
absent = pytest.mark.skipif(not TABLE.exists(), reason="collectives.csv of the validation tables is absent")


def sizes(system: str, places: tuple[tuple[int, int], ...], operations: int = 4, sizes: int = 21) -> Table:
    """Operations on so many chips and nodes, from 512 bytes, at the system's own times."""
    grid = [
        (o, *place, b) for o in range(operations) for place in places for b in 2.0 ** np.linspace(9, 29, sizes)
    ]  # fmt: skip
    operation, ranks, nodes, nbytes = (np.array(column) for column in zip(*grid, strict=True))
    table = Table(operation, ranks, nodes, nbytes, np.ones(len(grid)), np.full(len(grid), "made up"))
    seconds = residuals(table, load("system", system)) + 1
    return Table(operation, ranks, nodes, nbytes, seconds, table.library)


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("dgx-a100", ((2, 1), (3, 1), (8, 1))),
        ("dgx-h100", ((4, 1), (8, 1), (2, 2), (16, 2), (24, 3))),
        ("dgx-b200", ((8, 1), (32, 4))),
        ("l40s-8", ((2, 1), (4, 1), (8, 1))),
        ("a100-pcie-pairs", ((2, 1), (4, 1))),
        ("mi300x-8", ((2, 1), (8, 1))),
        ("a100-slow-fabric", ((2, 2), (16, 2))),
    ],
)
def test_forms_of_the_fit_are_what_the_algorithms_take(name: str, places: tuple[tuple[int, int], ...]) -> None:
    table, system = sizes(name, places, len(OPERATIONS[:5]), 7), load("system", name)
    made = predict(vector(system.library), table, system)
    inside = table.nodes == 1
    assert made[inside] == pytest.approx(table.seconds[inside], rel=1e-9)
    # which hop a ring over nodes need not go over again depends on the steps: the form takes the worst of each
    assert made[~inside] == pytest.approx(table.seconds[~inside], rel=0.04)


def test_a_fit_recovers_times_made_with_known_constants() -> None:
    table = sizes("dgx-a100", ((2, 1), (4, 1), (8, 1)))
    done = fit(table, load("system", "dgx-a100"))
    assert np.abs(residuals(table, done)).mean() < 0.01


def test_one_protocol_is_fitted_and_the_others_stay() -> None:
    system = load("system", "dgx-h100")
    table = sizes("dgx-h100", ((16, 2),), operations=1)
    done = fit(table, system, protocols=("LL",))
    before, after = system.library, done.library
    assert after.idle_step == before.idle_step
    assert {name for name in before.protocols if before.protocols[name] != after.protocols[name]} <= {"LL"}
    # in one node nothing was measured
    assert after.protocols["LL"].scale_up_step == before.protocols["LL"].scale_up_step


@absent
def test_a_run_prints_constants_and_residuals_and_writes_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    before = find("system", "l40s-8").read_text()
    assert collectives.main([str(TABLE), "--system", "l40s-8", "--held-sizes"]) == 0
    said = capsys.readouterr().out
    assert "idle_step:" in said
    assert "held out, every third size: 84 rows" in said
    assert find("system", "l40s-8").read_text() == before


@absent
@pytest.mark.parametrize("name", ["dgx-a100", "dgx-h100", "dgx-b200"])
def test_shipped_constants_meet_the_measured_sizes_that_training_uses(name: str) -> None:
    table = read_table(TABLE, name)
    mine = (table.library == "NCCL 2.27.3") & (table.nbytes >= 8 * 2**20) & (table.nbytes <= 128 * 2**20)
    errors = residuals(table.take(mine), load("system", name))
    assert np.abs(errors).mean() < 0.08
    assert abs(errors.mean()) < 0.04


def test_kernels_of_expert_exchanges_are_recovered() -> None:
    system = load("system", "gb200-nvl72")
    made = system.moe_kernels["NVLinkTwoSided"].combine
    rows = [
        (exchange, 2.0, moe_alltoall.exchange_seconds(made, exchange, 2.0, system))
        for ranks in (2, 4, 8, 32)
        for tokens in (1, 64, 1024, 16384)
        for exchange in [moe_alltoall.Exchange(tokens=tokens, hidden=7168, topk=8, experts=256, ranks=ranks)]
    ]
    found = moe_alltoall.fit_kernel(system, "combine", rows, held_out=8)
    assert found.residual < 0.01


def test_mistakes_are_said_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("op,bytes,gpus,nodes,system,library,time_us\nall_reduce,8,2,1,dgx-2,NCCL,3\n")
    assert collectives.main([str(empty)]) == 2
    assert "no collectives of dgx-h100 in one node" in capsys.readouterr().err
    assert collectives.main([str(empty), "--system", "dgx-2", "--library", "NCCL", "--protocol", "L"]) == 2
    assert "no protocol 'L'" in capsys.readouterr().err
    assert collectives.main([str(tmp_path / "none.csv")]) == 2
    assert "cannot be read" in capsys.readouterr().err
