"""Who talks to whom: ranks of a layout and their communicators.

Ranks count the tensor-parallel coordinate first, then the data-parallel, then the pipeline
stage: rank = t + tp (d + dp p). Tensor-parallel groups are therefore as close together as
can be, and neighbouring stages farthest apart.
"""

import numpy as np

from scaleout.engine.program import Family
from scaleout.specs import Layout

__all__ = ["families", "stage_of"]


def stage_of(layout: Layout) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Pipeline stage of each rank."""
    return np.repeat(np.arange(layout.pp), layout.tp * layout.dp)


def families(layout: Layout, *, tied_embeddings: bool) -> dict[str, Family]:
    """Communicators of a layout, by name; those of one member are left out.

    ``tp`` and ``dp`` groups; ``pp_forward`` and ``pp_backward``, pairs from each rank to its
    fellow in the next and in the previous stage (round the end too: interleaved schedules pass
    from the last stage to the first); ``dp_copies``, dp groups of a stage and of the one as far from
    the other end, which holds the same chunks where the model is there twice; ``embedding``, first and
    last stage; ``world``.
    """
    grid = np.arange(layout.chips).reshape(layout.pp, layout.dp, layout.tp)
    made = {}
    if layout.tp > 1:
        made["tp"] = Family("tp", "tp", grid.reshape(-1, layout.tp))
    if layout.dp > 1:
        made["dp"] = Family("dp", "dp", grid.transpose(0, 2, 1).reshape(-1, layout.dp))
    if layout.pp > 1:
        if layout.pp % 2 == 0:
            mirrored = np.stack((grid, grid[::-1]), axis=1)[: layout.pp // 2]
            made["dp_copies"] = Family("dp_copies", "dp", mirrored.transpose(0, 3, 1, 2).reshape(-1, 2 * layout.dp))
        following = np.roll(grid, -1, axis=0)
        made["pp_forward"] = Family("pp_forward", "pp", np.column_stack((grid.ravel(), following.ravel())))
        made["pp_backward"] = Family("pp_backward", "pp", np.column_stack((following.ravel(), grid.ravel())))
        if tied_embeddings:
            made["embedding"] = Family("embedding", "dp", np.column_stack((grid[0].ravel(), grid[-1].ravel())))
    if layout.chips > 1:
        made["world"] = Family("world", "dp", grid.reshape(1, -1))
    return made
