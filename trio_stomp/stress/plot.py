"""Line and bar charts as SVG text: no script, light and dark, for any numbers.

Rule 1: a chart is drawn for a width in pixels and its text has a pixel size; who shows it much narrower
draws it anew for that width (`line_chart(chart, 340)`), since SVG shrinks its text too.
Rule 2: colours are classes, `svg.STYLE` gives them meaning; a `standalone` chart carries the style in itself.
Rule 3: no two series differ by colour alone: points have shapes, lines may be dashed, parts have gaps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from trio_stomp.stress.scale import Axis, Scale
from trio_stomp.stress.svg import BOLD, LETTER, element, escaped, write

SHAPES: Final = ("circle", "square", "diamond", "triangle", "circle")

LINE: Final = 18
GAP: Final = 26
EDGE: Final = 12
"""Pixels: a line of text, the space between two panels, and between the area's sides and its first point."""


@attrs.frozen
class Point:
    """One value; ``y`` None leaves a gap. ``tip`` is shown under the mouse."""

    x: float
    y: float | None
    tip: str = ""


@attrs.frozen(kw_only=True)
class Series:
    """A line. ``colour`` is an index into the palette; ``dots`` says which points are drawn besides the
    line: "all"; "ends", the others only under the mouse; "none", then there are no tips either."""

    name: str
    points: tuple[Point, ...]
    colour: int = 0
    is_dashed: bool = False
    dots: str = "all"


@attrs.frozen
class Line:
    """A straight line across the chart, at ``at``, with its label."""

    at: float
    label: str


@attrs.frozen(kw_only=True)
class Panel:
    """One of the areas above each other that share an x axis. ``limits`` are horizontal lines."""

    title: str
    y: Axis
    series: tuple[Series, ...]
    limits: tuple[Line, ...] = ()
    height: int = 180


@attrs.frozen(kw_only=True)
class LineChart:
    """Panels over one x axis; ``marks`` are vertical lines, ``band`` a part of the x axis that is shaded."""

    title: str
    description: str
    x: Axis
    panels: tuple[Panel, ...]
    marks: tuple[Line, ...] = ()
    band: tuple[float, float] | None = None


@attrs.frozen
class Part:
    """A part of a bar: its size, its colour's index, its name, and what is shown under the mouse."""

    value: float
    colour: int
    name: str
    tip: str = ""


@attrs.frozen(kw_only=True)
class Bar:
    """One row: what stands before it, its parts from left to right, and what stands behind it."""

    label: str
    parts: tuple[Part, ...]
    note: str = ""
    is_marked: bool = False


@attrs.frozen(kw_only=True)
class BarChart:
    """Rows of bars. Without an axis each bar is as long as the others, and its parts are shares of it."""

    title: str
    description: str
    bars: tuple[Bar, ...]
    axis: Axis | None = None


def line_chart(chart: LineChart, width: int, *, standalone: bool = False) -> str:
    """Return the chart as an ``<svg>`` element; ``standalone``: as a file of its own.

    Values that are not finite, or not above 0 on a logarithmic axis, leave a gap.
    """
    scales = [_panel_scale(panel) for panel in chart.panels]
    ticks = [scale.ticks(_steps(panel) + 1) for scale, panel in zip(scales, chart.panels, strict=True)]
    labels = [scale.axis.show(tick) for scale, marks in zip(scales, ticks, strict=True) for tick in marks]
    left = max((len(label) for label in labels), default=0) * LETTER + 10
    xs = [point.x for panel in chart.panels for series in panel.series for point in series.points]
    x = Scale.over(chart.x, [*xs, *(mark.at for mark in chart.marks)], left + EDGE, width - EDGE - 4)
    drawn: list[str] = []
    top = 0.0
    for number, (panel, scale, marks) in enumerate(zip(chart.panels, scales, ticks, strict=True)):
        head, used = _head(panel, width)
        drawn += [f'<g transform="translate(0 {top:.1f})">{head}</g>']
        top += used + (LINE if number == 0 and chart.marks else 0) + 12
        bottom = top + panel.height
        placed = attrs.evolve(scale, start=bottom, end=top)
        if chart.band is not None:
            drawn.append(_band(chart.band, x, top, bottom))
        drawn += _grid(placed, marks, left, width - 4)
        for mark in chart.marks:
            drawn.append(_vertical(mark, x, top, bottom, width, has_label=number == 0))
        for limit in panel.limits:
            drawn.append(_horizontal(limit, panel, chart.marks, x, placed))
        for series in panel.series:
            drawn.append(_series(series, x, placed))
        top = bottom + GAP
    top -= GAP
    drawn += _x_axis(x, left, width, top)
    return element(chart.title, chart.description, width, top + 2 * LINE + 8, "".join(drawn), standalone)


