"""The store: what is committed stays, one writer, and words for whatever is wrong with a file."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from scaleout.errors import SweepError
from scaleout.sweep import schema
from scaleout.sweep.identity import key_of
from scaleout.sweep.spec import Stage, Sweep
from scaleout.sweep.store import Store, StoredRow

Row = tuple[bytes, str, str, str, str]
SWEEP = Sweep(
    base="llama-3.1-8b-1k",
    axes={"layout.tp": (1, 2, 4)},
    stages=(Stage(evaluator="analytic"), Stage(evaluator="event", within=0.1)),
    name="small",
)
TEXTS = ['{"layout.tp":1}', '{"layout.tp":2}', '{"layout.tp":4}']
KEYS = {kind: [key_of("a", kind, text) for text in TEXTS] for kind in ("analytic", "event")}
TAKEN = KEYS["analytic"]


def row(position: int, evaluator: str = "analytic", status: str = "done", outcome: str = "{}") -> Row:
    return (KEYS[evaluator][position], evaluator, TEXTS[position], status, outcome)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """A store with two of three points."""
    folder = tmp_path / "store"
    with Store.open(folder, write=True) as store:
        store.enlist(store.begin(SWEEP, "a", points=3), 0, TAKEN)
        store.record([row(0), row(2, outcome='{"step_time":2.0}')])
    return folder


def positions(folder: Path) -> list[int]:
    with Store.open(folder, write=False) as store:
        return [one.position for one in store.rows()]


def fails(folder: Path, *words: str, write: bool = False) -> None:
    with pytest.raises(SweepError) as caught, Store.open(folder, write=write) as store:
        list(store.rows())
    for one in words:
        assert one in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_recorded_is_found_again(folder: Path) -> None:
    with Store.open(folder, write=True) as store:
        number = store.begin(SWEEP, "a", points=3)
        assert number == store.sweep().number
        assert store.known(TAKEN) == {TAKEN[0], TAKEN[2]}
        store.record([row(2, outcome='{"step_time":3.0}')])
        assert list(store.rows()) == [
            StoredRow(0, 0, "analytic", TEXTS[0], "done", "{}"),
            StoredRow(2, 0, "analytic", TEXTS[2], "done", '{"step_time":2.0}'),
        ]
        assert store.missing(number) == 1


def test_a_sweep_may_have_fewer_points_than_before(folder: Path) -> None:
    with Store.open(folder, write=True) as store:
        number = store.begin(SWEEP, "a", points=2)
        assert [one.position for one in store.rows(number)] == [0]
        assert (store.sweep().points, store.missing(number)) == (2, 1)
        assert store.known(TAKEN) == {TAKEN[0], TAKEN[2]}


def test_more_keys_than_are_asked_for_at_once() -> None:
    keys = [key_of("", "event", str(at)) for at in range(1703)]
    with Store.open(None, write=True) as store:
        store.record((key, "event", "{}", "done", "{}") for key in keys[::2])
        assert store.known(keys) == set(keys[::2])


def test_a_point_that_failed_may_be_computed_again_and_no_other() -> None:
    with Store.open(None, write=True) as store:
        number = store.begin(SWEEP, "a", points=3)
        store.enlist(number, 0, TAKEN)
        store.record([row(0, status="failed", outcome='"a"'), row(1, status="infeasible", outcome='"b"'), row(2)])
        assert store.known(TAKEN) == set(TAKEN)
        assert store.known(TAKEN, failed=False) == set(TAKEN[1:])
        store.record([row(0), row(1), row(2, status="failed")])
        assert [one.status for one in store.rows(number)] == ["done", "infeasible", "done"]


def test_a_row_is_that_of_the_last_stage_that_computed_the_point() -> None:
    with Store.open(None, write=True) as store:
        number = store.begin(SWEEP, "a", points=3)
        store.enlist(number, 0, TAKEN)
        store.record(map(row, range(3)))
        assert store.missing(number) == 0
        store.enlist(number, 1, KEYS["event"][1:], [1, 2])
        assert store.missing(number) == 2
        store.record([row(2, "event")])
        assert [one[:3] for one in store.rows(number)] == [(0, 0, "analytic"), (1, 0, "analytic"), (2, 1, "event")]
        assert [one.position for one in store.rows(number, stage=1)] == [2]
        assert store.counts(number) == {0: 3, 1: 2}
        # another choice of the stage strikes off what was taken before
        store.enlist(number, 1, KEYS["event"][:1], [0], whole=True)
        assert [one.stage for one in store.rows(number)] == [0, 0, 0]
        assert store.missing(number) == 1


def test_enlisting_bit_by_bit_and_again_changes_nothing() -> None:
    with Store.open(None, write=True) as store:
        number = store.begin(SWEEP, "a", points=3)
        for at in (1, 0, 2, 1):
            store.enlist(number, 0, TAKEN[at : at + 1], [at])
        store.record([row(2), row(0), row(1)])
        assert [one.text for one in store.rows(number)] == TEXTS
        with pytest.raises(ValueError, match="longer"):
            store.enlist(number, 0, TAKEN, [0])
        assert store.counts(number) == {0: 3}


def test_sweeps_share_points_and_the_latest_is_the_one_that_ran_last(folder: Path) -> None:
    other = replace(SWEEP, name="larger", axes={"layout.tp": (1, 2, 4, 8)})
    with Store.open(folder, write=True) as store:
        number = store.begin(other, "a", points=4)
        store.enlist(number, 0, [*TAKEN, b"8" * 16])
        assert [one.position for one in store.rows()] == [0, 2]
        assert store.missing(number) == 2
        assert store.sweep().name == "larger"
        assert store.sweep("small").number == store.sweep("1").number == store.sweep(1).number == 1
        assert store.begin(SWEEP, "a", points=3) == 1
        assert [one.name for one in store.sweeps()] == ["larger", "small"]
        with pytest.raises(SweepError, match=r"no sweep 'smal'; did you mean 'small'\?"):
            store.sweep("smal")


def test_a_sweep_of_other_code_is_another(folder: Path) -> None:
    with Store.open(folder, write=True) as store:
        number = store.begin(SWEEP, "b", points=3)
        assert number == 2
        assert list(store.rows()) == []
        assert [one.position for one in store.rows(1)] == [0, 2]


def test_a_batch_is_recorded_whole_or_not_at_all(folder: Path) -> None:
    def rows() -> Iterator[Row]:
        yield row(1)
        raise KeyboardInterrupt

    with Store.open(folder, write=True) as store:
        with pytest.raises(KeyboardInterrupt):
            store.record(rows())
        assert store.known(TAKEN) == {TAKEN[0], TAKEN[2]}
        store.record([row(1)])
    assert positions(folder) == [0, 1, 2]


def test_readers_see_what_is_committed_while_another_writes(folder: Path) -> None:
    with Store.open(folder, write=True) as store, Store.open(folder, write=False) as reader:
        with reader.snapshot():
            assert len(list(reader.rows())) == 2
            store.record([row(1)])
            assert len(list(reader.rows())) == 2
        assert len(list(reader.rows())) == 3
        with pytest.raises(SweepError, match="may be read only"):
            reader.record([row(1)])


def test_one_process_writes(folder: Path) -> None:
    with Store.open(folder, write=True):
        fails(folder, f"is being written by process {os.getpid()} on", "give another folder", write=True)
    with Store.open(folder, write=True):
        pass


def test_a_process_that_is_killed_loses_nothing_that_it_recorded(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from scaleout.sweep.spec import Sweep
from scaleout.sweep.store import Store
store = Store.open(Path({str(tmp_path / "store")!r}), write=True)
keys = [at.to_bytes(16, "big") for at in range(10**6)]
number = store.begin(Sweep(base="llama-3.1-8b-1k"), "a", points=len(keys))
for at in range(0, len(keys), 100):
    store.enlist(number, 0, keys[at : at + 100], range(at, at + 100))
    store.record((key, "event", "{{}}", "done", "{{}}") for key in keys[at : at + 100])
    print(at + 100, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout as out:
        for _ in range(20):
            recorded = int(out.readline())
        process.send_signal(signal.SIGKILL)
        recorded = max([recorded, *map(int, out.read().split("\n")[:-1])])
    found = positions(tmp_path / "store")
    assert found == list(range(len(found)))
    assert recorded <= len(found) <= recorded + 100
    # nobody holds it any more
    with Store.open(tmp_path / "store", write=True) as store:
        assert store.missing(1) == 10**6 - len(found)


def test_there_is_no_such_store(tmp_path: Path) -> None:
    fails(tmp_path / "none", "none: there is no such store")
    assert not (tmp_path / "none").exists()
    fails(tmp_path, "holds no store: there is no points.sqlite in it")
    (tmp_path / "file").write_text("")
    for write in (False, True):
        fails(tmp_path / "file", "is a file; a store is a folder", write=write)
    fails(tmp_path / "file/inside", "Not a directory", write=True)
    (tmp_path / "points.sqlite").write_text("")
    fails(tmp_path, "no sweep was begun in this store")
    with Store.open(tmp_path / "new", write=True):
        pass
    fails(tmp_path / "new", "no sweep was begun in this store")


@pytest.mark.parametrize("write", [False, True])
def test_other_files_are_no_stores(tmp_path: Path, write: bool) -> None:
    (tmp_path / "points.sqlite").write_text("step,time\n" * 100)
    fails(tmp_path, "is not a store: no SQLite file", write=write)
    (tmp_path / "points.sqlite").unlink()
    with closing(sqlite3.connect(tmp_path / "points.sqlite")) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    before = (tmp_path / "points.sqlite").read_bytes()
    fails(tmp_path, "is an SQLite file, but no store of scaleout", write=write)
    assert (tmp_path / "points.sqlite").read_bytes() == before
    (tmp_path / "points.sqlite").unlink()
    (tmp_path / "points.sqlite").mkdir()
    fails(tmp_path, "is no file", write=write)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(("version", "words"), [(1, "made by a newer version"), (-1, "made by an older version")])
def test_stores_of_other_versions(folder: Path, version: int, words: str, write: bool) -> None:
    with closing(sqlite3.connect(folder / "points.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {schema.FORMAT + version}")
    fails(folder, words, f"this one reads {schema.FORMAT}", write=write)


@pytest.mark.parametrize("write", [False, True])
def test_corrupt_files(folder: Path, write: bool) -> None:
    path = folder / "points.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    fails(folder, "is corrupt: the file was cut short", write=write)
    path.write_bytes(whole[:50])
    fails(folder, "is not a store", write=write)
    # every page but the first
    path.write_bytes(whole[:16384] + b"\xa5" * (len(whole) - 16384))
    fails(folder, "is corrupt; give another folder", write=write)
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sweeps SET spec = '{'")
    fails(folder, "is corrupt; a row of it is no JSON", write=write)


def test_another_process_holds_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_PATIENCE", 0.05)
    with closing(sqlite3.connect(folder / "points.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Store.open(folder, write=True) as store:
            with pytest.raises(SweepError, match="another process has locked it for more than 5 s"):
                store.record([row(1)])
            other.execute("ROLLBACK")
            store.record([row(1)])
    assert positions(folder) == [0, 1, 2]


def test_a_full_disk(folder: Path) -> None:
    with Store.open(folder, write=True) as store:
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(SweepError, match=r"the disk is full; what was recorded before is kept"):
            store.record((str(at).encode(), "event", "{}", "done", "{}") for at in range(10_000))
        assert store.known(TAKEN) == {TAKEN[0], TAKEN[2]}
    with Store.open(folder, write=True) as store:
        store.record([row(1)])
    assert positions(folder) == [0, 1, 2]


@pytest.fixture(name="tiny_disk")
def _tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if not made or made.returncode:
        pytest.skip("no small disk can be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_real_disk_that_fills_up(tiny_disk: Path) -> None:
    with Store.open(tiny_disk / "store", write=True) as store:
        number = store.begin(SWEEP, "a", points=10**6)
        recorded = 0
        with pytest.raises(SweepError, match="disk"):
            for at in range(0, 10**6, 100):
                keys = [one.to_bytes(16, "big") for one in range(at, at + 100)]
                store.enlist(number, 0, keys, range(at, at + 100))
                store.record((key, "event", "{}", "done", "{}") for key in keys)
                recorded += 100
    assert recorded
    assert positions(tiny_disk / "store") == list(range(recorded))


@pytest.fixture(name="shared")
def _shared(folder: Path) -> Iterator[Path]:
    """The store where others may read it, and this process, for a while, is one of the others."""
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as outside:
        Path(outside).chmod(0o755)
        there = shutil.copytree(folder, Path(outside) / "store")
        try:
            os.seteuid(65534)
            if not os.access(there, os.R_OK, effective_ids=True):
                pytest.skip("nobody else may read temporary folders here")
            os.seteuid(0)
            yield there
        finally:
            os.seteuid(0)


def test_a_folder_that_its_owner_may_only_read(folder: Path) -> None:
    if not os.geteuid():
        pytest.skip("root may write everywhere")
    folder.chmod(0o555)
    assert positions(folder) == [0, 2]
    fails(folder, "may be read only; give another folder", write=True)
    folder.chmod(0o755)


def test_a_folder_that_may_only_be_read(shared: Path) -> None:
    os.seteuid(65534)
    assert positions(shared) == [0, 2]
    fails(shared, "may be read only; give another folder", write=True)
    assert sorted(path.name for path in shared.iterdir()) == ["points.sqlite", "writer.lock"]
    fails(shared / "new", "Permission denied", write=True)


def test_a_folder_that_may_only_be_read_while_its_owner_writes(shared: Path) -> None:
    with Store.open(shared, write=True) as store:
        store.record([row(1)])
        os.seteuid(65534)
        assert positions(shared) == [0, 1, 2]
        os.seteuid(0)


def test_a_folder_that_may_only_be_read_after_its_owner_was_killed(shared: Path, tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", write=True) as store:
        store.record([row(1)])
        # what a process leaves behind that never closed it
        shutil.copytree(tmp_path / "store", shared, dirs_exist_ok=True)
    assert (shared / "points.sqlite-wal").stat().st_size
    os.seteuid(65534)
    assert positions(shared) == [0, 1, 2]
    os.seteuid(0)
    (shared / "points.sqlite-shm").unlink()
    os.seteuid(65534)
    fails(shared, "cannot be opened: a file beside it is missing that this process may not make")


def test_a_file_that_may_only_be_read_or_not_at_all(shared: Path) -> None:
    shared.chmod(0o777)
    (shared / "writer.lock").chmod(0o666)
    os.seteuid(65534)
    assert positions(shared) == [0, 2]
    fails(shared, "may be read only", write=True)
    os.seteuid(0)
    (shared / "points.sqlite").chmod(0o600)
    os.seteuid(65534)
    fails(shared, "Permission denied")
