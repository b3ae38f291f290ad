"""What a comparison found: medians, ratios with their range, targets met and missed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scenarios import CUT, DELIVERIES, P99, ROUND_TRIPS, SCENARIOS, TARGETS, Figure, Target

DISTURBED = 0.15
"""Cores used by others from which on a round does not count (PERFORMANCE.md)."""

HEAD = ("peer", "scenario", "figure", "ours", "theirs", "ratio (range)", "p50 / p99 ms: ours", "theirs")

Result = dict[str, Any]
"""One scenario with one peer, as `compare.py --json` writes it: ``peer``, ``scenario``, ``failed`` (why, or
nothing), ``at`` (UTC), ``machine``, and ``ours`` and ``theirs``, a row of the generator for each round."""


def read(files: Iterable[Path]) -> list[Result]:
    """The results in files, a later one in place of an earlier one; of scenarios that there are."""
    found: dict[tuple[str, str], Result] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            result = json.loads(line)
            if result["scenario"] in SCENARIOS:
                found[result["peer"], result["scenario"]] = result
    return list(found.values())


def disturbance(rows: Sequence[dict[str, Any]]) -> float:
    """Cores that others used in a round; 0 as long as it counts."""
    most = max(float(row.get("other_cores", 0.0)) for row in rows)
    return most if most >= DISTURBED else 0.0


def is_marked(result: Result) -> bool:
    """Whether a round counts though it was disturbed."""
    return any(disturbance(pair) for pair in zip(result["ours"], result["theirs"], strict=True))


def values(result: Result, side: str, name: str) -> list[float]:
    """A figure in each round of one side; nothing where it was too small to be measured."""
    return [float(row[name]) for row in result[side] if row.get(name) is not None]


def ratios(result: Result, name: str) -> tuple[float, float, float] | None:
    """The ratio of the medians, and the least and the most of the rounds' own; None: there is none."""
    ours, theirs = values(result, "ours", name), values(result, "theirs", name)
    each = [one / other for one, other in zip(ours, theirs, strict=False) if other]
    if not each or not statistics.median(theirs):
        return None
    return statistics.median(ours) / statistics.median(theirs), min(each), max(each)


def number(value: float) -> str:
    """With as many digits as say something."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def median(result: Result, side: str, name: str) -> str:
    """The median of one side, for a table."""
    found = values(result, side, name)
    return number(statistics.median(found)) if found else "-"


def ratio_text(result: Result, figure: Figure) -> str:
    """The ratio with its range; a star when the row was disturbed."""
    found = ratios(result, figure.name)
    if found is None or figure == CUT:
        return "-"
    ratio, least, most = (f"{each:.2f}" for each in found)
    return f"{ratio} ({least}-{most}){' *' if is_marked(result) else ''}"


def latency(result: Result, side: str) -> str:
    """Medians of p50 and p99."""
    return f"{median(result, side, 'p50_ms')} / {median(result, side, P99.name)}"


def cells(result: Result) -> list[list[str]]:
    """Rows for the table, one for each figure."""
    scenario = SCENARIOS[result["scenario"]]
    names = [result["peer"], f"{result['scenario']} {scenario.title}"]
    if result["failed"] or not result["ours"]:
        return [[*names, f"failed: {result['failed'][:90]}", "-", "-", "-", "-", "-"]]
    return [
        [
            *names,
            figure.title,
            median(result, "ours", figure.name),
            median(result, "theirs", figure.name),
            ratio_text(result, figure),
            latency(result, "ours"),
            latency(result, "theirs"),
        ]
        for figure in scenario.figures
    ]


def reached(target: Target, result: Result) -> float | None:
    """What a target's figure came to."""
    if result["failed"]:
        return None
    if target.is_absolute:
        found = values(result, "ours", target.figure.name)
        return statistics.median(found) if found else None
    found_ratios = ratios(result, target.figure.name)
    return found_ratios[0] if found_ratios else None


def is_met(target: Target, value: float) -> bool:
    """Whether that is enough."""
    return value <= target.bound if target.is_at_most else value >= target.bound


def outcomes(results: Sequence[Result]) -> list[tuple[Target, float]]:
    """Each target that was measured, and what was reached."""
    by_name = {(result["peer"], result["scenario"]): result for result in results}
    found = []
    for target in TARGETS:
        result = by_name.get((target.peer, target.scenario))
        value = None if result is None else reached(target, result)
        if value is not None:
            found.append((target, value))
    return found


def side_by_side(results: Sequence[Result]) -> tuple[str, list[str], list[list[str]]]:
    """Title, head and rows of the table of all peers' work, the raw socket's beside them.

    Ours is the median of what it did beside each of them.
    """
    peers = list(dict.fromkeys(result["peer"] for result in results))
    rows = []
    for key, scenario in SCENARIOS.items():
        name = scenario.figures[0].name
        found = {result["peer"]: result for result in results if result["scenario"] == key}
        ours = [value for result in found.values() for value in values(result, "ours", name)]
        if ours and scenario.figures[0] in (DELIVERIES, ROUND_TRIPS):
            theirs = [median(found[peer], "theirs", name) if peer in found else "-" for peer in peers]
            rows.append([scenario.title, number(statistics.median(ours)), *theirs])
    return "deliveries or round trips per CPU second", ["scenario", "ours", *peers], rows


TARGET_HEAD = ("peer", "scenario", "figure", "target", "reached", "")


def target_rows(results: Sequence[Result]) -> tuple[str, Sequence[str], list[list[str]]] | None:
    """Title, head and rows of the table of targets; None: none was measured."""
    rows = []
    for target, value in outcomes(results):
        bound = f"{'at most' if target.is_at_most else 'at least'} {number(target.bound)}"
        unit = "" if target.is_absolute else " x"
        rows.append(
            [
                target.peer,
                SCENARIOS[target.scenario].title,
                target.figure.title,
                bound + unit,
                (number(value) if target.is_absolute else f"{value:.2f}") + unit,
                "met" if is_met(target, value) else "MISSED",
            ]
        )
    return ("targets of issue 6: ours to theirs", TARGET_HEAD, rows) if rows else None


def missed(results: Sequence[Result]) -> list[str]:
    """Targets that were measured and are not met."""
    return [
        f"{target.peer} {target.scenario} {target.figure.title}"
        for target, value in outcomes(results)
        if not is_met(target, value)
    ]
