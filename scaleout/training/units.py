"""Units: a layer, or an end of the model, whose weights are gathered together and whose gradients are reduced together.

A pass goes through the units of a chunk one after another. Gathers and reductions are issued in
the order of PyTorch's FSDP: the reduction of a unit, then the gather of the unit that may begin
with the next one, then the kernels of the next one. A gather begins when there is room: no more
than the stack's prefetch of units are whole beside the one that computes.
"""

from collections.abc import Collection, Mapping, Sequence

from scaleout.parallel import KINDS, Block
from scaleout.training.held import Held
from scaleout.training.state import State

__all__ = ["Units"]

_WEIGHTS, _GRADIENTS = KINDS.index("weights"), KINDS.index("gradients")


class Units:
    """Gathers, reductions and the HBM of one pass.

    Parameters
    ----------
    held
        Parameters of each unit, in the order of the pass.
    gather, drop
        Units whose weights are gathered in this pass, and are given back after their kernels.
    ahead
        Units that may be gathered ahead.
    reduce
        Whether gradients are reduced.
    arrived
        Copies from the host that bring a unit's weights, before they are gathered.
    """

    def __init__(
        self, block: Block, state: State, held: Sequence[Held],
        *, gather: Collection[int], drop: Collection[int], ahead: int, reduce: bool,
        arrived: Mapping[tuple[str, int], int],
    ) -> None:  # fmt: skip
        self.arrived = arrived
        self.block, self.state, self.held = block, state, held
        self.drop, self.reduce = frozenset(drop), reduce
        self._begins: dict[int, list[int]] = {}
        for unit in sorted(gather):
            self._begins.setdefault(max(0, unit - ahead), []).append(unit)
        self._gathered: dict[int, int] = {}
        self._reduced: list[int] = []
        self._start = 0
        self.first_gather = -1

    def before(self, at: int, after: tuple[int, ...]) -> tuple[int, ...]:
        """Issue the gathers that begin with a unit; what its kernels wait for."""
        state = self.state
        # the first ones wait for the pass before, the others for room
        room = after if at else ()
        for unit in self._begins.get(at, ()):
            start = self.block.last + 1
            here = self.arrived.get(("parameters", unit))
            op = state.gather(self.block, self.held[unit], room if here is None else (*room, here))
            if op >= 0:
                self._gathered[unit] = op
                self.first_gather = start if self.first_gather < 0 else self.first_gather
        waits = (*after, self._gathered[at]) if at in self._gathered else after
        if at in self._gathered and state.stack.gather_copies:
            waits = (state.copy(self.block, "copies of weights", self.held[at], state.stack.gather_copies, waits),)
        # two units have gradients at a time, the one that computes and the one that is reduced; or one, which blocks
        oldest = 2 if state.stack.overlap_gradient_reduction else 1
        if len(self._reduced) >= oldest and self._reduced[-oldest] >= 0:
            waits = (*waits, self._reduced[-oldest])
        self._start = self.block.last + 1
        return waits

    def behind(self, at: int, last: int) -> None:
        """Note what a unit holds, and reduce its gradients."""
        block, state = self.block, self.state
        kernel = block.kernel(self._start)
        for unit in self._begins.get(at, ()):
            block.hold(kernel, _WEIGHTS, state.gathered(self.held[unit]))
        if at in self.drop:
            block.hold(last, _WEIGHTS, -state.gathered(self.held[at]), at_end=True)
        if self.reduce and state.experiment.reduces_each:
            if at:
                block.hold(last, _GRADIENTS, -state.whole_gradients(self.held[at - 1]), at_end=True)
            block.hold(kernel, _GRADIENTS, state.whole_gradients(self.held[at]))
            if at == len(self.held) - 1:
                block.hold(last, _GRADIENTS, -state.whole_gradients(self.held[at]), at_end=True)
        if self.reduce and state.stack.reduction_copies and self.held[at].total:
            last = state.copy(block, "copies of gradients", self.held[at], state.stack.reduction_copies, (last,))
        if self.reduce:
            self._reduced.append(state.reduce(block, self.held[at], (last,)))

    @property
    def reduction(self) -> int:
        """The last reduction, -1 for none."""
        return max(self._reduced, default=-1)
