"""Searches for the best way to do a job: bounds first, then the simulation of what bounds leave."""
