"""The file of a store: its tables, how it is opened, and what its errors mean."""

import fcntl
import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from scaleout.errors import SweepError

__all__ = ["FILE", "FORMAT", "LOCK", "in_words", "lock_of", "made", "reader", "writer"]

FORMAT = 1
"""Version of the tables."""
FILE, LOCK = "points.sqlite", "writer.lock"
_APPLICATION = 0x5CA1E007
"""What tells the file from other SQLite files."""
_PAGE = 16384
"""Size of a page [byte]: rows are a few hundred bytes, and read in order."""
_CACHE = -65536
"""Of pages [KiB, negative]."""
_PATIENCE = 5.0
"""Time for which another process may hold the file [s]."""
_TABLES = """
CREATE TABLE sweeps (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    spec TEXT NOT NULL,
    context TEXT NOT NULL,
    code TEXT NOT NULL,
    catalogue TEXT NOT NULL,
    points INTEGER NOT NULL,
    used INTEGER NOT NULL,
    UNIQUE (spec, context)
);
CREATE TABLE points (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    evaluator TEXT NOT NULL,
    text TEXT NOT NULL,
    status TEXT NOT NULL,
    outcome TEXT NOT NULL
);
CREATE TABLE members (
    sweep INTEGER NOT NULL,
    position INTEGER NOT NULL,
    stage INTEGER NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (sweep, position, stage)
) WITHOUT ROWID;
"""
_WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full; what was recorded before is kept, and the sweep goes on from there",
    sqlite3.SQLITE_CORRUPT: "is corrupt; give another folder, or save its rows with .recover of the sqlite3 shell",
    sqlite3.SQLITE_NOTADB: "is not a store: no SQLite file",
    sqlite3.SQLITE_BUSY: f"another process has locked it for more than {_PATIENCE:g} s",
    sqlite3.SQLITE_LOCKED: "another process has locked it",
    sqlite3.SQLITE_READONLY: "may be read only; give another folder",
    sqlite3.SQLITE_PERM: "access is denied",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: a file beside it is missing that this process may not make",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk fails, or is full",
}
"""What SQLite's primary error codes mean here."""


def lock_of(folder: Path) -> int:
    """The lock of the one writer, open."""
    if folder.exists() and not folder.is_dir():
        raise SweepError(f"{folder}: is a file; a store is a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not _may_write(folder):
        raise SweepError(f"{folder}: may be read only; give another folder")
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise SweepError(f"{folder}: is being written by {holder}; wait for its end, or give another folder") from None
    except BaseException:
        os.close(lock)
        raise
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return lock


def writer(path: Path) -> sqlite3.Connection:
    """A connection that writes, to a store that is there or is made."""
    _check_file(path)
    if path.exists() and not _may_write(path):
        raise SweepError(f"{path}: may be read only; give another folder")
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    try:
        if _is_new(connection, path):
            connection.execute(f"PRAGMA page_size = {_PAGE}")
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise SweepError(f"{path}: this file system cannot hold a store that is read while it is written")
        return made(connection)
    except BaseException:
        connection.close()
        raise


def made(connection: sqlite3.Connection) -> sqlite3.Connection:
    """A connection whose tables are there."""
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = {_CACHE}")
    if connection.execute("PRAGMA application_id").fetchone() != (_APPLICATION,):
        marks = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {FORMAT};"
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {marks} COMMIT;")
    return connection


def reader(folder: Path) -> sqlite3.Connection:
    """A connection that reads a store as it is."""
    path = folder / FILE
    if not folder.exists():
        raise SweepError(f"{folder}: there is no such store")
    if not folder.is_dir():
        raise SweepError(f"{folder}: is a file; a store is a folder")
    if not path.exists():
        raise SweepError(f"{folder}: holds no store: there is no {FILE} in it")
    _check_file(path)
    # beside a file in WAL mode SQLite keeps two more; where it may not make them and nobody has, the file is whole
    beside = any(path.with_name(f"{FILE}-{what}").exists() for what in ("wal", "shm"))
    still = not beside and not _may_write(folder)
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if still else ''}",
        timeout=_PATIENCE, isolation_level=None, uri=True,
    )  # fmt: skip
    try:
        if _is_new(connection, path):
            raise SweepError(f"{path}: no sweep was begun in this store")
        connection.execute(f"PRAGMA cache_size = {_CACHE}")
    except BaseException:
        connection.close()
        raise
    return connection


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether nothing is in the file yet; a `SweepError` where it is no store, or of another version."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == _APPLICATION:
        if version > FORMAT:
            raise SweepError(
                f"{path}: was made by a newer version of scaleout (format {version}; this one reads {FORMAT}); upgrade"
            )
        if version < FORMAT:
            raise SweepError(
                f"{path}: was made by an older version of scaleout (format {version}; this one reads {FORMAT}); "
                "run the sweep into another folder"
            )
        return False
    if application or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        raise SweepError(f"{path}: is an SQLite file, but no store of scaleout")
    return True


def _check_file(path: Path) -> None:
    """Refuse what is no SQLite file, or was cut short, before SQLite looks at it."""
    if not path.exists():
        return
    if not path.is_file():
        raise SweepError(f"{path}: is no file; in a store it is the table of points")
    with path.open("rb") as file:
        head = file.read(100)
    if not head:
        return
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        raise SweepError(f"{path}: is not a store: no SQLite file")
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        # what the file lacks may stand in the log
        return
    size = int.from_bytes(head[16:18], "big")
    pages = int.from_bytes(head[28:32], "big")
    if path.stat().st_size < pages * (65536 if size == 1 else size):
        raise SweepError(f"{path}: is corrupt: the file was cut short")


@contextmanager
def in_words(path: Path | None) -> Iterator[None]:
    """Errors of SQLite and of the system as one sentence."""
    where = path or "the store"
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        words = _WORDS.get(code & 0xFF) if code is not None else None
        raise SweepError(f"{where}: {words or f'cannot be used: {error}'}") from None
    except OSError as error:
        raise SweepError(f"{error.filename or where}: {error.strerror or error}") from None
    except json.JSONDecodeError:
        raise SweepError(f"{where}: is corrupt; a row of it is no JSON") from None
