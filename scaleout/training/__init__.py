"""Training: schedules, and one optimizer step as programs."""

from scaleout.training.schedules import Pass, interleaved, one_f_one_b, schedule
from scaleout.training.stages import Chunk, deal
from scaleout.training.step import build

__all__ = ["Chunk", "Pass", "build", "deal", "interleaved", "one_f_one_b", "schedule"]
