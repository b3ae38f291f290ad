"""One connection of the soak test: STOMP over a bare socket, so that it can be stalled, torn and reset.

Rule 1: whoever opens a connection closes it, in one of the ways that peers do.
Rule 2: what a connection is not told to expect ends it: `failure` says why.
"""

from __future__ import annotations

import base64
import enum
import os
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import trio

from trio_stomp.stomp.client import ClientProtocol
from trio_stomp.stomp.frames import HEART_BEAT, Frame, Limits
from trio_stomp.stomp.protocol import HeartBeat
from trio_stomp.stress.tap import masked_frame

TIMEOUT = 20.0
"""Seconds for whatever a healthy server does at once."""

_LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Lost(ConnectionError):
    """The connection has ended, and not because we wanted it to."""


class Farewell(enum.Enum):
    """How a client goes away."""

    DISCONNECT = "DISCONNECT and its receipt"
    CLOSE = "a Close frame"
    FIN = "the socket closed"
    RESET = "the connection reset"
    TORN = "the connection reset in the middle of a frame"


class Connection:
    """A STOMP session; what comes of it goes to `take`.

    Args:
        take: is given each MESSAGE.
        window: bytes of the socket's receive buffer; None leaves it to the system. For clients that stall.

    Attributes:
        failure: why it has ended; None while it lives, and after a farewell of ours.
        code: of the server's Close frame, if one came.
        has_left: whether `leave` was called.
    """

    def __init__(self, url: str, take: Callable[[Frame], None], *, window: int | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._resource = parts.path
        self._take = take
        self._window = window
        self._protocol = ClientProtocol(limits=Limits(), heart_beat=HeartBeat(5.0, 5.0))
        self._stream: trio.SocketStream | None = None
        self._lock = trio.Lock()
        self._rest = b""
        self._receipts: dict[str, trio.Event] = {}
        self._ids = 0
        self._welcome = trio.Event()
        self._reads = trio.Event()
        self._reads.set()
        self._done = trio.Event()
        self.has_left = False
        self.failure: str | None = None
        self.code: int | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, then read until the end; `nursery.start` returns once it is connected.

        Raises:
            Lost: there was no CONNECTED; later losses are told by `failure`.
        """
        try:
            with trio.fail_after(TIMEOUT):
                await self._open()
        except (*_LOST, trio.TooSlowError) as error:
            raise Lost(f"no connection: {error!r}") from error
        stream = self._stream
        assert stream is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, stream, nursery.cancel_scope)
                with trio.move_on_after(TIMEOUT):
                    await self._welcome.wait()
                if self._welcome.is_set() and self.failure is None:
                    task_status.started()
                    nursery.start_soon(self._beat)
                else:
                    nursery.cancel_scope.cancel()
        finally:
            self._done.set()
            await trio.aclose_forcefully(stream)
        if self._protocol.session is None:
            raise Lost(f"no CONNECTED: {self.failure}")

    # What we send.

    async def send(
        self,
        destination: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        receipt: bool = False,
    ) -> None:
        """SEND; with ``receipt`` it returns when that has come."""
        await self._request(
            lambda more: self._protocol.send(destination, body, {**(headers or {}), **more}), receipt
        )

    async def subscribe(self, destination: str, headers: Mapping[str, str] | None = None) -> str:
        """SUBSCRIBE; its id, once the receipt has come (for a handler's destination it does not say more)."""
        self._ids += 1
        id = f"s{self._ids}"
        await self._request(
            lambda more: self._protocol.subscribe(id, destination, headers={**(headers or {}), **more}), True
        )
        return id

    async def unsubscribe(self, id: str) -> None:
        """UNSUBSCRIBE, and its receipt."""
        await self._request(lambda more: self._protocol.unsubscribe(id, headers=more), True)

    async def settle(self, message: Frame, *, is_nack: bool = False) -> None:
        """ACK or NACK of a message."""
        if self.failure is not None:
            raise Lost(self.failure)
        await self._write((self._protocol.nack if is_nack else self._protocol.ack)(message))

    async def transaction(self, sends: list[tuple[str, bytes]], *, commits: bool) -> None:
        """BEGIN, the sends, and COMMIT or ABORT with its receipt."""
        if self.failure is not None:
            raise Lost(self.failure)
        self._ids += 1
        name = f"t{self._ids}"
        frames = [self._protocol.begin(name)]
        frames += [self._protocol.send(where, body, {"transaction": name}) for where, body in sends]
        await self._write(*frames)
        end = self._protocol.commit if commits else self._protocol.abort
        await self._request(lambda more: end(name, headers=more), True)

    # What a bad client does.

    def stall(self) -> None:
        """Read nothing more."""
        self._reads = trio.Event()

    def resume(self) -> None:
        """Read on."""
        self._reads.set()

    async def leave(self, how: Farewell) -> None:
        """Go away; `run` ends."""
        self.has_left = True
        self.resume()
        stream = self._stream
        assert stream is not None
        with suppress(Lost), trio.move_on_after(TIMEOUT):
            if self.failure is not None:
                pass  # it is over already
            elif how is Farewell.DISCONNECT:
                receipt, event = self._receipt()
                await self._write(self._protocol.disconnect(receipt))
                await event.wait()
            elif how is Farewell.CLOSE:
                await self._raw(b"\x88\x82" + bytes(4) + (1000).to_bytes(2, "big"))
                await self._done.wait()
            elif how is Farewell.TORN:
                await self._raw(
                    masked_frame(b"SEND\ndestination:/topic/x\n\n" + bytes(500), is_text=True)[:100]
                )
        if how in (Farewell.RESET, Farewell.TORN):
            with suppress(OSError):  # the server may have closed it already
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)

    # Inside.

    async def _open(self) -> None:
        sock = trio.socket.socket()
        try:
            if self._window is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window)
            await sock.connect(self._address)
        except BaseException:
            sock.close()
            raise
        self._stream = trio.SocketStream(sock)
        head = (
            f"GET {self._resource} HTTP/1.1\r\nHost: {self._address[0]}:{self._address[1]}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            "Sec-WebSocket-Protocol: v12.stomp\r\n\r\n"
        )
        await self._raw(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            chunk = await self._stream.receive_some()
            if not chunk:
                raise Lost(f"closed in the handshake, after {answer[:100]!r}")
            answer += chunk
        if not answer.startswith(b"HTTP/1.1 101 "):
            raise Lost(f"refused: {answer[:100]!r}")
        self._rest = answer.partition(b"\r\n\r\n")[2]
        await self._write(self._protocol.connect(host=self._address[0]))

    def _receipt(self) -> tuple[str, trio.Event]:
        self._ids += 1
        receipt = f"r{self._ids}"
        event = self._receipts[receipt] = trio.Event()
        return receipt, event

    async def _request(self, frame: Callable[[Mapping[str, str]], bytes], receipt: bool) -> None:
        if self.failure is not None:
            raise Lost(self.failure)
        if not receipt:
            await self._write(frame({}))
            return
        name, event = self._receipt()
        await self._write(frame({"receipt": name}))
        with trio.move_on_after(TIMEOUT) as scope:
            await event.wait()
        if scope.cancelled_caught:
            self.failure = self.failure or f"no receipt within {TIMEOUT:g} s"
        if self.failure is not None:
            raise Lost(self.failure)

    async def _write(self, *frames: bytes) -> None:
        if self.failure is not None:
            raise Lost(self.failure)
        await self._raw(b"".join(masked_frame(frame, is_text=True) for frame in frames))

    async def _raw(self, data: bytes) -> None:
        assert self._stream is not None
        try:
            async with self._lock:
                await self._stream.send_all(data)
        except _LOST as error:
            self._end(f"connection lost: {error!r}")
            raise Lost(str(error)) from error

    async def _beat(self) -> None:
        every = self._protocol.heart_beat.send
        while every and self.failure is None and not self.has_left:
            await trio.sleep(every * 0.8)
            with suppress(Lost):
                await self._write(HEART_BEAT)

    async def _read(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            while await self._messages():
                await self._reads.wait()
                chunk = await stream.receive_some(65536)
                if not chunk:
                    self._end("closed without a Close frame")
                    break
                self._rest += chunk
        except _LOST as error:
            self._end(f"connection lost: {error!r}")
        except Exception as error:  # what the server said made no sense
            self._end(repr(error))
        scope.cancel()

    async def _messages(self) -> bool:
        """See the whole WebSocket messages in what was read; whether the connection goes on."""
        data, at = self._rest, 0
        while len(data) - at >= 2:
            opcode, size, start = data[at] & 15, data[at + 1], at + 2
            if size > 125:
                start += 2 if size == 126 else 8
                size = int.from_bytes(data[at + 2 : start], "big")
            stop = start + size
            if stop > len(data):
                break
            if opcode == 8:
                self.code = int.from_bytes(data[start : start + 2], "big")
                self._end(f"closed with {self.code}: {data[start + 2 : stop].decode(errors='replace')}")
                with suppress(Lost):
                    await self._raw(b"\x88\x82" + bytes(4) + data[start : start + 2])
                return False
            if opcode == 9:
                await self._raw(b"\x8a" + bytes([0x80 | (stop - start)]) + bytes(4) + data[start:stop])
            else:
                self._protocol.receive_data(data[start:stop])
                while (frame := self._protocol.next_frame()) is not None:
                    self._see(frame)
            at = stop
        self._rest = data[at:]
        return True

    def _see(self, frame: Frame) -> None:
        if frame.command == "MESSAGE":
            self._take(frame)
        elif frame.command == "RECEIPT":
            event = self._receipts.pop(frame.headers["receipt-id"], None)
            if event is None:
                self._end(f"a receipt that nobody asked for: {frame.headers}")
            else:
                event.set()
        elif frame.command == "CONNECTED":
            self._welcome.set()
        else:
            self._end(f"ERROR: {frame.headers.get('message')}")

    def _end(self, why: str) -> None:
        if self.failure is None and not self.has_left:
            self.failure = why
        self._welcome.set()
        for event in self._receipts.values():
            event.set()
