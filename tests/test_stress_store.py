"""A report as a file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from stress_values import Service, a_report, a_run

from trio_stomp.errors import ConfigError
from trio_stomp.stress.results import Report
from trio_stomp.stress.store import from_json, load, save, to_json


def a_sweep() -> Report:
    service = Service(12)
    return a_report([service.run(threads, 700.0) for threads in (4, 8, 16)], goal="p99<250ms")


def test_report_comes_back_with_six_digits_of_its_numbers() -> None:
    report = a_report([a_run(4, achieved=123.45678912), a_run(8, server=None, split=None)])
    again = from_json(to_json(report), "a.json")
    assert again.runs[0].achieved == 123.457
    assert again.runs[1].raw.p99 == pytest.approx(report.runs[1].raw.p99, rel=1e-5)
    assert attrs.evolve(again, runs=()) == attrs.evolve(report, runs=())
    assert (again.runs[1].server, again.runs[1].split) == (None, None)


@pytest.mark.parametrize("kind", ["sweep", "ramp", "run"])
def test_what_was_read_is_written_to_the_same_text(kind: str) -> None:
    text = to_json(attrs.evolve(a_report(a_sweep().runs, kind=kind), reply=None))
    assert to_json(from_json(text, "a.json")) == text


def test_fields_are_in_the_declared_order_a_line_each() -> None:
    lines = to_json(a_sweep()).splitlines()
    assert lines[:3] == ["{", ' "schema": 1,', ' "version": "0.1.0",']
    assert list(json.loads(to_json(a_sweep()))) == [field.name for field in attrs.fields(Report)]


def test_file_ends_with_a_line_end_and_holds_letters_as_they_are(tmp_path: Path) -> None:
    report = attrs.evolve(a_sweep(), machine="größer")
    save(report, tmp_path / "a.json")
    content = (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert content.endswith("}\n")
    assert "größer" in content
    assert load(tmp_path / "a.json") == from_json(to_json(report), "a.json")


def test_number_that_is_not_finite_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(a_report([a_run(4, duration=float("nan"))]))


def test_field_that_a_later_version_added_is_passed_over_and_one_it_lacks_has_its_default() -> None:
    content = json.loads(to_json(a_sweep()))
    content["mood"] = "good"
    del content["runs"][0]["failures"]
    assert from_json(json.dumps(content), "a.json").runs[0].failures == ()


def changed(change: dict[str, Any]) -> str:
    return json.dumps({**json.loads(to_json(a_sweep())), **change})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "a.json is not JSON: Expecting property name"),
        ('{"schema": NaN}', "a.json is not JSON: NaN is no number of JSON"),
        ("[]", "a.json is no report of trio-stomp stress: it has no 'schema'"),
        ("{}", "a.json is no report of trio-stomp stress: it has no 'schema'"),
        (changed({"schema": 2}), "a.json has schema 2, this version reads schema 1"),
        (changed({"schema": "1"}), "a.json has schema '1', this version reads schema 1"),
        (
            changed({"version": 1}),
            "a.json is a damaged report: invalid value for type, expected str",
        ),
        (changed({"runs": [{}]}), "a.json is a damaged report: required field missing @ $.runs[0].label"),
    ],
)
def test_what_is_no_report_is_said_with_the_file(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        from_json(text, "a.json")


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the report .*none\.json: No such file"):
        load(tmp_path / "none.json")


def test_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"a\.json is no report of trio-stomp stress: it is not UTF-8"):
        load(tmp_path / "a.json")
