#!/usr/bin/env python3
"""The bare loop that bench/pools.py holds the server against: `to_thread.run_sync` with the example's call.

Prints one JSON object: calls, seconds, CPU seconds of this process, p50 and p99 in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import trio

from examples.external_api.app import PriceApi


async def work(api: PriceApi, limiter: trio.CapacityLimiter, latencies: list[float]) -> None:
    """Make one call after the other, for ever."""
    while True:
        started = time.monotonic()
        await trio.to_thread.run_sync(api.quote, "A", limiter=limiter)
        latencies.append(time.monotonic() - started)


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """Run as many tasks as threads; what they did after the warm-up."""
    api = PriceApi(options.url)
    limiter = trio.CapacityLimiter(options.threads)
    latencies: list[float] = []
    async with trio.open_nursery() as nursery:
        for _ in range(options.threads):
            nursery.start_soon(work, api, limiter, latencies)
        await trio.sleep(options.warmup)
        latencies.clear()
        started, cpu = time.monotonic(), time.process_time()
        await trio.sleep(options.duration)
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        done = sorted(latencies)
        nursery.cancel_scope.cancel()
    return {
        "calls": len(done),
        "seconds": seconds,
        "cpu_s": cpu,
        "p50_ms": 1000 * done[len(done) // 2],
        "p99_ms": 1000 * done[len(done) * 99 // 100],
    }


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("url")
    made.add_argument("--threads", type=int, required=True)
    made.add_argument("--warmup", type=float, required=True, help="seconds")
    made.add_argument("--duration", type=float, required=True, help="seconds")
    made.add_argument("--cpu", type=int, required=True, help="core to run on")
    options = made.parse_args()
    os.sched_setaffinity(0, {options.cpu})
    print(json.dumps(trio.run(measure, options)))


if __name__ == "__main__":
    main()
