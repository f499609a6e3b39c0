"""The timeline, in the Chrome trace format that ui.perfetto.dev and chrome://tracing open.

One process a class of ranks, one thread a stream; a counter of its HBM. Times are microseconds
from the beginning of the step.
"""

import json
from collections.abc import Iterator
from itertools import islice

from scaleout.engine.hbm import ledger
from scaleout.engine.program import COMPUTE, RECEIVE, SEND, STREAMS
from scaleout.evaluate.event import Recording
from scaleout.units import describe

__all__ = ["trace_json"]

_MOST_ROWS = 300_000
"""Events of a file of about 25 MB."""


def trace_json(recording: Recording) -> bytes:
    """The timeline as JSON text: of all classes, or of as many as make a file that a viewer can open."""
    rows: list[str] = []
    for cls in range(recording.wiring.classes):
        if cls and len(rows) > _MOST_ROWS:
            break
        rows += islice(_class_rows(recording, cls), _MOST_ROWS)
    return ('{"displayTimeUnit": "ms", "traceEvents": [\n' + ",\n".join(rows) + "\n]}\n").encode()


def _class_rows(recording: Recording, cls: int) -> Iterator[str]:
    job = recording.job
    index = recording.class_program(cls)
    program, times = job.programs[index], recording.timeline.classes[cls]
    title = f"stage {index}: {recording.class_words(cls)}"
    yield _meta("process_name", cls, 0, {"name": title})
    yield _meta("process_sort_index", cls, 0, {"sort_index": cls})
    for stream in sorted(set(program.stream.tolist())):
        yield _meta("thread_name", cls, stream + 1, {"name": STREAMS[stream]})
    if program.marks:
        yield _meta("thread_name", cls, 0, {"name": "micro-batches"})

    labels = [json.dumps(label.name) for label in job.labels]
    messages = [
        json.dumps(f"{m.operation} {describe(m.nbytes, 'byte')}" if m.nbytes else m.operation) for m in job.messages
    ]
    columns = (program.kind, program.stream, program.item, times.arrived, times.started, times.ended)
    for kind, stream, item, arrived, started, ended in zip(*(c.tolist() for c in columns), strict=True):
        name = labels[item] if kind == COMPUTE else messages[item]
        # a message waits for its other end without doing anything; a collective holds its cores
        if arrived < started and kind not in (SEND, RECEIVE):
            yield _slice('"wait for peers"', cls, stream + 1, arrived, started)
        yield _slice(name, cls, stream + 1, started, ended)
    arrived, ended = times.arrived, times.ended
    for mark in program.marks:
        span = slice(mark.first, mark.last + 1)
        computing = program.kind[span] == COMPUTE
        low, high = int(times.started[span][computing].min()), int(ended[span][computing].max())
        yield _slice(json.dumps(mark.name), cls, 0, low, high)
    book = ledger(program, job.static[index], job.memory_kinds, times)
    for when, held in zip(book.time.tolist(), book.held.sum(axis=1).tolist(), strict=True):
        yield f'{{"ph":"C","name":"HBM [GB]","pid":{cls},"ts":{when / 1e6:.3f},"args":{{"held":{held / 1e9:.3f}}}}}'


def _slice(name: str, cls: int, thread: int, start: int, end: int) -> str:
    # whole nanoseconds, so that what follows on one thread does not seem to overlap
    low, high = round(start / 1000), round(end / 1000)
    return f'{{"ph":"X","name":{name},"pid":{cls},"tid":{thread},"ts":{low / 1e3:.3f},"dur":{(high - low) / 1e3:.3f}}}'


def _meta(name: str, cls: int, thread: int, args: dict[str, object]) -> str:
    return json.dumps({"ph": "M", "name": name, "pid": cls, "tid": thread, "args": args})
