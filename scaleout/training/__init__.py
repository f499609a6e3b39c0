"""Training: schedules, and one optimizer step as programs."""

from scaleout.training.registry import SCHEDULES, register_schedule
from scaleout.training.schedules import Pass, Schedule
from scaleout.training.stages import Chunk, deal
from scaleout.training.step import build
from scaleout.training.timetable import timetable

__all__ = ["SCHEDULES", "Chunk", "Pass", "Schedule", "build", "deal", "register_schedule", "timetable"]
