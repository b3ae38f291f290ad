#!/usr/bin/env python3
"""Mixed load on a server for a set time, and whether it is as well at the end as it was at the start.

Steady clients publish with receipts, some in transactions, subscribe to topics and patterns, ask handlers
and pools, produce and consume with acknowledgements. Beside them clients connect, subscribe, and leave in
every way that peers do, are reset with messages in hand, or stop reading.

Checked: no message whose receipt came is lost, doubled or out of order; memory is flat after the warm-up;
p99 does not drift; tasks, sessions and file descriptors are at the end what they were before; no internal
error. Exit status 1 with the reasons when a check fails.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio
from common import HERE, READY, machine, print_table
from soak_checks import MIB, WARM_UP, Outcome, Sample
from soak_work import PARTS, Load

from trio_stomp.stress.endpoint import endpoint_at
from trio_stomp.stress.scrape import scrape

EVERY = 1.0
"""Seconds between two looks at the server."""
SETTLE = 20.0
"""Seconds for what is under way to arrive, and for the server to be empty again."""
GONE = ("trio_stomp_sessions_current", "trio_stomp_connections_current", "trio_stomp_subscriptions")
"""What there is none of when nobody is connected."""


def main() -> int:
    options = _options()
    with tempfile.TemporaryFile() as log, serving(log.fileno()) as (url, process):
        outcome, load = trio.run(soak, options, url, process.pid)
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
        log.seek(0)
        text = log.read().decode(errors="replace")
    surprises = [*outcome.surprises, *([f"the server ended with {status}"] if status else [])]
    outcome = attrs.evolve(outcome, log=text, surprises=surprises)
    faults = list(outcome.faults())
    show(options, outcome, load)
    if options.json is not None:
        options.json.write_text(json.dumps(summary(options, outcome, load, faults), indent=1) + "\n")
    for doubt in outcome.doubts():
        print(f"DOUBTFUL: {doubt}")
    for fault in faults:
        print(f"FAILED: {fault}")
    if faults and text:
        print(f"the server's log:\n{text[-4000:]}")
    return 1 if faults else 0


@contextmanager
def serving(log: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `trio-stomp serve`, its log to that file descriptor; gives its URL and process."""
    command = [sys.executable, "-m", "trio_stomp", "serve", "bench.soak_app:app", "--port", "0"]
    command += ["--log-level", "warning", "--set", "drain.delay=0", "--set", "drain.window=0"]
    process = subprocess.Popen(
        command,
        cwd=HERE.parent,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(READY):
            raise SystemExit(f"the server did not start: {line!r}")
        yield line.removeprefix(READY).strip(), process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def soak(options: argparse.Namespace, url: str, pid: int) -> tuple[Outcome, Load]:
    """The whole test on a server that runs, less what its end tells."""
    began = trio.current_time()
    before, _ = await look(url, pid, began)
    load = Load(url, options.seed, options.load, frozenset(PARTS) - set(options.without))
    samples: list[Sample] = []
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, options, load, url, pid, samples)
        await load.run(options.seconds, SETTLE)
        nursery.cancel_scope.cancel()
    after, totals = await look(url, pid, began)
    with trio.move_on_after(SETTLE):
        while after.tasks > before.tasks or after.descriptors > before.descriptors or _leftovers(totals):
            await trio.sleep(0.2)
            after, totals = await look(url, pid, began)
    return (
        Outcome(
            seconds=options.seconds,
            samples=samples,
            before=before,
            after=after,
            drift=load.latencies.thirds(),
            lateness=load.lateness.thirds(),
            lost=load.missing(),
            twice=sum(stream.twice for stream, _ in load.streams) + load.queue.twice,
            early=sum(stream.early for stream, _ in load.streams),
            unmarked=load.queue.unmarked,
            internal_errors=int(totals.get("trio_stomp_internal_errors_total", -1)),
            leftovers=_leftovers(totals),
            surprises=load.surprises,
            log="",
        ),
        load,
    )


async def look(url: str, pid: int, began: float) -> tuple[Sample, dict[str, float]]:
    """The server now, and all its numbers."""
    page = await scrape(endpoint_at(url))
    if page is None:
        raise SystemExit("the server does not answer on /metrics")
    totals = dict(page.totals)
    totals["trio_stomp_connections_current"] -= 1  # the one that asks
    sample = Sample(
        at=trio.current_time() - began,
        resident=int(totals["process_resident_memory_bytes"]),
        tasks=int(totals["trio_stomp_tasks"]),
        sessions=int(totals["trio_stomp_sessions_current"]),
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        cpu=totals["process_cpu_seconds_total"],
    )
    return sample, totals


