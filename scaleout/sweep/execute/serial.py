"""Points evaluated in this process, one batch after the other."""

import time
from collections.abc import Iterator

from scaleout.sweep.evaluate import Outcome, evaluate_batch
from scaleout.sweep.execute.batches import Batch, Finished, Job, Pace, Work, refused

__all__ = ["Serial"]


class Serial:
    """Evaluates in this process; a batch takes about a second, so that no more than that is lost when it is killed."""

    def map(self, job: Job, work: Work) -> Iterator[Finished]:
        """Evaluate all that is to be had, batch by batch."""
        pace = Pace(1)
        while batch := work.take(pace.size(work.left)):
            begun = time.perf_counter()
            outcomes = _outcomes(job, batch)
            pace.took(len(batch.keys), time.perf_counter() - begun)
            yield Finished(batch.keys, batch.texts, outcomes)

    def rest(self) -> Iterator[Finished]:
        """Nothing: each batch is given when it is finished."""
        return iter(())

    def close(self) -> None:
        """Nothing is held."""


def _outcomes(job: Job, batch: Batch) -> list[Outcome]:
    """Those of a batch; where memory does not do for all at once, one by one."""
    try:
        return evaluate_batch(job.sweep, job.evaluator, batch.texts)
    except MemoryError:
        if len(batch.texts) == 1:
            return [refused("MemoryError: more than this machine has")]
    return [_outcomes(job, Batch([key], [text]))[0] for key, text in zip(batch.keys, batch.texts, strict=True)]
