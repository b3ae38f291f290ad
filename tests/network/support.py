"""A running `trio-stomp serve`, a program of its own, for tests with real sockets.

Rule 1: whatever happens in a test, the program is ended, by its pid.
Rule 2: every wait has a deadline; nothing waits for a time to pass.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import trustme

ROOT: Final = Path(__file__).parents[2]
"""The repository's root: where `examples` can be imported and `node_modules` is."""
PATIENCE: Final = 30.0
"""Seconds that anything may take before a test gives up; far more than it needs, for slow machines."""

_READY: Final = re.compile(r"listening on (wss?://\S+)")
_READY_TCP: Final = re.compile(r"trio-stomp listening on (stomp(?:\+ssl)?://\S+)")


class Program:
    """A Python program that runs beside the tests, its output line by line."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def line(self) -> str:
        """The next line of its standard output, without its end.

        Raises:
            AssertionError: it ended, or said nothing within PATIENCE seconds.
        """
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"no line within {PATIENCE:g} seconds; its log:\n{self.log()}") from None
        if line is None:
            raise AssertionError(f"it ended with {self.process.wait(PATIENCE)}; its log:\n{self.log()}")
        return line.rstrip("\n")

    def lines(self) -> list[str]:
        """The lines up to the end of its output; waits for that."""
        return [line.rstrip("\n") for line in iter(lambda: self._lines.get(timeout=PATIENCE), None)]

    def log(self) -> str:
        """What it has written to standard error so far."""
        return self._log.read_text(errors="replace")

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it, and nothing else."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code; waits for its end.

        Raises:
            subprocess.TimeoutExpired: it did not end within PATIENCE seconds.
        """
        return self.process.wait(PATIENCE)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


class ServerProgram(Program):
    """A running `trio-stomp serve`."""

    url: str
    """Its WebSocket endpoint, as ``ws://127.0.0.1:40000/ws``."""
    tcp_url: str
    """Where it speaks STOMP over TCP, as ``stomp://127.0.0.1:40001``; only when asked to."""

    @property
    def tcp_port(self) -> int:
        """The port for TCP that it got."""
        port = urlsplit(self.tcp_url).port
        assert port is not None
        return port

    @property
    def port(self) -> int:
        """The port that it got."""
        port = urlsplit(self.url).port
        assert port is not None
        return port

    @property
    def http_url(self) -> str:
        """What a browser opens, as ``http://127.0.0.1:40000``."""
        parts = urlsplit(self.url)
        return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"


@contextlib.contextmanager
def running(*arguments: str, environ: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Run `python ARGUMENTS…` in the repository's root as long as the context lasts, and no longer."""
    with _started(Program, arguments, environ) as program:
        yield program


@contextlib.contextmanager
def serving(
    *arguments: str, port: int = 0, environ: Mapping[str, str] | None = None, log_to: Path | None = None
) -> Iterator[ServerProgram]:
    """Run `trio-stomp serve ARGUMENTS…` as long as the context lasts; entered when it listens.

    With ``log_to`` its standard error goes there, and is not kept.

    Unless the test has ended it, it gets SIGTERM at the end and must then end cleanly: with exit code 0 and
    without having logged an unexpected exception.
    """
    at_once = ("--set", "drain.delay=0", "--set", "drain.window=0")
    command = ("-m", "trio_stomp", "serve", *at_once, *arguments, "--port", str(port))
    with _started(ServerProgram, command, environ, log_to) as server:
        found = _READY.search(server.line())
        assert found is not None, server.log()
        server.url = found[1]
        if any(option in arguments for option in ("--tcp-port", "--tcp-fd")):
            found = _READY_TCP.fullmatch(server.line())
            assert found is not None, server.log()
            server.tcp_url = found[1]
        yield server
        if server.process.poll() is None:
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0, server.log()
        assert "Traceback" not in server.log(), server.log()


@contextlib.contextmanager
def _started(
    kind: type[Any],
    arguments: Sequence[str],
    environ: Mapping[str, str] | None,
    log_to: Path | None = None,
) -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        with (log_to or log).open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=_environ(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        program = kind(process, log)
        try:
            yield program
        finally:
            program._end()


def run_command(
    *arguments: str, stdin: str | None = None, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `trio-stomp ARGUMENTS…` to its end; its exit code and output."""
    return subprocess.run(
        [sys.executable, "-m", "trio_stomp", *arguments],
        cwd=ROOT,
        env=_environ(environ),
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def certificate(folder: Path) -> tuple[tuple[str, ...], str]:
    """A new certificate for 127.0.0.1: what `serving` takes, and the file of whoever trusts it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    chain, key, trusted = folder / "chain.pem", folder / "key.pem", folder / "ca.pem"
    chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(trusted)
    return ("--tls-cert", str(chain), "--tls-key", str(key)), str(trusted)


def eventually(claim: Callable[[], object], what: str) -> None:
    """Return as soon as ``claim()`` is true.

    Raises:
        AssertionError: it was not within PATIENCE seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while not claim():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} seconds: {what}"
        time.sleep(0.01)


def program_path(name: str) -> str:
    """Where a program is; without it the test is skipped (which in CI is a failure)."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def node_modules() -> Path:
    """Where `npm ci` has put what package.json names; without it the test is skipped."""
    folder = ROOT / "node_modules"
    if not (folder / "@stomp" / "stompjs").is_dir():
        pytest.skip("node_modules is not there: run `npm ci`")
    return folder


def _environ(more: Mapping[str, str] | None) -> dict[str, str]:
    """This process's environment without settings of trio-stomp, and with the repository importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIO_STOMP_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(more or {})}
