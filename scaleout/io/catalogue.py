"""Where a name becomes a file, and a file a spec.

A name such as ``dgx-h100`` is looked for in the working folder, in the folders of
``$SCALEOUT_PATH``, then in the data that came with the package. A path ending in ``.yaml``
is taken as it is, from the working folder or from that of the file that names it; where a model
is meant, so is the path of a Hugging Face ``config.json``. A model is found by its aliases too,
and whatever the case and separators of a name.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from scaleout.errors import PlanError, SpecError, near
from scaleout.io.huggingface import read_config
from scaleout.io.yaml import as_yaml, parse_value, read_mapping
from scaleout.specs import Chip, InferenceEngine, Model, ServingExperiment, Stack, System, TrainingExperiment

__all__ = [
    "FOLDERS", "any_experiment", "experiment", "find", "find_trace", "known_chips", "known_models", "list_names",
    "load", "plain_name", "read", "roots", "schema", "serving_experiment", "summary",
]  # fmt: skip

FOLDERS = {
    "chip": "topologies/chips",
    "system": "topologies/systems",
    "model": "workloads/models",
    "stack": "workloads/stacks",
    "engine": "workloads/engines",
    "training": "workloads/training",
    "serving": "workloads/serving",
}
_CLASSES: dict[str, Any] = {
    "chip": Chip, "system": System, "model": Model, "stack": Stack, "engine": InferenceEngine,
    "training": TrainingExperiment, "serving": ServingExperiment,
}  # fmt: skip
_REFERENCES = {
    ("system",): "system",
    ("system", "chip"): "chip",
    ("chip",): "chip",
    ("model",): "model",
    ("stack",): "stack",
    ("engine",): "engine",
    ("training",): "training",
    ("training", "system"): "system",
    ("training", "system", "chip"): "chip",
    ("training", "model"): "model",
    ("training", "stack"): "stack",
    ("speculation", "draft"): "model",
}
_NAMED = {
    "system": ("chip",), "training": ("system", "model", "stack"), "serving": ("system", "model", "engine", "training"),
}  # fmt: skip
"""Keys of a kind of file that may give a name in place of what it names."""
_EXPECTED = {
    "tuple_type": "expected a list",
    "mapping_type": "expected a mapping",
    "dict_type": "expected a mapping",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
}
_MOST = 10
"""Mistakes that are listed."""
_DEFAULTS = {"stack": "pytorch"}
_PACKAGE = Path(__file__).resolve().parent.parent


def roots() -> Iterator[Path]:
    """Folders in which names are looked for, in order; what came with the package is the last."""
    yield Path()
    for folder in os.environ.get("SCALEOUT_PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder)
    packaged = _PACKAGE / "_data"
    yield packaged if packaged.is_dir() else _PACKAGE.parent


def list_names(kind: str) -> list[str]:
    """Every name of a kind that can be found now, sorted."""
    names: set[str] = set()
    for root in roots():
        # a folder that may not be read holds no names
        with suppress(OSError):
            names |= {path.stem for path in (root / FOLDERS[_known(kind)]).glob("*.yaml") if path.is_file()}
    return sorted(names)


def _known(kind: str) -> str:
    """The kind itself, or a `SpecError`."""
    if kind not in FOLDERS:
        raise SpecError(f"unknown kind {kind!r}; {near(kind, FOLDERS)}")
    return kind


def find(kind: str, name: str, beside: Path | None = None) -> Path:
    """The file of a name or path.

    Parameters
    ----------
    beside
        File that the name stands in: a path that leads nowhere from the working folder is taken
        from that file's folder.

    Raises
    ------
    SpecError
        Nothing of that kind has this name; the message lists near matches.
    """
    folder, shown = FOLDERS[_known(kind)], name if len(name) <= 80 else name[:77] + "..."
    # a name or path that the system refuses to look up is not there
    with suppress(OSError):
        if name.lower().endswith((".yaml", ".yml", ".json") if kind == "model" else (".yaml", ".yml")):
            candidates = [Path(name), *([beside.parent / name] if beside else [])]
            for path in candidates:
                if path.is_file():
                    return path
            raise SpecError(f"{shown}: no such file")
        if name and "/" not in name and "\\" not in name and not name.startswith("."):
            for root in roots():
                path = root / folder / f"{name}.yaml"
                if path.is_file():
                    return path
    if kind == "model" and (other := _model_file(name)):
        return other
    what = "experiment" if kind in ("training", "serving") else kind
    ends = ".yaml, or .json from Hugging Face" if kind == "model" else ".yaml"
    hint = f"; a path ends in {ends}" if "/" in name or "." in name else ""
    raise SpecError(f"unknown {what} {shown!r}; {near(name, list_names(kind))}{hint}")


def plain_name(name: str) -> str:
    """A name without case and separators.

    >>> plain_name("FT GPT-6.7B")
    'ftgpt6.7b'
    """
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def _model_file(name: str) -> Path | None:
    """The model whose name or alias is the same but for case and separators; names go before aliases."""
    wanted, names = plain_name(name), list_names("model")
    for known in names:
        if plain_name(known) == wanted:
            return find("model", known)
    for known in names:
        # a file that cannot be read is told of when it is asked for itself
        with suppress(SpecError, OSError):
            path = find("model", known)
            aliases = read_mapping(path).get("aliases") if "aliases:" in path.read_text(encoding="utf-8") else None
            if isinstance(aliases, list) and wanted in [plain_name(str(alias)) for alias in aliases]:
                return path
    return None


@cache
def _adapter(kind: str) -> Any:
    from pydantic import TypeAdapter

    cls = _CLASSES[kind]
    for part in {cls, *_parts(cls)}:
        # slots=True leaves no room on the instance, but the class itself takes the setting
        part.__pydantic_config__ = {"extra": "forbid"}
    return TypeAdapter(cls)


def _parts(cls: type) -> Iterator[type]:
    """The dataclasses inside a dataclass, at any depth."""
    for hint in get_type_hints(cls).values():
        for part in (hint, *get_args(hint)):
            if is_dataclass(part) and isinstance(part, type):
                yield part
                yield from _parts(part)


def _keys_at(cls: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys that the object at a path takes."""
    for step in path:
        hint = get_type_hints(cls).get(str(step)) if is_dataclass(cls) else None
        candidates = [part for part in (hint, *get_args(hint)) if is_dataclass(part)]
        cls = candidates[0] if candidates else cls if hint is None else None
    return [f.name.rstrip("_") for f in fields(cls)] if is_dataclass(cls) else []


