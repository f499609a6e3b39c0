"""Experiments of points: what they have in common is read, resolved and checked once.

``scaleout.experiment(base, settings)`` reads every file again, and takes some 50 ms. Here a system, a model and so
on are made once for each way in which the points change them, and all points that share one share the object.
"""

import json
import os
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from scaleout.errors import ScaleoutError, SpecError
from scaleout.io.catalogue import FOLDERS, copied, find, resolve, roots, validate
from scaleout.io.compress import compress
from scaleout.io.experiments import check_rents, kind_of, place_trace, put
from scaleout.io.yaml import read_mapping
from scaleout.specs import ServingExperiment, TrainingExperiment
from scaleout.sweep.identity import files_of
from scaleout.sweep.seeds import seed_keys
from scaleout.sweep.spec import SEED, Sweep, canonical, thawed

__all__ = ["Forms", "Settings", "forms_of"]

Settings = Mapping[str, Any]
"""What a point sets: dotted keys and values."""
_PARTS = {
    "training": ("system", "model", "stack", "facility"),
    "serving": ("system", "model", "engine", "facility"),
    "inference": ("system", "net", "engine", "facility"),
    "stream": ("system", "facility"),
}
"""Keys of an experiment whose values are objects that points share."""
_DEFAULTED = ("stack", "facility")
_WHERE = "point"
_MOST_MADE = 1024
"""Systems, models and so on that are kept at a time: a system has some 50 kB."""
_ENDS = (".yaml", ".yml", ".json", ".csv")


class Forms:
    """A base experiment, and what its points make of it.

    Parameters
    ----------
    base
        A file, a name, or a mapping.

    Raises
    ------
    SpecError
        There is no such file or name, or it is no experiment.
    """

    def __init__(self, base: str | Mapping[str, Any]) -> None:
        source = base if isinstance(base, str) else thawed(base)
        self.kind = kind_of(source)
        self.path: Path | None = None
        if isinstance(source, str):
            self.path = find(self.kind, source)
            data = read_mapping(self.path)
            if (told := data.get("kind", self.kind)) != self.kind:
                raise SpecError(f"{source}: kind: {told!r} is not accepted; expected {self.kind!r}")
        else:
            data = source
        self.data = {**data, "kind": self.kind}
        # figures of others are of what they measured, and not of points around it
        self.data.pop("published", None)
        self.names = _PARTS[self.kind]
        self.rest = {key: value for key, value in self.data.items() if key not in self.names}
        self.rest = self._resolved(self.rest)
        self.groups: dict[str, Any] = {}
        self._made: dict[tuple[str, tuple[tuple[str, str], ...]], Any] = {}

    def _resolved(self, rest: dict[str, Any]) -> dict[str, Any]:
        """Names in it replaced by what they name, where they can be; points may yet change the others."""
        found = {**copied(rest), **{key: {} for key in _DEFAULTED}}
        try:
            resolve(found, _WHERE, self.kind, self.path)
        except SpecError:
            return rest
        return {key: value for key, value in found.items() if key in rest}

    def experiment(self, settings: Settings) -> Any:
        """The experiment of a point, as ``scaleout.experiment`` would make it of the base with these settings.

        Raises
        ------
        ScaleoutError
            As that does.
        """
        try:
            spec = validate(self.kind, self.mapping(settings), _WHERE)
            if isinstance(spec, TrainingExperiment | ServingExperiment):
                check_rents(spec, _WHERE)
            return spec
        except ScaleoutError as error:
            raise _bare(error) from None

    def mapping(self, settings: Settings) -> dict[str, Any]:
        """The same before it is checked as a whole: parts are specs, the rest is a mapping."""
        changes: dict[str, list[tuple[str, str]]] = {}
        data: dict[str, Any] = copied(self.rest)
        # a key goes before those inside it
        for key in sorted(settings):
            head = key.partition(".")[0]
            if head in self.names:
                changes.setdefault(head, []).append((key, canonical(settings[key])))
            elif key != SEED:
                put(data, key, copied(thawed(settings[key])), key, self.path)
        if SEED in settings:
            for key, seed in seed_keys(self.kind, data, int(settings[SEED])):
                put(data, key, seed, key, self.path)
        for name in self.names:
            part = self.part(name, changes.get(name, ()))
            if part is not None:
                data[name] = part
        try:
            resolve(data, _WHERE, self.kind, self.path)
            compress(data, _WHERE)
            place_trace(data, _WHERE, self.path)
        except ScaleoutError as error:
            raise _bare(error) from None
        return data

    def part(self, name: str, changes: Iterable[tuple[str, str]]) -> Any:
        """A system, a model and so on, with its changes (key, JSON of the value) carried out; made once."""
        key = (name, tuple(changes))
        if key not in self._made:
            if len(self._made) >= _MOST_MADE:
                self._made.clear()
            try:
                self._made[key] = self._make(*key)
            except ScaleoutError as error:
                self._made[key] = error
        made = self._made[key]
        if isinstance(made, ScaleoutError):
            raise type(made)(*made.args)
        return made

    def _make(self, name: str, changes: tuple[tuple[str, str], ...]) -> Any:
        alone: dict[str, Any] = {other: {} for other in _DEFAULTED if other != name}
        if name in self.data:
            alone[name] = copied(self.data[name])
        try:
            for key, text in changes:
                put(alone, key, json.loads(text), key, self.path)
            resolve(alone, _WHERE, self.kind, self.path)
            value = alone.get(name)
            return validate(name, value, f"{_WHERE}: {name}") if isinstance(value, dict) else value
        except ScaleoutError as error:
            raise _bare(error) from None

    def value(self, key: str, default: Any = None) -> Any:
        """What the base's own file says at a key outside of its parts."""
        node: Any = self.rest
        for step in key.split("."):
            if isinstance(node, list) and step.isdigit() and int(step) < len(node):
                node = node[int(step)]
            elif isinstance(node, Mapping) and step in node:
                node = node[step]
            else:
                return default
        return default if node is None else node


