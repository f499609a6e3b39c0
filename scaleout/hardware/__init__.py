"""What one chip needs for one kernel: pure functions of specs and shapes."""

from scaleout.hardware.rates import Rates, pack

__all__ = ["Rates", "pack"]
