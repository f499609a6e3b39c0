"""What a point's result rests on, as a digest: code, catalogue, base experiment, and the files that are named.

A stored point is found again by its key alone. What could change the result must be in the key, and what cannot must
not: rules, stages and the sweep's name say which points there are, and a point's text says what it sets.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scaleout.errors import SpecError
from scaleout.io import experiments
from scaleout.io.catalogue import FOLDERS, find, roots
from scaleout.io.experiments import EXPERIMENTS, find_trace
from scaleout.io.yaml import read_mapping
from scaleout.specs.fields import plain
from scaleout.sweep.spec import Sweep, canonical

__all__ = ["catalogue_digest", "code_version", "context_of", "files_of", "key_of", "kind_of", "spec_of", "sweep_of"]

_BESIDE = ("calibration", "cli", "planning", "report", "validation")
"""Rooms of the package that no result comes from."""
_SWEEP = (
    "__init__.py", "columns.py", "execute", "export.py", "files.py", "identity.py", "points.py", "progress.py",
    "results.py", "rules.py", "run.py", "schema.py", "spec.py", "store.py",
)  # fmt: skip
"""What of `scaleout.sweep` decides which points there are, or keeps them, but nothing of what comes out of one."""
_GRAPHS = "topologies/graphs"
_NAMES_A_FILE = re.compile(rb"\.(?:csv|parquet|jsonl?|ya?ml|xml|graphml|txt|gz)\b|\btrace:|\btraining:")
"""What a file must hold to name another; one that does not need not be parsed."""
_CHUNK = 1 << 20


def key_of(context: str, evaluator: str, text: str) -> bytes:
    """The key of a point, 16 bytes.

    Parameters
    ----------
    context
        As `context_of` gives it.
    text
        What the point sets, as canonical JSON.
    """
    common, files = _parted(context)
    named = "".join([f"\n{content}" for setting, content in files if setting in text]) if files else ""
    return hashlib.blake2b(f"{common}\n{evaluator}\n{text}{named}".encode(), digest_size=16).digest()


def context_of(sweep: Sweep) -> str:
    """What the points of a sweep rest on beside what they set: code, catalogue, base, and files that are named.

    A digest of what all points share; after it, where values of an axis name files, the digest of their content for
    each such value, so that a file counts for the points that name it, and for no other.
    """
    path = _experiment(sweep.base) if isinstance(sweep.base, str) else None
    # a file is its content, wherever it lies
    base = sweep.base if path is None else _content(path)
    reach = _Reach()
    named = reach.files(sweep.base if path is None else _inside(path), "", path)
    common = _digest([code_version(), catalogue_digest(), base, named])
    files = {}
    for key, values in (*sweep.axes.items(), *(row for group in sweep.zipped for row in group.items())):
        for value in values:
            if found := reach.files(value, key, path):
                files[f"{canonical(key)}:{canonical(value)}"] = _digest(found)
    return f"{common} {canonical(files)}" if files else common


def files_of(sweep: Sweep) -> list[Path]:
    """Files that the points of a sweep rest on beside the catalogue: its base, and those that a value names, sorted."""
    path = _experiment(sweep.base) if isinstance(sweep.base, str) else None
    reach = _Reach()
    reach.files(sweep.base if path is None else _inside(path), "", path)
    for values in (sweep.axes, *sweep.zipped):
        reach.files(values, "", path)
    return sorted(reach.reached | ({path} if path else set()))


@lru_cache(maxsize=16)
def _parted(context: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What all points share, and files by the text of the setting that names them."""
    common, _, files = context.partition(" ")
    return common, tuple(json.loads(files or "{}").items())


def spec_of(sweep: Sweep) -> str:
    """A sweep as canonical JSON: equal sweeps have equal texts. Axes are lists, as their order counts."""
    found = {field.name: getattr(sweep, field.name) for field in fields(Sweep)}
    found["axes"] = [*sweep.axes.items()]
    found["zipped"] = [[*group.items()] for group in sweep.zipped]
    found["stages"] = [plain(stage) for stage in sweep.stages]
    return canonical(found)


def sweep_of(spec: Mapping[str, Any]) -> Sweep:
    """The sweep of a `spec_of`, read as JSON."""
    shaped = {"axes": dict(spec["axes"]), "zipped": [dict(group) for group in spec["zipped"]]}
    return Sweep(**{**spec, **shaped})


