"""One connection's bytes: writes with a deadline, counters, and the moment of the last byte.

Rule 1: one write at a time, under the lock, whoever writes (our writer, the library's pongs).
Rule 2: a write that was cut off midway leaves the stream torn; nothing is ever written after it.
Rule 3: between `send_now` and the rest of what it was given nobody else writes.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable

import trio

from trio_stomp.metrics import Metrics
from trio_stomp.transport.readiness import Readable, Readiness

RECEIVE_BYTES = 65536
"""Bytes asked for in one read: 16 times trio-websocket's default, a sixteenth of the task switches."""
_CHUNK_BYTES = 16384
"""Progress is judged by pieces of this size where the stream cannot tell (TLS: one record)."""
_LINGER_BYTES = 1 << 20
"""What a gentle close reads and drops at most, so that our last words are not lost to a reset."""


class WireStream(trio.abc.Stream):
    """A trio stream with the peer's time limits built in.

    A bare socket is read and written by its descriptor, at once where that goes and waiting where
    not: it saves the four coroutines that trio's own `receive_some` keeps per waiting connection.

    Args:
        stream: a SocketStream, SSLStream or memory stream.
        write_timeout: seconds that a write may go without progress.
        readiness: tells of a bare socket when there is something to read; None: trio does.

    Attributes:
        last_read, last_written: `trio.current_time` of the last byte, in seconds.
        bytes_read: how many have come.
    """

    __slots__ = (
        "_is_drained",
        "_is_midway",
        "_is_torn",
        "_lock",
        "_metrics",
        "_raw",
        "_readable",
        "_socket",
        "_stream",
        "_waits_since",
        "_write_timeout",
        "bytes_read",
        "last_read",
        "last_written",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        write_timeout: float,
        metrics: Metrics,
        readiness: Readiness | None = None,
    ) -> None:
        self._stream = stream
        self._raw = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream  # below TLS
        self._socket = stream.socket if type(stream) is trio.SocketStream else None
        self._readable: Readable | None = None
        if readiness is not None and self._socket is not None:
            self._readable = readiness.watch(self._socket.fileno())
        # Made for the first write that has to wait. No lock: who begins a write may not be who ends it.
        self._lock: trio.Semaphore | None = None
        self._write_timeout = write_timeout
        self._metrics = metrics
        self._is_midway = False
        self._is_torn = False
        self._is_drained = False
        self._waits_since = math.inf
        self.last_read = self.last_written = trio.current_time()
        self.bytes_read = 0

    @property
    def is_torn(self) -> bool:
        """Whether a write was cut off midway, so that no later byte can be understood."""
        return self._is_torn

    def silence(self, now: float) -> float:
        """Seconds for which we have been reading and nothing came; 0.0 while we do not read.

        Time in which we did not look is not the peer's fault (DESIGN section 4).
        """
        return max(0.0, now - max(self.last_read, self._waits_since))

    async def receive_some(self, max_bytes: int | None = RECEIVE_BYTES) -> bytes:
        """As `trio.abc.ReceiveStream.receive_some`; ``b""`` at the end."""
        self._waits_since = trio.current_time()
        try:
            if self._socket is None:
                data = bytes(await self._stream.receive_some(max_bytes))
                self._came(len(data))
                return data
            size = max_bytes or RECEIVE_BYTES
            found = None if self._is_drained else self._receive_now(self._socket, size)
            if found is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()  # others have their turn
            while found is None:
                await self._wait_readable(self._socket)
                found = self._receive_now(self._socket, size)
            return found
        finally:
            self._waits_since = math.inf

    async def pump(self, take: Callable[[bytes], bool], max_bytes: int | None = RECEIVE_BYTES) -> bool:
        """Read, and give what comes to ``take`` until that returns False; False at the end of the stream.

        Of a bare socket this task does not wake for what ``take`` wants more of (see `Readiness`). What
        ``take`` raises comes out here. Raises and is cancelled as `receive_some`.
        """
        ended_by: bool | Exception | None = None

        def see_to() -> bool:
            nonlocal ended_by
            assert self._socket is not None
            try:
                data = self._receive_now(self._socket, max_bytes or RECEIVE_BYTES)
                if data is None:
                    return True
                if not data or not take(data):
                    ended_by = bool(data)
                    return False
            except Exception as error:  # it is not the looking task's
                ended_by = error
                return False
            return self._is_drained

        while True:
            data: bytes | None = None
            readable = self._readable
            if readable is not None and self._is_drained:
                self._waits_since = trio.current_time()
                try:
                    await readable.wait(see_to)
                finally:
                    self._waits_since = math.inf
                if isinstance(ended_by, Exception):
                    raise ended_by
                if ended_by is not None:
                    return ended_by
                assert self._socket is not None
                data = self._receive_now(self._socket, max_bytes or RECEIVE_BYTES)
                if data is None and not readable.is_last:
                    continue  # the edge of what had been read already
            if data is None:
                data = await self.receive_some(max_bytes)
            if not data or not take(data):
                return bool(data)

    def send_now(self, data: bytes) -> int:
        """Write what goes without waiting; how many bytes that was, 0 when somebody else is writing.

        After a part of it the rest has to go by `send_rest`, or `leave_rest` be called. It never raises: of a
        peer that is gone the next write will tell. Of TLS it writes nothing.
        """
        lock = self._lock
        if self._socket is None or self._is_torn or (lock is not None and not lock.value):
            return 0
        try:
            sent = self._write_some(data)
        except trio.BrokenResourceError:
            return 0
        if sent:
            self._wrote(sent)
        if 0 < sent < len(data):
            if lock is None:
                lock = self._lock = trio.Semaphore(1, max_value=1)
            lock.acquire_nowait()
            self._is_midway = True
        return sent

    async def send_rest(self, data: bytes) -> None:
        """As `send_all`: what `send_now` did not take, or if there is no such thing any data."""
        if not self._is_midway:
            await self.send_all(data)
            return
        assert self._lock is not None
        self._is_midway = False
        await self._send_locked(self._lock, data, 0)

    def leave_rest(self) -> None:
        """Nobody will write what `send_now` did not take: that tears the stream."""
        if self._is_midway:
            assert self._lock is not None
            self._is_midway, self._is_torn = False, True
            self._lock.release()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write everything, at once where the kernel takes it (then without yielding).

        Raises:
            trio.BrokenResourceError: the peer is gone, or took nothing for the write timeout,
                or an earlier write was cut off. The stream is closed then.

        Cancelling while something has been written and something not tears the stream.
        """
        if self._is_torn:
            await self.abort()
            raise trio.BrokenResourceError("an earlier write was cut off midway")
        # Our own lock's freedom is the freedom of the stream: nobody else has it. No await
        # between this look and the write.
        lock, sent = self._lock, 0
        if self._socket is not None and (lock is None or lock.value):
            sent = self._write_some(data)
            if sent == len(data):
                self._wrote(sent)
                return
        if lock is None:
            lock = self._lock = trio.Semaphore(1, max_value=1)
        if sent or lock.value:
            lock.acquire_nowait()
        else:
            await lock.acquire()
        await self._send_locked(lock, data, sent)

    async def _send_locked(
        self, lock: trio.Semaphore, data: bytes | bytearray | memoryview, sent: int
    ) -> None:
        """Write what is left after ``sent`` bytes, and give back the lock."""
        is_complete = False
        try:
            if self._is_torn:
                raise trio.BrokenResourceError("an earlier write was cut off midway")
            with memoryview(data) as view:
                await (self._send_chunks(view) if self._socket is None else self._send_rest(view, sent))
            is_complete = True
            self._wrote(len(data))
        finally:
            lock.release()
            if not is_complete:
                self._is_torn = True
                with trio.CancelScope(shield=True):
                    await self.abort()

    async def wait_send_all_might_not_block(self) -> None:
        """As trio's."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close at once; what the kernel has taken is still sent."""
        self._stop_watching()
        await self._stream.aclose()

    async def aclose_gently(self, timeout: float) -> None:
        """Say that we are done, read and drop what still comes, then close.

        A socket closed with unread bytes in it sends a reset, which destroys what we wrote
        last before the peer has read it (RFC 9112, section 9.6). Takes ``timeout`` seconds at
        the most; cancelling closes at once.
        """
        raw = self._raw
        try:
            with trio.move_on_after(timeout):
                await self._wait_for_writers()
                if isinstance(self._stream, trio.SSLStream):
                    await _say_closing(self._stream)
                if isinstance(raw, trio.SocketStream):
                    raw.socket.shutdown(trio.socket.SHUT_WR)  # send_eof() refuses while TLS itself writes
                    is_read = self._waits_since != math.inf  # by a task that will see the end itself
                    dropped = 0
                    while not is_read and dropped < _LINGER_BYTES:
                        data = await raw.receive_some(RECEIVE_BYTES)
                        if not data:
                            break
                        dropped += len(data)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it is gone already, which is what we wanted
        finally:
            self._stop_watching()
            await trio.aclose_forcefully(raw)
            await trio.aclose_forcefully(self._stream)

    async def abort(self) -> None:
        """Close without waiting for anything; every reader and writer wakes with an error."""
        self._stop_watching()
        await trio.aclose_forcefully(self._stream)

    async def _wait_for_writers(self) -> None:
        if self._lock is not None:
            async with self._lock:
                pass

    def _wrote(self, count: int) -> None:
        self._metrics.bytes_out += count
        self.last_written = trio.current_time()

    def _stop_watching(self) -> None:
        readable, self._readable = self._readable, None
        if readable is not None:
            readable.close()

    async def _wait_readable(self, socket: trio.socket.SocketType) -> None:
        if self._readable is not None and not self._readable.is_last:
            await self._readable.wait()
        elif socket.fileno() < 0:
            raise trio.ClosedResourceError("this stream was closed")
        else:
            await trio.lowlevel.wait_readable(socket)

    def _receive_now(self, socket: trio.socket.SocketType, max_bytes: int) -> bytes | None:
        """What the kernel has; None when it has nothing yet."""
        try:
            data = os.read(socket.fileno(), max_bytes)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            if socket.fileno() < 0:
                raise trio.ClosedResourceError("this stream was closed") from error
            raise trio.BrokenResourceError("the peer is gone") from error
        size = len(data)
        self._is_drained = size < max_bytes  # asking once more would be a call in vain
        self._came(size)
        return data

    def _came(self, count: int) -> None:
        self.last_read = trio.current_time()
        self.bytes_read += count
        self._metrics.bytes_in += count

    def _write_some(self, data: bytes | bytearray | memoryview) -> int:
        """What the kernel takes without waiting: bytes, 0 when nothing."""
        assert self._socket is not None
        try:
            return os.write(self._socket.fileno(), data)  # trio's sockets do not block
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise trio.BrokenResourceError("the peer is gone") from error

    async def _send_rest(self, view: memoryview, sent: int) -> None:
        assert self._socket is not None
        while sent < len(view):
            with trio.move_on_after(self._write_timeout) as waiting:
                await trio.lowlevel.wait_writable(self._socket)
            if waiting.cancelled_caught:
                self._timed_out()
            sent += self._write_some(view[sent:])

    async def _send_chunks(self, view: memoryview) -> None:
        for start in range(0, len(view), _CHUNK_BYTES):
            with trio.move_on_after(self._write_timeout) as waiting:
                await self._stream.send_all(view[start : start + _CHUNK_BYTES])
            if waiting.cancelled_caught:
                self._timed_out()

    def _timed_out(self) -> None:
        self._metrics.write_timeouts += 1
        self._metrics.limit("outbox.write_timeout")
        raise trio.BrokenResourceError(f"the peer took nothing for {self._write_timeout:g} seconds")


async def _say_closing(stream: trio.SSLStream[trio.abc.Stream]) -> None:
    """Send TLS's close_notify, without which the end might be anybody's doing, and wait for the peer's.

    A peer that still sends, or one whose bytes another task is reading, goes without.
    """
    with contextlib.suppress(trio.BrokenResourceError, trio.BusyResourceError):
        await stream.unwrap()
