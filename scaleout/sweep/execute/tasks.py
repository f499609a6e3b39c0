"""Points evaluated by tasks on Ray: of one's own on this machine, or on a cluster.

Ray's own retries are off: who takes a worker with it is found by halving (`batches.after_death`), so that one bad point
ends neither the sweep nor its neighbours.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from scaleout.errors import ScaleoutError, SweepError
from scaleout.sweep.evaluate import Outcome
from scaleout.sweep.execute.address import answers, host_and_port
from scaleout.sweep.execute.batches import Batch, Finished, Job, Pace, Work, after_death

if TYPE_CHECKING:
    from ray import ObjectRef

__all__ = ["OnRay"]

_PATIENCE = 20.0
"""A cluster whose head does not answer for so long is lost [s]; Ray would end the process after 60."""
_LOOK = 5.0
"""Between looks at the cluster: whether it is there, and how many cores it has [s]."""


class OnRay:
    """Evaluates on Ray, two batches under way for each worker.

    Parameters
    ----------
    address
        Of a cluster; None for a Ray of one's own, which is started when there is something to compute and ends with
        this process, however that ends.
    workers
        Batches at a time; None for all cores of the cluster, also of nodes that come later.
    evaluate
        What a task does; None for `worker.evaluate_there`.
    """

    def __init__(
        self, address: str | None, workers: int | None, evaluate: Callable[..., tuple[float, Any]] | None = None
    ) -> None:
        self._address = address
        self._evaluate = evaluate
        self._asked = workers
        self._up = ExitStack()
        self._ready = False
        self._task: Any = None
        self._flying: dict[ObjectRef[Any], Batch] = {}
        self._looked = self._answered = time.monotonic()
        self._workers = workers or 1

    def map(self, job: Job, work: Work) -> Iterator[Finished]:
        """Evaluate all that is to be had, and give each batch when it is finished."""
        first = work.take(1)
        if first is None:
            return
        self._start()
        import ray

        from scaleout.sweep.execute.worker import hold

        held = ray.put(hold(job))
        pace = Pace(self._workers)
        again = deque([first])
        while True:
            pace.workers = self._workers
            while len(self._flying) < pace.most:
                batch = again.popleft() if again else work.take(pace.size(work.left))
                if batch is None:
                    break
                self._flying[self._task.remote(held, list(batch.texts))] = batch
            if not self._flying:
                return
            ready, _ = ray.wait(list(self._flying), num_returns=1, timeout=1.0)
            for ref in ready:
                finished = self._collect(ref, pace, again)
                if finished is not None:
                    yield finished
            self._look()

    def rest(self) -> Iterator[Finished]:
        """What is finished and was not given yet."""
        if not self._flying:
            return
        import ray

        ready, _ = ray.wait(list(self._flying), num_returns=len(self._flying), timeout=0)
        for ref in ready:
            # whose worker died is left for the next time
            with suppress(ScaleoutError):
                finished = self._collect(ref, Pace(1), deque())
                if finished is not None:
                    yield finished

    def close(self) -> None:
        """Cancel what is under way, and end a Ray of one's own."""
        if self._ready:
            import ray

            for ref in self._flying:
                with suppress(Exception):
                    ray.cancel(ref, force=True)
            self._flying.clear()
        self._ready = False
        self._up.close()

    def _start(self) -> None:
        if self._ready:
            return
        from scaleout.sweep.execute.connect import connected

        self._up.enter_context(connected(self._address, self._asked))
        self._ready = True
        import ray

        from scaleout.sweep.execute.worker import evaluate_there

        self._task = ray.remote(num_cpus=1, max_retries=0)(self._evaluate or evaluate_there)
        self._answered = time.monotonic()
        self._count()

    def _collect(self, ref: "ObjectRef[Any]", pace: Pace, again: deque[Batch]) -> Finished | None:
        """What a task gave; where its worker died, its points go into `again`."""
        import ray
        from ray import exceptions

        batch = self._flying.pop(ref)
        try:
            seconds, outcomes = ray.get(ref)
        except exceptions.RayTaskError as error:
            if not isinstance(error.cause, MemoryError):
                raise _refusal(error) from None
        except (
            exceptions.WorkerCrashedError,
            exceptions.OutOfMemoryError,
            exceptions.NodeDiedError,
            exceptions.ObjectLostError,
            exceptions.TaskCancelledError,
            exceptions.RayActorError,
            exceptions.ObjectStoreFullError,
        ):
            pass
        except exceptions.RayError as error:
            raise SweepError(f"Ray is lost: {_first_line(error)}; {_KEPT}") from None
        else:
            pace.took(len(batch.keys), seconds)
            return Finished(batch.keys, batch.texts, [Outcome(*outcome) for outcome in outcomes])
        parts = after_death(batch)
        if isinstance(parts, Finished):
            return parts
        again.extend(parts)
        return None

    def _look(self) -> None:
        """Now and then: is the cluster still there, and how large is it?"""
        now = time.monotonic()
        if now < self._looked + _LOOK:
            return
        self._looked = now
        import ray

        if not (self._address or "").startswith("ray://"):  # whose connection Ray itself watches
            problem = answers(*host_and_port(ray.get_runtime_context().gcs_address), 1.0)
            if problem and now > self._answered + _PATIENCE:
                raise SweepError(f"Ray is lost: its head does not answer ({problem}); {_KEPT}")
            if problem:
                return
        self._answered = now
        self._count()

    def _count(self) -> None:
        """Takes up cores of nodes that have come, or gone."""
        import ray

        if self._asked is None:
            resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            self._workers = max(1, int(resources.get("CPU", 1)))


_KEPT = "what was recorded is kept, and the same command goes on from there"


def _refusal(error: Any) -> SweepError:
    """Why a worker did not evaluate."""
    cause = error.cause
    if isinstance(cause, ScaleoutError):
        return SweepError(f"{cause}")
    words = f"{type(cause).__name__}: {_first_line(cause)}"
    if isinstance(cause, ImportError) or "No module named" in str(error):
        return SweepError(
            f"a worker cannot load scaleout ({words}); install the same version on all nodes, or let a checkout "
            "travel: ray job submit --working-dir . -- scaleout sweep ..."
        )
    return SweepError(f"a worker could not evaluate: {words}; {_KEPT}")


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
