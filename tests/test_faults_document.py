"""docs/faults.md is in step with the settings, the counters and the tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import attrs
import pytest

from trio_stomp.config import ServerConfig, limits
from trio_stomp.server.core import Core
from trio_stomp.server.statistics import page

HERE = Path(__file__).parent
TEXT = (HERE.parent / "docs" / "faults.md").read_text(encoding="utf-8")

NAMED = (
    "slow loris in the head",
    "slow loris in a frame",
    "slow loris in reading",
    "half-open",
    "RST in the middle of a frame",
    "SIGSTOP",
    "10,000 connects and disconnects",
    "flood of CONNECT",
    "flood of subscriptions",
    "64 MiB",
    "million empty fragments",
    "flood of pings",
    "EMFILE",
    "full disk under the log",
    "clock jumps",
    "Unicode of every plane",
)


@attrs.frozen
class Fault:
    """One row."""

    name: str
    limits: list[str]
    counters: list[str]
    tests: list[str]


def read_faults() -> list[Fault]:
    rows = TEXT.partition("<!-- faults -->")[2].partition("<!-- /faults -->")[0].strip().splitlines()[2:]
    found = []
    for row in rows:
        name, _, *others = (cell.strip() for cell in row.strip("|").split("|"))
        found.append(Fault(name, *(re.findall(r"`([^`]+)`", cell) for cell in others)))
    return found


FAULTS = read_faults()
METRICS = page(Core(None, ServerConfig()).statistics("ready", 0))


@pytest.mark.parametrize("name", NAMED)
def test_each_fault_is_in_one_row(name: str) -> None:
    assert len([fault for fault in FAULTS if name in fault.name]) == 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_a_row_names_is_there(fault: Fault) -> None:
    assert set(fault.limits) <= set(limits())
    for counter in fault.counters:
        assert re.search(rf"^# TYPE trio_stomp_{counter}(_total)? ", METRICS, re.MULTILINE), counter
    assert fault.tests
    for test in fault.tests:
        file, _, name = test.partition("::")
        tree = ast.parse((HERE / f"{file}.py").read_text(encoding="utf-8"))
        functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
        assert name in {function.name for function in functions}, test
