"""What every spec shares: hashable mappings, and one check of its fields.

A field's annotation says what it accepts (`scaleout.units.Number`). Files are read through
the same annotations, so a spec built in Python and one read from YAML obey one table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from scaleout.errors import SpecError
from scaleout.units import Number

__all__ = ["FrozenDict", "check_fields", "freeze", "plain"]

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(Mapping[K, V]):
    """An immutable, hashable, picklable mapping (``MappingProxyType`` is none of the last two)."""

    __slots__ = ("_data", "_hash")

    def __init__(self, data: Mapping[K, V] | None = None) -> None:
        self._data = dict(data or {})
        self._hash: int | None = None

    def __getitem__(self, key: K) -> V:
        return self._data[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._data.items()))
        return self._hash

    def __repr__(self) -> str:
        return repr(self._data)

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenDict, (self._data,))


def freeze(spec: object, *names: str) -> None:
    """Make the named mapping fields of a frozen dataclass hashable."""
    for name in names:
        object.__setattr__(spec, name, FrozenDict(getattr(spec, name)))


@cache
def _hints(cls: type) -> dict[str, Any]:
    """Annotation of each field; cached per class."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in fields(cls)}


def check_fields(spec: Any) -> None:
    """Refuse a field outside its annotation, naming object, field and value.

    Numbers are brought to their type (64.0 becomes 64 where whole numbers are asked for).

    Raises
    ------
    SpecError
        With every mistake at once, one a line.
    """
    mistakes = []
    for name, hint in _hints(spec.__class__).items():
        try:
            value = _conform(getattr(spec, name), hint)
            object.__setattr__(spec, name, value)
        except SpecError as error:
            owner = type(spec).__name__.removesuffix("Experiment").lower()
            mistakes.append(f"{owner}.{name.rstrip('_')}{'' if str(error).startswith('.') else ': '}{error}")
    if mistakes:
        raise SpecError("\n".join(mistakes))


def _conform(value: Any, hint: Any) -> Any:
    """The value in its annotated type, or a `SpecError` that says what is accepted."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        rule = next((meta for meta in args[1:] if isinstance(meta, Number)), None)
        return rule.check(value) if rule else value
    if origin in (Union, UnionType):
        parts = [part for part in args if part is not type(None)]
        if len(parts) > 1 and any(isinstance(part, type) and isinstance(value, part) for part in parts):
            return value
        return None if value is None and len(parts) < len(args) else _conform(value, parts[0])
    if origin is Literal:
        if value not in args or type(value) not in {type(choice) for choice in args}:
            raise SpecError(f"{value!r} is not accepted; expected {' or '.join(map(repr, args))}")
    elif origin is Mapping:
        if not isinstance(value, Mapping):
            raise SpecError(f"{value!r} is not a mapping")
        for key, item in value.items():
            if type(key) is not args[0]:
                raise SpecError(f".{key}: the key is not of type {args[0].__name__}")
            try:
                _conform(item, args[1])
            except SpecError as error:
                raise SpecError(f".{key}: {error}") from None
    elif origin is tuple:
        if not isinstance(value, tuple | list):
            raise SpecError(f"{value!r} is not accepted; expected a list")
        return tuple(_conform(item, args[0]) for item in value)
    elif isinstance(hint, type) and not isinstance(value, hint):
        raise SpecError(f"{value!r} is not of type {hint.__name__}")
    return value


def plain(value: Any) -> Any:
    """Dataclasses, mappings and tuples as the containers that JSON knows."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value
