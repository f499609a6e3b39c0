"""Least squares on the logarithm of simulated / measured, with whole combinations of shapes held out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

import numpy as np

from scaleout.arrays import Bools, Floats
from scaleout.errors import ScaleoutError

__all__ = ["Fit", "best_fit", "held_out", "solver", "summary"]

S = TypeVar("S")

_SHARE = 0.3
"""Of the combinations is kept out of the fit."""
_SOFT = 0.05
"""Relative error up to which errors count squared; beyond, they count as they are."""
_GLANCE, _STEPS = 12, 40
"""Steps of a first look at a choice, and of a fit."""
_CHOICES, _STARTS = 4, 3
"""Choices that are looked at again, and from how many other points."""


@dataclass(frozen=True)
class Fit:
    """Constants that fit best.

    Parameters
    ----------
    constants
        A spec with the fitted fields set.
    errors
        Simulated / measured - 1 of every row, fitted or held out [1].
    held
        True for rows that were held out.
    """

    constants: Any
    errors: Floats
    held: Bools

    @property
    def residual(self) -> float:
        """Mean absolute error on the rows held out, or on all where none was [1]."""
        part = self.errors[self.held] if self.held.any() else self.errors
        return float(np.abs(part).mean())


def solver() -> Any:
    """`scipy.optimize.least_squares`.

    Raises
    ------
    ScaleoutError
        scipy is not installed: a simulation does not need it.
    """
    try:
        from scipy.optimize import least_squares  # type: ignore[import-untyped]
    except ImportError:
        raise ScaleoutError("fits need scipy, which is not installed; pip install 'scaleout[dev]' brings it") from None
    return least_squares


def held_out(keys: Iterable[tuple[Any, ...]], seed: int = 0) -> Bools:
    """Mark the rows of 30 % of the distinct keys.

    >>> bool(held_out([(1,), (1,)]).any())
    False
    """
    listed = list(keys)
    distinct = sorted(set(listed))
    order = np.random.default_rng(seed).permutation(len(distinct))
    chosen = {distinct[i] for i in order[: int(len(distinct) * _SHARE)]}
    return np.array([key in chosen for key in listed])


def best_fit(
    start: Any,
    free: Mapping[str, tuple[float, float]],
    choices: Mapping[str, Sequence[Any]],
    predict: Callable[[Any], Floats],
    measured: Floats,
    held: Bools,
) -> Fit:
    """Fit continuous constants for each choice of the others; the smallest mean error on fitted rows wins.

    Parameters
    ----------
    start
        A frozen dataclass of constants.
    free
        Field -> lowest and highest value.
    choices
        Field -> values to try.
    predict
        Constants -> time of every row [s].
    """
    least_squares = solver()
    low, high = (np.log([bounds[side] for bounds in free.values()]) for side in (0, 1))
    logs = np.random.default_rng(0).normal(0.0, 0.7, (_STARTS, len(free)))

    def constants(base: Any, point: Floats) -> Any:
        values = np.clip(np.exp(point), np.exp(low), np.exp(high)).tolist()
        return replace(base, **dict(zip(free, values, strict=True)))

    def search(base: Any, first: Floats, steps: int) -> tuple[float, Floats]:
        def residuals(point: Floats) -> Floats:
            return np.log(predict(constants(base, point))[~held] / measured[~held])

        clipped = np.clip(first, low, high)
        found = least_squares(residuals, clipped, bounds=(low, high), loss="soft_l1", f_scale=_SOFT, max_nfev=steps)
        return float(np.abs(np.expm1(found.fun)).mean()), found.x

    first = np.log([getattr(start, name) for name in free])
    bases = [replace(start, **dict(zip(choices, values, strict=True))) for values in product(*choices.values())]
    tried = [(*search(base, first, _GLANCE), index) for index, base in enumerate(bases)]
    # the surface has steps: the best choices are looked at again from several points
    tried.sort(key=lambda row: (row[0], row[2]))
    again = [
        (*search(bases[index], point + shift, _STEPS), index)
        for _, point, index in tried[:_CHOICES]
        for shift in (0.0 * first, *logs)
    ]
    _, point, index = min([*tried, *again], key=lambda row: (row[0], row[2]))
    best = constants(bases[index], point)
    return Fit(best, predict(best) / measured - 1.0, held)


def summary(errors: Floats) -> str:
    """Rows, mean, median, 90th percentile and bias of errors, in percent."""
    if not len(errors):
        return "no rows"
    size = np.abs(errors) * 100
    return (
        f"n {len(errors):6,}  MAPE {size.mean():5.1f} %  median {np.median(size):5.1f} %  "
        f"p90 {np.percentile(size, 90):5.1f} %  bias {errors.mean() * 100:+5.1f} %"
    )
