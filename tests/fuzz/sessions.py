"""A client's sessions as bytes: valid ones, and what mutations make of them (no I/O).

Rule 1: everything is drawn from the Random that is given: the same seed makes the same bytes.
Rule 2: structure first: STOMP frames, then WebSocket frames round them, then bytes.
"""

from __future__ import annotations

import base64
import itertools
import struct
from collections.abc import Callable, Sequence
from random import Random
from types import MappingProxyType
from typing import Final

import attrs

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
# fmt: off
COMMANDS: Final = (
    b"CONNECT", b"STOMP", b"SEND", b"SUBSCRIBE", b"UNSUBSCRIBE", b"ACK", b"NACK", b"BEGIN", b"COMMIT",
    b"ABORT", b"DISCONNECT", b"CONNECTED", b"MESSAGE", b"RECEIPT", b"ERROR",
)
NAMES: Final = (
    "destination", "id", "receipt", "transaction", "ack", "message-id", "subscription", "content-length",
    "content-type", "accept-version", "host", "login", "passcode", "heart-beat", "selector", "persistent",
    "prefetch-count", "x",
)
# fmt: on
DESTINATIONS: Final = (
    "/topic/a",
    "/topic/b/c",
    "/topic/*",
    "/topic/**",
    "/queue/a",
    "/queue/b",
    "/user/queue/echo",
    "/user/queue/errors",
    "/user/ada/queue/x",
    "/app/echo",
    "/app/chat/r",
    "/app/order",
    "/app/slow",
    "/app/aside",
    "/app/refuse/7",
    "/app/recent/r",
    "/app/ticks",
    "/app/nowhere",
    "/nowhere",
)
BODIES: Final = (
    b"",
    b"hello",
    b'{"sku": "A"}',
    b"[1, 2.5, null]",
    b"\xc3\xa4\xf0\x9f\x98\x80",
    b"\xff\x00\xfe",
)
NASTY: Final = (
    b"",
    b"\\",
    b"\\t",
    b"\\n\\c\\\\\\r",
    b"\\q",
    b"a:b:c",
    b"\r",
    b"a\rb",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"-1",
    b"0",
    b"1e3",
    b"99999999999999999999",
    b"9" * 600,
    "\u0661".encode(),
    b"*",
    b"**",
    b"/",
    b"//",
    b"/topic/**/x",
    b"{x}",
    b"a b",
    b"client-individual",
    b"true",
)
"""Values that a reader of headers stumbles over, if it stumbles at all."""


@attrs.define
class Stomp:
    """One STOMP frame, as loose as a mutation wants it."""

    command: bytes
    headers: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    body: bytes = b""
    line_end: bytes = b"\n"
    blank: bytes = b"\n"
    colon: bytes = b":"
    end: bytes = b"\0"

    def encode(self) -> bytes:
        """As it goes on the wire; nothing is escaped or checked."""
        lines = [self.command, *(name + self.colon + value for name, value in self.headers)]
        return b"".join(line + self.line_end for line in lines) + self.blank + self.body + self.end


@attrs.define
class Ws:
    """One WebSocket frame, as loose as a mutation wants it.

    Attributes:
        claim: the length that its header tells; None: the payload's.
        width: bytes of the length field: 0, 2 or 8; None: the shortest.
    """

    payload: bytes
    opcode: int = TEXT
    final: bool = True
    rsv: int = 0
    key: bytes | None = b"\x5a\xc3\x17\x9e"
    claim: int | None = None
    width: int | None = None

    def encode(self) -> bytes:
        """As it goes on the wire."""
        size = len(self.payload) if self.claim is None else self.claim
        width = (0 if size < 126 else 2 if size < 1 << 16 else 8) if self.width is None else self.width
        masked = 0 if self.key is None else 0x80
        head = bytes(((0x80 if self.final else 0) | self.rsv << 4 | self.opcode,))
        if width == 0:
            head += bytes((masked | size & 0x7F,))
        elif width == 2:
            head += struct.pack("!BH", masked | 126, size & 0xFFFF)
        else:
            head += struct.pack("!BQ", masked | 127, size & (1 << 64) - 1)
        if self.key is None:
            return head + self.payload
        return head + self.key + mask(self.payload, self.key)


