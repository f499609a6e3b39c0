"""Context parallelism: attention proper of sequences that are cut over the ranks of a cp group.

A sequence is cut into 2 cp blocks, and a rank has the i-th from either end, so that the causal mask
leaves all of them as much to do (zigzag). Three ways to attend to what others have:

ring
    Keys and values go round the group. While a rank attends to those it has, it sends them on; half
    of every block but its own is masked away. Backward, their gradients go round with them, one
    step behind. (Liu et al., arXiv 2310.01889; Transformer Engine, p2p.)
all_gather
    Keys and values are gathered first, their gradients reduce-scattered after. (The Llama 3 Herd of
    Models, arXiv 2407.21783, section 3.3.2.)
all_to_all
    Tokens of all heads are exchanged for all tokens of some heads, and back. (Ulysses, arXiv 2309.14509.)

``docs/context.md`` has bytes and closed forms.
"""

from collections.abc import Sequence

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.program import STREAMS, Label, Message
from scaleout.hardware.rates import Rates
from scaleout.parallel.block import Block
from scaleout.parallel.costs import core_costs, launches
from scaleout.parallel.rows import ELEMENTWISE, KERNELS, PARTS
from scaleout.parallel.shard import Shard

__all__ = ["Context", "pieces"]

_CP = STREAMS.index("cp")


