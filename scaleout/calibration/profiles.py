"""Kernel profiles of served models as tables: ``python -m scaleout.calibration.profiles FOLDER --into FOLDER``.

A profile names its times by the layer that they belong to; what was multiplied follows from the model
and its tensor parallelism, which the file's name tells: CHIP_MODEL_tpN_PART.csv. The tables that are
written, gemm.csv, attention.csv, elementwise.csv and moe.csv, have the forms that ``scaleout validate``
compares and the other calibrations fit. What the columns of a profile mean is in ``docs/kernels_serving.md``.
"""

import argparse
import csv
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from scaleout.calibration.command import carry_out
from scaleout.calibration.files import write_whole
from scaleout.calibration.profiles_xla import attention_of, layers_of
from scaleout.errors import MeasurementError, near
from scaleout.io.catalogue import known_chips, known_models, plain_name
from scaleout.io.table import Row, take_rows
from scaleout.specs import Model

__all__ = ["FORMS", "Profile", "main", "products", "profile_of", "tables"]

FORMS = {
    "gemm": ("chip", "dtype", "m", "n", "k", "time_us", "source"),
    "attention": (
        "chip", "phase", "dtype", "kv_dtype", "batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim", "time_us",
        "source",
    ),
    "elementwise": ("chip", "op", "tokens", "width", "dtype", "time_us", "model", "source"),
    "moe": (
        "chip", "dtype", "tokens", "hidden", "ffn", "topk", "experts", "tp", "ep", "routing", "time_us", "source",
    ),
}  # fmt: skip
"""Table -> its columns."""

_DTYPE, _WIDTH = "bfloat16", 2.0
_US = 1e-6
_NAME = re.compile(
    r"(?P<chip>[^_]+)_(?P<model>.+)_tp(?P<tp>\d{1,4})_(?P<part>attention_pure|dense|per_sequence|moe|attention|layers)"
)
_SOURCE = "casys-kaist/LLMServingSim@5daddb2 (MIT), layers of vLLM"
_COMPILED = ("attention", "layers")
"""Parts of models that XLA compiled; on other chips files of these names mean something else, and are passed over."""
_XLA = "casys-kaist/LLMServingSim@5daddb2 (MIT), layers of vLLM on TPU"
_RAGGED = _XLA + ", ragged paged attention"
_FLASH = _SOURCE + ", flash attention 2 over pages"
_LEFT_OUT = ("final_layernorm",)
"""Once a step, on operands that have left L2: no measure of the norms of the layers."""

Cells = dict[str, object]
Taken = tuple[str, Cells]
"""Table, and what a row of it says."""


class Profile(NamedTuple):
    """What the name of a profile's file says: chip of the catalogue, model, tensor parallelism, and which part."""

    chip: str
    model: Model
    tp: int
    part: str


def profile_of(path: Path) -> Profile | None:
    """From the name of a file; None where it is no profile's.

    Raises
    ------
    MeasurementError
        The chip or the model is unknown.
    """
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    known_ones, models = known_chips(), known_models()
    chips = {plain_name(name): chip.name for name, chip in known_ones.items()}
    chip, model = plain_name(match["chip"]), plain_name(match["model"])
    if match["part"] in _COMPILED and (chip not in chips or known_ones[chips[chip]].vendor != "Google"):
        return None
    if chip not in chips:
        raise MeasurementError(f"{path.name}: unknown chip {match['chip']!r}; {near(chip, chips)}")
    # a release may carry words behind the name of its architecture
    known = max((name for name in models if model.startswith(name)), key=len, default=None)
    if known is None:
        raise MeasurementError(f"{path.name}: unknown model {match['model']!r}; {near(model, models)}")
    return Profile(chips[chip], models[known], int(match["tp"]), match["part"])


