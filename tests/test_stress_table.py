"""A report as text: what is in it, how wide it is, and what it does not let through."""

from __future__ import annotations

import io
from typing import Any

import attrs
import pytest
from stress_values import NOTHING, Service, a_report, a_run, a_split

from trio_stomp.stress.results import BreakingPoint, Report
from trio_stomp.stress.table import (
    conditions,
    failure_lines,
    is_marked,
    law_lines,
    plain,
    report_text,
    rich_table,
    split_columns,
    title,
    verdict,
)

RED = "\x1b[31m"


def a_sweep(**changes: Any) -> Report:
    service = Service(12, noise=0.0)
    return a_report([service.run(threads, 700.0) for threads in (4, 8, 16)], goal="p99<250ms", **changes)


def a_ramp() -> Report:
    return a_report([a_run(rate=100.0), a_run(rate=200.0), a_run(rate=300.0, achieved=150.0)], kind="ramp")


def a_broken_run(**changes: Any) -> Report:
    nothing: dict[str, Any] = {"corrected": NOTHING, "raw": NOTHING, "split": None, "server": None}
    return a_report([a_run(sent=0, answered=0, achieved=0.0, **nothing)], kind="run", **changes)


def test_a_line_for_each_run_with_its_numbers_under_their_heads() -> None:
    lines = report_text(a_report([a_run(8, achieved=400.0, rejected=12), a_run(16)])).splitlines()
    start = lines.index("Results (latency from when it was due)")
    assert lines[start + 1].split() == [
        *("payments", "offered", "achieved", "p50", "p90", "p99", "p99.9", "max", "raw", "p99"),
        *("rejected", "errors", "lost", "CPU"),
    ]
    assert lines[start + 2].split() == ["/s", "/s", *["ms"] * 6, "cores"]
    assert lines[start + 3].split() == [
        *("8", "1,000", "400", "20.0", "26.0", "38.0", "52.0", "68.0", "36.1", "12", "0", "0", "0.20")
    ]
    assert lines[start + 4].split()[0] == "16*"


def test_columns_are_aligned() -> None:
    lines = report_text(a_sweep()).splitlines()
    start = lines.index("Results (latency from when it was due)") + 1
    ends = {lines[row].index(text) + len(text) for row, text in ((start, "achieved"), (start + 2, "200"))}
    assert len(ends) == 1
    assert len({len(line) for line in lines[start : start + 5]}) == 1


@pytest.mark.parametrize("report", [a_sweep(), a_ramp(), a_broken_run()], ids=lambda report: report.kind)
@pytest.mark.parametrize("width", [40, 57, 80, 100])
def test_no_line_is_wider_than_asked(report: Report, width: int) -> None:
    report = attrs.evolve(report, command="x " * 200, machine="a machine with a name " * 5)
    assert max(map(len, report_text(report, width).splitlines())) <= width


def test_width_has_bounds() -> None:
    report = a_sweep()
    assert report_text(report, 1000) == report_text(report, 100)
    assert report_text(report, 1) == report_text(report, 40)


def test_least_important_columns_go_first() -> None:
    shown = [
        {name for name in ("achieved", "p99", "p50", "raw p99", "RSS") if f" {name} " in text}
        for text in (report_text(a_ramp(), width).replace("\n", " ") for width in (100, 90, 60, 40))
    ]
    assert shown == [
        {"achieved", "p99", "p50", "raw p99", "RSS"},
        {"achieved", "p99", "p50", "raw p99"},
        {"achieved", "p99", "p50"},
        {"achieved", "p99", "p50"},
    ]


def test_ramp_is_told_apart_by_its_rate_and_shows_it_once() -> None:
    lines = report_text(a_ramp()).splitlines()
    head = next(line for line in lines if "achieved" in line).split()
    assert head[:2] == ["offered", "achieved"]
    assert head.count("offered") == 1
    assert any(line.split()[:2] == ["200/s*", "200"] for line in lines)


def test_long_name_is_cut() -> None:
    report = a_report([a_run(label="ws://a-very-long-host-name.example.org:8080/ws")], kind="run")
    assert "\nws://a-very-long-host..." in report_text(report).replace("    ", "")


def test_split_adds_up_to_the_mean_and_tells_the_threads_in_use() -> None:
    report = a_report([a_run(8, achieved=400.0, split=a_split(0.02, pool=0.1, rest=0.0016))])
    cells = [column.cell(report.runs[0]) for column in split_columns(report)]
    assert cells == ["8*", "0.100", "0.300", "100", "20.0", "1.60", "122", "8.00"]


def test_what_is_not_known_is_a_dash() -> None:
    text = report_text(a_broken_run())
    assert "Where the time went" not in text
    assert text.splitlines()[7].split() == ["run", "1,000", "0", *["-"] * 6, "0", "0", "0", "-", "-"]
    report = a_report([a_run(8, split=None), a_run(16, split=a_split(None, pool=None))])
    rows = report_text(report).split("Where the time went")[1].splitlines()[3:5]
    assert [row.split() for row in rows] == [
        ["8*", *["-"] * 7],
        ["16", "0.100", "0.300", "-", "-", "1.00", "1.40", "-"],
    ]


