"""Nets beside published runs; the tolerance of a row stands in the data."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from scaleout.evaluate.nets import best_batch, net_seconds, room
from scaleout.io.catalogue import list_names, load
from scaleout.specs import InferenceEngine

ROWS = yaml.safe_load((Path(__file__).parent / "nets_published.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", name="engine")
def _engine() -> InferenceEngine:
    engine: InferenceEngine = load("engine", "tensorrt-10")
    return engine


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['net']} {row['chip']} {row['batch']}")
def test_a_published_run_is_met_as_nearly_as_its_row_says(row: dict[str, Any], engine: InferenceEngine) -> None:
    if row["chip"] not in list_names("chip"):
        pytest.skip(f"the catalogue has no {row['chip']}")
    net, chip, tables = load("net", row["net"]), load("chip", row["chip"]), row.get("tables", "fp16")

    def took(batch: int) -> Any:
        return net_seconds(net, chip, engine, "int8", batch, tables=tables)

    batch = row["batch"]
    if batch == "best":
        batch = best_batch(took, lambda wanted: room(net, chip, engine, "int8", wanted, tables=tables).fits)
    figure = took(batch).latency if "latency" in row else batch / took(batch).period
    error = figure / (row.get("latency") or row["samples_per_second"]) - 1.0
    print(f"{row['net']} on {row['chip']}, {batch} at a time: {figure:.5g}, {error:+.1%}")
    assert abs(error) <= row["tolerance"]


def test_what_was_aimed_at_is_within_a_fifth() -> None:
    assert [row["tolerance"] for row in ROWS if row.get("aim")] == [0.2, 0.2]
