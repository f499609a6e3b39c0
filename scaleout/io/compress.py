"""The key `compress` of an experiment: transforms of its model and its precision, carried out in order."""

from dataclasses import fields
from typing import Any

from scaleout.compression import numbers
from scaleout.errors import SpecError
from scaleout.hardware.formats import FORMATS, format_of
from scaleout.io.catalogue import validate
from scaleout.models.compress import reshape
from scaleout.specs import Cache, Model
from scaleout.specs.compress import transforms

__all__ = ["compress"]


def compress(data: dict[str, Any], where: str) -> None:
    """Carry out the transforms of a mapping whose references are resolved, and note them in `compressed`.

    Raises
    ------
    SpecError
        A transform is unknown, does not fit, or has no time model.
    """
    texts = data.pop("compress", None)
    if not texts:
        return
    if data.get("kind") not in ("training", "serving"):
        raise SpecError(
            f"{where}: compress: transforms are of language models that are trained or served; accepted here: precision"
        )
    try:
        made = transforms(texts)
        width = data.get("reduction") or data.get("gradients") or "fp32"
        reduced = format_of(width).left if width in FORMATS else 4.0
        found = numbers(made, str(data.get("kind")), str(data.get("precision", "bf16")), reduced)
    except SpecError as error:
        raise SpecError(f"{where}: compress: {error}") from None
    model = data.get("model")
    if isinstance(model, dict):
        model = validate("model", model, f"{where}: model")
    if isinstance(model, Model):
        try:
            data["model"] = reshape(model, made)
        except SpecError as error:
            raise SpecError(f"{where}: compress: {error}") from None
    for name in ("precision", "sparsity", "compression", "sent"):
        if (value := getattr(found, name)) is not None:
            data[name] = value
    if found.cache is not None:
        cache = data.get("cache") or {}
        if isinstance(cache, Cache):
            cache = {field.name: getattr(cache, field.name) for field in fields(cache)}
        data["cache"] = {**cache, "dtype": found.cache} if isinstance(cache, dict) else cache
    data["compressed"] = [*data.get("compressed", ()), *map(str, made)]
