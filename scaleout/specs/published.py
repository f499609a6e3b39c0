"""What somebody measured of the step that an experiment describes."""

from dataclasses import dataclass

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields
from scaleout.units import Flops, Fraction, Positive, Seconds

__all__ = ["Published"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published measurement of the same step, in the words of its source; one figure, not several.

    Parameters
    ----------
    step_time
        Of an optimizer step [s].
    tokens_per_second
        Over all chips [token/s].
    model_flops_per_chip
        Model FLOPs over time and chips, counted as `models.training_flops` does [flop/s].
    mfu
        Model FLOPs over time, chips and the chip's dense peak in the experiment's precision [1].
    source
        Where it was published.
    """

    step_time: Seconds | None = None
    tokens_per_second: Positive | None = None
    model_flops_per_chip: Flops | None = None
    mfu: Fraction | None = None
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        given = (self.step_time, self.tokens_per_second, self.model_flops_per_chip, self.mfu)
        if sum(value is not None for value in given) != 1 or self.step_time == 0:
            raise SpecError(
                "published: expected one of step_time, tokens_per_second, model_flops_per_chip and mfu, above 0"
            )
