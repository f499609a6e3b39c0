"""Fused kernels of experts of one chip."""

from functools import partial
from pathlib import Path

from scaleout.errors import SpecError, near
from scaleout.hardware.formats import FORMATS, SPELLINGS
from scaleout.hardware.moe import experts_seconds, grouped_constants, loads, loop_bytes
from scaleout.io.table import Row, Watch, take_rows
from scaleout.specs import Chip
from scaleout.validation.agreement import Agreement, Compared, Skipped
from scaleout.validation.likeness import OWN, chips_of, stated

__all__ = ["COLUMNS", "compare", "exponent_of"]

COLUMNS = ("chip", "dtype", "tokens", "hidden", "ffn", "topk", "experts", "tp", "ep", "routing", "time_us")

_BALANCED, _POWER_LAW = "balanced", "power_law_"


def compare(path: Path, watch: Watch | None = None, donor: str = "") -> Agreement:
    """Every row, simulated alone; with the constants of a donor, where one is named."""
    rows = take_rows(path, COLUMNS, partial(_compare_row, chips_of(donor), donor), watch)
    return Agreement.of("moe", rows, combined=[("chip", "dtype"), ("chip", "routing")])


def exponent_of(routing: str) -> tuple[bool, float | None]:
    """Whether the words are known, and the exponent of the law by which experts are popular; None: all alike."""
    if routing == _BALANCED:
        return True, None
    try:
        exponent = float(routing.removeprefix(_POWER_LAW))
    except ValueError:
        return False, None
    return 0.0 <= exponent < 10.0 and exponent != 1.0, exponent


def _compare_row(chips: dict[str, Chip], donor: str, row: Row) -> Compared | Skipped:
    name, dtype, routing = row.text("chip"), row.text("dtype"), row.text("routing")
    tokens, hidden, ffn, top_k, experts, tp, ep = (
        row.whole(key) for key in ("tokens", "hidden", "ffn", "topk", "experts", "tp", "ep")
    )
    measured = row.number("time_us") * 1e-6
    if name not in chips:
        return Skipped(row.line, f"unknown chip {name!r}; {near(name, chips)}")
    if donor and not chips[name].like:
        return Skipped(row.line, OWN)
    if (kept := SPELLINGS.get(dtype, dtype)) not in FORMATS:
        return Skipped(row.line, f"unknown dtype {dtype!r}; {near(dtype, FORMATS)}")
    if ffn % tp or experts % ep or top_k > experts:
        return Skipped(row.line, f"{experts} experts of {ffn} do not divide over ep {ep}, tp {tp}, or top-k is {top_k}")
    known, exponent = exponent_of(routing)
    if not known:
        return Skipped(row.line, f"unknown routing {routing!r}; expected {_BALANCED!r} or {_POWER_LAW + '1.2'!r}")
    try:
        each = loads(tokens, top_k, experts, ep, exponent)
        loop = loop_bytes(kept, hidden, ffn // tp, each, drawn=exponent is not None)
        simulated = experts_seconds(chips[name], kept, tokens, hidden, ffn // tp, each, loop=loop)
        band = stated(chips[name], grouped_constants(chips[name], kept).residual)
    except SpecError as error:
        return Skipped(row.line, str(error))
    keys = {"source": row.optional("source"), "chip": name, "dtype": kept, "routing": routing}
    return Compared(
        row.line, keys, measured, simulated, label=f"{tokens} tokens, {experts} experts, ep {ep}", band=band
    )