def products(model: Model, tp: int) -> dict[str, tuple[int, int]]:
    """Columns and depth of the product of each layer on one of `tp` ranks."""
    queries, keys = model.heads * model.head_size // tp, max(1, model.kv_heads // tp) * model.head_size
    inner = model.ffn // tp
    return {
        "qkv_proj": (queries + 2 * keys, model.hidden),
        "o_proj": (model.hidden, queries),
        "gate_up_proj": (2 * inner, model.hidden),
        "down_proj": (model.hidden, inner),
        "lm_head": (-(-model.vocabulary // tp), model.hidden),
    }


def _passes(model: Model, tp: int) -> dict[str, list[tuple[str, int]]]:
    """Operations and widths of which each layer that only moves bytes is an example."""
    heads, kv_heads = model.heads // tp, max(1, model.kv_heads // tp)
    return {
        "embedding": [("embedding", model.hidden)],
        # the mean of a plain norm, two passes, and of one that adds the residual first, four
        "layernorm": [("add_rmsnorm", model.hidden * 3 // 4), ("rmsnorm", model.hidden * 3 // 2)],
        "qk_norm": [("qk_norm", model.head_size)],
        "rotary_emb": [("rope", (heads + kv_heads) * model.head_size)],
        "act_fn": [("silu_mul", model.ffn // tp)],
        "sampler": [("sampler", model.vocabulary)],
    }


def _layer(profile: Profile, size: str, row: Row) -> list[Taken]:
    """A row of tokens or sequences through one layer."""
    shapes, passes = products(profile.model, profile.tp), _passes(profile.model, profile.tp)
    name = row.text("layer", (*shapes, *passes, *_LEFT_OUT))
    count, time = row.whole(size), row.number("time_us")
    if name in _LEFT_OUT:
        return []
    if name in shapes:
        n, k = shapes[name]
        return [("gemm", {"dtype": _DTYPE, "m": count, "n": n, "k": k, "time_us": time, "source": _SOURCE})]
    if name == "qk_norm":
        # the mean of two calls, profiled before the heads are dealt to ranks; every head is a row
        count, time = count * (profile.model.heads + profile.model.kv_heads), 2.0 * time
    shared = {"tokens": count, "dtype": _DTYPE, "time_us": time, "model": profile.model.name, "source": _SOURCE}
    return [("elementwise", {"op": operation, "width": width, **shared}) for operation, width in passes[name]]


def _attention(profile: Profile, row: Row) -> list[Taken]:
    """A row of one prompt's chunk after a cached prefix, or of sequences of one length that decode."""
    chunk, prefix, batch, cached = (
        row.whole(column, low=0) for column in ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
    )
    time = row.number("time_us")
    if (chunk > 0) == (batch > 0):
        return []
    return [_attended(profile, chunk, chunk + prefix if chunk else cached, batch, time, _FLASH)]


def _attended(profile: Profile, chunk: int, seen: int, batch: int, time: float, source: str) -> Taken:
    """Attention of one prompt's chunk, or of so many sequences that decode, to all the tokens that they see."""
    cells: Cells = {
        "phase": "prefill" if chunk else "decode", "dtype": _DTYPE, "kv_dtype": _DTYPE, "batch": batch or 1,
        "q_len": chunk or 1, "kv_len": seen, "heads": profile.model.heads // profile.tp,
        "kv_heads": max(1, profile.model.kv_heads // profile.tp), "head_dim": profile.model.head_size,
        "time_us": time, "source": source,
    }  # fmt: skip
    return "attention", cells


def _compiled(path: Path, profile: Profile) -> list[Taken]:
    """Rows of a model that XLA compiled."""
    if profile.part == "attention":
        return [
            _attended(profile, chunk, chunk + cached, batch, time, _RAGGED)
            for chunk, cached, batch, time in attention_of(path)
        ]
    model, tp = profile.model, profile.tp
    shapes = products(model, tp)
    # each product into a gated layer is one of its own
    shapes["gate"] = (shapes["gate_up_proj"][0] // 2, shapes["gate_up_proj"][1])
    shapes |= {"down": shapes["down_proj"], "o": shapes["o_proj"], "head": shapes["lm_head"]}
    peak = known_chips()[profile.chip].hbm_bandwidth
    taken: list[Taken] = []
    for what, tokens, time in layers_of(path):
        if what not in shapes:
            shared = {"tokens": tokens, "dtype": _DTYPE, "time_us": time, "model": model.name, "source": _XLA}
            taken.append(("elementwise", {"op": what, "width": model.hidden, **shared}))
            continue
        n, k = shapes[what]
        # weights that came faster than memory gives them were fetched beside something before
        if _WIDTH * n * k / (time * _US) <= peak:
            taken.append(("gemm", {"dtype": _DTYPE, "m": tokens, "n": n, "k": k, "time_us": time, "source": _XLA}))
    return taken


def _experts(profile: Profile, row: Row) -> list[Taken]:
    """A row of tokens whose choices fall evenly on so many experts: a layer that has no others."""
    experts = profile.model.experts
    if experts is None:
        raise MeasurementError(f"line {row.line}: model {profile.model.name!r} has no experts")
    cells: Cells = {
        "dtype": _DTYPE, "tokens": row.whole("tokens"), "hidden": profile.model.hidden, "ffn": experts.ffn,
        "topk": experts.top_k, "experts": row.whole("activated_experts"), "tp": profile.tp, "ep": 1,
        "routing": "balanced", "time_us": row.number("time_us"), "source": _SOURCE,
    }  # fmt: skip
    return [("moe", cells)]


def _taken(path: Path, profile: Profile) -> list[list[Taken]]:
    if profile.part in _COMPILED:
        return [_compiled(path, profile)]
    columns: tuple[str, ...]
    take: Callable[[Row], list[Taken]]
    if profile.part == "attention_pure":
        columns, take = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode"), lambda row: _attention(profile, row)
    elif profile.part == "moe":
        columns, take = ("tokens", "activated_experts"), lambda row: _experts(profile, row)
    else:
        size = "sequences" if profile.part == "per_sequence" else "tokens"
        columns, take = ("layer", size), lambda row: _layer(profile, size, row)
    return take_rows(path, (*columns, "time_us"), take)


def tables(paths: Sequence[Path]) -> dict[str, list[Cells]]:
    """Rows of the tables from files of profiles, in the order of the files; files of other names are passed over."""
    rows: dict[str, list[Cells]] = {name: [] for name in FORMS}
    for path in paths:
        profile = profile_of(path)
        if profile is None:
            continue
        for name, cells in chain.from_iterable(_taken(path, profile)):
            rows[name].append({"chip": profile.chip, **cells})
    return rows


def _texts(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for name, rows in tables(paths).items():
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, FORMS[name], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            yield name, text.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: read the profiles of a folder, write tables into another."""
    made = argparse.ArgumentParser(prog="python -m scaleout.calibration.profiles", description=__doc__)
    made.add_argument("folder", type=Path, help="of profiles, CHIP_MODEL_tpN_PART.csv")
    made.add_argument("--into", type=Path, required=True, help="folder for the tables")
    options = made.parse_args(arguments)
    return carry_out(lambda: _convert(options.folder, options.into))


def _convert(folder: Path, into: Path) -> None:
    for name, text in _texts(sorted(folder.glob("*.csv"))):
        write_whole(into / f"{name}.csv", text)
        print(f"{into / name}.csv: {text.count(chr(10)) - 1:,} rows")


if __name__ == "__main__":
    sys.exit(main())
