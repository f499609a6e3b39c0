"""BurstGPT: ``Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type``; of version 2 with ``Session ID``.

Rows with 0 tokens are requests that failed.
"""

from scaleout.io.requests.form import MOST_TOKENS, CsvForm, session_number
from scaleout.io.table import Row
from scaleout.specs.requests import TraceRow

__all__ = ["FORM"]


def _read(row: Row) -> TraceRow | None:
    arrival = row.number("Timestamp", above=False)
    inputs, outputs = row.whole("Request tokens", 0, MOST_TOKENS), row.whole("Response tokens", 0, MOST_TOKENS)
    if not inputs or not outputs:
        return None
    return TraceRow(row.line, arrival, inputs, outputs, session=session_number(row.optional("Session ID")))


FORM = CsvForm(name="burstgpt", columns=("Timestamp", "Request tokens", "Response tokens"), read=_read)
