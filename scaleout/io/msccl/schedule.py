"""An MSCCL program as a schedule, with its own order and nothing more.

Thread blocks run their steps in order and beside each other; a step with a dependency waits until
that step of another thread block of the same GPU is done. The k-th send over a connection meets the
k-th receive at its other end. What was sent waits there in a buffer of the connection until the
receive takes it, and is then copied or added, which takes no time. (Those buffers are taken to have
room for everything; NCCL's hold eight steps.)
"""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from scaleout.collectives.algorithm import Algorithm, Task
from scaleout.collectives.correctness import PROVABLE, check
from scaleout.collectives.goal import Goal
from scaleout.collectives.schedule import Edges, Moves, Schedule
from scaleout.errors import SpecError, WorkloadError, near
from scaleout.io.msccl.program import LARGEST, Program, Step, parse_program
from scaleout.io.text import read_text

__all__ = ["COLLECTIVES", "msccl_algorithm", "parse_msccl", "read_msccl", "schedule_of"]

COLLECTIVES = {
    "allreduce": "all_reduce",
    "allgather": "all_gather",
    "reducescatter": "reduce_scatter",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "gather": "gather",
    "scatter": "scatter",
}
"""Operations by the names of the format. ``custom`` defines no result, and is not accepted."""
_MOST_ROWS = 4_000_000


def read_msccl(path: str | Path) -> Schedule:
    """The schedule of a file, checked.

    Raises
    ------
    SpecError
        The file is not a program.
    WorkloadError
        It deadlocks, sends and receives do not match, or chunks end where they do not belong.
    """
    return parse_msccl(read_text(Path(path), LARGEST, "an MSCCL program is a few thousand lines"), str(path))


def parse_msccl(text: str, where: str = "program") -> Schedule:
    """As `read_msccl`, of a text."""
    schedule = schedule_of(parse_program(text, where))
    proved = schedule.sends <= PROVABLE
    check(schedule, races=proved)
    return schedule if proved else replace(schedule, note="checked in one order of its sends; too many to prove all")


def msccl_algorithm(schedule: Schedule) -> Algorithm:
    """A program as an algorithm, for groups of just its number of members and its operation."""
    if schedule.goal is None:
        raise WorkloadError(f"{schedule.name}: a schedule without a goal is no algorithm")
    goal = schedule.goal

    def lacks(task: Task) -> str:
        return "" if task.members == goal.members else f"it is written for {goal.members} members, not {task.members}"

    def make(task: Task) -> Schedule:
        if lacks(task):
            raise WorkloadError(f"{schedule.name}: {lacks(task)}")
        return schedule

    return Algorithm(name=schedule.name, operations=(goal.operation,), make=make, lacks=lacks)


def _goal(program: Program) -> Goal:
    """What the program is to do; slots: input, output, scratch, one after another."""
    where, n, chunks = program.where, program.members, program.chunks
    if program.collective not in COLLECTIVES:
        raise SpecError(f"{where}: coll={program.collective[:40]!r}; {near(program.collective, COLLECTIVES)}")
    operation = COLLECTIVES[program.collective]
    by_blocks = operation in ("all_gather", "reduce_scatter", "gather", "scatter", "all_to_all")
    if by_blocks and chunks % n:
        raise SpecError(f"{where}: nchunksperloop={chunks} is no multiple of the {n} GPUs of an {program.collective}")
    pieces = chunks * n if operation == "all_to_all" else chunks
    own = operation in ("all_gather", "gather")
    out = 0 if program.in_place else chunks // n if own else chunks
    return Goal(
        operation=operation,
        members=n,
        pieces=pieces,
        sizes=np.full(pieces, 1 / chunks),
        root=program.root,
        out=out,
        compact=by_blocks and operation != "all_to_all" and not program.in_place,
    )


class _Layout:
    """Slots of the buffers of each rank."""

    def __init__(self, program: Program, goal: Goal) -> None:
        self.program, chunks = program, program.chunks
        part = chunks // program.members
        gathers, scatters = goal.operation in ("all_gather", "gather"), goal.operation in ("reduce_scatter", "scatter")
        self.sizes = {"i": part if gathers else chunks, "o": part if scatters else chunks}
        self.gathers, self.scatters, self.part = gathers, scatters, part
        self.out = goal.out
        self.scratch = chunks if program.in_place else self.out + self.sizes["o"]
        self.next = self.scratch + max((gpu.chunks["s"] for gpu in program.gpus.values()), default=0)

    def slots(self, rank: int, place: tuple[str, int], step: Step) -> range:
        buffer, offset = place
        size = self.program.gpus[rank].chunks["s"] if buffer == "s" else self.sizes[buffer]
        if offset < 0 or offset + step.count > size:
            raise SpecError(
                f"{self.program.where}, line {step.line}: chunks {offset} to {offset + step.count - 1} of buffer "
                f"{buffer!r} of gpu {rank}, which has {size}"
            )
        first = offset + (self.scratch if buffer == "s" else 0)
        if buffer == "o":
            first += self.out
        # in place, a rank's own block lies where it does in the whole
        if self.program.in_place and ((buffer == "i" and self.gathers) or (buffer == "o" and self.scatters)):
            first += rank * self.part
        return range(first, first + step.count)

    def room(self, count: int) -> range:
        """Slots of a connection's buffer, for one message."""
        self.next += count
        return range(self.next - count, self.next)


