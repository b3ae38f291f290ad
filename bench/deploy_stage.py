"""What is deployed, for bench/deploy.py: server processes, and HAProxy with an example's configuration.

Rule 1: whatever is started here is ended here, by its process id.
Rule 2: the configuration is examples/deploy/'s; only addresses, files and what an option asks for are put in.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import trio

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "deploy"
READY = b"trio-stomp listening on "

_MAXCONN = 4000
"""Connections, two file descriptors each: what any system's limit allows."""
_PATIENCE = 30.0
"""Seconds that starting, ending and being noticed may take, beyond what a drain takes."""


def haproxy_path() -> str | None:
    """Where HAProxy is; Debian puts it where only root looks."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def configured(
    example: str,
    *,
    folder: Path,
    port: int,
    backends: Mapping[str, Mapping[str, int]],
    balance: str = "leastconn",
    inter: float = 1.0,
    without: str = "",
) -> str:
    """An example's configuration, for this machine.

    Args:
        example: the text of a file of examples/deploy/.
        folder: in place of /etc/haproxy and /run/haproxy.
        port: what it listens on.
        backends: for each backend its servers' ports, by name.
        inter: seconds between two health checks; the other intervals of the line in proportion.
        without: what the lines begin with that are left out, to show what they are for; none by default.

    Raises:
        ValueError: the example has no such backend.
    """
    text = re.sub(r"/(etc|run)/haproxy", str(folder), example)
    text = re.sub(r"^( +maxconn ).*$", rf"\g<1>{_MAXCONN}", text, flags=re.M)
    text = re.sub(r"^( +bind ).*$", rf"\g<1>127.0.0.1:{port}", text, flags=re.M)
    text = re.sub(r"^( +balance ).*$", rf"\g<1>{balance}", text, flags=re.M)
    text = re.sub(r"^ +server .*\n", "", text, flags=re.M)
    if without:
        text = re.sub(rf"^ +{re.escape(without)}.*\n", "", text, flags=re.M)

    def scaled(found: re.Match[str]) -> str:
        seconds = float(found[2]) * (1.0 if found[3] == "s" else 0.001) * inter
        return f"{found[1]} {seconds * 1000:.0f}ms"

    text = re.sub(r"\b((?:|fast|down)inter) (\d+)(m?s)\b", scaled, text)
    for name, servers in backends.items():
        lines = "".join(f"    server {server} 127.0.0.1:{at}\n" for server, at in servers.items())
        head, found, rest = text.partition(f"\nbackend {name}\n")
        if not found:
            raise ValueError(f"there is no backend {name!r} in the example")
        section, blank, others = rest.partition("\n\n")
        text = head + found + section.rstrip() + "\n" + lines + blank[1:] + others
    return text


class HAProxy:
    """A running HAProxy, through its admin socket."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "admin.sock"
        self._map = folder / "active.map"

    async def command(self, line: str) -> str:
        """What it answers to one command.

        Raises:
            OSError: it is not there, or not there yet.
        """
        async with await trio.open_unix_socket(str(self._socket)) as stream:
            await stream.send_all(line.encode() + b"\n")
            answer = b""
            async for chunk in stream:
                answer += chunk
        return answer.decode()

    async def answers(self) -> bool:
        """Whether it is there."""
        try:
            return bool(await self.command("show info"))
        except OSError:
            return False

    async def servers(self) -> dict[str, tuple[str, int]]:
        """State and number of sessions of every server."""
        rows = csv.DictReader((await self.command("show stat")).removeprefix("# ").splitlines())
        return {
            row["svname"]: (row["status"], int(row["scur"]))
            for row in rows
            if row["svname"] not in ("FRONTEND", "BACKEND")
        }

    async def retries(self) -> int:
        """How often a connection or request was tried anew."""
        rows = csv.DictReader((await self.command("show stat")).removeprefix("# ").splitlines())
        return sum(int(row["wretr"]) for row in rows if row["svname"] == "BACKEND")

    async def wait_up(self, servers: Sequence[str]) -> None:
        """Return when all of these servers get traffic.

        Raises:
            trio.TooSlowError: not within 30 seconds.
        """
        with trio.fail_after(_PATIENCE):
            while True:
                found = await self.servers()
                if all(found[server][0].startswith("UP") for server in servers):
                    return
                await trio.sleep(0.05)

    async def switch(self, backend: str) -> None:
        """Send new sessions to another backend: the map's one key, as in examples/deploy/."""
        await self.command(f"set map {self._map} active {backend}")


@contextlib.asynccontextmanager
async def run_haproxy(folder: Path, configuration: str) -> AsyncIterator[HAProxy]:
    """Run HAProxy in ``folder`` for as long as the context lasts.

    Raises:
        FileNotFoundError: it is not installed.
        RuntimeError: it ended instead of starting.
    """
    program = haproxy_path()
    if program is None:
        raise FileNotFoundError("haproxy is not installed (Debian: apt-get install haproxy)")
    shutil.copy(EXAMPLES / "active.map", folder)
    file = folder / "haproxy.cfg"
    file.write_text(configuration)
    with (folder / "haproxy.log").open("wb") as log:
        process = await trio.lowlevel.open_process([program, "-db", "-f", str(file)], stdout=log, stderr=log)
    try:
        haproxy = HAProxy(folder)
        with trio.fail_after(_PATIENCE):
            while not await haproxy.answers():
                if process.poll() is not None:
                    raise RuntimeError(f"haproxy did not start: {(folder / 'haproxy.log').read_text()}")
                await trio.sleep(0.05)
        yield haproxy
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


class ServerProcess:
    """A place in the deployment: a port on which one generation after the other serves."""

    def __init__(self, name: str, folder: Path, options: Sequence[str], environ: Mapping[str, str]) -> None:
        self.name = name
        self.port = free_port()
        self._options = options
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
        self._log = folder / f"{name}.log"
        self._process: trio.Process | None = None

    async def start(self, app: str) -> None:
        """Start a generation; returns when it listens.

        Raises:
            RuntimeError: it ended instead.
        """
        command = [sys.executable, "-m", "trio_stomp", "serve", app, "--port", str(self.port), *self._options]
        with self._log.open("ab") as log:
            process = await trio.lowlevel.open_process(
                command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=self._environ
            )
        self._process = process
        assert process.stdout is not None
        with trio.fail_after(_PATIENCE):
            said = await process.stdout.receive_some()
        if not said.startswith(READY):
            raise RuntimeError(f"{self.name} did not start: {self._log.read_text()[-2000:]}")

    async def drain(self) -> int:
        """SIGTERM, and its exit status once it has ended."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        status = await self._process.wait()
        assert self._process.stdout is not None
        await self._process.stdout.aclose()
        return status

    async def kill(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def log(self) -> str:
        """What all its generations have logged."""
        return self._log.read_text()
