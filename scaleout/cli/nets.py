"""``scaleout run`` of a net: time it, print it."""

import json
import time
from contextlib import nullcontext
from pathlib import Path

from scaleout.cli.printed import print_json, print_tables, run_block
from scaleout.infer import run_net
from scaleout.report.files import output_folder, write_all
from scaleout.specs import NetExperiment

__all__ = ["run_nets"]

_WHAT = {"result.json": "everything, in SI units"}


def run_nets(spec: NetExperiment, folder: Path | None, as_json: bool) -> None:
    """Time, write and print."""
    with output_folder(folder) if folder is not None else nullcontext():
        begun = time.perf_counter()
        result = run_net(spec)
        run = run_block(begun, None)
        text = json.dumps({**result.to_dict(), "run": run}, indent=2)
        files = write_all(folder, {"result.json": (text + "\n").encode()}) if folder is not None else []
    if as_json:
        print_json(text, result.warnings)
        return
    from scaleout.report.net_table import net_tables

    print_tables(net_tables(result), files, _WHAT)
