"""Keys of a Hugging Face config: what a file lacks or has wrong is told with its name."""

from collections.abc import Mapping
from typing import Any

from scaleout.errors import SpecError
from scaleout.units import Count

__all__ = ["Config"]

_COUNT = Count.__metadata__[0]  # type: ignore[attr-defined]


class Config:
    """The keys of one file; what it lacks or has wrong is a `SpecError` that names file and key."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data, self.where = data, where

    def get(self, *names: str) -> Any:
        """The first of several names of one key that has a value."""
        return next((self.data[name] for name in names if self.data.get(name) is not None), None)

    def number(self, *names: str, default: int | None = None) -> int:
        """A whole number at least 1."""
        value = self.get(*names)
        if value is None:
            if default is None:
                raise SpecError(f"{self.where}: {' or '.join(names)}: missing")
            return default
        try:
            return int(_COUNT.check(value))
        except SpecError as error:
            raise SpecError(f"{self.where}: {names[0]}: {error}") from None

    def some(self, *names: str) -> int:
        """A whole number, 0 where it is absent or null."""
        return self.number(*names) if self.get(*names) else 0

    def flag(self, *names: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self.get(*names)
        if value is None and default is not None:
            return default
        if not isinstance(value, bool):
            words = "missing" if value is None else f"{value!r:.60} is not accepted"
            raise SpecError(f"{self.where}: {names[0]}: {words}; expected true or false")
        return value

    def choice(self, name: str, known: Mapping[str, Any], default: str) -> Any:
        """What one of several words stands for."""
        value = self.get(name) or default
        if not isinstance(value, str) or value not in known:
            raise SpecError(f"{self.where}: {name}: {value!r:.60} is not read; known: {', '.join(known)}")
        return known[value]

    def inside(self, name: str) -> "Config":
        """A mapping of the file; empty where it is absent."""
        value = self.get(name)
        if value is not None and not isinstance(value, dict):
            raise SpecError(f"{self.where}: {name}: {value!r:.60} is not accepted; expected a mapping")
        return Config(value or {}, f"{self.where}: {name}")

    def head_size(self, hidden: int, heads: int) -> int:
        """Given, or the width over the heads."""
        if self.get("head_dim") is None and hidden % heads:
            raise SpecError(f"{self.where}: {heads} heads do not divide the width of {hidden}, and head_dim is missing")
        return self.number("head_dim", default=hidden // heads)

    def period(self, other: str, layers: int, default: int) -> int | None:
        """Each so-many-th layer has full attention, the rest `other`; None where no layer has."""
        kinds = self.get("layer_types")
        if kinds is None:
            return default
        full = [at + 1 for at, kind in enumerate(kinds) if kind == "full_attention"] if isinstance(kinds, list) else []
        every = full[0] if full else None
        expected = [other if every is None or (at + 1) % every else "full_attention" for at in range(layers)]
        if kinds != expected:
            raise SpecError(
                f"{self.where}: layer_types: {kinds!s:.60} is not read; expected {layers} words, each so-many-th "
                f"'full_attention', the rest {other!r}"
            )
        return every

    def refuse(self, words: str, *names: str) -> None:
        """Refuse keys that decide sizes and are not read."""
        for name in names:
            if self.get(name):
                raise SpecError(f"{self.where}: {name}: {self.get(name)!s:.40}: {words}")
