"""The servers that trio-stomp is compared with: how each is made, started, and asked.

Rule: a peer is set up as its own guide has it, does the same work, and runs pinned to the server's core.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from common import HERE

PEERS = HERE / "peers"
READY = "listening on "
_SPRING = PEERS / "spring"
_NODE = PEERS / "stomp-broker-js"


@attrs.frozen
class Peer:
    """One server.

    Attributes:
        command: starts it; prints a line with ``listening on`` and its URL.
        tools: programs that have to be there.
        making: commands that make it, each with its folder.
        made: is there once they have run.
        handler: destinations of requests to a handler and of their replies; None: it has no handlers.
        warmup: seconds of load before the first figure counts.
        environment: of the server, beside our own.
    """

    command: Sequence[str]
    tools: Sequence[str] = ()
    making: Sequence[tuple[Path, Sequence[str]]] = ()
    made: Path | None = None
    handler: tuple[str, str] | None = None
    warmup: float = 2.0
    environment: Mapping[str, str] = attrs.field(factory=dict)

    def make(self) -> str | None:
        """See that it can be started; why not, else None."""
        lacking = [tool for tool in self.tools if shutil.which(tool) is None]
        if lacking:
            return f"{', '.join(lacking)} not found"
        if self.made is not None and not self.made.exists():
            for folder, command in self.making:
                print(f"making {folder.name}: {' '.join(command)}", flush=True)
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
                if done.returncode:
                    return f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-300:]}"
        return None


ECHO = ("/app/echo", "/user/queue/echo")

_SERVE = (sys.executable, "-m", "trio_stomp", "serve", "--port=0", "--log-level=warning")
_HERE = {"PYTHONPATH": str(HERE.parent)}

BROKER = Peer(_SERVE, environment=_HERE)
"""Ours without an app: everybody may send everywhere."""
HANDLERS = Peer((*_SERVE, "bench.echo_app:app"), handler=ECHO, environment=_HERE)
"""Ours with a handler."""

OTHERS: Mapping[str, Peer] = {
    "spring": Peer(
        ("java", "-jar", str(_SPRING / "target" / "spring-stomp.jar"), "--server.port=0"),
        tools=("java", "mvn"),
        making=((_SPRING, ("mvn", "-q", "-B", "package")),),
        made=_SPRING / "target" / "spring-stomp.jar",
        handler=ECHO,
        warmup=20.0,
    ),
    "stomp-broker-js": Peer(
        ("node", str(_NODE / "server.js")),
        tools=("node", "npm"),
        making=((_NODE, ("npm", "ci", "--silent", "--no-audit", "--no-fund")),),
        made=_NODE / "node_modules",
    ),
    "broadcast": Peer(
        (str(PEERS / ".venv" / "bin" / "python"), str(PEERS / "broadcast.py")),
        making=(
            (PEERS, (sys.executable, "-m", "venv", ".venv")),
            (PEERS, (".venv/bin/python", "-m", "pip", "install", "--quiet", "websockets", "uvloop")),
        ),
        made=PEERS / ".venv",
    ),
    "ceiling": Peer(
        (str(PEERS / "ceiling"),),
        tools=("cc",),
        making=((PEERS, ("cc", "-O2", "-o", "ceiling", "ceiling.c")),),
        made=PEERS / "ceiling",
    ),
    "ceiling-coalesced": Peer(
        (str(PEERS / "ceiling"), "--coalesce"),
        tools=("cc",),
        making=((PEERS, ("cc", "-O2", "-o", "ceiling", "ceiling.c")),),
        made=PEERS / "ceiling",
    ),
}


@contextlib.contextmanager
def running(peer: Peer, options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Run a server on its core; gives URL and process id."""
    process = subprocess.Popen(
        ("taskset", "-c", str(options.server_cpu), *peer.command),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=HERE.parent,
        env={**os.environ, **peer.environment},
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if READY in line:
                yield line.partition(READY)[2].strip(), process.pid
                break
        else:
            raise SystemExit(f"{peer.command[0]} ended with {process.wait()} before it listened")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
