"""The guard of the hot paths: what it judges, and that what it counts does its work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "bench"))

import guard  # the benchmarks are no package
import guard_work

HERE = {"python": "3.11.7"}
BASELINE = {"made_with": HERE, "instructions": {"decode": 1000, "cut": 500}}


def test_what_takes_more_is_exit_status_1_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.judge({"decode": 1051, "cut": 500}, BASELINE, HERE) == 1
    out = capsys.readouterr().out
    assert "SLOWER by more than 5 %: decode\n" in out
    assert "+5.1 %" in out


@pytest.mark.parametrize("value", [1049, 1000, 500])
def test_what_takes_as_much_or_less_passes(value: int) -> None:
    assert guard.judge({"decode": value}, BASELINE, HERE) == 0


def test_a_path_without_a_baseline_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.judge({"new": 7}, BASELINE, HERE) == 0
    assert "new" in capsys.readouterr().out


def test_with_other_versions_nothing_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.judge({"decode": 9999}, BASELINE, {"python": "3.12.1"}) == 0
    said = "not judged: the baseline was made with other versions than python 3.12.1"
    assert said in capsys.readouterr().out


def test_without_valgrind_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["guard.py"])
    monkeypatch.setenv("PATH", "")
    assert guard.main() == 0
    assert "valgrind is not here" in capsys.readouterr().out


def test_every_path_has_a_baseline() -> None:
    assert json.loads(guard.BASELINE.read_text())["instructions"].keys() == guard_work.WORK.keys()


@pytest.mark.parametrize("name", guard_work.WORK)
def test_each_path_does_its_work(name: str) -> None:
    guard_work.WORK[name](guard_work.BATCH)