def kind_of(sweep: Sweep) -> str:
    """The kind of experiment that a sweep is about: training, serving, inference or stream."""
    return experiments.kind_of(sweep.base)


@lru_cache(maxsize=1)
def code_version() -> str:
    """Version of the package and a digest of its sources, but of those that no result comes from."""
    package = Path(__file__).resolve().parent.parent
    made = hashlib.blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        room, *rest = path.relative_to(package).parts
        if room not in _BESIDE and not (room == "sweep" and rest[0] in _SWEEP):
            made.update(f"{'/'.join((room, *rest))}\n".encode())
            made.update(path.read_bytes())
    return f"{version('scaleout')}+{made.hexdigest()}"


def catalogue_digest() -> str:
    """Digest of every file that a name may stand for now; of several of one name, of that which is found first.

    Experiments are not among them: one that a sweep names counts by itself.
    """
    made = hashlib.blake2b(digest_size=8)
    for name, path in sorted(_catalogue().items()):
        made.update(f"{name}\n{_content(path)}\n".encode())
    return made.hexdigest()


def _catalogue() -> dict[str, Path]:
    """The file of each name, by its folder and name without ending."""
    found: dict[str, Path] = {}
    folders = [folder for kind, folder in FOLDERS.items() if kind not in (*EXPERIMENTS, "sweep")]
    for root in roots():
        for folder in (*folders, _GRAPHS):
            # a folder that may not be read holds no names
            with suppress(OSError):
                for path in sorted((root / folder).iterdir()):
                    if path.is_file() and (folder == _GRAPHS or path.suffix == ".yaml"):
                        found.setdefault(f"{folder}/{path.stem}", path)
    *_, packaged = roots()
    found["topologies/links"] = packaged / "topologies/links.yaml"
    return found


def _experiment(name: str) -> Path | None:
    """The file of an experiment of any kind."""
    for kind in EXPERIMENTS:
        with suppress(SpecError):
            return find(kind, name)
    return None


class _Reach:
    """Finds the files that a value names by path, or that one of those names in turn.

    So are traces, and trainings that run beside a service; other names are the catalogue's, and only what their files
    name counts.
    """

    def __init__(self) -> None:
        self.reached: set[Path] = set()
        """Files that were named, so far."""
        self._catalogue: dict[str, list[Path]] = {}
        for name, path in _catalogue().items():
            self._catalogue.setdefault(name.rpartition("/")[2], []).append(path)

    def files(self, value: Any, key: str, beside: Path | None) -> list[tuple[str, str]]:
        """The name given to each file, and a digest of what it holds, sorted."""
        found: set[tuple[str, str]] = set()
        read: set[Path] = set()
        waiting: list[tuple[Any, str, Path | None]] = [(value, key, beside)]
        while waiting:
            value, key, beside = waiting.pop()
            for last, name in _texts(value, key.rpartition(".")[2]):
                file = _file(last, name, beside)
                if file is not None:
                    self.reached.add(file)
                    found.add((name, _content(file)))
                for one in [file] if file is not None else self._catalogue.get(name, ()):
                    if one not in read:
                        read.add(one)
                        waiting.append((_inside(one), "", one))
        return sorted(found)


def _inside(path: Path) -> dict[str, Any] | None:
    """The mapping of a file that may name others."""
    # what is wrong with it is told where it is read for its points
    with suppress(OSError, SpecError):
        if path.suffix.lower() in (".yaml", ".yml") and _NAMES_A_FILE.search(path.read_bytes()):
            return read_mapping(path)
    return None


def _file(key: str, name: str, beside: Path | None) -> Path | None:
    """The file that a value names by path, or a trace by its name."""
    if not 0 < len(name) < 4096 or "\n" in name or "\0" in name:
        return None
    if key == "trace":
        with suppress(SpecError):
            return find_trace(name, beside)
    if key == "training" and (path := _experiment(name)):
        return path
    if "." in name or "/" in name:
        for path in (Path(name), *([beside.parent / name] if beside else [])):
            if _is_file(path):
                return path
    return None


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Texts at any depth, each with the key that it stands at."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _texts(one, str(name).rpartition(".")[2])
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one, key)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _content(path: Path) -> str:
    """Digest of what a file holds, read in pieces: a trace may be large."""
    made = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                made.update(piece)
    except OSError:
        return "cannot be read"
    return made.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.blake2b(canonical(value).encode(), digest_size=16).hexdigest()
