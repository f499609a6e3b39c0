"""Measured against simulated: one module for each kind of table."""

from scaleout.io.table import Row, Watch, take_rows
from scaleout.validation.agreement import Agreement, Compared, Skipped, statistics
from scaleout.validation.kinds import KINDS, validate

__all__ = ["KINDS", "Agreement", "Compared", "Row", "Skipped", "Watch", "statistics", "take_rows", "validate"]
