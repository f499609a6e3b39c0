"""What a plan found, by two aims against each other: what is drawn of it."""

from typing import TYPE_CHECKING

import numpy as np

from scaleout.planning.plan import Plan
from scaleout.report.html.columns import scale_of, words

if TYPE_CHECKING:
    from scaleout.report.sweep_pareto import ParetoTable

__all__ = ["FIGURE_UNITS", "figure_label", "front_of"]

FIGURE_UNITS = {
    "step_time": "s", "time": "s", "tokens_per_second": "1/s", "mfu": "1", "memory": "byte", "energy": "J",
    "power": "W", "cost": "USD", "rate": "1/s", "ttft_p99": "s", "tpot_p99": "s", "cost_hour": "USD/h",
    "cost_per_mtoken": "USD", "energy_per_token": "J",
}  # fmt: skip
"""Of figures of a candidate."""
_LABELS = {"rate": "requests per second", "memory": "memory of a chip"}
_AIMS = ("time", "cost", "energy", "tpot_p99", "cost_hour", "ttft_p99", "power")
"""Figures of which less is better, those first that are looked at first."""


def figure_label(name: str) -> str:
    """A figure of a candidate, in words."""
    return _LABELS.get(name, words(name))


def front_of(plan: Plan) -> "ParetoTable | None":
    """The best, its runners and the Pareto front by the first two aims in which they differ; None where they do not."""
    from scaleout.report.sweep_pareto import Front, ParetoTable, front
    from scaleout.report.sweep_words import Scale

    rows = list({one.name: one for one in (*([plan.best] if plan.best else []), *plan.runners, *plan.pareto)}.values())
    aims = [name for name in _AIMS if len({one.figures.get(name) for one in rows}) > 1]
    aims = [name for name in aims if all(name in one.figures for one in rows)][:2]
    if len(aims) < 2:
        return None
    x, y = (np.array([one.figures[name] for one in rows], dtype=float) for name in aims)
    least = (True, True)
    on = [int(at) for at in front(x, y, least=least)]
    scales = [scale_of(name, FIGURE_UNITS[name], values) for name, values in zip(aims, (x, y), strict=True)]
    shown = [Scale(figure_label(name), scale.unit, scale.factor) for name, scale in zip(aims, scales, strict=True)]
    line = Front(
        label="", x=tuple(x.tolist()), y=tuple(y.tolist()), front_x=tuple(x[on].tolist()),
        front_y=tuple(y[on].tolist()), points=tuple(rows[at].name for at in on), named=tuple(range(min(len(on), 8))),
    )  # fmt: skip
    return ParetoTable(
        title=f"{figure_label(aims[1])} against {figure_label(aims[0])}", outcomes=(aims[0], aims[1]), x=shown[0],
        y=shown[1], least=least, series=(line,), others=0,
    )  # fmt: skip
