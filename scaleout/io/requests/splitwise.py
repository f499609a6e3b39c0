"""splitwise-sim's traces.

Columns: ``request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size``.
"""

from scaleout.io.requests.form import MOST_TOKENS, CsvForm
from scaleout.io.table import Row
from scaleout.specs.requests import TraceRow

__all__ = ["FORM"]


def _read(row: Row) -> TraceRow:
    # more than one prompt in a request would be several requests
    row.optional_whole("batch_size", 1, 1)
    return TraceRow(
        row.line,
        row.number("arrival_timestamp", above=False),
        row.whole("prompt_size", 1, MOST_TOKENS),
        row.whole("token_size", 1, MOST_TOKENS),
    )


FORM = CsvForm(name="splitwise", columns=("arrival_timestamp", "prompt_size", "token_size"), read=_read)
