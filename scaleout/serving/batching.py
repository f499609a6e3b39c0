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
    """Who waits first gets a seat and blocks, if there are; of those whose cache is elsewhere, all that can."""
    rank = lane.rank
    while rank.seats and len(lane.running) < limits.sequences and not lane.full:
        request = rank.queue.first()
        if request is None or not rank.blocks.admit(request, request.target):
            return None
        rank.queue.pop()
        if request.scheduled < 0:
            request.scheduled = now
        lane.take(request)
        if request.prefilled < request.target:
            return request
        lane.arriving[request.number] = request
        rank.fetch(request)
    return None


def _chunked(lane: Lane, limits: Limits, now: int) -> None:
    """A token of every reply, then prompts until the step is full."""
    lane.decoding_now = lane.decodes > 0
    left = limits.tokens - lane.decode_tokens
    for request in lane.prompts:
        if left <= 0:
            return
        chunk = min(left, request.target - request.prefilled)
        lane.chunks.append((request, chunk))
        left -= chunk
    while left > 0:
        new = _seat(lane, limits, now)
        if new is None:
            return
        lane.prompts.append(new)
        chunk = min(left, new.target - new.prefilled)
        lane.chunks.append((new, chunk))
        left -= chunk


def _prompts(lane: Lane, limits: Limits, now: int, left: int) -> None:
    """Prompts in one piece until the step is full; one that is longer than a step waits for one of its own."""
    while True:
        request = lane.rank.queue.first()
        if request is None or (request.target > left and (lane.chunks or left < limits.tokens)):
            return
        new = _seat(lane, limits, now)
        if new is None:
            return
        lane.prompts.append(new)
        lane.chunks.append((new, new.target - new.prefilled))
        left -= new.target - new.prefilled


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
