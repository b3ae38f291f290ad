#!/usr/bin/env python3
"""Whether costs stay the same as a server grows: of deliveries by subscribers, of connections by number.

Nothing on the way of a message may look at all sessions or subscriptions. So a delivery to one of 10,000
subscribers costs about what one to one of 10 does, and an answer, a connect, and a connection's memory do not
depend on how many others there are. Exit status 1 when a cost grew to more than twice the first one.

With --docs the table and the plot of docs/performance.md are written anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
from common import load, machine, markdown, median, parser, print_table, replaced, server
from connections import answer_of, cpu_seconds, holders, resident

from trio_stomp.stress.plot import LineChart, Panel, Point, Series, line_chart
from trio_stomp.stress.scale import Axis

AT_MOST = 2.0
"""Times the first (issue 6)."""
SUBSCRIBERS = (10, 100, 1_000, 10_000)
CONNECTIONS = (100, 1_000, 10_000)
DOCS = Path(__file__).parent.parent / "docs"
HEAD = ("cost", "unit", "at", "is", "at", "is", "at", "is", "at", "is", "most by first")


@attrs.frozen
class Cost:
    """One kind of cost by size; ``name`` is short, for the plot."""

    name: str
    title: str
    unit: str
    by_size: dict[int, float]

    @property
    def growth(self) -> float:
        """The largest by the first."""
        first, *others = self.by_size.values()
        return max(others) / first

    def cells(self) -> list[str]:
        """For the table."""
        row = [self.title, self.unit]
        for size, value in self.by_size.items():
            row += [f"{size:,}", f"{value:.3g}"]
        return [*row, *[""] * (len(HEAD) - 1 - len(row)), f"{self.growth:.2f}"]


def main() -> int:
    """Measure; the exit status."""
    made = parser(__doc__)
    made.set_defaults(duration=3.0, warmup=1.0, beat=0.0, rounds=0, processes=1)
    made.add_argument("--docs", action="store_true", help="write docs/performance.md and growth.svg anew")
    options = made.parse_args()
    costs = [by_subscribers(options, 64), by_subscribers(options, 1), *by_connections(options)]
    rows = [cost.cells() for cost in costs]
    print_table("cost by size, medians", HEAD, rows)
    if options.docs:
        page = DOCS / "performance.md"
        text = f"{machine()}.\n\n{markdown(HEAD, rows)}"
        page.write_text(replaced(page.read_text(encoding="utf-8"), "growth", text), encoding="utf-8")
        (DOCS / "growth.svg").write_text(plot(costs) + "\n", encoding="utf-8")
    grown = [cost.title for cost in costs if cost.growth > AT_MOST]
    print(f"more than {AT_MOST:g} times the first: {', '.join(grown)}" if grown else "no cost has doubled")
    return 1 if grown else 0


def by_subscribers(options: argparse.Namespace, window: int) -> Cost:
    """CPU for each delivery of a fan-out."""
    found = {}
    for count in SUBSCRIBERS:
        with server(options, "--set", f"accept.connections={count + 100}") as (url, pid):
            rows = load(options, url, pid, "fanout", "--subs", str(count), "--window", str(window))
        found[count] = 1e6 / median(rows, "deliveries_per_cpu_s")
    return Cost(f"delivery, window {window}", f"a delivery, by subscribers, window {window}", "us", found)


def by_connections(options: argparse.Namespace) -> list[Cost]:
    """CPU for each connect, memory of each, and CPU for an answer while so many others are connected."""
    connect, memory, answer = {}, {}, {}
    for count in CONNECTIONS:
        settings = ("--set", f"accept.connections={count + 100}", "bench.echo_app:app")
        with server(options, *settings) as (url, pid):
            size, cpu = resident(pid), cpu_seconds(pid)
            with holders(options, url, count) as processes:
                for process in processes:
                    answer_of(process)
                connect[count] = (cpu_seconds(pid) - cpu) / count * 1e6
                memory[count] = (resident(pid) - size) / count / 1024
                asked = ("--clients", "50", "--window", "1")
                where = ("--send-dest", "/app/echo", "--dest", "/user/queue/echo")
                answer[count] = 1e6 / median(
                    load(options, url, pid, "echo", *asked, *where), "roundtrips_per_cpu_s"
                )
    return [
        Cost("connect", "a connect, by connections", "us", connect),
        Cost("memory", "a connection's memory, by connections", "KiB", memory),
        Cost("answer", "an answer to one of 50, by idle others", "us", answer),
    ]


def plot(costs: Sequence[Cost]) -> str:
    """All costs as multiples of the first, over the size."""
    points = [
        Series(
            name=cost.name,
            points=tuple(
                Point(size, value / next(iter(cost.by_size.values())), f"{size:,}: {value:.3g} {cost.unit}")
                for size, value in cost.by_size.items()
            ),
            colour=place,
        )
        for place, cost in enumerate(costs)
    ]
    return line_chart(
        LineChart(
            title="Costs by size",
            description="Each as a multiple of what it is at the smallest size.",
            x=Axis(title="subscribers or connections", scale="log10", show="{:,.0f}".format),
            panels=(
                Panel(
                    title="cost by the first",
                    y=Axis(title="times", low=0.0, high=AT_MOST),
                    series=tuple(points),
                    height=260,
                ),
            ),
        ),
        900,
        standalone=True,
    )


if __name__ == "__main__":
    sys.exit(main())
