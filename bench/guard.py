#!/usr/bin/env python3
"""Watch the hot paths: instructions for each message, against the baseline in bench/guard.json.

Each path of guard_work.py runs twice under callgrind (Debian's package valgrind), with few and with many
messages; the difference by their number is what a message takes, starting and connecting left out. They
do not depend on what else the machine does, but on Python and the libraries: with others than the
baseline's the figures are shown, and nothing is judged. Exit status 1 when a path takes TOLERANCE more.

With --write the baseline is written anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import HERE, print_table
from guard_work import WORK

BASELINE = HERE / "guard.json"
CALLGRIND = ("valgrind", "--tool=callgrind")
FEW, MANY = 200, 1_200
"""Messages; a thousand between them take 0.1 s without callgrind."""
TOLERANCE = 0.05
"""More of it than the baseline's. The same code gives 0.5 % to either side: what comes together in one read
of a socket varies."""
LIBRARIES = ("trio", "trio-websocket", "attrs", "cattrs", "wsproto", "outcome")


def main() -> int:
    """Measure and compare; the exit status."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--write", action="store_true", help="make this the baseline")
    made.add_argument("--only", default=",".join(WORK), help="paths, comma list (default all)")
    options = made.parse_args()
    names = options.only.split(",")
    unknown = set(names) - set(WORK)
    if unknown:
        made.error(f"no path {', '.join(sorted(unknown))}; there are {', '.join(WORK)}")
    if shutil.which("valgrind") is None:
        print("valgrind is not here: the hot paths are not watched (Debian's package is valgrind)")
        return 0
    found = measured(names)
    if options.write:
        BASELINE.write_text(json.dumps({"made_with": surroundings(), "instructions": found}, indent=2) + "\n")
    baseline = json.loads(BASELINE.read_text())
    return judge(found, baseline, surroundings())


def surroundings() -> dict[str, str]:
    """What the figures depend on besides our code."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), "machine": platform.machine(), **libraries}


def measured(names: list[str]) -> dict[str, int]:
    """Instructions for each message, by path."""
    jobs = [(name, count) for name in names for count in (FEW, MANY)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = dict(zip(jobs, pool.map(lambda job: instructions(*job), jobs), strict=True))
    return {name: round((counted[name, MANY] - counted[name, FEW]) / (MANY - FEW)) for name in names}


def instructions(name: str, count: int) -> int:
    """All that a process runs, from its start to its end."""
    work = (str(HERE / "guard_work.py"), name, str(count))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        done = subprocess.run(
            [*CALLGRIND, f"--callgrind-out-file={out}", sys.executable, *work],
            env={**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-500:]}")
        totals = re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.MULTILINE)
    assert totals is not None
    return int(totals[1])


def judge(found: dict[str, int], baseline: dict[str, Any], here: dict[str, str]) -> int:
    """Show the figures beside the baseline's; the exit status."""
    before: dict[str, int] = baseline["instructions"]
    rows, slower = [], []
    for name, value in found.items():
        known = before.get(name)
        change = None if known is None else value / known - 1
        if change is not None and change > TOLERANCE:
            slower.append(name)
        rows.append(
            [
                name,
                f"{value:,}",
                "-" if known is None else f"{known:,}",
                "-" if change is None else f"{100 * change:+.1f} %",
            ]
        )
    print_table("instructions for each message", ["path", "now", "baseline", "change"], rows)
    others = [f"{name} {here[name]}" for name in here if here[name] != baseline["made_with"].get(name)]
    if others:
        print(f"not judged: the baseline was made with other versions than {', '.join(others)}")
        return 0
    if slower:
        print(f"SLOWER by more than {100 * TOLERANCE:.0f} %: {', '.join(slower)}")
        print("if that is meant: python bench/guard.py --write")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
