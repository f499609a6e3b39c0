"""All forms, and which of them a file has."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from scaleout.errors import MeasurementError, near
from scaleout.io.requests import azure, bench, burstgpt, llmservingsim, mooncake, own, splitwise, vidur
from scaleout.io.requests.form import CsvForm, JsonForm

__all__ = ["FORMS", "check_columns", "detect"]

FORMS: dict[str, CsvForm | JsonForm] = {
    module.FORM.name: module.FORM
    for module in (own, azure, mooncake, vidur, splitwise, llmservingsim, burstgpt, bench)
}  # fmt: skip


def detect(columns: Sequence[str], kind: type[CsvForm] | type[JsonForm]) -> CsvForm | JsonForm:
    """The form whose columns these are.

    Raises
    ------
    MeasurementError
        None has them; the message speaks of the nearest.
    """
    forms = [form for form in FORMS.values() if isinstance(form, kind)]
    for form in forms:
        if set(form.columns) <= set(columns):
            return form
    likeness = {form.name: _like(form.columns, columns) for form in forms}
    best = max(forms, key=lambda form: likeness[form.name])
    if likeness[best.name]:
        raise MeasurementError(f"line 1: {_missing(best, columns)}")
    known = "; ".join(f"{form.name}: {', '.join(form.columns)}" for form in forms)
    raise MeasurementError(f"line 1: {_listed(columns)} are of no form of requests; known are {known}")


def check_columns(form: CsvForm | JsonForm, columns: Sequence[str]) -> None:
    """Refuse a header that lacks a column of a form, has one twice, or one that the form does not know."""
    mistakes = [f"column {name!r} is there twice" for name in sorted(set(columns)) if columns.count(name) > 1]
    if not set(form.columns) <= set(columns):
        mistakes.append(_missing(form, columns))
    if form.known is not None:
        known = (*form.columns, *form.known)
        mistakes += [f"unknown column {name[:40]!r}; {near(name, known)}" for name in columns if name not in known]
    if mistakes:
        raise MeasurementError(f"line 1: {'; '.join(mistakes[:5])}")


def _like(wanted: Iterable[str], columns: Sequence[str]) -> int:
    """How much a header looks like that of a form: 2 for a column that it has, 1 for one that is near."""
    shown = [column[:60] for column in columns[:100]]
    return sum(2 if name in columns else bool(get_close_matches(name, shown, cutoff=0.8)) for name in wanted)


def _missing(form: CsvForm | JsonForm, columns: Sequence[str]) -> str:
    what = "key" if isinstance(form, JsonForm) else "column"
    missing = [name for name in form.columns if name not in columns]
    return f"{what} {missing[0]!r} of form {form.name!r} is missing; {near(missing[0], [c[:40] for c in columns[:30]])}"


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in columns[:8])
    return f"the columns {shown}{' and more' if len(columns) > 8 else ''}"
