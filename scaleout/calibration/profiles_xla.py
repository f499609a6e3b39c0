"""Profiles of a model that XLA compiled for a TPU: which of their rows are one kernel, and what it is.

XLA fetches the weights of a product while it computes another, and puts several layers of a model into one
operation; a row tells of a kernel only where nothing of that happened. See ``docs/kernels_serving.md``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scaleout.io.table import Row, take_rows

__all__ = ["Layer", "attention_of", "layers_of"]

_NS = 1e-3
"""Microseconds of the nanoseconds that these files give."""
_FIRST = 2
"""Fewest tokens: with one, products are compiled otherwise, and names stand for one layer or two."""
_PRODUCTS = {"gate_proj": "gate", "up_proj": "gate", "down_proj": "down", "o_proj": "o", "lm_head": "head"}
"""Products that are rows of their own; queries' jump by a factor of two with no order in the tokens."""
_PASSES = {"input_layernorm": "rmsnorm", "embedding": "embedding"}
"""Passes that are; the other norms, rotation and activation are parts of products."""


class Layer(NamedTuple):
    """A row: the product or pass that it tells of, tokens, and time [us]."""

    what: str
    tokens: int
    time: float


def layers_of(path: Path) -> Iterator[Layer]:
    """Rows that tell of one kernel each, in the order of the file."""

    def take(row: Row) -> tuple[str, int, float]:
        return row.text("layer_name"), row.whole("input"), row.number("latency(ns)") * _NS

    rows = take_rows(path, ("layer_name", "input", "latency(ns)"), take)
    apart = {tokens for name, tokens, _ in rows if name == "up_proj"}
    for name, tokens, time in rows:
        # where there is no row of the second product into a gated layer, it is in that of the product out of it
        known = name in _PRODUCTS and (name != "down_proj" or tokens in apart)
        if tokens >= _FIRST and (known or name in _PASSES):
            yield Layer(_PRODUCTS.get(name) or _PASSES[name], tokens, time)


def attention_of(path: Path) -> Iterator[tuple[int, int, int, float]]:
    """Queries of a prompt or 0, tokens cached before them or of each sequence, decoding sequences or 0, time [us]."""

    def take(row: Row) -> tuple[int, int, int, float]:
        chunk, cached, batch = (
            row.whole(column, low=0) for column in ("prefill_chunk_size", "kv_cache_size", "batch_size")
        )
        prompt = row.text("is_prefill", ("True", "False")) == "True"
        return chunk if prompt else 0, cached, 0 if prompt else batch, row.number("p50_ns") * _NS

    columns = ("prefill_chunk_size", "kv_cache_size", "batch_size", "is_prefill", "p50_ns")
    yield from take_rows(path, columns, take)
