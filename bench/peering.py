"""The servers that trio-stomp is compared with: how each is made, started, and asked.

Rule: a peer is set up as its own guide has it, does the same work, and runs pinned to the server's core.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import attrs
from common import HERE, end
from scenarios import Scenario

PEERS = HERE / "peers"
READY = b"listening on "
START_SECONDS = 60.0
"""Until a server listens; a JVM takes 4, RabbitMQ 7."""
_SPRING = PEERS / "spring"
_NODE = PEERS / "stomp-broker-js"


class PeerError(RuntimeError):
    """A server could not be started, or could not do the work."""


@attrs.frozen(kw_only=True)
class Peer:
    """One server.

    Attributes:
        command: starts it; prints a line with ``listening on`` and its URL.
        application: arguments with which it has handlers; None: it has none.
        tools: programs that have to be there, by name or path.
        making: commands that make it, each with its folder.
        sources: what they make it of.
        made: is there once they have run.
        warmup: seconds of load before the first figure counts.
        asking: more arguments of the generator.
        only: the scenarios that say something of it; empty: all.
        environment: of the server, beside our own.
    """

    command: Sequence[str]
    application: Sequence[str] | None = None
    tools: Sequence[str] = ()
    making: Sequence[tuple[Path, Sequence[str]]] = ()
    sources: Sequence[Path] = ()
    made: Path | None = None
    warmup: float = 2.0
    asking: Sequence[str] = ()
    only: Sequence[str] = ()
    environment: Mapping[str, str] = attrs.field(factory=dict)

    def make(self) -> str | None:
        """See that it can be started; why not, else None."""
        lacking = [tool for tool in self.tools if shutil.which(tool) is None]
        if lacking:
            return f"{', '.join(lacking)} not found"
        if self.made is None or self._is_made(self.made):
            return None
        for folder, command in self.making:
            print(f"making {folder.name}: {' '.join(command)}", flush=True)
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-300:]}"
        return None

    def _is_made(self, made: Path) -> bool:
        """Whether nothing of its sources is newer."""
        if not made.exists():
            return False
        return all(source.stat().st_mtime <= made.stat().st_mtime for source in self.sources)


OURS = Peer(
    command=(sys.executable, "-m", "trio_stomp", "serve", "--port", "0", "--log-level", "error"),
    application=("bench.echo_app:app",),
    warmup=1.0,
    environment={"PYTHONPATH": str(HERE.parent)},
)


def _ceiling(*arguments: str) -> Peer:
    return Peer(
        command=(str(PEERS / "ceiling"), *arguments),
        tools=("cc",),
        making=((PEERS, ("cc", "-O2", "-o", "ceiling", "ceiling.c")),),
        sources=(PEERS / "ceiling.c",),
        made=PEERS / "ceiling",
        warmup=0.5,
    )


OTHERS: Mapping[str, Peer] = {
    "trio-stomp[fast]": attrs.evolve(
        OURS, only=("B1", "B16"), environment={**OURS.environment, "BENCH_FAST": "1"}
    ),
    "spring": Peer(
        command=("java", "-jar", str(_SPRING / "target" / "spring-stomp.jar"), "--server.port=0"),
        application=(),
        tools=("java", "mvn"),
        making=((_SPRING, ("mvn", "-q", "-B", "package")),),
        sources=(_SPRING / "pom.xml", _SPRING / "src/main/java/bench/Peer.java"),
        made=_SPRING / "target" / "spring-stomp.jar",
        warmup=20.0,
    ),
    "rabbitmq": Peer(
        command=(sys.executable, str(PEERS / "rabbitmq.py")),
        tools=("/usr/lib/rabbitmq/bin/rabbitmq-server", "epmd"),
        asking=("--vhost", "/"),
        warmup=3.0,
    ),
    "stomp-broker-js": Peer(
        command=("node", str(_NODE / "server.js")),
        tools=("node", "npm"),
        making=((_NODE, ("npm", "ci", "--silent", "--no-audit", "--no-fund")),),
        made=_NODE / "node_modules",
        warmup=4.0,
    ),
    "broadcast": Peer(
        command=(str(PEERS / ".venv" / "bin" / "python"), str(PEERS / "broadcast.py")),
        making=(
            (PEERS, (sys.executable, "-m", "venv", ".venv")),
            (PEERS, (".venv/bin/python", "-m", "pip", "install", "--quiet", "websockets", "uvloop")),
        ),
        made=PEERS / ".venv" / "bin" / "websockets",
    ),
    "ceiling": _ceiling(),
    "ceiling-coalesced": _ceiling("--coalesce"),
}


@contextlib.contextmanager
def running(name: str, peer: Peer, scenario: Scenario, cpu: int) -> Iterator[tuple[str, int]]:
    """Run a server on its core; gives URL and process id, whose children count as well.

    Raises:
        PeerError: if it ends, or says nothing for `START_SECONDS`; with the end of its output.
    """
    application = (peer.application or ()) if scenario.handler else ()
    settings = scenario.settings.get(name, ())
    with tempfile.TemporaryFile() as output:  # a pipe that nobody reads would stop it
        process = subprocess.Popen(
            ("taskset", "-c", str(cpu), *peer.command, *application, *settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=HERE.parent,
            env={**os.environ, **peer.environment},
        )
        try:
            yield _url(name, process, output), process.pid
        finally:
            end(process, 20)


def _url(name: str, process: subprocess.Popen[bytes], output: IO[bytes]) -> str:
    """Wait for the line with the URL."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        said = os.pread(output.fileno(), 1 << 20, 0)
        line = said.partition(READY)[2]
        if b"\n" in line:
            return line.partition(b"\n")[0].decode().strip()
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise PeerError(f"{name} did not listen: {said[-200:].decode(errors='replace').strip()!r}")