def test_sections_in_order() -> None:
    text = report_text(a_sweep())
    headings = ("Results", "Where the time went", "Little's law", "Errors", "Warnings", "Result\n")
    places = [text.index("\n" + heading) for heading in headings]
    assert places == sorted(places)
    assert text.endswith("\n\n    [pools.payments]\n    threads = 16\n")


def test_result_stands_at_the_end_of_a_ramp() -> None:
    assert report_text(a_ramp()).endswith(
        "Result\n  200/s holds, 300/s does not: 150/s achieved of 300/s (50.0 %).\n"
    )


@pytest.mark.parametrize(
    ("point", "text"),
    [
        (BreakingPoint(holds=None, breaks=100.0, reason="slow"), "no rate holds, 100/s does not: slow."),
        (BreakingPoint(holds=300.0, breaks=None, reason="fine"), "300/s holds, nothing broke: fine."),
    ],
)
def test_verdict_of_a_ramp_that_broke_at_once_or_never(point: BreakingPoint, text: str) -> None:
    assert verdict(attrs.evolve(a_ramp(), breaking_point=point)) == text


def test_a_run_has_no_verdict_and_no_mark() -> None:
    report = a_broken_run()
    assert verdict(report) == ""
    assert not is_marked(report, report.runs[0])
    assert "Result\n" not in report_text(report)


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        ("p99<250ms", "meets p99<250ms."),
        (
            "p99<1ms,lost<1,cpu<0.1",
            "misses the target: p99 38.0 ms, not p99<1ms; cpu 0.20 cores, not cpu<0.1.",
        ),
        ("p42<1parsec", ""),
        (None, ""),
    ],
)
def test_verdict_of_a_run_is_about_the_target(goal: str | None, text: str) -> None:
    assert verdict(attrs.evolve(a_report([a_run()], kind="run"), goal=goal)) == text


def test_errors_are_counted_by_kind_over_all_runs() -> None:
    report = a_report(
        [
            a_run(4, failures=(("overloaded", 7), ("timeout", 1))),
            a_run(8, failures=(("overloaded", 9), ("overloaded", 1))),
            a_run(16),
        ]
    )
    assert failure_lines(report) == (
        "17 times overloaded (in 2 of 3 runs, most in 8)",
        "once timeout (in 1 of 3 runs, most in 4)",
    )
    assert failure_lines(a_report([a_run(failures=(("timeout", 3),))])) == ("3 times timeout",)


def test_littles_law_is_told_of_the_marked_run_or_of_all() -> None:
    assert len(law_lines(a_sweep())) == 1
    report = attrs.evolve(a_ramp(), breaking_point=None)
    assert [line.split(":")[0] for line in law_lines(report)] == ["100/s", "200/s", "300/s"]


def test_title_says_what_was_tested() -> None:
    assert title(a_sweep()) == "sweep of payments: shop.app:app, /app/pay, answered on /user/queue/receipts"
    assert title(attrs.evolve(a_sweep(), runs=())) == (
        "sweep: shop.app:app, /app/pay, answered on /user/queue/receipts"
    )
    assert title(a_broken_run(reply=None)) == "run: shop.app:app, /app/pay"


def test_conditions_say_what_was_the_same_in_all_runs() -> None:
    assert conditions(a_sweep()) == "200 clients, 20.0 s measured a run, target p99<250ms"
    report = a_report([a_run(clients=10), a_run(clients=20, duration=5.0)], kind="run")
    assert conditions(report) == "10 and 20 clients, 5.00 and 20.0 s measured a run"
    assert conditions(attrs.evolve(report, runs=())) == "no clients, no s measured a run"


def test_control_characters_are_shown_and_not_sent_to_the_terminal() -> None:
    assert plain(f"{RED}red\n\x07\u202e") == "\\x1b[31mred\\n\\x07\\u202e"
    report = a_report(
        [a_run(label=RED, failures=((RED, 1),), lost=1)],
        kind="run",
        **dict.fromkeys(("version", "started", "machine", "target", "destination", "reply"), RED),
    )
    assert "\x1b" not in report_text(report)


def test_report_without_runs_is_text_too() -> None:
    assert "no clients" in report_text(a_report([], kind="run"))


def rendered(report: Report, width: int, **settings: Any) -> str:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=width, **settings)
    console.print(rich_table(report, width))
    text: str = console.file.getvalue()
    return text


@pytest.mark.parametrize("report", [a_sweep(), a_ramp(), a_broken_run()], ids=lambda report: report.kind)
@pytest.mark.parametrize("width", [60, 100])
def test_rich_table_says_the_same(report: Report, width: int) -> None:
    assert rendered(report, width).split() == report_text(report, width).split()


def test_rich_table_marks_the_recommended_row() -> None:
    lines = rendered(a_sweep(), 100, force_terminal=True, color_system="standard").splitlines()
    marked = [line for line in lines if "16*" in line]
    assert len(marked) == 2
    assert all(line.startswith("\x1b[1;32m") for line in marked)


def test_rich_table_takes_no_markup_and_no_controls_from_the_report() -> None:
    report = a_report([a_run(label=f"[red]x[/red]{RED}", lost=1)], kind="run")
    text = rendered(report, 100)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
