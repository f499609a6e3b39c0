"""Mooncake's traces: ``{"timestamp": ms, "input_length": ..., "output_length": ..., "hash_ids": [...]}`` a line.

A hash stands for 512 tokens and all before them; the last may be of a block that the prompt does not
fill. Some files of this form add ``session_id``.
"""

from scaleout.io.requests.fields import Fields
from scaleout.io.requests.form import MOST_TOKENS, JsonForm, session_number
from scaleout.specs.requests import TraceRow

__all__ = ["BLOCK", "FORM"]

BLOCK = 512
"""Tokens of a block."""


def _read(row: Fields) -> TraceRow:
    inputs, names = row.whole("input_length", 1, MOST_TOKENS), row.numbers("hash_ids", 2**64)
    most = -(-inputs // BLOCK)
    if len(names) > most:
        raise row.refuse("hash_ids", f"{len(names):,} blocks of {BLOCK} tokens; {inputs:,} tokens have {most:,}")
    return TraceRow(
        row.line,
        row.number("timestamp") / 1e3,
        inputs,
        row.whole("output_length", 1, MOST_TOKENS),
        session=session_number(row.text("session_id")),
        # only a full block can be found again
        blocks=tuple(names[: inputs // BLOCK]),
        block_tokens=BLOCK if names else 0,
    )


FORM = JsonForm(name="mooncake", columns=("timestamp", "input_length", "output_length"), read=_read)
