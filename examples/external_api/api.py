"""Stands in for somebody else's HTTP service: real sockets, so many calls at once, each so many seconds long.

    python -m examples.external_api.api --port 8000 --capacity 16 --seconds 0.02
    curl http://127.0.0.1:8000/prices/A          # {"sku":"A","price":"64.07","currency":"EUR"}
    curl http://127.0.0.1:8000/statistics        # {"answered":1,"running":0,"most_running":1,"waiting":0}

Up to ``capacity`` calls run in parallel; more wait, first come first served, and so take longer. That is what
a service looks like from outside: its capacity is the knee that a stress test has to find.

It is written for a benchmark and is no example; what to copy is in app.py. It stands for somebody else's
program and shares a core with the load generator, so it is asyncio's bare protocol with a parser that knows
one request, a GET without a body: 30 to 50 µs of CPU a call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import select
import selectors
import stat
import sys
import zlib
from collections import deque
from typing import Any

HEAD_LIMIT = 8 * 1024
"""Bytes of a request's head; more is refused."""

LINGER = 2.0
"""Seconds that a client has for taking the last answer and closing: a close with something unread resets the
connection, and the answer may be lost with it (RFC 9112, section 9.6)."""

_REQUEST = re.compile(rb"GET (/[!-~]*) HTTP/1\.([01])\r\n((?:[!-9;-~]+:[\t -~\x80-\xff]*\r\n)*)\r\n")
_PRICE = re.compile(r"/prices/([A-Za-z0-9-]{1,40})")
_CLOSE = re.compile(rb"^connection:[ \t]*close[ \t]*\r\n", re.IGNORECASE | re.MULTILINE)
_BODY = re.compile(rb"^(?:content-length:[ \t]*0*[1-9]|transfer-encoding:)", re.IGNORECASE | re.MULTILINE)