def mask(payload: bytes, key: bytes) -> bytes:
    """The payload XOR its repeated key."""
    keys = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(len(payload), "big")


# How a session is delivered.


@attrs.frozen
class Send:
    """Bytes, in one write."""

    data: bytes


@attrs.frozen
class Pause:
    """Seconds without a byte."""

    seconds: float


@attrs.frozen
class Wait:
    """Until the server has said this."""

    mark: bytes


@attrs.frozen
class Acknowledge:
    """An ACK or NACK of every message that has come so far and asks for one, in STOMP 1.2."""

    command: bytes
    times: int = 1


@attrs.frozen
class HalfClose:
    """We send no more, but go on reading."""


@attrs.frozen
class Reset:
    """The connection is cut with a RST."""


Step = Send | Pause | Wait | Acknowledge | HalfClose | Reset


@attrs.frozen
class Plan:
    """One session from its first byte to its end.

    Attributes:
        steps: what is done, in order.
        kind: what it is, for the statistics.
        wants: one of these must be in what the server says, by itself; (): nothing in particular.
        stall: seconds for which nothing is read.
    """

    steps: tuple[Step, ...]
    kind: str
    wants: tuple[bytes, ...] = ()
    stall: float = 0.0

    @property
    def data(self) -> bytes:
        """All bytes that are sent."""
        return b"".join(step.data for step in self.steps if isinstance(step, Send))


# Valid parts.

UPGRADED: Final = b"\r\n\r\n"
CONNECTED: Final = b"CONNECTED\n"


def upgrade(random: Random) -> list[bytes]:
    """The lines of a correct handshake."""
    key = base64.b64encode(bytes(random.randrange(256) for _ in range(16)))
    lines = [
        b"GET /ws HTTP/1.1",
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: " + key,
        b"Sec-WebSocket-Version: 13",
    ]
    if random.randrange(2):
        offered = random.choice((b"v12.stomp", b"v10.stomp, v11.stomp", b"x", b"v11.stomp,v12.stomp"))
        lines.append(b"Sec-WebSocket-Protocol: " + offered)
    return lines


def head(lines: Sequence[bytes]) -> bytes:
    """A request's head."""
    return b"\r\n".join(lines) + b"\r\n\r\n"


def connect(random: Random, version: bytes | None = None) -> Stomp:
    """A correct CONNECT."""
    version = version or random.choice((b"1.2", b"1.1", b"1.0", b"1.0,1.1,1.2"))
    headers = [(b"accept-version", version), (b"host", b"localhost")]
    if random.randrange(3) == 0:
        headers.append((b"login", random.choice((b"ada", b"bob"))))
    if random.randrange(4) == 0:
        headers.append((b"heart-beat", random.choice((b"0,0", b"0,500", b"60000,0", b"10000,10000"))))
    return Stomp(random.choice((b"CONNECT", b"STOMP")), headers)


