"""What a server said to one session, taken apart and judged; it shares no code with the server (no I/O)."""

from __future__ import annotations

import re

import attrs
from fuzz.sessions import BINARY, CLOSE, PING, PONG, TEXT, HalfClose, Plan, Reset

_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [ -~]+\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
_COMMAND = re.compile(rb"(CONNECTED|MESSAGE|RECEIPT|ERROR)\n")


class Malformed(Exception):
    """What the server sent is neither HTTP nor WebSocket nor STOMP."""


@attrs.define
class Heard:
    """One session's answers.

    Attributes:
        answers: as ``status 400``, ``error``, ``receipt bye``, ``close 1002``.
        is_whole: nothing was cut off at the end.
    """

    answers: list[str] = attrs.field(factory=list)
    is_whole: bool = True

    @property
    def is_told(self) -> bool:
        """Whether the client knows how it stands: refused by HTTP, ERROR, or closed."""
        return any(
            answer == "error" or answer.startswith("close") or answer.startswith("status")
            for answer in self.answers
            if answer != "status 101"
        )


def take_apart(data: bytes) -> Heard:
    """Read all that a server has sent to one session.

    Raises:
        Malformed: it is not what the protocols allow.
    """
    heard = Heard()
    if not data:
        return heard
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        if not _is_begun(data):
            raise Malformed(f"no HTTP answer: {data[:60]!r}")
        heard.is_whole = False
        return heard
    status = _STATUS.match(head + b"\r\n")
    if status is None:
        raise Malformed(f"no status line: {data[:60]!r}")
    heard.answers.append(f"status {int(status[1])}")
    if status[1] != b"101":
        length = _LENGTH.search(head + b"\r\n")
        if length is None:
            raise Malformed(f"no Content-Length in {head[:200]!r}")
        if len(rest) > int(length[1]):
            raise Malformed(f"{len(rest)} bytes follow a Content-Length of {int(length[1])}")
        heard.is_whole = len(rest) == int(length[1]) or not rest  # HEAD
        return heard
    _take_frames_apart(heard, rest)
    return heard


def _is_begun(data: bytes) -> bool:
    start = b"HTTP/1.1 "
    return data.startswith(start) or start.startswith(data)


def _take_frames_apart(heard: Heard, data: bytes) -> None:
    at = 0
    is_over = False
    while at < len(data):
        if heard.answers[-1].startswith("close"):
            raise Malformed(f"bytes after the Close: {data[at : at + 60]!r}")
        head = data[at : at + 10]
        if len(head) < 2:
            break
        first, size, body = head[0], head[1], at + 2
        if not first & 0x80 or first & 0x70 or first & 0x0F not in (TEXT, BINARY, CLOSE, PING, PONG):
            raise Malformed(f"a frame that begins with 0x{first:02x}")
        if size & 0x80:
            raise Malformed("a masked frame")
        opcode = first & 0x0F
        if size >= 126:
            if opcode >= CLOSE:
                raise Malformed("a control frame of more than 125 bytes")
            width = 2 if size == 126 else 8
            if len(head) < 2 + width:
                break
            size, body = int.from_bytes(head[2 : 2 + width], "big"), at + 2 + width
            if size < (126 if width == 2 else 1 << 16):
                raise Malformed("a length that is not minimal")
        payload = data[body : body + size]
        if len(payload) < size:
            break
        at = body + size
        if opcode == CLOSE:
            heard.answers.append(_close(payload))
        elif opcode in (TEXT, BINARY):
            if is_over:
                raise Malformed(f"a message after ERROR: {payload[:60]!r}")
            is_over = _take_message(heard, opcode, payload)
    else:
        return
    heard.is_whole = False


def _close(payload: bytes) -> str:
    if len(payload) < 2:
        if payload:
            raise Malformed("a Close of one byte")
        return "close 1005"
    payload[2:].decode()  # the reason
    code = int.from_bytes(payload[:2], "big")
    if not ((1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999):
        raise Malformed(f"close code {code}")
    return f"close {code}"


def _take_message(heard: Heard, opcode: int, payload: bytes) -> bool:
    """Note a message's frame; whether it is the ERROR, behind which nothing comes."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        if opcode == TEXT:
            raise Malformed(f"text that is not UTF-8: {payload[:60]!r}") from None
    if payload == b"\n":
        return False
    command = _COMMAND.match(payload)
    head, blank, body = payload.partition(b"\n\n")
    if command is None or not blank or not body.endswith(b"\0"):
        raise Malformed(f"no STOMP frame: {payload[:60]!r}")
    lines = head.split(b"\n")[1:]
    headers = dict(line.split(b":", 1) for line in reversed(lines) if b":" in line)
    if len(headers) < len(set(lines)) and not all(b":" in line for line in lines):
        raise Malformed(f"a header without a colon: {head[:200]!r}")
    if b"content-length" in headers and int(headers[b"content-length"]) != len(body) - 1:
        raise Malformed(f"content-length {headers[b'content-length']!r} for {len(body) - 1} bytes")
    if b"content-length" not in headers and b"\0" in body[:-1]:
        raise Malformed("a body with a NUL and without content-length")
    if command[1] == b"RECEIPT":
        heard.answers.append(f"receipt {headers[b'receipt-id'].decode()}")
    else:
        heard.answers.append(command[1].decode().lower())
    return command[1] == b"ERROR"


def judge(plan: Plan, data: bytes, *, end: str) -> str | None:
    """What is wrong with what the server said to a session; None: nothing.

    Args:
        end: how it ended: ``eof``, ``reset`` (by the server), ``ours`` (we cut it) or ``silence``: it did
            not, until the deadline.
    """
    try:
        heard = take_apart(data)
    except (Malformed, UnicodeDecodeError) as error:
        return f"malformed: {error}"
    if end == "silence":
        return f"silence: no end until the deadline, after {heard.answers[-3:]}"
    has_left = any(isinstance(step, Reset | HalfClose) for step in plan.steps)
    if plan.wants:
        if "status 503" in heard.answers or any(want in heard.answers for want in plan.wants):
            return None
        return f"expected {' or '.join(plan.wants)}, got {heard.answers[-3:]} and {end}"
    if has_left or plan.stall or end == "ours" or not plan.data:
        return None
    if not heard.is_told:
        return f"silence: the connection ended by {end} after {heard.answers[-3:]}, without a word"
    return None
