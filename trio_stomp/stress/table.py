"""A report as text for a terminal or a log, plain or with rich; and the columns, which the page has as well.

Rule 1: a line is never wrapped within a table: when there is no room, the least important column goes.
Rule 2: what came from the server is shown without control characters: it could speak to the terminal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from trio_stomp.errors import ConfigError
from trio_stomp.stress import units
from trio_stomp.stress.advice import busy_threads, littles_law
from trio_stomp.stress.criteria import Criterion, meets, misses, parse_criteria
from trio_stomp.stress.results import Report, Run, Split

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDEST: Final = 100
"""Characters; a wider terminal does not make a table easier to read."""

NARROWEST: Final = 40

LONGEST_NAME: Final = 24
"""Characters of a run's name in a table; a URL is often longer, and stands above it in full."""

MARK: Final = "*"
"""Behind the recommended size, and behind the highest rate that holds."""


@attrs.frozen(kw_only=True)
class Column:
    """One column of a table of runs.

    Attributes:
        head: over it, with the unit that all its cells have in ``unit``.
        cell: makes its text of a run.
        weight: the least goes first when there is no room; the first column always stays.
    """

    head: str
    unit: str = ""
    cell: Callable[[Run], str]
    weight: int


def result_columns(report: Report) -> tuple[Column, ...]:
    """Return what is shown of each run; first what tells the runs apart."""
    # A ramp's runs are told apart by the rate that was offered.
    offered = Column(head="offered", unit="/s", cell=lambda run: units.number(run.rate), weight=60)
    return (
        _first(report),
        *(() if report.kind == "ramp" else (offered,)),
        Column(head="achieved", unit="/s", cell=lambda run: units.number(run.achieved), weight=99),
        *(
            Column(head=head, unit="ms", cell=_percentile("corrected", name), weight=weight)
            for head, name, weight in (
                *(("p50", "p50", 90), ("p90", "p90", 40), ("p99", "p99", 98)),
                *(("p99.9", "p999", 50), ("max", "max", 55)),
            )
        ),
        Column(head="raw p99", unit="ms", cell=_percentile("raw", "p99"), weight=20),
        Column(head="rejected", cell=lambda run: units.count(run.rejected), weight=80),
        Column(head="errors", cell=lambda run: units.count(run.errors), weight=85),
        Column(head="lost", cell=lambda run: units.count(run.lost), weight=70),
        Column(
            head="CPU",
            unit="cores",
            cell=lambda run: units.UNKNOWN if run.server is None else f"{run.server.cpu:.2f}",
            weight=45,
        ),
        Column(
            head="RSS",
            unit="MiB",
            cell=lambda run: units.UNKNOWN if run.server is None else units.number(run.server.rss / 1024**2),
            weight=10,
        ),
    )


def split_columns(report: Report) -> tuple[Column, ...]:
    """Return the columns of where an answered request's time went, its mean, and the threads in use."""
    parts = [
        Column(head=part.name, unit="ms", cell=_part(part.name), weight=50) for part in attrs.fields(Split)
    ]
    mean = Column(head="mean", unit="ms", cell=_mean, weight=90)
    busy = Column(head="busy", unit="threads", cell=lambda run: units.number(busy_threads(run)), weight=80)
    return (_first(report), *parts, mean, busy)


def split_parts(split: Split) -> tuple[tuple[str, float | None], ...]:
    """Return the parts of a split by name, in the order in which a request goes through them."""
    return tuple((part.name, getattr(split, part.name)) for part in attrs.fields(Split))


def run_name(report: Report, run: Run) -> str:
    """Return what tells the run apart in its report: a size, a rate, or its label."""
    if report.kind == "sweep" and run.threads is not None:
        return units.count(run.threads)
    return units.rate(run.rate) if report.kind == "ramp" else plain(run.label)


def is_marked(report: Report, run: Run) -> bool:
    """Return whether this is the run with the recommended size, or with the highest rate that holds."""
    if report.recommendation is not None:
        return run.threads == report.recommendation.threads
    return report.breaking_point is not None and run.rate == report.breaking_point.holds


