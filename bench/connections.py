#!/usr/bin/env python3
"""Idle connections: resident memory of each, and connects per second (PERFORMANCE.md, D).

N clients connect, subscribe to a topic of their own and stay silent; the server's resident memory
before and after gives KiB per connection. At the end some of them are asked to show that they live.

With --hold they are held by processes of their own (`hold.py`), and each answers the server's
heart-beats for some rounds. Exit status 1 when a connection was lost or a heart-beat missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common import HERE, load, machine, median, parser, print_table, server


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--clients", help="comma list (default 2000); with --hold one number (default 10000)")
    made.add_argument("--hold", action="store_true", help="hold them, each answering heart-beats")
    made.add_argument("--processes", type=int, default=2, help="of clients, with --hold (default 2)")
    made.add_argument("--beat", type=float, default=2.0, help="seconds between heart-beats (default 2)")
    made.add_argument("--rounds", type=int, default=10, help="heart-beats of each connection (default 10)")
    options = made.parse_args()
    if options.hold:
        sys.exit(hold(options))
    idle(options)


def idle(options: argparse.Namespace) -> None:
    """Memory of silent connections, by their number."""
    repeat, options.repeat = options.repeat, 1  # a process that has had connections keeps memory
    table = []
    for clients in (options.clients or "2000").split(","):
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


def hold(options: argparse.Namespace) -> int:
    """Have all connections answer heart-beats; the exit status."""
    clients = int(options.clients or 10_000)
    beat = str(options.beat)
    settings = ("stomp.heart_beat_send=" + beat, "stomp.heart_beat_receive=" + beat)
    settings += (f"accept.connections={clients + 100}", "drain.delay=0", "drain.window=0")
    arguments = [word for setting in settings for word in ("--set", setting)]
    with server(options, *arguments) as (url, pid):
        memory, cpu, started = resident(pid), cpu_seconds(pid), time.monotonic()
        with holders(options, url, clients) as processes:
            opened = [answer_of(process) for process in processes]
            connecting, connect_cpu = time.monotonic() - started, cpu_seconds(pid) - cpu
            cpu, started = cpu_seconds(pid), time.monotonic()
            tell(processes)
            ends = [answer_of(process) for process in processes]
            held, held_cpu = time.monotonic() - started, cpu_seconds(pid) - cpu
            each = (resident(pid) - memory) / clients / 1024
            sessions, given_up = from_metrics(url, "sessions_current", "heart_beats_missed_total")
            tell(processes)
    answered, missed = (sum(end[name] for end in ends) for name in ("answered", "missed"))
    connected = sum(row["connected"] for row in opened)
    lost = clients - connected + sum(end["lost"] for end in ends) - sum(row["lost"] for row in opened)
    print(f"\n{clients:,} connections from {options.processes} processes, heart-beats each {beat} s")
    print(f"connected           {connected:,} in {connecting:.1f} s: {connected / connecting:,.0f} a second")
    print(f"connects            {connected / max(connect_cpu, 0.01):,.0f} per CPU second of the server")
    print(f"memory              {each:.1f} KiB of the server for each")
    print(f"heart-beats         {answered:,} answered in {held:.1f} s, {missed:,} missed")
    used, each_us = 100 * held_cpu / held, held_cpu / max(answered, 1) * 1e6
    print(f"server CPU          {used:.1f} % meanwhile, {each_us:.1f} us a heart-beat and answer")
    print(f"lost                {lost:,}; the server has {sessions:.0f} sessions and gave up {given_up:.0f}")
    print(machine(), flush=True)
    return 1 if lost or missed or given_up or sessions != clients else 0


@contextlib.contextmanager
def holders(options: argparse.Namespace, url: str, clients: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Client processes that share the connections, each from an address of its own; ended by their pids."""
    processes = []
    try:
        for number in range(options.processes):
            share = clients // options.processes + (number < clients % options.processes)
            command = [sys.executable, str(HERE / "hold.py"), "--url", url, "--clients", str(share)]
            command += ["--beat", str(options.beat), "--rounds", str(options.rounds)]
            command += ["--source", f"127.0.0.{number + 2}", "--cpu", str(options.load_cpu)]
            processes.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def tell(processes: list[subprocess.Popen[str]]) -> None:
    """Let all go on to what comes next."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def answer_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a client process says next."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a client process ended with {process.wait()}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def from_metrics(url: str, *names: str) -> list[float]:
    """Numbers of ``/metrics``, without labels."""
    with urllib.request.urlopen(f"http://{urlsplit(url).netloc}/metrics") as answer:
        rows = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
    return [float(rows[f"trio_stomp_{name}"]) for name in names]


def resident(pid: int) -> int:
    """Bytes of a process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
