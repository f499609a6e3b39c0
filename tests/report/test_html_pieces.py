"""Pieces of pages: text that stays text, figures that do not touch each other, columns that sort as they should."""

import base64
import json

import numpy as np
import pytest

from scaleout.errors import ScaleoutError
from scaleout.report.html.columns import Scale, codes, numbers, scale_of, setting_words, whole
from scaleout.report.html.layout import Drawn, figure
from scaleout.report.html.markup import Html, element, join, script_data
from scaleout.report.html.reasons import reasons_of
from scaleout.report.html.vector import inline_svg

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="36pt">'


def test_whatever_is_no_html_is_escaped() -> None:
    assert element("p", "<b>&", Html("<i></i>"), title='"<') == '<p title="&quot;&lt;">&lt;b&gt;&amp;<i></i></p>'
    assert join(["a<", element("br")]) == "a&lt;<br>"


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--<script>", "]]>", "\u2028 & é", "\ud800"])
def test_data_for_the_script_cannot_leave_it_and_comes_back(text: str) -> None:
    found = script_data("x", [text])
    inside = found.removeprefix('<script type="application/json" id="x">').removesuffix("</script>")
    assert "<" not in inside and ">" not in inside and inside.encode()
    if text != "\ud800":
        assert json.loads(inside) == [text]


def test_figures_keep_no_name_that_another_may_have_and_nothing_that_loads_or_runs() -> None:
    svg = f"""{HEAD}
      <metadata>made by</metadata><!-- <b> --><style>*{{fill: red}}</style><script>alert(1)</script>
      <defs><clipPath id="c"><rect width="9" height="9"/></clipPath><path id="m" d="M 0 0"/></defs>
      <g id="axes_1" clip-path="url(#c)" onclick="alert(1)"><use xlink:href="#m" x="1"/>
      <use xlink:href="http://example.org/x.svg#a"/><image xlink:href="data:image/png;base64,AA=="/>
      <image xlink:href="file:///etc/passwd"/><rect style="fill: url(http://example.org)"/>
      <foreignObject><p>x</p></foreignObject><text>a &lt;b&gt; &amp;<tspan>c</tspan>d</text></g></svg>"""
    found, width = inline_svg(svg.encode(), "f1-", 'a "figure" <1>')
    assert width == 72.0
    assert 'viewBox="0 0 72 36"' in found and 'aria-label="a &quot;figure&quot; &lt;1&gt;"' in found
    assert 'id="f1-c"' in found and 'clip-path="url(#f1-c)"' in found and 'href="#f1-m"' in found
    assert "<text>a &lt;b&gt; &amp;<tspan>c</tspan>d</text>" in found
    assert 'href="data:image/png;base64,AA=="' in found
    for word in ("axes_1", "example.org", "passwd", "script", "onclick", "style>", "made by", "<!--", "foreign"):
        assert word not in found, word


def test_what_is_no_svg_is_refused() -> None:
    with pytest.raises(ScaleoutError, match="figure 'x': is no SVG"):
        inline_svg(b"<svg", "f1-", "x")
    told = figure(Drawn(title="Front", caption="What one sees.", svg=b"<svg>\0</svg>"), 1)
    assert "It cannot be drawn: figure" in told and "What one sees." in told


def test_messages_that_differ_in_numbers_are_one_reason() -> None:
    messages = [
        "stage 3 needs 95.3 GB, a chip has 80 GB\nmore",
        "stage 10 needs 1,095 GB, a chip has 80 GB",
        "layout.tp: 7 does not divide the 128 heads of llama-3.1-405b",
        "",
        "stage 1 needs 81 GB, a chip has 80 GB (weights 1 GB)",
    ]
    found = reasons_of(enumerate(messages))
    assert [(reason.pattern, reason.count, reason.row) for reason in found] == [
        ("stage … needs …, a chip has …", 3, 0),
        ("layout.tp: … does not divide the … heads of llama-3.1-405b", 1, 2),
        ("no reason was kept", 1, 3),
    ]
    assert found[0].example == messages[0]


def test_settings_are_sorted_as_what_they_are() -> None:
    values = ["400 Gb/s", 8, "1.6 Tb/s", None, "50 GB/s", 2, "none", True, "", 16, 2.5, {"b": 1, "a": [2]}]
    assert codes("x", values, role="setting").values == (
        "2", "2.5", "8", "16", "400 Gb/s", "50 GB/s", "1.6 Tb/s", "none", "true", '{"a": [2], "b": 1}', "",
    )  # fmt: skip


def test_codes_are_as_narrow_as_they_can_be() -> None:
    for count, width in ((3, 1), (256, 1), (257, 2), (65_537, 4)):
        column = codes("x", list(range(count)), role="setting")
        found = np.frombuffer(base64.b64decode(column.bits), dtype=f"<u{width}")
        assert column.width == width and found.tolist() == list(range(count))


def test_numbers_are_packed_in_the_unit_in_which_they_are_read() -> None:
    column = numbers("step_time", np.array([0.25, np.nan]), Scale("ms", 1e-3))
    found = np.frombuffer(base64.b64decode(column.bits), dtype="<f4")
    assert column.unit == "ms" and found[0] == 250.0 and np.isnan(found[1])
    assert np.frombuffer(base64.b64decode(whole("point", [7, 4_000_000_000], role="place").bits), "<u4")[1] == 4e9


@pytest.mark.parametrize(
    ("name", "unit", "value", "words"),
    [
        ("mfu", "1", 0.4321, "43.21\u00a0%"),
        ("step_time", "s", 1.5, "1.5\u00a0s"),
        ("step_time", "s", 0.0123, "12.3\u00a0ms"),
        ("battery", "s", 7200.0, "7200\u00a0s"),
        ("battery", "s", 36000.0, "10\u00a0h"),
        ("memory", "byte", 7.25e10, "72.5\u00a0GB"),
        ("chips", "1", 16384.0, "16,384"),
        ("tokens_per_second", "1/s", 12_458_345.0, "12.46\u00a0million"),
        ("power", "W", 2.5e7, "25\u00a0MW"),
        ("cost_hour", "USD/h", 2500.0, "2500\u00a0USD/h"),
    ],
)
def test_values_are_told_in_units_that_are_read(name: str, unit: str, value: float, words: str) -> None:
    assert scale_of(name, unit, np.array([value, np.nan])).words(value) == words


def test_settings_in_words() -> None:
    assert [setting_words(value) for value in (8.0, np.int64(3), True, None, float("nan"), "a", [1, "b"])] == [
        "8", "3", "true", "", "", "a", '[1, "b"]',
    ]  # fmt: skip
    assert len(setting_words("x" * 1000)) == 400
