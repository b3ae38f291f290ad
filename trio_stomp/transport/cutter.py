"""Follows the WebSocket frames of one connection and cuts the plain ones out of each read (sans-I/O).

Rule 1: a frame is cut when it is final, masked, text or binary, complete in this read, under
64 KiB, and no fragmented message is open. Everything else passes to trio-websocket from its
first byte to its last.
Rule 2: for a data message that passes, a `PASSED` marker takes its place in the list before
its bytes are given out; otherwise messages overtake each other.
Rule 3: after a Close frame nothing is looked at, nor after an illegal header, behind which no
frame can be found. Once we are closing, or a limit was broken, frame boundaries are followed to
the Close, and everything else is dropped.
Rule 4: headers are judged here, and what the library does not count: UTF-8 of what was cut, a
message's bytes, a message's fragments, how many control frames come. The library judges UTF-8
of what passes, and Close frames.

Why: a frame costs 20 us and a checkpoint in trio-websocket 0.12.2, and 1 us here
(PERFORMANCE.md, step 4).
"""

from __future__ import annotations

import enum
import math

import attrs

PLAIN_BYTES = 1 << 16
"""A longer frame seldom is complete in one read of 64 KiB, and its cost is in its bytes."""

_HEADER_BYTES = 14  # RFC 6455, section 5.2: 2 + 8 of extended length + 4 of masking key


class Passed(enum.Enum):
    """Stands in the list of messages for one that is not in it."""

    MESSAGE = enum.auto()
    """A data message that the library was given: await its `get_message` here."""
    CLOSE = enum.auto()
    """The peer's Close frame: nothing comes after it."""


@attrs.frozen
class Violation:
    """The peer did what is illegal, or broke a limit; of what follows only a Close counts."""

    close_code: int
    reason: str
    limit: str | None = None
    """The setting in question, if it was a limit."""


Item = bytes | Passed | Violation


