"""The table of `docs/workloads.md`: every shipped training workload, simulated, beside what was published of it.

python benchmarks/workloads.py [NAME ...]
"""

import sys

import scaleout
from scaleout.io.catalogue import list_names
from scaleout.specs import TrainingExperiment
from scaleout.units import describe


def _layout(spec: TrainingExperiment) -> str:
    """Degrees above 1, and what else the layout says."""
    layout = spec.layout
    degrees = {key: getattr(layout, key) for key in ("tp", "cp", "pp", "vpp", "dp", "ep", "etp")}
    words = [f"{key} {value}" for key, value in degrees.items() if value > 1]
    words += [f"ZeRO-{layout.zero}"] if layout.zero else []
    return ", ".join(words + ([layout.schedule] if layout.schedule else []))


def row(name: str) -> str:
    """A workload's line."""
    spec = scaleout.experiment(name)
    result = scaleout.simulate(spec)
    beside = result.published
    cells = [
        f"`{name}`",
        f"{spec.chips:,} {spec.system.name}",
        _layout(spec),
        spec.precision,
        describe(beside.step_time, "s") if beside else "",
        f"{describe(result.step_time, 's')} ± {result.error_band.relative:.0%}",
        f"{beside.difference:+.1%}" if beside else "",
        describe(result.memory.total, "byte"),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    titles = ("workload", "chips", "layout", "precision", "published", "simulated", "difference", "HBM of the fullest")
    print(f"| {' | '.join(titles)} |")
    print(f"|{' --- |' * len(titles)}")
    for name in sys.argv[1:] or list_names("training"):
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
