"""Evaluators: from an experiment to times, and from times to where they went."""
