"""What the benchmarks share: a server process pinned to one core, the generator pinned to another."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOAD = HERE / "load.py"
READY = "trio-stomp listening on "


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--repeat", type=int, default=3, help="runs of each row; the median is shown (default 3)"
    )
    made.add_argument("--duration", type=float, default=5.0, help="seconds measured in each run (default 5)")
    made.add_argument("--warmup", type=float, default=1.5, help="seconds before that (default 1.5)")
    made.add_argument("--server-cpu", type=int, default=0, help="core for the server (default 0)")
    made.add_argument("--load-cpu", type=int, default=1, help="core for the generator (default 1)")
    made.add_argument("--json", type=Path, help="also write every run to this file, one JSON object a line")
    made.add_argument(
        "--python", default=sys.executable, help="interpreter of the server (default: this one)"
    )
    return made


@contextlib.contextmanager
def server(options: argparse.Namespace, *arguments: str) -> Iterator[tuple[str, int]]:
    """Run ``trio-stomp serve`` pinned to its core; gives URL and process id."""
    command = [
        options.python,
        "-m",
        "trio_stomp",
        "serve",
        *arguments,
        "--port",
        "0",
        "--log-level",
        "warning",
    ]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent, env=environment)
    try:
        os.sched_setaffinity(process.pid, {options.server_cpu})
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(READY):
            raise SystemExit(f"the server did not start: {line!r}")
        yield line.removeprefix(READY).strip(), process.pid
    finally:
        end(process)


def end(process: subprocess.Popen[Any], seconds: float = 15.0) -> None:
    """Ask a process to end, and see to it when it does not in time."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def load(
    options: argparse.Namespace, url: str, pid: int, scenario: str, *arguments: str
) -> list[dict[str, object]]:
    """Run the generator; every run's numbers, each checked for loss and closed connections."""
    command = [
        sys.executable,
        str(LOAD),
        scenario,
        "--url",
        url,
        "--pid",
        str(pid),
        "--cpu",
        str(options.load_cpu),
        "--repeat",
        str(options.repeat),
        "--duration",
        str(options.duration),
        "--warmup",
        str(options.warmup),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    if not rows or done.returncode:
        raise SystemExit(f"the generator failed: {done.stderr}")
    if options.json is not None:
        with options.json.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    for row in rows:
        if row.get("error") or row.get("lost") or row.get("closed") or row.get("stalled"):
            raise SystemExit(f"a run went wrong: {json.dumps(row)}")
    return rows


def median(rows: Sequence[dict[str, object]], name: str) -> float:
    """The median of one number over the runs."""
    return statistics.median(float(str(row[name])) for row in rows)


def machine() -> str:
    """One line: what this ran on."""
    versions = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{versions}, {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a page."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *rows))


def replaced(page: str, name: str, text: str) -> str:
    """The page with ``text`` between its marks of that name; the words around them stay."""
    before, begins, rest = page.partition(f"<!-- {name} -->\n")
    _, ends, after = rest.partition(f"<!-- /{name} -->")
    return f"{before}{begins}{text}{ends}{after}"


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table with what it ran on below."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(head, *rows, strict=True)]
    print(f"\n{title}")
    for line in (head, ["-" * width for width in widths], *rows):
        print("  ".join(str(cell).rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(machine(), flush=True)
