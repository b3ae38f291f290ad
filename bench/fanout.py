#!/usr/bin/env python3
"""Fan-out: one publisher, N subscribers of one topic, 64 messages outstanding (PERFORMANCE.md, A).

Prints deliveries per second and per server CPU second, the median of the runs. The server is a
plain broker pinned to one core, the generator to another. A run with a lost message or a closed
connection ends the benchmark; what the generator cannot see (order) is checked by
tests/network/test_fanout_order.py.
"""

from __future__ import annotations

from common import load, median, parser, print_table, server


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--subscribers", default="10,100,1000", help="comma list (default 10,100,1000)")
    made.add_argument("--window", type=int, default=64, help="messages outstanding (default 64)")
    made.add_argument("--body", type=int, default=100, help="bytes of each body (default 100)")
    options = made.parse_args()
    table = []
    for subscribers in options.subscribers.split(","):
        with server(options) as (url, pid):
            sizes = ["--subs", subscribers, "--window", str(options.window), "--body", str(options.body)]
            rows = load(options, url, pid, "fanout", *sizes)
        table.append(
            [
                subscribers,
                f"{median(rows, 'deliveries_s'):,.0f}",
                f"{median(rows, 'deliveries_per_cpu_s'):,.0f}",
                f"{median(rows, 'p50_ms'):.1f}",
                f"{median(rows, 'p99_ms'):.1f}",
                f"{median(rows, 'server_cores'):.2f}",
                f"{median(rows, 'other_cores'):.2f}",
            ]
        )
    print_table(
        f"fan-out, window {options.window}, {options.body}-byte bodies, median of {options.repeat}",
        [
            "subscribers",
            "deliveries/s",
            "per server CPU s",
            "p50 ms",
            "p99 ms",
            "server cores",
            "other cores",
        ],
        table,
    )


if __name__ == "__main__":
    main()
