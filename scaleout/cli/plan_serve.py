"""``scaleout plan serve``: the replicas that keep a promise at a rate for the least."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from scaleout.cli.plan_answer import check_limits, give, quantity
from scaleout.errors import SpecError

__all__ = ["command"]

_MODEL = "Name of a shipped model, or path of a file."


@click.command()
@click.option("--model", required=True, help=_MODEL)
@click.option("--rate", required=True, metavar="N/s", help="Requests that come, such as 50/s or 600/min.")
@click.option("--ttft", metavar="TIME", help="Promised time to the first token, such as 2s. [default: none]")
@click.option("--tpot", metavar="TIME", help="Promised time per token after it, such as 30ms. [default: none]")
@click.option("--latency", metavar="TIME", help="Promised time to the last token. [default: none]")
@click.option("--share", type=float, default=0.99, show_default=True, help="Of the requests that it is promised to.")
@click.option("--input", "prompt", type=float, help="Mean tokens of a prompt. [default: 1000]")
@click.option("--output", "reply", type=float, help="Mean tokens of a reply. [default: 250]")
@click.option("--requests", metavar="NAME|FILE", help="A trace, or a serving experiment whose requests are taken.")
@click.option("--count", type=int, help="Requests of a simulation. [default: as many as last three latencies]")
@click.option(
    "--system", "systems", multiple=True, metavar="NAME", help="May be repeated; all: every one. [default: dgx-h100]"
)
@click.option("--precision", default="bf16,fp8", show_default=True, metavar="A,B,...|all", help="Of the linear layers.")
@click.option("--kv", default="bf16", show_default=True, metavar="A,B,...", help="Dtypes of the KV cache.")
@click.option("--chunk", metavar="N,N,...", help="Tokens of a step. [default: what the engine does]")
@click.option("--engine", default="vllm-0.19", show_default=True, metavar="NAME", help="Serving software.")
@click.option(
    "--pools",
    default="together",
    show_default=True,
    metavar="together|apart|both",
    help="Replicas that do all, or pools for prompts and for replies.",
)
@click.option("--minimise", default="cost", show_default=True, metavar="cost|chips|energy", help="What is to be least.")
@click.option("--facility", default="default", show_default=True, metavar="NAME", help="Where the machine stands.")
@click.option("--max-chips", type=int, help="At most. [default: any]")
@click.option("--max-power", metavar="POWER", help="That the building may draw, such as 100kW. [default: any]")
@click.option("--gap", type=float, default=0.0, show_default=True, help="How far from the optimum is good enough.")
@click.option("--limit", type=float, metavar="SECONDS", help="End the search then, with the gap that is proven so far.")
@click.option("--no-inputs", is_flag=True, help="Leave out what moves the answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (SI units) instead of tables.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for plan.html, plan.json, plan.yaml, launch.sh and a figure."
)
def command(
    model: str,
    rate: str,
    ttft: str | None,
    tpot: str | None,
    latency: str | None,
    share: float,
    prompt: float | None,
    reply: float | None,
    requests: str | None,
    count: int | None,
    systems: tuple[str, ...],
    precision: str,
    kv: str,
    chunk: str | None,
    engine: str,
    pools: str,
    minimise: str,
    facility: str,
    max_chips: int | None,
    max_power: str | None,
    gap: float,
    limit: float | None,
    no_inputs: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Find the replicas that serve a model as promised, for the least cost, chips or energy.

    Every layout that fits is bounded; those that bounds leave are simulated, each with the fewest replicas that keep
    the promise at the rate. `scaleout run plan.yaml` gives the figures again.

    \b
    Examples:
      scaleout plan serve --model llama-3.1-70b --rate 50/s --ttft 2s --tpot 30ms
      scaleout plan serve --model llama-3.1-8b --rate 10/s --ttft 1s --tpot 20ms --system dgx-h100 --system l40s-8
      scaleout plan serve --model llama-3.1-70b --rate 5/s --latency 20s --requests chat-1000 --out results/plan
    """
    check_limits(gap, limit)
    chunks = [None] if chunk is None else [_whole(word) for word in chunk.split(",")]
    from scaleout.planning.serve import plan_serving

    asked = "all" if "all" in systems else systems or "dgx-h100"

    most = quantity("--max-power", max_power, "W")

    def make(told: Callable[[str], None]) -> Any:
        return plan_serving(
            model, rate=rate, ttft=ttft, tpot=tpot, latency=latency, share=share, input=prompt, output=reply,
            requests=requests, count=count, systems=asked, precisions=_words(precision),
            caches=_words(kv), chunks=chunks, engine=engine, pools=pools, minimise=minimise, facility=facility,
            max_chips=max_chips, max_power=most, gap=gap, inputs=not no_inputs, seconds=limit, told=told,
        )  # fmt: skip

    give(make, as_json=as_json, out=out)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise SpecError(f"--chunk: {word[:40]!r} is not a number of tokens; expected 2048,8192") from None
