"""The connections of each server over time, as SVG, for bench/deploy.py."""

from __future__ import annotations

from collections.abc import Sequence

from deploy_kinds import Result

from trio_stomp.stress.plot import LineChart, Panel, Point, Series, line_chart
from trio_stomp.stress.scale import Axis
from trio_stomp.stress.svg import LIGHT

_WIDTH = 960
"""Pixels."""


def plot(results: Sequence[Result]) -> str:
    """A panel for each deployment, above one time axis, so that one sees how long each takes too."""
    return line_chart(
        LineChart(
            title="Connections of each server during a deployment",
            description="; ".join(
                f"{result.title}: {result.seconds:.0f} s, {result.mean:.2f} reconnects of a client"
                for result in results
            ),
            x=Axis(title="seconds from the start of the deployment", low=0.0),
            panels=tuple(_panel(result) for result in results),
        ),
        _WIDTH,
        standalone=True,
    )


def _panel(result: Result) -> Panel:
    return Panel(
        title=f"{result.title}: {result.mean:.2f} reconnects",
        y=Axis(title="connections", low=0.0),
        series=tuple(
            Series(
                name=name,
                points=_corners(result.times, counts),
                colour=place % result.servers % len(LIGHT),
                is_dashed=place >= result.servers,
                dots="none",
            )
            for place, (name, counts) in enumerate(result.connections.items())
        ),
        height=130,
    )


def _corners(times: Sequence[float], counts: Sequence[int]) -> tuple[Point, ...]:
    """The points where the count changes, and the ends: long waits take no room in the file."""
    last = len(counts) - 1
    return tuple(
        Point(times[place], count)
        for place, count in enumerate(counts)
        if place in (0, last) or not counts[place - 1] == count == counts[place + 1]
    )
