"""Where points are kept: a folder with an SQLite file, which one process writes and any number read.

What is committed survives the end of the process, whatever ends it. A crash of the whole machine may take the last
commits with it, never what was committed before them, nor the file. ``docs/stores.md`` has the tables.
"""

import fcntl
import json
import os
import socket
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from scaleout.errors import SweepError, near
from scaleout.sweep.identity import catalogue_digest, code_version, kind_of, spec_of
from scaleout.sweep.spec import Sweep

__all__ = ["FORMAT", "Store", "StoredRow", "StoredSweep"]

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
_ASKED = 500
"""Keys that are asked for at a time."""
_BATCH = 10_000
"""Rows that are held as tuples at a time."""
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
_ROWS = """
SELECT m.position, max(m.stage), p.evaluator, p.text, p.status, p.outcome FROM members AS m
CROSS JOIN points AS p ON p.key = m.key WHERE m.sweep = ? {more} GROUP BY m.position ORDER BY m.position
"""
"""The other columns are of the row with the largest stage: SQLite says so of queries with a `max`."""
_WAITING = """
SELECT count(*) FROM (SELECT max(stage), key FROM members WHERE sweep = ? GROUP BY position) AS m
WHERE NOT EXISTS (SELECT 1 FROM points AS p WHERE p.key = m.key)
"""


class StoredRow(NamedTuple):
    """One point of a sweep as it is kept.

    `text` is what the point sets, as JSON; `outcome` the outcomes, or the error's message, as JSON.
    """

    position: int
    stage: int
    evaluator: str
    text: str
    status: str
    outcome: str


class StoredSweep(NamedTuple):
    """A sweep as it is kept: `spec` as in `spec_of`, `points` its number of points [1]."""

    number: int
    name: str
    kind: str
    spec: dict[str, Any]
    context: str
    code: str
    catalogue: str
    points: int


