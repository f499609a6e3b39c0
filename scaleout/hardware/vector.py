"""Where the packed constants of a matrix product stand, whichever back end times it; and how two times join."""

from scaleout.compiled import compilable

__all__ = [
    "CAP", "CORES", "FREE", "FREE_HBM", "HBM", "IDLE", "KIND", "LAUNCH", "LEFT", "MENU", "NORM", "PARTS", "RESIDENT",
    "RIGHT", "SPLIT", "SPLITS", "SYSTOLIC", "TABLE", "TAIL", "TILE", "TILES", "VECTOR", "VECTOR_LAUNCH", "joined",
]  # fmt: skip

# slots of the vector of `scaleout.hardware.gemm.gemm_vector`
CORES, HBM, LEFT, RIGHT, NORM, LAUNCH, TILE, SPLIT, PARTS = 0, 1, 2, 3, 4, 5, 6, 7, 8
TAIL, IDLE, VECTOR, VECTOR_LAUNCH, RESIDENT, TILES, SPLITS, CAP = 9, 10, 11, 12, 13, 14, 15, 16
FREE, FREE_HBM, KIND, TABLE, MENU = 17, 18, 19, 20, 21

SYSTOLIC = 2.0
"""KIND of systolic arrays; that of tiles is 0. Where KIND is odd, a table of measurements begins at slot TABLE."""


@compilable
def joined(a: float, b: float, norm: float) -> float:
    """Time of two kinds of work that partly hide each other [s]."""
    longest = max(a, b)
    seconds: float = longest * (1.0 + (min(a, b) / longest) ** norm) ** (1.0 / norm)
    return seconds