def _bare(error: ScaleoutError) -> ScaleoutError:
    """A message without the word that stands for the file."""
    return type(error)("\n".join(line.removeprefix(f"{_WHERE}: ") for line in str(error).splitlines()))


class _Kept(NamedTuple):
    """The forms of a sweep, and what they were read from: where names are looked up, files, and how these were."""

    sweep: Sweep
    place: tuple[str, str]
    files: list[Path]
    stamp: list[tuple[str, int, int]]
    forms: Forms


_kept: deque[_Kept] = deque(maxlen=4)


def forms_of(sweep: Sweep) -> Forms:
    """The base of a sweep, read once as long as no file changes that it or its values reach.

    Raises
    ------
    SpecError
        There is no such file or name, or it is no experiment.
    """
    place = str(Path.cwd()), os.environ.get("SCALEOUT_PATH", "")
    for one in _kept:
        if one.sweep is sweep and one.place == place and one.stamp == _stamp(one.files):
            return one.forms
    files = files_of(sweep)
    # before they are read: a change meanwhile is seen the next time
    stamp = _stamp(files)
    forms = Forms(sweep.base)
    _kept.append(_Kept(sweep, place, files, stamp, forms))
    return forms


def _stamp(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Names, sizes and dates of files, of what lies beside them, and of the catalogue."""
    folders = {root / folder for root in roots() for folder in FOLDERS.values()} | {path.parent for path in files}
    rows = []
    for folder in folders:
        # what is not there has no files
        with suppress(OSError), os.scandir(folder) as entries:
            rows += [(one.path, one.stat()) for one in entries if one.name.endswith(_ENDS)]
    for path in files:
        with suppress(OSError):
            rows.append((str(path), path.stat()))
    return sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in rows)
