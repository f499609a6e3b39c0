"""Scripts of figures: what they show obeys what it must, and the index has each of them."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from scaleout.hardware.formats import format_of
from scaleout.report.style import LEAST_FONT, PRINT_WIDTH

PLOTS = Path(__file__).parents[2] / "plots"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"figure_{name}", PLOTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # its dataclasses look for their module
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def figures() -> list[str]:
    return sorted(path.stem for path in PLOTS.glob("*.py"))


def test_the_index_is_what_its_script_writes_and_has_every_figure_once() -> None:
    spec = importlib.util.spec_from_file_location("gallery_index", PLOTS / "gallery" / "index.py")
    assert spec is not None and spec.loader is not None
    index = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(index)
    page = (PLOTS / "gallery" / "README.md").read_text()
    assert page == index.index(), "python plots/gallery/index.py writes it anew"
    for name in figures():
        assert page.count(f"`python plots/{name}.py plots/gallery`") == 1
        words = index.sentence(PLOTS / f"{name}.py")
        assert words.endswith(".") and len(words) < 160 and words in page
    kept = {path.stem for path in (PLOTS / "gallery").glob("*.*g")}
    assert kept == set(figures()), "a picture without its script"


@pytest.mark.parametrize("name", figures())
def test_a_figure_fits_a_page_and_can_be_read(name: str) -> None:
    module = script(name)
    assert name == module.NAME
    assert f"python plots/{name}.py [folder]" in " ".join((module.__doc__ or "").split())
    picture = PLOTS / "gallery" / f"{name}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    drawing = picture.with_suffix(".svg").read_text()
    # one unit of the drawing is a point
    width = float(re.findall(r'<svg [^>]*width="([0-9.]+)pt"', drawing)[0])
    scale = min(1.0, PRINT_WIDTH * 72 / width)
    sizes = {float(size) for size in re.findall(r"font(?:-size)?: (?:\w+ )*([0-9.]+)px", drawing)}
    assert sizes and min(sizes) * scale >= LEAST_FONT
    assert re.search(r"\[[^\]<]+\]</tspan>|\[[^\]<]+\]</text>", drawing), "no axis has a unit"
    assert "<dc:date>" not in drawing
    assert picture.stat().st_size + picture.with_suffix(".svg").stat().st_size < 2**20


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
