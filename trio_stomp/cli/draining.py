"""``trio-stomp drain``: ask a server to end gracefully, and wait until it has."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from trio_stomp.cli.usage import EXIT_FAILED, Commands, UsageError

TOKEN: Final = "TRIO_STOMP_ADMIN_TOKEN"
_EVERY: Final = 0.5
"""Seconds between two looks at how far it is."""
_ANSWER: Final = 5.0
"""Seconds for an answer over HTTP; a server that is busy closing sessions still answers within one."""


def add_commands(commands: Commands) -> None:
    """Add ``drain``."""
    parser = commands.add_parser(
        "drain",
        help="have a server end gracefully, and wait for it",
        description="Have a server drain: it says 503 on /readyz, lets its sessions see through what they "
        "have read, closes them in turn, and ends. Given a process id it sends SIGTERM; given a URL it asks "
        "over HTTP, which takes the server's admin_token, and prints how many sessions are left until it "
        "has ended. Exit status 1 when it has not ended in time.",
    )
    parser.add_argument("server", metavar="PID|URL", help="process id, or any URL of it, as http://h:8080")
    parser.add_argument(
        "--token", help=f"admin_token of the server (default: the environment's {TOKEN}); for a URL"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long to wait for its end (default 120)",
    )
    parser.set_defaults(run=_drain)


def _drain(options: argparse.Namespace) -> int:
    target: str = options.server
    if re.fullmatch(r"[0-9]+", target):
        return _wait(_start_process(int(target)), options.timeout)
    scheme = urlsplit(target).scheme
    if scheme not in ("http", "https", "ws", "wss") or not urlsplit(target).netloc:
        raise UsageError(f"{target!r} is neither a process id nor a URL, as http://127.0.0.1:8080")
    token = options.token or os.environ.get(TOKEN)
    if not token:
        raise UsageError(f"a URL takes the server's admin_token: --token or the environment's {TOKEN}")
    url = f"{scheme.replace('ws', 'http')}://{urlsplit(target).netloc}/drain"
    _ask(url, token, "POST")
    return _wait(lambda: _sessions_over_http(url, token), options.timeout)


def _start_process(pid: int) -> Callable[[], str | None]:
    """Send SIGTERM; gives what tells how far it is: None once it has ended."""
    os.kill(pid, signal.SIGTERM)

    def ask() -> str | None:
        return "draining" if _is_running(pid) else None

    return ask


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a zombie has ended; only its parent does not know yet
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return True


def _sessions_over_http(url: str, token: str) -> str | None:
    try:
        answer = _ask(url, token, "GET")
    except (urllib.error.URLError, OSError) as error:
        if isinstance(error, urllib.error.HTTPError):
            raise
        return None  # nobody listens any more
    state = json.loads(answer)
    if state["state"] == "ready":  # they share the port, and the other one's listener is closed
        return None
    return f"{state['state']}: {state['sessions']} sessions left"


def _ask(url: str, token: str, method: str) -> bytes:
    request = urllib.request.Request(url, method=method, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER) as response:
            content: bytes = response.read()
            return content
    except urllib.error.HTTPError as error:
        if error.code in (404, 405):
            raise OSError(f"{url}: the server has no admin_token, or is no trio-stomp") from error
        if error.code == 401:
            raise OSError(f"{url}: this is not the server's admin_token") from error
        raise


def _wait(ask: Callable[[], str | None], timeout: float) -> int:
    """Print what is new until ``ask`` says None; the exit status."""
    started, said = time.monotonic(), ""
    while (state := ask()) is not None:
        if state != said:
            print(state, flush=True)
            said = state
        if time.monotonic() - started >= timeout:
            print(f"trio-stomp: it has not ended within {timeout:g} seconds", file=sys.stderr)
            return EXIT_FAILED
        time.sleep(_EVERY)
    print(f"ended after {time.monotonic() - started:.1f} seconds")
    return 0
