"""Sweeps carried out in this process: what is computed, what is kept, how batches are sized."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from scaleout.errors import SweepError
from scaleout.sweep.evaluate import Outcome
from scaleout.sweep.execute import address, executor_of, serial
from scaleout.sweep.execute.batches import Batch, Finished, Job, Pace, after_death
from scaleout.sweep.execute.worker import hold
from scaleout.sweep.progress import Progress, value_of
from scaleout.sweep.results import SweepResults, results_of
from scaleout.sweep.run import run_sweep
from scaleout.sweep.spec import Stage, Sweep
from scaleout.training.registry import SCHEDULES
from scaleout.training.schedules import Schedule

BASE = {
    "kind": "training",
    "system": "dgx-h100",
    "chips": 64,
    "model": "llama-3.1-8b",
    "layout": {"tp": 4, "pp": 4, "dp": 4},
    "batch": {"global": 64, "sequence": 2048},
}
MICRO = tuple(range(1, 41))


class Made:
    """Made-up outcomes: a step of 1 s and a hundredth a micro-batch; every ninth is refused."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []
        self.broken: set[int] = set()
        self.stop_at = 0

    def __call__(self, sweep: Sweep, evaluator: str, texts: Sequence[str]) -> list[Outcome]:
        self.batches.append((evaluator, len(texts)))
        if self.stop_at and self.points() >= self.stop_at:
            self.stop_at = 0
            raise KeyboardInterrupt
        return [self.one(evaluator, json.loads(text)["batch.micro"]) for text in texts]

    def one(self, evaluator: str, micro: int) -> Outcome:
        if micro in self.broken:
            return Outcome("failed", '"ValueError: odd"')
        if micro % 9 == 0:
            return Outcome("infeasible", '"does not fit"')
        step = (1 + micro / 100) * (1.1 if evaluator == "event" else 1.0)
        return Outcome("done", json.dumps({"step_time": step, "bound_by": "x"}, separators=(",", ":")))

    def points(self, evaluator: str = "") -> int:
        return sum(count for by, count in self.batches if not evaluator or by == evaluator)


@pytest.fixture(name="made")
def _made(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made()
    monkeypatch.setattr(serial, "evaluate_batch", made)
    return made


def sweep(*stages: Stage, objective: str | None = "step_time", micro: Sequence[int] = MICRO) -> Sweep:
    return Sweep(base=BASE, axes={"batch.micro": tuple(micro)}, stages=stages or (Stage(),), objective=objective)


SCREEN = (Stage(evaluator="analytic"), Stage(evaluator="event", within=0.1))


def test_what_was_computed_is_found_again_and_nothing_is_computed_twice(made: Made, tmp_path: Path) -> None:
    first = run_sweep(sweep(), store=tmp_path / "a")
    assert made.points() == len(MICRO)
    again = run_sweep(sweep(), store=tmp_path / "a")
    assert made.points() == len(MICRO)
    assert again.to_json() == first.to_json() == results_of(tmp_path / "a").to_json()
    # without a folder the same, kept for the call alone
    assert run_sweep(sweep()).to_json() == first.to_json()
    status = first.column("status")
    assert [int(np.count_nonzero(status == one)) for one in ("done", "infeasible", "failed")] == [36, 4, 0]
    assert first.best == 0


def test_points_of_two_sweeps_that_are_alike_are_one(made: Made, tmp_path: Path) -> None:
    run_sweep(sweep(micro=MICRO[:30]), store=tmp_path)
    run_sweep(sweep(micro=MICRO[10:]), store=tmp_path)
    assert made.points() == len(MICRO)


def test_the_next_stage_takes_what_is_little_worse_than_the_best(made: Made, tmp_path: Path) -> None:
    results = run_sweep(sweep(*SCREEN), store=tmp_path)
    # 1.01 s is the best, so that 1.111 s is the most: micro-batches of 1 to 11, but 9 is refused
    assert made.points("event") == 10
    stage = results.column("stage")
    assert [int(results.column("batch.micro")[row]) for row in np.flatnonzero(stage == 1)] == [*range(1, 9), 10, 11]
    assert results.column("step_time")[0] == pytest.approx(1.01 * 1.1)


def test_a_stage_without_a_limit_takes_all_that_is_possible(made: Made) -> None:
    run_sweep(sweep(Stage(evaluator="analytic"), Stage(evaluator="event")))
    assert made.points("event") == 36


def test_a_stage_that_does_not_tell_the_objective_cannot_screen(made: Made) -> None:
    with pytest.raises(SweepError, match=r"stages\.1\.within: stage 1 tells no power"):
        run_sweep(sweep(Stage(), Stage(within=0.1), objective="power"))


def test_an_interrupt_loses_the_batch_under_way_alone(made: Made, tmp_path: Path) -> None:
    undisturbed = run_sweep(sweep(*SCREEN)).to_json()
    made.batches.clear()
    made.stop_at = 20
    told: list[Progress] = []
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep(*SCREEN), store=tmp_path, told=told.append)
    kept = len(results_of(tmp_path))
    assert 0 < kept == told[-1].computed < 20
    lost = made.batches[-1][1]
    results = run_sweep(sweep(*SCREEN), store=tmp_path)
    assert made.points("analytic") == len(MICRO) + lost
    assert results.to_json() == undisturbed


