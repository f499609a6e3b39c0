"""Measured against simulated: one module for each kind of table."""

from scaleout.validation.agreement import Agreement, Compared, Skipped, statistics
from scaleout.validation.kinds import KINDS, validate
from scaleout.validation.table import Row, Watch, take_rows

__all__ = ["KINDS", "Agreement", "Compared", "Row", "Skipped", "Watch", "statistics", "take_rows", "validate"]
