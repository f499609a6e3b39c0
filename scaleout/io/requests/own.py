"""Our own form: ``arrival_s,input_tokens,output_tokens`` and, where they matter, ``priority`` and ``session``."""

from scaleout.io.requests.form import MOST_TOKENS, CsvForm, session_number
from scaleout.io.table import Row
from scaleout.specs.requests import TraceRow

__all__ = ["COLUMNS", "FORM", "MOST_PRIORITY"]

COLUMNS = ("arrival_s", "input_tokens", "output_tokens", "priority", "session")
MOST_PRIORITY = 1_000_000_000


def _read(row: Row) -> TraceRow:
    return TraceRow(
        row.line,
        row.number("arrival_s", above=False),
        row.whole("input_tokens", 1, MOST_TOKENS),
        row.whole("output_tokens", 1, MOST_TOKENS),
        row.optional_whole("priority", -MOST_PRIORITY, MOST_PRIORITY) or 0,
        session_number(row.optional("session")),
    )


FORM = CsvForm(name="scaleout", columns=COLUMNS[:3], known=COLUMNS[3:], read=_read)