def test_a_failed_point_stops_nothing_and_is_computed_anew_when_asked(made: Made, tmp_path: Path) -> None:
    made.broken = {1, 5}
    results = run_sweep(sweep(*SCREEN), store=tmp_path)
    assert [int(row) for row in np.flatnonzero(results.column("status") == "failed")] == [0, 4]
    assert results.column("problem")[0] == "ValueError: odd"
    made.broken, made.batches = set(), []
    run_sweep(sweep(*SCREEN), store=tmp_path)
    assert made.batches == []
    mended = run_sweep(sweep(*SCREEN), store=tmp_path, retry_failed=True)
    assert made.points("analytic") == 2
    # with the best there fewer are near it, and those that were taken before are not any more
    assert mended.to_json() == run_sweep(sweep(*SCREEN)).to_json()


def test_progress_counts_every_point(made: Made, tmp_path: Path) -> None:
    told: list[Progress] = []
    run_sweep(sweep(*SCREEN), store=tmp_path, told=told.append)
    last = told[-1]
    assert (last.stage, last.stages, last.evaluator, last.points, last.done) == (2, 2, "event", 10, 10)
    assert last.best == pytest.approx(1.01 * 1.1)
    assert last.settings == '{"batch.micro":1}'
    screened = [one for one in told if one.stage == 1][-1]
    assert (screened.done, screened.infeasible, screened.failed, screened.kept) == (36, 4, 0, 0)
    told.clear()
    run_sweep(sweep(*SCREEN), store=tmp_path, told=told.append)
    assert [(one.kept, one.computed) for one in told][-1] == (10, 0)


def test_what_does_not_fit_in_memory_at_once_is_evaluated_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(sweep: Sweep, evaluator: str, texts: Sequence[str]) -> list[Outcome]:
        if len(texts) > 1 or '"batch.micro":7}' in texts[0]:
            raise MemoryError
        return [Outcome("done", '{"step_time":1.0}')]

    monkeypatch.setattr(serial, "evaluate_batch", short)
    results = run_sweep(sweep())
    failed = np.flatnonzero(results.column("status") == "failed")
    assert [int(results.column("batch.micro")[row]) for row in failed] == [7]
    assert "MemoryError" in results.column("problem")[failed[0]]


class Course:
    """Batches as `Pace` would have them, of points that take a given time."""

    def __init__(self, seconds: Callable[[int], float], points: int, workers: int) -> None:
        self.sizes: list[int] = []
        self.times: list[float] = []
        pace, left = Pace(workers), points
        while left:
            size = min(pace.size(left), left)
            left -= size
            self.sizes.append(size)
            self.times.append(sum(seconds(points - left - at) for at in range(1, size + 1)))
            pace.took(size, self.times[-1])


@pytest.mark.parametrize("each", [1e-5, 1e-3, 0.03, 0.7, 20.0])
@pytest.mark.parametrize("workers", [1, 2, 64])
def test_batches_take_about_a_second_whatever_a_point_takes(each: float, workers: int) -> None:
    course = Course(lambda _: each, min(2_000_000, int(200 * workers / each) + 1), workers)
    # those by which it learns grow eightfold
    grown = [(size, took) for size, took in zip(course.sizes, course.times, strict=True)][8:-1]
    assert all(took <= max(1.3, each * 1.01) for _, took in grown)
    assert all(took >= 0.45 or size == 1 or size * workers * 2 >= 400_000 for size, took in grown)
    assert max(course.sizes) <= 50_000


