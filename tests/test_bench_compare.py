"""The comparison with other servers: ratios, targets, the page that is made of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent.parent / "bench"))

import compare  # the benchmarks are no package
import performance


def result(scenario: str = "A10", peer: str = "spring", failed: str = "", **figures: Any) -> dict[str, Any]:
    figure = compare.SCENARIOS[scenario].figure
    sides = {
        side: [{figure: value, "p99_ms": 2.5, "other_cores": 0.01} for value in figures.get(side, [])]
        for side in ("ours", "theirs")
    }
    return {"peer": peer, "scenario": scenario, "failed": failed, "at": "2026-11-23", **sides}


def test_the_ratio_is_that_of_the_medians_and_its_range_that_of_the_rounds() -> None:
    found = compare.summary(result(ours=[300, 330, 450], theirs=[100, 110, 90]))
    assert (found["ours"], found["theirs"], found["ratio"]) == (330, 100, 3.3)
    assert (found["least"], found["most"]) == (3.0, 5.0)


@pytest.mark.parametrize(
    ("scenario", "ours", "said"),
    [
        ("A10", 300, "met (3)"),
        ("A10", 299, "MISSED (3)"),
        ("D", 20, "met (0.2)"),
        ("D", 21, "MISSED (0.2)"),
        ("G1", 1, ""),
    ],
)
def test_a_target_is_met_or_missed(scenario: str, ours: float, said: str) -> None:
    assert compare.verdict(result(scenario, ours=[ours], theirs=[100])) == said


def test_a_missed_target_is_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.report([result(ours=[300], theirs=[100])]) == 0
    assert compare.report([result(ours=[200], theirs=[100])]) == 1
    assert "missed: spring A10" in capsys.readouterr().out


def test_a_run_that_failed_is_told_and_has_no_verdict() -> None:
    failed = result(failed="lost 3")
    assert compare.cells(failed)[-1] == "failed: lost 3"
    assert compare.verdict(failed) == ""


def test_every_target_is_of_a_scenario_and_a_peer_that_are_there() -> None:
    for peer, scenario in compare.TARGETS:
        assert peer in compare.OTHERS
        assert scenario in compare.SCENARIOS
        assert compare.OTHERS[peer].handler or not compare.SCENARIOS[scenario].needs_handler


def test_the_page_gets_the_figures_and_keeps_its_words() -> None:
    page = performance.PAGE.read_text(encoding="utf-8")
    made = performance.renewed(page, [result(ours=[300], theirs=[100]), result("B1", failed="no")])
    assert made.startswith(page.partition(performance.MARKS[0])[0])
    assert made.endswith(page.partition(performance.MARKS[1])[2])
    assert (
        "| spring | fan-out to 10, window 64 | 300 | 100 | 3.00 (3.00-3.00) | 2.5 / 2.5 | met (3) |" in made
    )
    assert performance.renewed(made, [result(ours=[300], theirs=[100]), result("B1", failed="no")]) == made


def test_the_plot_has_a_bar_for_each_ratio_of_work() -> None:
    svg = performance.plot([result(ours=[300], theirs=[100]), result("D", ours=[3], theirs=[100])])
    assert "fan-out to 10, window 64: spring" in svg
    assert "idle" not in svg
