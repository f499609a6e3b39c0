"""The kinds of tables, each a module that compares a row at a time."""

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from scaleout.errors import MeasurementError, near
from scaleout.io.table import Watch
from scaleout.validation.agreement import Agreement

__all__ = ["KERNELS", "KINDS", "TABLES", "Kind", "kind_module", "tables_in", "validate"]

KINDS = {
    "attention": "scaleout.validation.attention",
    "collective": "scaleout.validation.collective",
    "elementwise": "scaleout.validation.elementwise",
    "gemm": "scaleout.validation.gemm",
    "moe": "scaleout.validation.moe",
    "moe_alltoall": "scaleout.validation.moe_alltoall",
    "training": "scaleout.validation.training",
    "memory": "scaleout.validation.memory",
    "inference": "scaleout.validation.inference",
    "serving": "scaleout.validation.serving",
}
"""Name of a kind -> its module, which is imported when it is used."""

TABLES = {
    "attention.csv": "attention",
    "collectives.csv": "collective",
    "elementwise.csv": "elementwise",
    "gemm.csv": "gemm",
    "moe.csv": "moe",
    "moe_alltoall.csv": "moe_alltoall",
    "training.csv": "training",
    "training_single_node.csv": "training",
    "memory.csv": "memory",
    "inference.csv": "inference",
}
"""File name of a published table -> its kind."""


KERNELS = ("attention", "elementwise", "gemm", "moe")
"""Kinds of single kernels, whose constants may be those of another chip."""

RUNS = "serving"
"""Folder of measured runs of serving engines, each with its settings beside it."""


class Kind(Protocol):
    """What the module of a kind holds."""

    def compare(self, path: Path, watch: Watch | None = None) -> Agreement:
        """Every row of a table, simulated."""


class KernelKind(Protocol):
    """What the module of a kind of single kernels holds."""

    def compare(self, path: Path, watch: Watch | None = None, donor: str = "") -> Agreement:
        """Every row of a table, simulated; with the constants of a donor, where one is named."""


def tables_in(folder: Path) -> dict[Path, str]:
    """Tables of a folder that are known by their names, and runs in its folder ``serving``: path -> kind."""
    found = {folder / name: kind for name, kind in TABLES.items() if (folder / name).is_file()}
    runs = sorted((folder / RUNS).glob("*.csv"))
    return found | {path: RUNS for path in runs if path.with_suffix(".meta.json").is_file()}


def kind_module(kind: str) -> Kind:
    """The module of a kind.

    Raises
    ------
    MeasurementError
        There is no such kind.
    """
    if kind not in KINDS:
        raise MeasurementError(f"unknown kind of table {kind!r}; {near(kind, KINDS)}")
    return cast(Kind, import_module(KINDS[kind]))


def validate(kind: str, path: str | Path, watch: Watch | None = None, *, jobs: int = 1, donor: str = "") -> Agreement:
    """Compare every row of a table of measurements with the simulator.

    Parameters
    ----------
    kind
        Form of the table; ``scaleout validate --help`` lists them.
    path
        A CSV file.
    watch
        Is told how much of the work is done, of how much.
    jobs
        Processes that simulate the steps of a training table; other kinds, quick, take one.
    donor
        A measured chip whose constants all others have in place of theirs, by their data sheets alone; its own rows
        are left out. Of kinds of single kernels.

    Raises
    ------
    MeasurementError
        Unknown kind, a file that is no such table, or malformed rows, all of them at once.
    """
    module = kind_module(kind)
    if donor:
        if kind not in KERNELS:
            raise MeasurementError(
                f"kind {kind!r} is no table of single kernels; constants of another chip: {', '.join(KERNELS)}"
            )
        return cast(KernelKind, module).compare(Path(path), watch, donor)
    if kind == "training":
        from scaleout.validation import training

        return training.compare(Path(path), watch, jobs)
    return module.compare(Path(path), watch)
