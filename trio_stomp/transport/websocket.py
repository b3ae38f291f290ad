"""trio-websocket, hardened: the only module that imports it.

Rule 1: the library's part begins with the first frame that is not plain data, if there ever is one; the
handshake, which the front door has judged, is answered by us.
Rule 2: its one stream is ours (`library_stream`): data frames are cut out of what it reads, what
we send is framed beforehand and written to the stream below it.
Rule 3: every close has a deadline, after which the connection is aborted.

The table of DESIGN section 6 says what each of these is for.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import ClassVar, TypeVar, cast

import h11
import trio
import trio_websocket
import wsproto
import wsproto.utilities
from wsproto.connection import Connection, ConnectionType
from wsproto.frame_protocol import FrameProtocol

from trio_stomp.channels.inbox import Inbox
from trio_stomp.config import WebSocketConfig
from trio_stomp.errors import ConnectionLost, HandshakeRefused, RemoteProtocolError
from trio_stomp.metrics import Metrics
from trio_stomp.transport.cutter import FrameCutter, Item, Passed, Violation
from trio_stomp.transport.flag import Flag
from trio_stomp.transport.library_stream import VIOLATION_CODES, LibraryStream
from trio_stomp.transport.stream import RECEIVE_BYTES, WireStream

_E = TypeVar("_E", bound=BaseException)
_CLOSE_START = b"\x88"
"""How a Close frame begins; an HTTP request begins otherwise."""
_FAREWELL_SECONDS = 1.0
"""What the sending of our Close may take at the very end; a socket that has room takes it at once."""


def frame_head(length: int, is_text: bool) -> bytes:
    """The WebSocket header of an unmasked, final data frame (RFC 6455, section 5.2).

    The same bytes for every client: a message is framed once, however many get it.
    """
    first = b"\x81" if is_text else b"\x82"
    if length < 126:
        return first + length.to_bytes(1, "big")
    if length < 1 << 16:
        return first + b"\x7e" + length.to_bytes(2, "big")
    return first + b"\x7f" + length.to_bytes(8, "big")


class WebSocketTransport:
    """The server's end of one WebSocket connection, as the session sees it.

    One task receives, one sends. `receive` gives lists of messages, `send` takes frames that
    `frame_head` has opened.
    """

    __slots__ = (
        "_below",
        "_config",
        "_cutter",
        "_has_read",
        "_inbox",
        "_items",
        "_peer_closed",
        "_websocket",
        "_wire",
    )

    has_close_codes: ClassVar[bool] = True
    frame_head = staticmethod(frame_head)

    def __init__(self, wire: WireStream, rest: bytes, config: WebSocketConfig) -> None:
        self._wire = wire
        self._config = config
        self._inbox: Inbox[Item] = Inbox(config.receive_ahead)
        self._cutter = FrameCutter(
            is_cutting=config.fast_path,
            message_bytes=config.message,
            fragments=config.fragments,
            control_frames=config.control_frames,
        )
        self._below = LibraryStream(wire, self._cutter, self._inbox, rest, config)
        self._items: list[Item] = []
        self._peer_closed = False
        self._websocket: trio_websocket.WebSocketConnection | None = None
        self._has_read = Flag()

    @property
    def wire(self) -> WireStream:
        """The stream below: time of the last byte, torn or not."""
        return self._wire

    @property
    def begun(self) -> int:
        """The number of the message that has begun and not come to its end; 0 for none."""
        return self._cutter.begun if self._cutter.is_within else 0

    def at_end(self, call: Callable[[], None]) -> None:
        """Have ``call`` called once when nothing more comes in: the peer closed, or is lost."""
        self._below.on_end = call

    def limit_messages(self, message_bytes: int) -> None:
        """Set how long a message may be that comes in pieces, in bytes."""
        self._cutter.message_bytes = message_bytes

    async def receive(self) -> list[bytes]:
        """The messages that have come, at least one; an empty list at the end.

        The end is the peer's Close, the loss of the connection or `stop_receiving`.

        Raises:
            RemoteProtocolError: what came is illegal (1002, 1007), or broke a limit of this layer.
        """
        items = self._items or await self._inbox.take()
        self._items = []
        if not self._cutter.marks:
            return items  # type: ignore[return-value]  # no marks: all are bytes
        whole = list(itertools.takewhile(lambda item: isinstance(item, bytes), items))
        if whole or not items:
            self._items = items[len(whole) :]
            return whole  # type: ignore[return-value]  # all are bytes
        item, *self._items = items
        self._cutter.marks -= 1
        if isinstance(item, Violation):
            raise RemoteProtocolError(item.reason, close_code=item.close_code, limit=item.limit)
        if item is Passed.CLOSE:
            self._peer_closed = True
            return []
        return await self._receive_passed()

    async def _receive_passed(self) -> list[bytes]:
        """The message at whose marker we are, by the library; raises and returns as `receive`."""
        message: str | bytes | None = None
        with trio.CancelScope() as waiting:
            self._below.waiting = waiting
            self._below.check_waiting()
            try:
                await self._has_read.wait()
                if self._websocket is None:
                    return []  # lost
                message = await self._websocket.get_message()
            except trio_websocket.ConnectionClosed as error:
                if error.reason is None or error.reason.code not in VIOLATION_CODES:
                    return []
                raise RemoteProtocolError(
                    f"a WebSocket message: {error.reason.reason}", close_code=error.reason.code
                ) from None
            finally:
                self._below.waiting = None
        if message is None:
            return await self.receive()  # the violation, or the end
        return [message.encode() if isinstance(message, str) else message]

    def stop_receiving(self) -> None:
        """Let `receive` come to its end after what has been read so far."""
        self._inbox.close()
        self._below.check_waiting()

    @property
    def send_now(self) -> Callable[[bytes], int]:
        """Writes what goes without waiting (see `WireStream.send_now`)."""
        return self._wire.send_now

    async def send(self, data: bytes) -> None:
        """Write frames made with `frame_head`; for the one writer.

        Raises:
            trio.BrokenResourceError: the connection is lost (see `WireStream.send_all`).
        """
        await self._wire.send_rest(data)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Exchange Close frames and close; at the deadline, abort. Never fails.

        When the peer has closed first, its own code goes back to it (RFC 6455, section 5.5.1).
        It lasts ``close_timeout`` seconds at the most; cancelling leaves out the wait for the
        peer's Close, not the sending of ours.
        """
        self._inbox.close()
        self._cutter.stop()
        self._wire.leave_rest()
        self._below.release()
        try:
            with trio.move_on_after(self._config.close_timeout):
                if not self._wire.is_torn:
                    if not self._peer_closed:  # else the library answers with the peer's own code
                        await trio.lowlevel.checkpoint_if_cancelled()  # it would tear the write: see below
                        await self._below.say_goodbye(code, reason)
                    await self._below.closed.wait()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _FAREWELL_SECONDS):
                await self._below.say_goodbye(code, reason)
            with trio.CancelScope(shield=True):
                await self.abort()

    async def abort(self) -> None:
        """Close the connection without a word; whoever reads or writes it wakes up."""
        self._inbox.close()
        self._below.release()
        await self._wire.abort()

    async def read(self) -> None:
        """Read until the end, which is `abort` at the latest. For a task of its own.

        The library with all that it keeps, 7 KiB, is made for the first that it has to see: a ping, a
        fragment, what is long, a Close. Browsers send no pings.
        """
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            first = await self._below.receive_some(RECEIVE_BYTES)
            if first:
                self._websocket = self._begin(first)
        self._has_read.set()
        if self._websocket is not None:
            await self._websocket._reader_task()

    def _begin(self, first: bytes) -> trio_websocket.WebSocketConnection:
        """As the library's `wrap_server_stream`, which would read the request once more."""
        websocket = trio_websocket.WebSocketConnection(
            self._below,
            # All that it asks of a WSConnection, less the handshake, of which h11 is the most part.
            cast("wsproto.WSConnection", Connection(ConnectionType.SERVER, trailing_data=first)),
            message_queue_size=sys.maxsize,  # bounded by our inbox: a full queue would hold up pings
            max_message_size=sys.maxsize,  # counted in characters there; the cutter counts bytes
            receive_buffer_size=RECEIVE_BYTES,
        )
        self._below.closed_with = partial(_closed_with, weakref.ref(websocket))
        return websocket