async def watch(options: argparse.Namespace, load: Load, url: str, pid: int, samples: list[Sample]) -> None:
    """Look at the server now and then, and say how it goes; never returns unless cancelled."""
    began, told = trio.current_time(), 0.0
    while True:
        sample, _ = await look(url, pid, began)
        if sample.at <= options.seconds:
            samples.append(sample)
        if sample.at - told >= options.progress:
            told = sample.at
            p99 = load.latencies.p99()[-1:] or [math.nan]
            print(
                f"{sample.at:5.0f} s  {load.counts['deliveries']:9,} deliveries  "
                f"{sample.resident / MIB:6.1f} MiB  {sample.tasks:4} tasks  {sample.sessions:4} sessions  "
                f"p99 {p99[0] * 1000:6.1f} ms",
                file=sys.stderr,
                flush=True,
            )
        await trio.sleep(EVERY)


def show(options: argparse.Namespace, outcome: Outcome, load: Load) -> None:
    """What was done, and each check with its figure."""
    done = [[what, f"{count:,}"] for what, count in sorted(load.counts.items())]
    print_table(f"soak of {options.seconds:g} s, seed {options.seed}: what was done", ["what", "count"], done)
    grown, allowed = outcome.growth
    first, last = outcome.drift
    late_first, late_last = outcome.lateness
    before, after = outcome.before, outcome.after
    rows = [
        ["messages lost", str(outcome.lost), "0"],
        ["twice or out of order", str(outcome.twice), "0"],
        ["of aborted transactions", str(outcome.early), "0"],
        ["given out again unmarked", str(outcome.unmarked), "0"],
        ["internal errors", str(outcome.internal_errors), "0"],
        [
            f"memory growth after {WARM_UP:.0%} of the time",
            f"{grown / MIB:.1f} MiB",
            f"{allowed / MIB:.1f} MiB",
        ],
        ["p99, first third", f"{first * 1000:.1f} ms", ""],
        ["p99, last third", f"{last * 1000:.1f} ms", ""],
        ["p99 drift", f"{outcome.drift_found:.2f} x", f"{outcome.drift_allowed:.2f} x"],
        ["generator late, p99, first third", f"{late_first * 1000:.1f} ms", ""],
        ["generator late, p99, last third", f"{late_last * 1000:.1f} ms", ""],
        ["tasks at the end", str(after.tasks), str(before.tasks)],
        ["sessions at the end", str(after.sessions), str(before.sessions)],
        ["file descriptors at the end", str(after.descriptors), str(before.descriptors)],
        ["surprises", str(len(outcome.surprises)), "0"],
        ["server cores used", f"{_cores(outcome):.2f}", ""],
        ["resident memory at the end", f"{after.resident / MIB:.1f} MiB", ""],
    ]
    print_table("what was checked", ["check", "found", "allowed"], rows)


def summary(
    options: argparse.Namespace, outcome: Outcome, load: Load, faults: list[str]
) -> dict[str, object]:
    """All of it, for a machine to read."""
    grown, allowed = outcome.growth
    return {
        "machine": machine(),
        "seconds": options.seconds,
        "seed": options.seed,
        "load": options.load,
        "faults": faults,
        "doubts": list(outcome.doubts()),
        "drift_found": outcome.drift_found,
        "drift_allowed": outcome.drift_allowed,
        "counts": dict(load.counts),
        "memory_growth_bytes": round(grown),
        "memory_growth_allowed_bytes": round(allowed),
        "p99_by_window_seconds": load.latencies.p99(),
        "server_cores": _cores(outcome),
        **attrs.asdict(outcome, filter=lambda attribute, _: attribute.name != "log"),
    }


def _leftovers(totals: dict[str, float]) -> dict[str, int]:
    return {name: int(totals[name]) for name in GONE if totals[name]}


def _cores(outcome: Outcome) -> float:
    if len(outcome.samples) < 2:
        return 0.0
    first, last = outcome.samples[0], outcome.samples[-1]
    return (last.cpu - first.cpu) / (last.at - first.at)


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seconds", type=float, default=60.0, help="seconds of load (default 60)")
    made.add_argument("--load", type=float, default=1.0, help="times the usual rates (default 1)")
    made.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of all chance (default: drawn)"
    )
    made.add_argument("--progress", type=float, default=10.0, help="seconds between two lines (default 10)")
    made.add_argument("--json", type=Path, help="also write all that was seen to this file")
    made.add_argument(
        "--without",
        choices=PARTS,
        action="append",
        default=[],
        help="a part that does not take part; repeatable",
    )
    return made.parse_args()


if __name__ == "__main__":
    sys.exit(main())
