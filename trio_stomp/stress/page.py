"""A report as one HTML page that opens without a network: inline style and SVG, no script.

Rule 1: whatever comes from the report is escaped; where it came from the server, also its control characters.
Rule 2: the page loads nothing: no font, no image, no link. Rule 3: it is as good on a phone, and in the dark.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources

from trio_stomp.stress import charts, units
from trio_stomp.stress.advice import busy_threads, judged_runs
from trio_stomp.stress.plot import BarChart, LineChart, bar_chart, line_chart
from trio_stomp.stress.results import Report, Run
from trio_stomp.stress.svg import STYLE
from trio_stomp.stress.table import (
    Column,
    conditions,
    failure_lines,
    is_marked,
    law_lines,
    meets_goal,
    plain,
    result_columns,
    run_name,
    split_columns,
    title,
)

WIDE, NARROW, SMALL = 1040, 336, 320
"""Pixels that a chart is drawn for: beside a margin on a desktop, on a phone, and as one of several."""


def report_page(report: Report) -> str:
    """Return the whole page; the same report gives the same page."""
    body = "\n".join(_main(report))
    style = resources.files("trio_stomp.stress").joinpath("page.css").read_text(encoding="utf-8")
    headline = _headline(report)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_escaped(headline)} - trio-stomp stress</title>
<style>
{style}{STYLE}</style>
</head>
<body>
<header>
<p class="over">{_escaped(title(report))}</p>
<h1>{_escaped(headline)}</h1>
{_lead(report)}
</header>
<main>
{body}
</main>
<footer>trio-stomp {_escaped(report.version)}, {_escaped(report.started)}</footer>
</body>
</html>
"""


def _headline(report: Report) -> str:
    """Return the result in a few words."""
    if report.recommendation is not None:
        found = report.recommendation
        return f"{units.count(found.threads)} {_threads(found.threads)} for {plain(found.pool)}"
    if report.breaking_point is not None:
        point = report.breaking_point
        if point.holds is None:
            return "Not even the lowest rate holds"
        broken = "" if point.breaks is None else f", {units.rate(point.breaks)} does not"
        return f"{units.rate(point.holds)} holds{broken}"
    if not any(run.answered for run in report.runs):
        return "Nothing was answered"
    run = report.runs[0]
    return f"{units.rate(run.rate)} offered, {units.rate(run.achieved)} answered"


def _threads(count: int) -> str:
    return "thread" if count == 1 else "threads"


def _lead(report: Report) -> str:
    parts = []
    if report.recommendation is not None:
        reason = report.recommendation.reason
        parts.append(f'<p class="lead">{_escaped(reason[:1].upper() + reason[1:])}</p>')
    elif report.breaking_point is not None:
        reason = report.breaking_point.reason
        parts.append(f'<p class="lead">{_escaped(reason[:1].upper() + reason[1:])}.</p>')
    is_met = meets_goal(report)
    if is_met is not None:
        kind, words = ("good", "meets") if is_met else ("bad", "misses")
        parts.append(f'<p class="badge {kind}">{words} {_escaped(report.goal or "the target")}</p>')
    return "\n".join(parts)


def _main(report: Report) -> Iterator[str]:
    """Yield the sections from the result to the small print."""
    shown = judged_runs(report)
    if shown:
        yield _figures(report, shown[0])
    if report.recommendation is not None:
        yield _paste(report.recommendation.toml)
    if report.warnings:
        yield _section("Read the numbers with care", _list(report.warnings), kind="doubts")
    overview = charts.overview(report)
    if overview is not None:
        yield _section(overview.title, _twice(overview, line_chart))
    timelines = charts.over_time(report)
    if timelines:
        yield _section("Latency over time", *_over_time(timelines))
    split = charts.time_split(report)
    if split is not None:
        hint = (
            "Shares of the mean latency of answered requests, which stands behind each bar. "
            + ". ".join(f"{name.capitalize()}: {meaning}" for name, _, meaning in charts.MEANING)
            + "."
        )
        law = "".join(f'<p class="law">{_escaped(line)}</p>' for line in law_lines(report))
        yield _section("Where the time went", _twice(split, bar_chart) + law, hint)
    yield _section("All numbers", _table(report, result_columns(report), "Results of all runs"))
    if split is not None:
        yield _section("The split in numbers", _table(report, split_columns(report), "Split of the time"))
    if failure_lines(report):
        yield _section("Errors", _list(failure_lines(report)))
    yield _section("How it was measured", _method(report))