def _closed_with(websocket: weakref.ref[trio_websocket.WebSocketConnection]) -> int | None:
    """The code with which the library has closed; None while it has not. It holds who asks."""
    found = websocket()
    return None if found is None or found.closed is None else found.closed.code


async def accept_websocket(
    nursery: trio.Nursery, *, wire: WireStream, answer: bytes, rest: bytes, config: WebSocketConfig
) -> WebSocketTransport:
    """Answer a checked upgrade with ``answer``, its 101, and give the connection.

    ``rest`` is what came after the request's head. It is read in a task of ``nursery`` until the transport is
    closed or aborted.

    Raises:
        trio.BrokenResourceError: the peer is gone, or did not take the answer (see `WireStream.send_all`).
    """
    await wire.send_all(answer)
    transport = WebSocketTransport(wire, rest, config)
    nursery.start_soon(transport.read)
    return transport


class ClientTransport:
    """The client's end of one WebSocket connection: whole messages in and out."""

    def __init__(
        self, websocket: trio_websocket.WebSocketConnection, wire: _ClientStream, config: WebSocketConfig
    ) -> None:
        self._websocket = websocket
        self._wire = wire
        self._config = config

    @property
    def wire(self) -> WireStream:
        """The stream below: time of the last byte read and written."""
        return self._wire

    @property
    def subprotocol(self) -> str | None:
        """What the server chose, or None."""
        return self._websocket.subprotocol

    async def receive(self) -> bytes:
        """One message.

        Raises:
            ConnectionLost: the connection has ended, with its close code and reason.
        """
        try:
            message = await self._websocket.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise _lost(error) from None
        return message.encode() if isinstance(message, str) else message

    def ending(self) -> ConnectionLost:
        """Why the connection is over."""
        return _lost(trio_websocket.ConnectionClosed(self._websocket.closed))

    async def send(self, data: bytes) -> None:
        """Send one message: TEXT when it is UTF-8, else BINARY.

        Raises:
            ConnectionLost: the connection has ended.

        Cancelling while it waits breaks the connection.
        """
        try:
            message: str | bytes = data.decode()
        except UnicodeDecodeError:
            message = data
        try:
            await self._websocket.send_message(message)
        except trio_websocket.ConnectionClosed as error:
            raise _lost(error) from None

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Exchange Close frames and close; abort after ``close_timeout`` seconds. Never fails.

        What still comes before the server's Close is dropped.
        """
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._config.close_timeout):
            try:
                closed = self._websocket.closed
                if closed is None:
                    await self._wire.say_goodbye(code, reason)
                    while True:
                        await self._websocket.get_message()
                elif closed.code in VIOLATION_CODES:  # of which the library says nothing
                    await self._wire.say_goodbye(closed.code)
            except (trio_websocket.ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
                await self._wire.aclose()
            finally:
                await self._wire.abort()

    async def abandon(self, code: int, reason: str) -> None:
        """Send our Close if there is room for it within a second, and abort, unanswered. Never fails."""
        with (
            trio.CancelScope(shield=True, deadline=trio.current_time() + _FAREWELL_SECONDS),
            contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            await self._wire.say_goodbye(code, reason)
        with trio.CancelScope(shield=True):
            await self._wire.abort()


@contextlib.asynccontextmanager
async def connect_websocket(
    stream: trio.abc.Stream,
    *,
    host: str,
    resource: str,
    subprotocols: Sequence[str],
    headers: Sequence[tuple[str, str]],
    timeout: float,
    write_timeout: float,
    config: WebSocketConfig,
    metrics: Metrics,
) -> AsyncIterator[ClientTransport]:
    """Shake hands as a client over a connected stream, and give the connection.

    ``host`` is the Host header, ``resource`` path and query, ``timeout`` the seconds that the
    handshake may take. On leaving, the connection is aborted if it was not closed.

    Raises:
        HandshakeRefused: the server answered with another status than 101.
        ConnectionLost: it hung up, did not answer in time or answered something else; or the library
            gave up the connection later.
    """
    wire = _ClientStream(stream, write_timeout=write_timeout, metrics=metrics)
    failure: ConnectionLost | None = None
    transport: ClientTransport | None = None
    try:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(timeout) as shaking:
                nursery.start_soon(wire.cancel_at_end, shaking)
                websocket = await trio_websocket.wrap_client_stream(
                    nursery,
                    wire,  # type: ignore[arg-type]  # annotated too narrowly upstream: any Stream will do
                    host,
                    resource,
                    subprotocols=subprotocols,
                    extra_headers=[(name.encode(), value.encode()) for name, value in headers],
                    message_queue_size=1,
                    max_message_size=config.message,
                    receive_buffer_size=RECEIVE_BYTES,
                )
            if shaking.cancelled_caught:
                text = "hung up" if wire.has_ended else f"did not answer within {timeout:g} seconds"
                raise ConnectionLost(f"the server {text} during the WebSocket handshake", code=1006)
            transport = ClientTransport(websocket, wire, config)
            try:
                yield transport
            finally:
                with trio.CancelScope(shield=True):
                    await wire.abort()
                nursery.cancel_scope.cancel()
    except* trio_websocket.ConnectionRejected as group:
        failure = _refused(_first(group))
    except* (h11.LocalProtocolError, wsproto.utilities.LocalProtocolError) as group:
        # The library's reader dies when it has to answer what it cannot: an answer to the handshake that
        # is none, a ping behind a message over the limit.
        failure = _given_up(_first(group)) if transport is None else transport.ending()
    finally:
        with trio.CancelScope(shield=True):
            await wire.abort()  # a handshake that failed leaves it open
    if failure is not None:
        raise failure


class _ClientStream(WireStream):
    """Knows when the server has hung up: during the handshake the library waits on for ever.

    It also says goodbye, behind the library's back: that would die of a ping while it is closing.
    """

    has_ended = False
    _is_closing = False

    def __init__(self, stream: trio.abc.Stream, *, write_timeout: float, metrics: Metrics) -> None:
        super().__init__(stream, write_timeout=write_timeout, metrics=metrics)
        self._end = trio.Event()

    async def receive_some(self, max_bytes: int | None = RECEIVE_BYTES) -> bytes:
        try:
            data = await super().receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._note_end()
            raise
        if not data:
            self._note_end()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing:  # nothing follows our Close
            self._is_closing = bytes(data[:1]) == _CLOSE_START
            await super().send_all(data)

    async def say_goodbye(self, code: int, reason: str = "") -> None:
        """Send our Close; what the library sends after it, as pongs, is dropped."""
        if not self._is_closing:
            self._is_closing = True
            await super().send_all(FrameProtocol(client=True, extensions=[]).close(code, reason or None))

    async def cancel_at_end(self, scope: trio.CancelScope) -> None:
        """Cancel ``scope`` when the connection ends."""
        await self._end.wait()
        scope.cancel()

    def _note_end(self) -> None:
        self.has_ended = True
        self._end.set()


def _first(group: BaseExceptionGroup[_E]) -> _E:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return cast(_E, error)


def _given_up(error: Exception) -> ConnectionLost:
    """What the library could not take for an answer to the handshake; its own complaint is the context."""
    return ConnectionLost(f"the server's answer to the WebSocket handshake: {error.__context__ or error}")


def _refused(error: trio_websocket.ConnectionRejected) -> HandshakeRefused:
    body = (error.body or b"").decode("utf-8", "replace").strip()
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in error.headers}
    return HandshakeRefused(error.status_code, body, headers)


def _lost(error: trio_websocket.ConnectionClosed) -> ConnectionLost:
    reason = error.reason
    if reason is None:
        return ConnectionLost("connection lost", code=1006)
    return ConnectionLost(reason.reason or reason.name, code=reason.code)
