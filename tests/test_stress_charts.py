"""Which charts a report has, and what is in them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from stress_values import NOTHING, a_latency, a_report, a_run, a_split

from trio_stomp.stress.charts import over_time, overview, time_split
from trio_stomp.stress.plot import LineChart, Panel, Series
from trio_stomp.stress.results import Moment, Report, Run


def a_sweep(*runs: Run, **changes: Any) -> Report:
    sizes = runs or tuple(a_run(threads, achieved=threads * 50.0) for threads in (4, 8, 16))
    return a_report(sizes, **changes)


def a_ramp() -> Report:
    steps = [a_run(rate=100.0), a_run(rate=200.0), a_run(rate=300.0, achieved=150.0, errors=600, sent=6000)]
    return a_report(steps, kind="ramp")


def chart(report: Report) -> LineChart:
    found = overview(report)
    assert found is not None
    return found


def values(series: Series) -> list[tuple[float, float | None]]:
    return [(point.x, point.y) for point in series.points]


def titles(found: LineChart) -> list[str]:
    return [panel.title for panel in found.panels]


def latency(report: Report) -> Panel:
    return chart(report).panels[1]


def test_sweep_shows_throughput_and_latency_by_size() -> None:
    found = chart(a_sweep())
    assert (found.x.title, found.x.scale) == ("threads", "log2")
    assert titles(found) == ["Throughput, answers per second", "Latency"]
    assert values(found.panels[0].series[0]) == [(4, 200), (8, 400), (16, 800)]
    assert [series.name for series in found.panels[1].series] == ["p99", "p50"]
    assert values(found.panels[1].series[0])[0] == (4, pytest.approx(0.038))
    assert found.panels[0].series[0].points[0].tip == "4: 200/s"
    assert found.panels[1].series[0].points[0].tip == "4: p99 38.0 ms"


def test_recommended_size_is_marked() -> None:
    assert [(mark.at, mark.label) for mark in chart(a_sweep()).marks] == [(16, "recommended: 16")]
    assert chart(a_sweep(recommendation=None)).marks == ()


def test_offered_rate_is_a_line_where_it_is_the_same_for_all() -> None:
    assert [limit.label for limit in chart(a_sweep()).panels[0].limits] == ["offered 1,000/s"]
    assert chart(a_sweep(a_run(4, rate=10.0), a_run(8, rate=20.0))).panels[0].limits == ()


def test_ramp_shows_what_was_achieved_against_what_was_offered() -> None:
    found = chart(a_ramp())
    assert (found.x.title, found.x.scale) == ("offered, requests per second", "linear")
    achieved, offered = found.panels[0].series
    assert values(achieved) == [(100, 100), (200, 200), (300, 150)]
    assert values(offered) == [(100, 100), (200, 200), (300, 300)]
    assert offered.is_dashed


def test_breaking_point_is_marked_and_all_beyond_it_shaded() -> None:
    found = chart(a_ramp())
    assert [(mark.at, mark.label) for mark in found.marks] == [(300, "breaks at 300/s")]
    assert found.band is not None
    assert found.band[0] == 300
    assert found.band[1] > 300


def test_ramp_that_nothing_broke_has_no_mark() -> None:
    found = chart(a_report([a_run(rate=100.0), a_run(rate=200.0)], kind="ramp"))
    assert (found.marks, found.band) == ((), None)


def test_failures_are_shown_where_there_are_any() -> None:
    assert titles(chart(a_ramp()))[2:] == ["Rejected, failed or lost"]
    (series,) = chart(a_ramp()).panels[2].series
    assert values(series) == [(100, 0), (200, 0), (300, 10)]
    assert series.points[2].tip == "10.0 % failed"
    assert chart(a_ramp()).panels[2].y.show(2.5) == "2.5 %"
    assert values(chart(a_sweep(a_run(4, sent=0), a_run(8, lost=1))).panels[2].series[0])[0] == (4, 0)


def test_nothing_to_compare_is_no_chart() -> None:
    assert overview(a_sweep(a_run(4), a_run(4))) is None
    assert overview(a_report([a_run()], kind="run")) is None
    assert overview(a_report([], kind="ramp")) is None


def test_latency_far_apart_is_on_a_logarithmic_axis() -> None:
    near = latency(a_sweep(a_run(4, corrected=a_latency(0.1)), a_run(8)))
    assert (near.y.scale, near.title) == ("linear", "Latency")
    far = latency(a_sweep(a_run(4, corrected=a_latency(5.0)), a_run(8)))
    assert (far.y.scale, far.title) == ("log10", "Latency (logarithmic)")


def test_latency_that_is_not_known_is_a_gap() -> None:
    panel = latency(a_sweep(a_run(4, corrected=NOTHING), a_run(8)))
    assert values(panel.series[0])[0] == (4, None)
    assert panel.series[0].points[0].tip == "4: p99 -"


@pytest.mark.parametrize(
    ("goal", "labels"),
    [
        ("p99<50ms,lost<1", ["p99<50ms"]),
        ("p50<21ms,p99<40ms", ["p50<21ms", "p99<40ms"]),
        ("p99<10s", []),
        ("p90<50ms", []),
        (None, []),
    ],
)
def test_target_is_a_line_when_it_is_near_what_was_measured(goal: str | None, labels: list[str]) -> None:
    assert [limit.label for limit in latency(a_sweep(goal=goal)).limits] == labels


def test_target_of_another_version_is_passed_over() -> None:
    assert latency(attrs.evolve(a_sweep(), goal="p42<1parsec")).limits == ()


def moments(*latencies: float) -> tuple[Moment, ...]:
    return tuple(
        Moment(at=float(index), seconds=1.0, sent=bool(p50), answered=9, p50=p50, p99=p50 * 2)
        for index, p50 in enumerate(latencies)
    )


def test_each_run_with_a_timeline_has_a_chart_of_it() -> None:
    report = a_sweep(a_run(4, timeline=moments(0.1, 0.2)), a_run(8, timeline=moments(0.3, 0.3)), a_run(16))
    found = over_time(report)
    assert [each.panels[0].title for each in found] == ["4 threads", "8 threads"]
    assert values(found[0].panels[0].series[0]) == [(0.5, 0.2), (1.5, 0.4)]
    assert values(found[0].panels[0].series[1]) == [(0.5, 0.1), (1.5, 0.2)]
    assert found[0].panels[0].series[1].points[1].tip == "1.00 s: p50 200 ms"
    assert (found[0].x.low, found[0].x.high) == (0, 2)


@pytest.mark.parametrize(("other", "scale", "low"), [(0.3, "linear", None), (9.0, "log10", 0.1)])
def test_all_timelines_have_the_same_axis(other: float, scale: str, low: float | None) -> None:
    found = over_time(a_sweep(a_run(4, timeline=moments(0.1)), a_run(8, timeline=moments(other))))
    axes = [each.panels[0].y for each in found]
    assert axes[0] == axes[1]
    assert (axes[0].scale, axes[0].low, axes[0].high) == (scale, low, other * 2)


def test_interval_in_which_nothing_was_sent_is_a_gap() -> None:
    (found,) = over_time(a_report([a_run(timeline=moments(0.1, 0.0, 0.1))], kind="run"))
    assert [y for _, y in values(found.panels[0].series[1])] == [0.1, None, 0.1]


def test_timeline_of_nothing_is_an_empty_chart() -> None:
    (found,) = over_time(a_report([a_run(timeline=moments(0.0, 0.0))], kind="run"))
    assert {y for _, y in values(found.panels[0].series[0])} == {None}


def test_only_run_has_a_larger_chart_without_its_name() -> None:
    (found,) = over_time(a_report([a_run(timeline=moments(0.1))], kind="run"))
    assert found.panels[0].title == "Latency"
    two = over_time(a_report([a_run(rate=rate, timeline=moments(0.1)) for rate in (1.0, 2.0)], kind="ramp"))
    assert [each.panels[0].title for each in two] == ["1.00/s", "2.00/s"]
    assert found.panels[0].height > two[0].panels[0].height


def test_time_split_has_a_bar_for_each_run_that_has_one() -> None:
    found = time_split(a_sweep(a_run(4, split=a_split(0.02, pool=None)), a_run(8), a_run(16, split=None)))
    assert found is not None
    assert [(bar.label, bar.note, bar.is_marked) for bar in found.bars] == [
        ("4", "21.4 ms", True),
        ("8", "21.4 ms", False),
    ]
    parts = found.bars[0].parts
    assert [part.name for part in parts] == ["late", "session", "pool", "call", "rest"]
    assert [part.value for part in parts] == [0.0001, 0.0003, 0.0, 0.02, 0.001]
    assert parts[3].tip == "call, held a thread: the external call: 20.0 ms"
    assert parts[2].tip == "pool, waited for a thread: -"
    assert len({part.colour for part in parts}) == 5


def test_time_split_of_one_run_needs_no_name() -> None:
    found = time_split(a_report([a_run()], kind="run"))
    assert found is not None
    assert found.bars[0].label == ""
    assert time_split(a_report([a_run(split=None)], kind="run")) is None


def test_long_names_are_cut() -> None:
    found = time_split(a_report([a_run(label="x" * 99), a_run()], kind="run"))
    assert found is not None
    assert found.bars[0].label == "x" * 21 + "..."
