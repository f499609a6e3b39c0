"""What every spec shares: hashable mappings, and one check of its fields.

A field's annotation says what it accepts (`scaleout.units.Number`). Files are read through
the same annotations, so a spec built in Python and one read from YAML obey one table.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
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


def check_fields(spec: Any) -> None:
    """Refuse a field outside its annotation, naming object, field and value.

    Numbers are brought to their type (64.0 becomes 64 where whole numbers are asked for).

    Raises
    ------
    SpecError
        With every mistake at once, one a line.
    """
    mistakes = []
    for name, conform in _rules(spec.__class__):
        given = getattr(spec, name)
        try:
            value = conform(given)
        except SpecError as error:
            owner = type(spec).__name__.removesuffix("Experiment").lower()
            mistakes.append(f"{owner}.{name.rstrip('_')}{'' if str(error).startswith('.') else ': '}{error}")
            continue
        if value is not given:
            object.__setattr__(spec, name, value)
    if mistakes:
        raise SpecError("\n".join(mistakes))


Rule = Callable[[Any], Any]
"""Gives a value in its annotated type, or a `SpecError` that says what is accepted."""


@cache
def _rules(cls: type) -> tuple[tuple[str, Rule], ...]:
    """Rule of each field: annotations are taken apart once for a class, not for each of its objects."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple((f.name, _rule(hints[f.name])) for f in fields(cls))


def _rule(hint: Any) -> Rule:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        number = next((meta for meta in args[1:] if isinstance(meta, Number)), None)
        return number.check if number else lambda value: value
    if origin in (Union, UnionType):
        parts = tuple(part for part in args if part is not type(None))
        inner = _rule(parts[0])
        if len(parts) > 1 and all(is_dataclass(part) for part in parts):
            return lambda value: value if isinstance(value, parts) else inner(value)
        if len(parts) > 1:
            return _either([_rule(part) for part in parts])
        return lambda value: None if value is None else inner(value)
    if origin is Literal:
        return lambda value: _choice(value, args)
    if origin is Mapping:
        item = _rule(args[1])
        return lambda value: _mapping(value, args[0], item)
    if origin is tuple:
        each = _rule(args[0])
        return lambda value: _items(value, each)
    if hint is Any or not isinstance(hint, type):
        return lambda value: value
    return lambda value: _instance(value, hint)


def _either(rules: list[Rule]) -> Rule:
    """What one of several rules accepts; the first one's words where none does."""

    def conform(value: Any) -> Any:
        for rule in rules[1:]:
            with suppress(SpecError):
                return rule(value)
        return rules[0](value)

    return conform


def _choice(value: Any, accepted: tuple[Any, ...]) -> Any:
    for choice in accepted:
        if value == choice and type(value) is type(choice):
            return value
    raise SpecError(f"{value!r} is not accepted; expected {' or '.join(map(repr, accepted))}")


def _mapping(value: Any, key_type: type, rule: Rule) -> Any:
    if not isinstance(value, Mapping):
        raise SpecError(f"{value!r} is not a mapping")
    for key, item in value.items():
        if type(key) is not key_type:
            raise SpecError(f".{key}: the key is not of type {key_type.__name__}")
        try:
            rule(item)
        except SpecError as error:
            raise SpecError(f".{key}: {error}") from None
    return value


def _items(value: Any, rule: Rule) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        raise SpecError(f"{value!r} is not accepted; expected a list")
    return tuple(rule(item) for item in value)


def _instance(value: Any, expected: type) -> Any:
    if not isinstance(value, expected):
        raise SpecError(f"{value!r} is not of type {expected.__name__}")
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
