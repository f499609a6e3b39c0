"""Linear attention: the gated delta rule, computed by chunks of tokens.

Products of a chunk with itself and with a state of fixed size that is handed from chunk to chunk;
shapes of the kernels of Yang et al., arXiv 2412.06464 (section 3.3), and of its library.
"""

from scaleout.compiled import compilable
from scaleout.parallel.rows import batched, passes

__all__ = ["CHUNK", "scan_backward", "scan_forward"]

CHUNK = 64.0
"""Tokens of a chunk."""


@compilable
def scan_forward(out, row, s, rates):  # type: ignore[no-untyped-def]
    """Convolution, norms of queries and keys, gates, chunks, and the gated norm of what comes out."""
    mixed = 2.0 * s.linear_keys + s.linear_values
    passes(out, row, 4.0 * s.tokens * mixed, rates)
    passes(out, row, 4.0 * s.tokens * 2.0 * s.linear_keys, rates)
    passes(out, row, 8.0 * s.tokens * s.linear_heads, rates)
    _chunks(out, row, s, rates, 1.0)
    passes(out, row, 6.0 * s.tokens * s.linear_values, rates)


@compilable
def scan_backward(out, row, s, rates):  # type: ignore[no-untyped-def]
    """Chunks again, for their states are not kept, and two gradients of every product."""
    mixed = 2.0 * s.linear_keys + s.linear_values
    passes(out, row, 10.0 * s.tokens * s.linear_values, rates)
    _chunks(out, row, s, rates, 3.0)
    passes(out, row, 8.0 * s.tokens * s.linear_heads, rates)
    passes(out, row, 6.0 * s.tokens * 2.0 * s.linear_keys, rates)
    passes(out, row, 6.0 * s.tokens * mixed, rates)


@compilable
def _chunks(out, row, s, rates, times):  # type: ignore[no-untyped-def]
    """Products of every chunk and value head, each so many times."""
    value = s.linear_value_size
    key = s.linear_key_size
    each = s.tokens / CHUNK * s.linear_heads
    # keys with keys, queries with keys; what they are to read and to write, by the inverse of the first
    batched(out, row, each, CHUNK, CHUNK, key, 2.0, 2.0 * times, rates)
    batched(out, row, each, CHUNK, key, CHUNK, 2.0, times, rates)
    batched(out, row, each, CHUNK, value, CHUNK, 2.0, 2.0 * times, rates)
    # with the state: what keys and queries find in it, and what is added to it
    batched(out, row, each, CHUNK, value, key, 2.0, 2.0 * times, rates)
    batched(out, row, each, key, value, CHUNK, 2.0, times, rates)
