"""Experiments: a file, a name or a mapping, with ``--set`` carried out, as one frozen spec."""

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from scaleout.errors import PlanError, SpecError, near
from scaleout.io.catalogue import DEFAULTS, find, list_names, named, resolve, roots, validate
from scaleout.io.compress import compress
from scaleout.io.yaml import parse_value, read_mapping
from scaleout.specs import NetExperiment, ServingExperiment, StreamExperiment, TrainingExperiment

__all__ = [
    "EXPERIMENTS", "REFERENCES", "any_experiment", "assign", "check_rents", "experiment", "find_trace", "kind_of",
    "net_experiment", "place_trace", "put", "serving_experiment", "stream_experiment",
]  # fmt: skip

REFERENCES = {
    ("system",): "system",
    ("system", "chip"): "chip",
    ("model",): "model",
    ("stack",): "stack",
    ("engine",): "engine",
    ("net",): "net",
    ("net", "model"): "model",
    ("facility",): "facility",
    ("stages", "#", "net"): "net",
    ("stages", "#", "net", "model"): "model",
    ("stages", "#", "model"): "model",
    ("stages", "#", "engine"): "engine",
    ("others", "#", "chip"): "chip",
    ("pools", "#", "chip"): "chip",
    ("speculation", "draft"): "model",
    ("training",): "training",
    ("training", "system"): "system",
    ("training", "system", "chip"): "chip",
    ("training", "model"): "model",
    ("training", "stack"): "stack",
    ("training", "others", "#", "chip"): "chip",
}
"""Keys whose value may be a name, and of what; # stands for any place of a list."""
_LISTS = ("failures", "faults", "others", "pools", "sources", "stages")
"""Keys of lists of mappings: place 0 of one that is not there is its first."""


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


def net_experiment(source: str | Path | Mapping[str, Any], settings: tuple[str, ...] = ()) -> NetExperiment:
    """As `experiment`, of a net that is no decoder of text alone.

    Raises
    ------
    SpecError
        Every mistake at once, one a line, with file, key, value and what is accepted.
    """
    spec: NetExperiment = _experiment("inference", source, settings)
    return spec


def stream_experiment(source: str | Path | Mapping[str, Any], settings: tuple[str, ...] = ()) -> StreamExperiment:
    """As `experiment`, of streams with deadlines: sources, and stages that share a few chips.

    Raises
    ------
    SpecError
        Every mistake at once, one a line, with file, key, value and what is accepted.
    """
    spec: StreamExperiment = _experiment("stream", source, settings)
    return spec


EXPERIMENTS = ("training", "serving", "inference", "stream")
"""Kinds of experiments."""


def any_experiment(
    source: str | Path | Mapping[str, Any], settings: tuple[str, ...] = ()
) -> TrainingExperiment | ServingExperiment | NetExperiment | StreamExperiment:
    """An experiment of any kind, by its `kind`; a name is looked for among all."""
    kind = kind_of(source)
    if kind in ("inference", "stream"):
        return net_experiment(source, settings) if kind == "inference" else stream_experiment(source, settings)
    return serving_experiment(source, settings) if kind == "serving" else experiment(source, settings)


def kind_of(source: str | Path | Mapping[str, Any]) -> str:
    """The kind of an experiment.

    Raises
    ------
    SpecError
        It is of none, or there is no such name or file.
    """
    if isinstance(source, Mapping):
        kind = str(source.get("kind", "training"))
    else:
        name = str(source)
        path = name.lower().endswith((".yaml", ".yml"))
        shipped = [kind for kind in EXPERIMENTS if not path and name in list_names(kind)]
        kind = shipped[0] if shipped else "training"
        if not shipped:
            try:
                kind = read_mapping(find("training", name)).get("kind", "training")
            except SpecError as error:
                if path:
                    raise
                known = sorted({name for kind in EXPERIMENTS for name in list_names(kind)})
                raise SpecError(f"unknown experiment {name!r:.80}; {near(name, known)}") from error
    if kind not in EXPERIMENTS:
        raise SpecError(f"{source!s:.60}: kind: {kind!r:.40} is not accepted; expected {' or '.join(EXPERIMENTS)}")
    return kind


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
        _refuse_other_kind(wanted, str(source))
        path = find(wanted, str(source))
        where, data = str(path), read_mapping(path)
    kind = data.setdefault("kind", wanted)
    if kind != wanted:
        raise SpecError(f"{where}: kind: {kind!r} is not accepted; expected {wanted!r}")
    for setting in settings:
        assign(data, str(setting), path)
    if settings:
        data["settings"] = [*data.get("settings", ()), *settings]
        where = f"{where} with --set"
    resolve(data, where, wanted, path)
    compress(data, where)
    place_trace(data, where, path)
    try:
        spec = validate(wanted, data, where)
        if isinstance(spec, TrainingExperiment | ServingExperiment):
            check_rents(spec, where)
        return spec
    except PlanError as error:
        raise PlanError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None


