"""A decoder that makes frames of bytes in any pieces (sans-I/O).

Rule 1: escaping and line ends follow the version, and nothing but the version.
Rule 2: no byte is searched more than twice, however many frames came at once, and in whatever
pieces: the decoder remembers how far it has looked, and for what.
Rule 3: bytes either become frames or raise RemoteProtocolError, and after that for ever.
Rule 4: a limit is checked as soon as it can be known, before what exceeds it is stored.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from trio_stomp.errors import RemoteProtocolError
from trio_stomp.stomp.frames import (
    CLIENT_COMMANDS,
    ESCAPES,
    SERVER_COMMANDS,
    UNESCAPED,
    Frame,
    Limits,
    Version,
)

_COMMANDS: Final = CLIENT_COMMANDS | SERVER_COMMANDS
_LONGEST_COMMAND: Final = max(map(len, _COMMANDS))
_LF, _CR, _NUL = 10, 13, 0

_UNESCAPES: Final[Mapping[Version, Mapping[str, str]]] = MappingProxyType(
    {
        version: MappingProxyType({there: here for here, there in escapes.items()})
        for version, escapes in ESCAPES.items()
    }
)
_ESCAPED: Final = re.compile(r"\\.?", re.DOTALL)
_LINE_END: Final = re.compile(rb"[\n\0]")
"""A NUL ends no line, but no line may have one: whoever forgot the blank line is told at once."""
_DIGITS: Final = re.compile(r"[0-9]{1,20}\Z")


class FrameDecoder:
    """Bytes in any pieces in, frames out.

    Args:
        limits: what one frame may be; may be set later, between frames.
        version: decides escaping and line ends; may be set later, between frames.

    Attributes:
        examined: bytes that have been searched; at most twice what came.
        heart_beats: line ends that stood between frames.
    """

    __slots__ = (
        "_at",
        "_body_at",
        "_data",
        "_error",
        "_frame",
        "_length",
        "_line",
        "_lines",
        "_looked",
        "_sought",
        "examined",
        "heart_beats",
        "limits",
        "version",
    )

    def __init__(self, limits: Limits, version: Version = Version.V1_2) -> None:
        self.limits = limits
        self.version = version
        self.examined = 0
        self.heart_beats = 0
        self._data: bytes | bytearray = b""
        self._at = 0  # where the frame starts that is being read
        self._looked = 0  # how far its head, or its body, has been searched
        self._sought = 0  # up to where a blank line was sought that the frames there did not end with
        self._line = 0  # where the line starts that is being read, or the blank one after the head
        self._lines = 0  # how many lines of its head are complete
        self._frame: Frame | None = None  # its head, once that is complete
        self._body_at = 0
        self._length: int | None = None
        self._error: RemoteProtocolError | None = None

    @property
    def is_within(self) -> bool:
        """Whether a frame has begun and not come to its end; to be asked when `next_frame` gave None."""
        at, end = self._at, len(self._data)
        return at < end - 1 or (at < end and self._data[at] != _CR)  # a CR: half a line end between frames

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes; `next_frame` makes frames of them."""
        at = self._at
        if at == len(self._data):  # between two frames, the usual case
            self._data = data
            self._at = self._looked = self._sought = 0
            return
        if isinstance(self._data, bytes):
            self._data = bytearray(memoryview(self._data)[at:])
            self._data += data
        else:
            del self._data[:at]
            self._data += data
        self._at = 0
        self._looked -= at
        self._sought -= at
        self._line -= at
        self._body_at -= at

    def next_frame(self) -> Frame | None:
        """The next whole frame; None when more bytes are needed.

        Raises:
            RemoteProtocolError: the bytes are no frame, or one over a limit; from then on always.
        """
        if self._error is not None:
            self._data = b""  # what came since then is not kept
            raise self._error
        try:
            return self._next()
        except RemoteProtocolError as error:
            self._error = error
            if error.frame is None:
                error.frame = self._quote()
            self._data = b""  # nothing of it is needed any more
            self._at = 0
            raise

    def _next(self) -> Frame | None:
        if self._frame is not None:
            return self._finish()
        data, at = self._data, self._at
        if self._looked <= at:  # the first look at this frame
            if at == len(data):
                return None
            if data[at] <= _CR:
                at = self._skip_line_ends()
            if at >= self._sought:
                # The usual case: the head is here as a whole, with nothing unusual in it.
                stop = data.find(b"\n\n", at)
                if 0 <= stop <= at + self.limits.header_line:
                    head = data[at:stop]
                    if b"\r" not in head and b"\0" not in head:
                        self.examined += stop + 2 - at
                        self._line = stop + 1
                        self._read_head(head)
                        self._body_at = self._looked = stop + 2
                        return self._finish()
                # Many small frames with CRs may stand before that blank line: to seek it again for
                # each would be quadratic, so they are walked through.
                sought = len(data) if stop < 0 else stop + 2
                self.examined += sought - at
                self._sought = sought
            self._line = self._looked = at
            self._lines = 0
        return self._finish() if self._walk() else None

    def _skip_line_ends(self) -> int:
        """Where a frame starts: after heart-beats and what may follow a NUL (STOMP 1.2, Augmented BNF)."""
        data, at, end = self._data, self._at, len(self._data)
        while at < end:
            if data[at] == _CR and self.version is Version.V1_2 and data[at + 1 : at + 2] == b"\n":
                at += 1
            elif data[at] != _LF:
                break
            at += 1
            self.heart_beats += 1
        self.examined += at - self._at
        self._at = self._looked = at
        return at

    def _walk(self) -> bool:
        """Look for the head's end line by line, from where the last look ended; whether it is there."""
        data, end = self._data, len(self._data)
        while True:
            found = _LINE_END.search(data, self._looked)
            stop = end if found is None else found.start()
            self.examined += min(stop + 1, end) - self._looked
            if found is None:
                self._looked = end
                self._check_partial_line()
                return False
            if data[stop] == _NUL:
                self._check_partial_line()
                raise RemoteProtocolError("a header has a NUL in it: is there no blank line before the body?")
            self._looked = stop + 1
            if self.version is Version.V1_2 and stop > self._line and data[stop - 1] == _CR:
                stop -= 1
            if stop == self._line and not self._lines:  # CR and LF came apart, between frames
                self.heart_beats += 1
                self._at = self._line = self._looked
                continue
            if stop == self._line:
                self._read_head(bytes(data[self._at : max(self._at, self._line - 1)]))
                self._body_at = self._looked
                return True
            self._check_line(bytes(data[self._line : stop]))
            self._line = self._looked
            self._lines += 1

    def _check_partial_line(self) -> None:
        data, line = self._data, self._line
        if not self._lines:
            begun = bytes(data[line : line + _LONGEST_COMMAND + 2])
            text, end = begun.decode("latin-1"), "\r" if self.version is Version.V1_2 else ""
            # "": a line end between frames, of which only the CR is here.
            if not any(f"{command}{end}".startswith(text) for command in ("", *_COMMANDS)):
                raise RemoteProtocolError(f"unknown command {_shown(begun)}")
        elif len(data) - line > 1:  # 1: a CR, whose LF may follow; alone it is part of the head's end
            self._check_size(len(data) - 1)

    def _check_line(self, line: bytes) -> None:
        if not self._lines:
            if line.decode("latin-1") not in _COMMANDS:
                raise RemoteProtocolError(f"unknown command {_shown(line)}")
            return
        self._check_size(self._line + len(line))
        if self._lines > self.limits.headers:
            raise self._too_many_headers()

    def _check_size(self, stop: int) -> None:
        """See whether a header line that reaches to there fits, by itself and with those before it."""
        line_end, head_end = self._line + self.limits.header_line, self._at + self.limits.head
        if stop > min(line_end, head_end):  # the one that bytes coming singly would reach first
            raise self._line_too_long() if line_end <= head_end else self._head_too_big()

    def _read_head(self, head: bytes | bytearray) -> None:
        """Make a frame of a complete head, without the blank line that ends it."""
        try:
            text = head.decode()
        except UnicodeDecodeError as error:
            first = bytes(head.partition(b"\n")[0])  # judged first, as when it comes in pieces
            if first.removesuffix(b"\r").decode("latin-1") not in _COMMANDS:
                raise RemoteProtocolError(f"unknown command {_shown(first)}") from error
            raise RemoteProtocolError("a header is not UTF-8", close_code=1007) from error
        version = self.version
        lines = text.split("\n")
        if "\r" in text and version is Version.V1_2:
            lines = [line.removesuffix("\r") for line in lines]
            if any("\r" in line for line in lines):
                raise RemoteProtocolError("a header has a bare CR in it (STOMP 1.2 escapes it)")
        command = lines[0]
        if command not in _COMMANDS:
            raise RemoteProtocolError(f"unknown command {_shown(command.encode())}")
        if len(lines) - 1 > self.limits.headers:
            raise self._too_many_headers()
        unescapes = _UNESCAPES[version] if "\\" in text and command not in UNESCAPED else None
        headers: dict[str, str] = {}
        del lines[0]
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise RemoteProtocolError(f"header without a colon: {_shown(line.encode())}")
            if not name:
                raise RemoteProtocolError(f"header without a name: {_shown(line.encode())}")
            if unescapes:
                name, value = _unescape(name, unescapes), _unescape(value, unescapes)
            if name not in headers:
                headers[name] = value
        self._frame = Frame(command, headers)
        length = headers.get("content-length")
        self._length = None if length is None else self._read_length(length)

    def _quote(self) -> Frame | None:
        """What an ERROR has to know of a head that was refused: command and receipt, if they can be read.

        STOMP 1.2, ERROR: "If the error is related to a specific frame sent from the client, the server
        SHOULD add additional headers", ``receipt-id`` among them.
        """
        first, *lines = bytes(self._data[self._at : self._line]).split(b"\n")
        command = first.removesuffix(b"\r").decode("latin-1")
        if command not in _COMMANDS or command in UNESCAPED:  # which have no receipt
            return None
        for line in lines[: self.limits.headers]:
            if line.startswith(b"receipt:"):
                with contextlib.suppress(UnicodeDecodeError, RemoteProtocolError):
                    return Frame(command, {"receipt": self._read_value(line[8:].decode())})
        return None

    def _read_value(self, text: str) -> str:
        if self.version is Version.V1_2:
            text = text.removesuffix("\r")
            if "\r" in text:
                raise RemoteProtocolError("a header has a bare CR in it (STOMP 1.2 escapes it)")
        return text if self.version is Version.V1_0 else _unescape(text, _UNESCAPES[self.version])

    def _read_length(self, text: str) -> int:
        if _DIGITS.match(text) is None:
            raise RemoteProtocolError(
                f"content-length {_shown(text.encode())} is not a number of bytes", frame=self._frame
            )
        length = int(text)
        if length > self.limits.body:
            raise self._body_too_big(f"content-length {length}")
        return length

    def _finish(self) -> Frame | None:
        """The frame whose head is known, once its body is here."""
        frame, data, at = self._frame, self._data, self._body_at
        assert frame is not None
        length = self._length
        if length is not None:
            stop = at + length
            if stop >= len(data):
                return None
            if data[stop]:
                raise RemoteProtocolError(
                    f"no NUL after the {length} bytes that content-length says", frame=frame
                )
        else:
            stop = data.find(b"\0", self._looked)
            self.examined += (len(data) if stop < 0 else stop + 1) - self._looked
            if (len(data) if stop < 0 else stop) - at > self.limits.body:
                raise self._body_too_big(f"a body of {(len(data) if stop < 0 else stop) - at} bytes or more")
            if stop < 0:
                self._looked = len(data)
                return None
        if stop > at:
            frame.body = bytes(data[at:stop])
        self._frame = None
        self._at = self._looked = stop + 1
        return frame

    def _line_too_long(self) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"a header line of more than {self.limits.header_line} bytes",
            close_code=1009,
            limit="stomp.header_line",
        )

    def _head_too_big(self) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"headers of more than {self.limits.head} bytes together", close_code=1009, limit="stomp.head"
        )

    def _too_many_headers(self) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"more than {self.limits.headers} headers", close_code=1009, limit="stomp.headers"
        )

    def _body_too_big(self, what: str) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"{what} is over the limit of {self.limits.body} bytes",
            frame=self._frame,
            close_code=1009,
            limit="stomp.body",
        )


def _unescape(text: str, unescapes: Mapping[str, str]) -> str:
    def undo(found: re.Match[str]) -> str:
        try:
            return unescapes[found[0]]
        except KeyError:
            raise RemoteProtocolError(f"undefined escape {found[0]!r} in a header") from None

    return _ESCAPED.sub(undo, text) if "\\" in text else text


def _shown(raw: bytes) -> str:
    """A peer's bytes, short and harmless in a message."""
    text = ascii(raw[:40].decode("utf-8", "replace"))
    return text if len(raw) <= 40 else f"{text}…"
