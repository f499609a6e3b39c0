"""How layers, embedding and loss are dealt out to the chunks of a pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.models import LayerKind

__all__ = ["STATE_BYTES", "Chunk", "Place", "deal", "layers_of"]

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
    """A chunk's place: whether nothing comes before it in the model, and nothing after."""

    chunk: Chunk
    first: bool
    last: bool


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
    ends = np.cumsum(layers_of(len(layers), chunks, float(balanced))).astype(np.int64).tolist()
    starts = [0, *ends[:-1]]
    return [
        Chunk(tuple(layers[low:high]), i == 0, i == chunks - 1)
        for i, (low, high) in enumerate(zip(starts, ends, strict=True))
    ]
