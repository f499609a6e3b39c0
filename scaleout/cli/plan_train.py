"""``scaleout plan train``: the best machine and layout for a training, proven within a gap."""

from pathlib import Path
from typing import Any

import click

from scaleout.cli.footprint import parse_tokens
from scaleout.cli.plan_answer import check_limits, give, quantity
from scaleout.errors import SpecError, near

__all__ = ["command"]

_AXES = ("tp", "cp", "pp", "vpp", "ep", "etp", "micro", "zero", "sequence_parallel", "context", "schedule", "recompute")
_CONTEXTS = ("ring", "all_gather", "all_to_all")


@click.command()
@click.option("--model", required=True, help="Name of a shipped model, or path of a file.")
@click.option("--tokens", required=True, help="To be trained on, such as 15T.")
@click.option("--days", type=float, help="In which the training has to end. [default: any time]")
@click.option("--max-power", metavar="POWER", help="That the building may draw, such as 25MW. [default: any]")
@click.option("--max-cost", metavar="USD", help="Of the whole training, such as 60MUSD. [default: any]")
@click.option(
    "--system", "systems", multiple=True, metavar="NAME", help="Of the machine; may be repeated; all: every one."
)
@click.option("--chips", default="auto", show_default=True, metavar="N,N,...|auto", help="Numbers of chips to try.")
@click.option("--sequence", type=int, help="Tokens of a sequence. [default: 8192, or what the model has learned]")
@click.option("--batch", metavar="N", help="Sequences of a step; tokens with a unit, such as 16M. [default: as usual]")
@click.option("--stack", metavar="NAME", help="Training framework. [default: megatron-lm-2024]")
@click.option("--facility", default="default", show_default=True, metavar="NAME", help="Where the machine stands.")
@click.option("--precision", default="bf16", show_default=True, help="Recipe of the linear layers.")
@click.option("--minimise", help="time, cost, energy or chips. [default: time with --chips, otherwise cost]")
@click.option("--goodput", type=float, help="Share of the time that is not lost. [default: 0.9]")
@click.option("--gap", type=float, default=0.02, show_default=True, help="How far from the optimum is good enough.")
@click.option(
    "--only", multiple=True, metavar="AXIS=A,B,...", help="Go through these values alone, such as zero=0,1; repeatable."
)
@click.option("--limit", type=float, metavar="SECONDS", help="End the search then, with the gap that is proven so far.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (SI units) instead of tables.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for plan.html, plan.json, plan.yaml, launch.sh and a figure."
)
def command(
    model: str,
    tokens: str,
    days: float | None,
    max_power: str | None,
    max_cost: str | None,
    systems: tuple[str, ...],
    chips: str,
    sequence: int | None,
    batch: str | None,
    stack: str | None,
    facility: str,
    precision: str,
    minimise: str | None,
    goodput: float | None,
    gap: float,
    only: tuple[str, ...],
    limit: float | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Find the machine and the layout that train a model best.

    Every legal layout is bounded; those that bounds leave are simulated, until the best is proven within --gap.

    \b
    Examples:
      scaleout plan train --model llama-3.1-405b --tokens 15T --days 60 --max-power 25MW
      scaleout plan train --model llama-3.1-8b --tokens 1T --chips 64,128 --only zero=0,1 --out results/plan
      scaleout plan train --model mixtral-8x7b --tokens 2T --system dgx-h100 --system dgx-b200 --days 30
    """
    check_limits(gap, limit)
    asked: dict[str, Any] = {
        "tokens": parse_tokens(tokens),
        "days": days,
        "max_power": quantity("--max-power", max_power, "W"),
        "max_cost": quantity("--max-cost", max_cost, "USD"),
        "system": "all" if "all" in systems else list(systems) or "dgx-h100",
        "chips": _chips(chips),
        "sequence": sequence,
        "batch": None if batch is None else _batch(batch),
        "stack": stack,
        "facility": facility,
        "precision": precision,
        "minimise": minimise,
        "goodput": goodput,
        "gap": gap,
        "axes": _axes(only),
    }
    from scaleout.planning.train import plan_training

    give(lambda told: plan_training(model, **asked, seconds=limit, told=told), as_json=as_json, out=out)


def _chips(text: str) -> str | list[int]:
    if text.strip() == "auto":
        return "auto"
    return [_whole("--chips", word) for word in text.split(",")]


def _whole(option: str, word: str) -> int:
    try:
        return int(word.strip().replace("_", ""))
    except ValueError:
        raise SpecError(f"{option}: {word.strip()[:40]!r} is not a whole number") from None


def _batch(text: str) -> int | str:
    """Sequences, or tokens as they are written."""
    word = text.strip().replace("_", "")
    return int(word) if word.isdigit() else word


def _axes(only: tuple[str, ...]) -> Any:
    """Axes from ``AXIS=A,B``; modules that are recomputed together are joined by +."""
    from scaleout.planning.layouts import Axes

    found: dict[str, tuple[Any, ...]] = {}
    for item in only:
        name, equals, text = item.partition("=")
        name = name.strip()
        if not equals or not text.strip():
            raise SpecError(f"--only {item[:60]!r}: expected AXIS=A,B, such as zero=0,1")
        if name not in _AXES:
            raise SpecError(f"--only: {name[:40]!r} is no axis; {near(name, _AXES)}")
        found[name] = tuple(_value(name, word.strip()) for word in text.split(","))
    return Axes(**found)


def _value(name: str, word: str) -> Any:
    if name == "recompute":
        return () if word == "none" else tuple(word.split("+"))
    if name == "schedule":
        return word
    if name == "context":
        if word not in _CONTEXTS:
            raise SpecError(f"--only context: {word[:40]!r} is unknown; {near(word, _CONTEXTS)}")
        return word
    if name == "sequence_parallel":
        if word not in ("true", "false"):
            raise SpecError(f"--only sequence_parallel: {word[:40]!r} is not accepted; expected true or false")
        return word == "true"
    value = _whole(f"--only {name}", word)
    if value < (name != "zero") or (name == "zero" and value > 3):
        raise SpecError(
            f"--only {name}: {value} is not accepted; expected {'0 to 3' if name == 'zero' else '1 or more'}"
        )
    return value
