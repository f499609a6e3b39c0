"""Expert exchanges by the kernels of a library: prepare, dispatch and combine.

``tokens`` are those of one rank. Kernels are found under ``moe_kernels`` of the system's file.
"""

import re
from functools import cache, partial
from pathlib import Path

from scaleout.collectives.moe import Exchange, exchange_seconds
from scaleout.errors import WorkloadError, near
from scaleout.hardware.formats import FORMATS, SPELLINGS
from scaleout.io.catalogue import list_names, load
from scaleout.io.table import Row, Watch, take_rows
from scaleout.specs import MoeKernel, System
from scaleout.validation.agreement import Agreement, Compared, Skipped

__all__ = ["COLUMNS", "compare", "skew_of"]

COLUMNS = ("op", "kernel", "dtype", "tokens", "hidden", "topk", "experts", "ep", "routing", "time_us", "system")
_OPERATIONS = {
    "alltoall_prepare": "prepare",
    "alltoall_dispatch": "dispatch",
    "alltoall_combine": "combine",
    "alltoall_combine_low_precision": "combine_low_precision",
}
_BANDS = ((256, "below 256 tokens"), (10**12, "from 256 tokens"))
_LAW = re.compile(r"power[_-]law[_-](\d+(?:\.\d+)?)")


def compare(path: Path, watch: Watch | None = None) -> Agreement:
    """Every row, simulated alone."""
    rows = take_rows(path, COLUMNS, partial(_compare_row, frozenset(list_names("system"))), watch)
    combined = [("system", "op"), ("kernel", "op"), ("kernel", "op", "ep"), ("system", "size")]
    return Agreement.of("moe_alltoall", rows, combined=combined)


def _compare_row(systems: frozenset[str], row: Row) -> Compared | Skipped:
    written, library, dtype, routing = (row.text(column) for column in ("op", "kernel", "dtype", "routing"))
    tokens, hidden, topk, experts, ranks = (row.whole(c) for c in ("tokens", "hidden", "topk", "experts", "ep"))
    measured, name = row.number("time_us") * 1e-6, row.text("system")
    if written not in _OPERATIONS:
        return Skipped(row.line, f"unknown operation {written!r}; {near(written, _OPERATIONS)}")
    if name not in systems:
        return Skipped(row.line, f"unknown system {name!r}; {near(name, systems)}")
    if (known := SPELLINGS.get(dtype, dtype)) not in FORMATS:
        return Skipped(row.line, f"unknown dtype {dtype!r}; {near(dtype, FORMATS)}")
    if routing != "balanced" and not _LAW.fullmatch(routing):
        return Skipped(row.line, f"unknown routing {routing!r}; known: balanced, power_law_S")
    system = _system(name)
    kernel = _kernel(system, library, _OPERATIONS[written])
    if kernel is None:
        of = near(library, system.moe_kernels)
        return Skipped(row.line, f"system {name!r} has no {_OPERATIONS[written]} kernel of {library!r}; {of}")
    try:
        exchange = Exchange(
            tokens=tokens, hidden=hidden, topk=topk, experts=experts, ranks=ranks, skew=skew_of(routing)
        )
    except WorkloadError as error:
        return Skipped(row.line, str(error))
    simulated = exchange_seconds(kernel, exchange, FORMATS[known].left, system)
    keys = {
        "source": row.optional("source"), "system": name, "op": written, "kernel": library, "dtype": dtype,
        "ep": str(ranks), "routing": routing, "size": next(band for end, band in _BANDS if tokens < end),
    }  # fmt: skip
    return Compared(row.line, keys, measured, simulated, label=f"{written}, {tokens} tokens a rank, ep {ranks}")


@cache
def _system(name: str) -> System:
    system: System = load("system", name)
    return system


def _kernel(system: System, library: str, operation: str) -> MoeKernel | None:
    kernels = system.moe_kernels.get(library)
    return getattr(kernels, operation) if kernels else None


def skew_of(routing: str) -> float | None:
    """Exponent of ``power_law_S``; None for balanced routing."""
    law = _LAW.fullmatch(routing)
    return float(law[1]) if law else None
