"""Unfolded runs at scale: every rank's programs in one compiled loop."""

from scaleout.engine.unfolded.layout import Unfolded, unfold
from scaleout.engine.unfolded.run import COMPILED_FROM, run_unfolded

__all__ = ["COMPILED_FROM", "Unfolded", "run_unfolded", "unfold"]
