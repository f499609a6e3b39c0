"""Streams of requests: what comes when, from a file or drawn, and clients who wait for replies.

Whoever simulates takes the requests of a `Source` in turn, each at its arrival, and tells it of every
request that has ended, however it ended: a closed loop then sends the next. Everything is made when it
is asked for, so that millions of requests need the memory of a few thousand. Lengths, beginnings
and arrivals have random streams of their own: another rate does not change what is asked.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from scaleout.engine.program import TICKS_PER_SECOND, ticks
from scaleout.errors import SpecError
from scaleout.serving.lengths import lengths
from scaleout.serving.prefixes import Beginnings
from scaleout.serving.processes import arrival_times
from scaleout.serving.request import Request
from scaleout.specs import Requests, TraceRow

__all__ = ["DRAWN", "Source", "requests"]

DRAWN = 1000
"""Requests of a stream without a trace that says nothing of its count."""
_LATEST = 9.2e6
"""Ticks of 64 bits end after 106 days [s]."""
_INPUTS, _OUTPUTS, _BEGINNINGS, _ARRIVALS = range(4)
"""Random streams; each is a child of its seed."""


class Source(Protocol):
    """Where requests come from. It is gone through once."""

    def __iter__(self) -> Iterator[Request]:
        """Requests that wait for no reply, in the order of their arrival."""

    def after(self, request: Request, now: int) -> Sequence[Request]:
        """Requests that are sent because this one has ended now [tick], in the order of their arrival."""


class _Open:
    """Requests that come whatever becomes of those before."""

    def __init__(self, rows: Iterator[tuple[TraceRow, int]]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[Request]:
        for number, (row, time) in enumerate(self._rows):
            yield _request(number, time, row)

    def after(self, request: Request, now: int) -> Sequence[Request]:
        return ()


class _Closed:
    """Clients, each with one request at a time; or one, who sends several and waits for all of them."""

    def __init__(self, rows: Iterator[TraceRow], clients: int, think: int, *, together: bool) -> None:
        self._rows, self._clients, self._think, self._together = rows, clients, think, together
        self._sent = self._ended = 0

    def __iter__(self) -> Iterator[Request]:
        yield from self._send(0, range(self._clients))

    def _send(self, time: int, clients: Iterable[int]) -> Iterator[Request]:
        for client, row in zip(clients, self._rows, strict=False):
            self._sent += 1
            yield _request(self._sent - 1, time, row, client)

    def after(self, request: Request, now: int) -> Sequence[Request]:
        self._ended += 1
        if not self._together:
            return tuple(self._send(now + self._think, (request.client,)))
        return tuple(self._send(now + self._think, range(self._clients))) if self._ended == self._sent else ()


def _request(number: int, time: int, row: TraceRow, client: int = -1) -> Request:
    return Request(
        number, time, row.inputs, row.outputs, row.priority, row.session, row.blocks, row.block_tokens, client
    )


def requests(
    spec: Requests, rows: Iterable[TraceRow] | None = None, *, block: int = 16, longest: int | None = None
) -> Source:
    """The stream that a spec describes.

    Parameters
    ----------
    rows
        Those of its trace; gone through from the beginning more than once where a rate is to be scaled, or more
        requests are asked for than there are. None: lengths are drawn.
    block
        Tokens of a block of shared beginnings: the engine's.
    longest
        Prompt and reply together that fit [token]; None for any.

    Raises
    ------
    SpecError
        Here, or as the stream is gone through: a trace without the times that are asked for, a prompt and
        reply that do not fit, an arrival after 106 days.
    """
    arrivals = spec.arrivals
    if (spec.trace is None) != (rows is None):
        raise SpecError("requests: expected rows of a file where there is a trace, and only there")
    bodies = _bodies(spec, rows, block)
    if longest is not None:
        bodies = _fitting(spec, bodies, longest)
    if arrivals.process in ("closed", "single_stream", "multi_stream"):
        together = arrivals.process == "multi_stream"
        return _Closed(bodies, arrivals.clients, ticks(arrivals.think), together=together)
    if arrivals.process == "trace":
        scale = 1.0
        if arrivals.rate is not None and rows is not None:
            scale = _survey(spec, rows).rate(spec) / arrivals.rate
        return _Open(_as_traced(spec, bodies, scale))
    count = spec.count or (_survey(spec, rows).total if rows is not None and arrivals.process == "ramp" else DRAWN)
    # the times have no end
    return _Open(zip(bodies, _in_ticks(spec, count), strict=False))


def _as_traced(spec: Requests, rows: Iterator[TraceRow], scale: float) -> Iterator[tuple[TraceRow, int]]:
    """Rows with their own times [tick]."""
    for number, row in enumerate(rows):
        yield row, ticks(_timely(spec, _time(spec, row) * scale, number))


def _in_ticks(spec: Requests, count: int) -> Iterator[int]:
    """Times of a random process [tick]."""
    seed = np.random.SeedSequence(spec.arrivals.seed, spawn_key=(_ARRIVALS,))
    number = 0
    for chunk in arrival_times(spec.arrivals, count, seed):
        late = np.flatnonzero(~(chunk <= _LATEST))
        until = int(late[0]) if len(late) else len(chunk)
        yield from np.rint(chunk[:until] * TICKS_PER_SECOND).astype(np.int64).tolist()
        number += until
        if len(late):
            # asked for only where the requests go on for so long
            _timely(spec, float(chunk[until]), number)


def _timely(spec: Requests, time: float, number: int) -> float:
    if not time <= _LATEST:
        raise SpecError(
            f"requests.arrivals: request {number:,} comes after {time / 86400:,.0f} days; at most 106 days are "
            "simulated: raise requests.arrivals.rate, or take fewer by requests.count"
        )
    return time


def _time(spec: Requests, row: TraceRow) -> float:
    if row.arrival is None:
        raise SpecError(
            f"requests.arrivals.process: 'trace', but {spec.trace} has lengths alone; "
            "take another, such as {process: poisson, rate: 2}"
        )
    return row.arrival


def _fitting(spec: Requests, rows: Iterator[TraceRow], longest: int) -> Iterator[TraceRow]:
    """The rows, as long as prompt and reply fit."""
    for row in rows:
        if row.inputs + row.outputs > longest:
            where = f"{spec.trace}: line {row.line}" if spec.trace else "requests"
            limit = "" if spec.trace else "; input.high and output.high limit what is drawn"
            raise SpecError(
                f"{where}: prompt of {row.inputs:,} and reply of {row.outputs:,} tokens; at most {longest:,} fit{limit}"
            )
        yield row


def _bodies(spec: Requests, rows: Iterable[TraceRow] | None, block: int) -> Iterator[TraceRow]:
    """What each request asks for; with the times of a trace, where there is one."""
    count = spec.count or (None if rows is not None else DRAWN)
    bodies = islice(_drawn(spec) if rows is None else _again(spec, rows), count)
    if not spec.prefix:
        yield from bodies
        return
    seed = np.random.SeedSequence(spec.seed, spawn_key=(_BEGINNINGS,))
    beginnings = Beginnings(spec.prefix, spec.prefixes, block, seed)
    for row in bodies:
        if row.blocks:
            raise SpecError(f"requests.prefix: {spec.prefix}, but {spec.trace} itself says what its prompts share")
        yield row._replace(blocks=beginnings.blocks(row.inputs), block_tokens=block)


def _drawn(spec: Requests) -> Iterator[TraceRow]:
    assert spec.input is not None and spec.output is not None  # noqa: S101  (the spec sees to it)
    inputs = lengths(spec.input, np.random.SeedSequence(spec.seed, spawn_key=(_INPUTS,)))
    outputs = lengths(spec.output, np.random.SeedSequence(spec.seed, spawn_key=(_OUTPUTS,)))
    for prompt, reply in zip(inputs, outputs, strict=True):
        yield TraceRow(0, None, prompt, reply)


def _again(spec: Requests, rows: Iterable[TraceRow]) -> Iterator[TraceRow]:
    """A trace, from its beginning again where more is asked for.

    Later rounds have sessions and blocks of their own, as if other people came: else the prefix cache
    would know every prompt. Between two rounds is the mean gap of the trace.
    """
    first = last = 0.0
    count = sessions = low = high = 0
    for row in rows:
        if not count:
            first = row.arrival or 0.0
        count, last, sessions = count + 1, row.arrival or 0.0, max(sessions, row.session + 1)
        if row.blocks:
            low, high = min(low, *row.blocks), max(high, *row.blocks)
        yield row
    if not count:
        raise SpecError(f"{spec.trace}: has no requests")
    period = (last - first) * count / (count - 1) if count > 1 else 0.0
    turn = 0
    while spec.count is not None:
        turn += 1
        for row in rows:
            yield row._replace(
                arrival=None if row.arrival is None else row.arrival + turn * period,
                session=row.session if row.session < 0 else row.session + turn * sessions,
                blocks=tuple(name + turn * (high - low + 1) for name in row.blocks),
            )


class _Survey(NamedTuple):
    """What a trace is as a whole: of the requests that are taken of it, how many there are and when they come [s]."""

    total: int
    first: float
    last: float

    def rate(self, spec: Requests) -> float:
        """Its own [1/s]."""
        if self.last <= self.first:
            raise SpecError(f"requests.arrivals.rate: all requests of {spec.trace} come at once; no rate can be scaled")
        return (self.total - 1) / (self.last - self.first)


def _survey(spec: Requests, rows: Iterable[TraceRow]) -> _Survey:
    timed = spec.arrivals.process == "trace"
    count, first, last = 0, 0.0, 0.0
    for row in islice(rows, spec.count):
        last = _time(spec, row) if timed else 0.0
        first = first if count else last
        count += 1
    return _Survey(count, first, last)