class Service:
    """The places in which calls run, and the queue in front of them.

    Args:
        capacity: calls that run at once.
        seconds: how long each takes once it has a place.
        jitter: share by which that differs from call to call; 0.1 is 10 % less to 10 % more.
    """

    def __init__(self, capacity: int, seconds: float, jitter: float = 0.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._capacity = capacity
        self._seconds = seconds
        self._jitter = jitter
        self._waiting: deque[tuple[Connection, str]] = deque()
        self._answered = self._running = self._most = 0

    def call(self, connection: Connection, sku: str) -> None:
        """Answer the connection when the call has had its place for its time."""
        if self._running < self._capacity:
            self._start(connection, sku, self._loop.time())
        else:
            self._waiting.append((connection, sku))

    def statistics(self) -> dict[str, int]:
        """Calls answered; running now, and at most so far; waiting now."""
        return {
            "answered": self._answered,
            "running": self._running,
            "most_running": self._most,
            "waiting": len(self._waiting),
        }

    def _start(self, connection: Connection, sku: str, at: float) -> None:
        self._running += 1
        self._most = max(self._most, self._running)
        end = at + self._seconds * (1 + self._jitter * random.uniform(-1, 1))
        self._loop.call_at(end, self._end, connection, sku, end)

    def _end(self, connection: Connection, sku: str, at: float) -> None:
        self._running -= 1
        self._answered += 1
        if self._waiting:
            # From when the place came free, not from now: else the capacity would depend on our CPU.
            self._start(*self._waiting.popleft(), at)
        connection.answer(200, {"sku": sku, "price": price_of(sku), "currency": "EUR"})


class Connection(asyncio.Protocol):
    """One client's: a request at a time, kept alive."""

    _transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._loop = asyncio.get_running_loop()
        self._service = service
        self._received = b""
        self._is_called = False
        self._is_last = False
        self._is_over = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        self._received += data
        if not self._is_called:
            self._next_request()
        elif len(self._received) > HEAD_LIMIT:  # it sends on without waiting for answers
            self._transport.abort()

    def answer(self, status: int, payload: object) -> None:
        """Send the answer to the request that was called, and take the next."""
        if self._transport.is_closing():
            return
        self._is_called = False
        self._send(status, payload)
        if self._received and not self._is_last:
            self._next_request()

    def _next_request(self) -> None:
        found = _REQUEST.match(self._received)
        if found is None:
            if b"\r\n\r\n" in self._received or len(self._received) > HEAD_LIMIT:
                self._refuse(400, "expected a GET of HTTP/1.1 with well-formed headers")
            return
        self._received = self._received[found.end() :]
        target, minor, headers = found.groups()
        if _BODY.search(headers):
            self._refuse(400, "expected no body")
            return
        self._is_last = minor == b"0" or _CLOSE.search(headers) is not None
        self._is_called = True
        path = target.decode("ascii")
        price = _PRICE.fullmatch(path)
        if price is not None:
            self._service.call(self, price[1])
        elif path == "/statistics":
            self.answer(200, self._service.statistics())
        else:
            self.answer(404, {"error": "expected /prices/SKU, with up to 40 letters, digits and '-'"})

    def _refuse(self, status: int, reason: str) -> None:
        self._is_last = True
        self._send(status, {"error": reason})

    def _send(self, status: int, payload: object) -> None:
        body = json.dumps(payload, separators=(",", ":")).encode()
        connection = "close" if self._is_last else "keep-alive"
        reason = {200: "OK", 400: "Bad Request", 404: "Not Found"}[status]
        head = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: {connection}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        if self._is_last:
            self._is_over = True
            self._transport.write_eof()  # and the transport closes when the client does
            self._loop.call_later(LINGER, self._transport.abort)


def price_of(sku: str) -> str:
    """Return what it costs: any number, but always the same."""
    return f"{zlib.crc32(sku.encode()) % 10_000 / 100:.2f}"


def _selector() -> selectors.BaseSelector:
    """Return the platform's best, one that wakes up within 0.1 ms of the time that it is told.

    Python's epoll rounds a timeout up to the next millisecond, 2.5 % of a call of 20 ms on average. select()
    does not, so on Linux that is what waits, for the one file descriptor of epoll.
    """
    if not hasattr(selectors, "EpollSelector"):
        return selectors.DefaultSelector()

    class Exact(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None or timeout > 0:
                select.select([self.fileno()], [], [], timeout)
            return super().select(0)

    return Exact()


async def serve(port: int, capacity: int, seconds: float, jitter: float) -> None:
    """Listen, say where, and go on until standard input is closed, if it is a pipe; else for ever."""
    loop = asyncio.get_running_loop()
    service = Service(capacity, seconds, jitter)
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", port, backlog=1024)
    # In one piece, also with PYTHONUNBUFFERED: who waits for it may be killed as soon as it has read.
    sys.stdout.write(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    is_orphan = asyncio.Event()

    def read_input() -> None:
        if not os.read(0, 4096):
            is_orphan.set()

    # Who starts this as a part of himself keeps the other end of the pipe, and the kernel closes it
    # whichever way he ends.
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        loop.add_reader(0, read_input)
    await is_orphan.wait()


def main() -> None:
    """Run from the command line."""
    environ = os.environ.get
    parser = argparse.ArgumentParser(description="A slow HTTP service that stands in for somebody else's.")
    parser.add_argument("--port", type=int, default=8000, help="0 for a free one (default 8000)")
    parser.add_argument(
        "--capacity",
        type=int,
        default=environ("EXTERNAL_API_CAPACITY", "16"),
        help="calls that run at once (default: EXTERNAL_API_CAPACITY, else 16)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=environ("EXTERNAL_API_SECONDS", "0.02"),
        help="seconds that each takes (default: EXTERNAL_API_SECONDS, else 0.02)",
    )
    parser.add_argument(
        "--jitter", type=float, default=0.0, help="share by which that differs, 0.1: ±10 %% (default 0)"
    )
    options = parser.parse_args()
    if options.capacity < 1 or options.seconds < 0 or not 0 <= options.jitter <= 1:
        parser.error("expected a capacity of 1 or more, 0 seconds or more, and a jitter from 0 to 1")
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(serve(options.port, options.capacity, options.seconds, options.jitter))


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(_selector())


if __name__ == "__main__":
    main()
