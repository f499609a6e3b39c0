"""Scripts of figures: what they show obeys what it must, and the index has each of them."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from scaleout.hardware.formats import format_of

PLOTS = Path(__file__).parents[2] / "plots"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"figure_{name}", PLOTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # its dataclasses look for their module
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_index_has_every_figure_and_its_command() -> None:
    text = (PLOTS / "gallery" / "README.md").read_text()
    for path in sorted(PLOTS.glob("*.py")):
        assert f"python plots/{path.name} plots/gallery" in text
        for kind in ("png", "svg"):
            assert (PLOTS / "gallery" / f"{path.stem}.{kind}").is_file()


def test_operators_stay_below_their_roofs() -> None:
    roofline = script("roofline")
    panels = roofline.measure()
    assert [panel.chip for panel in panels] == list(roofline.CHIPS)
    for panel in panels:
        assert len(panel.tracks) == 8
        for track in panel.tracks:
            roof = [min(panel.roofs[track.dtype], x * panel.bandwidth) for x in track.intensity]
            assert all(0.0 < rate < most for rate, most in zip(track.rate, roof, strict=True))
            # tokens beyond the first are almost free, and the last do not come at the first's price
            assert track.rate[4] > 8.0 * track.rate[0]
            assert track.rate[-1] < 1.2 * track.rate[-3]
    assert [ax.get_xlabel() for ax in roofline.draw(panels).axes] == ["arithmetic intensity [flop/byte]"] * 2


def test_narrow_numbers_gain_no_more_than_their_bytes_and_units() -> None:
    speedup = script("speedup_by_precision")
    lines = {(line.chip, line.precision): line for line in speedup.measure()}
    for (chip, precision), line in lines.items():
        shape = format_of(precision)
        assert max(line.speedup) < max(2.0 / shape.right, 4.0 if shape.rate == "fp4" else 2.0) * 1.02
        if shape.weight_only:
            # widened inside a product of 16 bits: many tokens pay for it
            assert line.speedup[-1] == pytest.approx(1.0 / (1.0 + shape.dequantise), rel=0.03)
            assert line.speedup[0] > 0.85 * 2.0 / shape.right
        for batch, measured in speedup.MEASURED.get((chip, precision), {}).items():
            assert line.square[batch] == pytest.approx(measured, rel=0.25)
