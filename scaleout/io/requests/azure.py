"""Azure's traces of LLM inference, 2023 and 2024: ``TIMESTAMP,ContextTokens,GeneratedTokens``.

Times are of a calendar: ``2023-11-16 18:15:46.6805900``, in 2024 ``2024-05-10 00:00:00.009930+00:00``.
"""

from datetime import UTC, datetime, timedelta

from scaleout.errors import MeasurementError
from scaleout.io.requests.form import MOST_TOKENS, CsvForm
from scaleout.io.table import Row
from scaleout.specs.requests import TraceRow

__all__ = ["FORM"]

_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


def _read(row: Row) -> TraceRow:
    text = row.text("TIMESTAMP")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise MeasurementError(
            f"line {row.line}, column 'TIMESTAMP': {text[:40]!r} is not accepted; "
            "expected a time such as 2023-11-16 18:15:46.680590"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return TraceRow(
        row.line,
        (moment - _BEGINNING) / timedelta(microseconds=1),
        row.whole("ContextTokens", 1, MOST_TOKENS),
        row.whole("GeneratedTokens", 1, MOST_TOKENS),
    )


FORM = CsvForm(
    name="azure", columns=("TIMESTAMP", "ContextTokens", "GeneratedTokens"), read=_read, wall_clock=True
)  # fmt: skip