class Valid:
    """Valid frames of a connected session, one after the other: it knows what is legal next.

    Args:
        number: makes its topic its own, so that no other session can flood it.
    """

    def __init__(self, random: Random, number: int) -> None:
        self._random = random
        self._topic = b"/topic/own-%d" % number
        self._ids: list[bytes] = []
        self._transactions: list[bytes] = []
        self._count = itertools.count()

    def frame(self) -> Stomp:
        """The next one."""
        random = self._random
        makers: list[Callable[[], Stomp]] = [self._send, self._send, self._call, self._begin]
        if len(self._ids) < 6:
            makers += [self._subscribe, self._subscribe]
        if self._ids:
            makers.append(self._unsubscribe)
        if self._transactions:
            makers.append(self._commit)
        made = random.choice(makers)()
        if random.randrange(2):
            made.headers.append((b"receipt", b"r%d" % next(self._count)))
        return made

    def _send(self) -> Stomp:
        body = self._random.choice((b"", b"hello", b"\xc3\xa4", b"\xff\x01"))
        made = Stomp(b"SEND", [(b"destination", self._topic)], body)
        if self._random.randrange(2):
            made.headers.append((b"content-length", b"%d" % len(body)))
        if self._transactions and self._random.randrange(2):
            made.headers.append((b"transaction", self._transactions[-1]))
        return made

    def _call(self) -> Stomp:
        destination = self._random.choice((b"/app/echo", b"/app/chat/own"))
        return Stomp(b"SEND", [(b"destination", destination)], b'{"sku": "A"}')

    def _subscribe(self) -> Stomp:
        self._ids.append(b"s%d" % next(self._count))
        destinations = (self._topic, b"/user/queue/echo", b"/user/queue/errors", b"/app/recent/own")
        found = [(b"id", self._ids[-1]), (b"destination", self._random.choice(destinations))]
        if self._random.randrange(3) == 0:
            found.append((b"ack", self._random.choice((b"auto", b"client", b"client-individual"))))
        return Stomp(b"SUBSCRIBE", found)

    def _unsubscribe(self) -> Stomp:
        found = self._ids.pop(self._random.randrange(len(self._ids)))
        return Stomp(b"UNSUBSCRIBE", [(b"id", found)])

    def _begin(self) -> Stomp:
        if len(self._transactions) > 1:
            return self._commit()
        self._transactions.append(b"t%d" % next(self._count))
        return Stomp(b"BEGIN", [(b"transaction", self._transactions[-1])])

    def _commit(self) -> Stomp:
        command = self._random.choice((b"COMMIT", b"ABORT"))
        return Stomp(command, [(b"transaction", self._transactions.pop())])


def any_frame(random: Random) -> Stomp:
    """A frame that is well formed; whether it is legal is another matter."""
    command = random.choice(COMMANDS)
    headers: list[tuple[bytes, bytes]] = []
    for name in random.sample(NAMES, random.randrange(5)):
        headers.append((name.encode(), _value(random, name)))
    for name in MappingProxyType(
        {b"SEND": ("destination",), b"SUBSCRIBE": ("id", "destination"), b"UNSUBSCRIBE": ("id",)}
    ).get(command, ()):
        if random.randrange(8):
            headers.insert(0, (name.encode(), _value(random, name)))
    return Stomp(command, headers, random.choice(BODIES) if random.randrange(3) == 0 else b"")


def _value(random: Random, name: str) -> bytes:
    if random.randrange(10) == 0:
        return random.choice(NASTY)
    match name:
        case "destination":
            return random.choice(DESTINATIONS).encode()
        case "ack":
            return random.choice((b"auto", b"client", b"client-individual"))
        case "accept-version":
            return random.choice((b"1.2", b"1.0,1.1", b"2.0"))
        case "heart-beat":
            return random.choice((b"0,0", b"1,1", b"500,500", b"4000000000,1"))
        case "content-length" | "prefetch-count":
            return b"%d" % random.choice((0, 1, 5, 12, 100, 1 << 20))
    return b"%d" % random.randrange(4)


# Mutations.


def mutated_stomp(random: Random, frame: Stomp) -> Stomp:
    """The frame with one thing about it changed."""
    match random.randrange(15):
        case 0 if frame.headers:
            del frame.headers[random.randrange(len(frame.headers))]
        case 1 if frame.headers:
            frame.headers.append(random.choice(frame.headers))
        case 2 if frame.headers:
            at = random.randrange(len(frame.headers))
            frame.headers[at] = frame.headers[at][0], random.choice(NASTY)
        case 3:
            frame.headers.append((random.choice(NASTY), random.choice(NASTY)))
        case 4:
            frame.headers += [(b"h%d" % n, b"x") for n in range(random.choice((12, 20, 300)))]
        case 5:
            frame.headers.append((b"long", b"y" * random.choice((500, 505, 506, 507, 508, 5000))))
        case 6:
            frame.command = random.choice((b"", b"send", b"SENDX", b"GET / HTTP/1.1", b"\xff", b"SEN", b"\0"))
        case 7:
            frame.command = random.choice(COMMANDS)
        case 8:
            frame.body = _noise(random, random.choice((1, 10, 100, 1000, 17000)))
        case 9:
            size = len(frame.body) + random.choice((-1, 1, 100, 1 << 14, 1 << 24, 1 << 62))
            frame.headers.insert(0, (b"content-length", b"%d" % size))
        case 10:
            frame.blank = random.choice((b"", b"\r\n", b"\n\n", b"\r", b" \n"))
        case 11:
            frame.end = random.choice((b"", b"\0\0", b"\0\n\n\r\n", b"\0\r", b"x\0"))
        case 12:
            frame.line_end = random.choice((b"\r\n", b"\r", b"\n\n", b"\r\r\n", b"\0"))
        case 13:
            frame.colon = random.choice((b"", b" : ", b"::", b"="))
        case _:
            random.shuffle(frame.headers)
    return frame


