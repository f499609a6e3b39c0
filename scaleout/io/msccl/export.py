"""A schedule as an MSCCL program: a thread block for each lane at either end."""

from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

import numpy as np

from scaleout.collectives.correctness import order
from scaleout.collectives.schedule import Schedule
from scaleout.errors import WorkloadError

__all__ = ["to_msccl"]

_NAMES = {
    "all_reduce": "allreduce",
    "all_gather": "allgather",
    "reduce_scatter": "reducescatter",
    "all_to_all": "alltoall",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "gather": "gather",
    "scatter": "scatter",
}


def to_msccl(schedule: Schedule, *, proto: str = "Simple") -> str:
    """The program's XML.

    Raises
    ------
    WorkloadError
        The schedule has a form that the format has no words for: switches, uneven pieces, a wait
        for what happens elsewhere.
    """
    return _Writer(schedule, proto).text()


Key = tuple[str, int]
"""A thread block of a GPU before it has a number: what it is for, and for which lane."""


@dataclass(slots=True)
class _Step:
    kind: str
    source: tuple[str, int]
    target: tuple[str, int]
    count: int
    waits: tuple[Key, int] | None = None
    waited: bool = False


@dataclass(slots=True)
class _Block:
    send: int
    recv: int
    channel: int
    steps: list[_Step] = field(default_factory=list)


