"""MSCCL's XML as it is written: an algorithm of GPUs, GPUs of thread blocks, thread blocks of steps.

Refused, each with one sentence and its line: document types and entities, elements and attributes
that the format does not have, numbers that are none, files beyond some megabytes.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from xml.parsers import expat

from scaleout.errors import SpecError, near

__all__ = ["BUFFERS", "LARGEST", "TYPES", "Program", "Step", "ThreadBlock", "parse_program"]

LARGEST = 16_000_000
"""Size above which a file is refused [byte]; programs of 16 GPUs with all pairs take about one million."""
_MOST_STEPS = 400_000
_MOST_GPUS = 4096
_MOST_CHUNKS = 1_000_000
TYPES = ("s", "r", "rcs", "rrc", "rrs", "rrcs", "cpy", "re", "nop")
"""Send; receive; receive, copy and send; receive, reduce and copy; and send; all three; copy; reduce; nothing."""
BUFFERS = ("i", "o", "s")
"""Input, output, scratch."""

_ALGO = {"name", "proto", "nchannels", "nchunksperloop", "ngpus", "coll", "inplace"}
_ALGO_MORE = {"outofplace", "minBytes", "maxBytes", "maxcount", "nthreadblocks", "nthreads", "redop", "root"}
_GPU = {"id", "i_chunks", "o_chunks", "s_chunks"}
_TB = {"id", "send", "recv", "chan"}
_WAIT = {"s", "type", "depid", "deps", "hasdep"}
_MOVE = {"srcbuf", "srcoff", "dstbuf", "dstoff", "cnt"}
_NOTHING = {"srcbuf": "i", "srcoff": "-1", "dstbuf": "o", "dstoff": "-1", "cnt": "0"}
"""What a step that does nothing may leave out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a thread block.

    Parameters
    ----------
    kind
        One of `TYPES`.
    source, target
        Buffer and first chunk that is read, and written.
    count
        Chunks.
    waits
        Thread block and step of the same GPU that is to be done before; None for none.
    waited
        Whether others may wait for it.
    line
        Of the file.
    """

    kind: str
    source: tuple[str, int]
    target: tuple[str, int]
    count: int
    waits: tuple[int, int] | None
    waited: bool
    line: int


@dataclass(slots=True, kw_only=True)
class ThreadBlock:
    """Steps in order, over one connection out and one in; -1 is none."""

    send: int
    recv: int
    channel: int
    line: int
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Gpu:
    """One rank: chunks of its buffers, and thread blocks by number."""

    chunks: Mapping[str, int]
    line: int
    blocks: dict[int, ThreadBlock] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Program:
    """A whole file.

    Parameters
    ----------
    collective
        As the file calls it, such as ``allreduce``.
    chunks
        Chunks that the message is cut into (``nchunksperloop``).
    in_place
        Whether the result takes the place of the input.
    gpus
        By rank.
    """

    name: str
    collective: str
    chunks: int
    members: int
    in_place: bool
    root: int
    where: str
    gpus: dict[int, Gpu] = field(default_factory=dict)


class _Reader:
    """Handlers of the parser, from the outside in."""

    program: Program
    gpu: Gpu
    block: ThreadBlock

    def __init__(self, where: str) -> None:
        self.where, self.path, self.steps = where, list[str](), 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = lambda *_: self.refuse("document types are not accepted")
        self.parser.EntityDeclHandler = lambda *_: self.refuse("entities are not accepted")
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = lambda _: self.path.pop()
        self.parser.CharacterDataHandler = self.text

    def refuse(self, what: str) -> None:
        raise SpecError(f"{self.where}, line {self.parser.CurrentLineNumber}: {what}")

    def text(self, data: str) -> None:
        if data.strip():
            self.refuse(f"text {data.strip()[:20]!r} between elements")

    def start(self, tag: str, given: dict[str, str]) -> None:
        order = ("algo", "gpu", "tb", "step")
        depth = len(self.path)
        if depth >= len(order) or tag != order[depth]:
            inside = f"in <{self.path[-1]}>" if self.path else "as the outermost element"
            wanted = f"expected <{order[depth]}>" if depth < len(order) else "expected nothing"
            self.refuse(f"<{tag[:40]}> {inside}; {wanted}")
        self.path.append(tag)
        (self.algo, self.rank, self.thread_block, self.step)[depth](given)

    def keys(self, given: Mapping[str, str], needed: Set[str], more: Set[str] = frozenset()) -> None:
        tag = self.path[-1]
        for key in given:
            if key not in needed | more:
                self.refuse(f"<{tag}> has no attribute {key[:40]!r}; {near(key, needed | more)}")
        for key in sorted(needed - set(given)):
            self.refuse(f"<{tag}> lacks {key!r}")

    def number(self, given: dict[str, str], key: str, low: int, high: int) -> int:
        text = given[key]
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 9 and low <= int(text) <= high):
            self.refuse(f"{key}={text[:20]!r}: expected a whole number from {low} to {high}")
        return int(text)

    def algo(self, given: dict[str, str]) -> None:
        self.keys(given, _ALGO, _ALGO_MORE)
        members = self.number(given, "ngpus", 1, _MOST_GPUS)
        self.program = Program(
            name=given["name"],
            collective=given["coll"],
            chunks=self.number(given, "nchunksperloop", 1, _MOST_CHUNKS),
            members=members,
            in_place=self.number(given, "inplace", 0, 1) == 1,
            root=self.number(given, "root", 0, members - 1) if "root" in given else 0,
            where=self.where,
        )

    def rank(self, given: dict[str, str]) -> None:
        self.keys(given, _GPU)
        number = self.number(given, "id", 0, self.program.members - 1)
        if number in self.program.gpus:
            self.refuse(f"gpu {number} is there twice")
        chunks = {buffer: self.number(given, f"{buffer}_chunks", 0, _MOST_CHUNKS) for buffer in BUFFERS}
        self.gpu = self.program.gpus[number] = Gpu(chunks=chunks, line=self.parser.CurrentLineNumber)

    def thread_block(self, given: dict[str, str]) -> None:
        self.keys(given, _TB)
        number = self.number(given, "id", 0, 9999)
        if number in self.gpu.blocks:
            self.refuse(f"thread block {number} is there twice")
        last = self.program.members - 1
        self.block = self.gpu.blocks[number] = ThreadBlock(
            send=self.number(given, "send", -1, last),
            recv=self.number(given, "recv", -1, last),
            channel=self.number(given, "chan", -1, 9999),
            line=self.parser.CurrentLineNumber,
        )

    def step(self, given: dict[str, str]) -> None:
        if given.get("type") == "nop":
            given = _NOTHING | given
        self.keys(given, _WAIT | _MOVE)
        self.steps += 1
        if self.steps > _MOST_STEPS:
            self.refuse(f"more than {_MOST_STEPS:,} steps")
        number = self.number(given, "s", 0, _MOST_STEPS)
        if number != len(self.block.steps):
            self.refuse(f"step s={number} where step {len(self.block.steps)} was expected")
        kind = given["type"]
        if kind not in TYPES:
            self.refuse(f"type {kind[:20]!r} of a step; {near(kind, TYPES)}")
        for key in ("srcbuf", "dstbuf"):
            if given[key] not in BUFFERS:
                self.refuse(f"{key}={given[key][:20]!r}: expected i, o or s")
        sends, receives = kind in ("s", "rcs", "rrs", "rrcs"), kind.startswith("r") and kind != "re"
        if sends and self.block.send < 0:
            self.refuse(f"a step of type {kind} in a thread block that sends to nobody")
        if receives and self.block.recv < 0:
            self.refuse(f"a step of type {kind} in a thread block that receives from nobody")
        block, before = (self.number(given, key, -1, _MOST_STEPS) for key in ("depid", "deps"))
        if (block < 0) != (before < 0):
            self.refuse(f"depid={block} with deps={before}: give both, or -1 for both")
        self.block.steps.append(
            Step(
                kind=kind,
                source=(given["srcbuf"], self.number(given, "srcoff", -1, _MOST_CHUNKS)),
                target=(given["dstbuf"], self.number(given, "dstoff", -1, _MOST_CHUNKS)),
                count=self.number(given, "cnt", 0 if kind == "nop" else 1, _MOST_CHUNKS),
                waits=(block, before) if block >= 0 else None,
                waited=self.number(given, "hasdep", 0, 1) == 1,
                line=self.parser.CurrentLineNumber,
            )
        )


def parse_program(text: str, where: str = "program") -> Program:
    """A program from its XML.

    Parameters
    ----------
    where
        What to call the text in messages, such as its path.

    Raises
    ------
    SpecError
        It is not XML, or not what the format asks for; the message has the line.
    """
    if len(text) > LARGEST:
        raise SpecError(f"{where}: larger than {LARGEST:,} characters; an MSCCL program is a few thousand lines")
    reader = _Reader(where)
    try:
        reader.parser.Parse(text, True)
    except expat.ExpatError as error:
        raise SpecError(f"{where}, line {error.lineno}: not readable as XML: {expat.ErrorString(error.code)}") from None
    except (LookupError, UnicodeError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"{where}: not readable as XML: {error}") from None
    # without an element the parser would have refused the text
    program = reader.program
    missing = sorted(set(range(program.members)) - set(program.gpus))
    if missing:
        raise SpecError(f"{where}: ngpus is {program.members}, but gpu {missing[0]} is missing")
    return program
