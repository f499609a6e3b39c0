"""``scaleout show``: what is known, and what stands behind a name."""

import json
from pathlib import Path
from typing import Any

import click

from scaleout.errors import SpecError, near
from scaleout.io.catalogue import FOLDERS, find, list_names, load, read, summary
from scaleout.io.yaml import read_mapping
from scaleout.models import parameters
from scaleout.models.nets import flops, net_parameters, operators
from scaleout.specs import Chip, Model, Net
from scaleout.specs.fields import plain
from scaleout.units import describe

__all__ = ["command"]

_LISTS = {
    "chips": ("chip",),
    "systems": ("system",),
    "facilities": ("facility",),
    "models": ("model",),
    "stacks": ("stack",),
    "engines": ("engine",),
    "nets": ("net",),
    "experiments": ("training", "serving", "inference", "stream"),
    "sweeps": ("sweep",),
}


@click.command()
@click.argument("what")
@click.argument("name", required=False)
@click.option("--nodes", type=click.IntRange(1), help="With topology: nodes of a system. [default: 1]")
@click.option("--chips", type=click.IntRange(1), help="With topology: chips of a system, in place of --nodes.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value="topology.png",
    metavar="[FILE]",
    help="With topology: draw it into a .png or .svg file. [default: topology.png]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    what: str, name: str | None, nodes: int | None, chips: int | None, plot: Path | None, as_json: bool
) -> None:
    """List what there is, or print what WHAT, a name, stands for.

    Lists: chips, systems, facilities, models, nets, stacks and engines (software of training and of serving),
    experiments, sweeps, topologies.

    topology NAME prints counts, degrees, distances and bisection of a system, or of a topology by name or
    path (.yaml, .graphml, .json, .xml, .txt; docs/graphs.md), and draws it.

    A name may be the path of a model's config.json from Hugging Face: it is printed as a model file.

    \b
    Examples:
      scaleout show chips
      scaleout show dgx-h100
      scaleout show topology dgx-h100 --nodes 4 --plot dgx-h100.png
      scaleout show llama-3.1-70b --json
      scaleout show downloads/my-model/config.json > my-model.yaml
    """
    if what in ("topology", "topologies"):
        from scaleout.cli.topology import list_topologies, show_topology

        if name is None:
            list_topologies(as_json)
        else:
            show_topology(name, nodes, chips, None if plot is None else Path(plot), as_json)
        return
    for option, value in {"NAME": name, "--nodes": nodes, "--chips": chips, "--plot": plot}.items():
        if value is not None:
            raise SpecError(f"{option} {value}: goes with scaleout show topology, not with {what!r:.60}")
    if what in _LISTS:
        _list(_LISTS[what], as_json)
        return
    config = what.lower().endswith(".json")
    kinds = ["model"] if config else [kind for kind in FOLDERS if what in list_names(kind)]
    if not kinds:
        names = [name for kind in FOLDERS for name in list_names(kind)]
        raise SpecError(f"nothing is called {what!r}; {near(what, [*names, *_LISTS, 'topology'])}")
    for kind in kinds:
        _one(kind, what, as_json)


def _list(kinds: tuple[str, ...], as_json: bool) -> None:
    rows = [(kind, _count(row) if kind == "model" else row) for kind in kinds for row in summary(kind)]
    if as_json:
        click.echo(json.dumps([row for _, row in rows], indent=2))
        return
    width = max((len(row["name"]) for _, row in rows), default=0)
    for kind, row in rows:
        try:
            words = row.get("error") or _line(kind, row)
        except (KeyError, TypeError, ValueError) as error:
            words = f"not a valid file: {error}"
        click.echo(f"{row['name']:<{width}}  {words}".rstrip())
    if kinds == ("chip",):
        click.echo(f"{_UNVERIFIED} marks what is unverified; scaleout show NAME has sources and the rest", err=True)


def _count(row: dict[str, Any]) -> dict[str, Any]:
    try:
        return {**row, "parameters": parameters(load("model", row["name"]))}
    except SpecError as error:
        return {"name": row["name"], "error": str(error).splitlines()[0]}


