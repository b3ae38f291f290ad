"""SVG charts: what is in them, where it lies, and that nothing lies upon anything else."""

from __future__ import annotations

import itertools
import math
import random
import re
from typing import Any
from xml.etree import ElementTree as Xml

import attrs
import pytest

from trio_stomp.stress.plot import (
    SHAPES,
    Bar,
    BarChart,
    Line,
    LineChart,
    Panel,
    Part,
    Point,
    Series,
    bar_chart,
    line_chart,
)
from trio_stomp.stress.scale import Axis
from trio_stomp.stress.svg import DARK, LETTER, LIGHT, STYLE, SURFACES


def a_series(*values: float | None, name: str = "p99", **changes: Any) -> Series:
    points = tuple(Point(2.0**index, value, f"{index}: {value}") for index, value in enumerate(values, 1))
    return attrs.evolve(Series(name=name, points=points), **changes)


def a_panel(*series: Series, **changes: Any) -> Panel:
    return attrs.evolve(Panel(title="Latency", y=Axis(title="ms"), series=series), **changes)


def a_chart(*panels: Panel, **changes: Any) -> LineChart:
    chart = LineChart(
        title="A title", description="What it shows", x=Axis(title="threads", scale="log2"), panels=panels
    )
    return attrs.evolve(chart, **changes)


def drawn(chart: LineChart | BarChart, width: int = 600) -> Xml.Element:
    return Xml.fromstring(
        line_chart(chart, width) if isinstance(chart, LineChart) else bar_chart(chart, width)
    )


def texts(svg: Xml.Element) -> list[str]:
    return [element.text or "" for element in svg.iter("text")]


def dots(svg: Xml.Element) -> list[tuple[float, float]]:
    return [
        (float(found.attrib["cx"]), float(found.attrib["cy"]))
        for found in svg.iter("circle")
        if found.attrib["class"] == "hit"
    ]


def boxes(svg: Xml.Element) -> list[tuple[float, float, float, float, str]]:
    """Left, top, right, bottom of every text, moved by its groups, by a guess at its letters' width."""
    found = []

    def walk(element: Xml.Element, down: float) -> None:
        move = re.fullmatch(r"translate\(0 ([\d.]+)\)", element.attrib.get("transform", ""))
        down += float(move[1]) if move else 0.0
        if element.tag == "text":
            text = element.text or ""
            size = len(text) * LETTER * 0.95
            anchor = element.attrib.get("text-anchor", "start")
            left = float(element.attrib["x"]) - {"start": 0.0, "middle": size / 2, "end": size}[anchor]
            bottom = float(element.attrib["y"]) + down
            found.append((left, bottom - 9, left + size, bottom + 1, text))
        for child in element:
            walk(child, down)

    walk(svg, 0.0)
    return found


def test_chart_has_a_title_and_a_description_for_who_cannot_see_it() -> None:
    svg = drawn(a_chart(a_panel(a_series(1, 2, 3))))
    assert svg.attrib["role"] == "img"
    assert [(child.tag, child.text) for child in svg][:2] == [("title", "A title"), ("desc", "What it shows")]


def test_chart_is_as_wide_as_asked_and_scales() -> None:
    svg = drawn(a_chart(a_panel(a_series(1, 2, 3))), 340)
    assert svg.attrib["viewBox"].startswith("0 0 340 ")
    assert "width" not in svg.attrib


def test_a_chart_on_its_own_has_its_style_with_it() -> None:
    chart = a_chart(a_panel(a_series(1, 2)))
    alone = line_chart(chart, 300, standalone=True)
    assert 'xmlns="http://www.w3.org/2000/svg"' in alone
    assert Xml.fromstring(alone).find("{http://www.w3.org/2000/svg}style") is not None
    assert "<style>" not in line_chart(chart, 300)
    assert "<style>" in bar_chart(BarChart(title="", description="", bars=()), 300, standalone=True)


