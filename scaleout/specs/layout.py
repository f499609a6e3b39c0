"""A layout: how one model is cut over the chips."""

from dataclasses import dataclass
from typing import Annotated, Literal

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields
from scaleout.units import Count, Number

__all__ = ["Batch", "Layout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Degrees of parallelism.

    Parameters
    ----------
    tp, cp, pp, dp
        Tensor-, context-, pipeline- and data-parallel degree; their product is the number of chips.
        A sequence is cut over the cp group; gradients are summed over cp x dp ranks.
    vpp
        Model chunks a pipeline stage holds.
    sequence_parallel
        Norms and residuals are cut along the sequence inside the tp group.
    ep, etp
        Experts are dealt out over ep ranks, and each of them cut over etp. The ranks of a stage,
        tp x cp x dp of them, are ep x etp x (the data-parallel degree of the experts).
    zero
        What each data-parallel rank keeps only its part of: 0 nothing, 1 the optimizer's state, 2 the
        gradients too, 3 the weights too (FSDP).
    shard
        Ranks over which that is cut; the copies of it are summed after (HSDP). None: all cp x dp.
    context
        How a sequence's parts attend to each other: keys and values go round ("ring"), are gathered
        ("all_gather"), or heads are exchanged for tokens ("all_to_all", Ulysses).
    schedule
        Name of the pipeline schedule; None is 1F1B, interleaved where vpp is above 1.
    chunks
        Layers of each chunk in the order of the model; None deals them evenly.
    order
        Which neighbours ranks count first.
    """

    tp: Count = 1
    pp: Count = 1
    dp: Count = 1
    vpp: Count = 1
    cp: Count = 1
    ep: Count = 1
    etp: Count = 1
    sequence_parallel: bool = False
    zero: Literal[0, 1, 2, 3] = 0
    shard: Count | None = None
    context: Literal["ring", "all_gather", "all_to_all"] = "ring"
    schedule: str | None = None
    chunks: tuple[Annotated[int, Number(low=0, high=1e6, above=False, integer=True)], ...] | None = None
    order: tuple[Literal["tp", "cp", "dp", "pp"], ...] = ("tp", "cp", "dp", "pp")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.vpp > 1 and self.pp == 1:
            raise SpecError(f"layout.vpp: {self.vpp} chunks need a pipeline (pp above 1), this one has pp = 1")
        if sorted(self.order) != ["cp", "dp", "pp", "tp"]:
            raise SpecError(f"layout.order: {', '.join(self.order)}: not tp, cp, dp and pp, each once")
        if (self.tp * self.cp * self.dp) % (self.ep * self.etp):
            raise SpecError(
                f"layout.ep: ep {self.ep} x etp {self.etp} = {self.ep * self.etp} does not divide the "
                f"{self.tp * self.cp * self.dp} ranks of a stage (tp {self.tp} x cp {self.cp} x dp {self.dp})"
            )
        if self.shard is not None and self.replicas % self.shard:
            raise SpecError(
                f"layout.shard: {self.shard} does not divide the {self.replicas} data-parallel ranks "
                f"(cp {self.cp} x dp {self.dp})"
            )

    @property
    def chips(self) -> int:
        """Chips that the layout takes."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def replicas(self) -> int:
        """Ranks that hold the same part of the dense model: cp x dp."""
        return self.cp * self.dp

    @property
    def expert_replicas(self) -> int:
        """Ranks that hold the same part of the same experts."""
        return self.tp * self.cp * self.dp // (self.ep * self.etp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One optimizer step's work.

    Parameters
    ----------
    global_, micro
        Sequences of a step over all ranks, and of one micro-batch on one dp rank
        (``global`` in files).
    sequence
        Tokens of a sequence.
    encoder_sequence
        Tokens that the encoder of a model that has one reads of each; None for `sequence`.
    """

    global_: Count
    micro: Count = 1
    sequence: Count
    encoder_sequence: Count | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.global_ * self.sequence
