"""How layers, embedding and loss are dealt out to the chunks of a pipeline."""

from dataclasses import dataclass

__all__ = ["Chunk", "deal"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One model chunk: its layers, and whether embedding or loss belong to it."""

    layers: int
    embedding: bool
    loss: bool


def deal(layers: int, chunks: int, *, balanced: bool = True) -> list[Chunk]:
    """Chunks in the order of the model.

    Where layers do not divide evenly, embedding and loss take the place of a layer each if that
    evens it out (126 layers and 2 on 128 chunks); then the loss alone; otherwise the layers that
    are left over go to chunks after the first, one each, so that the ends stay light. Not
    `balanced`, every chunk takes as many as the fullest must, and the last what is left.

    >>> [chunk.layers for chunk in deal(126, 128)][:3]
    [0, 1, 1]
    >>> [chunk.layers for chunk in deal(10, 4)]
    [2, 3, 3, 2]
    """
    if layers % chunks == 0:
        counts = [layers // chunks] * chunks
    elif not balanced:
        full = -(-layers // chunks)
        counts = [max(0, min(full, layers - full * index)) for index in range(chunks)]
    elif (layers + 2) % chunks == 0 and chunks > 1:
        counts = [(layers + 2) // chunks] * chunks
        counts[0] -= 1
        counts[-1] -= 1
    elif (layers + 1) % chunks == 0:
        counts = [(layers + 1) // chunks] * chunks
        counts[-1] -= 1
    else:
        base, extra = divmod(layers, chunks)
        counts = [base + (1 <= index <= extra) for index in range(chunks)]
    return [Chunk(n, i == 0, i == chunks - 1) for i, n in enumerate(counts)]
