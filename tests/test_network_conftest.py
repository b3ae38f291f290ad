"""The rule that nothing in tests/network/ is skipped in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent / "network" / "conftest.py"

SKIPPED = """
import pytest

def test_skipped():
    pytest.skip("no browser")

@pytest.mark.skip(reason="no node")
def test_marked():
    pass

@pytest.mark.xfail(strict=True, reason="known")
def test_known():
    assert False

def test_passes():
    pass
"""

NOT_THERE = """
import pytest

pytest.importorskip("no_such_module")
"""


def outcome(folder: Path, tests: str, *, ci: str) -> str:
    """Return what pytest prints for these tests in network/ and a skipped unit test beside it."""
    (folder / "network").mkdir()
    shutil.copy(CONFTEST, folder / "network")
    (folder / "network" / "test_real.py").write_text(tests)
    (folder / "test_unit.py").write_text("import pytest\ndef test_skipped():\n    pytest.skip('unit')\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rs",
        "-p",
        "no:cacheprovider",
        f"--rootdir={folder}",
        str(folder),
    ]
    environment = {**os.environ, "CI": ci, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("ci", ["", "false"])
def test_skips_are_reported_with_reasons_outside_ci(tmp_path: Path, ci: str) -> None:
    printed = outcome(tmp_path, SKIPPED, ci=ci)
    assert "1 passed, 3 skipped, 1 xfailed" in printed
    assert "no browser" in printed
    assert "no node" in printed


def test_skips_fail_in_ci_where_they_are_of_the_network(tmp_path: Path) -> None:
    printed = outcome(tmp_path, SKIPPED, ci="true")
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error" in printed  # a mark skips in the set-up
    assert "skipped in CI, where nothing in tests/network/ may be: Skipped: no browser" in printed


def test_skip_of_a_whole_module_fails_in_ci(tmp_path: Path) -> None:
    printed = outcome(tmp_path, NOT_THERE, ci="true")
    assert "no_such_module" in printed
    assert "1 error" in printed