def _steps(panel: Panel) -> int:
    return max(3, panel.height // 36)


def _panel_scale(panel: Panel) -> Scale:
    """Return a panel's scale with bounds at round numbers; it is placed later."""
    values = [point.y for series in panel.series for point in series.points if point.y is not None]
    values += [limit.at for limit in panel.limits]
    if panel.y.scale == "linear" and panel.y.low is None:
        values.append(0.0)
    return Scale.over(panel.y, values, 0.0, 1.0).rounded(_steps(panel))


def _head(panel: Panel, width: float) -> tuple[str, float]:
    """Return a panel's title and legend, and the height that they take."""
    drawn = [write(0, 13, panel.title, "head")]
    if len(panel.series) < 2:
        return drawn[0], float(LINE)
    size = sum(len(series.name) * LETTER + 34 for series in panel.series) - 12
    fits = len(panel.title) * 9 + 24 + size <= width
    across, down = (width - size - 4, 9.0) if fits else (0.0, 9.0 + LINE)
    for series in panel.series:
        dashed = " dashed" if series.is_dashed else ""
        drawn.append(
            f'<g class="c{series.colour}"><path class="line{dashed}" d="M{across:.1f} {down:.1f}h18"/>'
            + ("" if series.dots == "none" else _dot(series.colour, across + 9, down))
            + "</g>"
            + write(across + 23, down + 4, series.name)
        )
        across += len(series.name) * LETTER + 34
    return "".join(drawn), float(LINE if fits else 2 * LINE)


def _grid(y: Scale, ticks: Sequence[float], left: float, right: float) -> Iterator[str]:
    for tick in ticks:
        at = y.at(tick)
        yield f'<path class="grid" d="M{left:.1f} {at:.1f}H{right:.1f}"/>'
        yield write(left - 8, at + 4, y.axis.show(tick), anchor="end")
    yield f'<path class="base" d="M{left:.1f} {y.start:.1f}H{right:.1f}"/>'


def _x_axis(x: Scale, left: float, width: float, top: float) -> Iterator[str]:
    for tick, anchor_at in _apart(x):
        yield f'<path class="base" d="M{x.at(tick):.1f} {top:.1f}v4"/>'
        yield write(anchor_at, top + LINE, x.axis.show(tick), anchor="middle")
    yield write((left + width) / 2, top + 2 * LINE + 2, x.axis.title, anchor="middle")


def _apart(x: Scale) -> list[tuple[float, float]]:
    """Return as many x ticks as have room for their labels, with where the label goes."""
    for most in range(max(2, min(12, int((x.end - x.start) / 40))), 1, -1):
        ticks = x.ticks(most)
        places = [(x.at(tick), len(x.axis.show(tick)) * LETTER / 2) for tick in ticks]
        if all(
            here + size + 8 <= there - other for (here, size), (there, other) in itertools.pairwise(places)
        ):
            return [(tick, place) for tick, (place, _) in zip(ticks, places, strict=True)]
    return [(ticks[0], places[0][0])]


def _band(band: tuple[float, float], x: Scale, top: float, bottom: float) -> str:
    low, high = (min(max(x.at(end), x.start - EDGE), x.end + EDGE) for end in band)
    return (
        f'<rect class="band" x="{low:.1f}" y="{top:.1f}" width="{max(high - low, 0):.1f}" '
        f'height="{bottom - top:.1f}"/>'
    )


def _vertical(mark: Line, x: Scale, top: float, bottom: float, width: float, *, has_label: bool) -> str:
    at = x.at(mark.at)
    drawn = f'<path class="mark" d="M{at:.1f} {top - 3:.1f}V{bottom:.1f}"/>'
    if not has_label:
        return drawn
    half = len(mark.label) * BOLD / 2
    middle = min(max(at, half + 2), width - half - 2)
    return drawn + write(middle, top - 8, mark.label, "note", "middle")


def _horizontal(limit: Line, panel: Panel, marks: Sequence[Line], x: Scale, y: Scale) -> str:
    """Return a line across the panel, its label where it is farthest from the curves and marks."""
    if not y.can_show(limit.at):
        return ""
    at, size = y.at(limit.at), len(limit.label) * BOLD
    curves = [_pixels(series, x, y) for series in panel.series]

    def room(place: tuple[str, float, float]) -> float:
        _, left, down = place
        if down - 12 < y.end or down + 4 > y.start:
            return -1.0
        if any(left - 4 < x.at(mark.at) < left + size + 4 for mark in marks):
            return 0.0
        samples = (left + size * step / 8 for step in range(9))
        heights = [found for across in samples for curve in curves for found in _height(curve, across)]
        return min((abs(height - (down - 4)) for height in heights), default=1000.0)

    left, right = x.start - EDGE + 4, x.end + EDGE - 4
    places = [
        (anchor, start, at + offset)
        for anchor, start in (("end", right - size), ("start", left))
        for offset in (-6.0, 15.0)
    ]
    anchor, start, down = max(places, key=room)
    return f'<path class="limit" d="M{x.start - EDGE:.1f} {at:.1f}H{x.end + EDGE:.1f}"/>' + write(
        start + size if anchor == "end" else start, down, limit.label, "note", anchor
    )


def _pixels(series: Series, x: Scale, y: Scale) -> list[tuple[float, float]]:
    return [
        (x.at(point.x), y.at(point.y))
        for point in series.points
        if point.y is not None and y.can_show(point.y) and x.can_show(point.x)
    ]


def _height(curve: Sequence[tuple[float, float]], across: float) -> Iterator[float]:
    """Yield the curve's heights at a place."""
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 <= across <= x1:
            yield y0 + (y1 - y0) * (across - x0) / (x1 - x0) if x1 > x0 else y0


def _series(series: Series, x: Scale, y: Scale) -> str:
    """Return one line with its points; where a value is missing the line has a gap."""
    path: list[str] = []
    points: list[str] = []
    is_open = False
    for point in series.points:
        if point.y is None or not (y.can_show(point.y) and x.can_show(point.x)):
            is_open = False
            continue
        across, down = x.at(point.x), y.at(point.y)
        path.append(f"{'L' if is_open else 'M'}{across:.1f} {down:.1f}")
        is_open = True
        if series.dots != "none":
            is_seen = series.dots == "all" or point in (series.points[0], series.points[-1])
            tip = f"<title>{escaped(point.tip)}</title>" if point.tip else ""
            hit = f'<circle class="hit" cx="{across:.1f}" cy="{down:.1f}" r="11"/>'
            kind = "point" if is_seen else "point quiet"
            points.append(f'<g class="{kind}">{tip}{hit}{_dot(series.colour, across, down)}</g>')
    dashed = " dashed" if series.is_dashed else ""
    line = f'<path class="line{dashed}" d="{"".join(path)}"/>' if path else ""
    return f'<g class="c{series.colour}">{line}{"".join(points)}</g>'


def _dot(colour: int, x: float, y: float) -> str:
    """Return a point in its colour's shape."""
    shape = SHAPES[colour]
    if shape == "circle":
        return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    paths = {"square": "m-3.5 -3.5h7v7h-7z", "diamond": "m0 -5l5 5l-5 5l-5 -5z", "triangle": "m0 -5l5 9h-10z"}
    return f'<path class="dot" d="M{x:.1f} {y:.1f}{paths[shape]}"/>'


def bar_chart(chart: BarChart, width: int, *, standalone: bool = False) -> str:
    """Return the chart as an ``<svg>`` element; ``standalone``: as a file of its own."""
    row, thickness = 30, 20
    left = max((len(bar.label) for bar in chart.bars), default=0) * BOLD + 10
    right = width - max((len(bar.note) for bar in chart.bars), default=0) * BOLD - 10
    legend, top = _bar_legend(chart, width)
    longest = max((sum(part.value for part in bar.parts) for bar in chart.bars), default=0.0)
    drawn = [legend]
    for number, bar in enumerate(chart.bars):
        y = top + number * row
        whole = sum(part.value for part in bar.parts) if chart.axis is None else longest
        middle, kind = y + thickness / 2 + 4, "here" if bar.is_marked else ""
        drawn.append(write(left - 10, middle, bar.label, kind, "end"))
        across = left
        for part in bar.parts:
            size = part.value / whole * (right - left) if whole > 0 else 0.0
            drawn.append(_part(part, across, y, size, thickness))
            across += size
        drawn.append(write((right if chart.axis is None else across) + 10, middle, bar.note, kind))
    bottom = top + len(chart.bars) * row
    if chart.axis is not None:
        x = Scale.over(attrs.evolve(chart.axis, low=0.0), [longest], left, right)
        drawn += _x_axis(x, left, right, bottom)
        bottom += 2 * LINE + 8
    return element(chart.title, chart.description, width, bottom, "".join(drawn), standalone)


def _part(part: Part, x: float, y: float, size: float, thickness: float) -> str:
    """Return a part of a bar, a gap of a pixel behind it, with its name in it when there is room."""
    if size < 0.5:
        return ""
    inner = max(size - 1, 0.5)
    name = ""
    if len(part.name) * BOLD + 10 < inner:
        name = write(x + inner / 2, y + thickness / 2 + 4, part.name, "inside", "middle")
    tip = f"<title>{escaped(part.tip)}</title>" if part.tip else ""
    return (
        f'<g class="c{part.colour}">{tip}<rect class="part" x="{x:.1f}" y="{y:.1f}" width="{inner:.1f}" '
        f'height="{thickness}" rx="2"/>{name}</g>'
    )


def _bar_legend(chart: BarChart, width: float) -> tuple[str, float]:
    """Return the names of the parts in the order in which they first come, and the height of that."""
    colours = {part.name: part.colour for bar in chart.bars for part in bar.parts}
    drawn, across, down = [], 0.0, 0.0
    for name, colour in colours.items():
        size = len(name) * LETTER + 34
        if across and across + size - 14 > width:
            across, down = 0.0, down + LINE + 2
        drawn.append(
            f'<g class="c{colour}"><rect class="part" x="{across:.1f}" y="{down + 2:.1f}" width="14" '
            f'height="12" rx="2"/></g>{write(across + 19, down + 12, name)}'
        )
        across += size
    return "".join(drawn), down + LINE + 8 if colours else 0.0
