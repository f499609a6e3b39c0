"""What a result draws and costs, as tables for the terminal: of training and of serving alike."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.footprint import Cost, Energy, Run
from scaleout.units import describe

__all__ = ["cost_table", "count_words", "energy_table", "footprint_rows", "footprint_tables", "run_table"]

ENERGY_WORDS = {
    "idle": "chips: switched on",
    "compute": "chips: matrix units",
    "vector": "chips: vector units",
    "hbm": "chips: memory",
    "links": "chips: links",
    "nodes": "nodes beside chips",
    "switches": "switches",
    "optics": "optics",
    "cooling": "building: cooling and losses",
}
COST_WORDS = {
    "chips": "chips",
    "nodes": "nodes beside chips",
    "network": "network",
    "building": "building",
    "maintenance": "maintenance",
    "staff": "staff",
    "electricity": "electricity",
    "rent": "rent",
}


def footprint_tables(
    energy: Energy | None,
    cost: Cost | None,
    chips: int,
    what: str,
    made: str,
    kept: float | None = None,
    unit: str = "token",
) -> dict[str, RenderableType]:
    """Tables by title, sentences below them; none for what is not known.

    Parameters
    ----------
    what
        The span in words: "a step", "the run".
    made
        The tokens in words: "trained", "put out".
    kept
        Share of the requests that keep what is promised [1]; None where nothing is.
    unit
        What is made, in place of tokens.
    """
    found: dict[str, RenderableType] = {}
    if energy is not None:
        # sentences stand below the table: in a cell they would be cut where the terminal ends
        told = [Text.from_markup(f"[bold yellow]![/] {escape(line)}") for line in energy.warnings]
        found[f"Energy of {what}"] = Group(energy_table(energy, chips, made, unit), *told)
    if cost is not None:
        used = f"in paid use {cost.utilisation:.0%} of the time, which bears the rest"
        lines = [Text(used, style="dim")] if cost.utilisation < 1.0 else []
        found[f"Cost (facility {cost.facility})"] = Group(cost_table(cost, what, made, kept, unit), *lines)
    return found


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_header=any(columns))
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at else "left", no_wrap=True)
    return table


def energy_table(energy: Energy, chips: int, made: str, unit: str = "token") -> Table:
    """By component; then power of a chip, a node, everything, and energy of a token."""
    table = _grid("component", "energy", "power", "share")
    whole = energy.total or 1.0
    for part, joules in energy.parts.items():
        if joules:
            watts = joules / energy.span if energy.span else 0.0
            words = ENERGY_WORDS.get(part, part)
            table.add_row(escape(words), describe(joules, "J"), describe(watts, "W"), f"{joules / whole:.1%}")
    table.add_row(
        "[bold]sum[/]", f"[bold]{describe(energy.total, 'J')}[/]", f"[bold]{describe(energy.power, 'W')}[/]",
        f"+- {energy.error:.0%}",
    )  # fmt: skip
    table.add_row(
        "[dim]a chip; a node[/]", "", f"{describe(energy.chip_power, 'W')}; {describe(energy.node_power, 'W')}"
    )
    table.add_row("[dim]a chip's share of all[/]", "", describe(energy.power / chips, "W"))
    if energy.tokens:
        table.add_row(f"[dim]a {unit} {made}".rstrip() + "[/]", f"[bold]{describe(energy.per_token, 'J')}[/]")
    if energy.capped:
        table.add_row("[dim]slowed by a power limit[/]", "", "", f"{energy.capped:.0%} of the time")
    return table


def cost_table(cost: Cost, what: str, made: str, kept: float | None = None, unit: str = "token") -> Table:
    """By part; then an hour of a chip, the span, and a million tokens."""
    table = _grid("part", "price", "an hour", "share")
    whole = cost.hour_total or 1.0
    for part in dict.fromkeys((*cost.capex, *cost.hour)):
        price, hour = cost.capex.get(part, 0.0), cost.hour.get(part, 0.0)
        if price or hour:
            table.add_row(
                COST_WORDS.get(part, part),
                describe(price, "USD") if price else "",
                dollars(hour),
                f"{hour / whole:.1%}",
            )
    bought = sum(cost.capex.values())
    table.add_row(
        "[bold]sum[/]", f"[bold]{describe(bought, 'USD')}[/]" if bought else "", f"[bold]{dollars(whole)}[/]",
        f"+- {cost.error:.0%}",
    )  # fmt: skip
    table.add_row("[dim]a chip[/]", "", f"[bold]{dollars(cost.chip_hour)}[/]")
    table.add_row(f"[dim]{what}[/]", dollars(cost.span))
    if cost.per_million_tokens:
        table.add_row(f"[dim]a million {unit}s {made}".rstrip() + "[/]", f"[bold]{dollars(cost.per_million_tokens)}[/]")
        if kept is not None and 0.0 < kept < 1.0:
            words = f"[dim]the same, of requests that keep the promise ({kept:.1%})[/]"
            table.add_row(words, dollars(cost.per_million_tokens / kept))
    return table


def dollars(value: float) -> str:
    """A sum of money with three digits."""
    if 0.0 < abs(value) < 1.0:
        return f"{value:.3g} USD"
    return f"{value:,.2f} USD" if abs(value) < 1e3 else describe(value, "USD")


def count_words(count: float) -> str:
    """A large number in short.

    >>> count_words(1.5e13)
    '15 T'
    """
    unit, size = next((row for row in (("T", 1e12), ("B", 1e9), ("M", 1e6)) if count >= row[1]), ("", 1.0))
    return f"{count / size:.4g} {unit}".strip()


def run_table(run: Run) -> Table:
    """A whole training: time, energy, cost."""
    table = _grid("", "", "")
    band = run.error
    lost = f", goodput {run.goodput:.0%}" if run.goodput < 1.0 else ""
    rows: Mapping[str, tuple[str, str]] = {
        "tokens": (count_words(run.tokens), f"{run.steps:,.0f} steps{lost}"),
        "time": (f"[bold]{_short(run.time / 86_400)} days[/]", f"+- {band['time']:.0%}"),
        "chip hours": (count_words(run.chip_hours), ""),
    }
    if run.energy is not None:
        rows = {**rows, "energy": (f"[bold]{_short(run.energy / 3.6e9)} MWh[/]", f"+- {band['energy']:.0%}")}
    if run.cost is not None:
        rows = {**rows, "cost": (f"[bold]{describe(run.cost, 'USD')}[/]", f"+- {band['cost']:.0%}")}
    for name, (value, beside) in rows.items():
        table.add_row(f"[dim]{name}[/]", value, beside)
    return table


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 1e3 else f"{value:.3g}"


def footprint_rows(energy: Energy | None, cost: Cost | None) -> dict[str, tuple[float, str]]:
    """Headline figures with their text, to be put side by side."""
    found = {}
    if energy is not None:
        found["power, with the building"] = (energy.power, describe(energy.power, "W"))
        found["energy of a token"] = (energy.per_token, describe(energy.per_token, "J"))
    if cost is not None:
        found["an hour of a chip"] = (cost.chip_hour, dollars(cost.chip_hour))
        found["a million tokens"] = (cost.per_million_tokens, dollars(cost.per_million_tokens))
    return found
