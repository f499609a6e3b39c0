"""A whole space of layouts at once: how many are legal, and those that may fit in HBM and be quick enough."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.planning.floor import Floor, Rank, Ranks
from scaleout.planning.layouts import Axes, Cut, Pipe, Point, cuts, legal_micro, pipes, recompute_sets
from scaleout.specs.experiment import LARGEST_STEP

__all__ = ["Survey", "survey"]


@dataclass(slots=True, kw_only=True, eq=False)
class Survey:
    """What became of the layouts of a space.

    Parameters
    ----------
    legal
        All of them, by count.
    crowded, slow
        Those that cannot fit in HBM, and those whose step cannot be quick enough.
    points
        The rest.
    times
        Their least step times [s], shape (points,).
    cut
        Whether it was cut short, so that layouts are left that are in none of these.
    """

    legal: int = 0
    crowded: int = 0
    slow: int = 0
    cut: bool = False
    points: list[Point]
    times: Floats


def survey(floor: Floor, axes: Axes, limit: float = np.inf, enough: Callable[[], bool] | None = None) -> Survey:
    """Bound every legal layout.

    Parameters
    ----------
    limit
        Longest step that is of interest [s].
    enough
        Asked again and again: True cuts it short.
    """
    out = Survey(points=[], times=np.zeros(0))
    sets = axes.recompute or recompute_sets(floor.base)
    found: list[Floats] = []
    for tp, cp, ones in cuts(floor.base, floor.chips, axes):
        table = _Table(floor, ones, limit, all(name in ("1f1b", "interleaved", "gpipe") for name in axes.schedule))
        for pp, dp, ways in pipes(floor.base, tp, cp, floor.chips, axes):
            micros = legal_micro(floor.base, dp, axes)
            if not micros:
                continue
            if enough is not None and enough():
                out.cut = True
                break
            for each in (False, True):
                mine = [way for way in ways if floor.each(way.zero, pp) == each]
                if mine:
                    found += _joined(floor, out, table, micros, dp, sets, mine, each)
    out.times = np.concatenate(found) if found else out.times
    return out


class _Table:
    """Ranks of one tp and cp, worked out where they may be quick enough."""

    def __init__(self, floor: Floor, ones: list[Cut], limit: float, usual: bool) -> None:
        self.floor, self.ones, self.limit, self.usual = floor, ones, limit, usual
        self.counts = np.bincount(floor.layers, minlength=len(floor.kinds)).astype(np.float64)
        self._known: dict[tuple[Cut, bool], Rank | None] = {}

    def rank(self, at: Cut, each: bool) -> Rank | None:
        """None where no pipeline of such ranks is quick enough: no stage has less than the mean."""
        key = at, each
        if key not in self._known:
            self._known[key] = self._quick(at, each)
        return self._known[key]

    def _quick(self, at: Cut, each: bool) -> Rank | None:
        if at.recompute and self.rank(at._replace(recompute=()), each) is None:
            return None
        found = self.floor.rank(at, each)
        work = np.dot(found.layer if self.usual else found.kernels, self.counts) + found.first + found.last
        batch = self.floor.base.batch.global_
        return found if work * batch / at.micro * at.tp * at.cp / self.floor.chips <= self.limit else None


def _joined(
    floor: Floor,
    out: Survey,
    table: _Table,
    micros: list[int],
    dp: int,
    sets: tuple[tuple[str, ...], ...],
    ways: list[Pipe],
    each: bool,
) -> list[Floats]:
    """Times of the layouts of one tp, cp and pp that are left."""
    base = floor.base
    batches = np.array([base.batch.global_ // (dp * micro) for micro in micros])
    chunks = np.array([way.pp * way.vpp for way in ways])
    legal = batches[:, None] * (base.model.layers + chunks[None, :]) <= LARGEST_STEP
    tp, cp = table.ones[0].tp, table.ones[0].cp
    ones = [one for one in table.ones if (tp * cp * dp) % (one.ep * one.etp) == 0]
    here = int(legal.sum()) * len(ones) * len(sets)
    out.legal += here
    each_cut = [
        (number, one._replace(micro=micro, recompute=modules))
        for one in ones
        for number, micro in enumerate(micros)
        if legal[number].any()
        for modules in sets
    ]
    quick = [(number, at, rank) for number, at in each_cut if (rank := table.rank(at, each)) is not None]
    out.slow += here - sum(int(legal[number].sum()) for number, _, _ in quick)
    if not quick:
        return []
    which = np.array([number for number, _, _ in quick])
    shared = np.array([tp * cp * dp // (at.ep * at.etp) for _, at, _ in quick], dtype=np.float64)
    ranks = Ranks([rank for _, _, rank in quick], batches[which].astype(np.float64), shared)
    found = []
    for number, way in enumerate(ways):
        open_: Bools = legal[which, number]
        fits = open_ & (floor.memory(ranks, way, cp * dp) <= base.system.chip.hbm_bytes)
        out.crowded += int(open_.sum() - fits.sum())
        if not fits.any():
            continue
        at: Ints = np.flatnonzero(fits)
        times = floor.times(ranks.some(at), way, tp)
        left = times <= table.limit
        out.slow += int(len(at) - left.sum())
        out.points += [Point(quick[i][1], way) for i in at[left].tolist()]
        found.append(times[left])
    return found
