"""DualPipe: two streams of micro-batches that meet, forward passes of one over backward passes of the other.

DeepSeek-V3 (arXiv 2412.19437, section 3.2.1) and github.com/deepseek-ai/DualPipe, whose eight phases
these are. DualPipeV is one half of it: there the second stream is the first, on its way back.
"""

from collections import deque
from collections.abc import Iterator

from scaleout.errors import PlanError
from scaleout.training.schedules import Pass, Step

__all__ = ["dual_pipe", "dual_pipe_v"]


def dual_pipe(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Step]:
    """The model twice, one copy each way; stages are symmetric about the middle."""
    if stages % 2:
        raise PlanError(f"layout.pp: dualpipe pairs stages from both ends, {stages} is odd; accepted: an even number")
    if micro_batches % 2 or micro_batches < 2 * stages:
        raise PlanError(
            f"batch.global: dualpipe splits the micro-batches of a rank between two directions and takes at least "
            f"2 pp = {2 * stages} of them, not {micro_batches}; accepted: an even number from {2 * stages} on"
        )
    half = micro_batches // 2
    down, up = (0, 0), (1, half)
    if stage < stages // 2:
        return _eight_phases(stage, stages // 2, half, down, up)
    return _eight_phases(stages - 1 - stage, stages // 2, half, up, down)


def dual_pipe_v(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Step]:
    """The model once, down through chunks 0 and up through chunks 1."""
    if micro_batches < 2 * stages:
        raise PlanError(
            f"batch.global: dualpipe-v takes at least 2 pp = {2 * stages} micro-batches a rank, not {micro_batches}"
        )
    return _eight_phases(stage, stages, micro_batches, (0, 0), (1, 0))


class _Stream:
    """Passes of one stream, one after another: of which chunk, from which micro-batch on."""

    def __init__(self, chunk: int, first: int, put_off: deque[Pass]) -> None:
        self.chunk, self.forths, self.backs, self.put_off = chunk, first, first, put_off

    def forward(self) -> Pass:
        self.forths += 1
        return Pass("F", self.forths - 1, self.chunk)

    def backward(self, *, split: bool = False) -> Pass:
        """Whole, or the input gradient, with the weight gradient put off."""
        self.backs += 1
        if split:
            self.put_off.append(Pass("W", self.backs - 1, self.chunk))
        return Pass("I" if split else "B", self.backs - 1, self.chunk)


def _eight_phases(
    depth: int, depths: int, micro_batches: int, near: tuple[int, int], far: tuple[int, int]
) -> Iterator[Step]:
    """Steps of a stage `depth` stages from where its near stream comes in; where the streams meet is `depths`.

    Parameters
    ----------
    micro_batches
        Of each stream.
    near, far
        Chunk and first micro-batch of each stream.
    """
    put_off: deque[Pass] = deque()
    a, b = _Stream(*near, put_off), _Stream(*far, put_off)
    left = depths - 1 - depth
    for _ in range(2 * left):
        yield a.forward()
    for _ in range(depth + 1):
        yield a.forward()
        yield b.forward()
    for _ in range(left):
        yield b.backward(split=True)
        yield put_off.popleft()
        yield b.forward()
    for turn in range(micro_batches - 2 * depths + depth + 1):
        if turn == 0 and left == 0:
            # one after the other, so that the gradient leaves the middle earlier
            yield a.forward()
            yield b.backward()
        else:
            yield a.forward(), b.backward()
        yield b.forward(), a.backward()
    for _ in range(left):
        yield b.backward()
        yield b.forward(), a.backward()
    # of the last 2 (depth + 1) backward passes, the second half is split
    for turn in range(2 * (depth + 1)):
        yield (a if turn % 2 else b).backward(split=turn > depth)
    for _ in range(left):
        yield put_off.popleft()
        yield a.backward(split=True)
    while put_off:
        yield put_off.popleft()
