#!/usr/bin/env python3
"""Write docs/performance.md and its plots from what bench/compare.py has measured (``--json FILE``).

Only what stands between the marks of the page is written anew; the words around it stay.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from common import HERE, markdown, replaced
from results import DISTURBED, HEAD, Result, cells, is_marked, ratios, read, side_by_side, target_rows
from scenarios import SCENARIOS

from trio_stomp.stress.plot import Bar, BarChart, Part, bar_chart
from trio_stomp.stress.scale import Axis

DOCS = HERE.parent / "docs"
PAGE = DOCS / "performance.md"
_WIDTH = 900
"""Pixels."""


def main() -> None:
    """Run the command."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument(
        "files", nargs="+", type=Path, help="what compare.py has written; later rows replace earlier"
    )
    results = read(made.parse_args().files)
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    for peer in peers(results):
        drawn = plot(peer, [result for result in results if result["peer"] == peer])
        (DOCS / plot_name(peer)).write_text(drawn + "\n", encoding="utf-8")


def peers(results: Sequence[Result]) -> list[str]:
    """Those that were measured, in their order."""
    return list(dict.fromkeys(result["peer"] for result in results))


def plot_name(peer: str) -> str:
    """The file of a peer's plot."""
    return f"performance-{re.sub('[^a-z-]+', '-', peer).strip('-')}.svg"


def renewed(page: str, results: Sequence[Result]) -> str:
    """The page with the figures of these results."""
    days = sorted({result["at"][:10] for result in results})
    machines = ", ".join(dict.fromkeys(result["machine"] for result in results))
    said = f"Measured {' to '.join(dict.fromkeys((days[0], days[-1])))}: {machines}.\n"
    if any(is_marked(result) for result in results):
        said += f"A star: other processes used {DISTURBED} of a core or more meanwhile.\n"
    parts = [said]
    targets = target_rows(results)
    if targets is not None:
        parts.append(f"## Targets\n\n{markdown(targets[1], targets[2])}")
    title, head, lines = side_by_side(results)
    parts.append(f"## Side by side\n\n{title}.\n\n{markdown(head, lines)}")
    for peer in peers(results):
        rows = [row[1:] for result in results if result["peer"] == peer for row in cells(result)]
        parts.append(f"## {peer}\n\n{markdown(HEAD[1:], rows)}\n![Work by {peer}'s]({plot_name(peer)})\n")
    return replaced(page, "figures", "\n".join(parts))


def plot(peer: str, results: Sequence[Result]) -> str:
    """How many times the peer's work for each CPU second ours is, as bars."""
    bars = []
    for result in results:
        scenario = SCENARIOS[result["scenario"]]
        figure = scenario.figures[0]
        found = None if result["failed"] else ratios(result, figure.name)
        if found is None or figure.is_less_better:
            continue
        tip = f"{scenario.title}: {found[0]:.2f} times"
        bars.append(
            Bar(
                label=scenario.title,
                parts=(Part(found[0], 0, "trio-stomp by the peer", tip),),
                note=f"{found[0]:.2f}",
                is_marked=found[0] < 1,
            )
        )
    return bar_chart(
        BarChart(
            title=f"Work for each CPU second of the server: trio-stomp by {peer}",
            description="1 is as much as the peer; the numbers are in the table.",
            bars=tuple(bars),
            axis=Axis(title="times the peer's", low=0.0),
        ),
        _WIDTH,
        standalone=True,
    )


if __name__ == "__main__":
    main()