def pieces(s: Shard, context: str) -> list[Shard]:
    """What a rank's attention kernels compute, as sequences that are whole, in turn."""
    if s.cp == 1.0:
        return [s]
    if context == "all_to_all":
        return [s._replace(cp=1.0, heads=s.heads / s.cp, kv_heads=max(1.0, s.kv_heads // s.cp))]
    own = s._replace(cp=1.0, sequence=s.sequence / s.cp)
    if context == "ring":
        # half the queries by a whole block, or all by half a block: as many pairs as its own below the diagonal
        return [own] * int(s.cp)
    block = own._replace(sequence=own.sequence / 2.0)
    return [block, block._replace(before=s.sequence - block.sequence)]


class Context:
    """Writes attention proper into blocks, where a sequence is cut; otherwise nothing.

    Parameters
    ----------
    shard
        Shapes of the rank.
    context
        "ring", "all_gather" or "all_to_all", as in `Layout`.
    rates
        Of the chip's kernels.
    temporary
        Kind of memory of what is held meanwhile.
    """

    def __init__(self, shard: Shard, context: str, rates: Rates, temporary: int) -> None:
        self.shard, self.context, self.rates, self.temporary = shard, context, rates, temporary
        s = shard
        self.queries, self.results = s.tokens * s.query * s.width, s.tokens * s.attended * s.width
        """Queries, and results, of this rank [byte]."""
        self.keys = s.tokens * (s.key + s.value) * s.width
        """Keys and values of this rank [byte]."""
        self._known: dict[tuple[str, float, bool], Label] = {}
        if context == "all_to_all":
            # every rank gets a head of keys: those that are fewer are sent more than once
            self.keys *= max(1.0, s.cp / s.kv_heads)

    def forward(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        """Attention of a layer; what the next operation waits for."""
        if self.shard.cp == 1.0:
            return tuple(after)
        start = block.last + 1
        write = {"ring": self._ring, "all_gather": self._gathered, "all_to_all": self._exchanged}[self.context]
        last = write(block, after, False)
        self._hold(block, start, last, 1.0)
        return (last,)

    def backward(self, block: Block, after: Sequence[int], *, again: bool = False) -> tuple[int, ...]:
        """Gradients of queries, keys and values; `again`: attention is computed once more before."""
        if self.shard.cp == 1.0:
            return tuple(after)
        if again:
            after = self.forward(block, after)
        start = block.last + 1
        write = {"ring": self._ring_backward, "all_gather": self._gathered, "all_to_all": self._exchanged}[self.context]
        last = write(block, after, True)
        self._hold(block, start, last, 2.0)
        return (last,)

    def _hold(self, block: Block, first: int, last: int, times: float) -> None:
        """Keys and values that others own (and their gradients) lie in HBM meanwhile."""
        if self.context == "ring":
            # one block is read or written, another comes
            nbytes = 2.0 * self.keys
        elif self.context == "all_gather":
            nbytes = self.shard.cp * self.keys
        else:
            nbytes = self.keys + self.queries + self.results
        block.hold(first, self.temporary, times * nbytes)
        block.hold(last, self.temporary, -times * nbytes, at_end=True)

    # --- the three ways ----------------------------------------------------------------------

    def _ring(self, block: Block, after: Sequence[int], _backward: bool) -> int:
        steps = int(self.shard.cp)
        first, further = (
            self._kernels("first block", 0.0, False),
            self._kernels("further block", 3.0 * self.results, False),
        )
        here = tuple(after)
        last = -1
        for step in range(steps):
            coming = () if step == steps - 1 else (self._send(block, "shift", self.keys, here),)
            last = block.compute(first if step == 0 else further, here)
            # what comes next is written over what was read in this step
            here = (last, *coming)
        return last

    def _ring_backward(self, block: Block, after: Sequence[int], _backward: bool) -> int:
        steps = int(self.shard.cp)
        first, further = (
            self._kernels("first block", 0.0, True),
            self._kernels("further block", 3.0 * self.queries, True),
        )
        add = self._label("add gradients of keys, values", 3.0 * self.keys)
        here = tuple(after)
        last = -1
        for step in range(steps):
            # the first step sends no gradients yet, the last one no more keys
            nbytes = self.keys * (1.0 if step in (0, steps - 1) else 2.0)
            coming = self._send(block, "shift", nbytes, here)
            last = block.compute(first if step == 0 else further, here)
            if step > 0:
                last = block.compute(add, (last, coming))
            here = (last, coming)
        return last

    def _gathered(self, block: Block, after: Sequence[int], backward: bool) -> int:
        whole = self.shard.cp * self.keys
        here = (self._send(block, "all_gather", whole, after),)
        # the halves of a zigzag come in another order than that of the sequence: read and written once more
        last = block.compute(self._kernels("gathered", 2.0 * whole * (2.0 if backward else 1.0), backward), here)
        if not backward:
            return last
        scattered = self._send(block, "reduce_scatter", whole, (last,))
        return block.compute(self._label("own gradients of keys, values", 2.0 * self.keys), (scattered,))

    def _exchanged(self, block: Block, after: Sequence[int], backward: bool) -> int:
        qkv = self.queries + self.keys
        there, back = (self.results, qkv) if backward else (qkv, self.results)
        here = (self._send(block, "all_to_all", there, after),)
        # parts for and from every rank are put in order: read and written, before and after each exchange
        last = block.compute(self._kernels("some heads", 4.0 * there, backward), here)
        returned = self._send(block, "all_to_all", back, (last,))
        return block.compute(self._label("all heads", 4.0 * back), (returned,))

    # --- operations --------------------------------------------------------------------------

    def _send(self, block: Block, operation: str, nbytes: float, after: Sequence[int]) -> int:
        return block.collective(Message("cp", operation, nbytes), after, _CP)

    def _kernels(self, what: str, passes: float, backward: bool) -> Label:
        """Attention of one step, and so many bytes of elementwise passes."""
        title = f"attention, {what}" + (", backward" if backward else "")
        key = title, passes, backward
        if key not in self._known:
            parts = pieces(self.shard, self.context)
            steps = parts[:1] if self.context == "ring" else parts
            rows = [core_costs(part, self.rates, backward) for part in steps]
            self._known[key] = self._timed(title, np.sum(rows, axis=0), passes)
        return self._known[key]

    def _label(self, what: str, passes: float) -> Label:
        return self._timed(f"attention, {what}", np.zeros(len(PARTS) + 1), passes)

    def _timed(self, name: str, row: Floats, passes: float) -> Label:
        row[ELEMENTWISE] += passes / self.rates.elementwise
        # a collective is launched too
        row[KERNELS] += 1.0 + (passes > 0.0)
        launches(row[None, :], self.rates, self.shard)
        return Label(
            name, "compute", tuple((part, time) for part, time in zip(PARTS, row.tolist(), strict=False) if time)
        )
