"""What one session still has to be sent, bounded in bytes and messages.

Rule 1: `offer` never waits; a refusal is the caller's to act on.  Rule 2: one writer takes.
Rule 3: what was offered counts against the limits until it has been written.

Offers gather in a list and `flush` hands the list to the writer through a memory channel of
one place: a task switch and a write for a batch, not for a frame.  While the writer is busy
with one batch the next keeps gathering, and the writer fetches it by itself.

While the writer has nothing to do, `flush` first tries the socket itself, which does not wait; the
writer gets what is left. That saves the task switch, of which an answer needs two otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from trio_stomp.config import OutboxConfig


class Outbox:
    """The response channel of one session (Spring's ``clientOutboundChannel``).

    Args:
        send_now: writes what goes without waiting, and gives the number of its bytes; it has to be gone on
            with by who takes. None: the writer writes everything.

    Attributes:
        pending: frames offered and not yet handed to the writer. The broker appends to it
            directly while that keeps within the limits: that is worth 80 ns of 300 per delivery.
        size: bytes offered and not yet written.
        is_dirty: whether the broker has noted this outbox for its next flush.
        on_room: called once, by who has written, when at most a quarter of ``max_bytes`` waits; set by who
            waits for that.
    """

    __slots__ = (
        "_handed",
        "_is_discarding",
        "_is_waited_for",
        "_oversize",
        "_receive",
        "_rest",
        "_send",
        "_send_now",
        "_taken",
        "close_code",
        "close_reason",
        "is_dirty",
        "is_finished",
        "max_bytes",
        "max_messages",
        "on_room",
        "pending",
        "size",
    )

    def __init__(self, config: OutboxConfig, send_now: Callable[[bytes], int] | None = None) -> None:
        self._send, self._receive = trio.open_memory_channel[list[bytes]](1)
        self._send_now = send_now
        self._is_waited_for = False
        self._rest = b""
        self._handed = False
        self._taken = 0
        self._oversize = 0
        self.max_bytes = config.bytes
        self.max_messages = config.messages
        self.pending: list[bytes] = []
        self.size = 0
        self.is_dirty = False
        self.is_finished = False
        self.on_room: Callable[[], None] | None = None
        self._is_discarding = False
        self.close_code = 1000
        self.close_reason = ""

    def offer(self, frame: bytes) -> bool:
        """Take one frame, or say no: the limits are reached.

        One frame that is larger than ``max_bytes`` passes when nothing else is queued, and until
        it is written there is room for ``max_bytes`` beside it: else the RECEIPT or the message that
        follows would make a slow client of every one. After `finish` or `discard` frames are taken
        and dropped: their session is at its end.
        """
        if self.is_finished:
            return True
        if len(self.pending) >= self.max_messages:
            return False
        size = self.size + len(frame)
        if size - self._oversize > self.max_bytes:
            if self.size:
                return False
            self._oversize = size
        self.size = size
        self.pending.append(frame)
        return True

    def flush(self) -> None:
        """Send what has gathered, or hand it to the writer; if that is still busy it comes for it itself."""
        self.is_dirty = False
        if self.pending and not self._handed and not self.is_finished:
            if self._is_waited_for and self._send_now is not None and not self._oversize:
                self._send_straight(self._send_now)
            else:
                self._hand_over()

    def finish(self, code: int, reason: str = "") -> None:
        """Nothing more is taken; the writer sends what is there and closes with ``code``.

        The first call counts.
        """
        if self.is_finished:
            return
        if self.pending and not self._handed:
            self._hand_over()
        self.is_finished = True
        self.close_code, self.close_reason = code, reason
        self._send.close()

    def discard(self, code: int = 1006, reason: str = "", *, last_words: bytes = b"") -> None:
        """Drop what is queued and whatever comes, and finish, with one more frame if given."""
        self.pending = [last_words] if last_words else []
        self.size = self._taken + len(self._rest) + len(last_words)
        self._is_discarding = True
        if not self.is_finished:
            self.is_finished = True
            self.close_code, self.close_reason = code, reason
            self._send.close()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is queued or being written."""
        return self.size == 0

    async def take(self) -> bytes:
        """All that is queued, as one piece to write; ``b""`` once finished and empty.

        The piece before counts as written from this call on. Yields only when it waits;
        cancelling loses nothing.
        """
        if self._taken > self.max_bytes:  # only one that holds the oversized frame is so large
            self._oversize = 0
        self._wrote(self._taken)
        self._taken = 0
        batch: list[bytes] = []
        if self._handed or not self.pending:
            self._is_waited_for = True
            try:
                batch = await self._receive.receive()
            except trio.EndOfChannel:
                batch = []
            finally:
                self._is_waited_for = False
            self._handed = False
        if self._rest:  # whatever else is dropped: its beginning has been sent
            batch, self._rest = [self._rest], b""
        elif self._is_discarding or not batch:
            batch = self._swap()
        data = batch[0] if len(batch) == 1 else b"".join(batch)
        self._taken = len(data)
        return data

    def close(self) -> None:
        """Give back the channel; for the session's end, when nobody takes any more.

        The broker may not have heard of the end yet: what it still offers is dropped.
        """
        self.is_finished = True
        self.pending = []
        self._send_now = None  # which holds the transport
        self._send.close()
        self._receive.close()

    def _send_straight(self, send_now: Callable[[bytes], int]) -> None:
        batch = self._swap()
        data = batch[0] if len(batch) == 1 else b"".join(batch)
        sent = send_now(data)
        if sent < len(data):
            if sent:
                self._rest = data[sent:]
            self._handed = True
            self._send.send_nowait([] if sent else [data])
        self._wrote(sent)

    def _wrote(self, count: int) -> None:
        self.size -= count
        if self.on_room is not None and self.size <= self.max_bytes // 4:
            on_room, self.on_room = self.on_room, None
            on_room()

    def _hand_over(self) -> None:
        self._handed = True
        self._send.send_nowait(self._swap())

    def _swap(self) -> list[bytes]:
        batch, self.pending = self.pending, []
        return batch
