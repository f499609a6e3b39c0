"""Where points are kept: a folder with an SQLite file, which one process writes and any number read.

What is committed survives the end of the process, whatever ends it. A crash of the whole machine may take the last
commits with it, never what was committed before them, nor the file. ``docs/stores.md`` has the tables.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from scaleout.errors import SweepError, near
from scaleout.sweep.identity import catalogue_digest, code_version, kind_of, spec_of
from scaleout.sweep.schema import FILE, in_words, lock_of, made, reader, writer
from scaleout.sweep.spec import Sweep

__all__ = ["FILE", "Store", "StoredRow", "StoredSweep"]

_ASKED = 500
"""Keys that are asked for at a time."""
_BATCH = 10_000
"""Rows that are held as tuples at a time."""
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
    """An open store; a context manager. Made by `Store.open`. `path` is its file, None for one without a folder."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None, lock: int | None) -> None:
        self._connection = connection
        self.path = path
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
            return cls(made(sqlite3.connect("", isolation_level=None)), None, None)
        folder = Path(folder)
        path = folder / FILE
        with in_words(path):
            if not write:
                return cls(reader(folder), path, None)
            lock = lock_of(folder)
            try:
                return cls(writer(path), path, lock)
            except BaseException:
                os.close(lock)
                raise

    def close(self) -> None:
        """Close it; a writer lets others write."""
        try:
            with in_words(self.path):
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
                "UPDATE sweeps SET used = 1 + (SELECT max(used) FROM sweeps), points = ?"
                " WHERE spec = ? AND context = ?",
                (points, spec, context),
            )
            (number,) = self._connection.execute(
                "SELECT number FROM sweeps WHERE spec = ? AND context = ?", (spec, context)
            ).fetchone()
            # a rule may leave out more than it once did
            self._connection.execute("DELETE FROM members WHERE sweep = ? AND position >= ?", (number, points))
        return int(number)

    def known(self, keys: Sequence[bytes], *, failed: bool = True) -> set[bytes]:
        """Those keys that have a row; without `failed`, a row of another status than "failed"."""
        found: set[bytes] = set()
        more = "" if failed else " AND status <> 'failed'"
        with in_words(self.path):
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
                # what is there already is not written again
                "INSERT INTO members (sweep, position, stage, key) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET key = excluded.key WHERE key <> excluded.key",
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
        with in_words(self.path):
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
            raise SweepError(f"{self.path or 'the store'}: no sweep was begun in this store")
        for one in found[::-1]:
            if wanted is None or str(wanted) in (one.name, str(one.number)):
                return one
        known = sorted({one.name for one in found} | {str(one.number) for one in found})
        raise SweepError(f"{self.path or 'the store'}: no sweep {str(wanted)[:80]!r}; {near(str(wanted), known)}")

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
        with in_words(self.path):
            cursor = self._connection.execute(query, (number,) if stage is None else (number, stage))
            while batch := cursor.fetchmany(_BATCH):
                yield batch

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read inside is of one moment, whatever a writer adds meanwhile."""
        with in_words(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def missing(self, number: int) -> int:
        """Points of a sweep that the last stage that takes them has not computed [1]."""
        with in_words(self.path):
            (points,) = self._connection.execute("SELECT points FROM sweeps WHERE number = ?", (number,)).fetchone()
            (enlisted,) = self._connection.execute(
                "SELECT count(DISTINCT position) FROM members WHERE sweep = ?", (number,)
            ).fetchone()
            (waiting,) = self._connection.execute(_WAITING, (number,)).fetchone()
        return int(points - enlisted + waiting)

    def counts(self, number: int) -> dict[int, int]:
        """How many points each stage of a sweep has taken [1]."""
        query = "SELECT stage, count(*) FROM members WHERE sweep = ? GROUP BY stage ORDER BY stage"
        with in_words(self.path):
            return dict(self._connection.execute(query, (number,)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with in_words(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # a full disk has ended it already
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
