"""YAML in: one object a file, read safely.

Refused, each with one sentence: tags, anchors and aliases (a few lines of them expand to
gigabytes), keys given twice, files above a megabyte, nesting beyond 20 levels.
"""

from pathlib import Path
from typing import Any

import yaml

from scaleout.errors import SpecError
from scaleout.io.text import read_text

__all__ = ["as_yaml", "parse_value", "read_mapping"]

_LARGEST = 1_000_000
"""A spec is a page of text; anything near this size is something else [byte]."""
_DEEPEST = 20


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` without anchors, duplicate keys and deep nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not accepted", problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {_DEEPEST} levels", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node)
            if not isinstance(key, str | int | float):
                raise yaml.MarkedYAMLError(problem="keys must be plain words", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _load(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise SpecError(f"{where}{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{where}: not readable as YAML: {str(error).splitlines()[0]}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """The one object of a YAML file.

    Raises
    ------
    SpecError
        The file is missing, unreadable, too large, not YAML, or not a mapping.
    """
    data = _load(read_text(path, _LARGEST, "a spec is a short text file"), str(path))
    if not isinstance(data, dict):
        kind = "empty" if data is None else f"a {type(data).__name__}"
        raise SpecError(f"{path}: is {kind}; expected one mapping of keys to values")
    return data


def parse_value(text: str, where: str) -> Any:
    """A value as the command line gives it, in YAML's own notation."""
    return _load(text, where)


def as_yaml(data: dict[str, Any]) -> str:
    """A mapping as the text of a file, keys in their order."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10_000))
