"""Measured against simulated: one module for each kind of table."""
