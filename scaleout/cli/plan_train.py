"""``scaleout plan train``: the best machine and layout for a training, proven within a gap."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from scaleout.cli.footprint import parse_tokens
from scaleout.errors import SpecError, near
from scaleout.report.files import output_folder, write_all
from scaleout.units import parse

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
@click.option("--goodput", type=float, default=0.9, show_default=True, help="Share of the time that is not lost.")
@click.option("--gap", type=float, default=0.02, show_default=True, help="How far from the optimum is good enough.")
@click.option(
    "--only", multiple=True, metavar="AXIS=A,B,...", help="Go through these values alone, such as zero=0,1; repeatable."
)
@click.option("--limit", type=float, metavar="SECONDS", help="End the search then, with the gap that is proven so far.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (SI units) instead of tables.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for plan.json, plan.yaml and launch.sh.")
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
    goodput: float,
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
    if limit is not None and not limit > 0:
        raise SpecError(f"--limit: {limit:g} is not accepted; expected seconds above 0")
    asked: dict[str, Any] = {
        "tokens": parse_tokens(tokens),
        "days": days,
        "max_power": None if max_power is None else parse(max_power, "W"),
        "max_cost": None if max_cost is None else parse(max_cost, "USD"),
        "system": "all" if "all" in systems else list(systems) or "dgx-h100",
        "chips": _chips(chips),
        "sequence": sequence,
        "batch": None if batch is None else _batch(batch, sequence),
        "stack": stack,
        "facility": facility,
        "precision": precision,
        "minimise": minimise,
        "goodput": goodput,
        "gap": gap,
        "axes": _axes(only),
    }
    from scaleout.planning.train import plan_training

    end = time.monotonic() + limit if limit is not None else None
    enough = None if end is None else lambda: time.monotonic() > end
    with output_folder(out) if out is not None else nullcontext():
        with _told() as told:
            plan = plan_training(model, **asked, enough=enough, told=told)
        written = write_all(out, _files(plan)) if out is not None else []
    if as_json:
        click.echo(plan.to_json())
    else:
        from rich.console import Console

        from scaleout.report.plan_table import plan_tables

        console = Console(highlight=False)
        console.print(plan_tables(plan))
        for kind, text in plan.launch.items():
            # as it is, whatever the width: to be pasted
            click.echo(f"\nStart it with {kind}:\n{text}")
        for path in written:
            click.echo(f"wrote {path}")
    if plan.best is None:
        raise SystemExit(1)


@contextmanager
def _told() -> Iterator[Callable[[str], None]]:
    """Somebody who says how far the search is, on the error stream, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda words: None
        return
    from rich.console import Console

    with Console(stderr=True).status("planning") as status:
        yield status.update


def _chips(text: str) -> str | list[int]:
    if text.strip() == "auto":
        return "auto"
    return [_whole("--chips", word) for word in text.split(",")]


def _whole(option: str, word: str) -> int:
    try:
        return int(word.strip().replace("_", ""))
    except ValueError:
        raise SpecError(f"{option}: {word.strip()[:40]!r} is not a whole number") from None


def _batch(text: str, sequence: int | None) -> int:
    """Sequences, from a number of them or of tokens."""
    if text.strip().replace("_", "").isdigit():
        return int(text.strip().replace("_", ""))
    tokens = parse_tokens(text)
    return max(1, round(tokens / (sequence or 8192)))


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
    return _whole(f"--only {name}", word)


def _files(plan: Any) -> dict[str, bytes]:
    """What is written, by file name."""
    from scaleout.io.yaml import as_yaml
    from scaleout.specs.fields import plain

    found = {"plan.json": plan.to_json() + "\n"}
    if plan.best is not None:
        found["plan.yaml"] = as_yaml(plain(plan.experiment))
        found["launch.sh"] = plan.launch["torchrun"]
    return {name: text.encode() for name, text in found.items()}
