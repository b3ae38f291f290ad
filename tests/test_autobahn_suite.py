"""What is made of the report of Autobahn's own client; the client itself runs by `make autobahn`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from autobahn_suite import complaints, main, read, summary

OK = {"behavior": "OK", "behaviorClose": "OK", "remoteCloseCode": 1000, "duration": 2}
FREE = {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL", "remoteCloseCode": 1000}
NON_STRICT = OK | {"behavior": "NON-STRICT", "remoteCloseCode": None}
UNCLEAN = OK | {"behaviorClose": "UNCLEAN", "remoteCloseCode": None}


def told(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    return complaints(read({"ours": {"7.1.5": ours}, "trio-websocket": {"7.1.5": theirs}}))


def test_a_case_that_is_worse_than_trio_websockets_is_told() -> None:
    assert told(UNCLEAN, OK) == [
        "ours: case 7.1.5 is OK, its close UNCLEAN (None), trio-websocket's OK, OK",
    ]


def test_a_case_that_is_as_bad_as_trio_websockets_is_told() -> None:
    assert told(NON_STRICT, NON_STRICT) == ["ours: case 7.1.5 is NON-STRICT, its close OK (None)"]


@pytest.mark.parametrize("theirs", [OK, NON_STRICT, UNCLEAN])
def test_a_case_that_is_as_good_or_better_is_not_told(theirs: Mapping[str, object]) -> None:
    assert told(OK, theirs) == []


def test_what_the_specification_leaves_open_is_no_complaint() -> None:
    assert told(FREE, FREE) == []


def test_a_case_that_was_not_run_is_told() -> None:
    index = {"ours": {"1.1.1": OK}, "trio-websocket": {"1.1.1": OK, "1.1.2": OK}}
    assert complaints(read(index)) == ["ours: case 1.1.2 was not run"]


def test_the_summary_counts_by_the_worse_half_and_what_hung_up_without_a_close() -> None:
    index = {"ours": {"1.1.1": OK, "7.3.1": OK | {"remoteCloseCode": None}}, "theirs": {"1.1.1": UNCLEAN}}
    assert summary(read(index)).splitlines() == [
        "|  | OK | UNCLEAN | hung up without a Close |",
        "| --- | --- | --- | --- |",
        "| ours | 2 | 0 | 0 |",
        "| theirs | 0 | 1 | 1 |",
    ]


def test_without_a_python_2_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOBAHN_PYTHON", "/nowhere/python2.7")
    monkeypatch.setenv("PATH", "/nowhere")
    assert main([]) == 2
    assert "AUTOBAHN_PYTHON" in capsys.readouterr().err
