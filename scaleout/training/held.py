"""Parameters on one rank, and what of them and of their gradients the rank keeps: ZeRO 0 to 3, FSDP, HSDP.

Parameters of the dense model and of experts are counted apart, since other ranks share them.
``docs/sharding.md`` has the bytes of every stage.
"""

from dataclasses import dataclass
from typing import NamedTuple

from scaleout.errors import PlanError
from scaleout.hardware.formats import format_of
from scaleout.parallel import Shard
from scaleout.specs import TrainingExperiment
from scaleout.training.optimizer import MASTER

__all__ = ["Held", "Sharing", "sharing", "widths"]


@dataclass(frozen=True, slots=True)
class Held:
    """Parameters: of the dense model, and of experts."""

    dense: float = 0.0
    experts: float = 0.0

    def __add__(self, other: "Held") -> "Held":
        return Held(self.dense + other.dense, self.experts + other.experts)

    @property
    def total(self) -> float:
        """All of them."""
        return self.dense + self.experts


class Sharing(NamedTuple):
    """Among how many ranks something is cut.

    Parameters
    ----------
    family
        Communicators over which it is.
    parts
        Ranks of one; each keeps a part.
    copies
        Ranks that keep the same part.
    """

    family: str
    parts: int
    copies: int


def sharing(experiment: TrainingExperiment, times: int = 1) -> tuple[Sharing, Sharing]:
    """Who shares the state of dense parameters, and that of experts.

    Parameters
    ----------
    times
        How often the pipeline holds the model (`timetable.copies`).

    Raises
    ------
    PlanError
        A shard is given, and nothing is cut, or the model is there twice.
    """
    layout = experiment.layout
    if layout.zero == 0 and layout.shard is not None:
        raise PlanError(f"layout.shard: {layout.shard} ranks, but with layout.zero 0 there is nothing to cut")
    if times > 1:
        if layout.shard is not None:
            raise PlanError(
                f"layout.shard: {layout.shard} ranks, but the schedule {layout.schedule} holds the model twice"
            )
        return (
            Sharing("dp_copies", times * layout.replicas, 1), Sharing("edp_copies", times * layout.expert_replicas, 1),
        )  # fmt: skip
    experts = Sharing("edp", layout.expert_replicas, 1)
    if layout.shard is None:
        return Sharing("dp", layout.replicas, 1), experts
    return Sharing("shard", layout.shard, layout.replicas // layout.shard), experts


class Widths(NamedTuple):
    """Bytes of a parameter in its several forms [byte].

    Parameters
    ----------
    stored, master
        The weight that is kept, and the optimizer's own copy of it.
    gathered
        Of a weight on the wire, and where it was gathered.
    written, kept, reduced
        Of a gradient: as the kernels write it, in its sum, and on the wire.
    """

    stored: float
    master: float
    gathered: float
    written: float
    kept: float
    reduced: float


def widths(experiment: TrainingExperiment, mine: Shard) -> Widths:
    """Widths of an experiment."""
    stack = experiment.stack
    kept = format_of(experiment.gradients).left
    return Widths(
        stored=MASTER if stack.master == "own" else mine.width,
        master=MASTER if stack.master == "copy" else 0.0,
        gathered=format_of(stack.gather_dtype).left,
        written=mine.width,
        kept=kept,
        reduced=format_of(experiment.reduction or experiment.gradients).left,
    )