class _Writer:
    def __init__(self, schedule: Schedule, proto: str) -> None:
        goal = schedule.goal
        if goal is None or schedule.moves is None:
            raise WorkloadError(f"{schedule.name}: says nothing of what its sends move, and cannot be written")
        self.schedule, self.goal, self.proto, self.moves = schedule, goal, proto, schedule.moves()
        self.chunks = goal.pieces // (goal.members if goal.operation == "all_to_all" else 1)
        if goal.operation not in _NAMES:
            raise self.lost(f"the operation {goal.operation}")
        if schedule.virtual:
            raise self.lost("switches that add")
        if not np.allclose(goal.sizes, 1 / self.chunks):
            raise self.lost("pieces of unequal sizes")
        if goal.out not in (0, self.chunks) or goal.compact:
            raise self.lost(f"a result from slot {goal.out} on")
        self.blocks: list[dict[Key, _Block]] = [{} for _ in range(schedule.members)]
        # the last step of each send at its ends: gpu, thread block, step
        self.sent: dict[int, tuple[int, Key, int]] = {}
        self.came: dict[int, tuple[int, Key, int]] = {}

    def lost(self, what: str) -> WorkloadError:
        return WorkloadError(f"{self.schedule.name}: MSCCL's format has no words for {what}")

    def place(self, slot: int) -> tuple[str, int]:
        if self.goal.out and slot < self.chunks:
            return "i", slot
        if slot < self.goal.slots:
            # in place, all of the buffer can be had as the output of a gather, and as the input otherwise
            whole = "o" if self.goal.out or self.goal.operation in ("all_gather", "gather") else "i"
            return whole, slot - self.goal.out
        return "s", slot - self.goal.slots

    def block(self, gpu: int, key: Key, send: int, recv: int, channel: int) -> list[_Step]:
        return self.blocks[gpu].setdefault(key, _Block(send, recv, channel)).steps

    def step(self, steps: list[_Step], kind: str, read: int, write: int, count: int) -> None:
        steps.append(_Step(kind, self.place(read), self.place(write), count))

    def runs(self, rows: list[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
        """Rows in runs that lie side by side in every buffer: origin, destination, add, count."""
        out: list[list[int]] = []
        for a, b, c in rows:
            if out:
                x, y, z, count = out[-1]
                near = (a, b) == (x + count, y + count) and (c == z + count if z >= 0 else c < 0)
                if near and all(self.place(now)[0] == self.place(old)[0] for now, old in ((a, x), (b, y))):
                    out[-1][3] += 1
                    continue
            out.append([a, b, c, 1])
        return [(a, b, c, count) for a, b, c, count in out]

    def text(self) -> str:
        schedule, moves = self.schedule, self.moves
        waits, lane_of = schedule.waits(), schedule.lane.tolist()
        rows = np.searchsorted(moves.send, np.arange(schedule.sends + 1))
        first = np.searchsorted(waits.behind, np.arange(schedule.sends + 1))
        channel = self.channels()
        for send in order(schedule).tolist():
            lane = lane_of[send]
            a, b = int(schedule.source[lane]), int(schedule.target[lane])
            mine = [
                (int(moves.origin[r]), int(moves.destination[r]), int(moves.add[r]))
                for r in range(rows[send], rows[send + 1])
            ]
            needs = [(int(waits.before[i]), bool(waits.arrived[i])) for i in range(first[send], first[send + 1])]
            if a == b:
                key = ("local", 0)
                steps = self.block(a, key, -1, -1, 0)
                self.depend(a, key, [self.here(a, b, *need, lane_of) for need in needs])
                for x, y, z, count in self.runs(mine):
                    if z >= 0 and z != y:
                        raise self.lost("a sum within a GPU into a third place")
                    self.step(steps, "re" if z >= 0 else "cpy", x, y, count)
                self.sent[send] = self.came[send] = (a, key, len(steps) - 1)
                continue
            out, into = ("out", lane), ("in", lane)
            where = [self.here(a, b, *need, lane_of) for need in needs]
            sender = self.block(a, out, b, -1, channel[lane])
            taker = self.block(b, into, -1, a, channel[lane])
            self.depend(a, out, [place for place in where if place[0] == a])
            self.depend(b, into, [place for place in where if place[0] == b])
            for x, y, z, count in self.runs(mine):
                self.step(sender, "s", x, y, count)
                self.step(taker, "rrc" if z >= 0 else "r", z if z >= 0 else x, y, count)
            self.sent[send] = (a, out, len(sender) - 1)
            self.came[send] = (b, into, len(taker) - 1)
        return self.write()

    def channels(self) -> list[int]:
        """Lanes between the same two members go over different channels."""
        count: dict[tuple[int, int], int] = {}
        out = []
        for a, b in zip(self.schedule.source.tolist(), self.schedule.target.tolist(), strict=True):
            out.append(count.get((a, b), 0))
            count[a, b] = out[-1] + (a != b)
        return out

    def here(self, a: int, b: int, before: int, arrived: bool, lane_of: list[int]) -> tuple[int, Key, int]:
        """The step after which a wait is over, at a or b."""
        lane = lane_of[before]
        at = int(self.schedule.target[lane]) if arrived else int(self.schedule.source[lane])
        if at not in (a, b):
            raise self.lost(f"a send from {a} to {b} that waits for what happens at {at}")
        return self.came[before] if arrived else self.sent[before]

    def depend(self, gpu: int, key: Key, places: list[tuple[int, Key, int]]) -> None:
        """Steps that do nothing but wait."""
        for _, other, index in sorted(set(places)):
            if other != key:
                self.blocks[gpu][other].steps[index].waited = True
                self.blocks[gpu][key].steps.append(_Step("nop", ("i", -1), ("o", -1), 0, (other, index)))

    def write(self) -> str:
        n, goal = self.schedule.members, self.goal
        scratch = max(0, self.schedule.slots - goal.slots)
        used = 1 + max((block.channel for gpu in self.blocks for block in gpu.values()), default=0)
        part = self.chunks // n
        own_in, own_out = goal.operation in ("all_gather", "gather"), goal.operation in ("reduce_scatter", "scatter")
        lines = [
            f'<algo name={quoteattr(self.schedule.name)} proto={quoteattr(self.proto)} nchannels="{used}" '
            f'nchunksperloop="{self.chunks}" ngpus="{n}" coll="{_NAMES[goal.operation]}" '
            f'inplace="{int(not goal.out)}" root="{goal.root}">'
        ]
        for gpu, blocks in enumerate(self.blocks):
            lines.append(
                f'  <gpu id="{gpu}" i_chunks="{part if own_in else self.chunks}" '
                f'o_chunks="{part if own_out else self.chunks}" s_chunks="{scratch}">'
            )
            ids = {key: index for index, key in enumerate(blocks)}
            for key, block in blocks.items():
                lines.append(f'    <tb id="{ids[key]}" send="{block.send}" recv="{block.recv}" chan="{block.channel}">')
                for index, step in enumerate(block.steps):
                    other, before = (ids[step.waits[0]], step.waits[1]) if step.waits else (-1, -1)
                    lines.append(
                        f'      <step s="{index}" type="{step.kind}" srcbuf="{step.source[0]}" '
                        f'srcoff="{step.source[1]}" dstbuf="{step.target[0]}" dstoff="{step.target[1]}" '
                        f'cnt="{step.count}" depid="{other}" deps="{before}" hasdep="{int(step.waited)}"/>'
                    )
                lines.append("    </tb>")
            lines.append("  </gpu>")
        return "\n".join([*lines, "</algo>", ""])
