#!/usr/bin/env python3
"""Fuzzes a running server over TCP for a set time, and judges every answer.

A `trio-stomp serve` with an app of all kinds of handlers and with small limits is sent sessions of
`plans.make_plan`, many at a time. It fails when the server is not alive at the end, when an answer is
malformed or missing (silence), when a well-behaved canary is ever disturbed, or when the server's own
numbers tell of an unexpected exception, of something left over, or of memory that grows. A session that
failed is written to a file, and `--replay FILE` sends it again.

    PYTHONPATH=.:tests python -m fuzz.tcp --seconds 60 --seed 1
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import os
import re
import secrets
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio
from fuzz.app import SETTINGS
from fuzz.conversation import PATIENCE, converse
from fuzz.heard import judge, take_apart
from fuzz.plans import make_plan
from fuzz.sessions import Acknowledge, HalfClose, Pause, Plan, Reset, Send, Wait

from trio_stomp import open_client

ROOT = Path(__file__).parents[2]
CANARY_PATIENCE = 40.0
"""Seconds that a well-behaved session may wait for anything; more than a busy machine needs."""
GROWTH = 1.2
"""How much more memory may be resident at any time after the first tenth than at its end."""
LONG_ENOUGH = 300.0
"""Seconds of a run from which on memory is judged: a tenth of less is no warm-up."""
MOST_FILES = 50
_READY = re.compile(r"listening on (ws://\S+)")
_STEPS: Mapping[str, type] = {
    kind.__name__: kind for kind in (Send, Pause, Wait, Acknowledge, HalfClose, Reset)
}


class Broken(Exception):
    """The server or the canary has failed: there is no use in going on."""


@attrs.define(eq=False)
class Run:
    """One run's server and numbers."""

    options: argparse.Namespace
    process: subprocess.Popen[str]
    host: str
    port: int
    sessions: int = 0
    sent: int = 0
    heard: int = 0
    kinds: collections.Counter[str] = attrs.field(factory=collections.Counter)
    answers: collections.Counter[str] = attrs.field(factory=collections.Counter)
    failures: list[str] = attrs.field(factory=list)
    canary: int = 0
    newcomers: int = 0
    slowest: float = 0.0
    resident: list[tuple[float, float]] = attrs.field(factory=list)
    tickets: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(0))

    def fail(self, why: str) -> None:
        """Note what went wrong, and say it at once."""
        self.failures.append(why)
        print(f"FAILED: {why}", flush=True)


def main() -> int:
    """Run the command; exit status 0 when nothing failed."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the server, too
    with tempfile.TemporaryDirectory() as folder, _serving(Path(folder) / "log") as (process, url):
        host, _, port = url.removeprefix("ws://").partition("/")[0].rpartition(":")
        run = Run(options, process, host, int(port))
        started = time.monotonic()
        trio.run(_fuzz if options.replay is None else _replay, run)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        if process.returncode != 0:
            run.fail(f"the server ended with {process.returncode}, expected 0")
        log = (Path(folder) / "log").read_text(errors="replace")
        for text in ("Traceback", "unexpected exception"):
            if text in log:
                run.fail(f"{log.count(text)} times {text!r} in the server's log")
        if run.failures:
            (options.failures / "server.log").write_text(log[-1_000_000:])
        _print_report(run, time.monotonic() - started)
    return 1 if run.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--seed", default="1", help="of the sessions (default 1)")
    parser.add_argument("--tasks", type=int, default=48, help="sessions at a time (default 48)")
    parser.add_argument(
        "--cpu", type=float, default=1.0, help="share of a core that server and fuzzer may use together"
    )
    parser.add_argument(
        "--failures", type=Path, default=Path("fuzz-failures"), help="where failed sessions are written"
    )
    parser.add_argument("--replay", type=Path, help="send the session of this file, and nothing else")
    options = parser.parse_args()
    options.failures.mkdir(parents=True, exist_ok=True)
    return options


@contextlib.contextmanager
def _serving(log: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server's process and URL; it is ended with the context."""
    settings = itertools.chain.from_iterable(("--set", f"{name}={value}") for name, value in SETTINGS.items())
    command = [sys.executable, "-m", "trio_stomp", "serve", "fuzz.app:app", "--port", "0", *settings]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "--log-level", "error"],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    try:
        ready = _READY.search(process.stdout.readline())
        if ready is None:
            raise SystemExit(f"the server did not start:\n{log.read_text()}")
        yield process, ready[1]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


# One session.


