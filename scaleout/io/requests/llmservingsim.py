"""LLMServingSim's workloads: ``{"input_toks": ..., "output_toks": ..., "arrival_time_ns": ...}`` a line.

Token numbers, ``input_tok_ids``, where they are there, become hashes of blocks of 16 tokens, each with all before it.
"""

from hashlib import blake2b

import numpy as np

from scaleout.io.requests.fields import Fields
from scaleout.io.requests.form import MOST_TOKENS, JsonForm, session_number
from scaleout.specs.requests import TraceRow

__all__ = ["BLOCK", "FORM"]

BLOCK = 16
"""Tokens of a block: vLLM's."""


def _read(row: Fields) -> TraceRow:
    if "sub_requests" in row.values:
        raise row.refuse(
            "sub_requests", "sessions whose requests wait for each other are not read; expected one request a line"
        )
    inputs = row.whole("input_toks", 1, MOST_TOKENS)
    tokens = row.numbers("input_tok_ids", 2**31)[:inputs]
    return TraceRow(
        row.line,
        row.number("arrival_time_ns") / 1e9,
        inputs,
        row.whole("output_toks", 1, MOST_TOKENS),
        session=session_number(row.text("session_id")),
        blocks=_hashes(tokens),
        block_tokens=BLOCK if tokens else 0,
    )


def _hashes(tokens: list[int]) -> tuple[int, ...]:
    """One for each full block, of its tokens and the hash before."""
    words, before, made = np.array(tokens, dtype="<u8"), b"", []
    for end in range(BLOCK, len(tokens) + 1, BLOCK):
        before = blake2b(before + words[end - BLOCK : end].tobytes(), digest_size=7).digest()
        made.append(int.from_bytes(before))
    return tuple(made)


FORM = JsonForm(name="llmservingsim", columns=("arrival_time_ns",), read=_read)