def _line(kind: str, row: dict[str, Any]) -> str:
    match kind:
        case "model":
            return f"{row['parameters'] / 1e9:8.2f} G parameters, {row['layers']} layers of {row['hidden']}"
        case "chip":
            return _chip_line(row)
        case "system":
            return _system_line(row)
        case "stack":
            return str(row["version"])
        case "facility":
            rent = f", {len(row['rent'])} chips for rent" if row.get("rent") else ""
            words = {"rack_power": "racks of", "hall_power": "a hall of", "battery": "a battery of"}
            limits = "".join(f", {word} {row[key]}" for key, word in words.items() if key in row)
            return f"PUE {row['pue']:g}, {row['electricity']}{rent}{limits}"
        case "engine":
            return f"{row['version']}, {row.get('policy', 'chunked')}"
        case "net":
            return str(load("net", row["name"]).family).replace("_", " ")
        case "inference":
            return f"{row.get('net', '')} on {row.get('system', '')}"
        case "stream":
            sources = read_mapping(find("stream", row["name"])).get("sources", ())
            return f"{', '.join(one['name'] for one in sources)} with deadlines on {row.get('system', '')}"
        case "sweep":
            return _sweep_line(row["name"])
        case "serving":
            return f"{row.get('model', '')} served on {row.get('system', '')}"
        case _:
            return f"{row.get('model', '')} on {row.get('chips', 0):,} chips of {row.get('system', '')}"


def _chip_line(row: dict[str, Any]) -> str:
    """Figures as the file says them, with a mark where nobody checked one; those of a design as they follow from it."""
    file = read_mapping(find("chip", row["name"]))
    if file.get("design"):
        chip = load("chip", row["name"])
        words = (
            f"{chip.vendor}, {chip.cores} cores, {describe(chip.hbm_bytes, 'byte')} at "
            f"{describe(chip.hbm_bandwidth, 'byte/s')}, {describe(chip.power, 'W')}, a design"
        )
    else:
        cores, size, rate, power = (
            f"{file[key]}{_UNVERIFIED * (key in file.get('unverified', ()))}"
            for key in ("cores", "hbm_bytes", "hbm_bandwidth", "power")
        )
        words = f"{file['vendor']}, {cores} cores, {size} at {rate}, {power}"
    return f"{words}; kernels of {file['like']}" if file.get("like") else words


_UNVERIFIED = "!"
"""Mark of a figure that nobody checked."""
_INSIDE = {"nvswitch": "NVSwitch", "mesh": "fully connected", "pairs": "pairs with a bridge", "pcie": "PCIe switches"}
_BETWEEN = {
    "rail-fat-tree": "a rail fat tree",
    "rail-only": "rails alone",
    "leaf-spine": "leaves and spines",
    "clos": "leaves, spines and cores",
}


def _system_line(row: dict[str, Any]) -> str:
    """How chips stand together, and what joins nodes, as the file says it: loading them all would take seconds."""
    file = read_mapping(find("system", row["name"]))
    up, net, chips = file["scale_up"], file["network"], file["chips_per_node"]
    if up["kind"] == "torus":
        words = f"up to {chips:,} x {file['chip']} on a torus of {' x '.join(map(str, up['shape']))}"
    elif chips == 1:
        words = f"1 x {file['chip']}"
    else:
        words = f"{chips} x {file['chip']} a node ({_INSIDE[up['kind']]})"
    if net["kind"] == "none":
        return f"{words}, alone"
    ports = net.get("ports_per_node", chips // net.get("chips_per_port", 1))
    return f"{words}, {ports:,} x {net['bandwidth']} on {_BETWEEN[net['kind']]}"


def _sweep_line(name: str) -> str:
    """What a sweep changes, of what."""
    file = read_mapping(find("sweep", name))
    keys = [*file.get("axes", {}), *(key for group in file.get("zipped", ()) for key in group)]
    base = file["base"]
    return f"{', '.join(keys)} of {base if isinstance(base, str) else base.get('model', 'an experiment')}"


def _one(kind: str, name: str, as_json: bool) -> None:
    if kind in ("training", "serving", "inference", "stream", "sweep"):
        click.echo(f"# {find(kind, name)}\n{read(kind, name)}".rstrip())
        return
    spec = load(kind, name)
    if as_json:
        click.echo(json.dumps({**plain(spec), **_derived(spec)}, indent=2))
        return
    click.echo(f"# {kind}: {find(kind, name)}\n{read(kind, name)}".rstrip())
    for key, value in _derived(spec).items():
        click.echo(f"# {key}: {value}")


def _derived(spec: object) -> dict[str, Any]:
    """What follows from the figures."""
    if isinstance(spec, Model):
        return {"parameters": parameters(spec)}
    if isinstance(spec, Net):
        return {"parameters": round(net_parameters(spec)), "gflop": flops(operators(spec, 1)) / 1e9}
    if isinstance(spec, Chip):
        return {
            f"ridge_{dtype}": f"{spec.ridge(dtype):.0f} flop/byte ({describe(spec.flops(dtype), 'flop/s')})"
            for dtype in spec.peak_flops
        }
    return {}
