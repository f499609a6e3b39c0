"""A net on chips: time of a batch by operator, throughput, latency, memory; ``docs/nets.md``."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from scaleout.collectives import fastest, trials
from scaleout.errors import PlanError
from scaleout.inferred import OperatorTime
from scaleout.models.nets import (
    EACH,
    ONCE,
    Attention,
    Exchange,
    Gather,
    Operator,
    Pass,
    Product,
    Stage,
    net_parameters,
    operators,
    steps,
)
from scaleout.network import machine
from scaleout.parallel.operators import PRECISIONS, TABLE_BYTES, Timer
from scaleout.parallel.tables import Dealt
from scaleout.specs import Chip, InferenceEngine, Net, System
from scaleout.units import describe

__all__ = ["BatchTime", "Exchanger", "Room", "all_to_all", "best_batch", "net_seconds", "room", "sharded"]

Exchanger = Callable[[float], float]
"""Time of an all-to-all of a chip's buffer of so many bytes [s]."""
_INDEX = 4.0
"""Of the number of a row [byte]."""
_WIDTH = 2.0
"""Of a key or value [byte]."""
_LARGEST = 65_536
"""Samples of a batch that are tried."""
_FLAT = 1.005
"""A batch twice as large has to be this much better."""


class BatchTime(NamedTuple):
    """One batch on a chip.

    Parameters
    ----------
    breakdown
        Operators of one name, in order.
    once
        Of the batch before the tokens of replies [s].
    token
        Of a token of all replies together, on the average [s].
    tokens
        Of a reply, after its first, which comes with the prompt.
    host
        Of the engine, for the batch and for a token [s].
    overlapped
        The host prepares a batch while the chip works on the one before.
    """

    breakdown: tuple[OperatorTime, ...]
    once: float
    token: float
    tokens: int
    host: float
    overlapped: bool

    @property
    def device(self) -> float:
        """On the chip alone [s]."""
        return self.once + self.token * self.tokens

    @property
    def each(self) -> float:
        """From one token to the next [s]."""
        return (max(self.token, self.host) if self.overlapped else self.token + self.host) if self.tokens else 0.0

    @property
    def latency(self) -> float:
        """From the start to the end, alone [s]."""
        return self.once + self.host + self.each * self.tokens

    @property
    def period(self) -> float:
        """From one batch to the next, where batches wait [s]."""
        first = max(self.once, self.host) if self.overlapped else self.once + self.host
        return first + self.each * self.tokens


def net_seconds(
    net: Net,
    chip: Chip,
    engine: InferenceEngine,
    precision: str,
    batch: float,
    *,
    tables: str = "fp16",
    dealt: Dealt | None = None,
    exchange: Exchanger | None = None,
) -> BatchTime:
    """Time of a batch on a chip, by operator.

    Parameters
    ----------
    precision
        A key of `PRECISIONS`.
    batch
        Samples.
    tables
        Dtype of embedding tables.
    dealt, exchange
        Tables that are dealt out, and time of an all-to-all of a chip's buffer of so many bytes [s].

    Raises
    ------
    SpecError
        The chip has no rate or no constants for the precision or for attention.
    """
    timer = Timer(chip, engine, precision, tables, exchange)
    tokens = steps(net)
    rows: dict[tuple[str, Stage], OperatorTime] = {}
    for one in sharded(operators(net, batch), dealt):
        took = timer.time(one)
        times = one.repeat * (tokens if one.stage == EACH else 1)
        row = OperatorTime(
            name=one.name, kind=type(one).__name__.lower(), stage=one.stage, count=times,
            seconds=took.seconds * times, flop=one.flop * times, bytes=one.bytes(timer.widths) * times,
            bound=took.bound,
        )  # fmt: skip
        rows[one.name, one.stage] = row
    found = tuple(rows.values())
    once = sum(row.seconds for row in found if row.stage == ONCE)
    each = sum(row.seconds for row in found if row.stage == EACH) / max(1, tokens)
    return BatchTime(found, once, each, tokens, engine.step_overhead, engine.overlapped)


