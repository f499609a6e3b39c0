"""Write the index of the figures beside it: a row for each script of ``plots/``, by what its first sentence says.

Run it as ``python plots/gallery/index.py``; ``make gallery`` makes all figures anew, and then the index.
"""

import ast
from pathlib import Path

from scaleout.report.files import write_atomically

GALLERY = Path(__file__).parent
GROUPS = {
    "A training step": (
        "breakdown_stacks", "pipeline_diagram", "memory_over_time", "parallelism_heatmap", "strong_weak_scaling",
    ),
    "The network": ("topology_links", "topology_comparison", "busbw_measured"),
    "Serving": ("throughput_latency", "pareto_front", "kv_transfer_beside_training"),
    "A chip": ("roofline", "speedup_by_precision", "tornado"),
    "Energy and cost": ("energy_breakdown", "cost_stack", "cost_per_token"),
}  # fmt: skip
"""Figures in the order of the index; what is in no group comes last."""
SECONDS = {
    "tornado": 15, "parallelism_heatmap": 40, "strong_weak_scaling": 45, "topology_comparison": 15,
    "cost_per_token": 25, "throughput_latency": 9,
}  # fmt: skip
"""Of one CPU that a figure takes, where these are more than five [s]."""
HEAD = """# Figures

Each is made by one script in `plots/`, which runs the simulations that it needs and writes a PNG and an SVG into the
folder that it is given. The same code gives the same bytes. Across a page the smallest letters have 7 points, and
figures can be read in black and white. `make gallery` makes all of them anew, and this page, which
`plots/gallery/index.py` writes. A figure takes two to five seconds of one CPU, imports included{slow}.
"""


def scripts() -> list[Path]:
    """Of every figure, by name."""
    return sorted(GALLERY.parent.glob("*.py"))


def sentence(script: Path) -> str:
    """The first paragraph of what a script says of itself, which is one."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def index() -> str:
    """The whole page."""
    paths = {path.stem: path for path in scripts()}
    grouped = {name for names in GROUPS.values() for name in names}
    groups = {**GROUPS, "Others": tuple(sorted(set(paths) - grouped))}
    slow = ", ".join(f"`{name}` {seconds} s" for name, seconds in sorted(SECONDS.items()) if name in paths)
    page = HEAD.format(slow=f"; {slow}" if slow else "")
    for title, names in groups.items():
        rows = [row(name, sentence(paths[name])) for name in names if name in paths]
        if rows:
            page += f"\n## {title}\n\n| figure | what it shows | command |\n| --- | --- | --- |\n{''.join(rows)}"
    return page


def row(name: str, words: str) -> str:
    """A line of a table: a small picture that leads to the drawing, words, and how it is made."""
    picture = f'<a href="{name}.svg"><img src="{name}.png" alt="{name}" width="220"></a>'
    return f"| {picture} | **{name}**: {words} | `python plots/{name}.py plots/gallery` |\n"


if __name__ == "__main__":
    print(write_atomically(GALLERY / "README.md", index().encode()))
