"""The tables and the figure of a agreement: what they show, not their pixels."""

import numpy as np
import pytest
from rich.console import Console

from scaleout.report.agreement import agreement_tables, draw_scatter, line_ranges, scatter_table
from scaleout.report.style import GROUP_COLOURS
from scaleout.validation import Agreement, Compared, Skipped


def make(chips: int, rows: int = 3, unit: str = "s") -> Agreement:
    found = [
        Compared(2 + i, {"source": "s", "chip": f"c{i % chips:02}"}, 1e-5 * (i + 1), 1.1e-5 * (i + 1))
        for i in range(chips * rows)
    ]
    return Agreement.of("x", found, unit=unit)


def text(agreement: Agreement, **options: bool) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(agreement_tables(agreement, rows=3, **options))
    return capture.get()


def test_the_figure_has_a_colour_for_each_group_and_all_rows() -> None:
    table = scatter_table(make(4))
    assert [label.split(":")[0] for label in table.labels] == ["c00", "c01", "c02", "c03"]
    assert sum(len(group) for group in table.groups) == 12
    assert table.unit == "us"
    assert table.groups[0][0] == pytest.approx([10.0, 11.0])
    assert not table.other


def test_more_groups_than_colours_are_put_together() -> None:
    agreement = make(20)
    table = scatter_table(Agreement.of("x", agreement.compared, combined=[("source", "chip")]))
    assert len(table.groups) == len(GROUP_COLOURS)
    assert table.other
    assert table.labels[-1].startswith("13 others: 39 rows")
    assert sum(len(group) for group in table.groups) == 60


@pytest.mark.parametrize(("scale", "unit"), [(1.0, "s"), (1e-2, "ms"), (1e-5, "us")])
def test_the_unit_is_easy_to_read(scale: float, unit: str) -> None:
    table = scatter_table(Agreement.of("x", [Compared(2, {}, 2 * scale, 2 * scale)]))
    assert table.unit == unit
    figure = draw_scatter(table)
    assert figure.axes[0].get_xlabel() == f"measured [{unit}]"
    assert figure.axes[0].get_ylabel() == f"simulated [{unit}]"


def test_both_axes_have_one_scale_and_show_every_point() -> None:
    agreement = Agreement.of("x", [Compared(2, {}, 1.0, 300.0), Compared(3, {}, 5.0, 0.01)])
    ax = draw_scatter(scatter_table(agreement)).axes[0]
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlim()[0] < 0.01
    assert ax.get_xlim()[1] > 300
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_nothing_of_the_figure_overlaps() -> None:
    figure = draw_scatter(scatter_table(make(8)))
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    title = figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert all(box.y0 >= legend.y1 and box.y1 <= title.y0 for box in boxes)
    assert boxes[0].x1 <= boxes[1].x0
    assert legend.y0 >= 0


def test_the_share_of_rows_within_an_error_rises_to_all() -> None:
    line = draw_scatter(scatter_table(make(1))).axes[1].lines[0]
    share = np.asarray(line.get_ydata())
    assert (np.diff(share) >= 0).all()
    assert share[-1] == 100


def test_nothing_compared_makes_no_figure() -> None:
    with pytest.raises(ValueError, match="no row"):
        scatter_table(Agreement.of("x", [Skipped(2, "why")]))


def test_the_tables_name_what_differs_and_shorten_long_lists_of_lines() -> None:
    skipped = [Skipped(line, "why [not]") for line in range(100, 300, 2)]
    agreement = Agreement.of("x", [*make(2).compared, *skipped])
    short = text(agreement)
    for words in ("all rows", "chip=c00", "+10.0%", "Furthest off (3 of 6 rows)", "why [not]", "--all lists them"):
        assert words in short
    assert "298" not in short
    assert "298" in text(agreement, all_lines=True)


def test_an_agreement_without_rows_says_so() -> None:
    shown = text(Agreement.of("x", [Skipped(2, "why")]))
    assert "all rows" in shown
    assert "-" in shown
    assert "Furthest" not in shown


def test_flags_are_groups_and_stand_beside_the_rows() -> None:
    shown = text(Agreement.of("x", [Compared(2, {}, 1.0, 2.0, ("layers guessed",), "8 x 8")]))
    assert "flag=layers guessed" in shown
    assert "assumed" in shown
    assert "8 x 8" in shown


def test_lines_in_a_row_are_a_range() -> None:
    assert line_ranges([9, 2, 3, 4, 7, 9]) == "2-4, 7, 9"
    assert line_ranges([]) == ""