def test_points_that_become_slower_make_smaller_batches() -> None:
    course = Course(lambda at: 0.002 if at < 5000 else 0.1, 7000, 2)
    assert course.times[-1] < 1.5
    # the first of the slow ones is a surprise; soon after it is known
    assert sum(took > 3 for took in course.times) <= 6


def test_who_takes_a_worker_with_it_is_found_by_halving() -> None:
    points = range(37)
    bad = {5, 6, 30}
    waiting = [Batch([at.to_bytes(2, "big") for at in points], [str(at) for at in points])]
    done: list[str] = []
    failed: list[str] = []
    deaths = 0
    while waiting:
        batch = waiting.pop()
        if not bad & {int(text) for text in batch.texts}:
            done += batch.texts
            continue
        deaths += 1
        parts = after_death(batch)
        if isinstance(parts, Finished):
            assert parts.outcomes == [Outcome("failed", '"its worker died 3 times"')]
            failed += parts.texts
        else:
            waiting += parts
    assert sorted(map(int, failed)) == sorted(bad)
    assert sorted(map(int, done)) == sorted(set(points) - bad)
    assert deaths < 3 * (3 + 7)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"step_time":1.5,"mfu":2}', 1.5),
        ('{"mfu":2,"step_time":1e-05}', 1e-5),
        ('{"bound_by":"\\"step_time\\":3"}', None),
        ('{"time.step_time":4}', None),
        ('{"step_time":"text"}', None),
    ],
)
def test_one_outcome_is_read_without_the_others(text: str, value: float | None) -> None:
    assert value_of(text, "step_time") == value


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("clusterhead", "is no address; expected local, auto, HOST:PORT or ray://HOST:PORT"),
        ("aut", "did you mean 'auto'"),
        ("host:port", "is no address"),
        ("host:99999", "is no address"),
        ("http://host:6379", "is no address"),
        (":6379", "is no address"),
        ("nowhere.invalid:6379", "cannot be reached"),
    ],
)
def test_what_is_no_address_is_told(given: str, says: str) -> None:
    with pytest.raises(SweepError, match=says):
        executor_of(given, None)


@pytest.fixture(name="port")
def _port() -> Iterator[int]:
    """Somebody who listens, and says nothing."""
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        there.listen()
        yield there.getsockname()[1]


def test_a_port_where_nobody_listens_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(SweepError, match=r"cannot be reached: Connection refused"):
        executor_of(f"127.0.0.1:{free}", None)
    assert time.monotonic() - begun < 5


def test_a_port_that_is_no_cluster_is_told(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address._CONNECT + address._ANSWER < 20
    monkeypatch.setattr(address, "_ANSWER", 2.0)
    with pytest.raises(SweepError, match="does not answer as a Ray cluster does"):
        executor_of(f"127.0.0.1:{port}", None)


def test_a_cluster_that_cannot_be_reached_leaves_no_store(made: Made, tmp_path: Path) -> None:
    with pytest.raises(SweepError):
        run_sweep(sweep(), store=tmp_path / "a", ray="nowhere.invalid:6379")
    assert not (tmp_path / "a").exists()
    assert made.batches == []


def test_a_number_of_workers_is_one_at_least() -> None:
    with pytest.raises(SweepError, match="workers: 0 is not accepted"):
        executor_of(None, 0)


def test_a_schedule_of_this_process_alone_is_refused_on_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES, "mine", Schedule(name="mine", passes=lambda *_: ()))
    with pytest.raises(SweepError, match="schedule mine: was registered in this process"):
        hold(Job(sweep(), "event", "a"))


def test_a_real_sweep_in_two_stages() -> None:
    results: SweepResults = sweep(*SCREEN, objective=None, micro=(1, 2, 4, 8)).run()
    assert results.best is not None
    best = results.row(results.best)
    assert best["evaluator"] == "event"
    assert best["tokens_per_second"] == pytest.approx(64 * 2048 / best["step_time"])
    # a bound is never above what is simulated, so that who is simulated was among the best of the bounds
    assert best["step_time"] > 0