def plain(text: str) -> str:
    """Return ``text`` with everything that is not to be seen (controls, line ends) as an escape."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _first(report: Report) -> Column:
    """Return the column that tells the runs apart."""
    pools = {run.pool for run in report.runs}
    head = plain(pools.pop() or "run") if report.kind == "sweep" and len(pools) == 1 else "run"
    head = "offered" if report.kind == "ramp" else head

    def cell(run: Run) -> str:
        name = run_name(report, run)
        name = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."
        return name + MARK if is_marked(report, run) else name

    return Column(head=head, cell=cell, weight=100)


def _percentile(which: str, name: str) -> Callable[[Run], str]:
    def cell(run: Run) -> str:
        latency = getattr(run, which)
        return units.milliseconds(getattr(latency, name) if latency.count else None)

    return cell


def _part(name: str) -> Callable[[Run], str]:
    return lambda run: units.milliseconds(None if run.split is None else getattr(run.split, name))


def _mean(run: Run) -> str:
    if run.split is None:
        return units.UNKNOWN
    return units.milliseconds(sum(value or 0.0 for _, value in split_parts(run.split)))


def title(report: Report) -> str:
    """Return what was tested, in one line without the particulars."""
    pools = sorted({plain(run.pool) for run in report.runs if run.pool is not None})
    what = {"sweep": f"sweep of {', '.join(pools)}" if pools else "sweep", "ramp": "ramp"}
    reply = "" if report.reply is None else f", answered on {plain(report.reply)}"
    return f"{what.get(report.kind, 'run')}: {plain(report.target)}, {plain(report.destination)}{reply}"


def conditions(report: Report) -> str:
    """Return clients and seconds of the runs, and the goal, in one line."""
    clients = sorted({run.clients for run in report.runs})
    seconds = sorted({run.duration for run in report.runs})
    goal = [] if report.goal is None else [f"target {report.goal}"]
    return ", ".join(
        [
            f"{' and '.join(map(units.count, clients)) or 'no'} clients",
            f"{' and '.join(map(units.number, seconds)) or 'no'} s measured a run",
            *goal,
        ]
    )


def verdict(report: Report) -> str:
    """Return the result in one sentence; "" when there is none to give."""
    if report.recommendation is not None:
        found = report.recommendation
        return f"{units.count(found.threads)} threads for {plain(found.pool)}: {found.reason}"
    if report.breaking_point is None:
        is_met = meets_goal(report)
        if is_met is None:
            return ""
        missed = [phrase for run in report.runs for phrase in misses(goal_of(report), run)]
        return f"meets {report.goal}." if is_met else f"misses the target: {'; '.join(missed)}."
    point = report.breaking_point
    holds = "no rate holds" if point.holds is None else f"{units.rate(point.holds)} holds"
    breaks = "nothing broke" if point.breaks is None else f"{units.rate(point.breaks)} does not"
    return f"{holds}, {breaks}: {plain(point.reason)}."


def goal_of(report: Report) -> tuple[Criterion, ...]:
    """Return the target's criteria; none when another version wrote some that are not known here."""
    try:
        return () if report.goal is None else parse_criteria(report.goal)
    except ConfigError:
        return ()


def meets_goal(report: Report) -> bool | None:
    """Return whether what was found meets the target; None without one, and for a ramp: it goes beyond."""
    if report.recommendation is not None:
        return report.recommendation.meets_target
    if report.kind == "run" and report.runs and goal_of(report):
        return all(meets(goal_of(report), run) for run in report.runs)
    return None


def failure_lines(report: Report) -> tuple[str, ...]:
    """Return a line for each kind of failure, the most frequent first, and the run that had most of it."""
    by_kind: dict[str, dict[str, int]] = {}
    for run in report.runs:
        for text, count in run.failures:
            here = by_kind.setdefault(plain(text), {})
            here[run_name(report, run)] = here.get(run_name(report, run), 0) + count
    lines = []
    for text, here in sorted(by_kind.items(), key=lambda kind: -sum(kind[1].values())):
        most = max(here, key=lambda name: here[name])
        where = (
            "" if len(report.runs) == 1 else f" (in {len(here)} of {len(report.runs)} runs, most in {most})"
        )
        count = sum(here.values())
        lines.append(f"{'once' if count == 1 else f'{units.count(count)} times'} {text}{where}")
    return tuple(lines)


