#!/usr/bin/env python3
"""Whether `trio-stomp stress --sweep` finds what an API can take: its capacity is drawn anew for each run.

The API of examples/external_api really serves K calls at once, K drawn from 12 to 48 and unknown to the tool,
which gets a list of sizes and a rate above all of them. A run is right when the recommended size is within
25 % of K.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from common import HERE, print_table

CLOSE = 0.25
"""Of K, by which the recommended size may be off."""


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--repeat", type=int, default=5, help="runs (default 5)")
    made.add_argument("--low", type=int, default=12, help="lowest capacity (default 12)")
    made.add_argument("--high", type=int, default=48, help="highest capacity (default 48)")
    made.add_argument("--sizes", default="4,8,16,32,64", help="the list to sweep (default 4,8,16,32,64)")
    made.add_argument("--rate", type=float, default=2600, help="messages per second offered (default 2600)")
    made.add_argument("--duration", type=float, default=3, help="seconds measured of each size (default 3)")
    made.add_argument("--seed", type=int, help="for drawing the same capacities again")
    made.add_argument("--json", type=Path, help="also write each run to this file, one JSON object a line")
    options = made.parse_args()
    chance = random.Random(options.seed)
    rows, misses = [], 0
    for number in range(1, options.repeat + 1):
        capacity = chance.randint(options.low, options.high)
        report = sweep(options, capacity)
        found = report["recommendation"]["threads"]
        off = found / capacity - 1
        misses += abs(off) > CLOSE
        best = max(run["achieved"] for run in report["runs"])
        row = [
            str(number),
            str(capacity),
            str(found),
            f"{off:+.0%}",
            f"{best:,.0f}",
            str(len(report["runs"])),
        ]
        rows.append(row)
        print(
            f"run {number}: capacity {capacity}, recommended {found} ({off:+.0%})",
            file=sys.stderr,
            flush=True,
        )
        if options.json is not None:
            with options.json.open("a") as file:
                file.write(json.dumps({"capacity": capacity, "found": found, "runs": report["runs"]}) + "\n")
    head = ("run", "capacity", "recommended", "off", "best/s", "sizes")
    print_table(f"sweep of {options.sizes}, {options.rate:g}/s offered", head, rows)
    print(f"{options.repeat - misses} of {options.repeat} within {CLOSE:.0%}")
    return 1 if misses else 0


def sweep(options: argparse.Namespace, capacity: int) -> dict[str, object]:
    """Run the tool as a user would; its report."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        command = [
            *(sys.executable, "-m", "trio_stomp", "stress", "examples.external_api.app:app"),
            *("--destination", "/app/quote", "--body", '{"sku": "A"}', "--reply", "/user/queue/quotes"),
            *("--clients", "150", "--rate", str(options.rate), "--duration", str(options.duration)),
            *("--grace", "0.5", "--sweep", f"external_api={options.sizes}", "--json", str(file)),
        ]
        environ = {
            **os.environ,
            "PYTHONPATH": str(HERE.parent),
            "EXTERNAL_API_CAPACITY": str(capacity),
            "EXTERNAL_API_SECONDS": "0.02",
        }
        done = subprocess.run(
            command, cwd=HERE.parent, env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"the stress test failed: {done.stderr}")
        report: dict[str, object] = json.loads(file.read_text())
        return report


if __name__ == "__main__":
    sys.exit(main())
