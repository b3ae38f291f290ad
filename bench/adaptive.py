#!/usr/bin/env python3
"""Adaptive mode, begun with 4 threads, against fixed sizes: throughput and p99 at an API of 32 places.

200 clients SEND to /app/quote (bench/pool_app.py), each waiting for its answer, so there is always work for
another thread. Sizes take turns; the adaptive server has 15 seconds to find its own before it is measured.
"""

from __future__ import annotations

import json
import statistics

from common import parser, print_table
from external import external_api, through_server

ADAPTIVE = ("mode=adaptive", "threads=4", "min_threads=2", "max_threads=128")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--fixed", default="16,24,32,40,64", help="sizes to compare with, comma list")
    made.add_argument("--capacity", type=int, default=32, help="calls that the API runs at once (default 32)")
    made.add_argument("--seconds", type=float, default=0.02, help="seconds of a call (default 0.02)")
    made.add_argument("--clients", type=int, default=200, help="clients (default 200)")
    made.add_argument(
        "--settle", type=float, default=15.0, help="seconds before adaptive is measured (default 15)"
    )
    options = made.parse_args()
    path, options.json = options.json, None  # load() would write its own rows
    settings = {size: (f"threads={size}",) for size in options.fixed.split(",")} | {"adaptive": ADAPTIVE}
    runs: dict[str, list[dict[str, float]]] = {size: [] for size in settings}
    with external_api(options, options.capacity) as api:
        for _ in range(options.repeat):
            for size, given in settings.items():
                row = through_server(
                    options,
                    api,
                    clients=options.clients,
                    settings=given,
                    warmup=options.settle if size == "adaptive" else None,
                )
                runs[size].append(row)
                if path is not None:
                    with path.open("a") as file:
                        file.write(json.dumps({"size": size, **row}) + "\n")

    def median(size: str, name: str) -> float:
        return statistics.median(row[name] for row in runs[size])

    best = max((size for size in runs if size != "adaptive"), key=lambda size: median(size, "per_s"))
    table = [
        [
            size + (" (best)" if size == best else ""),
            f"{median(size, 'threads'):.0f}",
            f"{median(size, 'per_s'):,.0f}",
            f"{100 * median(size, 'per_s') / median(best, 'per_s'):.1f} %",
            f"{median(size, 'p50_ms'):.1f}",
            f"{median(size, 'p99_ms'):.1f}",
            f"{median(size, 'p99_ms') / median(best, 'p99_ms'):.2f}",
            f"{median(size, 'cpu_us'):.0f}",
            f"{median(size, 'server_cores'):.2f}",
            f"{median(size, 'other_cores'):.2f}",
        ]
        for size in runs
    ]
    print_table(
        f"calls of {1000 * options.seconds:g} ms, an API of {options.capacity} places, {options.clients} "
        f"clients, median of {options.repeat}",
        [
            "size",
            "threads at the end",
            "answers/s",
            "of the best",
            "p50 ms",
            "p99 ms",
            "to the best's",
            "server us",
            "server cores",
            "other cores",
        ],
        table,
    )
    print("Targets of adaptive: 90 % of the best size's answers, at most 1.5 times its p99.")


if __name__ == "__main__":
    main()
