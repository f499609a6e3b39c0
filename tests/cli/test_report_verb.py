"""``scaleout report``: a store in, a page out, and words for what cannot be."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from scaleout.cli.report import command
from scaleout.errors import ScaleoutError, SpecError, SweepError
from scaleout.report.html import page
from scaleout.sweep.identity import key_of
from scaleout.sweep.points import points_of
from scaleout.sweep.spec import Sweep
from scaleout.sweep.store import Store

SWEEP = Sweep(base="llama-3.1-8b-1k", axes={"batch.micro": (1, 2)}, name="small")


@pytest.fixture(name="store")
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sweeps of two points, of which the second is the best."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page, "figures", lambda results: ())
    texts = points_of(SWEEP).texts([0, 1])
    keys = [key_of("a", "event", text) for text in texts]
    with Store.open(tmp_path / "store", write=True) as store:
        for name in ("other", "small"):
            number = store.begin(Sweep(base=SWEEP.base, axes=SWEEP.axes, name=name), "a", points=2)
            store.enlist(number, 0, keys)
        store.record(
            (key, "event", text, "done", json.dumps({"chips": 1024, "tokens_per_second": rate, "error": 0.05}))
            for key, text, rate in zip(keys, texts, (1e6, 2e6), strict=True)
        )
    return tmp_path / "store"


def report(*arguments: object) -> str:
    done = CliRunner().invoke(command, [str(one) for one in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_page_is_written_and_told_of(store: Path) -> None:
    assert report(store).startswith("wrote report.html  (2 points, 0.0 MB; the best is point 1)")
    assert b"<h1>Sweep small</h1>" in Path("report.html").read_bytes()


def test_json_tells_of_the_page(store: Path) -> None:
    told = json.loads(report(store, "-o", "a.html", "--sweep", "other", "--title", "A <title>", "--json"))
    assert told == {"file": "a.html", "bytes": Path("a.html").stat().st_size, "sweep": "other", "points": 2, "best": 1}
    assert b"<title>A &lt;title&gt;</title>" in Path("a.html").read_bytes()


def test_nothing_is_written_where_something_is_wrong(store: Path) -> None:
    for error, words, arguments in (
        (SweepError, "store", (store.parent / "none",)),
        (SweepError, "smal", (store, "--sweep", "smal")),
        (SpecError, "a page ends in .html", (store, "-o", "report.pdf")),
        (SpecError, "there is no folder", (store, "-o", "none/report.html")),
    ):
        with pytest.raises(ScaleoutError, match=words) as found:
            report(*arguments)
        assert type(found.value) is error
    assert not list(store.parent.glob("*.html")) and not list(store.parent.glob(".*"))
