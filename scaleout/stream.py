"""The facade of streams with deadlines: an experiment in, a frozen result out."""

from dataclasses import replace

from scaleout.errors import SpecError
from scaleout.evaluate.stream_times import stage_times
from scaleout.evaluate.streams import memory_of, summarise_streams
from scaleout.hardware.power import throttled
from scaleout.serving.streams import Pieces, Streams
from scaleout.specs import StreamExperiment
from scaleout.streamed import StreamResult

__all__ = ["record_stream", "run_stream"]


def run_stream(experiment: StreamExperiment) -> StreamResult:
    """Simulate streams: latencies of their items, deadlines that are missed, what keeps the chips busy.

    Raises
    ------
    PlanError
        Stages do not fit in the memory of their chip.
    SpecError
        The chip has no rate or no constants for a precision or for attention.
    """
    return record_stream(experiment)[0]


def record_stream(experiment: StreamExperiment) -> tuple[StreamResult, Streams]:
    """The same, and all that happened, for figures."""
    if not isinstance(experiment, StreamExperiment):
        raise SpecError(f"{experiment!r:.80} is no experiment with streams; make one with scaleout.stream_experiment()")
    chip = throttled(experiment.system.chip)
    if chip is not experiment.system.chip:
        experiment = replace(experiment, system=replace(experiment.system, chip=chip))
    times = stage_times(experiment)
    memory = memory_of(experiment, times)

    def pieces(stage: int, items: int) -> Pieces:
        return times[stage].pieces(items)

    streams = Streams(experiment, pieces, _moves(experiment))
    streams.run()
    return summarise_streams(experiment, streams, times, memory), streams


def _moves(experiment: StreamExperiment) -> dict[tuple[int, int], float]:
    """From each stage to those that wait for it: nothing on one chip, else over a link of the node [s]."""
    link = experiment.system.scale_up
    number = {stage.name: at for at, stage in enumerate(experiment.stages)}
    found = {}
    for at, stage in enumerate(experiment.stages):
        for name in stage.after:
            before = experiment.stages[number[name]]
            apart = before.chip != stage.chip
            found[number[name], at] = (
                link.latency + before.output / (link.bandwidth * link.efficiency) if apart else 0.0
            )
    return found