def sharded(found: tuple[Operator, ...], dealt: Dealt | None) -> Iterator[Operator]:
    """Operators of a chip: with tables dealt out, it reads its own for the items of all chips, and sends sums."""
    for one in found:
        if dealt is None or not isinstance(one, Gather):
            yield one
            continue
        mine = dealt.busiest
        yield Exchange("row numbers to the tables", one.items * sum(one.lookups), _INDEX)
        yield Gather(
            one.name, one.items * len(dealt.pieces), tuple(piece.rows for piece in mine),
            tuple(float(piece.lookups) for piece in mine), tuple(piece.width for piece in mine),
        )  # fmt: skip
        yield Exchange("sums to the items", one.written)


def all_to_all(system: System, chips: int) -> Exchanger:
    """Time of an all-to-all on the first chips of a system as a function of a chip's buffer [byte], in seconds."""
    fabric = machine(system, chips)
    tried = trials(fabric, np.arange(chips)[None, :], "all_to_all")
    if not tried:
        raise PlanError(f"system {system.name}: nothing there carries an all-to-all of {chips} chips")

    def seconds(nbytes: float) -> float:
        return float(tried[fastest(fabric, tried, nbytes)].alone(fabric, nbytes))

    return seconds


class Room(NamedTuple):
    """HBM of a chip: what a batch takes of it, by what is in it, and what there is [byte]."""

    parts: dict[str, float]
    free: float

    @property
    def fits(self) -> bool:
        """Whether all parts find room."""
        return sum(self.parts.values()) <= self.free

    def words(self) -> str:
        """What is in it."""
        parts = ", ".join(f"{name} {describe(value, 'byte')}" for name, value in self.parts.items() if value)
        return f"{parts}; {describe(self.free, 'byte')} are there"


def room(
    net: Net,
    chip: Chip,
    engine: InferenceEngine,
    precision: str,
    batch: float,
    *,
    tables: str = "fp16",
    dealt: Dealt | None = None,
) -> Room:
    """What a batch takes of a chip's HBM: weights, tables, the largest operator's operands, keys and values."""
    kind = PRECISIONS[precision]
    whole = float(sum(net.dlrm.rows) * net.dlrm.dimension) if net.dlrm else 0.0
    return Room(
        {
            "weights": (net_parameters(net) - whole) * kind.weight,
            "tables": (whole if dealt is None else dealt.elements) * TABLE_BYTES[tables],
            "activations": max(_live(one) for one in operators(net, batch)) * kind.activation,
            "keys and values": batch * _cached(net),
            "reserved": engine.reserved,
        },
        chip.hbm_bytes * engine.memory_share,
    )


def _live(one: Operator) -> float:
    """Elements that an operator's operands and results have [1]."""
    match one:
        case Product():
            return one.live
        case Pass():
            return one.moved
        case Gather():
            return one.written
        case Attention():
            return one.sequences * one.head_size * 2.0 * (one.q_len * one.heads + one.kv_len * one.kv_heads)
        case Exchange():
            return one.elements


def _cached(net: Net) -> float:
    """Keys and values that a sample's reply needs to the end, in 16 bits [byte]."""
    if net.whisper is not None:
        body = net.whisper
        tokens = body.frames // 2 + body.prompt + body.reply
        return 2.0 * _WIDTH * body.decoder_layers * body.encoder.hidden * tokens
    if net.vision_language is not None and net.model is not None:
        text = net.vision_language
        tokens = text.image_tokens + text.text + text.reply
        return 2.0 * _WIDTH * net.model.layers * net.model.kv_heads * net.model.head_size * tokens
    return 0.0


def best_batch(time: Callable[[int], BatchTime], fits: Callable[[int], bool]) -> int:
    """The power of two with the highest throughput, among those that fit; a larger one has to be worth it.

    Raises
    ------
    PlanError
        Not even one sample fits.
    """
    best, most, batch = 0, 0.0, 1
    while batch <= _LARGEST and fits(batch):
        rate = batch / time(batch).period
        if rate > most * _FLAT:
            best, most = batch, rate
        elif batch >= 8 * best:
            break
        batch *= 2
    if not best:
        raise PlanError("batch: not even one sample fits in HBM")
    return best
