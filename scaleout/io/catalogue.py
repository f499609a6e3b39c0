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
from dataclasses import fields, is_dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from scaleout.errors import SpecError, near
from scaleout.hardware.design import chip_fields, kernel_constants
from scaleout.hardware.transfer import transfer
from scaleout.io.huggingface import read_config
from scaleout.io.kernels import KINDS, place_tables, read_tables
from scaleout.io.yaml import as_yaml, read_mapping
from scaleout.specs import (
    Chip,
    Design,
    Facility,
    InferenceEngine,
    Model,
    Net,
    NetExperiment,
    ServingExperiment,
    Silicon,
    Stack,
    StreamExperiment,
    System,
    SystolicConstants,
    TrainingExperiment,
)

__all__ = [
    "DEFAULTS", "FOLDERS", "UNKNOWN", "copied", "enlist", "find", "known_chips", "known_models", "list_names", "load",
    "named", "plain_name", "read", "resolve", "roots", "schema", "summary", "validate",
]  # fmt: skip

FOLDERS = {
    "chip": "topologies/chips",
    "system": "topologies/systems",
    "model": "workloads/models",
    "stack": "workloads/stacks",
    "engine": "workloads/engines",
    "facility": "topologies/facilities",
    "silicon": "topologies/silicon",
    "net": "workloads/nets",
    "training": "workloads/training",
    "serving": "workloads/serving",
    "inference": "workloads/inference",
    "stream": "workloads/streams",
    "sweep": "workloads/sweeps",
}
UNKNOWN = "unknown key"
"""What a message says of a key that a file cannot have."""
_CLASSES: dict[str, Any] = {
    "chip": Chip, "system": System, "model": Model, "stack": Stack, "engine": InferenceEngine,
    "facility": Facility, "silicon": Silicon, "design": Design, "systolic": SystolicConstants,
    "training": TrainingExperiment, "serving": ServingExperiment,
    "net": Net, "inference": NetExperiment, "stream": StreamExperiment,
}  # fmt: skip
_NAMED = {
    "chip": (), "system": ("chip",), "training": ("system", "model", "stack", "facility"),
    "serving": ("system", "model", "engine", "facility", "training"),
    "net": ("model",), "inference": ("system", "net", "engine", "facility"),
    "stream": ("system", "facility"),
}  # fmt: skip
"""Keys of a kind of file that may give a name in place of what it names."""
_KINDS = {key: key for key in ("system", "model", "stack", "chip", "engine", "facility", "training", "net")} | {
    "draft": "model"
}
"""Keys that may give a name, and the kind of what it names."""
_BY_DESIGN = ("vendor", "cores", "peak_flops", "hbm_bytes", "hbm_bandwidth", "power")
"""Fields that a chip's file need not give where it gives a design."""
_EXPECTED = {
    "tuple_type": "expected a list",
    "mapping_type": "expected a mapping",
    "dict_type": "expected a mapping",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
}
_TILES, _OTHER = "GemmConstants", "SystolicConstants"
"""Constants of matrix products; those of the second form are read before the rest of a chip."""
_MOST = 10
"""Mistakes that are listed."""
_TABLES = {kind: {"type": "string", "description": "path of a CSV or Parquet file"} for kind in KINDS}
DEFAULTS = {"stack": "pytorch", "facility": "default"}
"""What is meant where an experiment does not say; a stack is for training alone."""
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


def enlist(kind: str, cls: Any) -> None:
    """Say what files of a kind are read into whose class stands on a floor above this one."""
    _CLASSES[kind] = cls


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
    what = "experiment" if kind in ("training", "serving", "inference", "stream") else kind
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
        for part in _inner(hint):
            yield part
            yield from _parts(part)


def _inner(hint: Any) -> Iterator[type]:
    """The dataclasses that an annotation speaks of."""
    if is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for part in get_args(hint):
        yield from _inner(part)


