"""How layers, embedding and loss are dealt out to the chunks of a pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.errors import PlanError
from scaleout.models import LayerKind, layer_kinds
from scaleout.specs import TrainingExperiment

__all__ = ["STATE_BYTES", "Chunk", "Place", "chunks_of", "deal", "layers_of"]

STATE_BYTES = 12.0
"""Adam in fp32: master weight, mean and variance [byte per parameter]."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One model chunk: the kinds of its layers, and whether embedding or loss belong to it."""

    kinds: tuple[LayerKind, ...]
    embedding: bool
    loss: bool

    @property
    def layers(self) -> int:
        """How many layers."""
        return len(self.kinds)


@dataclass(frozen=True, slots=True)
class Place:
    """A chunk's place.

    Parameters
    ----------
    first, last
        Whether nothing comes before it in the model, and nothing after.
    came, goes
        Which way its input comes and its output goes forward: 1 from stage to next stage, -1 back, 0
        where no message is needed.
    """

    chunk: Chunk
    first: bool
    last: bool
    came: int = 0
    goes: int = 0


@compilable
def layers_of(layers: int, chunks: int, balanced: float) -> Floats:
    """Layers of every chunk, in the order of the model; see `deal`."""
    counts = np.zeros(chunks)
    if layers % chunks == 0:
        counts[:] = layers // chunks
    elif balanced == 0.0 and layers + 2 > chunks:
        full = (layers + chunks - 1) // chunks
        greedy = full * (chunks - 1) < layers
        for index in range(chunks):
            if greedy:
                counts[index] = min(full, layers - full * index)
            else:
                counts[index] = layers // chunks + (1 if index < layers % chunks else 0)
    elif (layers + 2) % chunks == 0 and chunks > 1:
        counts[:] = (layers + 2) // chunks
        counts[0] -= 1
        counts[-1] -= 1
    elif (layers + 1) % chunks == 0:
        counts[:] = (layers + 1) // chunks
        counts[-1] -= 1
    else:
        counts[:] = layers // chunks
        for index in range(1, layers % chunks + 1):
            counts[index] += 1
    return counts


def chunks_of(experiment: TrainingExperiment) -> list[Chunk]:
    """The chunks of an experiment's model, in its order: as its layout says, or dealt out.

    Raises
    ------
    PlanError
        `layout.chunks` does not fit the model or the stages.
    """
    layout, kinds = experiment.layout, layer_kinds(experiment.model)
    count = layout.pp * layout.vpp
    if layout.chunks is None:
        return deal(kinds, count, balanced=experiment.stack.stages == "balanced")
    given = f"layout.chunks: {', '.join(map(str, layout.chunks))}"
    if len(layout.chunks) != count:
        raise PlanError(f"{given}: {len(layout.chunks)} chunks; accepted: pp {layout.pp} x vpp {layout.vpp} = {count}")
    if sum(layout.chunks) != len(kinds):
        raise PlanError(f"{given}: {sum(layout.chunks)} layers; {experiment.model.name} has {len(kinds)}")
    if 0 in layout.chunks[1:-1]:
        raise PlanError(f"{given}: chunk {layout.chunks.index(0, 1)} is empty; only the ends may be without a layer")
    return _cut(kinds, layout.chunks)


def deal(layers: Sequence[LayerKind], chunks: int, *, balanced: bool = True) -> list[Chunk]:
    """Chunks in the order of the model.

    Where layers do not divide evenly, embedding and loss take the place of a layer each if that
    evens it out (126 layers and 2 on 128 chunks); then the loss alone; otherwise the layers that
    are left over go to chunks after the first, one each, so that the ends stay light. Not
    `balanced`, every chunk takes as many as the fullest must, and the last what is left (if
    anything is; otherwise the first chunks take one more). Only the ends may be without a layer.

    >>> [chunk.layers for chunk in deal([LayerKind()] * 126, 128)][:3]
    [0, 1, 1]
    >>> [chunk.layers for chunk in deal([LayerKind()] * 10, 4)]
    [2, 3, 3, 2]
    >>> [chunk.layers for chunk in deal([LayerKind()] * 10, 4, balanced=False)]
    [3, 3, 3, 1]
    """
    return _cut(layers, layers_of(len(layers), chunks, float(balanced)).astype(np.int64).tolist())


def _cut(layers: Sequence[LayerKind], counts: Sequence[int]) -> list[Chunk]:
    """Chunks of so many layers each."""
    ends = list(accumulate(counts))
    return [
        Chunk(tuple(layers[end - count : end]), i == 0, i == len(counts) - 1)
        for i, (count, end) in enumerate(zip(counts, ends, strict=True))
    ]