class Store:
    """An open store; a context manager. Made by `Store.open`."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None, lock: int | None) -> None:
        self._connection = connection
        self._path = path
        self._lock = lock

    @classmethod
    def open(cls, folder: Path | None, *, write: bool) -> Self:
        """Open a store.

        Parameters
        ----------
        folder
            None for one of this process alone, which is gone when it is closed.
        write
            To record points, which makes the folder where there is none, and shuts other writers out; otherwise to
            read, which anyone may at any time.

        Raises
        ------
        SweepError
            There is no store; it is none, corrupt, or of another version; another process writes it; it cannot be
            read, or not be written to.
        """
        if folder is None:
            # a file of SQLite's own, which goes with the process, so that large sweeps need little memory
            return cls(_made(sqlite3.connect("", isolation_level=None)), None, None)
        folder = Path(folder)
        path = folder / FILE
        with _words(path):
            if not write:
                return cls(_reader(folder), path, None)
            lock = _lock(folder)
            try:
                return cls(_writer(path), path, lock)
            except BaseException:
                os.close(lock)
                raise

    def close(self) -> None:
        """Close it; a writer lets others write."""
        try:
            with _words(self._path):
                self._connection.close()
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, sweep: Sweep, context: str, *, points: int | None = None) -> int:
        """The number of a sweep, which becomes the latest; the same sweep in the same context has the same number.

        Parameters
        ----------
        points
            How many it has [1]; counted where not given.
        """
        if points is None:
            from scaleout.sweep.points import points_of

            points = len(points_of(sweep))
        spec = spec_of(sweep)
        values = (sweep.name, kind_of(sweep), spec, context, code_version(), catalogue_digest(), points)
        with self._transaction():
            self._connection.execute(
                "INSERT INTO sweeps (name, kind, spec, context, code, catalogue, points, used)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING",
                values,
            )
            self._connection.execute(
                "UPDATE sweeps SET used = 1 + (SELECT max(used) FROM sweeps) WHERE spec = ? AND context = ?",
                (spec, context),
            )
            (number,) = self._connection.execute(
                "SELECT number FROM sweeps WHERE spec = ? AND context = ?", (spec, context)
            ).fetchone()
        return int(number)

    def outdated(self, sweep: Sweep, context: str) -> int:
        """Points that were recorded of the same sweep under other contexts: other code, catalogue or files [1]."""
        with _words(self._path):
            (count,) = self._connection.execute(
                "SELECT count(DISTINCT position) FROM sweeps CROSS JOIN members ON sweep = number"
                " CROSS JOIN points ON points.key = members.key WHERE spec = ? AND context <> ?",
                (spec_of(sweep), context),
            ).fetchone()
        return int(count)

    def known(self, keys: Sequence[bytes], *, failed: bool = True) -> set[bytes]:
        """Those keys that have a row; without `failed`, a row of another status than "failed"."""
        found: set[bytes] = set()
        more = "" if failed else " AND status <> 'failed'"
        with _words(self._path):
            for first in range(0, len(keys), _ASKED):
                asked = keys[first : first + _ASKED]
                places = ",".join("?" * len(asked))
                query = f"SELECT key FROM points WHERE key IN ({places}){more}"  # noqa: S608  (question marks)
                found.update(key for (key,) in self._connection.execute(query, asked))
        return found

    def enlist(
        self,
        number: int,
        stage: int,
        keys: Iterable[bytes],
        positions: Iterable[int] | None = None,
        *,
        whole: bool = False,
    ) -> None:
        """Say which points a stage of a sweep takes, and under which keys; all at once or bit by bit, again or not.

        Parameters
        ----------
        positions
            Of the points, as many as there are keys; None for 0, 1, 2, ...
        whole
            These are all that the stage takes: what was enlisted of it before is struck off.
        """
        numbered = enumerate(keys) if positions is None else zip(positions, keys, strict=True)
        with self._transaction():
            if whole:
                self._connection.execute("DELETE FROM members WHERE sweep = ? AND stage = ?", (number, stage))
            self._connection.executemany(
                "INSERT OR REPLACE INTO members (sweep, position, stage, key) VALUES (?, ?, ?, ?)",
                ((number, int(position), stage, key) for position, key in numbered),
            )

    def record(self, rows: Iterable[tuple[bytes, str, str, str, str]]) -> None:
        """Keep points: rows of key, evaluator, text, status and outcome, all of them or, on an error, none.

        A key that has a row keeps it, but one of a point that failed is replaced.
        """
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO points (key, evaluator, text, status, outcome) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET status = excluded.status, outcome = excluded.outcome"
                " WHERE status = 'failed'",
                rows,
            )

    def sweeps(self) -> list[StoredSweep]:
        """All sweeps, the latest last."""
        query = "SELECT number, name, kind, spec, context, code, catalogue, points FROM sweeps ORDER BY used, number"
        with _words(self._path):
            rows = self._connection.execute(query).fetchall()
            return [
                StoredSweep(**dict(zip(StoredSweep._fields, row, strict=True)) | {"spec": json.loads(row[3])})
                for row in rows
            ]

    def sweep(self, wanted: int | str | None = None) -> StoredSweep:
        """The latest sweep, the latest of a name, or that of a number.

        Raises
        ------
        SweepError
            There is none.
        """
        found = self.sweeps()
        if not found:
            raise SweepError(f"{self._path or 'the store'}: no sweep was begun in this store")
        for one in reversed(found):
            if wanted is None or str(wanted) in (one.name, str(one.number)):
                return one
        known = sorted({one.name for one in found} | {str(one.number) for one in found})
        raise SweepError(f"{self._path or 'the store'}: no sweep {str(wanted)[:80]!r}; {near(str(wanted), known)}")

    def rows(self, number: int | None = None, stage: int | None = None) -> Iterator[StoredRow]:
        """Rows of a sweep (None: the latest), by position.

        Parameters
        ----------
        stage
            None for each point's row of the last stage that computed it. A point that was not computed has no row.
        """
        for batch in self.batches(number, stage):
            yield from map(StoredRow._make, batch)

    def batches(self, number: int | None = None, stage: int | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """As `rows`, some thousand at a time."""
        if number is None:
            number = self.sweep().number
        query = _ROWS.format(more="" if stage is None else "AND m.stage = ?")
        with _words(self._path):
            cursor = self._connection.execute(query, (number,) if stage is None else (number, stage))
            while batch := cursor.fetchmany(_BATCH):
                yield batch

    def missing(self, number: int) -> int:
        """Points of a sweep that the last stage that takes them has not computed [1]."""
        with _words(self._path):
            (points,) = self._connection.execute("SELECT points FROM sweeps WHERE number = ?", (number,)).fetchone()
            (enlisted,) = self._connection.execute(
                "SELECT count(DISTINCT position) FROM members WHERE sweep = ?", (number,)
            ).fetchone()
            (waiting,) = self._connection.execute(_WAITING, (number,)).fetchone()
        return int(points - enlisted + waiting)

    def counts(self, number: int) -> dict[int, int]:
        """How many points each stage of a sweep has taken [1]."""
        query = "SELECT stage, count(*) FROM members WHERE sweep = ? GROUP BY stage ORDER BY stage"
        with _words(self._path):
            return dict(self._connection.execute(query, (number,)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _words(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # a full disk has ended it already
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _lock(folder: Path) -> int:
    """The lock of the one writer, open."""
    if folder.exists() and not folder.is_dir():
        raise SweepError(f"{folder}: is a file; a store is a folder")
    folder.mkdir(parents=True, exist_ok=True)
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


def _writer(path: Path) -> sqlite3.Connection:
    """A connection that writes, to a store that is there or is made."""
    _check_file(path)
    if path.exists() and not os.access(path, os.W_OK):
        raise SweepError(f"{path}: may be read only; give another folder")
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    try:
        if _is_new(connection, path):
            connection.execute(f"PRAGMA page_size = {_PAGE}")
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise SweepError(f"{path}: this file system cannot hold a store that is read while it is written")
        return _made(connection)
    except BaseException:
        connection.close()
        raise


def _made(connection: sqlite3.Connection) -> sqlite3.Connection:
    """A connection whose tables are there."""
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = {_CACHE}")
    if connection.execute("PRAGMA application_id").fetchone() != (_APPLICATION,):
        marks = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {FORMAT};"
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {marks} COMMIT;")
    return connection


def _reader(folder: Path) -> sqlite3.Connection:
    """A connection that reads a store as it is."""
    path = folder / FILE
    if not folder.exists():
        raise SweepError(f"{folder}: there is no such store")
    if not folder.is_dir():
        raise SweepError(f"{folder}: is a file; a store is a folder")
    if not path.exists():
        raise SweepError(f"{folder}: holds no store: there is no {FILE} in it")
    _check_file(path)
    # beside a file in WAL mode SQLite makes two more; where it may not, the file alone is whole if no log is left
    log = path.with_name(f"{FILE}-wal")
    still = not os.access(folder, os.W_OK) and not (log.exists() and log.stat().st_size)
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


@contextmanager
def _words(path: Path | None) -> Iterator[None]:
    """Errors of SQLite and of the system as one sentence."""
    where = path or "the store"
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        words = _WORDS.get(code & 0xFF) if code is not None else None
        raise SweepError(f"{where}: {words or f'cannot be used: {error}'}") from None
    except OSError as error:
        raise SweepError(f"{error.filename or where}: {error.strerror}") from None
    except json.JSONDecodeError:
        raise SweepError(f"{where}: is corrupt; a row of it is no JSON") from None