def _keys_at(cls: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys that the object at a path takes."""
    for step in path:
        hint = get_type_hints(cls).get(str(step)) if is_dataclass(cls) else None
        candidates = list(_inner(hint))
        cls = candidates[0] if candidates else cls if hint is None else None
    return [f.name.rstrip("_") for f in fields(cls)] if is_dataclass(cls) else []


def validate(kind: str, data: Mapping[str, Any], where: str) -> Any:
    """The frozen spec of a mapping whose references are resolved; `SpecError` with every mistake, after `where`."""
    from pydantic import ValidationError

    renamed = copied(dict(data))
    for job in (renamed, renamed.get("training")):
        if isinstance(job, dict):
            if isinstance(job.get("batch"), dict) and "global" in job["batch"]:
                job["batch"]["global_"] = job["batch"].pop("global")
            if isinstance(job.get("recompute"), str):
                job["recompute"] = [job["recompute"]]
    for owner, path in _chip_owners(kind, renamed):
        chip = owner["chip"]
        if isinstance(chip, dict) and ({"like", "design", "tables"} & set(chip) or _kinds(chip)):
            owner["chip"] = validate("chip", chip, f"{where}: {path}chip")
    try:
        return _chip(renamed) if kind == "chip" else _adapter(kind).validate_python(renamed)
    except ValidationError as error:
        found = [_told(row) for row in error.errors(include_url=False) if _OTHER not in row["loc"]]
        rows = list(dict.fromkeys(_explain(kind, row) for row in found))
        over = len(rows) - _MOST
        more = [f"and {over} more mistake{'s' if over > 1 else ''}"] if over > 0 else []
        raise SpecError("\n".join(f"{where}: {row}" for row in [*rows[:_MOST], *more])) from None
    except SpecError as error:
        raise type(error)("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None


def copied(value: Any) -> Any:
    """Dicts and lists anew, at any depth; what is in them, such as specs that are made already, as it is."""
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value


def _chip_owners(kind: str, data: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Mappings with a key `chip` inside a mapping of a kind, and the path to each."""
    system = data if kind == "system" else data.get("system")
    rows = [(system, "" if kind == "system" else "system.")]
    for key in ("others", "pools"):
        items = data.get(key)
        rows += [(row, f"{key}.{at}.") for at, row in enumerate(items if isinstance(items, list | tuple) else ())]
    yield from ((row, path) for row, path in rows if isinstance(row, dict) and "chip" in row)
    if isinstance(data.get("training"), dict):
        yield from ((row, f"training.{path}") for row, path in _chip_owners("training", data["training"]))


def _chip(data: dict[str, Any]) -> Chip:
    """A chip whose figures may follow from a design, and its kernels' constants from a chip that was measured."""
    like, design = data.pop("like", None), data.get("design")
    if design is not None:
        data["design"] = made = validate("design", design, "design") if isinstance(design, dict) else design
        data = {**chip_fields(made), **data} if isinstance(made, Design) else data
    for dtype, constants in _kinds(data).items():
        data["gemm"][dtype] = validate("systolic", constants, f"gemm.{dtype}")
    tables = data.pop("tables", None)
    chip: Chip = _adapter("chip").validate_python(data)
    if chip.design is not None:
        chip = replace(chip, gemm={**kernel_constants(chip.design), **chip.gemm})
    if like:
        path = find("chip", str(like))
        chip = transfer(chip, _donor(path, path.stat().st_mtime_ns))
    return replace(chip, tables=read_tables(tables, chip)) if tables else chip


@lru_cache(maxsize=32)
def _donor(path: Path, written: int) -> Chip:
    """The chip of a file that others take constants from: many do from one."""
    data = read_mapping(path)
    if data.get("like"):
        raise SpecError(f"like: {path.stem!r} has the kernels of another chip itself; name one that was measured")
    donor: Chip = validate("chip", data, str(path))
    return donor


def _kinds(chip: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Constants of matrix products that say what kind they are, by dtype."""
    gemm = chip.get("gemm")
    items = gemm.items() if isinstance(gemm, dict) else ()
    return {dtype: constants for dtype, constants in items if isinstance(constants, dict) and "kind" in constants}


def _told(row: Any) -> Any:
    """A pydantic mistake without the step that says which of several forms was tried."""
    return {**row, "loc": tuple(step for step in row["loc"] if step != _TILES)}


def _explain(kind: str, row: Mapping[str, Any]) -> str:
    """One pydantic mistake as path, value, and what is accepted."""
    path = tuple(str(step).rstrip("_") for step in row["loc"])
    at = ".".join(path)
    value = repr(row["input"])
    shown = value if len(value) <= 60 else value[:57] + "..."
    match row["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{at}: {UNKNOWN}; {near(path[-1], _keys_at(_CLASSES[kind], row['loc'][:-1]))}"
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
    resolve(data, str(path), kind, path)
    validate(kind, data, str(path))
    return data


def _mapping(path: Path) -> dict[str, Any]:
    """The keys of a file: ours, or a model's from Hugging Face."""
    return read_config(path) if path.suffix.lower() == ".json" else read_mapping(path)


def resolve(data: dict[str, Any], where: str, kind: str, beside: Path | None) -> None:
    """Replace the names of chips, systems, models, stacks and engines by what they name.

    A mapping with the key `from` is what that names, with its other keys in place of those of the same name.
    """
    for key in _NAMED.get(kind, ()):
        # a device at the edge stands in no data centre
        if key in DEFAULTS and data.get(key) is None and kind != "stream":
            data[key] = DEFAULTS[key]
        value = data.get(key)
        if isinstance(value, dict) and isinstance(value.get("from"), str):
            whole = named(key, value["from"], f"{where}: {key}.from", beside)
            data[key] = value = _changed(whole, {name: one for name, one in value.items() if name != "from"})
        if isinstance(value, str):
            data[key] = named(key, value, f"{where}: {key}", beside)
        elif key in _NAMED and isinstance(value, dict):
            resolve(value, where, key, beside)
    if kind == "chip":
        place_tables(data, beside)
    key = {"training": "others", "serving": "pools"}.get(kind, "")
    rows = data.get(key)
    for at, row in enumerate(rows if isinstance(rows, list) else ()):
        if isinstance(row, dict) and isinstance(row.get("chip"), str):
            row["chip"] = named("chip", row["chip"], f"{where}: {key}.{at}.chip", beside)
        elif isinstance(row, dict) and isinstance(row.get("chip"), dict):
            place_tables(row["chip"], beside)
    stages = data.get("stages") if kind == "stream" else None
    for at, row in enumerate(stages if isinstance(stages, list) else ()):
        for key in ("net", "model", "engine"):
            if isinstance(row, dict) and isinstance(row.get(key), str):
                row[key] = named(key, row[key], f"{where}: stages.{at}.{key}", beside)
            elif isinstance(row, dict) and isinstance(row.get(key), dict):
                resolve(row[key], where, key, beside)
    speculation = data.get("speculation") if kind == "serving" else None
    if isinstance(speculation, dict) and isinstance(speculation.get("draft"), str):
        speculation["draft"] = named("model", speculation["draft"], f"{where}: speculation.draft", beside)


def _changed(whole: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What is named, with some keys of it changed."""
    found = dict(whole)
    for key, value in changes.items():
        known = found.get(key)
        found[key] = _changed(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return found


def named(kind: str, name: str, where: str, beside: Path | None) -> dict[str, Any]:
    """What a name or path stands for, as a mapping that was checked; `where` begins the message where it is wrong."""
    try:
        return _document(kind, name, beside)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None


def load(kind: str, name: str) -> Any:
    """A chip, system, model or stack by name or path, as a frozen spec."""
    path = find(kind, str(name))
    data = _mapping(path)
    resolve(data, str(path), kind, path)
    return validate(kind, data, str(path))


def known_chips() -> dict[str, Chip]:
    """Every chip of the catalogue, by its name and by its aliases; a name goes before an alias."""
    chips: list[Chip] = [load("chip", name) for name in list_names("chip")]
    return {alias: chip for chip in chips for alias in chip.aliases} | {chip.name: chip for chip in chips}


def known_models() -> dict[str, Model]:
    """Every model of the catalogue, by its plain name and its plain aliases; a name goes before an alias."""
    models: list[Model] = [load("model", name) for name in list_names("model")]
    by_alias = {plain_name(alias): model for model in models for alias in model.aliases}
    return by_alias | {plain_name(model.name): model for model in models}


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
        if node.get("title") == "Chip":
            # what follows from a design need not be said
            own = [name for name in node["required"] if name not in _BY_DESIGN]
            node["anyOf"] = [{"required": node["required"]}, {"required": ["design"]}]
            node["required"] = own
        for key in [key for key in props if key.endswith("_")]:
            props[key.rstrip("_")] = props.pop(key)
            node["required"] = [name.rstrip("_") for name in node.get("required", [])]
        for key, of in _KINDS.items():
            if "$ref" in str(props.get(key, {})) and "items" not in props[key]:
                name = {"type": "string", "description": f"name of a {of}"}
                changed = {"type": "object", "properties": {"from": name}, "required": ["from"]}
                props[key] = {"anyOf": [name, changed, props[key]]}
                if key in DEFAULTS:
                    node["required"] = [name for name in node.get("required", []) if name != key]
        if "KernelTable" in str(props.get("tables", {})):
            props["tables"] = {"type": "object", "additionalProperties": False, "properties": _TABLES}
    definitions.pop("KernelTable", None)
    if kind in ("training", "serving"):
        built["properties"]["compress"] = {
            "description": "transforms of model and precision, such as [w4a16, drop_layers=0.25]",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **built}
