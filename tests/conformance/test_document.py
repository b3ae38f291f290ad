"""docs/conformance.md and the tests are in step."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from pathlib import Path

import attrs
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DOCUMENT = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


@attrs.frozen
class Row:
    """One obligation."""

    name: str
    level: str
    result: str
    tests: list[str]


def read_rows() -> list[Row]:
    found = []
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and re.fullmatch(r"C?\d+", cells[0]):
            name, _, level, _, result, tests = cells
            found.append(Row(name, level, result, re.findall(r"`([^`]+)`", tests)))
    return found


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def rows_in_name(test: str) -> set[str]:
    return set(re.findall(r"_row(\d+)(?=_|$)", test)) | {
        f"C{number}" for number in re.findall(r"_c(\d+)(?=_|$)", test)
    }


ROWS = read_rows()


def test_every_row_is_there_once_and_in_order() -> None:
    names = [*map(str, range(1, 97)), *(f"C{number}" for number in range(1, 36))]
    assert [row.name for row in ROWS] == names


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_names_tests_that_exist(row: Row) -> None:
    assert row.tests
    own = frozenset().union(*map(names_in, HERE.glob("test_*.py")))
    for test in row.tests:
        path, separator, name = test.rpartition("::")
        assert name in (names_in(ROOT / path) if separator else own), test


def test_every_conformance_test_is_named_in_the_rows_of_its_name_and_no_others() -> None:
    named = defaultdict(set)
    for row in ROWS:
        for test in row.tests:
            named[test].add(row.name)
    for path in HERE.glob("test_stomp_*.py"):
        for test in names_in(path):
            assert rows_in_name(test), test
            assert named[test] == rows_in_name(test), test


def test_no_test_hides_another_of_its_name() -> None:
    paths = list(HERE.glob("test_*.py"))
    assert sum(len(names_in(path)) for path in paths) == len(frozenset().union(*map(names_in, paths)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_must_has_no_why_not_and_anything_else_has_its_reason(row: Row) -> None:
    verdict, _, reason = row.result.partition(": ")
    assert verdict in ("holds", "no")
    if verdict == "no":
        assert "MUST" not in row.level
        assert reason


def test_the_pages_beside_it_are_linked() -> None:
    for page in ("conformance-websocket.md", "conformance-fuzzing.md", "faults.md"):
        assert f"]({page})" in DOCUMENT
