"""What every spec shares: hashable mappings, and one check of its fields.

A field's annotation says what it accepts (`scaleout.units.Number`). Files are read through
the same annotations, so a spec built in Python and one read from YAML obey one table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

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
def _rules(cls: type) -> dict[str, tuple[Any, ...]]:
    """Field -> its `Number` rules, also of a mapping's values; cached per class."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: tuple(_numbers(hints[f.name])) for f in fields(cls)}


def _numbers(hint: Any) -> Iterator[tuple[str, Number]]:
    if get_origin(hint) is Annotated:
        for meta in get_args(hint)[1:]:
            if isinstance(meta, Number):
                yield "value", meta
    elif get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from _numbers(part)
    elif get_origin(hint) is Mapping:
        for _, rule in _numbers(get_args(hint)[1]):
            yield "values", rule


def check_fields(spec: Any) -> None:
    """Refuse a field outside its annotated range, naming object, field and value.

    Raises
    ------
    SpecError
        With every mistake at once, one a line.
    """
    mistakes = []
    for name, rules in _rules(spec.__class__).items():
        value = getattr(spec, name)
        for where, rule in rules:
            rows = value.items() if where == "values" else [("", value)]
            for key, item in rows:
                if item is None:
                    continue
                try:
                    rule.check(item)
                except SpecError as error:
                    at = f"{name}.{key}" if key != "" else name
                    mistakes.append(f"{type(spec).__name__.lower()}.{at}: {error}")
    if mistakes:
        raise SpecError("\n".join(mistakes))


def plain(value: Any) -> Any:
    """Dataclasses, mappings and tuples as the containers that JSON knows."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value
