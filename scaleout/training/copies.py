"""What is kept in the host's memory: copies out and in beside the kernels.

A layer's kernels wait for the copy out of the layer before the last, and a copy in begins with the
kernels before those that use it: of each direction two buffers are in use at most.
``docs/offload.md`` has the bytes and when copies are hidden.
"""

from collections.abc import Sequence

from scaleout.engine.program import Label, Message
from scaleout.parallel import HOST_IN, HOST_OUT, KINDS, Block

__all__ = ["BUFFERS", "Copies", "update"]

BUFFERS = 2
"""Buffers of each direction: one is used while another is copied."""
UPDATE_BUFFERS = 3
"""Parts of the optimizer's state: one comes, one is updated, one goes."""
MOST_BUCKETS = 64
"""Parts in which the optimizer's state comes and goes, at most."""
_ACTIVATIONS, _TEMPORARY = KINDS.index("activations"), KINDS.index("temporary")


class Copies:
    """Copies of one pass.

    Parameters
    ----------
    weights, kept
        Bytes of each unit that come before its kernels: of its weights; of what its forward left.
    gone
        Bytes of what each unit leaves that go to the host after its kernels.
    ahead
        Units that are gathered ahead of their kernels: their weights come before that.
    """

    def __init__(
        self, block: Block, weights: Sequence[float], kept: Sequence[float], gone: Sequence[float], ahead: int
    ) -> None:
        self.block, self.kept, self.gone = block, kept, gone
        self._begins: dict[int, list[tuple[int, str, float]]] = {}
        for unit, (first, second) in enumerate(zip(weights, kept, strict=True)):
            for what, nbytes, lead in (("parameters", first, 1 + ahead), ("activations", second, 1)):
                if nbytes:
                    self._begins.setdefault(max(0, unit - lead), []).append((unit, what, nbytes))
        self.arrived: dict[tuple[str, int], int] = {}
        self._gone: dict[int, int] = {}
        self._last = max((unit for units in self._begins.values() for unit, _, _ in units), default=-1)
        self.first_in = self.second_in = self.free = self.last_out = self.first_kept = -1

    def begin(self, at: int, after: tuple[int, ...]) -> None:
        """Issue the copies in that begin with a unit, which begins after these operations."""
        for unit, what, nbytes in self._begins.get(at, ()):
            # what the first unit needs comes while the pass before runs
            op = self.block.copy(Message(HOST_IN, "copy", nbytes, what), () if unit == 0 else after)
            self.arrived[what, unit] = op
            self.first_in = op if self.first_in < 0 else self.first_in
            if what == "activations" and self.first_kept < 0:
                self.first_kept = op
            if at == 0 and unit and self.second_in < 0:
                self.second_in = op
        if at == self._last and after and at:
            self.free = after[-1]

    @property
    def marks(self) -> tuple[int, ...]:
        """First copy in, first for a later unit, first of activations; what frees a buffer; last copy out."""
        return self.first_in, self.second_in, self.first_kept, self.free, self.last_out

    def needed(self, at: int) -> tuple[int, ...]:
        """What the kernels of a unit wait for."""
        waits = [self.arrived[key] for key in (("parameters", at), ("activations", at)) if key in self.arrived]
        room = [self._gone[at - BUFFERS]] if at - BUFFERS in self._gone else []
        # copies in come in order: the later one says it all
        return (*waits[-1:], *room)

    def behind(self, at: int, start: int, last: int) -> None:
        """Send what a unit leaves, whose kernels begin at `start` and end with `last`; what it fetched is used."""
        block = self.block
        if self.gone[at]:
            block.hold(block.kernel(start), _ACTIVATIONS, -self.gone[at])
            self._gone[at] = self.last_out = block.copy(
                Message(HOST_OUT, "copy", self.gone[at], "activations"), (last,)
            )
        if self.kept[at]:
            # it was in a buffer
            block.hold(last, _ACTIVATIONS, self.kept[at], at_end=True)
        if at == self._last and self.free < 0:
            self.free = last


def update(block: Block, label: Label, came: float, gone: float, bucket_bytes: float, after: tuple[int, ...]) -> int:
    """The update in parts, each between its copies; the last of its kernels.

    Parameters
    ----------
    came, gone
        What is copied in and out [byte].
    bucket_bytes
        About as much at a time [byte].
    """
    buckets = min(MOST_BUCKETS, max(1, round(max(came, gone) / bucket_bytes)))
    shares = tuple((name, value if name == "launch" else value / buckets) for name, value in label.parts)
    part = Label(label.name, label.category, shares)
    outs: list[int] = []
    first = last = -1
    for bucket in range(buckets):
        room = outs[bucket - UPDATE_BUFFERS : bucket - UPDATE_BUFFERS + 1] if bucket >= UPDATE_BUFFERS else []
        waits = after
        if came:
            waits = (*after, block.copy(Message(HOST_IN, "copy", came / buckets, "optimizer"), room))
        last = block.compute(part, waits)
        first = last if first < 0 else first
        if gone:
            outs.append(block.copy(Message(HOST_OUT, "copy", gone / buckets, "optimizer"), (last,)))
    size = min(buckets, UPDATE_BUFFERS) * max(came, gone) / buckets
    block.hold(first, _TEMPORARY, size)
    block.hold(last, _TEMPORARY, -size, at_end=True)
    return last
