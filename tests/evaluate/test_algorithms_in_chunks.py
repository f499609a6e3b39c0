"""Every algorithm through the chunk engine, on one switch, against its phases alone."""

import numpy as np
import pytest
from chunk_recurrence import crossbar

from scaleout.collectives import ALGORITHMS
from scaleout.evaluate.chunks import Operation, run_operations

NBYTES, LATENCY, BANDWIDTH, CHUNKS = 1.7e9, 3e-6, 50e9, 64
PAIRS = [(name, operation) for name in sorted(ALGORITHMS) for operation in ALGORITHMS[name].operations]
PIPELINED = {"ring", "tree", "sharp", "nvls", "send"}


@pytest.mark.parametrize(("name", "operation"), PAIRS)
def test_an_algorithm_alone_takes_as_long_in_chunks_as_in_phases(name: str, operation: str) -> None:
    for n in [2] if operation == "send" else [2, 3, 6, 8]:
        fabric = crossbar(n, BANDWIDTH, LATENCY)
        schedule = ALGORITHMS[name].schedule(n, operation, chunks=CHUNKS if name in PIPELINED else 1)
        chunks = run_operations(fabric, [Operation(schedule=schedule, ranks=np.arange(n), nbytes=NBYTES)]).ends[0]
        phases = ALGORITHMS[name].pattern(fabric, np.arange(n)[None, :], operation, "wires").alone(fabric, NBYTES)
        # a pipeline fills: at most one piece a hop, of which there are 2 (n - 1)
        fill = 2 * (n - 1) / CHUNKS if name in PIPELINED else 0.0
        assert phases * (1 - 5e-4) <= chunks <= phases * (1 + fill + 1e-9), n