async def _fuzz_one(run: Run, number: int, plan: Plan) -> None:
    """Send one session, judge what comes back, and keep the failed one."""
    data, end = await _converse(run, number, plan)
    run.sessions += 1
    run.sent += len(plan.data)
    run.heard += len(data)
    run.kinds[plan.kind] += 1
    why = judge(plan, data, end=end)
    if why is None:
        run.answers.update(take_apart(data).answers or [f"nothing, {end}"])
        return
    where = run.options.failures / f"session-{run.options.seed}-{number}.json"
    run.fail(f"session {number} ({plan.kind}): {why}; in {where}")
    if len(run.failures) <= MOST_FILES:
        steps = [[type(step).__name__, *map(_plain, attrs.astuple(step))] for step in plan.steps]
        kept = {"why": why, "seed": run.options.seed, "number": number, "plan": attrs.asdict(plan)}
        kept["plan"]["steps"] = steps
        where.write_text(json.dumps({**kept, "end": end, "heard": data.hex()}, indent=1))


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _read_plan(path: Path) -> tuple[int, Plan]:
    kept = json.loads(path.read_text())
    steps = []
    for name, *values in kept["plan"].pop("steps"):
        steps.append(_STEPS[name](*(bytes.fromhex(v) if isinstance(v, str) else v for v in values)))
    wants = tuple(kept["plan"].pop("wants"))
    return kept["number"], Plan(tuple(steps), wants=wants, **kept["plan"])


async def _converse(run: Run, number: int, plan: Plan) -> tuple[bytes, str]:
    """Open a connection for a plan; what `converse` says of it."""
    sock = trio.socket.socket()
    if plan.stall:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    # Other addresses than the canary's: its server limits connections by address.
    await sock.bind((f"127.0.0.{2 + number % 3}", 0))
    try:
        with trio.fail_after(PATIENCE):
            await sock.connect((run.host, run.port))
    except (OSError, trio.TooSlowError) as error:
        sock.close()
        raise Broken(f"the server does not let us in: {error!r}") from error

    async def reset() -> None:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    return await converse(trio.SocketStream(sock), plan, reset)


# The run.


async def _fuzz(run: Run) -> None:
    numbers = itertools.count()
    until = trio.current_time() + run.options.seconds
    before = await _metrics(run)
    try:
        async with trio.open_nursery() as around:
            around.start_soon(_canary, run)
            around.start_soon(_newcomers, run)
            around.start_soon(_watch, run)
            around.start_soon(_pace, run)
            async with trio.open_nursery() as nursery:
                for _ in range(run.options.tasks):
                    nursery.start_soon(_work, run, numbers, until)
            around.cancel_scope.cancel()
    except* (Broken, OSError) as group:
        for error in _leaves(group):
            run.fail(f"{type(error).__name__}: {error}")
    if run.process.poll() is None:
        await _check_the_end(run, before)


async def _replay(run: Run) -> None:
    number, plan = _read_plan(run.options.replay)
    before = await _metrics(run)
    data, end = await _converse(run, number, plan)
    print(f"{end}: {data!r}")
    await _fuzz_one(run, number, plan)
    await _check_the_end(run, before)


async def _work(run: Run, numbers: Iterator[int], until: float) -> None:
    while trio.current_time() < until:
        with trio.move_on_at(until):
            await run.tickets.acquire()
        number = next(numbers)
        await _fuzz_one(run, number, make_plan(Random(f"{run.options.seed}/{number}"), number))


async def _pace(run: Run) -> None:
    """Let as many sessions begin as the share of a core allows."""
    rate, spent, at = 20.0, _cpu_seconds(run), time.monotonic()
    while True:
        for _ in range(10):
            for _ in range(max(1, round(rate / 10))):
                if run.tickets.value < 10:
                    run.tickets.release()
            await trio.sleep(0.1)
        now, used = time.monotonic(), _cpu_seconds(run)
        share, spent, at = (used - spent) / (now - at), used, now
        rate = min(max(rate * min(max(run.options.cpu / max(share, 0.01), 0.5), 1.5), 5.0), 2000.0)


