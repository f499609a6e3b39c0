"""Evaluators: from an experiment to times, and from times to where they went."""

from scaleout.evaluate.event import Recording, evaluate

__all__ = ["Recording", "evaluate"]
