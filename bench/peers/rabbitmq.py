"""Debian's RabbitMQ with Web STOMP, in a folder and at ports of its own; leaves nothing behind.

It neither sees nor disturbs a RabbitMQ that the machine runs as a service: node, data, log, cookie and port
mapper (epmd) are its own. SIGTERM ends it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Not the one in ``/usr/sbin``, which changes to the service's user and folders."""
_STARTED = "Server startup complete"

_CONFIG = """\
listeners.tcp = none
stomp.listeners.tcp = none
web_stomp.tcp.ip = 127.0.0.1
web_stomp.tcp.port = {port}
log.console = true
log.console.level = info
log.file = false
"""


def main() -> int:
    """Run it until it ends or is asked to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="bench-rabbitmq-") as name:
        folder, (port, mapper, distribution) = Path(name), free_ports(3)
        (folder / "rabbitmq.conf").write_text(_CONFIG.format(port=port))
        (folder / "enabled_plugins").write_text("[rabbitmq_web_stomp].\n")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": name,  # the cookie is kept there
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(mapper),
            "RABBITMQ_NODENAME": f"bench{os.getpid()}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface "
            "{127,0,0,1}",
            "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes the server: what is ended is the server itself
        }
        mapping = (shutil.which("epmd") or "epmd",)
        with child(mapping, environment), child((str(SERVER), "-noinput"), environment) as server:
            assert server.stdout is not None
            for line in server.stdout:
                if _STARTED in line:
                    print(f"listening on ws://127.0.0.1:{port}/ws", flush=True)
            return server.wait()


def free_ports(count: int) -> list[int]:
    """So many ports that nobody has, below those that the kernel gives to connections."""
    found = []
    for port in random.sample(range(20_000, 32_000), 1000):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise SystemExit(f"there are no {count} free ports from 20000 to 32000")


@contextlib.contextmanager
def child(command: tuple[str, ...], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a process as long as the context lasts."""
    process = subprocess.Popen(
        command,
        cwd=environment["HOME"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