def law_lines(report: Report) -> tuple[str, ...]:
    """Return Little's law for the marked run; for every run when none is marked."""
    marked = [run for run in report.runs if is_marked(report, run)] or report.runs
    lines = [(run, line) for run in marked if (line := littles_law(run)) is not None]
    return tuple(line if len(lines) == 1 else f"{run_name(report, run)}: {line}" for run, line in lines)


def report_text(report: Report, width: int = WIDEST) -> str:
    """Return the whole report as plain text, at most ``width`` (40 to 100) characters wide."""
    width = min(max(width, NARROWEST), WIDEST)
    parts = ["\n".join(_wrapped(line, width) for line in _introduction(report))]
    for heading, columns in _tables(report, width):
        rows = zip(*(_cells(column, report) for column in columns), strict=True)
        widths = [_width(column, report) for column in columns]
        aligned = [
            "  ".join(cell.rjust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        parts.append("\n".join([heading, *aligned]))
    for heading, lines in _sections(report):
        parts.append("\n".join([heading, *(_wrapped(line, width, "  ") for line in lines)]))
    if report.recommendation is not None:
        parts.append(textwrap.indent(report.recommendation.toml, "    "))
    return "\n\n".join(parts) + "\n"


def rich_table(report: Report, width: int = WIDEST) -> RenderableType:
    """Return the same for a `rich.console.Console` that is ``width`` wide, the marked row in bold.

    Raises:
        ImportError: when rich is not installed (it is an optional extra).
    """
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(line) for line in _introduction(report)]
    for heading, columns in _tables(report, width):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(Text(f"{column.head}\n{column.unit}"), justify="right", no_wrap=True)
        for run in report.runs:
            style = "bold green" if is_marked(report, run) else None
            table.add_row(*(Text(column.cell(run)) for column in columns), style=style)
        parts += [Text(""), Text(heading, style="italic"), table]
    for heading, lines in _sections(report):
        style = {"Warnings": "yellow", "Result": "bold green"}.get(heading, "")
        parts += [Text(""), Text(heading, style="italic")]
        parts += [Padding(Text(line, style=style), (0, 0, 0, 2)) for line in lines]
    if report.recommendation is not None:
        parts += [Text(""), Padding(Text(report.recommendation.toml, style="bold"), (0, 0, 0, 4))]
    return Group(*parts)


def _tables(report: Report, width: int) -> Iterator[tuple[str, tuple[Column, ...]]]:
    """Yield each table's heading with those of its columns that fit."""
    yield "Results (latency from when it was due)", _fitting(result_columns(report), report, width)
    if any(run.split is not None for run in report.runs):
        yield "Where the time went (mean)", _fitting(split_columns(report), report, width)


def _cells(column: Column, report: Report) -> list[str]:
    return [column.head, column.unit, *map(column.cell, report.runs)]


def _width(column: Column, report: Report) -> int:
    return max(map(len, _cells(column, report)))


def _fitting(columns: Sequence[Column], report: Report, width: int) -> tuple[Column, ...]:
    """Return the columns that fit, two spaces apart; the first is always one of them."""
    left = list(columns)
    while len(left) > 1 and sum(_width(column, report) + 2 for column in left) - 2 > width:
        left.remove(min(left[1:], key=lambda column: column.weight))
    return tuple(left)


def _introduction(report: Report) -> Iterator[str]:
    yield f"trio-stomp {plain(report.version)} stress, {title(report)}"
    yield conditions(report)
    yield f"on {plain(report.machine)}, {plain(report.started)}"


def _sections(report: Report) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each heading with its lines, less those that have nothing to say."""
    sections = (
        ("Little's law", law_lines(report)),
        ("Errors", failure_lines(report)),
        ("Warnings", tuple(map(plain, report.warnings))),
        ("Result", (verdict(report),) if verdict(report) else ()),
    )
    yield from ((heading, lines) for heading, lines in sections if lines)


def _wrapped(line: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        line,
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
    )
