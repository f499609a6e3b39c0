"""A Ray of one's own, or the connection to one that runs."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scaleout.errors import SweepError
from scaleout.sweep.execute import cores

__all__ = ["connected"]

_PREFIX = "scaleout-ray-"
_QUIET = {
    # one thread a task, for there is a task for every core
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    # tells nobody, and does not warn of accelerators that are not there
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_STORE, _STORE_EACH = 2**28, 2**25
"""Memory in which tasks leave their results: for all, and more for each worker [byte]."""


@contextmanager
def connected(address: str | None, workers: int | None) -> Iterator[None]:
    """Ray, while something is computed on it; one that the caller already has is taken as it is, and left.

    Parameters
    ----------
    address
        Of a cluster; None for a Ray of one's own.
    workers
        Of one's own: tasks at a time.

    Raises
    ------
    SweepError
        It cannot be started, or not be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise SweepError(f"Ray cannot be loaded: {error}; pip install ray, or leave --ray and --workers out") from None
    if ray.is_initialized():
        yield
        return
    folder: Path | None = None
    try:
        with _held_back():
            if address is None:
                folder = _folder()
                _start(ray, workers or cores(), folder)
            else:
                _join(ray, address)
        yield
    finally:
        with _held_back():
            ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _start(ray: Any, workers: int, folder: Path) -> None:
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    try:
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_STORE + workers * _STORE_EACH,
            _temp_dir=str(folder),
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise SweepError(
            f"Ray cannot be started on this machine: {error}; without --ray and --workers it goes on one core"
        ) from None
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _join(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        raise SweepError(f"ray {address}: {error}") from None


def _folder() -> Path:
    """For Ray's own files; those of processes that were killed go."""
    root = Path(tempfile.gettempdir())
    for left in sorted(root.glob(f"{_PREFIX}*")):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(OSError):
            if owner.isdigit() and left.stat().st_uid == os.getuid() and not _alive(int(owner)):
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def _held_back() -> Iterator[None]:
    """Interrupts wait until Ray is up, or down: half of it ends in a crash. Its own handler of signals goes again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    except SystemExit:
        # what Ray makes of a SIGTERM
        came.append(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
