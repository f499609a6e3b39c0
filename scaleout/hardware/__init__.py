"""What one chip needs for one kernel: pure functions of specs and shapes."""

from scaleout.hardware.formats import WIDTH
from scaleout.hardware.rates import Rates, pack

__all__ = ["WIDTH", "Rates", "pack"]
