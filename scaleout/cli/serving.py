"""``scaleout run`` of a serving experiment: simulate it, print it, draw it."""

import json
import os
import time
from contextlib import nullcontext
from pathlib import Path

import click

from scaleout.cli.footprint import footprint_files, tell_footprint, write_footprint
from scaleout.cli.printed import print_json, print_tables, run_block
from scaleout.cli.progress import counting
from scaleout.io.serving import trace_of
from scaleout.report.files import figure_file, output_folder, write_all, write_figure
from scaleout.serve import serve_log
from scaleout.served import Served
from scaleout.serving.log import Log
from scaleout.specs import ServingExperiment

__all__ = ["run_serving"]

_WHAT = {
    "latency.png": "how times to the first token and per token are distributed",
    "latency.svg": "the same for print",
    "course.png": "requests, batches, queue and KV cache over time",
    "course.svg": "the same for print",
    "requests.csv": "a line a request",
    "result.json": "everything, in SI units",
}
_MOST_ROWS = 1_000_000
"""Requests up to which a line for each is written."""


def run_serving(
    spec: ServingExperiment,
    folder: Path | None,
    as_json: bool,
    gantt: Path | None,
    energy: Path | None = None,
    cost: Path | None = None,
) -> None:
    """Simulate, write and print."""
    footprint = footprint_files(energy, cost)
    kind = figure_file(gantt) if gantt is not None else ""
    with output_folder(folder) if folder is not None else nullcontext():
        begun = time.perf_counter()
        with counting("requests served", spec.requests.count) as told:
            result, log = serve_log(spec, trace_of(spec), told=told)
        run = run_block(begun, log.events)
        text = json.dumps({**result.to_dict(), "run": run}, indent=2)
        files = write_all(folder, _files(text, result, log)) if folder is not None else []
        if gantt is not None:
            from scaleout.report.serving_requests import draw_requests, request_bars

            write_figure(gantt, kind, lambda: draw_requests(request_bars(log), result.name))
        write_footprint(footprint, result, "put out")
    if as_json:
        print_json(text, result.warnings)
        return
    from scaleout.report.serving_table import served_tables

    print_tables(served_tables(result, run["wall_time"], run["events"]), files, _WHAT)
    if files and len(log) > _MOST_ROWS:
        click.echo(f"no requests.csv, for more than {_MOST_ROWS:,} requests")
    if gantt is not None:
        click.echo(f"wrote {gantt}  (the first requests, one by one)")
    tell_footprint(footprint)


def _files(text: str, result: Served, log: Log) -> dict[str, bytes]:
    """Figures, requests and result, by file name."""
    os.environ["MPLBACKEND"] = "agg"
    from scaleout.report.serving import draw_course, draw_latency
    from scaleout.report.serving_requests import requests_csv
    from scaleout.report.style import render

    files = {**render(draw_latency(result), "latency"), **render(draw_course(result), "course")}
    if len(log) <= _MOST_ROWS:
        files["requests.csv"] = requests_csv(log)
    return {**files, "result.json": (text + "\n").encode()}
