"""The store: what is committed stays, one writer, and words for whatever is wrong with a file."""

from pathlib import Path

from scaleout.sweep.identity import key_of
from scaleout.sweep.spec import Stage, Sweep
from scaleout.sweep.store import Store, StoredRow

SWEEP = Sweep(
    base="llama-3.1-8b-1k",
    axes={"layout.tp": (1, 2, 4)},
    stages=(Stage(evaluator="analytic"), Stage(evaluator="event", within=0.1)),
    name="small",
)
TEXTS = ['{"layout.tp":1}', '{"layout.tp":2}', '{"layout.tp":4}']
KEYS = [key_of("a", "analytic", text) for text in TEXTS]
EVENT = [key_of("a", "event", text) for text in TEXTS]


def row(position: int, evaluator: str = "analytic", status: str = "done", outcome: str = "{}") -> tuple:
    keys = KEYS if evaluator == "analytic" else EVENT
    return (keys[position], evaluator, TEXTS[position], status, outcome)


def test_what_is_recorded_is_found_again(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", write=True) as store:
        number = store.begin(SWEEP, "a", points=3)
        store.enlist(number, 0, KEYS)
        assert store.known(KEYS) == set()
        store.record([row(0), row(2, outcome='{"step_time":2.0}')])
        store.record([row(2, outcome='{"step_time":3.0}')])
    with Store.open(tmp_path / "store", write=True) as store:
        assert store.begin(SWEEP, "a", points=3) == number
        assert store.known(KEYS) == {KEYS[0], KEYS[2]}
        assert list(store.rows()) == [
            StoredRow(0, 0, "analytic", TEXTS[0], "done", "{}"),
            StoredRow(2, 0, "analytic", TEXTS[2], "done", '{"step_time":2.0}'),
        ]
        assert store.missing(number) == 1