def _validate(kind: str, data: Mapping[str, Any], where: str) -> Any:
    from pydantic import ValidationError

    renamed = deepcopy(dict(data))
    for job in (renamed, renamed.get("training")):
        if isinstance(job, dict):
            if isinstance(job.get("batch"), dict) and "global" in job["batch"]:
                job["batch"]["global_"] = job["batch"].pop("global")
            if isinstance(job.get("recompute"), str):
                job["recompute"] = [job["recompute"]]
    try:
        return _adapter(kind).validate_python(renamed)
    except ValidationError as error:
        rows = list(dict.fromkeys(_explain(kind, row) for row in error.errors(include_url=False)))
        more = [f"and {len(rows) - _MOST} more mistakes"] if len(rows) > _MOST else []
        raise SpecError("\n".join(f"{where}: {row}" for row in [*rows[:_MOST], *more])) from None
    except SpecError as error:
        raise type(error)(f"{where}: {error}") from None


def _explain(kind: str, row: Mapping[str, Any]) -> str:
    """One pydantic mistake as path, value, and what is accepted."""
    path = tuple(str(step).rstrip("_") for step in row["loc"])
    at = ".".join(path)
    value = repr(row["input"])
    shown = value if len(value) <= 60 else value[:57] + "..."
    match row["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{at}: unknown key; {near(path[-1], _keys_at(_CLASSES[kind], row['loc'][:-1]))}"
        case "missing" | "missing_keyword_only_argument":
            return f"{at}: missing"
        case "literal_error":
            return f"{at}: {shown} is not accepted; expected {row['ctx']['expected']}"
        case "value_error":
            text = str(row["ctx"]["error"])
            return text if "\n" in text or not at or text.startswith(f"{kind}.") else f"{at}: {text}"
        case "dataclass_type":
            keys = ", ".join(_keys_at(_CLASSES[kind], row["loc"]))
            return f"{at}: {shown} is not accepted; expected a mapping with the keys {keys}"
        case other:
            expected = _EXPECTED.get(other, f"{row['msg'][0].lower()}{row['msg'][1:]}")
            return f"{at}: {shown} is not accepted; {expected}"


def _document(kind: str, name: str, beside: Path | None) -> dict[str, Any]:
    """A named file as a mapping, its own references resolved, checked on its own."""
    path = find(kind, name, beside)
    data = _mapping(path)
    _resolve(data, str(path), kind, path)
    _validate(kind, data, str(path))
    return data


def _mapping(path: Path) -> dict[str, Any]:
    """The keys of a file: ours, or a model's from Hugging Face."""
    return read_config(path) if path.suffix.lower() == ".json" else read_mapping(path)


def _resolve(data: dict[str, Any], where: str, kind: str, beside: Path | None) -> None:
    """Replace the names of chips, systems, models, stacks and engines by what they name."""
    for key in _NAMED.get(kind, ()):
        if kind == "training" and key in _DEFAULTS:
            data.setdefault(key, _DEFAULTS[key])
        value = data.get(key)
        if isinstance(value, str):
            data[key] = _named(key, value, f"{where}: {key}", beside)
        elif key in _NAMED and isinstance(value, dict):
            _resolve(value, where, key, beside)
    key = {"training": "others", "serving": "pools"}.get(kind, "")
    rows = data.get(key)
    for at, row in enumerate(rows if isinstance(rows, list) else ()):
        if isinstance(row, dict) and isinstance(row.get("chip"), str):
            row["chip"] = _named("chip", row["chip"], f"{where}: {key}.{at}.chip", beside)
    speculation = data.get("speculation") if kind == "serving" else None
    if isinstance(speculation, dict) and isinstance(speculation.get("draft"), str):
        speculation["draft"] = _named("model", speculation["draft"], f"{where}: speculation.draft", beside)


def _named(kind: str, name: str, where: str, beside: Path | None) -> dict[str, Any]:
    try:
        return _document(kind, name, beside)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None


def _assign(data: dict[str, Any], setting: str, beside: Path | None) -> None:
    """Carry out one ``key=value`` override; entering a named object loads it first."""
    key, equals, text = setting.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise SpecError(f"--set {setting!r}: expected key=value, for example layout.pp=4")
    value = parse_value(text, f"--set {key}")
    node: Any = data
    for depth, step in enumerate(path[:-1]):
        kind = _REFERENCES.get(path[: depth + 1])
        if kind and step not in node and step in _DEFAULTS:
            node[step] = _DEFAULTS[step]
        if kind and isinstance(node.get(step), str):
            node[step] = _named(kind, node[step], f"--set {key}", beside)
        node = node.setdefault(step, {})
        if not isinstance(node, dict):
            raise SpecError(f"--set {key}: {'.'.join(path[: depth + 1])} is a value, it has no key {path[depth + 1]!r}")
    node[path[-1]] = value


def load(kind: str, name: str) -> Any:
    """A chip, system, model or stack by name or path, as a frozen spec."""
    path = find(kind, str(name))
    data = _mapping(path)
    _resolve(data, str(path), kind, path)
    return _validate(kind, data, str(path))


def known_chips() -> dict[str, Chip]:
    """Every chip of the catalogue, by its name and by its aliases; a name goes before an alias."""
    chips: list[Chip] = [load("chip", name) for name in list_names("chip")]
    return {alias: chip for chip in chips for alias in chip.aliases} | {chip.name: chip for chip in chips}


def known_models() -> dict[str, Model]:
    """Every model of the catalogue, by its plain name and its plain aliases; a name goes before an alias."""
    models: list[Model] = [load("model", name) for name in list_names("model")]
    by_alias = {plain_name(alias): model for model in models for alias in model.aliases}
    return by_alias | {plain_name(model.name): model for model in models}


def experiment(source: str | Path | Mapping[str, Any], settings: tuple[str, ...] = ()) -> TrainingExperiment:
    """An experiment from a file, a name of the catalogue, or a mapping of the same form.

    Parameters
    ----------
    source
        Path of a YAML file, name of a shipped experiment, or a mapping.
    settings
        Overrides ``key=value`` with dotted keys, as ``--set`` takes them.

    Raises
    ------
    SpecError
        Every mistake at once, one a line, with file, key, value and what is accepted.
    PlanError
        The layout does not divide.
    """
    spec: TrainingExperiment = _experiment("training", source, settings)
    return spec


def serving_experiment(source: str | Path | Mapping[str, Any], settings: tuple[str, ...] = ()) -> ServingExperiment:
    """As `experiment`, of serving; its trace becomes the path of a file.

    Raises
    ------
    SpecError
        Every mistake at once, one a line, with file, key, value and what is accepted.
    PlanError
        The degrees of a pool do not divide the model.
    """
    spec: ServingExperiment = _experiment("serving", source, settings)
    return spec


def any_experiment(
    source: str | Path | Mapping[str, Any], settings: tuple[str, ...] = ()
) -> TrainingExperiment | ServingExperiment:
    """A training or a serving experiment, by its `kind`; a name is looked for among both."""
    if isinstance(source, Mapping):
        kind = source.get("kind", "training")
    else:
        name = str(source)
        shipped = not name.lower().endswith((".yaml", ".yml")) and name in list_names("serving")
        kind = "serving" if shipped else "training"
        if not shipped and name not in list_names("training"):
            try:
                kind = read_mapping(find("training", name)).get("kind", "training")
            except SpecError as error:
                if name.lower().endswith((".yaml", ".yml")):
                    raise
                known = sorted({*list_names("training"), *list_names("serving")})
                raise SpecError(f"unknown experiment {name!r:.80}; {near(name, known)}") from error
    return serving_experiment(source, settings) if kind == "serving" else experiment(source, settings)


def find_trace(name: str, beside: Path | None = None) -> Path:
    """The file of a trace: a path, from the working folder or from that of the file that names it, or a shipped name.

    Raises
    ------
    SpecError
        There is none.
    """
    folders = [root / "workloads/traces" for root in roots()]
    with suppress(OSError):
        for folder in (Path(), *([beside.parent] if beside else [])):
            if (folder / name).is_file():
                return folder / name
        if "/" not in name and not name.startswith("."):
            for folder in folders:
                found = sorted(folder.glob(f"{name}.*")) if "*" not in name else []
                if found:
                    return found[0]
    shipped = {path.stem for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()}
    raise SpecError(f"requests.trace: {name!r:.80}: no such file; {near(name, sorted(shipped))}")


def _experiment(wanted: str, source: str | Path | Mapping[str, Any], settings: tuple[str, ...]) -> Any:
    settings = (settings,) if isinstance(settings, str) else tuple(settings)
    path: Path | None = None
    if isinstance(source, Mapping):
        where, data = "experiment", deepcopy(dict(source))
    elif not isinstance(source, str | Path):
        raise SpecError(f"{source!r:.60} is no experiment; expected a file, a name or a mapping")
    else:
        path = find(wanted, str(source))
        where, data = str(path), read_mapping(path)
    kind = data.setdefault("kind", wanted)
    if kind != wanted:
        raise SpecError(f"{where}: kind: {kind!r} is not accepted; expected {wanted!r}")
    for setting in settings:
        _assign(data, str(setting), path)
    if settings:
        data["settings"] = [*data.get("settings", ()), *settings]
        where = f"{where} with --set"
    _resolve(data, where, wanted, path)
    requests = data.get("requests")
    if isinstance(requests, dict) and isinstance(requests.get("trace"), str):
        try:
            requests["trace"] = str(find_trace(requests["trace"], path))
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None
    try:
        return _validate(wanted, data, where)
    except PlanError as error:
        raise PlanError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None


def read(kind: str, name: str) -> str:
    """The text of a named file, comments and all; a model from Hugging Face as ours."""
    path = find(kind, name)
    return as_yaml(read_config(path)) if path.suffix.lower() == ".json" else path.read_text(encoding="utf-8")


def summary(kind: str) -> list[dict[str, Any]]:
    """One row a name: the file's plain values, for listing."""
    rows = []
    for name in list_names(kind):
        try:
            data = read_mapping(find(kind, name))
        except SpecError as error:
            data = {"error": str(error)}
        rows.append(
            {"name": name, **{k: v for k, v in data.items() if isinstance(v, str | int | float) and k != "name"}}
        )
    return rows


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema of a file of this kind, for editors; a reference may be a name.

    References (``system: dgx-h100``) are shown as names, which is how files give them.
    """
    built: dict[str, Any] = _adapter(kind).json_schema(by_alias=False)
    definitions = built.get("$defs", {})
    for node in (built, *definitions.values()):
        props = node.get("properties", {})
        for key in [key for key in props if key.endswith("_")]:
            props[key.rstrip("_")] = props.pop(key)
            node["required"] = [name.rstrip("_") for name in node.get("required", [])]
        for key in ("system", "model", "stack", "chip", "engine"):
            if "$ref" in props.get(key, {}):
                props[key] = {"anyOf": [{"type": "string", "description": f"name of a {key}"}, props[key]]}
                if key in _DEFAULTS:
                    node["required"] = [name for name in node.get("required", []) if name != key]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **built}
