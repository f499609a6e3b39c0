"""What every figure keeps: it fits a page, its words can be read, and no two of them lie over each other."""

from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from scaleout.report.style import LEAST_FONT, PRINT_WIDTH, house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLACK = 1.5
"""By how much boxes around words may touch [pixel]."""


def words_of(figure: "Figure") -> list[tuple[Text, Bbox]]:
    """Words as they are drawn, and their boxes [pixel]."""
    found: list[tuple[Text, Bbox]] = []
    draw = Text.draw

    def kept(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
        if self.get_visible() and self.get_text().strip():
            found.append((self, self.get_window_extent(renderer)))
        draw(self, renderer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, house_style():
        patch.setattr(Text, "draw", kept)
        figure.canvas.draw()
    return found


def check_ink(figure: "Figure") -> None:
    """Width, sizes of fonts, and places of words."""
    assert figure.get_figwidth() <= PRINT_WIDTH
    words = words_of(figure)
    assert words
    small = {word.get_text() for word, _ in words if word.get_fontsize() < LEAST_FONT}
    assert not small, f"below {LEAST_FONT} points: {small}"
    page = figure.bbox
    for word, box in words:
        inside = page.x0 - SLACK <= box.x0 and box.x1 <= page.x1 + SLACK
        assert inside and page.y0 - SLACK <= box.y0 and box.y1 <= page.y1 + SLACK, (
            f"{word.get_text()!r} leaves the page"
        )
    # boxes around slanted words say little
    level = [(word, box) for word, box in words if word.get_rotation() % 90 == 0]
    for at, (word, box) in enumerate(level):
        for other, near in level[at + 1 :]:
            wide = min(box.x1, near.x1) - max(box.x0, near.x0)
            high = min(box.y1, near.y1) - max(box.y0, near.y0)
            apart = wide <= SLACK or high <= SLACK
            assert apart, f"{word.get_text()!r} lies over {other.get_text()!r} by {wide:.1f} x {high:.1f} pixels"
