"""What one chip needs for one kernel: pure functions of specs and shapes."""

from scaleout.hardware.formats import WIDTH
from scaleout.hardware.kernels import Kernels

__all__ = ["WIDTH", "Kernels"]