def test_greater_values_are_higher_and_farther_to_the_right() -> None:
    points = dots(drawn(a_chart(a_panel(a_series(1, 2, 3)))))
    assert points == sorted(points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_every_point_says_its_tip() -> None:
    svg = drawn(a_chart(a_panel(a_series(1, 2))))
    assert [title.text for title in svg.iter("title")][1:] == ["1: 1", "2: 2"]


def test_missing_value_leaves_a_gap() -> None:
    svg = drawn(a_chart(a_panel(a_series(1, 2, None, 3, math.nan, 4))))
    (path,) = (found.attrib["d"] for found in svg.iter("path") if found.attrib["class"] == "line")
    assert path.count("M") == 3
    assert path.count("L") == 1
    assert len(dots(svg)) == 4


def test_series_without_any_value_is_drawn_as_nothing() -> None:
    svg = drawn(a_chart(a_panel(a_series(None, None))))
    assert dots(svg) == []


def test_only_the_ends_of_a_long_line_are_seen_and_a_dashed_line_has_no_points() -> None:
    svg = drawn(
        a_chart(a_panel(a_series(1, 2, 3, dots="ends"), a_series(3, 2, 1, dots="none", is_dashed=True)))
    )
    kinds = [group.attrib["class"] for group in svg.iter("g") if "point" in group.attrib.get("class", "")]
    assert kinds == ["point", "point quiet", "point"]
    assert any(found.attrib["class"] == "line dashed" for found in svg.iter("path"))


def test_series_differ_in_shape_as_well_as_in_colour() -> None:
    assert len(SHAPES) == len(LIGHT) == len(DARK)
    shapes = set()
    for colour in range(4):
        svg = drawn(a_chart(a_panel(a_series(1, 2, colour=colour))))
        (first, *_) = (found for found in svg.iter() if found.attrib.get("class") == "dot")
        shapes.add(first.tag + re.sub(r"M[\d.]+ [\d.]+", "", first.attrib.get("d", "")))
    assert len(shapes) == 4


def test_legend_names_the_series_when_there_is_more_than_one() -> None:
    two = a_panel(a_series(1, 2, name="p50"), a_series(2, 3, name="p99"))
    assert {"p50", "p99"} <= set(texts(drawn(a_chart(two))))
    assert "p50" not in texts(drawn(a_chart(a_panel(a_series(1, 2, name="p50")))))


def test_marks_run_through_all_panels_and_are_named_once() -> None:
    svg = drawn(
        a_chart(a_panel(a_series(1, 2)), a_panel(a_series(1, 2)), marks=(Line(3.0, "recommended: 3"),))
    )
    assert len([found for found in svg.iter("path") if found.attrib["class"] == "mark"]) == 2
    assert texts(svg).count("recommended: 3") == 1


def test_band_covers_its_part_of_every_panel_and_no_more() -> None:
    svg = drawn(a_chart(a_panel(a_series(1, 2, 3)), a_panel(a_series(1, 2, 3)), band=(4.0, 1000.0)))
    bands = [found.attrib for found in svg.iter("rect") if found.attrib["class"] == "band"]
    assert len(bands) == 2
    for band in bands:
        assert float(band["x"]) == pytest.approx(dots(svg)[1][0], abs=0.1)
        assert float(band["x"]) + float(band["width"]) <= 600


def test_limit_is_within_the_panel_with_its_label() -> None:
    svg = drawn(a_chart(a_panel(a_series(1, 2), limits=(Line(10.0, "target"),))))
    (limit,) = (found.attrib["d"] for found in svg.iter("path") if found.attrib["class"] == "limit")
    assert float(limit.split()[1].split("H")[0]) < min(y for _, y in dots(svg))
    assert "target" in texts(svg)


def test_limit_that_a_logarithmic_axis_cannot_show_is_left_out() -> None:
    panel = a_panel(a_series(1, 20), y=Axis(title="ms", scale="log10"), limits=(Line(0.0, "target"),))
    assert "target" not in texts(drawn(a_chart(panel)))


@pytest.mark.parametrize("rising", [True, False])
def test_label_of_a_limit_lies_where_the_curve_does_not(rising: bool) -> None:
    values = (1, 2, 3, 4, 5) if rising else (5, 4, 3, 2, 1)
    svg = drawn(a_chart(a_panel(a_series(*values), limits=(Line(5.0, "offered 5/s"),))))
    (label,) = (box for box in boxes(svg) if box[4] == "offered 5/s")
    assert (label[0] < 300) is rising


def test_label_of_a_limit_keeps_away_from_a_mark() -> None:
    panel = a_panel(a_series(1, 1, 1, 1), limits=(Line(2.0, "target"),))
    svg = drawn(a_chart(panel, marks=(Line(15.0, "here"),)))
    (label,) = (box for box in boxes(svg) if box[4] == "target")
    assert label[2] < 300


def test_no_two_texts_overlap_and_none_leaves_the_chart() -> None:
    chance = random.Random(2)
    for _ in range(150):
        size = 10 ** chance.uniform(-3, 4)
        series = [
            a_series(
                *(chance.uniform(0.001, 1) * size for _ in range(chance.randint(1, 8))),
                name=name,
                colour=index,
            )
            for index, name in enumerate(("p50", "p99"))
        ]
        y = Axis(title="ms", scale=chance.choice(["linear", "log10"]), show="{:g} ms".format)
        chart = a_chart(
            a_panel(*series, y=y),
            a_panel(series[0], y=y, height=90),
            x=Axis(title="threads", scale=chance.choice(["linear", "log2"])),
            marks=(Line(chance.uniform(2, 4), "recommended: 27"),),
        )
        width = chance.choice([320, 600, 1040])
        svg = drawn(chart, width)
        height = float(svg.attrib["viewBox"].split()[3])
        for left, top, right, bottom, text in boxes(svg):
            assert left >= -1, text
            assert right <= width + 1, text
            assert top >= 0, text
            assert bottom <= height, text
        for one, other in itertools.combinations(boxes(svg), 2):
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, f"{one} lies upon {other}"


@pytest.mark.parametrize(
    "chart",
    [
        a_chart(),
        a_chart(a_panel()),
        a_chart(a_panel(a_series())),
        a_chart(a_panel(a_series(0.0, 0.0))),
        a_chart(a_panel(a_series(5.0))),
        a_chart(a_panel(a_series(0.0), y=Axis(title="", scale="log10"))),
        a_chart(a_panel(a_series(1e-9, 1e12), y=Axis(title="", scale="log10"))),
    ],
)
@pytest.mark.parametrize("width", [60, 300])
def test_odd_numbers_still_give_a_chart(chart: LineChart, width: int) -> None:
    text = line_chart(chart, width)
    assert Xml.fromstring(text) is not None
    assert "nan" not in text
    assert "inf" not in text


def test_everything_is_escaped() -> None:
    bad = "<script>&\"'"
    panel = a_panel(
        a_series(1, 2, name=bad), a_series(points=(Point(2, 1, bad),)), title=bad, limits=(Line(1, bad),)
    )
    chart = a_chart(panel, title=bad, description=bad, x=Axis(title=bad), marks=(Line(2, bad),))
    bars = BarChart(
        title=bad, description=bad, bars=(Bar(label=bad, parts=(Part(1, 0, bad, bad),), note=bad),)
    )
    for svg in (line_chart(chart, 300), bar_chart(bars, 900)):
        assert "<script>" not in svg
        assert Xml.fromstring(svg).findtext("title") == bad


def a_bar(*values: float, **changes: Any) -> Bar:
    parts = tuple(Part(value, index, f"part {index}", f"tip {index}") for index, value in enumerate(values))
    return attrs.evolve(Bar(label="16", parts=parts, note="12 ms"), **changes)


def rows(svg: Xml.Element) -> list[tuple[float, float]]:
    """Left and width of each part; the legend's samples are 14 wide and 12 high."""
    return [
        (float(found.attrib["x"]), float(found.attrib["width"]))
        for found in svg.iter("rect")
        if found.attrib["height"] == "20"
    ]


def test_parts_of_a_bar_are_shares_of_it() -> None:
    svg = drawn(BarChart(title="", description="", bars=(a_bar(3, 1), a_bar(300, 100))))
    widths = [width for _, width in rows(svg)]
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.02)
    assert widths[:2] == widths[2:]


