"""Compression: a model, or an experiment, after transforms of its shape and of its numbers.

    spec = scaleout.compress(scaleout.serving_experiment("llama3-70b-poisson"), "w4a16", "drop_layers=0.25")

``docs/compression.md`` has the list.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from scaleout.errors import PlanError, SpecError, near
from scaleout.hardware.formats import OPERANDS, RECIPES, SPARSE, format_of
from scaleout.models import CACHE_WIDTH
from scaleout.models.compress import reshape
from scaleout.specs import Model, ServingExperiment, TrainingExperiment
from scaleout.specs.compress import BUNDLES, STRUCTURE, Transform, transforms

__all__ = ["Numbers", "compress", "numbers"]

_Spec = TypeVar("_Spec", bound=Model | TrainingExperiment | ServingExperiment)
_TRAINED = ("bf16", "fp16", *RECIPES)
"""Precisions of training."""
_BITS = {"int8": 8.0, "fp8": 8.0, "onebit": 1.0}
"""Of a gradient on the wire, by name of its code; a scale for each bucket is left out."""
_CACHES = tuple(name for name in CACHE_WIDTH if name not in ("bf16", "fp16"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What transforms set beside the model's shape; None for what they leave.

    Parameters
    ----------
    precision, sparsity, cache
        Of the linear layers, of their weights, and of keys and values.
    compression, sent
        Of gradients; see `TrainingExperiment`.
    """

    precision: str | None = None
    sparsity: str | None = None
    cache: str | None = None
    compression: float | None = None
    sent: float | None = None


def compress(spec: _Spec, *texts: str) -> _Spec:
    """A model or an experiment after transforms, shapes first, then sparsity, formats and gradients.

    Parameters
    ----------
    spec
        `Model`, `TrainingExperiment` or `ServingExperiment`; a model has a shape alone.
    texts
        Such as "w4a16" or "drop_layers=0.25".

    Raises
    ------
    SpecError
        A transform is unknown, does not fit, or has no time model.
    PlanError
        The layout does not divide what is left.
    """
    made = transforms(texts)
    if isinstance(spec, Model):
        for one in made:
            if one.stage != STRUCTURE:
                raise SpecError(f"{one}: a model has a shape alone; give an experiment")
        return cast(_Spec, reshape(spec, made))
    if not isinstance(spec, TrainingExperiment | ServingExperiment):
        raise SpecError(f"{spec!r:.60} is neither a model nor an experiment")
    names = tuple(str(one) for one in made)
    try:
        return cast(_Spec, replace(spec, compressed=(*spec.compressed, *names), **_changes(spec, made)))
    except PlanError as error:
        raise PlanError(f"after {', '.join(names)}: {error}") from None


def _changes(spec: TrainingExperiment | ServingExperiment, made: Sequence[Transform]) -> dict[str, Any]:
    """Fields of an experiment after transforms."""
    reduced = 4.0
    if isinstance(spec, TrainingExperiment):
        reduced = format_of(spec.reduction or spec.gradients).left
    found = numbers(made, spec.kind, spec.precision, reduced)
    changes: dict[str, Any] = {"model": reshape(spec.model, made)}
    for name in ("precision", "sparsity", "compression", "sent"):
        if (value := getattr(found, name)) is not None:
            changes[name] = value
    if isinstance(spec, ServingExperiment) and found.cache is not None:
        changes["cache"] = replace(spec.cache, dtype=found.cache)  # type: ignore[arg-type]
    return changes


def numbers(made: Sequence[Transform], kind: str, precision: str, reduced: float = 4.0) -> Numbers:
    """What transforms set beside the model's shape.

    Parameters
    ----------
    kind
        Of the experiment, "training" or "serving".
    precision
        Its own.
    reduced
        Bytes of a gradient on the wire without compression [byte].

    Raises
    ------
    SpecError
        A value is unknown, or the kind of experiment has nothing that it would change.
    """
    values = {one.name: one for one in made if one.stage != STRUCTURE}
    for name, of in (("kv", "serving"), ("gradients", "training")):
        if name in values and kind != of:
            missing = "keeps no cache" if of == "serving" else "has no gradients"
            raise SpecError(f"{values[name]}: {kind} {missing}")
    sent, compression = _gradients(values.get("gradients"), reduced)
    return Numbers(
        precision=_precision(values, kind, precision),
        sparsity=_sparsity(values.get("prune"), kind),
        cache=_cache(values.get("kv")),
        compression=compression,
        sent=sent,
    )


def _precision(values: dict[str, Transform], kind: str, precision: str) -> str | None:
    """The precision whose operands are those that are asked for; what is not asked for stays."""
    bundle = next((one for name, one in values.items() if name in BUNDLES), None)
    asked = [one for name, one in values.items() if name in BUNDLES or name in ("weights", "activations")]
    if not asked:
        return None
    pairs = {name: pair for pair, name in reversed(OPERANDS.items())}
    if bundle is None and precision not in pairs:
        raise SpecError(f"{asked[0]}: operands of precision {precision!r} are not set one by one; take a whole one")
    weights, activations = BUNDLES[bundle.name] if bundle is not None else pairs[precision]
    known = [{pair[side] for pair in OPERANDS} for side in (0, 1)]
    for side, name in enumerate(("weights", "activations")):
        if name in values and values[name].value not in known[side]:
            raise SpecError(f"{values[name]}: unknown format; {near(values[name].value, known[side])}")
    weights = values["weights"].value if "weights" in values else weights
    activations = values["activations"].value if "activations" in values else activations
    words = ", ".join(map(str, asked))
    if (weights, activations) not in OPERANDS:
        beside = sorted(pair[1] for pair in OPERANDS if pair[0] == weights)
        raise SpecError(
            f"{words}: no kernels multiply activations in {activations} by weights in {weights}; "
            f"activations beside such weights: {', '.join(beside)}"
        )
    found = OPERANDS[weights, activations]
    if kind == "training" and found not in _TRAINED:
        raise SpecError(f"{words}: no recipe trains in {found}; accepted: {', '.join(_TRAINED)}")
    return found


def _sparsity(one: Transform | None, kind: str) -> str | None:
    if one is None:
        return None
    if one.value != SPARSE:
        _ = one.share
        return None
    if kind == "training":
        raise SpecError(
            f"{one}: a step of training multiplies by pruned weights twice and once without, and prunes them anew; "
            "no time model exists for that yet"
        )
    return SPARSE


def _cache(one: Transform | None) -> str | None:
    if one is None:
        return None
    if one.value not in _CACHES:
        raise SpecError(f"{one}: expected {' or '.join(_CACHES)}")
    return one.value


def _gradients(one: Transform | None, reduced: float) -> tuple[float | None, float | None]:
    """Share that is sent, and times fewer bytes."""
    if one is None:
        return None, None
    value, _, how = one.value.partition(" ")
    if how == "topk":
        return Transform(name=one.name, value=value).share, None
    if value in _BITS and not how:
        return None, max(1.0, 8.0 * reduced / _BITS[value])
    if how or one.number < 1.0:
        raise SpecError(f"{one}: expected int8, fp8, onebit, a number above 1, or a share with topk, as in 0.01 topk")
    return None, one.number
