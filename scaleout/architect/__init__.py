"""An architect's questions: what a turn of each knob does to a cluster, and what thousands of chips would do."""

from scaleout.architect.elasticity import Effect, Elasticities, elasticities, on_chip
from scaleout.architect.knobs import Knob, knobs_of
from scaleout.architect.variants import Variants, variants

__all__ = ["Effect", "Elasticities", "Knob", "Variants", "elasticities", "knobs_of", "on_chip", "variants"]
