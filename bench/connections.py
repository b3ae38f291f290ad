#!/usr/bin/env python3
"""Idle connections: resident memory of each, and connects per second (PERFORMANCE.md, D).

N clients connect, subscribe to a topic of their own and stay silent; the server's resident memory
before and after gives KiB per connection. At the end some of them are asked to show that they live.
"""

from __future__ import annotations

from common import load, median, parser, print_table, server


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--clients", default="2000", help="comma list (default 2000)")
    options = made.parse_args()
    repeat, options.repeat = options.repeat, 1  # a process that has had connections keeps memory
    table = []
    for clients in options.clients.split(","):
        rows = []
        for _ in range(repeat):
            with server(options) as (url, pid):
                rows += load(options, url, pid, "idle", "--clients", clients, "--dest", "/topic/idle-{i}")
        if any(row["alive"] != "yes" for row in rows):
            raise SystemExit(f"a connection was dead: {rows}")
        table.append(
            [
                clients,
                f"{median(rows, 'rss_per_conn_kb'):.1f}",
                f"{median(rows, 'connects_s'):,.0f}",
                f"{int(clients) / median(rows, 'connect_cpu_s'):,.0f}",
                f"{median(rows, 'idle_cpu_percent'):.1f}",
            ]
        )
    print_table(
        f"idle connections, each with a subscription, median of {repeat}",
        ["connections", "KiB each", "connects/s", "connects per CPU s", "idle CPU %"],
        table,
    )


if __name__ == "__main__":
    main()
