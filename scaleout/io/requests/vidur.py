"""Vidur's processed traces: ``arrived_at,num_prefill_tokens,num_decode_tokens``; some have lengths alone."""

from scaleout.io.requests.form import MOST_TOKENS, CsvForm
from scaleout.io.table import Row
from scaleout.specs.requests import TraceRow

__all__ = ["FORM"]


def _read(row: Row) -> TraceRow:
    return TraceRow(
        row.line,
        row.number("arrived_at", above=False) if "arrived_at" in row.cells else None,
        row.whole("num_prefill_tokens", 1, MOST_TOKENS),
        row.whole("num_decode_tokens", 1, MOST_TOKENS),
    )


FORM = CsvForm(name="vidur", columns=("num_prefill_tokens", "num_decode_tokens"), read=_read)
