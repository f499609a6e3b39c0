"""The chunk engine: lanes of sends over shared links, asynchronously, in whole picoseconds."""

from scaleout.engine.chunks.lanes import LaneRun, Lanes, concatenate
from scaleout.engine.chunks.run import run_lanes

__all__ = ["LaneRun", "Lanes", "concatenate", "run_lanes"]