def schedule_of(program: Program) -> Schedule:
    """The schedule of a program, not yet checked.

    Raises
    ------
    SpecError
        A step uses chunks that its buffer does not have, or depends on a step that is not there.
    WorkloadError
        Sends and receives do not match, or a dependency can never be met.
    """
    return _Builder(program).build()


class _Builder:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.goal = _goal(program)
        self.layout = _Layout(program, self.goal)
        self.ends: list[tuple[int, int]] = []
        self.shares: list[float] = []
        self.labels: list[str] = []
        self.rows: list[tuple[int, int, int, int]] = []
        self.waits: list[tuple[int, int, bool]] = []
        # messages of each connection: node that sends, node that receives, and their steps
        self.sent: dict[tuple[int, int, int], list[tuple[int, Step, range]]] = defaultdict(list)
        self.owners: dict[tuple[str, int, int, int], int] = {}

    def node(self, source: int, target: int, share: float, label: str, rows: list[tuple[int, int, int]]) -> int:
        number = len(self.ends)
        self.ends.append((source, target))
        self.shares.append(share)
        self.labels.append(label)
        self.rows.extend((number, *row) for row in rows)
        if len(self.rows) > _MOST_ROWS:
            raise SpecError(f"{self.program.where}: moves more than {_MOST_ROWS:,} chunks")
        return number

    def build(self) -> Schedule:
        program = self.program
        rooms = self.connections()
        # by gpu, thread block and step: the node that a next step waits for, and whether it must have arrived
        done: dict[tuple[int, int, int], tuple[int, bool]] = {}
        starts: dict[tuple[int, int, int], int] = {}
        met: dict[tuple[int, int, int], int] = defaultdict(int)
        arrivals: list[tuple[tuple[int, int, int], int, int]] = []
        for rank, gpu in sorted(program.gpus.items()):
            for number, block in sorted(gpu.blocks.items()):
                for index, step in enumerate(block.steps):
                    at = (rank, number, index)
                    label = f"gpu {rank} tb {number} step {index} ({step.kind}, line {step.line})"
                    first, last = self.step(at, step, label, rooms, met, arrivals)
                    starts[at], done[at] = first, last
        sender = {
            (key, index): node for key, messages in self.sent.items() for index, (node, _, _) in enumerate(messages)
        }
        for key, index, node in arrivals:
            self.waits.append((sender[key, index], node, True))
        for (rank, number, index), start in sorted(starts.items()):
            if index:
                self.waits.append((done[rank, number, index - 1][0], start, done[rank, number, index - 1][1]))
            needed = self.needed(rank, number, index)
            if needed is not None:
                self.waits.append((done[needed][0], start, done[needed][1]))
        return self.schedule()

    def connections(self) -> dict[tuple[tuple[int, int, int], int], range]:
        """Match sends and receives; a place in the receiver's buffer for each message."""
        where = self.program.where
        out: dict[tuple[int, int, int], list[Step]] = defaultdict(list)
        into: dict[tuple[int, int, int], list[Step]] = defaultdict(list)
        for rank, gpu in sorted(self.program.gpus.items()):
            for number, block in sorted(gpu.blocks.items()):
                for way, peer, kinds, book in (
                    ("sends", block.send, ("s", "rcs", "rrs", "rrcs"), out),
                    ("receives", block.recv, ("r", "rcs", "rrc", "rrs", "rrcs"), into),
                ):
                    steps = [step for step in block.steps if step.kind in kinds]
                    if not steps:
                        continue
                    if peer == rank:
                        raise WorkloadError(f"{where}, line {block.line}: gpu {rank} {way} to and from itself")
                    key = (rank, peer, block.channel) if way == "sends" else (peer, rank, block.channel)
                    other = self.owners.setdefault((way, *key), number)
                    if other != number:
                        raise WorkloadError(
                            f"{where}, line {block.line}: thread blocks {other} and {number} of gpu {rank} both use "
                            f"the connection from gpu {key[0]} to gpu {key[1]} on channel {block.channel}"
                        )
                    book[key].extend(steps)
        rooms = {}
        for key in sorted(set(out) | set(into)):
            a, b = out[key], into[key]
            for index, (one, two) in enumerate(zip(a, b, strict=False)):
                if one.count != two.count:
                    raise WorkloadError(
                        f"{where}, lines {one.line} and {two.line}: gpu {key[0]} sends {one.count} chunks to gpu "
                        f"{key[1]} on channel {key[2]}, which receives {two.count}"
                    )
                rooms[key, index] = self.layout.room(one.count)
            if len(a) != len(b):
                lone = (a if len(a) > len(b) else b)[min(len(a), len(b))]
                raise WorkloadError(
                    f"{where}, line {lone.line}: gpu {key[0]} sends {len(a)} times to gpu {key[1]} on channel "
                    f"{key[2]}, which receives {len(b)} times"
                )
        return rooms

    def step(
        self,
        at: tuple[int, int, int],
        step: Step,
        label: str,
        rooms: dict[tuple[tuple[int, int, int], int], range],
        met: dict[tuple[int, int, int], int],
        arrivals: list[tuple[tuple[int, int, int], int, int]],
    ) -> tuple[int, tuple[int, bool]]:
        """Nodes of one step: the first, and the last with whether it must have arrived for the step to be done."""
        rank, block = at[0], self.program.gpus[at[0]].blocks[at[1]]
        kind, slots = step.kind, self.layout.slots
        if kind == "nop":
            node = self.node(rank, rank, 0.0, label, [])
            return node, (node, True)
        if kind in ("cpy", "re"):
            pairs = zip(slots(rank, step.source, step), slots(rank, step.target, step), strict=True)
            node = self.node(rank, rank, 0.0, label, [(a, b, b if kind == "re" else -1) for a, b in pairs])
            return node, (node, True)
        node, room = -1, range(0)
        if kind != "s":
            key = (block.recv, rank, block.channel)
            index = met[key]
            met[key] += 1
            room = rooms[key, index]
            reads = kind in ("rrc", "rrs", "rrcs")
            rows = []
            add = list(slots(rank, step.source, step)) if reads else [-1] * step.count
            if kind in ("r", "rcs", "rrc", "rrcs"):
                rows = list(zip(room, slots(rank, step.target, step), add, strict=True))
            if kind in ("rrs", "rrcs"):
                # the sum that goes on is made where it came in
                rows += [(a, b, b) for a, b in zip(add, room, strict=True)]
            node = self.node(rank, rank, 0.0, label, rows)
            arrivals.append((key, index, node))
            if kind in ("r", "rrc"):
                return node, (node, True)
        key = (rank, block.send, block.channel)
        there = rooms[key, len(self.sent[key])]
        read = room if kind != "s" else slots(rank, step.source, step)
        share = step.count / self.program.chunks
        send = self.node(rank, block.send, share, label, [(a, b, -1) for a, b in zip(read, there, strict=True)])
        self.sent[key].append((send, step, there))
        if node >= 0:
            self.waits.append((node, send, True))
        return (send if node < 0 else node), (send, False)

    def needed(self, rank: int, number: int, index: int) -> tuple[int, int, int] | None:
        """Step of another thread block that ends what a step waits for."""
        step = self.program.gpus[rank].blocks[number].steps[index]
        if step.waits is None:
            return None
        other, before = step.waits
        here = f"{self.program.where}, line {step.line}: gpu {rank} tb {number} step {index} waits for tb {other}"
        blocks = self.program.gpus[rank].blocks
        if other not in blocks:
            raise SpecError(f"{here}, which is not there")
        if before >= len(blocks[other].steps):
            raise SpecError(f"{here} step {before}, which has {len(blocks[other].steps)} steps")
        # a thread block says how far it is at steps with hasdep only
        for later in range(before, len(blocks[other].steps)):
            if blocks[other].steps[later].waited:
                return rank, other, later
        raise WorkloadError(
            f"{here} step {before}: deadlock, for neither that step nor a later one has hasdep=1 to say that it is done"
        )

    def schedule(self) -> Schedule:
        ends = np.array(self.ends, dtype=np.int64).reshape(-1, 2)
        waits = np.array(sorted(set(self.waits)), dtype=np.int64).reshape(-1, 3)
        moves = Moves(*np.array(self.rows, dtype=np.int64).reshape(-1, 4).T)
        return Schedule(
            name=self.program.name,
            members=self.program.members,
            source=ends[:, 0],
            target=ends[:, 1],
            steps=np.ones(len(ends), dtype=np.int64),
            share=np.array(self.shares),
            edges=Edges(waits[:, 0], waits[:, 1], np.zeros(len(waits), dtype=np.int64), waits[:, 2] > 0),
            moves=lambda: moves,
            slots=self.layout.next,
            goal=self.goal,
            labels=tuple(self.labels),
        )
