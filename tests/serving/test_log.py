"""What is written down of very many requests: a sample, exact counts, and gaps that are rounded."""

import numpy as np
import pytest

from scaleout.serving import log as module
from scaleout.serving.log import Log
from scaleout.serving.request import Request


def ended(number: int, state: str = "served") -> Request:
    request = Request(number, 10 * number, 1 + number % 7, 3)
    request.state, request.scheduled, request.first, request.finish = (
        state,
        10 * number,
        10 * number + 4,
        10 * number + 9,
    )
    return request


def test_of_few_requests_every_row_is_kept():
    log = Log(1)
    for number in range(50):
        log.write(ended(number))
    assert list(log.number) == list(range(50))
    assert len(log) == 50 and log.weight == 1.0 and log.end == 499


def test_of_many_a_sample_is_kept_and_counts_are_of_all(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 1000)
    log = Log(1)
    for number in range(20_000):
        log.write(ended(number, "failed" if number % 4 == 0 else "served"))
    assert len(log.number) == len(log.finish) == len(log.state) == 1000
    assert log.ended == {"served": 15_000, "failed": 5_000}
    assert log.weight == 20.0
    # as likely from all parts of the stream: four standard deviations
    parts = np.histogram(np.asarray(log.number), bins=4, range=(0, 20_000))[0]
    assert parts == pytest.approx([250] * 4, abs=4 * 14)
    assert all(finish == 10 * number + 9 for number, finish in zip(log.number, log.finish, strict=True))


def test_the_same_requests_leave_the_same_sample(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 50)
    samples = []
    for _ in range(2):
        log = Log(1)
        for number in range(500):
            log.write(ended(number))
        samples.append(list(log.number))
    assert samples[0] == samples[1]


def test_gaps_are_rounded_by_a_thousandth_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 1)
    monkeypatch.setattr(module, "_GAPS", 5_000)
    log = Log(1)
    gaps = log.gaps
    for gap in range(1_000_000, 1_010_000):
        gaps[gap] += 2
    log.write(ended(0))
    log.write(ended(1))
    assert log.gaps is gaps and len(gaps) < 100
    assert sum(gaps.values()) == 20_000
    mean = sum(gap * count for gap, count in gaps.items()) / 20_000
    assert mean == pytest.approx(1_005_000, rel=1e-3)


def test_caches_that_were_carried_are_counted_beyond_those_that_are_kept(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    log = Log(1)
    for number in range(5):
        log.carry(0, 10, number, 100.0)
    assert (log.carried, log.carried_bytes, log.carried_time) == (5, 500.0, 50)
    assert len(log.transfers) == 2
