"""The busiest links and the faults, as a result and its table tell them."""

from collections.abc import Callable
from io import StringIO

from rich.console import Console

from scaleout.report.table import result_tables
from scaleout.simulate import record
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]


def test_the_table_names_the_busiest_link_and_the_faults(small: Make) -> None:
    tiny = {"model": "gpt3-125m", "chips": 32, "layout": {"tp": 2, "pp": 2, "dp": 8, "vpp": 1}}
    faults = [{"at": "3 ms", "port": 5, "share": 0.5}, {"at": "9 s", "port": 6, "share": 0}]
    result, recording = record(small(**tiny, batch={"global": 32, "sequence": 256}, faults=faults))
    console = Console(width=200, file=StringIO())
    console.print(result_tables(result, 1.0, 1))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    top = max(result.links, key=lambda row: row.busiest_utilisation)
    assert f"{top.kind}: {top.busiest_utilisation:.1%} of the step on {top.busiest}" in text
    assert "port 5 at 0.5 of its rate from 0.003 s; port 6 dead from 9 s" in text
    assert result.experiment["faults"] == ["port 5 at 0.5 of its rate from 0.003 s", "port 6 dead from 9 s"]
    (row,) = (row for row in result.assumptions if row.name == "faults")
    assert row.value.endswith("port 6 dead from 9 s (the step is over before)")
    busy = recording.busy_links()
    assert len(busy) == recording.wiring.topology.links
    assert round(float(busy.max()), 6) == top.busiest_utilisation
