"""What a point's result rests on, as a digest: code, catalogue, base experiment, and the files that are named.

A stored point is found again by its key alone. What could change the result must be in the key, and what cannot must
not: rules, stages and the sweep's name say which points there are, and a point's text says what it sets.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from scaleout.errors import SpecError
from scaleout.io.catalogue import FOLDERS, roots
from scaleout.io.experiments import find_trace
from scaleout.io.yaml import read_mapping
from scaleout.specs.fields import plain
from scaleout.sweep.spec import Stage, Sweep

__all__ = ["catalogue_digest", "code_version", "context_of", "key_of", "kind_of", "spec_of", "sweep_of"]

_EXPERIMENTS = ("training", "serving", "inference", "stream")
_BESIDE = ("calibration", "cli", "planning", "report", "validation")
"""Rooms of the package that no result comes from."""
_SWEEP = (
    "__init__.py", "execute", "export.py", "identity.py", "points.py", "results.py", "rules.py", "run.py", "schema.py",
    "spec.py", "store.py",
)  # fmt: skip
"""What of `scaleout.sweep` decides which points there are, or keeps them, but nothing of what comes out of one."""
_GRAPHS = "topologies/graphs"
_NAMES_A_FILE = re.compile(rb"\.(?:csv|parquet|jsonl?|ya?ml|xml|graphml|txt|gz)\b|\btrace:")
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
    return hashlib.blake2b(f"{context}\n{evaluator}\n{text}".encode(), digest_size=16).digest()


def context_of(sweep: Sweep) -> str:
    """Digest of what the points of a sweep share: code, catalogue, base, and the content of files that it names."""
    return _digest([code_version(), catalogue_digest(), _base(sweep), sorted(_named_files(sweep))])


def spec_of(sweep: Sweep) -> str:
    """A sweep as canonical JSON: equal sweeps have equal texts."""
    return _json(
        {
            "axes": [[key, list(values)] for key, values in sweep.axes.items()],
            "base": sweep.base,
            "name": sweep.name,
            "objective": sweep.objective,
            "rules": list(sweep.rules),
            "seed": sweep.seed,
            "seeds": sweep.seeds,
            "stages": [{"evaluator": stage.evaluator, "within": stage.within} for stage in sweep.stages],
            "zipped": [[[key, list(values)] for key, values in group.items()] for group in sweep.zipped],
        }
    )


def sweep_of(spec: Mapping[str, Any]) -> Sweep:
    """The sweep of a `spec_of`, read as JSON."""
    rest = {key: spec[key] for key in ("base", "name", "objective", "seed", "seeds")}
    return Sweep(
        axes=_axes(spec["axes"]),
        zipped=tuple(_axes(group) for group in spec["zipped"]),
        rules=tuple(spec["rules"]),
        stages=tuple(Stage(**stage) for stage in spec["stages"]),
        **rest,
    )


def _axes(rows: list[tuple[str, list[Any]]]) -> dict[str, tuple[Any, ...]]:
    return {key: tuple(values) for key, values in rows}


def kind_of(sweep: Sweep) -> str:
    """The kind of experiment that a sweep is about: training, serving, inference or stream."""
    if isinstance(sweep.base, Mapping):
        return str(sweep.base.get("kind", "training"))
    name = str(sweep.base)
    path = Path(name)
    if not name.lower().endswith((".yaml", ".yml")):
        found = [(kind, file) for kind in _EXPERIMENTS if (file := _catalogue().get(f"{FOLDERS[kind]}/{name}"))]
        return found[0][0] if found else "training"
    # a file that cannot be read is told of where it is read for its points
    with suppress(SpecError):
        return str(read_mapping(path).get("kind", "training"))
    return "training"


@lru_cache(maxsize=1)
def code_version() -> str:
    """Version of the package and a digest of its sources, but of those that no result comes from."""
    from scaleout import __version__

    package = Path(__file__).resolve().parent.parent
    made = hashlib.blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        room, *rest = path.relative_to(package).parts
        if room not in _BESIDE and not (room == "sweep" and rest[0] in _SWEEP):
            made.update(f"{'/'.join((room, *rest))}\n".encode())
            made.update(path.read_bytes())
    return f"{__version__}+{made.hexdigest()}"


def catalogue_digest() -> str:
    """Digest of every file that a name may stand for now; of several of one name, of that which is found first."""
    made = hashlib.blake2b(digest_size=8)
    for name, path in sorted(_catalogue().items()):
        made.update(f"{name}\n{_content(path)}\n".encode())
    return made.hexdigest()


def _catalogue() -> dict[str, Path]:
    """The file of each name, by its folder and name without ending."""
    found: dict[str, Path] = {}
    for root in roots():
        for folder in (*FOLDERS.values(), _GRAPHS):
            # a folder that may not be read holds no names
            with suppress(OSError):
                for path in sorted((root / folder).iterdir()):
                    if path.is_file() and (folder == _GRAPHS or path.suffix == ".yaml"):
                        found.setdefault(f"{folder}/{path.stem}", path)
    *_, packaged = roots()
    found["topologies/links"] = packaged / "topologies/links.yaml"
    return found


def _base(sweep: Sweep) -> Any:
    """The base as it counts: a mapping as it is, a name; a file by its content, wherever it lies."""
    if isinstance(sweep.base, Mapping):
        return sweep.base
    path = Path(str(sweep.base))
    return ["file", _content(path)] if _is_file(path) else ["name", str(sweep.base)]


def _named_files(sweep: Sweep) -> set[tuple[str, str]]:
    """Files that a sweep names by path, or that one of those names in turn: the name given, and a digest."""
    found: set[tuple[str, str]] = set()
    catalogue: dict[str, list[Path]] = {}
    for name, path in _catalogue().items():
        catalogue.setdefault(name.rpartition("/")[2], []).append(path)
    read: set[Path] = set()
    given = [("base", sweep.base), *sweep.axes.items(), *(row for group in sweep.zipped for row in group.items())]
    waiting: list[tuple[Any, str, Path | None]] = [(value, key, None) for key, value in given]
    while waiting:
        value, key, beside = waiting.pop()
        for last, name in _texts(value, key.rpartition(".")[2]):
            file = _file(last, name, beside)
            if file is not None and name != sweep.base:
                found.add((name, _content(file)))
            for one in [file] if file is not None else catalogue.get(name, ()):
                if one not in read:
                    read.add(one)
                    if (inside := _inside(one)) is not None:
                        waiting.append((inside, "", one))
    return found


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
    if "." in name or "/" in name:
        for path in (Path(name), *([beside.parent / name] if beside else [])):
            if _is_file(path):
                return path
    return None


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Texts at any depth, each with the key that it stands at."""
    if isinstance(value, str | Path):
        yield key, str(value)
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


def _json(value: Any) -> str:
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def _digest(value: Any) -> str:
    return hashlib.blake2b(_json(value).encode(), digest_size=16).hexdigest()
