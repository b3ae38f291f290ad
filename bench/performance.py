#!/usr/bin/env python3
"""Write docs/performance.md and its plot from what bench/compare.py has measured (``--json FILE``).

Only what stands between the marks of the page is written anew; the words around it stay.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import HERE, machine
from compare import DISTURBED, HEAD, SCENARIOS, cells, summary

from trio_stomp.stress.plot import Bar, BarChart, Part, bar_chart
from trio_stomp.stress.scale import Axis

DOCS = HERE.parent / "docs"
PAGE = DOCS / "performance.md"
MARKS = ("<!-- figures -->\n", "<!-- /figures -->")
_WIDTH = 900
"""Pixels."""


def main() -> None:
    """Run the command."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument(
        "files", nargs="+", type=Path, help="what compare.py has written; later rows replace earlier"
    )
    options = made.parse_args()
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for file in options.files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[row["peer"], row["scenario"]] = row
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), list(rows.values())), encoding="utf-8")
    (DOCS / "performance.svg").write_text(plot(list(rows.values())) + "\n", encoding="utf-8")


def renewed(page: str, results: Sequence[dict[str, Any]]) -> str:
    """The page with the figures of these results."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    dates = sorted({row["at"] for row in results})
    said = f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}: {machine()}.\n"
    if any(not row["failed"] and summary(row)["other_cores"] >= DISTURBED for row in results):
        said += f"A star: other processes used {DISTURBED} of a core or more meanwhile.\n"
    lines = [HEAD, ["---"] * len(HEAD), *(cells(row) for row in results)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{before}{MARKS[0]}{said}\n{table}{MARKS[1]}{after}"


def plot(results: Sequence[dict[str, Any]]) -> str:
    """How many times the peer's work for each CPU second ours is, as bars."""
    bars = []
    for row in results:
        scenario = SCENARIOS[row["scenario"]]
        if row["failed"] or not scenario.figure.endswith("per_cpu_s"):
            continue
        ratio = summary(row)["ratio"]
        tip = f"{row['peer']}, {scenario.title}: {ratio:.2f} times"
        bars.append(
            Bar(
                label=f"{scenario.title}: {row['peer']}",
                parts=(Part(ratio, 0, "trio-stomp by the peer", tip),),
                note=f"{ratio:.1f}",
                is_marked=ratio < 1,
            )
        )
    return bar_chart(
        BarChart(
            title="Work for each CPU second of the server: trio-stomp by the peer",
            description="1 is as much as the peer; the numbers are in the table.",
            bars=tuple(bars),
            axis=Axis(title="times the peer's", low=0.0),
        ),
        _WIDTH,
        standalone=True,
    )


if __name__ == "__main__":
    main()
