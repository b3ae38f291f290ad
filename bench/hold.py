#!/usr/bin/env python3
"""Hold many STOMP connections, and answer each heart-beat of the server by one: a client process.

One thread, epoll, standard library only. `connections.py --hold` starts some of these. It prints two JSON
objects, a line each: one when all are connected, and one at the end, ``--rounds`` heart-beats later. It
begins to count when it reads a line on its standard input.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import resource
import select
import socket
import sys
import time
from urllib.parse import urlsplit

BEAT = b"\x81\x01\n"
"""The server's: one line end in a frame of its own."""
KEY = b"\x5a\xc3\x17\x9e"
ANSWER = b"\x81\x81" + KEY + bytes((0x0A ^ KEY[0],))
OPENING = 200
"""Connections that are being opened at once: far below any backlog."""
PATIENCE = 60.0
"""Seconds without a single new connection after which those that are lacking are lost."""


def masked(payload: bytes) -> bytes:
    """One text frame of below 126 bytes."""
    body = bytes(byte ^ mask for byte, mask in zip(payload, itertools.cycle(KEY)))
    return bytes((0x81, 0x80 | len(payload))) + KEY + body


class Holder:
    """The connections of one process, by file descriptor."""

    def __init__(self, url: str, source: str, beat: float) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._source = source
        key = base64.b64encode(os.urandom(16)).decode()
        every = int(beat * 1000)
        head = (
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: v12.stomp\r\n\r\n"
        )
        connect = f"CONNECT\naccept-version:1.2\nhost:h\nheart-beat:{every},{every}\n\n\0"
        self._hello = head.encode() + masked(connect.encode())
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._greeted: dict[int, bytes] = {}  # what those not yet connected have got
        self.beats: dict[int, int] = {}
        self.lost = 0

    def connect(self, count: int) -> float:
        """Connect so many; the seconds that it took."""
        started = moved = time.monotonic()
        opened = 0
        while opened < count or self._greeted:
            while opened < count and len(self._greeted) < OPENING:
                self._open()
                opened += 1
            before = len(self._greeted)
            self.pump(0.1)
            now = time.monotonic()
            if len(self._greeted) < before:
                moved = now
            if now - moved > PATIENCE:
                self.lost += len(self._greeted)
                break
        return time.monotonic() - started

    def pump(self, timeout: float) -> None:
        """See to what has come, waiting so many seconds for something."""
        for fd, events in self._epoll.poll(timeout):
            if fd in self._greeted and events & select.EPOLLOUT:
                self._sockets[fd].send(self._hello)
                self._epoll.modify(fd, select.EPOLLIN)
                continue
            try:
                data = self._sockets[fd].recv(4096)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self._lose(fd)
            elif fd in self._greeted:
                self._greet(fd, data)
            else:
                self._answer(fd, data)

    def _open(self) -> None:
        plain = socket.socket()
        plain.setblocking(False)
        if self._source:  # ports are by pair of addresses: another source, other 28,000 ports
            plain.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
            plain.bind((self._source, 0))
        plain.connect_ex(self._address)
        fd = plain.fileno()
        self._sockets[fd], self._greeted[fd] = plain, b""
        self._epoll.register(fd, select.EPOLLOUT)

    def _greet(self, fd: int, data: bytes) -> None:
        data = self._greeted[fd] + data
        _, connected, rest = data.partition(b"CONNECTED\n")
        end = rest.find(b"\0")
        if not connected or end < 0:
            self._greeted[fd] = data
            return
        del self._greeted[fd]
        self.beats[fd] = 0
        if rest[end + 1 :]:
            self._answer(fd, rest[end + 1 :])

    def _answer(self, fd: int, data: bytes) -> None:
        count = data.count(BEAT)
        if count * len(BEAT) != len(data):  # a Close, an ERROR
            self._lose(fd)
            return
        self.beats[fd] += count
        try:
            self._sockets[fd].send(ANSWER * count)
        except OSError:
            self._lose(fd)

    def _lose(self, fd: int) -> None:
        self.lost += 1
        self._epoll.unregister(fd)
        self._sockets.pop(fd).close()
        self._greeted.pop(fd, None)
        self.beats.pop(fd, None)


def hold_until_told(holder: Holder) -> None:
    """Answer heart-beats until there is a line on standard input; takes it."""
    while not select.select([sys.stdin], (), (), 0)[0]:
        holder.pump(0.1)
    sys.stdin.readline()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--beat", type=float, required=True, help="seconds between heart-beats")
    parser.add_argument("--rounds", type=int, required=True, help="heart-beats of each connection")
    parser.add_argument("--source", default="", help="address to connect from")
    parser.add_argument("--cpu", type=int, required=True)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.cpu})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    holder = Holder(options.url, options.source, options.beat)
    seconds = holder.connect(options.clients)
    print(json.dumps({"connected": len(holder.beats), "lost": holder.lost, "seconds": seconds}), flush=True)
    hold_until_told(holder)
    for fd in holder.beats:
        holder.beats[fd] = 0
    end = time.monotonic() + options.rounds * options.beat
    while (left := end - time.monotonic()) > 0:
        holder.pump(left)
    # The server promises one in each interval, and sends it a tenth earlier: as many as rounds, or more.
    missed = sum(max(0, options.rounds - beats) for beats in holder.beats.values())
    answered = sum(holder.beats.values())
    print(json.dumps({"answered": answered, "missed": missed, "lost": holder.lost}), flush=True)
    hold_until_told(holder)


if __name__ == "__main__":
    main()
