"""The stream that trio-websocket reads and writes: the wire, less what the session takes itself.

Rule 1: what is cut out of a read goes to the session's inbox before the library gets its share.
Rule 2: a full inbox stops the reading, but for a little, slowly, in search of pings.
Rule 3: the peer's Close is given out when all before it has been seen through, under a deadline;
so long waits, too, what is done about an illegal frame.
Rule 4: it does not close without a Close frame having gone out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio
from wsproto.frame_protocol import FrameProtocol

from trio_stomp.channels.inbox import Inbox
from trio_stomp.config import WebSocketConfig
from trio_stomp.transport.cutter import FrameCutter, Item
from trio_stomp.transport.flag import Flag
from trio_stomp.transport.stream import WireStream

VIOLATION_CODES: Final = frozenset({1002, 1007})
"""What the library has closed with when it found something illegal."""
_OPCODE_CLOSE = 0x88
_ITEM_BYTES = 48
"""What a message costs besides its bytes (33 of the object, 8 in the list): empty ones are not free."""
_PATIENCE_SECONDS = 0.1
"""How long a full list stops our reading before we look for pings behind it; clients give up after 20 s."""
_PIECE_BYTES = 4096
"""What is read then: 40 KiB a second, so that a flood of pings does not cost more than it is worth."""


class LibraryStream(trio.abc.Stream):
    """What trio-websocket takes for its connection, from behind the 101.

    Attributes:
        closed: set once the connection is closed or lost, or the library has given it up.
        closed_with: tells with which code the library has closed, None while it has not.
        on_end: called once when nothing more comes in.
        waiting: the session's wait for the library's next message, while it waits.
    """

    __slots__ = (
        "_close_received",
        "_close_sent",
        "_config",
        "_cutter",
        "_fed_at",
        "_inbox",
        "_released",
        "_rest",
        "_wire",
        "closed",
        "closed_with",
        "on_end",
        "waiting",
    )

    def __init__(
        self,
        wire: WireStream,
        cutter: FrameCutter,
        inbox: Inbox[Item],
        rest: bytes,
        config: WebSocketConfig,
    ) -> None:
        self._wire = wire
        self._cutter = cutter
        self._inbox = inbox
        self._rest = rest
        self._config = config
        self._fed_at = wire.last_read
        self._released = Flag()
        self._close_sent = False
        self._close_received = False
        self.closed = Flag()
        self.closed_with: Callable[[], int | None] = _not_closed
        self.on_end: Callable[[], None] | None = None
        self.waiting: trio.CancelScope | None = None

    def release(self) -> None:
        """Everything before the peer's Close has been seen through: the library may have it."""
        self._released.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The library's share of the stream; everything else goes to the session's inbox."""
        cutter, inbox = self._cutter, self._inbox
        try:
            while True:
                if cutter.passed:
                    data = bytes(cutter.passed)
                    cutter.passed.clear()
                    return data
                if cutter.close:
                    await self._see_through()
                    close, cutter.close = cutter.close, b""
                    self._close_received = True
                    return close
                if cutter.is_lost:
                    await self._close_after(1002)
                    return b""
                size = await self._wait_for_room(max_bytes) if inbox.is_full else max_bytes
                if cutter.is_refused:  # all but a Close will be dropped: not for as long as a handler runs
                    await self._released.wait()
                if self._rest:
                    rest, self._rest = self._rest, b""
                    self._take(rest)
                elif not await self._wire.pump(self._take, size):
                    self._note_end()
                    inbox.close()
                    self.closed.set()
                    return b""
        except BaseException:
            self._note_end()
            inbox.close()
            self.closed.set()
            raise

    def _take(self, data: bytes) -> bool:
        """See to one read; whether more may follow before `receive_some` looks again."""
        cutter = self._cutter
        now = self._wire.last_read
        cutter.refill(now - self._fed_at)
        self._fed_at = now
        cutter.feed(data)
        self._hand_over()
        is_plain = not (cutter.passed or cutter.close or cutter.is_refused or cutter.is_lost)
        return is_plain and not self._inbox.is_full

    async def _see_through(self) -> None:
        """Nothing more comes in: wait until what came before has been seen through, under a deadline."""
        self._note_end()
        with trio.move_on_after(self._config.close_timeout):
            await self._released.wait()

    async def _wait_for_room(self, max_bytes: int | None) -> int | None:
        """Wait while the session's list is full, and return how much to read then.

        A client whose handler takes long goes on asking by pings whether we are alive, so they are
        looked for in small pieces. The data between them is kept as well, up to as much again.
        """
        inbox = self._inbox
        with trio.move_on_after(_PATIENCE_SECONDS):
            await inbox.room()
            return max_bytes
        if inbox.weight >= 2 * self._config.receive_ahead:
            await inbox.room()
            return max_bytes
        return _PIECE_BYTES

    def _hand_over(self) -> None:
        """Put what was cut and marked into the session's inbox, by its weight in memory."""
        cutter, inbox = self._cutter, self._inbox
        if inbox.is_closed:
            cutter.items = []  # nobody will look at them
            if not cutter.is_within:
                cutter.stop()  # nor at what would fill the library's queue
        elif cutter.items:
            inbox.extend(cutter.items, cutter.size + _ITEM_BYTES * len(cutter.items))
            cutter.items = []
            if cutter.is_broken:
                self.check_waiting()
        elif len(inbox):
            # More of a passing message whose marker waits there. (Once the marker was taken the
            # message is bounded by its own limit, and the session may be waiting for just that.)
            inbox.weight += cutter.size
        cutter.size = 0

    def check_waiting(self) -> None:
        """Wake the session if it waits in vain for the library's next message.

        Either there was a violation or a Close within that message, which is the one mark left, or
        the session is to end and the rest of the message has not come.
        """
        cutter = self._cutter
        if self.waiting is not None and (
            (cutter.is_broken and cutter.marks == 1)
            or (self._inbox.is_closed and cutter.is_within and not cutter.marks)
        ):
            self.waiting.cancel()

    def _note_end(self) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """The library's writes: pongs, Close frames."""
        if self._close_sent:
            return  # nothing follows our Close
        if data and data[0] == _OPCODE_CLOSE:
            self._close_sent = True
        try:
            await self._wire.send_all(data)
        except trio.BrokenResourceError:
            self.closed.set()  # the library gives up then, without closing
            raise

    async def say_goodbye(self, code: int, reason: str = "") -> None:
        """Send a Close frame if none has gone out; never fails, and sends none into a lost or torn stream.

        It goes behind the library's back, which would die of a ping that it still has to answer
        once it has closed itself; and of the peer's Close it makes an end all the same.
        """
        if self._close_sent or self._wire.is_torn:
            return
        self._close_sent = True
        try:
            await self._wire.send_all(FrameProtocol(client=False, extensions=[]).close(code, reason or None))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.closed.set()  # lost: nobody to say it to

    async def wait_send_all_might_not_block(self) -> None:
        """As trio's."""
        await self._wire.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close; after bad UTF-8 or a bad Close frame, for which the library sends no Close, with one.

        Bad UTF-8 came within a message: there the session learns of it, and closes itself.
        """
        code = self.closed_with()
        await self._close_after(code if code in VIOLATION_CODES else None)

    async def _close_after(self, code: int | None) -> None:
        """Close; with a ``code``, for what was illegal, once a Close frame has gone out."""
        try:
            if code is not None:
                if not self._close_received:
                    await self._see_through()
                await self.say_goodbye(code)
            self._inbox.close()
            if self._close_received:
                # "After both sending and receiving a Close message … the server MUST close the underlying TCP
                # connection immediately" (RFC 6455, section 7.1.1): nothing comes behind a peer's Close.
                await self._wire.abort()
            else:
                await self._wire.aclose_gently(self._config.close_timeout)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # lost: nothing to say goodbye to
        finally:
            self.closed.set()


def _not_closed() -> None:
    """Before there is anything to close."""
