"""What one chip needs for one kernel: pure functions of specs and shapes."""

from scaleout.hardware.kernels import WIDTH, Kernels

__all__ = ["WIDTH", "Kernels"]
