"""What a step does beside its passes: update, gathers of parameters, sums of gradients, and what is always held."""

from collections.abc import Mapping
from functools import reduce

from scaleout.engine.program import STREAMS, Label, Message
from scaleout.hardware import Rates
from scaleout.models import LayerKind
from scaleout.parallel import HOST_OUT, Block, Frozen, Shard, Tables, chunk_parameters
from scaleout.specs import TrainingExperiment
from scaleout.training.copies import update as copied_update
from scaleout.training.held import Held, sharing, widths
from scaleout.training.optimizer import (
    MUON_WIDTH,
    end_moments,
    expert_moments,
    layer_moments,
    matrices,
    newton_schulz,
    update_bytes,
)  # fmt: skip
from scaleout.training.registry import schedule_of
from scaleout.training.stages import Chunk, Place
from scaleout.training.timetable import copies, seats_of, together

__all__ = ["GATHER", "State"]

GATHER = "gather"
"""Family of gathers that do not share a communicator with reductions: its groups are those that share weights."""
_DP, _GATHER, _COPIES, _TP = (STREAMS.index(name) for name in ("dp", "gather", "copies", "tp"))
_PLACE = 4.0
"""Of the place of a gradient that is sent alone [byte]."""
_ENCODE, _DECODE = 4.0, 1.0
"""Passes over gradients that are compressed, beside the code itself: a statistic of them, then gradient and what
was left over from the last step are read and what is left now is written; decoding writes."""


