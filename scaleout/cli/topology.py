"""``scaleout show topology``: what is true of a topology, and what it looks like."""

import json
from pathlib import Path
from typing import Any

import click

from scaleout.errors import SpecError, near
from scaleout.io.catalogue import list_names, load
from scaleout.io.graphs import load_topology, topology_names
from scaleout.network import Fabric, machine
from scaleout.network.facts import TopologyFacts, facts
from scaleout.report.files import figure_file, write_figure
from scaleout.specs.fields import plain
from scaleout.units import describe

__all__ = ["fabric_of", "list_topologies", "show_topology"]


def fabric_of(name: str, nodes: int | None = None, chips: int | None = None) -> Fabric:
    """The fabric that a name stands for: a system at a size, or a topology by name or path.

    Raises
    ------
    SpecError
        Nothing has this name; or a size is given for a topology that has its own.
    TopologyError
        The system cannot be built at this size.
    """
    if nodes is not None and chips is not None:
        raise SpecError("--nodes, --chips: give one of them")
    suffix = Path(name).suffix.lower()
    if name in list_names("system") or (suffix in (".yaml", ".yml") and _is_system(name)):
        spec = load("system", name)
        return machine(spec, chips or spec.chips_per_node * (nodes or 1))
    if not suffix and "/" not in name and name not in topology_names():
        known = [*list_names("system"), *topology_names()]
        raise SpecError(f"no system or topology is called {name[:60]!r}; {near(name, known)}")
    if nodes is not None or chips is not None:
        raise SpecError(f"--{'nodes' if nodes else 'chips'}: {name} is a topology, whose size is its own")
    return load_topology(name)


def _is_system(name: str) -> bool:
    from scaleout.io.yaml import read_mapping

    path = Path(name)
    return path.is_file() and {"chip", "library"} <= set(read_mapping(path))


def list_topologies(as_json: bool) -> None:
    """A line for each topology file that has a name."""
    names = topology_names()
    if as_json:
        click.echo(json.dumps(names, indent=2))
        return
    for name in names:
        click.echo(name)
    click.echo("(any system is a topology too, at any size: scaleout show systems)")


def show_topology(name: str, nodes: int | None, chips: int | None, plot: Path | None, as_json: bool) -> None:
    """Print the facts of a topology, and draw it where that is asked for."""
    kind = figure_file(plot) if plot is not None else ""
    fabric = fabric_of(name, nodes, chips)
    found = facts(fabric)
    if plot is not None:
        from scaleout.report.topology import draw_topology, topology_picture

        write_figure(plot, kind, lambda: draw_topology(topology_picture(fabric.topology)))
    if as_json:
        click.echo(json.dumps(plain(found), indent=2))
    else:
        rows = _rows(found)
        width = max(map(len, rows))
        click.echo(found.name)
        for key, value in rows.items():
            click.echo(f"  {key:<{width}}  {value}")
    if plot is not None:
        click.echo(f"wrote {plot}  (the topology as a drawing)", err=as_json)


def _rows(found: TopologyFacts) -> dict[str, Any]:
    """Facts in words."""
    others = ", ".join(f"{count:,} x {kind}" for kind, count in list(found.vertices.items())[1:])
    rows = {
        "chips": f"{found.chips:,}" + (f" in {found.nodes:,} nodes" if found.nodes > 1 else ""),
        "other vertices": others or "none",
        "links": f"{found.links:,} (one way each)",
    }
    for kind, (count, bandwidth) in found.kinds.items():
        rows[f"  {kind}"] = f"{count:,}, {describe(bandwidth, 'byte/s')} in all"
    rows["degree of a chip"] = _between(found.degree)
    if others:
        rows["degree of the rest"] = _between(found.switch_degree)
    about = "" if found.distances_exact else " or more (from a sample of chips)"
    rows["diameter"] = f"{found.diameter} hops{about}"
    rows["mean distance"] = f"{found.mean_distance:.2f} hops" + ("" if found.distances_exact else " (estimated)")
    rows["bisection"] = f"{describe(found.bisection, 'byte/s')} each way" + (
        "" if found.bisection_exact else " or less (the worst halves found)"
    )
    return rows


def _between(pair: tuple[int, int]) -> str:
    low, high = pair
    return f"{low}" if low == high else f"{low} to {high}"
