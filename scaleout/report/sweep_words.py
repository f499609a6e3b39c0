"""How figures of sweeps name keys, values and outcomes, and in which units they show them."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.sweep.outcomes import OUTCOMES

__all__ = ["Scale", "capital", "key_words", "number_words", "outcome_words", "reason_of", "scale_of", "value_words"]

_OUTCOMES = {
    "step_time": "step time",
    "tokens_per_second": "throughput",
    "requests_per_second": "throughput",
    "mfu": "MFU",
    "memory": "HBM of the fullest chip",
    "memory_share": "share of HBM in use",
    "error": "error band",
    "chips": "chips",
    "power": "power",
    "energy_per_token": "energy per token",
    "cost_per_mtoken": "cost of a million tokens",
    "cost_hour": "cost of an hour",
    "ttft_mean": "time to first token, mean",
    "tpot_mean": "time per output token, mean",
    "samples_per_second": "throughput",
    "chip_samples": "throughput of a chip",
    "energy_per_sample": "energy per sample",
    "cost_per_msample": "cost of a million samples",
    "capacity": "highest rate",
    "latency": "latency",
    "missed": "deadlines missed",
    "dropped": "frames dropped",
    "latency_p50": "latency, median",
    "latency_max": "longest latency",
    "battery": "battery life",
    "ttft_p50": "time to first token, median",
    "ttft_p99": "time to first token, p99",
    "tpot_p50": "time per output token, median",
    "tpot_p99": "time per output token, p99",
    "latency_p99": "time to last token, p99",
    "chip_tokens": "throughput of a chip",
    "user_tokens": "speed of a user",
    "goodput": "goodput",
    "attainment": "share of requests served as promised",
}
"""Outcomes in words; others by their names, without underscores."""
_KEYS = {
    "batch.global": "global batch",
    "batch.micro": "micro-batch",
    "batch.sequence": "sequence",
    "requests.arrivals.rate": "rate",
    "requests.input.mean": "prompt",
    "requests.output.mean": "reply",
}
"""Keys in words; others by their last part."""
_NOUNS = {
    "tokens_per_second": "token/s",
    "requests_per_second": "request/s",
    "chip_tokens": "token/s",
    "user_tokens": "token/s",
    "goodput": "request/s",
    "energy_per_token": "J/token",
    "cost_per_mtoken": "USD/Mtoken",
    "cost_hour": "USD/h",
    "samples_per_second": "sample/s",
    "chip_samples": "sample/s",
    "capacity": "request/s",
    "energy_per_sample": "J/sample",
    "cost_per_msample": "USD/Msample",
}
"""What is counted, where the unit of a column cannot say it."""
_COUNTS = ("chips", "batch")
"""Outcomes that are counted, not shares."""
_STEPS: Mapping[str, Sequence[tuple[float, str]]] = {
    "s": ((86400.0, "day"), (3600.0, "h"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")),
    "byte": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "byte")),
    "W": ((1e9, "GW"), (1e6, "MW"), (1e3, "kW"), (1.0, "W")),
    "J": ((1e9, "GJ"), (1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ")),
    "J/token": ((1e3, "kJ/token"), (1.0, "J/token"), (1e-3, "mJ/token")),
    "J/sample": ((1e3, "kJ/sample"), (1.0, "J/sample"), (1e-3, "mJ/sample")),
    "flop/s": ((1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s")),
    "USD": ((1e9, "billion USD"), (1e6, "million USD"), (1e3, "thousand USD"), (1.0, "USD")),
}
"""Sizes of each unit, the largest first."""
_LARGE = ((1e9, "billion "), (1e6, "million "), (1e3, "thousand "), (1.0, ""))
_LONG_TIME = 2.0
"""Days and hours from so many of them on [1]."""
_REASONS = (
    ("does not fit", re.compile(r"\bnot (even one sample )?fit|leaves? no room|that fit beside")),
    ("does not divide", re.compile(r"\bdivi|multiple of|chunks|layout .* is .* chips")),
)
"""What messages have in common; the first that is found counts."""


class Scale(NamedTuple):
    """How an outcome is shown.

    Parameters
    ----------
    words, unit
        Its name, and the unit that is shown; "" for a count.
    factor
        SI value of one such unit.
    """

    words: str
    unit: str
    factor: float

    @property
    def label(self) -> str:
        """Of an axis."""
        return f"{self.words} [{self.unit}]" if self.unit else self.words

    def shown(self, value: float) -> str:
        """A value with its unit, in a few digits."""
        if not math.isfinite(value):
            return "-"
        return f"{number_words(value / self.factor)}{'' if self.unit == '%' else ' '}{self.unit}".strip()


def scale_of(kind: str, name: str, values: Iterable[float] | Floats) -> Scale:
    """The unit in which most values of an outcome have few digits.

    Parameters
    ----------
    kind
        Of the experiment.
    name
        An outcome.
    values
        What is drawn of it, SI; without any, SI is shown.
    """
    unit = _NOUNS.get(name) or OUTCOMES.get(kind, {}).get(name) or ("s" if name.startswith("time.") else "")
    words = outcome_words(name)
    if unit == "1":
        return Scale(words, "", 1.0) if name in _COUNTS else Scale(words, "%", 0.01)
    if not unit:
        return Scale(words, "", 1.0)
    found = np.abs(np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=float))
    found = found[np.isfinite(found) & (found > 0.0)]
    middle = float(np.median(found)) if found.size else 1.0
    sizes = _STEPS.get(unit)
    if sizes is None:
        if unit.startswith("USD"):
            return Scale(words, unit, 1.0)
        sizes = [(size, f"{word}{unit}") for size, word in _LARGE]
    if not found.size:
        return Scale(words, unit, 1.0)
    size, shown = next(
        (
            (size, name)
            for size, name in sizes
            if middle >= size * (_LONG_TIME if size >= 3600.0 and unit == "s" else 1)
        ),
        sizes[-1],
    )
    return Scale(words, shown, size)


def outcome_words(name: str) -> str:
    """An outcome as a person calls it."""
    if name in _OUTCOMES:
        return _OUTCOMES[name]
    return name.removeprefix("time.").replace("exposed_", "waiting for ").replace("_", " ")


def key_words(key: str, others: Iterable[str] = ()) -> str:
    """The last part of a dotted key, or all of it where another one ends so too."""
    if key in _KEYS:
        return _KEYS[key]
    last = key.rsplit(".", 1)[-1]
    alike = any(other != key and other.rsplit(".", 1)[-1] == last for other in others)
    return key if alike or last.isdigit() else last


def value_words(value: Any, longest: int = 28) -> str:
    """A value of a key in a few letters."""
    if value is None:
        return "-"
    if isinstance(value, bool | np.bool_):
        return "on" if value else "off"
    if isinstance(value, int | float | np.integer | np.floating):
        number = float(value)
        if math.isnan(number):
            return "-"
        return f"{int(number):,}" if number == int(number) and abs(number) < 1e12 else f"{number:.4g}"
    if isinstance(value, Mapping):
        named = value.get("name") or value.get("kind")
        inner = ", ".join(f"{key} {value_words(one, longest)}" for key, one in sorted(value.items()))
        return value_words(named if isinstance(named, str) else inner, longest)
    if isinstance(value, list | tuple):
        return value_words("none" if not value else " + ".join(value_words(one, longest) for one in value), longest)
    text = " ".join(str(value).split())
    if text[:1] in ("{", "["):
        with suppress(ValueError):
            return value_words(json.loads(text), longest)
    if text.endswith((".yaml", ".yml", ".json")):
        text = text.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    # names that share their beginning differ at their end
    tail = longest // 3
    return text if len(text) <= longest else f"{text[: longest - tail - 3].rstrip()}...{text[-tail:].lstrip()}"


def number_words(value: float) -> str:
    """A number in three digits or so; none is left out of a large whole number."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 999.5:
        return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.3g}"
    return f"{float(f'{value:.3g}'):g}"


def capital(text: str) -> str:
    """The first letter as a sentence begins; tp and pp stay as they are."""
    return text if len(text) < 4 else text[:1].upper() + text[1:]


def reason_of(status: str, problem: str) -> str:
    """Why a point has no outcomes of the last stage, in the few words of a legend.

    >>> reason_of("infeasible", "stage 0 does not fit in HBM: 91 GB of 80 GB")
    'does not fit'
    """
    if status != "infeasible":
        return "failed" if status == "failed" else "screened out"
    return next((words for words, form in _REASONS if form.search(problem)), "refused")