def test_parts_lie_one_behind_the_other() -> None:
    (first, second) = rows(drawn(BarChart(title="", description="", bars=(a_bar(3, 1),))))
    assert second[0] == pytest.approx(first[0] + first[1] + 1, abs=0.2)


def test_bars_with_an_axis_are_as_long_as_their_values() -> None:
    axis = Axis(title="per second", show="{:g}".format)
    svg = drawn(BarChart(title="", description="", bars=(a_bar(100), a_bar(50)), axis=axis))
    (one, other) = (width for _, width in rows(svg))
    assert one / other == pytest.approx(2, rel=0.02)
    assert {"per second", "0", "100", "part 0"} <= set(texts(svg))


def test_part_has_its_name_where_there_is_room_and_its_tip() -> None:
    svg = drawn(BarChart(title="", description="", bars=(a_bar(100, 1),)), 900)
    inside = [text.text for text in svg.iter("text") if text.attrib.get("class") == "inside"]
    assert inside == ["part 0"]
    assert [title.text for title in svg.iter("title")][1:] == ["tip 0", "tip 1"]
    assert "tip" not in bar_chart(
        BarChart(title="", description="", bars=(a_bar(1, parts=(Part(1, 0, "a"),)),)), 300
    )


def test_marked_bar_is_emphasized() -> None:
    svg = drawn(BarChart(title="", description="", bars=(a_bar(1), a_bar(1, is_marked=True, label="27"))))
    assert [text.text for text in svg.iter("text") if text.attrib.get("class") == "here"] == ["27", "12 ms"]


def test_part_that_cannot_be_seen_is_left_out_and_a_bar_of_nothing_is_empty() -> None:
    svg = drawn(BarChart(title="", description="", bars=(a_bar(1000, 0, 0.1), a_bar(0, 0))))
    assert len(rows(svg)) == 1
    assert rows(drawn(BarChart(title="", description="", bars=()))) == []


def test_legend_of_bars_is_wrapped_where_there_is_no_room() -> None:
    chart = BarChart(title="", description="", bars=(a_bar(1, 1, 1, 1, 1),))
    for width, lines in ((200, 3), (900, 1)):
        legend = boxes(Xml.fromstring(re.sub("<text[^>]*inside.*?</text>", "", bar_chart(chart, width))))
        names = [box for box in legend if box[4].startswith("part")]
        assert len(names) == 5
        assert len({top for _, top, _, _, _ in names}) == lines
        assert max(right for _, _, right, _, _ in names) <= width


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    values = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(("palette", "surface"), [(LIGHT, SURFACES[0]), (DARK, SURFACES[1])])
def test_colours_stand_out_from_the_surface_and_carry_text_in_its_colour(
    palette: tuple[str, ...], surface: str
) -> None:
    for colour in palette:
        assert contrast(colour, surface) >= 4.5, colour


def test_style_knows_light_and_dark_and_loads_nothing() -> None:
    assert "prefers-color-scheme:dark" in STYLE
    assert "url(" not in STYLE
    assert "@import" not in STYLE
