#!/usr/bin/env python3
"""Request and reply through a handler: JSON into an attrs class and back (PERFORMANCE.md, B).

50 clients SEND to /app/echo (bench/echo_app.py) and get the answer on their own /user/queue/echo.
Prints round trips per second and per server CPU second, the median of the runs.
"""

from __future__ import annotations

from common import load, median, parser, print_table, server


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--clients", type=int, default=50, help="clients (default 50)")
    made.add_argument(
        "--windows", default="1,16", help="requests outstanding per client, comma list (default 1,16)"
    )
    options = made.parse_args()
    table = []
    for window in options.windows.split(","):
        with server(options, "bench.echo_app:app") as (url, pid):
            where = ["--dest", "/user/queue/echo", "--send-dest", "/app/echo"]
            rows = load(
                options, url, pid, "echo", *where, "--clients", str(options.clients), "--window", window
            )
        table.append(
            [
                window,
                f"{median(rows, 'roundtrips_s'):,.0f}",
                f"{median(rows, 'roundtrips_per_cpu_s'):,.0f}",
                f"{median(rows, 'p50_ms'):.2f}",
                f"{median(rows, 'p99_ms'):.2f}",
                f"{median(rows, 'server_cores'):.2f}",
                f"{median(rows, 'other_cores'):.2f}",
            ]
        )
    print_table(
        f"request and reply, {options.clients} clients, 100-byte JSON, median of {options.repeat}",
        ["window", "round trips/s", "per server CPU s", "p50 ms", "p99 ms", "server cores", "other cores"],
        table,
    )


if __name__ == "__main__":
    main()