def mutated_ws(random: Random, frames: list[Ws]) -> list[Ws]:
    """The frames with one thing about them changed."""
    at = random.randrange(len(frames)) if frames else 0
    match random.randrange(16) if frames else 15:
        case 0:
            frames[at].opcode = random.randrange(16)
        case 1:
            frames[at].final = not frames[at].final
        case 2:
            frames[at].rsv = random.randrange(8)
        case 3:
            frames[at].key = None
        case 4:
            frames[at].claim = random.choice(
                (0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
            )
        case 5:
            frames[at].width = random.choice((0, 2, 8))
        case 6:
            frames[at : at + 1] = fragments(random, frames[at])
        case 7:
            frames[at : at + 1] = fragments(random, frames[at], between=control)
        case 8:
            frames.insert(at, control(random))
        case 9:
            empty = Ws(b"", opcode=CONTINUATION, final=False)
            frames[at:at] = [Ws(b"", final=False), *[empty] * random.choice((1, 6, 7, 8, 50))]
        case 10:
            frames.insert(at, frames[random.randrange(len(frames))])
        case 11:
            del frames[at]
        case 12:
            other = random.randrange(len(frames))
            frames[at], frames[other] = frames[other], frames[at]
        case 13:
            frames[at:at] = [control(random) for _ in range(random.choice((2, 20, 100)))]
        case 14:
            frames[at].key = bytes(random.randrange(256) for _ in range(4))
        case _:
            frames.append(Ws(_noise(random, random.randrange(200)), opcode=random.choice((TEXT, BINARY))))
    return frames


def control(random: Random) -> Ws:
    """A control frame, mostly a legal one."""
    match random.randrange(8):
        case 0:
            return Ws(b"", CLOSE)
        case 1:
            code = random.choice((999, 1000, 1004, 1005, 1006, 1012, 2000, 3000, 4999, 5000))
            return Ws(struct.pack("!H", code) + random.choice((b"", b"bye", b"\xff", b"x" * 124)), CLOSE)
        case 2:
            return Ws(b"x", CLOSE)
        case 3:
            return Ws(_noise(random, random.choice((125, 126))), PING)
        case 4:
            return Ws(b"", PONG)
    return Ws(_noise(random, random.randrange(20)), random.choice((PING, PONG)))


def fragments(random: Random, frame: Ws, between: Callable[[Random], Ws] | None = None) -> list[Ws]:
    """A data frame in pieces."""
    count = random.choice((2, 3, 5, 12))
    cuts = sorted(random.randrange(len(frame.payload) + 1) for _ in range(count - 1))
    pieces = [frame.payload[start:stop] for start, stop in itertools.pairwise((0, *cuts, len(frame.payload)))]
    made: list[Ws] = []
    for number, piece in enumerate(pieces):
        opcode = CONTINUATION if number else frame.opcode
        made.append(Ws(piece, opcode=opcode, final=number == count - 1))
        if between is not None and random.randrange(2):
            made.append(between(random))
    return made


def mutated_bytes(random: Random, data: bytes) -> bytes:
    """The bytes with one thing about them changed."""
    if not data:
        return _noise(random, 10)
    at = random.randrange(len(data))
    size = min(1 << random.randrange(8), len(data) - at)
    match random.randrange(9):
        case 0:
            return data[:at] + bytes((data[at] ^ 1 << random.randrange(8),)) + data[at + 1 :]
        case 1:
            return data[:at] + bytes((random.choice(b"\0\n\r:\\\xff\x7f\x80"),)) + data[at + 1 :]
        case 2:
            return data[:at] + bytes((random.choice(b"\0\n\r:\\\xff\x7f\x80"),)) + data[at:]
        case 3:
            return data[:at]
        case 4:
            return data[:at] + data[at + size :]
        case 5:
            return data[: at + size] + data[at:]
        case 6:
            return data[:at] + _noise(random, size) + data[at:]
        case 7:
            other = random.randrange(len(data))
            return data[:at] + data[other : other + size] + data[at:]
    flipped = bytearray(data)
    for _ in range(random.choice((2, 8, 32))):
        flipped[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _noise(random: Random, size: int) -> bytes:
    return bytes(random.getrandbits(8) for _ in range(size))


# Head mutations.

HEAD_LINES: Final = (
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: x",
    b"Transfer-Encoding: chunked",
    b"Host: xn--0",
    b"Host: \xff",
    b"Host: " + b"a" * 70,
    b"Connection: close",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: h2c",
    b"Sec-WebSocket-Version: 8",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b"Sec-WebSocket-Extensions: \xff",
    b"Sec-WebSocket-Protocol: \xff",
    b"Sec-WebSocket-Protocol: ,,,",
    b"Sec-WebSocket-Key: x",
    b"Origin: http://localhost",
    b"Origin: http://evil.example",
    b"Expect: 100-continue",
    b"Cookie: " + b"c" * 3000,
    b"X: " + b"x" * 1000,
    b" folded",
    b"no colon",
    b": no name",
    b"X: \0",
    b"X: \r",
    b"",
)
REQUEST_LINES: Final = (
    b"GET /healthz HTTP/1.1",
    b"GET /readyz HTTP/1.1",
    b"HEAD /metrics HTTP/1.1",
    b"GET /metrics HTTP/1.1",
    b"POST /ws HTTP/1.1",
    b"POST /drain HTTP/1.1",
    b"GET /nothing HTTP/1.1",
    b"GET /ws HTTP/1.0",
    b"GET /ws HTTP/2.0",
    b"GET /ws HTTP/0.9",
    b"GET /ws",
    b"GET",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT localhost:1 HTTP/1.1",
    b"GET http://localhost/ws?x=%ff HTTP/1.1",
    b"GET /%00 HTTP/1.1",
    b"GET /ws%2f HTTP/1.1",
    b"GET /../../etc/passwd HTTP/1.1",
    b"GET //ws HTTP/1.1",
    b"get /ws http/1.1",
    b"G\xc4T /ws HTTP/1.1",
    b"GET  /ws  HTTP/1.1",
    b"PRI * HTTP/2.0\r\n\r\nSM",
)


def mutated_head(random: Random, lines: list[bytes]) -> list[bytes]:
    """The lines of a head with one thing about them changed."""
    at = random.randrange(1, len(lines)) if len(lines) > 1 else 0
    match random.randrange(8):
        case 0:
            lines[0] = random.choice(REQUEST_LINES)
        case 1:
            lines.insert(at, random.choice(HEAD_LINES))
        case 2 if len(lines) > 1:
            del lines[at]
        case 3:
            lines.append(random.choice(lines))
        case 4:
            lines[at] = mutated_bytes(random, lines[at])
        case 5:
            lines += [b"X-%d: x" % n for n in range(random.choice((10, 17, 18, 30, 300)))]
        case 6:
            lines[at] = lines[at].swapcase()
        case _:
            lines[at] = lines[at].replace(b": ", random.choice((b":", b" : ", b":\t", b": \n ", b":\r\n ")))
    return lines


OPENINGS: Final = (
    b"",
    b"\0",
    b"\n",
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12),
    b"SSH-2.0-x\r\n",
    b"CONNECT\naccept-version:1.2\nhost:h\n\n\0",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: h\r\n" * 30,
    b"A" * 5000,
)
"""What is no handshake at all."""
