"""A pipeline schedule of one's own is one generator of passes.

GPipe with its backward passes split: weight gradients come where the stage would wait for the next gradient.
"""

import scaleout
from scaleout import Pass


def split_gpipe(stage, stages, chunks, micro_batches):
    """All forward passes, then input gradients, each with the weight gradient of one before it."""
    yield from (Pass("F", m) for m in range(micro_batches))
    for m in range(micro_batches):
        yield Pass("I", m)
        if m >= stage:
            yield Pass("W", m - stage)
    yield from (Pass("W", m) for m in range(max(0, micro_batches - stage), micro_batches))


scaleout.register_schedule("split-gpipe", split_gpipe, chunks=1)
for name in ("gpipe", "split-gpipe"):
    layout = ("layout.pp=8", "layout.dp=64", "batch.global=512", f"layout.schedule={name}")
    result = scaleout.simulate(scaleout.experiment("llama-3.1-8b-1k", layout))
    print(f"{name}: {result.step_time:.3f} s a step, {result.breakdown['bubble']:.3f} s of it bubble")
