"""``scaleout run`` of streams with deadlines: simulate, draw, print."""

import json
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.cli.printed import print_json, print_tables, run_block
from scaleout.cli.progress import progress
from scaleout.report.files import output_folder, write_all
from scaleout.specs import StreamExperiment
from scaleout.stream import record_stream

if TYPE_CHECKING:
    from scaleout.serving.streams import Streams
    from scaleout.streamed import StreamResult

__all__ = ["run_streams"]

_WHAT = {
    "stream.png": "what the chips do, and latencies beside deadlines",
    "stream.svg": "the same for print",
    "result.json": "everything, in SI units",
}


def run_streams(spec: StreamExperiment, folder: Path | None, as_json: bool) -> None:
    """Simulate, write and print."""
    with output_folder(folder) if folder is not None else nullcontext():
        begun = time.perf_counter()
        with progress("simulating"):
            result, streams = record_stream(spec)
        run = run_block(begun, None)
        text = json.dumps({**result.to_dict(), "run": run}, indent=2)
        files = write_all(folder, _files(text, result, streams)) if folder is not None else []
    if as_json:
        print_json(text, result.warnings)
        return
    from scaleout.report.stream_table import stream_tables

    print_tables(stream_tables(result), files, _WHAT)


def _files(text: str, result: "StreamResult", streams: "Streams") -> dict[str, bytes]:
    """Figure and result, by file name."""
    os.environ["MPLBACKEND"] = "agg"
    from scaleout.report.stream import draw_stream, stream_picture
    from scaleout.report.style import render

    figure = draw_stream(stream_picture(result, streams))
    return {**render(figure, "stream"), "result.json": (text + "\n").encode()}
