#!/usr/bin/env python3
"""What importing costs: `trio_stomp`, and its usual names, against `trio_websocket` alone.

Each run is a fresh interpreter that times one statement, less the interpreter's own start; the runs of all
statements take turns, and the ratios are medians of runs that stood side by side. Times are of CPU, which
a busy machine changes less than those of the clock.
Exit status 1 when `import trio_stomp` takes more than --allow times as long as `import trio_websocket`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from common import HERE, print_table

BASELINE = "import trio_websocket"
GUARDED = "import trio_stomp"
STATEMENTS = (
    BASELINE,
    GUARDED,
    "from trio_stomp import StompApp",
    "from trio_stomp import open_client",
    "from trio_stomp import StompApp, serve",
    "import trio_stomp.cli",
)
TIMED = "from time import process_time as now; began = now(); {}; print(now() - began)"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent)}


def seconds(python: str, statement: str) -> float:
    """CPU seconds that one statement takes in an interpreter of its own."""
    command = [python, "-c", TIMED.format(statement)]
    done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def worst(python: str, statement: str, count: int) -> list[list[str]]:
    """The modules that take longest by themselves (``-X importtime``)."""
    command = [python, "-X", "importtime", "-c", statement]
    done = subprocess.run(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, check=True)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines()[1:]]
    rows.sort(key=lambda row: -int(row[0]))
    return [
        [row[2].strip(), f"{int(row[0]) / 1000:.1f}", f"{int(row[1]) / 1000:.1f}"] for row in rows[:count]
    ]


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--repeat", type=int, default=15, help="runs of each statement (default 15)")
    made.add_argument("--allow", type=float, default=1.6, help="largest ratio that passes (default 1.6)")
    made.add_argument("--worst", type=int, default=0, metavar="N", help="also show the N slowest modules")
    made.add_argument("--python", default=sys.executable, help="interpreter (default: this one)")
    options = made.parse_args()
    for statement in STATEMENTS:  # once for the byte code and the page cache
        seconds(options.python, statement)
    rounds = [{each: seconds(options.python, each) for each in STATEMENTS} for _ in range(options.repeat)]
    ratio = {each: statistics.median(run[each] / run[BASELINE] for run in rounds) for each in STATEMENTS}
    print_table(
        f"time of an import, median of {options.repeat}",
        ["statement", "CPU ms", "ratio"],
        [
            [each, f"{statistics.median(run[each] for run in rounds) * 1000:.1f}", f"{ratio[each]:.2f}"]
            for each in STATEMENTS
        ],
    )
    if options.worst:
        slowest = worst(options.python, "from trio_stomp import *", options.worst)
        print_table("slowest of all that is public", ["module", "own ms", "with its imports ms"], slowest)
    if ratio[GUARDED] > options.allow:
        print(f"`{GUARDED}` takes {ratio[GUARDED]:.2f} x `{BASELINE}`, allowed are {options.allow:g}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
