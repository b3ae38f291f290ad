"""What the benchmarks of pools share: the stand-in API on the generator's core, and one run against it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence

import attrs
from common import HERE, load, server

POOL = "external_api"
_TICK = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Api:
    """A running stand-in API."""

    url: str
    pid: int

    def cpu(self) -> float:
        """CPU seconds that it has used."""
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def answered(self) -> int:
        """Calls that it has answered."""
        with urllib.request.urlopen(f"{self.url}/statistics") as answer:
            return int(json.load(answer)["answered"])


@contextlib.contextmanager
def external_api(options: argparse.Namespace, capacity: int) -> Iterator[Api]:
    """Run the stand-in as long as the context lasts, pinned to the generator's core."""
    command = [sys.executable, "-m", "examples.external_api.api", "--port", "0"]
    command += ["--capacity", str(capacity), "--seconds", str(options.seconds)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=HERE.parent)
    try:
        os.sched_setaffinity(process.pid, {options.load_cpu})
        assert process.stdout is not None
        yield Api(process.stdout.readline().split()[-1], process.pid)
    finally:
        process.kill()
        process.wait()


def bare_loop(options: argparse.Namespace, api: Api, threads: int) -> dict[str, float]:
    """Run bench/pool_loop.py on the server's core; what it printed, and calls and CPU per call."""
    command = [options.python, "-m", "bench.pool_loop", api.url, "--threads", str(threads)]
    command += ["--warmup", str(options.warmup), "--duration", str(options.duration)]
    command += ["--cpu", str(options.server_cpu)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent, check=True)
    row: dict[str, float] = json.loads(done.stdout)
    return row | {"per_s": row["calls"] / row["seconds"], "cpu_us": 1e6 * row["cpu_s"] / row["calls"]}


def through_server(
    options: argparse.Namespace,
    api: Api,
    *,
    clients: int,
    settings: Sequence[str],
    warmup: float | None = None,
) -> dict[str, float]:
    """Serve bench/pool_app.py anew and let load.py drive it; its row, and answers and CPU per answer.

    Args:
        settings: as for ``--set``, without the pool's name: ``threads=4``.
        warmup: seconds before measuring; by default as the option says.
    """
    changed = {"repeat": 1, "warmup": options.warmup if warmup is None else warmup}
    once = argparse.Namespace(**{**vars(options), **changed})
    arguments = [part for setting in settings for part in ("--set", f"pools.{POOL}.{setting}")]
    os.environ["EXTERNAL_API_URL"] = api.url
    with server(once, "bench.pool_app:app", *arguments) as (url, pid):
        cpu, answered = api.cpu(), api.answered()
        where = ["--send-dest", "/app/quote", "--dest", "/user/queue/quotes", "--probe-every", "1"]
        count = ["--clients", str(clients), "--window", "1"]
        (row,) = load(once, url, pid, "echo", *where, *count)
        threads = threads_of(url)
        api_per_call = (api.cpu() - cpu) / (api.answered() - answered)
    values = {name: float(str(row[name])) for name in ("p50_ms", "p99_ms", "server_cores", "other_cores")}
    per_s = float(str(row["roundtrips_s"]))
    # load.py takes the API's core for a stranger's.
    values["other_cores"] -= api_per_call * per_s
    cpu_us = 1e6 * float(str(row["server_cpu_s"])) / (per_s * float(str(row["seconds"])))
    return {**values, "per_s": per_s, "cpu_us": cpu_us, "threads": threads, "api_us": 1e6 * api_per_call}


def threads_of(url: str) -> int:
    """The pool's threads now, by the server's /metrics."""
    with urllib.request.urlopen(url.replace("ws://", "http://").replace("/ws", "/metrics")) as answer:
        found = re.search(
            rf'^trio_stomp_pool_threads{{pool="{POOL}"}} (\d+)', answer.read().decode(), re.MULTILINE
        )
    assert found is not None, "no trio_stomp_pool_threads in /metrics"
    return int(found[1])
