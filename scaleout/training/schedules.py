"""Pipeline schedules: in which order a stage runs the passes of its micro-batches."""

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Pass", "interleaved", "one_f_one_b", "schedule"]


class Pass(NamedTuple):
    """One micro-batch through one of the stage's model chunks."""

    backward: bool
    micro_batch: int
    chunk: int


def one_f_one_b(stage: int, stages: int, micro_batches: int) -> Iterator[Pass]:
    """Warm-up forwards, then one forward one backward, then drain (arXiv 2104.04473, figure 4).

    >>> "".join("B" if p.backward else "F" for p in one_f_one_b(1, 4, 4))
    'FFFBFBBB'
    """
    warm_up = min(stages - stage - 1, micro_batches)
    for m in range(warm_up):
        yield Pass(False, m, 0)
    for m in range(micro_batches - warm_up):
        yield Pass(False, warm_up + m, 0)
        yield Pass(True, m, 0)
    for m in range(micro_batches - warm_up, micro_batches):
        yield Pass(True, m, 0)


def interleaved(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Pass]:
    """1F1B over several model chunks a stage (arXiv 2104.04473, section 2.2).

    Micro-batches go through the chunks in groups of `stages`; forward from the first chunk
    to the last, backward the other way.
    """
    total = micro_batches * chunks
    warm_up = min((stages - stage - 1) * 2 + (chunks - 1) * stages, total)

    def at(index: int, backward: bool) -> Pass:
        round_, place = divmod(index, stages * chunks)
        chunk, member = divmod(place, stages)
        return Pass(backward, round_ * stages + member, chunks - 1 - chunk if backward else chunk)

    for index in range(warm_up):
        yield at(index, False)
    for index in range(total - warm_up):
        yield at(warm_up + index, False)
        yield at(index, True)
    for index in range(total - warm_up, total):
        yield at(index, True)


def schedule(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Pass]:
    """Interleaved where a stage has more than one chunk, plain 1F1B otherwise."""
    if chunks > 1:
        return interleaved(stage, stages, chunks, micro_batches)
    return one_f_one_b(stage, stages, micro_batches)
