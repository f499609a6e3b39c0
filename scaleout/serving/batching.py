"""Policies: which prompts join a lane's next step, and whether its replies go on in it."""

from collections.abc import Callable
from typing import NamedTuple

from scaleout.serving.lane import Lane
from scaleout.serving.request import Request
from scaleout.specs import Policy

__all__ = ["PLANS", "Limits", "Plan"]


class Limits(NamedTuple):
    """What a step may hold on one attention rank.

    Parameters
    ----------
    tokens
        New tokens.
    sequences
        Sequences of the lane.
    """

    tokens: int
    sequences: int


Plan = Callable[[Lane, Limits, int], None]
"""Fills a lane's chunks and says whether it decodes, at a time [tick]."""


def _seat(lane: Lane, limits: Limits, now: int) -> Request | None:
    """Who waits first gets a seat and blocks, if there are."""
    rank = lane.rank
    if not rank.seats or len(lane.running) >= limits.sequences or lane.full:
        return None
    request = rank.queue.first()
    blocks = None if request is None else rank.blocks.admit(request, lane.growth())
    if request is None or blocks is None:
        return None
    rank.queue.pop()
    if request.scheduled < 0:
        request.scheduled = now
    lane.take(request)
    lane.bring(request, blocks)
    return request


def _chunked(lane: Lane, limits: Limits, now: int) -> None:
    """A token of every reply, then prompts until the step is full."""
    lane.decoding_now = lane.decodes > 0
    left = limits.tokens - lane.decode_tokens
    for request in lane.prompts:
        if left <= 0:
            return
        chunk = min(left, request.target - request.prefilled)
        lane.chunk(request, chunk)
        left -= chunk
    while left > 0:
        new = _seat(lane, limits, now)
        if new is None:
            return
        if new.number in lane.arriving:
            continue
        lane.prompts.append(new)
        chunk = min(left, new.target - new.prefilled)
        lane.chunk(new, chunk)
        left -= chunk


def _prompts(lane: Lane, limits: Limits, now: int, left: int) -> None:
    """Prompts in one piece until the step is full; one that is longer than a step waits for one of its own."""
    # those whose beginning came from the host
    for request in lane.prompts:
        new = request.target - request.prefilled
        if new > left and (lane.chunks or left < limits.tokens):
            return
        lane.chunk(request, new)
        left -= new
    while True:
        first = lane.rank.queue.first()
        if first is None or not lane.rank.blocks.fits(first, lane.growth()):
            return
        if first.target - lane.rank.blocks.found(first) > left and (lane.chunks or left < limits.tokens):
            return
        seated = _seat(lane, limits, now)
        if seated is None:
            return
        if seated.number in lane.arriving:
            continue
        new = seated.target - seated.prefilled
        lane.prompts.append(seated)
        lane.chunk(seated, new)
        left -= new


def _whole(lane: Lane, limits: Limits, now: int) -> None:
    lane.decoding_now = lane.decodes > 0
    _prompts(lane, limits, now, limits.tokens - lane.decode_tokens)


def _prefill_first(lane: Lane, limits: Limits, now: int) -> None:
    _prompts(lane, limits, now, limits.tokens)
    lane.decoding_now = not lane.chunks and lane.decodes > 0


def _decode_first(lane: Lane, limits: Limits, now: int) -> None:
    if not lane.decodes or lane.filling:
        _prompts(lane, limits, now, limits.tokens)
    lane.filling = bool(lane.chunks)
    lane.decoding_now = not lane.chunks and lane.decodes > 0


PLANS: dict[Policy, Plan] = {
    "chunked": _chunked,
    "whole": _whole,
    "prefill-first": _prefill_first,
    "decode-first": _decode_first,
    "static": _decode_first,
}