class FrameCutter:
    """Masked client frames in; messages, markers and the library's share out.

    Args:
        is_cutting: False lets every data message pass to the library (the slow path; the
            result is the same).
        message_bytes: how many bytes a message that passes may have; may be set later.
        fragments: how many frames a message that passes may have.
        control_frames: how many pings and pongs may come at once, and in a second.

    Attributes:
        begun: how many messages have begun to pass.
        controls: how many pings and pongs may still come; see `refill`.
        items: cut messages and markers, in order; whoever takes them empties the list.
        size: bytes of the messages in `items`, and of data that has passed; whoever takes it sets it to 0.
        marks: how many of `items` are not messages.
        passed: what the library is to be given now; whoever takes it empties it.
        close: the peer's Close frame, once it is complete.
        is_lost: a header was illegal: nothing that follows can be understood, not even a Close.
        is_refused: there was a violation: a `Violation` is the last of `items` for ever.
        is_broken: that, or the Close, came within a message whose marker is in the list already: it
            stands right before the other, and its message never comes.
    """

    __slots__ = (
        "_close",
        "_control_frames",
        "_discards",
        "_dropped",
        "_fragments",
        "_header",
        "_is_control",
        "_is_cutting",
        "_is_dropping",
        "_left",
        "_message_frames",
        "_message_size",
        "_open",
        "_sink",
        "begun",
        "close",
        "controls",
        "is_broken",
        "is_lost",
        "is_refused",
        "items",
        "marks",
        "message_bytes",
        "passed",
        "size",
    )

    def __init__(
        self, *, is_cutting: bool, message_bytes: int, fragments: int, control_frames: float = math.inf
    ) -> None:
        self.message_bytes = message_bytes
        self.items: list[Item] = []
        self.size = 0
        self.marks = 0
        self.passed = bytearray()
        self.close = b""
        self.is_lost = False
        self.is_refused = False
        self.is_broken = False
        self.begun = 0
        self.controls = control_frames
        self._control_frames = control_frames
        self._is_cutting = is_cutting
        self._fragments = fragments
        self._header = b""  # a frame's first bytes, while its header is incomplete
        self._left = 0  # bytes to come of the frame that is not cut
        self._is_control = False  # what that frame is
        self._sink = self.passed  # where they go
        self._close = bytearray()
        self._dropped = bytearray()
        self._open = False  # a fragmented message is under way
        self._message_size = self._message_frames = 0
        self._discards = False  # nothing more is looked at
        self._is_dropping = False  # only what has begun, and a Close, still pass

    def stop(self) -> None:
        """We are closing: only frames already begun, and a Close, still pass.

        trio-websocket 0.12.2 dies of a ping that comes while it is closing.
        """
        self._is_dropping = True

    def refill(self, seconds: float) -> None:
        """So much time has passed in which no ping and no pong was fed."""
        if self.controls < self._control_frames:
            gained = seconds * self._control_frames
            self.controls = min(self.controls + gained, self._control_frames)

    @property
    def is_within(self) -> bool:
        """Whether the end of a message that passes is still to come."""
        return self._open or (self._left > 0 and not self._is_control)

    def feed(self, data: bytes) -> None:
        """Look at one read of the socket; linear in its length."""
        if self._discards:
            return
        if self._header:
            data = self._header + data
            self._header = b""
        at, end = 0, len(data)
        if self._left:
            at = min(self._left, end)
            self._pass_on(data[:at])
            if self.close:
                return
        while at < end:
            head = at + 2
            if head > end:
                break
            first, second = data[at], data[at + 1]
            length = second & 0x7F
            if length == 126:
                head += 2
                if head > end:
                    break
                length = data[at + 2] << 8 | data[at + 3]
                is_minimal = length > 125
            elif length == 127:
                head += 8
                if head > end:
                    break
                length = int.from_bytes(data[at + 2 : head], "big")
                is_minimal = 0xFFFF < length < 1 << 63
            else:
                is_minimal = True
            head += 4
            if second < 0x80 or not is_minimal:
                self._give_up(data[at : at + 2])
                return
            if head > end:
                break
            stop = head + length
            if (
                (first == 0x81 or first == 0x82)  # a tuple would cost 20 ns a frame
                and stop <= end
                and length < PLAIN_BYTES
                and self._is_cutting
                and not self._open
                and not self._is_dropping
            ):
                payload = unmask(data[head:stop], data[head - 4 : head])
                at = stop
                if first == 0x81 and not payload.isascii() and not _is_utf8(payload):
                    self._violate(1007, "a text message is not UTF-8")
                    continue
                self.items.append(payload)
                self.size += length
                continue
            sink = self._admit(first, length)
            if sink is None:
                self._give_up(data[at : at + 2])
                return
            self._sink = sink
            self._left = stop - at
            self._pass_on(data[at : min(stop, end)])
            if self.close:
                return
            at = stop
        if at < end:
            self._header = data[at:]

    def _admit(self, first: int, length: int) -> bytearray | None:
        """Where the bytes of a frame go that is not cut; None: it is illegal."""
        opcode = first & 0x0F
        is_final = first >= 0x80
        is_control = self._is_control = opcode >= 8
        if (
            first & 0x70
            or opcode > 10
            or 2 < opcode < 8
            or (is_control and (length > 125 or not is_final))
            or (not is_control and (opcode == 0) is not self._open)
        ):
            return None
        if opcode == 8:
            return self._close
        if not is_control:
            self._open = not is_final
        if self._is_dropping:
            return self._dropped
        if is_control:
            if self.controls < 1:
                self.is_broken = self._open
                text = f"more than {self._control_frames:g} pings and pongs in a second"
                self._violate(1008, text, "websocket.control_frames")
                return self._dropped
            self.controls -= 1
            return self.passed
        if opcode:
            self.begun += 1
            self._message_size = self._message_frames = 0
        self._message_size += length
        self._message_frames += 1
        if self._message_size > self.message_bytes:
            text = f"a message of more than {self.message_bytes} bytes"
            self.is_broken = not opcode
            self._violate(1009, text, "websocket.message")
            return self._dropped
        if self._message_frames > self._fragments:
            text = f"a message of more than {self._fragments} fragments"
            self.is_broken = True  # fragments are counted from the second on
            self._violate(1008, text, "websocket.fragments")
            return self._dropped
        if opcode:
            self.items.append(Passed.MESSAGE)
            self.marks += 1
        return self.passed

    def _give_up(self, start: bytes) -> None:
        """``start`` is how an illegal header begins: where the next one is can no longer be told."""
        self.is_lost = self._discards = True
        if not self.is_refused:
            self.is_broken = self._open
            self._violate(1002, f"frame header {start.hex()}…, not legal there (RFC 6455, section 5)")

    def _pass_on(self, piece: bytes) -> None:
        """Give the next bytes of the frame that is passing to where they go."""
        self._sink += piece
        self._left -= len(piece)
        if self._sink is self.passed:
            if self._is_control:
                return  # the library answers it at once: nothing is kept
            self.size += len(piece)
        elif self._sink is self._dropped:
            self._dropped.clear()
        elif self._sink is self._close and not self._left:
            if not self.is_refused:  # else the session looks at nothing more
                self.is_broken = self._open
                self.items.append(Passed.CLOSE)
                self.marks += 1
            self.close = bytes(self._close)
            self._discards = True

    def _violate(self, close_code: int, reason: str, limit: str | None = None) -> None:
        """Nothing after this is given out, but for a Close."""
        self.items.append(Violation(close_code, reason, limit))
        self.marks += 1
        self.is_refused = self._is_dropping = True


def unmask(payload: bytes, key: bytes) -> bytes:
    """The payload XOR its repeated key (RFC 6455, section 5.3), as one big number: 1 us for 200 bytes."""
    size = len(payload)
    keys = (key * ((size + 3) >> 2))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
