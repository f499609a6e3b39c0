"""Sweeps from files: by path or name, or a mapping of the same form, with ``--set`` carried out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaleout.errors import SpecError
from scaleout.io.catalogue import enlist, find, schema, validate
from scaleout.io.experiments import EXPERIMENTS
from scaleout.io.yaml import parse_value, read_mapping
from scaleout.sweep.spec import Sweep, in_form, thawed

__all__ = ["load_sweep", "sweep_schema"]

enlist("sweep", Sweep)
_ENDS = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".parquet", ".graphml", ".xml", ".txt")
"""Ends of texts that may be paths."""
_KEYS = ("stages", "rules", "sample", "seeds", "seed", "objective", "name", "zipped", "base")


def load_sweep(source: str | Path | Mapping[str, Any], settings: tuple[str, ...] = ()) -> Sweep:
    """A sweep from a file, a name of the catalogue, or a mapping of the same form.

    Parameters
    ----------
    source
        Path of a YAML file, name of a shipped sweep, or a mapping.
    settings
        Overrides ``key=value`` of the sweep: ``seeds=4``, ``rules=[divides]``; ``axes.KEY=[...]`` sets the values of an
        axis, or takes it away with ``null``; ``base.KEY=value`` sets a key of all points, as an axis of one value.

    Raises
    ------
    SpecError
        Every mistake at once, one a line, with file, key, value and what is accepted.
    """
    settings = (settings,) if isinstance(settings, str) else tuple(settings)
    path: Path | None = None
    if isinstance(source, Mapping):
        where, data = "sweep", thawed(source)
    elif not isinstance(source, str | Path):
        raise SpecError(f"{source!r:.60} is no sweep; expected a file, a name or a mapping")
    else:
        path = find("sweep", str(source))
        where, data = str(path), read_mapping(path)
        data.setdefault("name", path.stem)
    kind = data.pop("kind", "sweep")
    if kind != "sweep":
        raise SpecError(f"{where}: kind: {kind!r:.40} is not accepted; expected 'sweep'{_hint(kind)}")
    for setting in settings:
        _assign(data, str(setting))
    where = f"{where} with --set" if settings else where
    data = in_form(data)
    if path is not None:
        for key in ("base", "axes", "zipped"):
            if key in data:
                data[key] = _placed(data[key], path.parent)
    sweep: Sweep = validate("sweep", {**data, "zipped": list(data.get("zipped", ()))}, where)
    if not (sweep.axes or sweep.zipped or sweep.seeds > 1):
        raise SpecError(
            f"{where}: axes: none, which leaves the base alone; expected a key with its values, such as "
            "axes: {layout.tp: [1, 2, 4]}, or scaleout run for one point"
        )
    return sweep


def sweep_schema() -> dict[str, Any]:
    """JSON Schema of a sweep's file, for editors, with what it may say shortly."""
    built = schema("sweep")
    keys = built["properties"]
    keys["kind"] = {"const": "sweep"}
    axes = {"type": "object", "minProperties": 1}
    keys["axes"] = {"type": "object", "description": "dotted keys, each with a list of values, or with one"}
    keys["zipped"] = {"anyOf": [axes, {"type": "array", "items": axes}]}
    keys["rules"] = {"anyOf": [{"type": "string"}, keys["rules"]]}
    stage = {"anyOf": [{"enum": ["analytic", "event"]}, {"$ref": "#/$defs/Stage"}]}
    keys["stages"] = {"anyOf": [stage, {"type": "array", "items": stage, "minItems": 1}]}
    return built


def _hint(kind: object) -> str:
    return "; scaleout run simulates an experiment" if kind in EXPERIMENTS else ""


def _assign(data: dict[str, Any], setting: str) -> None:
    """Carry out one override."""
    key, equals, text = setting.partition("=")
    key = key.strip()
    head, _, rest = key.partition(".")
    if not equals or not key:
        raise SpecError(f"--set {setting!r}: expected key=value, for example seeds=4")
    value = parse_value(text, f"--set {key}")
    if head in ("axes", "base") and rest:
        axes = data.setdefault("axes", {})
        if not isinstance(axes, dict):
            raise SpecError(f"--set {key}: axes is no mapping of keys to values")
        if head == "base" and rest in axes:
            raise SpecError(f"--set {key}: {rest} is an axis; expected --set axes.{rest}=[...]")
        if head == "axes" and value is None:
            axes.pop(rest, None)
        else:
            axes[rest] = [value] if head == "base" else value
    elif key in _KEYS:
        data[key] = value
    else:
        raise SpecError(
            f"--set {key}: is no key of a sweep; expected one of {', '.join(sorted(_KEYS))}, axes.KEY or base.KEY, "
            f"such as --set base.{key or 'layout.tp'}={text or '8'}"
        )


def _placed(value: Any, folder: Path) -> Any:
    """Paths that lead nowhere from the working folder, from that of the sweep's file where they do from there."""
    if isinstance(value, Mapping):
        return {key: _placed(one, folder) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_placed(one, folder) for one in value]
    if not isinstance(value, str) or not value.lower().endswith(_ENDS):
        return value
    try:
        lost = not Path(value).is_file() and (folder / value).is_file()
    except OSError:
        return value
    return str(folder / value) if lost else value
