"""A report's charts, as values for `plot`: by size or rate, over time, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from trio_stomp.stress import units
from trio_stomp.stress.plot import Bar, BarChart, Line, LineChart, Panel, Part, Point, Series
from trio_stomp.stress.results import Moment, Report, Run
from trio_stomp.stress.scale import Axis
from trio_stomp.stress.table import goal_of, is_marked, plain, run_name, split_parts

BLUE, VERMILION, GREEN, PURPLE, GREY = range(5)

SPREAD: Final = 12
"""Largest to smallest from which an axis is logarithmic: on a linear one the smaller would lie flat."""

MEANING: Final = (
    ("late", GREEN, "sent later than intended"),
    ("session", PURPLE, "waited for its session's earlier frames"),
    ("pool", VERMILION, "waited for a thread"),
    ("call", BLUE, "held a thread: the external call"),
    ("rest", GREY, "network, frames, broker"),
)


def overview(report: Report) -> LineChart | None:
    """Return throughput and latency by size or by rate; None when there are not two runs to compare."""
    if report.kind == "sweep":
        runs = [run for run in report.runs if run.threads]
        x, at = Axis(title="threads", scale="log2", show=units.round_number), _threads
    else:
        runs = list(report.runs)
        x, at = Axis(title="offered, requests per second", show=units.round_number), _rate
    if len({at(run) for run in runs}) < 2:
        return None
    panels = [_throughput(report, runs, at), _latency(report, runs, at)]
    failed = [(at(run), _failed(run)) for run in runs]
    if any(share for _, share in failed):
        points = tuple(Point(here, share * 100, f"{units.share(share)} failed") for here, share in failed)
        y = Axis(title="%", show=lambda value: f"{units.round_number(value)} %")
        series = Series(name="failed", points=points, colour=VERMILION)
        panels.append(Panel(title="Rejected, failed or lost", y=y, series=(series,), height=90))
    marks, band = _marks(report)
    return LineChart(
        title=f"Throughput and latency by {'pool size' if report.kind == 'sweep' else 'rate'}",
        description="; ".join(
            f"{run_name(report, run)}: {units.rate(run.achieved)}, p99 {units.duration(_known(run, 'p99'))}"
            for run in runs
        ),
        x=x,
        panels=tuple(panels),
        marks=marks,
        band=band,
    )


def over_time(report: Report) -> tuple[LineChart, ...]:
    """Return a small chart of p50 and p99 for each run that has a timeline, all with the same y axis."""
    runs = [run for run in report.runs if run.timeline]
    values = [
        value
        for run in runs
        for moment in run.timeline
        for value in (moment.p50, moment.p99)
        if moment.sent and value > 0
    ]
    y = _time_axis(values)
    if values:  # so that all of them end where the others do
        y = attrs.evolve(y, low=min(values) if y.scale != "linear" else None, high=max(values))
    return tuple(_timeline(report, run, y) for run in runs)


def time_split(report: Report) -> BarChart | None:
    """Return a bar for each run, its parts the shares of the mean latency; None when nothing is known."""
    bars = []
    for run in report.runs:
        if run.split is None:
            continue
        parts = dict(split_parts(run.split))
        mean = sum(value or 0.0 for value in parts.values())
        shown = tuple(
            Part(parts[name] or 0.0, colour, name, f"{name}, {meaning}: {units.duration(parts[name])}")
            for name, colour, meaning in MEANING
        )
        bars.append(
            Bar(
                label=_short(run_name(report, run)) if len(report.runs) > 1 else "",
                parts=shown,
                note=units.duration(mean),
                is_marked=is_marked(report, run),
            )
        )
    if not bars:
        return None
    return BarChart(
        title="Where the time went",
        description="Shares of the mean latency; the numbers are in the table.",
        bars=tuple(bars),
    )


def _threads(run: Run) -> float:
    return float(run.threads or 0)


def _rate(run: Run) -> float:
    return run.rate


def _throughput(report: Report, runs: Sequence[Run], at: Callable[[Run], float]) -> Panel:
    achieved = Series(
        name="achieved",
        points=tuple(
            Point(at(run), run.achieved, f"{run_name(report, run)}: {units.rate(run.achieved)}")
            for run in runs
        ),
        colour=BLUE,
    )
    series: tuple[Series, ...] = (achieved,)
    limits: tuple[Line, ...] = ()
    rates = {run.rate for run in runs}
    if report.kind == "ramp":
        points = tuple(Point(run.rate, run.rate) for run in runs)
        series += (Series(name="offered", points=points, colour=GREY, is_dashed=True, dots="none"),)
    elif len(rates) == 1:
        offered = rates.pop()
        limits = (Line(offered, f"offered {units.rate(offered)}"),)
    y = Axis(title="answers per second", show=units.round_number)
    return Panel(title="Throughput, answers per second", y=y, series=series, limits=limits)


def _latency(report: Report, runs: Sequence[Run], at: Callable[[Run], float]) -> Panel:
    series = tuple(
        Series(
            name=name,
            points=tuple(
                Point(
                    at(run),
                    _known(run, name),
                    f"{run_name(report, run)}: {name} {units.duration(_known(run, name))}",
                )
                for run in runs
            ),
            colour=colour,
        )
        for name, colour in (("p99", VERMILION), ("p50", BLUE))
    )
    values = [point.y for line in series for point in line.points if point.y]
    # A target far from everything that was measured would only squeeze the curves.
    limits = tuple(
        Line(criterion.limit, str(criterion))
        for criterion in goal_of(report)
        if criterion.name in ("p50", "p99")
        and values
        and min(values) / 5 <= criterion.limit <= max(values) * 5
    )
    y = _time_axis([*values, *(limit.at for limit in limits)])
    log = "" if y.scale == "linear" else " (logarithmic)"
    return Panel(title=f"Latency{log}", y=y, series=series, limits=limits)


def _time_axis(values: Iterable[float]) -> Axis:
    values = tuple(values)
    is_wide = bool(values) and max(values) > SPREAD * min(values)
    return Axis(title="latency", scale="log10" if is_wide else "linear", show=units.round_duration)


def _timeline(report: Report, run: Run, y: Axis) -> LineChart:
    def series(name: str, colour: int, value: Callable[[Moment], float]) -> Series:
        points = tuple(
            Point(
                moment.at + moment.seconds / 2,
                value(moment) if moment.sent else None,
                f"{units.number(moment.at)} s: {name} {units.duration(value(moment))}",
            )
            for moment in run.timeline
        )
        return Series(name=name, points=points, colour=colour, dots="ends")

    is_alone = len(report.runs) == 1
    name = run_name(report, run)
    unit = " threads" if report.kind == "sweep" and run.threads is not None else ""
    lines = (
        series("p99", VERMILION, lambda moment: moment.p99),
        series("p50", BLUE, lambda moment: moment.p50),
    )
    last = run.timeline[-1]
    return LineChart(
        title=f"Latency over time: {name}{unit}",
        description=f"p50 and p99 of {len(run.timeline)} intervals",
        x=Axis(title="seconds", show=units.round_number, low=0.0, high=last.at + last.seconds),
        panels=(
            Panel(
                title="Latency" if is_alone else _short(f"{name}{unit}"),
                y=y,
                series=lines,
                height=200 if is_alone else 120,
            ),
        ),
    )


def _marks(report: Report) -> tuple[tuple[Line, ...], tuple[float, float] | None]:
    """Return the line at what was found, and the part of a ramp that did not hold."""
    if report.recommendation is not None and report.kind == "sweep":
        threads = report.recommendation.threads
        return (Line(float(threads), f"recommended: {units.count(threads)}"),), None
    point = report.breaking_point
    if point is None or point.breaks is None:
        return (), None
    highest = max(run.rate for run in report.runs)
    return (Line(point.breaks, f"breaks at {units.rate(point.breaks)}"),), (point.breaks, highest * 2)


def _failed(run: Run) -> float:
    return (run.rejected + run.errors + run.lost) / run.sent if run.sent else 0.0


def _known(run: Run, name: str) -> float | None:
    value: float = getattr(run.corrected, name)
    return value if run.corrected.count else None


def _short(text: str) -> str:
    text = plain(text)
    return text if len(text) <= 24 else text[:21] + "..."
