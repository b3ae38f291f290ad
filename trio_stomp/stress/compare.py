"""Two reports side by side: what got better, what got worse, and whether they may be compared at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from trio_stomp.stress import units
from trio_stomp.stress.results import Report, Run
from trio_stomp.stress.table import plain

NOISE: Final = 0.05
"""Two runs of the same thing differ by this much on a quiet machine; less is neither better nor worse."""


@attrs.frozen
class _Quantity:
    """What is compared of two runs.

    Attributes:
        read: takes it from a run; None when it is not known.
        is_more_better: for what is wanted, as throughput; else less is.
        is_failure: shown only when there is any, as a share of what was sent.
    """

    name: str
    read: Callable[[Run], float | None]
    show: Callable[[float | None], str]
    is_more_better: bool = False
    is_failure: bool = False


def _latency(name: str) -> Callable[[Run], float | None]:
    def read(run: Run) -> float | None:
        value: float = getattr(run.corrected, name)
        return value if run.corrected.count else None

    return read


def _share(name: str) -> Callable[[Run], float | None]:
    def read(run: Run) -> float | None:
        count: int = getattr(run, name)
        return count / run.sent if run.sent else None

    return read


_QUANTITIES: Final = (
    _Quantity("achieved", lambda run: run.achieved, units.rate, is_more_better=True),
    _Quantity("p50", _latency("p50"), units.duration),
    _Quantity("p99", _latency("p99"), units.duration),
    *(
        _Quantity(name, _share(name), units.share, is_failure=True)
        for name in ("rejected", "errors", "lost", "unanswered")
    ),
    _Quantity(
        "CPU per message",
        lambda run: None if run.server is None else run.server.cpu_per_message,
        units.duration,
    ),
)


def compare_text(a: Report, b: Report, names: tuple[str, str] = ("A", "B"), noise: float = NOISE) -> str:
    """Return what changed from ``a`` to ``b``, run by run; ``names`` are theirs, such as the files'.

    A change of more than ``noise`` (a share of the value in ``a``) is called better or worse. Runs are
    matched by their label.
    """
    parts = ["\n".join(f"{letter}  {_about(name, report)}" for letter, name, report in _both(a, b, names))]
    differences = list(_differences(a, b))
    if differences:
        parts.append(
            "\n".join(["Not the same test, so the numbers may differ for that reason alone:", *differences])
        )
    others = {run.label: run for run in b.runs}
    matched = [(run, others[run.label]) for run in a.runs if run.label in others]
    parts += ["\n".join(_run_lines(one, other, noise)) for one, other in matched]
    known = {run.label for run, _ in matched}
    for letter, _, report in _both(a, b, names):
        alone = [plain(run.label) for run in report.runs if run.label not in known]
        if alone:
            parts.append(f"only in {letter}: {', '.join(alone)}")
    if not matched:
        parts.append("No run of A has the label of one of B: there is nothing to compare.")
    results = list(_results(a, b))
    if results:
        parts.append("\n".join(results))
    return "\n\n".join(parts) + "\n"


def _both(a: Report, b: Report, names: tuple[str, str]) -> tuple[tuple[str, str, Report], ...]:
    return ("A", names[0], a), ("B", names[1], b)


def _about(name: str, report: Report) -> str:
    return f"{plain(name)}: {plain(report.started)}, trio-stomp {plain(report.version)}"


def _differences(a: Report, b: Report) -> Iterator[str]:
    """Yield a line for everything that was not the same in the two tests."""
    fields = ("kind", "target", "destination", "reply", "goal", "machine", "version")
    for field in fields:
        yield from _difference(field, getattr(a, field), getattr(b, field))
    others = {run.label: run for run in b.runs}
    pairs = [(run, others[run.label]) for run in a.runs if run.label in others]
    for field, show in (("rate", units.rate), ("clients", units.count), ("duration", units.duration)):
        shown = [(show(getattr(one, field)), show(getattr(other, field))) for one, other in pairs]
        # Most often it is the same difference in every run.
        for one, other in dict.fromkeys(shown):
            yield from _difference(field, one, other)


def _difference(field: str, one: str | None, other: str | None) -> Iterator[str]:
    if one != other:
        yield f"  {field}: {plain(one or 'none')} in A, {plain(other or 'none')} in B"


def _run_lines(one: Run, other: Run, noise: float) -> Iterator[str]:
    """Yield the run's name, and a line for each quantity."""
    rows = []
    for quantity in _QUANTITIES:
        before, after = quantity.read(one), quantity.read(other)
        if quantity.is_failure and not before and not after:
            continue
        rows.append(
            (
                quantity.name,
                quantity.show(before),
                quantity.show(after),
                _change(before, after),
                _verdict(quantity, before, after, noise),
            )
        )
    yield plain(one.label)
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, before_shown, after_shown, change, verdict in rows:
        cells = (
            name.ljust(widths[0]),
            before_shown.rjust(widths[1]),
            "->",
            after_shown.rjust(widths[2]),
            change.rjust(widths[3]),
            verdict,
        )
        yield ("  " + "  ".join(cells)).rstrip()


def _change(before: float | None, after: float | None) -> str:
    """Return the change in percent of what was before; "" when there is no such number."""
    if before is None or after is None or before == 0:
        return ""
    return f"{(after - before) / before * 100:+.1f} %"


def _verdict(quantity: _Quantity, before: float | None, after: float | None, noise: float) -> str:
    if before is None or after is None:
        return ""
    difference = after - before if quantity.is_more_better else before - after
    if abs(difference) <= noise * before:
        return ""
    return "better" if difference > 0 else "WORSE"


def _results(a: Report, b: Report) -> Iterator[str]:
    """Yield what each test concludes."""
    for letter, report in (("A", a), ("B", b)):
        if report.recommendation is not None:
            found = report.recommendation
            missed = " (misses the target)" if found.meets_target is False else ""
            yield f"{letter} recommends {units.count(found.threads)} threads for {plain(found.pool)}{missed}"
        if report.breaking_point is not None:
            point = report.breaking_point
            holds = "none" if point.holds is None else units.rate(point.holds)
            yield f"{letter} holds {holds}, breaks at {_breaks(point.breaks)}"


def _breaks(rate: float | None) -> str:
    return "none that was tried" if rate is None else units.rate(rate)
