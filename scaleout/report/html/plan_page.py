"""A plan as one page: the answer and how surely it is the best, what else was close, how to start it."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from scaleout.io.yaml import as_yaml
from scaleout.planning.plan import OBJECTIVES, Candidate, Plan
from scaleout.report.html.columns import Scale, scale_of, setting_words, words
from scaleout.report.html.layout import Drawn, assumption_list, code_block, contents, document, figure, pairs, table
from scaleout.report.html.markup import Html, element, join
from scaleout.report.plan_front import FIGURE_UNITS, figure_label, front_of
from scaleout.specs.fields import plain

__all__ = ["plan_page"]

_MOST = 100


def plan_page(plan: Plan, *, title: str | None = None) -> bytes:
    """One page of HTML that needs no other file and no network; equal plans give equal bytes.

    Parameters
    ----------
    title
        On top of it; None for the name of the plan.
    """
    scale = _objective_scale(plan)
    parts = {
        "answer": ("Answer", _answer(plan)),
        "why": ("Why it wins", _lines(plan.why)),
        "space": ("How surely", _space(plan)),
        "runners": ("What else was close", _runners(plan, scale)),
        "pareto": ("Other aims", join([_front(plan), _pareto(plan)])),
        "inputs": ("What moves the answer", _inputs(plan)),
        "launch": ("How to start it", join(_launch(plan))),
        "problems": ("What was left out", _lines(plan.problems)),
        "assumptions": ("What it rests on", _rests(plan)),
        "question": ("What was asked", _question(plan)),
    }
    name = title or plan.name
    return document(name, contents(name, _sentence(plan, scale), parts), script=False)


def _objective_scale(plan: Plan) -> Scale:
    shown = [one.value for one in ([plan.best] if plan.best else []) + list(plan.runners)]
    return scale_of(plan.objective, plan.unit, np.array(shown, dtype=float))


def _sentence(plan: Plan, scale: Scale) -> str:
    best = plan.best
    if best is None:
        return f"Nothing in this space does it: {'; '.join(plan.problems) or 'no reason is known'}."
    sure = (
        "the least of the whole space, proven" if plan.gap == 0.0 else f"at most {_percent(plan.gap)} above the least"
    )
    return (
        f"{best.name}: the {OBJECTIVES[plan.objective]} is {scale.words(best.value)} ± {_percent(best.error)}, {sure}."
    )


def _percent(value: float) -> str:
    share = 100.0 * value
    return f"{share:,.0f}\u00a0%" if abs(share) >= 99.5 else f"{share:.2g}\u00a0%"


def _answer(plan: Plan) -> Html:
    best = plan.best
    if best is None:
        return Html("")
    rows = [("system", best.system), ("chips", f"{best.chips:,}")]
    rows += [(name, _text(value)) for name, value in best.layout.items() if name not in ("system", "chips")]
    parts = [pairs(rows, "pairs keys"), element("h3", "What comes out"), pairs(_figures(best))]
    if best.parts:
        whole = sum(best.parts.values()) or 1.0
        shares = [(words(name), _percent(value / whole)) for name, value in best.parts.items() if value]
        parts += [element("h3", "Where the time of a step goes"), pairs(shares)]
    return join(parts)


def _figures(one: Candidate) -> list[tuple[str, str]]:
    return [(figure_label(name), _figure(name, value)) for name, value in one.figures.items()]


def _figure(name: str, value: float) -> str:
    return scale_of(name, FIGURE_UNITS.get(name, ""), np.array([value], dtype=float)).words(value)


def _lines(lines: Iterable[str]) -> Html:
    items = [element("li", line) for line in lines]
    return element("ul", *items) if items else Html("")


def _space(plan: Plan) -> Html:
    rows = [(name, f"{many:,}") for name, many in plan.covered.items()]
    proof = (
        "No way in the space is better: each was simulated, or a bound shows that it cannot be."
        if plan.gap == 0.0
        else f"Bounds leave room for one that is better by at most {_percent(plan.gap)}."
    )
    kept = [element("p", proof)] if plan.best is not None else []
    return join([*kept, pairs([("the whole space", f"{sum(plan.covered.values()):,}"), *rows])])


def _candidates(label: str, rows: Sequence[Candidate], names: Sequence[str], extra: Sequence[str], cells: Any) -> Html:
    """Candidates by row, with figures of all of them and more in front."""
    scales = {
        name: scale_of(name, FIGURE_UNITS.get(name, ""), np.array([one.figures.get(name, np.nan) for one in rows]))
        for name in names
    }
    heads = [*((name, True) for name in extra), ("what", False), ("chips", True)]
    units = {name: f" [{scale.unit}]" if scale.unit else "" for name, scale in scales.items()}
    heads += [(f"{figure_label(name)}{units[name]}", True) for name in names]
    parts = [one.name.split(", ") for one in rows]
    # what all begin with is in the answer
    alike = [len(set(column)) == 1 for column in zip(*(words[:-1] for words in parts), strict=False)]
    shared = (*alike, False).index(False) if len(parts) > 1 else 0
    found = []
    for at, one in enumerate(rows):
        figures = [
            Scale("", scales[name].factor).words(one.figures[name]) if name in one.figures else "" for name in names
        ]
        found.append((*cells(at, one), ", ".join(parts[at][shared:]), f"{one.chips:,}", *figures))
    return table(label, heads, found)


def _names(rows: Iterable[Candidate]) -> list[str]:
    return list(dict.fromkeys(name for one in rows for name in one.figures))


def _runners(plan: Plan, scale: Scale) -> Html:
    if plan.best is None or not plan.runners:
        return Html("")
    best, rows = plan.best, [plan.best, *plan.runners][:_MOST]
    ties = {*plan.ties}

    def cells(at: int, one: Candidate) -> tuple[str, ...]:
        above = "the best" if at == 0 else f"+{_percent(one.value / best.value - 1.0)}" if best.value else ""
        return (scale.words(one.value), f"± {_percent(one.error)}", f"{above}, a tie" if one.name in ties else above)

    tied = len(plan.ties)
    note = (
        f"{tied} of them cannot be told apart from the best within the error bands: a tie."
        if tied
        else "None of them is a tie."
    )
    extra = (OBJECTIVES[plan.objective], "error", "above the best")
    names = [name for name in _names(rows) if name != plan.objective]
    return join([element("p", note), _candidates("the next best", rows, names, extra, cells)])


def _front(plan: Plan) -> Html:
    """Two aims against each other, where candidates differ in two."""
    found = front_of(plan)
    if found is None:
        return Html("")
    from scaleout.report.style import render_as
    from scaleout.report.sweep_pareto import draw_sweep_pareto

    svg = render_as(draw_sweep_pareto(found), "svg")
    caption = "Each dot is one of those below or above; the line joins those that no other beats in both."
    return figure(Drawn(title=found.title, caption=caption, svg=svg), 1)


def _pareto(plan: Plan) -> Html:
    if not plan.pareto:
        return Html("")
    words_ = "Of all that were simulated, no other is at least as good as one of these in time, cost, energy and chips."
    rows = plan.pareto[:_MOST]
    return join([element("p", words_), _candidates("Pareto front", rows, _names(rows), (), lambda at, one: ())])


def _inputs(plan: Plan) -> Html:
    if not plan.inputs:
        return Html("")
    rows = [
        (one.words, f"{100.0 * one.change:+.2g}\u00a0%", "yes" if one.moves else "no") for one in plan.inputs[:_MOST]
    ]
    heads = (
        ("a tenth more of", False),
        (f"changes the {OBJECTIVES[plan.objective]} by", True),
        ("another is best", False),
    )
    return table("what moves the answer", heads, rows)


def _launch(plan: Plan) -> list[Html]:
    parts = []
    for name, text in plan.launch.items():
        parts += [element("h3", name), code_block(text, f"how to start it: {name}")]
    if plan.best is not None and plan.best.settings:
        chosen = "\n".join(plan.best.settings)
        parts += [element("h3", "Settings of the experiment"), code_block(chosen, "settings of the best")]
    return parts


def _rests(plan: Plan) -> Html:
    parts = []
    if plan.warnings:
        parts += [element("h3", "Beyond what was calibrated"), _lines(plan.warnings)]
    if plan.assumed:
        parts += [element("h3", "Assumed, since nobody said"), assumption_list(plan.assumed)]
    if plan.assumptions:
        parts += [element("h3", "Assumptions and their sources"), assumption_list(plan.assumptions)]
    return join(parts)


def _question(plan: Plan) -> Html:
    rows = [(name.replace("_", " "), _text(value)) for name, value in plan.question.items() if value is not None]
    experiment = as_yaml(json.loads(json.dumps(plain(plan.experiment), default=str)))
    return join(
        [
            pairs(rows),
            element("h3", "The experiment that each of them changes"),
            code_block(experiment, "the experiment as YAML"),
        ]
    )


def _text(value: Any) -> str:
    """A value of the question, in words."""
    if isinstance(value, list | tuple):
        return ", ".join(_text(one) for one in value) or "none"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) or not value.is_integer() else f"{int(value):,}"
    return setting_words(json.loads(json.dumps(plain(value), default=str)))
