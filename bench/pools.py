#!/usr/bin/env python3
"""What a pool costs: the server with a blocking 20 ms call in its handler, against a bare loop of the call.

A, the loop: as many Trio tasks as threads, each `await to_thread.run_sync(api.quote, "A")` for ever.
B, the server: 200 clients SEND to /app/quote (bench/pool_app.py), each waiting for its answer.
C, the server again with fewer clients than threads, so that nobody waits: the latency that is ours.
In turn A B C A B C, the medians of each. The API (examples/external_api/api.py) has a program and the
generator's core of its own; CPU is that of the loop's or the server's process and nothing else.
"""

from __future__ import annotations

import json
import statistics

from common import parser, print_table
from external import bare_loop, external_api, through_server

SPRING = {4: 196, 16: 775, 64: 3029}
"""Answers per second of Spring 4.3.30 with so many threads and a sleep of 20 ms in its handler."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--pools", default="4,16,64", help="threads, comma list (default 4,16,64)")
    made.add_argument("--capacity", type=int, default=64, help="calls that the API runs at once (default 64)")
    made.add_argument("--seconds", type=float, default=0.02, help="seconds of a call (default 0.02)")
    made.add_argument("--clients", type=int, default=200, help="clients of B (default 200)")
    options = made.parse_args()
    path, options.json = options.json, None  # load() would write its own rows
    table, noise = [], 0.0
    for threads in map(int, options.pools.split(",")):
        runs: dict[str, list[dict[str, float]]] = {"A": [], "B": [], "C": []}
        size = [f"threads={threads}"]
        with external_api(options, options.capacity) as api:
            for _ in range(options.repeat):
                runs["A"].append(bare_loop(options, api, threads))
                runs["B"].append(through_server(options, api, clients=options.clients, settings=size))
                runs["C"].append(through_server(options, api, clients=max(1, threads // 4), settings=size))
        if path is not None:
            with path.open("a") as file:
                for kind, rows in runs.items():
                    for row in rows:
                        file.write(json.dumps({"run": kind, "threads": threads, **row}) + "\n")

        def median(kind: str, name: str, runs: dict[str, list[dict[str, float]]] = runs) -> float:
            return statistics.median(row[name] for row in runs[kind])

        noise = max(noise, *(row["other_cores"] for row in runs["B"]))
        loop, served = median("A", "per_s"), median("B", "per_s")
        table.append(
            [
                str(threads),
                f"{loop:,.0f}",
                f"{served:,.0f}",
                f"{100 * served / loop:.1f} %",
                f"{median('A', 'cpu_us'):.0f}",
                f"{median('B', 'cpu_us'):.0f}",
                f"{median('B', 'cpu_us') - median('A', 'cpu_us'):.0f}",
                f"{median('A', 'p50_ms'):.1f} / {median('A', 'p99_ms'):.1f}",
                f"{median('B', 'p50_ms'):.1f} / {median('B', 'p99_ms'):.1f}",
                f"{median('C', 'p50_ms') - 1000 * options.seconds:.2f}",
                f"{median('B', 'server_cores'):.2f}",
                f"{SPRING.get(threads, '')}",
            ]
        )
    print_table(
        f"blocking calls of {1000 * options.seconds:g} ms, an API of {options.capacity} places, "
        f"{options.clients} clients, median of {options.repeat}; other cores up to {noise:.2f}",
        [
            "threads",
            "loop/s",
            "server/s",
            "ratio",
            "loop us",
            "server us",
            "more us",
            "loop p50/p99 ms",
            "server p50/p99",
            "ours p50 ms",
            "server cores",
            "Spring/s",
        ],
        table,
    )
    print(
        "us: CPU of the process per call. The server's p50 holds the wait of 200 clients for a thread; "
        "'ours' is\nwhat is left of a round trip without any wait, the call's own time taken off. "
        "Targets: ratio 95 %, 100 us more, 1 ms."
    )


if __name__ == "__main__":
    main()