def place_trace(data: dict[str, Any], where: str, beside: Path | None) -> None:
    """Replace the name of a trace by the path of its file."""
    requests = data.get("requests")
    if isinstance(requests, dict) and isinstance(requests.get("trace"), str):
        try:
            requests["trace"] = str(find_trace(requests["trace"], beside))
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None


def _refuse_other_kind(wanted: str, name: str) -> None:
    """Say of a name that it is an experiment of another kind, rather than that it is unknown."""
    if name in list_names(wanted):
        return
    for kind in EXPERIMENTS:
        if name in list_names(kind):
            raise SpecError(f"{name}: is of kind {kind}, and only experiments of kind {wanted} are accepted here")


def check_rents(spec: TrainingExperiment | ServingExperiment, where: str) -> None:
    """Refuse chips that the facility does not rent, before anything is simulated in it."""
    if spec.facility is None:
        return
    rows = spec.pools if isinstance(spec, ServingExperiment) else spec.others
    chips = [row.chip.name for row in rows if row.chip is not None]
    if isinstance(spec, TrainingExperiment) or len(chips) < len(rows):
        chips.insert(0, spec.system.chip.name)
    for chip in chips:
        try:
            spec.facility.rent_of(chip)
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None


def assign(data: dict[str, Any], setting: str, beside: Path | None) -> None:
    """Carry out one ``key=value`` override; entering a named object loads it first."""
    key, equals, text = setting.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise SpecError(f"--set {setting!r}: expected key=value, for example layout.pp=4")
    put(data, key.strip(), parse_value(text, f"--set {key}"), f"--set {key}", beside)


def put(data: dict[str, Any], key: str, value: Any, where: str, beside: Path | None) -> None:
    """Put a value at a dotted key; `where` begins the message where there is no such place."""
    path = tuple(key.split("."))
    node: Any = data
    kinds: tuple[str, ...] = ()
    for depth, step in enumerate(path[:-1]):
        kinds = (*kinds, "#" if isinstance(node, list) else step)
        kind = REFERENCES.get(kinds)
        at = _place(node, step, where, ".".join(path[:depth]))
        if isinstance(node, dict) and at not in node:
            first: Any = [{}] if step in _LISTS and path[depth + 1] == "0" else {}
            node[at] = DEFAULTS[step] if kind and step in DEFAULTS else first
        if kind and isinstance(node[at], str):
            node[at] = named(kind, node[at], where, beside)
        node = node[at]
        if not isinstance(node, dict | list):
            raise SpecError(f"{where}: {'.'.join(path[: depth + 1])} is a value, it has no key {path[depth + 1]!r}")
    node[_place(node, path[-1], where, ".".join(path[:-1]))] = value
    if path[0] == "facility" and len(path) > 1 and path[1] not in ("name", "sources", "unverified"):
        # what the file says of its source is no longer true
        place = data["facility"]
        place["sources"] = {**(place.get("sources") or {}), path[1]: "--set"}
        place["unverified"] = [*(place.get("unverified") or ()), path[1]]


def _place(node: Any, step: str, where: str, of: str) -> Any:
    """A key of a mapping as it is; of a list, the number of one of its items."""
    if not isinstance(node, list):
        return step
    if not (step.isascii() and step.isdigit() and len(step) < 9 and int(step) < len(node)):
        items = f"0 to {len(node) - 1}" if node else "none"
        raise SpecError(f"{where}: {step!r} is no place in the list {of}; expected a number, of {items}")
    return int(step)
