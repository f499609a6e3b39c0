"""An energy that is made up, for tests of what is done with one."""

from scaleout.footprint import Energy

__all__ = ["made_up_energy"]


def made_up_energy(chips: int, span: float, tokens: float, *, course: bool = True) -> Energy:
    """Of so many chips, with every component; 600 W a chip and a fourth on top for the building."""
    watts = {
        "idle": 140.0, "compute": 300.0, "vector": 20.0, "hbm": 110.0, "links": 30.0, "nodes": 350.0, "switches": 40.0,
        "optics": 10.0,
    }  # fmt: skip
    machines = sum(watts.values())
    watts["cooling"] = 0.25 * machines
    return Energy(
        span=span,
        parts={part: value * chips * span for part, value in watts.items()},
        chip_power=600.0,
        node_power=8 * 950.0,
        power=1.25 * machines * chips,
        tokens=tokens,
        error=0.12,
        over_time=tuple(machines * chips * (0.9 + 0.2 * (at % 2)) for at in range(100)) if course else (),
        capped=0.25,
        warnings=("racks of four nodes draw 30.4 kW each, of 30 kW that they may",),
    )
