"""Measured runs, as ``scaleout validate serving`` takes them: ``request_id,input_toks,output_toks,arrival_s,...``."""

from scaleout.io.requests.form import MOST_TOKENS, CsvForm
from scaleout.io.table import Row
from scaleout.specs.requests import TraceRow

__all__ = ["FORM"]


def _read(row: Row) -> TraceRow:
    return TraceRow(
        row.line,
        row.number("arrival_s", above=False),
        row.whole("input_toks", 1, MOST_TOKENS),
        row.whole("output_toks", 1, MOST_TOKENS),
    )


FORM = CsvForm(name="bench", columns=("input_toks", "output_toks", "arrival_s"), read=_read)