class State:
    """Weights, gradients and optimizer of a rank: what they take of HBM, and the operations on them."""

    def __init__(
        self, experiment: TrainingExperiment, shards: Mapping[LayerKind, Shard], rates: Rates, tables: Tables
    ) -> None:
        self.experiment, self.shards, self.rates, self.tables = experiment, shards, rates, tables
        # embedding and head are the same whatever the layers are
        self.mine = next(iter(shards.values()))
        self.layout, self.stack = experiment.layout, experiment.stack
        seats = seats_of(schedule_of(self.layout).placement, self.layout.pp, self.layout.vpp)
        self.together = together(seats)
        self.dense, self.experts = sharing(experiment, copies(seats))
        self.width = widths(experiment, self.mine)
        self.units = experiment.reshard != "never"
        self._counts: dict[Chunk, Held] = {}
        self._moments_of: dict[Chunk, tuple[Held, ...]] = {}

    # --- counting ----------------------------------------------------------------------------

    def layer(self, kind: LayerKind) -> Held:
        """Parameters of a layer."""
        return Held(self.shards[kind].layer, self.shards[kind].expert_layer)

    def end(self, *, embedding: bool = False, loss: bool = False) -> Held:
        """Parameters of the embedding, or of norm and head."""
        return Held(chunk_parameters(self.mine, 0.0, embedding, loss, self.together))

    def count(self, chunk: Chunk) -> Held:
        """Parameters of a chunk on one rank."""
        if chunk not in self._counts:
            ends = self.end(embedding=chunk.embedding, loss=chunk.loss)
            self._counts[chunk] = reduce(Held.__add__, (self.layer(kind) for kind in chunk.kinds), ends)
        return self._counts[chunk]

    def part(self, held: Held, zero: int = 1) -> Held:
        """What a rank keeps of something that this stage of ZeRO cuts."""
        if self.layout.zero < zero:
            return held
        return Held(held.dense / self.dense.parts, held.experts / self.experts.parts)

    def gathered(self, held: Held) -> float:
        """Weights of a unit that was gathered [byte]."""
        return held.total * self.width.gathered

    def stored(self, held: Held) -> float:
        """Weights that a rank keeps of something [byte]."""
        return (self.part(held) if self.units else held).total * self.width.stored

    def whole_gradients(self, held: Held) -> float:
        """Gradients of a unit: as they are written, and as they are sent [byte]."""
        sent = self.width.reduced if self.width.reduced != self.width.written else 0.0
        return held.total * (self.width.written + sent)

    def _moments(self, chunks: list[Chunk]) -> Held:
        """Moments of the optimizer, not cut [byte]."""
        for chunk in chunks:
            if chunk not in self._moments_of:
                ends = (self.end(embedding=chunk.embedding), self.end(loss=chunk.loss))
                of_ends = [Held(end_moments(self.experiment, self.mine, end.dense)) for end in ends]
                self._moments_of[chunk] = (*map(self._layer_moments, chunk.kinds), *of_ends)
        return reduce(Held.__add__, (held for chunk in chunks for held in self._moments_of[chunk]), Held())

    def _layer_moments(self, kind: LayerKind) -> Held:
        mine = self.shards[kind]
        return Held(layer_moments(self.experiment, mine), expert_moments(self.experiment, mine))

    def _linear(self, chunks: list[Chunk]) -> float:
        """Parameters of layers, whose products run in low precision where a recipe has it."""
        return sum(self.layer(kind).total for chunk in chunks for kind in chunk.kinds)

    def static(self, chunks: list[Chunk]) -> dict[str, float]:
        """HBM that a stage holds all the time, by kind [byte]."""
        held = reduce(Held.__add__, (self.count(chunk) for chunk in chunks), Held())
        weights = self.part(held) if self.units else held
        masters = self.part(held).total * self.width.master
        gradients = self.part(held, 2).total * self.width.kept
        if self.layout.zero > 1 and not self.experiment.reduces_each:
            gradients += held.total * self.width.kept
        elif self.layout.zero > 1 and not self.units:
            # one bucket fills while another is reduced
            gradients += min(2.0 * self.stack.bucket, held.total * self.width.kept)
        if self.compressed and self.layout.replicas > 1:
            # what the code left out waits for the next step
            gradients += held.total * self.width.kept
        # what is cast once a step stays; units that come and go are cast as they come
        copies = 0.0 if self.units else self._linear(chunks) * self.rates.weight_copies
        return {
            "weights": weights.total * self.width.stored + copies,
            "gradients": gradients,
            "optimizer": masters + self.part(self._moments(chunks)).total,
            "reserved": self.stack.reserved,
        }

    @property
    def copies_last(self) -> bool:
        """Gradients are summed over copies in one go, when backward is through."""
        return self.stack.copies_last and self.units

    # --- operations --------------------------------------------------------------------------

    def opening(self, places: list[Place]) -> tuple[Frozen, list[int]]:
        """The update of this rank's part, then the gather of every chunk's parameters, if they are gathered whole."""
        block = Block(self.tables)
        chunks = [place.chunk for place in places]
        held = reduce(Held.__add__, (self.count(chunk) for chunk in chunks), Held())
        update = self._muon(block, chunks) if self.experiment.optimizer == "muon" else ()
        nbytes = update_bytes(self.experiment, self.part(held).total, self.part(self._moments(chunks)).total)
        nbytes += self._linear(chunks) * self.rates.weight_cast
        label, whole = self._pass("update", nbytes), self.layout.zero > 0 and not self.units
        came, gone = self._offloaded(chunks, whole=whole)
        if came or gone:
            last = copied_update(block, label, came, gone, self.stack.bucket, update)
        else:
            last = block.compute(label, update)
        gathers: list[int] = []
        for chunk in chunks if whole else ():
            op = self.gather(block, self.count(chunk), (last,))
            gathers.append(op if op >= 0 else gathers[-1] if gathers else last)
            if out := self.experiment.offload.parameters * self.stored(self.count(chunk)):
                block.copy(Message(HOST_OUT, "copy", out, "parameters"), (gathers[-1],))
        return block.freeze(), gathers if any(op != last for op in gathers) else []

    def _offloaded(self, chunks: list[Chunk], *, whole: bool) -> tuple[float, float]:
        """What comes from the host for the update, and what goes there after it [byte].

        Weights come where they are the optimizer's own; those that are gathered whole go after that.
        """
        share = self.experiment.offload
        held = self.part(reduce(Held.__add__, (self.count(chunk) for chunk in chunks), Held())).total
        moved = share.optimizer * (held * self.width.master + self.part(self._moments(chunks)).total)
        weights = share.parameters * held * self.width.stored
        return moved + (0.0 if self.width.master else weights), moved + (0.0 if whole else weights)

    def closing(self, places: list[Place]) -> Frozen:
        """Gradients that are still to be reduced; tied embeddings are summed over the end stages; then the norm."""
        block = Block(self.tables)
        held = reduce(Held.__add__, (self.count(place.chunk) for place in places), Held())
        after: tuple[int, ...] = ()
        if not self.stack.overlap_gradient_reduction and not self.experiment.reduces_each and not self.units:
            after = tuple(op for op in (self.reduce(block, held, ()),) if op >= 0)
        if self.copies_last:
            for count, share in ((held.experts, self.experts), (held.dense, self.dense)):
                if count and share.copies > 1:
                    nbytes = count * self.code / share.parts
                    after = (block.collective(Message("copies", "all_reduce", nbytes), after, _COPIES),)
        ends = any(place.first or place.last for place in places)
        if self.mine.tied and not self.together and ends:
            tied = self.part(Held(self.mine.vocabulary * self.mine.hidden), 2).dense
            after = (block.collective(Message("embedding", "all_reduce", tied * self.width.reduced), after, _DP),)
        part = self.part(held).total
        if self.compressed:
            # of gradients that are gathered, those of all ranks are added up
            code = self.code * (self.dense.parts if self.experiment.sent is not None else 1)
            after = (block.compute(self._pass("decode", part * (_DECODE * self.width.kept + code)), after),)
        norm = block.compute(self._pass("gradient norm", part * self.width.kept), after)
        if self.layout.chips > 1:
            # eight bytes: latency alone, under a nanosecond of any link is left out
            block.collective(Message("world", "all_reduce", 0.0), (norm,), _DP)
        return block.freeze()

    @property
    def compressed(self) -> bool:
        """Gradients are brought to a code before they are sent."""
        return self.experiment.compression > 1.0 or self.experiment.sent is not None

    @property
    def code(self) -> float:
        """Of a gradient on the wire [byte]; of those that are sent with their places the mean over all."""
        if self.experiment.sent is not None:
            return self.experiment.sent * (self.width.reduced + _PLACE)
        return self.width.reduced / self.experiment.compression

    def gather(self, block: Block, held: Held, after: tuple[int, ...]) -> int:
        """Weights over the ranks that share them; the last operation, -1 for none."""
        op, apart = -1, self.units and not self.stack.one_communicator
        for count, share in ((held.experts, self.experts), (held.dense, self.dense)):
            if count and share.parts > 1:
                family = f"{GATHER} {share.family}" if apart else share.family
                message = Message(family, "all_gather", count * self.width.gathered)
                op = block.collective(message, after, _GATHER if apart else _DP)
        return op

    def reduce(self, block: Block, held: Held, after: tuple[int, ...]) -> int:
        """Gradients over the ranks that share them, and over copies; the last operation, -1 for none."""
        shares = ((held.experts, self.experts), (held.dense, self.dense))
        if not any(count and share.parts * share.copies > 1 for count, share in shares):
            return -1
        if self.compressed:
            encoded = held.total * (_ENCODE * self.width.kept + self.code)
            after = (block.compute(self._pass("encode", encoded), after),)
        op, gathered = -1, self.experiment.sent is not None
        for count, share in shares:
            nbytes = count * self.code
            if count and gathered and share.parts > 1:
                op = block.collective(Message(share.family, "all_gather", nbytes * share.parts), after, _DP)
            elif count and share.parts > 1:
                operation = "reduce_scatter" if self.layout.zero else "all_reduce"
                op = block.collective(Message(share.family, operation, nbytes), after, _DP)
            if count and share.copies > 1 and not self.copies_last:
                waits = after if op < 0 else (op,)
                op = block.collective(Message("copies", "all_reduce", nbytes / share.parts), waits, _COPIES)
        return op

    def copy(self, block: Block, name: str, held: Held, width: float, after: tuple[int, ...]) -> int:
        """A kernel that moves so many bytes of each parameter."""
        return block.compute(self._pass(name, held.total * width, "compute"), after)

    def _pass(self, name: str, nbytes: float, category: str = "optimizer") -> Label:
        parts = (("elementwise", nbytes / self.rates.elementwise), ("launch", self.rates.gap))
        return Label(name, category, parts)

    def _muon(self, block: Block, chunks: list[Chunk]) -> tuple[int, ...]:
        """Orthogonal updates. Whole matrices are dealt out over the ranks that share the optimizer; those that are cut
        are brought to their rank and back, over the ranks that share weights, and gathered over the tp group."""
        parts = self.dense.parts if self.layout.zero else 1
        tp = self.layout.tp
        counted: dict[tuple[float, float], int] = {}
        for chunk in chunks:
            for kind in chunk.kinds:
                for shape in matrices(self.shards[kind]):
                    counted[shape] = counted.get(shape, 0) + 1
        nbytes = MUON_WIDTH * sum(number * rows * columns for (rows, columns), number in counted.items())
        after: tuple[int, ...] = ()
        there_and_back = self.units and parts > 1
        if there_and_back:
            after = (block.collective(Message(self.dense.family, "all_to_all", nbytes / parts), after, _DP),)
        if tp > 1:
            after = (block.collective(Message("tp", "all_gather", nbytes * tp / parts), after, _TP),)
        seconds = 0.0
        for (rows, columns), number in sorted(counted.items()):
            # the dimension that tp cuts is the one that is not the model's width
            whole = (rows, columns * tp) if rows == self.mine.hidden else (rows * tp, columns)
            seconds += -(-number // parts) * newton_schulz(*whole, self.rates)
        after = (block.compute(Label("newton-schulz", "optimizer", (("matmul", seconds),)), after),)
        if there_and_back:
            after = (block.collective(Message(self.dense.family, "all_to_all", nbytes / parts), after, _DP),)
        return after