def _over_time(charts_of_runs: Sequence[LineChart]) -> tuple[str, str]:
    """Return the charts, a large one or several small ones, and what is to be said of them."""
    hint = "Percentiles of the requests that were due in each interval"
    if len(charts_of_runs) == 1:
        return _twice(charts_of_runs[0], line_chart), f"{hint}."
    drawn = "".join(line_chart(chart, SMALL) for chart in charts_of_runs)
    return f'<div class="small">{drawn}</div>', f"{hint}; the same scale in every chart."


def _figures(report: Report, run: Run) -> str:
    """Return the few figures of the run that the result rests on."""
    known = run.corrected if run.corrected.count else None
    failed = run.rejected + run.errors + run.lost
    figures = [
        ("Achieved", units.rate(run.achieved)),
        ("p50", units.duration(None if known is None else known.p50)),
        ("p99", units.duration(None if known is None else known.p99)),
        ("Failed", units.share(failed / run.sent if run.sent else None)),
    ]
    busy = busy_threads(run)
    if busy is not None:
        of = "" if run.threads is None else f" of {units.count(run.threads)}"
        figures.append(("Threads busy", f"{units.number(busy)}{of}"))
    if run.server is not None:
        figures.append(("Server CPU", f"{run.server.cpu:.2f} cores"))
    cells = "".join(f"<div><dt>{name}</dt><dd>{_escaped(value)}</dd></div>" for name, value in figures)
    name = run_name(report, run)
    at = f"With {name} {_threads(run.threads or 0)}" if report.recommendation else f"At {name}"
    heading = at if len(report.runs) > 1 else "Result"
    return f'<section class="bare"><h2>{_escaped(heading)}</h2>\n<dl class="figures">{cells}</dl></section>'


def _paste(toml: str) -> str:
    hint = "Paste into the settings file that <code>trio-stomp serve --config</code> reads."
    return (
        '<section class="paste" aria-label="Settings">'
        f"<pre><code>{_escaped(toml)}</code></pre><p>{hint}</p></section>"
    )


def _section(heading: str, content: str, hint: str = "", *, kind: str = "") -> str:
    classes = f' class="{kind}"' if kind else ""
    below = f'<p class="hint">{_escaped(hint)}</p>' if hint else ""
    return f"<section{classes}>\n<h2>{_escaped(heading)}</h2>\n{below}{content}\n</section>"


def _twice(chart: LineChart | BarChart, draw: Callable[..., str]) -> str:
    """Return the chart for a desktop and for a phone, of which the style shows one."""
    return f'<div class="wide">{draw(chart, WIDE)}</div>\n<div class="narrow">{draw(chart, NARROW)}</div>'


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_escaped(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _table(report: Report, columns: Sequence[Column], name: str) -> str:
    """Return a table in a box of its own that scrolls, by keyboard as well."""
    head = "".join(
        f'<th scope="col">{_escaped(column.head)}<small>{column.unit}</small></th>' for column in columns
    )
    rows = []
    for run in report.runs:
        chosen = ' class="chosen"' if is_marked(report, run) else ""
        cells = "".join(f"<td>{_escaped(column.cell(run))}</td>" for column in columns[1:])
        first = f'<th scope="row">{_escaped(run_name(report, run))}</th>'
        rows.append(f"<tr{chosen}>{first}{cells}</tr>")
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_escaped(name)}"><table>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


def _method(report: Report) -> str:
    reply = "" if report.reply is None else f", answered on {report.reply}"
    facts = [
        ("Load", conditions(report)),
        ("Target", report.target),
        ("Messages", f"{report.destination}{reply}"),
        ("Machine", report.machine),
        ("Started", report.started),
    ]
    rows = "".join(f"<dt>{name}</dt><dd>{_escaped(value)}</dd>" for name, value in facts)
    command = f"<dt>Command</dt><dd><code>{_escaped(report.command)}</code></dd>"
    return (
        '<p class="hint">Requests were sent at a constant rate, whether earlier ones were answered or not '
        "(an open model, as independent users behave). Latency counts from the moment when a request was "
        "due, so a server that stalls does not hide it by slowing down the test (no coordinated omission); "
        f'raw latency counts from the real sending.</p><dl class="facts">{rows}{command}</dl>'
    )


def _escaped(text: str) -> str:
    return html.escape(plain(text) if "\n" not in text else "\n".join(map(plain, text.split("\n"))))