def _cpu_seconds(run: Run) -> float:
    fields = Path(f"/proc/{run.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + time.process_time()


async def _canary(run: Run) -> None:
    """A session that publishes and receives, and calls a handler, all the time."""
    topic = f"/topic/canary-{secrets.token_hex(8)}"
    url = f"ws://{run.host}:{run.port}/ws"
    try:
        async with (
            open_client(url, login="canary") as client,
            client.subscribe(topic) as messages,
            client.subscribe("/user/queue/echo") as echoes,
        ):
            for number in itertools.count():
                started, text = trio.current_time(), f"canary {number}"
                with trio.fail_after(CANARY_PATIENCE):
                    await client.send(topic, text, receipt=True)
                    await client.send("/app/echo", text)
                    heard = [(await feed.receive()).text for feed in (messages, echoes)]
                if heard != [text, text]:
                    raise Broken(f"the canary sent {text!r} and received {heard}")
                run.canary += 1
                run.slowest = max(run.slowest, trio.current_time() - started)
                await trio.sleep(0.2)
    except Exception as error:
        raise Broken(f"the canary was disturbed: {error!r}") from error


async def _newcomers(run: Run) -> None:
    """Sessions that come and go as they should; and a health check."""
    url = f"ws://{run.host}:{run.port}/ws"
    while True:
        try:
            with trio.fail_after(CANARY_PATIENCE):
                async with open_client(url) as client, client.subscribe("/topic/newcomer") as messages:
                    await client.send("/topic/newcomer", "hello", receipt=True)
                    await messages.receive()
            status, _ = await _get(run, "/healthz")
        except Exception as error:
            raise Broken(f"a newcomer was disturbed: {error!r}") from error
        if status != 200:
            raise Broken(f"/healthz says {status}, expected 200")
        run.newcomers += 1
        await trio.sleep(1)


async def _watch(run: Run) -> None:
    """Note the resident memory, and that the process lives."""
    started = trio.current_time()
    while True:
        if run.process.poll() is not None:
            raise Broken(f"the server ended with {run.process.returncode}")
        numbers = await _metrics(run)
        run.resident.append((trio.current_time() - started, numbers["process_resident_memory_bytes"]))
        await trio.sleep(min(5.0, run.options.seconds / 100))


async def _check_the_end(run: Run, before: Mapping[str, float]) -> None:
    """Nothing may be left of all the sessions, and nothing may have surprised the server."""
    zeros = ["sessions_current", "subscriptions", "handlers_running", "broker_inbox"]
    zeros += [f'pool_{each}{{pool="worker"}}' for each in ("busy", "waiting", "abandoned")]
    numbers: dict[str, float] = {}
    with trio.move_on_after(PATIENCE):
        while True:
            numbers = await _metrics(run)
            is_idle = all(numbers[f"trio_stomp_{name}"] == 0 for name in zeros)
            if is_idle and numbers["trio_stomp_tasks"] <= before["trio_stomp_tasks"]:
                break
            await trio.sleep(0.2)
    for name in zeros:
        if numbers[f"trio_stomp_{name}"]:
            run.fail(f"trio_stomp_{name} is {numbers[f'trio_stomp_{name}']:g} at the end, expected 0")
    for name in ("connections_current", "tasks"):
        now, then = numbers[f"trio_stomp_{name}"], before[f"trio_stomp_{name}"]
        if now > then:
            run.fail(f"trio_stomp_{name} is {now:g} at the end, expected {then:g} as before")
    if numbers["trio_stomp_internal_errors_total"]:
        run.fail(f"{numbers['trio_stomp_internal_errors_total']:g} internal errors")
    ratio = _growth(run)
    if ratio is not None and ratio > GROWTH and run.options.seconds >= LONG_ENOUGH:
        run.fail(f"resident memory grew to {ratio:.2f} of what it was, expected at most {GROWTH}")
    print("limits reached:")
    for name, value in numbers.items():
        if name.startswith("trio_stomp_limit_hits") and value:
            print(f"  {name.split(chr(34))[1]:30} {value:10g}")


def _growth(run: Run) -> float | None:
    """The highest resident memory after the first tenth, by that at its end."""
    warm = [size for at, size in run.resident if at <= run.options.seconds / 10]
    later = [size for at, size in run.resident if at > run.options.seconds / 10]
    return max(later) / warm[-1] if warm and later else None


async def _get(run: Run, path: str) -> tuple[int, str]:
    async with await trio.open_tcp_stream(run.host, run.port) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {run.host}\r\n\r\n".encode())
        answer = b""
        with trio.fail_after(CANARY_PATIENCE):
            async for piece in stream:
                answer += piece
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


async def _metrics(run: Run) -> dict[str, float]:
    status, text = await _get(run, "/metrics")
    if status != 200:
        raise Broken(f"/metrics says {status}, expected 200")
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line[0] != "#"
    }


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _print_report(run: Run, seconds: float) -> None:
    print("sessions by kind:")
    for kind, count in sorted(run.kinds.items()):
        print(f"  {kind:40} {count:10}")
    print("answers:")
    for answer, count in run.answers.most_common(40):
        print(f"  {answer:40} {count:10}")
    ratio = _growth(run)
    print(
        f"{run.sessions} sessions in {seconds:.0f} s (seed {run.options.seed}), "
        f"{run.sent / 1e6:.1f} MB sent, {run.heard / 1e6:.1f} MB heard; "
        f"canary {run.canary} rounds, the slowest {run.slowest:.2f} s, {run.newcomers} newcomers"
    )
    if run.resident and ratio is not None:
        mib = [size / (1 << 20) for _, size in run.resident]
        print(
            f"resident memory: {mib[0]:.1f} MiB at the start, at most {max(mib):.1f}, "
            f"{mib[-1]:.1f} at the end; {ratio:.2f} of what it was after the first tenth"
        )
    print(f"{len(run.failures)} failures" if run.failures else "no failure")


if __name__ == "__main__":
    sys.exit(main())
