"""What a step does beside its passes: update, gathers of parameters, sums of gradients, and what is always held."""

from collections.abc import Mapping

from scaleout.engine.program import STREAMS, Label, Message
from scaleout.hardware import Rates
from scaleout.models import LayerKind
from scaleout.parallel import Block, Frozen, Shard, Tables, chunk_parameters
from scaleout.specs import TrainingExperiment
from scaleout.training.registry import schedule_of
from scaleout.training.stages import STATE_BYTES, Chunk, Place
from scaleout.training.timetable import copies, seats_of, together

__all__ = ["State"]

_DP = STREAMS.index("dp")


class State:
    """Weights, gradients and optimizer of a rank: what they take of HBM, and the operations on them.

    Of each chunk there are `replicas`, which the communicators of `family` join; `together`: embedding
    and loss are on one stage.
    """

    def __init__(
        self, experiment: TrainingExperiment, shards: Mapping[LayerKind, Shard], rates: Rates, tables: Tables
    ) -> None:
        self.experiment, self.shards, self.rates, self.tables = experiment, shards, rates, tables
        # embedding and head are the same whatever the layers are
        self.mine = next(iter(shards.values()))
        self.layout, self.stack = experiment.layout, experiment.stack
        seats = seats_of(schedule_of(self.layout).placement, self.layout.pp, self.layout.vpp)
        self.replicas, self.together = self.layout.dp * copies(seats), together(seats)
        self.family = "dp" if self.replicas == self.layout.dp else "dp_copies"

    def count(self, chunk: Chunk) -> float:
        """Parameters of a chunk on one rank."""
        ends = chunk_parameters(self.mine, 0.0, chunk.embedding, chunk.loss, self.together)
        return ends + sum(self.shards[kind].layer for kind in chunk.kinds)

    def static(self, chunks: list[Chunk]) -> dict[str, float]:
        """HBM that a stage holds all the time, by kind [byte]."""
        held = sum(self.count(chunk) for chunk in chunks)
        parts = self.replicas if self.layout.zero else 1
        return {
            "weights": held * self.mine.width,
            "gradients": held * self.mine.gradient_width,
            "optimizer": held * STATE_BYTES / parts,
            "reserved": self.stack.reserved,
        }

    def opening(self, held: float, places: list[Place]) -> tuple[Frozen, list[int]]:
        """The update of this rank's part, then the gather of every chunk's parameters."""
        block = Block(self.tables)
        sharded = self.layout.zero == 1 and self.replicas > 1
        part = held / (self.replicas if sharded else 1)
        update = block.compute(self._update("update", part * self.stack.optimizer_traffic))
        gathers = []
        if sharded:
            for place in places:
                nbytes = self.count(place.chunk) * self.mine.width
                if nbytes:
                    gathers.append(block.collective(Message(self.family, "all_gather", nbytes), (update,), _DP))
                else:
                    gathers.append(gathers[-1] if gathers else update)
        return block.freeze(), gathers

    def closing(self, held: float, places: list[Place]) -> Frozen:
        """Gradients that are still to be reduced; tied embeddings are summed over the end stages; then the norm."""
        block = Block(self.tables)
        after: tuple[int, ...] = ()
        if not self.stack.overlap_gradient_reduction and self.replicas > 1:
            after = (self.reduce(block, held, ()),)
        ends = any(place.first or place.last for place in places)
        if self.mine.tied and not self.together and ends:
            nbytes = self.mine.vocabulary * self.mine.hidden * self.mine.gradient_width
            after = (block.collective(Message("embedding", "all_reduce", nbytes), after, _DP),)
        part = held / (self.replicas if self.layout.zero else 1)
        norm = block.compute(self._update("gradient norm", part * self.mine.gradient_width), after)
        if self.layout.chips > 1:
            # eight bytes: latency alone, under a nanosecond of any link is left out
            block.collective(Message("world", "all_reduce", 0.0), (norm,), _DP)
        return block.freeze()

    def _update(self, name: str, nbytes: float) -> Label:
        parts = (("elementwise", nbytes / self.rates.elementwise), ("launch", self.rates.gap))
        return Label(name, "optimizer", parts)

    def reduce(self, block: Block, parameters: float, after: tuple[int, ...]) -> int:
        """Gradients of a bucket over the dp group, beside what follows."""
        if self.replicas == 1:
            return -1
        operation = "reduce_scatter" if self.layout.zero else "all_reduce"
        return block.collective(Message(self.family, operation, parameters * self.mine.gradient_width), after, _DP)
