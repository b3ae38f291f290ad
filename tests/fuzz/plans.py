"""Which sessions a running server is sent: valid, mutated, or with a fault that it must answer (no I/O).

Rule: a plan is a function of its Random and its number alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random
from types import MappingProxyType
from typing import Final

from fuzz.sessions import (
    BINARY,
    CLOSE,
    CONNECTED,
    CONTINUATION,
    OPENINGS,
    PING,
    UPGRADED,
    Acknowledge,
    HalfClose,
    Pause,
    Plan,
    Reset,
    Send,
    Step,
    Stomp,
    Valid,
    Wait,
    Ws,
    any_frame,
    connect,
    fragments,
    head,
    mutated_bytes,
    mutated_head,
    mutated_stomp,
    mutated_ws,
    upgrade,
)

FRAGMENTS: Final = 8
"""Of one message, as the server allows."""

_D = (b"destination", b"/topic/own")
_RECEIPT = (b"receipt", b"r")
_BUSY = (b"/app/slow", b"/app/order", b"/app/aside", b"/app/echo", b"/app/refuse/1")
_BAD_UTF8 = b"\xff\xfe"


def _ws(*frames: Ws) -> bytes:
    return b"".join(frame.encode() for frame in frames)


def _stomp(command: bytes, *headers: tuple[bytes, bytes], body: bytes = b"", **changes: bytes) -> bytes:
    return Ws(Stomp(command, list(headers), body, **changes).encode(), BINARY).encode()


_MORE = Ws(b"x", CONTINUATION, final=False)

# fmt: off
WEBSOCKET_FAULTS: Final = MappingProxyType({
    "opcode 3": (_ws(Ws(b"x", 3)), "close 1002"),
    "opcode 11": (_ws(Ws(b"x", 11)), "close 1002"),
    "reserved bit": (_ws(Ws(b"x", rsv=4)), "close 1002"),
    "no mask": (_ws(Ws(b"x", key=None)), "close 1002"),
    "long ping": (_ws(Ws(b"x" * 126, PING)), "close 1002"),
    "fragmented ping": (_ws(Ws(b"x", PING, final=False)), "close 1002"),
    "continuation of nothing": (_ws(Ws(b"x", CONTINUATION)), "close 1002"),
    "message within a message": (_ws(Ws(b"\n", final=False), Ws(b"x")), "close 1002"),
    "length in too many bytes": (_ws(Ws(b"\n", width=2)), "close 1002"),
    "length in far too many bytes": (_ws(Ws(b"\n", width=8)), "close 1002"),
    "negative length": (_ws(Ws(b"", width=8, claim=1 << 63)), "close 1002"),
    "text not UTF-8": (_ws(Ws(_BAD_UTF8)), "close 1007"),
    "fragmented text not UTF-8": (_ws(Ws(b"\n", final=False), Ws(_BAD_UTF8, CONTINUATION)), "close 1007"),
    "close code 1005": (_ws(Ws(struct.pack("!H", 1005), CLOSE)), "close 1002"),
    "close code 999": (_ws(Ws(struct.pack("!H", 999), CLOSE)), "close 1002"),
    "close of one byte": (_ws(Ws(b"x", CLOSE)), "close 1002"),
    "too many fragments": (_ws(Ws(b"\n", final=False), *[_MORE] * FRAGMENTS), "close 1008"),
    "too many empty fragments": (
        _ws(Ws(b"", final=False), *[Ws(b"", CONTINUATION, final=False)] * 50), "close 1008"),
    "message too big": (_ws(Ws(b"", claim=1 << 20)), "close 1009"),
    "endless message": (_ws(Ws(b"\n" * 30000, final=False), Ws(b"\n" * 30000, CONTINUATION)), "close 1009"),
})
"""Bytes, and what must answer them, once the session is connected."""

STOMP_FAULTS: Final = MappingProxyType({
    "unknown command": _stomp(b"HELLO", _RECEIPT),
    "command in lower case": _stomp(b"send", _D),
    "no command": _stomp(b"", _D),
    "a server's command": _stomp(b"MESSAGE", _D),
    "second CONNECT": _stomp(b"CONNECT", (b"accept-version", b"1.2"), (b"host", b"h")),
    "no colon": _stomp(b"SEND", _D, (b"x", b""), colon=b""),
    "no name": _stomp(b"SEND", _D, (b"", b"x")),
    "undefined escape": _stomp(b"SEND", _D, (b"x", b"a\\tb")),
    "bare CR": _stomp(b"SEND", _D, (b"x", b"a\rb")),
    "header not UTF-8": _stomp(b"SEND", _D, (b"x", _BAD_UTF8)),
    "NUL in a header": _stomp(b"SEND", _D, (b"x", b"a\0b")),
    "no destination": _stomp(b"SEND", _RECEIPT, body=b"x"),
    "destination nowhere": _stomp(b"SEND", (b"destination", b"/nowhere"), _RECEIPT),
    "no id": _stomp(b"SUBSCRIBE", _D),
    "id in use": _stomp(b"SUBSCRIBE", _D, (b"id", b"i")) * 2,
    "unknown ack mode": _stomp(b"SUBSCRIBE", _D, (b"id", b"i"), (b"ack", b"x")),
    "unsubscribed from nothing": _stomp(b"UNSUBSCRIBE", (b"id", b"none"), _RECEIPT),
    "too many subscriptions": b"".join(_stomp(b"SUBSCRIBE", _D, (b"id", b"m%d" % n)) for n in range(9)),
    "body that may not be": _stomp(b"UNSUBSCRIBE", (b"id", b"none"), body=b"x"),
    "transaction in use": _stomp(b"BEGIN", (b"transaction", b"t")) * 2,
    "no such transaction": _stomp(b"COMMIT", (b"transaction", b"none"), _RECEIPT),
    "SEND in no such transaction": _stomp(b"SEND", _D, (b"transaction", b"none")),
    "ACK of nothing": _stomp(b"ACK", _RECEIPT),
    "too many transactions": b"".join(_stomp(b"BEGIN", (b"transaction", b"m%d" % n)) for n in range(4)),
    "too many frames in a transaction": _stomp(b"BEGIN", (b"transaction", b"m")) + _stomp(
        b"SEND", _D, (b"transaction", b"m")) * 21,
    "too many bytes in a transaction": _stomp(b"BEGIN", (b"transaction", b"m")) + _stomp(
        b"SEND", _D, (b"transaction", b"m"), body=b"x" * 12000) * 3,
    "a handler in a transaction": _stomp(b"BEGIN", (b"transaction", b"m")) + _stomp(
        b"SEND", (b"destination", b"/app/echo"), (b"transaction", b"m")),
    "ACK without message": _stomp(b"ACK", (b"id", b"none")),
    "NACK without message": _stomp(b"NACK", (b"id", b"none"), _RECEIPT),
    "prefetch-count no number": _stomp(
        b"SUBSCRIBE", _D, (b"id", b"i"), (b"ack", b"client"), (b"prefetch-count", b"x")),
    "too many headers": _stomp(b"SEND", _D, *[(b"h%d" % n, b"") for n in range(16)]),
    "header too long": _stomp(b"SEND", _D, (b"x", b"y" * 600)),
    "endless header": _ws(Ws(b"SEND\nx:" + b"y" * 600)),
    "body too long": _stomp(b"SEND", _D, body=b"x" * 17000),
    "body announced too long": _ws(Ws(b"SEND\ndestination:/topic/own\ncontent-length:16385\n\n")),
    "content-length no number": _stomp(b"SEND", _D, (b"content-length", b"x")),
    "content-length negative": _stomp(b"SEND", _D, (b"content-length", b"-1")),
    "content-length of 600 digits": _stomp(b"SEND", _D, (b"content-length", b"9" * 500)),
    "content-length too small": _stomp(b"SEND", _D, (b"content-length", b"2"), body=b"hello"),
})
"""Bytes that get ERROR in a connected STOMP 1.2 session."""

CONNECT_FAULTS: Final = MappingProxyType({
    "no CONNECT": b"",
    "heart-beats only": _ws(Ws(b"\n")),
    "half a CONNECT": _ws(Ws(b"CONNECT\naccept-version:1.2\n")),
    "SEND before CONNECT": _stomp(b"SEND", _D, _RECEIPT),
    "CONNECTED from a client": _stomp(b"CONNECTED"),
    "no common version": _stomp(b"CONNECT", (b"accept-version", b"9.9")),
    "no version": _stomp(b"CONNECT", (b"accept-version", b"")),
    "heart-beat no numbers": _stomp(b"CONNECT", (b"accept-version", b"1.2"), (b"heart-beat", b"x")),
    "body with CONNECT": _stomp(b"CONNECT", (b"accept-version", b"1.2"), body=b"x"),
    "body too long before CONNECTED": _ws(Ws(b"CONNECT\ncontent-length:1025\n\n")),
    "refused login": _stomp(b"CONNECT", (b"accept-version", b"1.2"), (b"login", b"refused")),
    "silent though it promised heart-beats": _stomp(
        b"CONNECT", (b"accept-version", b"1.2"), (b"heart-beat", b"500,0")),
    "HTTP within": _ws(Ws(b"GET / HTTP/1.1\r\n\r\n")),
})
"""Bytes that get ERROR before the session is connected."""

HEAD_FAULTS: Final = MappingProxyType({
    "nothing of HTTP": (b"hello\r\n\r\n", "status 400"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "status 400"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "status 505"),
    "no Host": (b"GET /ws HTTP/1.1\r\n\r\n", "status 400"),
    "not found": (b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", "status 404"),
    "POST": (b"POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "status 405"),
    "no upgrade": (b"GET /ws HTTP/1.1\r\nHost: h\r\n\r\n", "status 426"),
    "half a head": (b"GET /ws HTTP/1.1\r\nHost: h\r\n", "status 408"),
    "a byte": (b"G", "status 408"),
    "endless line": (b"GET /" + b"x" * 3000, "status 431"),
    "endless headers": (b"GET /ws HTTP/1.1\r\n" + b"X: y\r\n" * 600, "status 431"),
    "too many headers": (
        b"GET /ws HTTP/1.1\r\nHost: h\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(30)) + b"\r\n",
        "status 431"),
    "NUL in the head": (b"GET /ws HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n", "status 400"),
    "folded header": (b"GET /ws HTTP/1.1\r\nHost: h\r\nX: y\r\n z\r\n\r\n", "status 400"),
    "Host of xn--0": (b"GET /ws HTTP/1.1\r\nHost: xn--0\r\n\r\n", "status 400"),
})
"""Bytes instead of a handshake, and the status that they get."""
# fmt: on


def make_plan(random: Random, number: int) -> Plan:
    """The session of that number."""
    match random.randrange(20):
        case 0 | 1:
            return _with_head_fault(random)
        case 2 | 3:
            return _with_fault_before_connected(random)
        case 4 | 5 | 6:
            return _with_fault(random, number)
        case 7:
            return _valid(random, number)
        case 8:
            data = random.choice(OPENINGS)
            for _ in range(random.randrange(3)):
                data = mutated_bytes(random, data)
            return Plan(tuple(_ended(random, _delivered(random, data))), "no handshake")
        case 9 | 10:
            lines = upgrade(random)
            for _ in range(random.randrange(1, 4)):
                lines = mutated_head(random, lines)
            data = head(lines) + Ws(connect(random).encode()).encode()
            return Plan(tuple(_ended(random, _delivered(random, data))), "mutated head")
        case 11:
            return _flood(random, number)
        case 12:
            return _acknowledging(random, number)
    return _mutated(random, number)


def _with_head_fault(random: Random) -> Plan:
    name = random.choice(list(HEAD_FAULTS))
    data, wants = HEAD_FAULTS[name]
    return Plan(tuple(_delivered(random, data)), f"head: {name}", (wants,))


def _with_fault_before_connected(random: Random) -> Plan:
    name = random.choice(list(CONNECT_FAULTS))
    steps: list[Step] = [Send(head(upgrade(random)))]
    if random.randrange(2):
        steps.append(Wait(UPGRADED))
    steps += _delivered(random, CONNECT_FAULTS[name])
    return Plan(tuple(steps), f"connect: {name}", ("error",))


def _with_fault(random: Random, number: int) -> Plan:
    steps = _opening(random, b"1.2")
    valid = Valid(random, number)
    frames = [Ws(valid.frame().encode(), BINARY) for _ in range(random.randrange(4))]
    prefix = _ws(*frames)
    if random.randrange(2):
        name = random.choice(list(STOMP_FAULTS))
        fault, wants = STOMP_FAULTS[name], "error"
    else:
        name = random.choice(list(WEBSOCKET_FAULTS))
        fault, wants = WEBSOCKET_FAULTS[name]
    behind = Ws(b"ping", PING).encode() * random.choice((0, 0, 1, 20))
    return Plan((*steps, *_delivered(random, prefix + fault + behind)), f"fault: {name}", (wants,))


def _valid(random: Random, number: int) -> Plan:
    steps = _opening(random, random.choice((b"1.2", b"1.1")))
    valid = Valid(random, number)
    frames = [Ws(valid.frame().encode(), BINARY) for _ in range(random.randrange(12))]
    frames.append(Ws(Stomp(b"DISCONNECT", [(b"receipt", b"bye")]).encode()))
    for at in range(len(frames) - 1, -1, -1):
        match random.randrange(6):
            case 0:
                pieces = fragments(random, frames[at], between=lambda random: Ws(b"ping", PING))
                if sum(piece.opcode != PING for piece in pieces) <= FRAGMENTS:
                    frames[at : at + 1] = pieces
            case 1:
                frames.insert(at, Ws(b"\n"))
            case 2:
                frames.insert(at, Ws(b"ping", PING))
    return Plan((*steps, *_delivered(random, _ws(*frames))), "valid", ("receipt bye",))


def _flood(random: Random, number: int) -> Plan:
    """More than the server can take or give at once, from somebody who may not be reading."""
    topic = (b"destination", b"/topic/own-%d" % number)
    subscribe = Stomp(b"SUBSCRIBE", [topic, (b"id", b"1")])
    destination = random.choice((topic, topic, topic, (b"destination", random.choice(_BUSY))))
    send = Stomp(b"SEND", [destination, _RECEIPT], b'{"sku": "%s"}' % (b"A" * random.choice((1, 1000, 8000))))
    # Calls are made one after the other, and each may wait for its pool: few of them take long enough.
    count = random.choice((20, 100, 400)) if destination is topic else 20
    data = Ws(subscribe.encode()).encode() + Ws(send.encode()).encode() * count
    steps = (*_opening(random, b"1.2"), Send(data), Pause(0.1), HalfClose())
    return Plan(steps, "flood", stall=random.choice((0.0, 0.0, 0.5, 4.0)))


def _acknowledging(random: Random, number: int) -> Plan:
    """A consumer of a queue that acknowledges what it gets, gives it back or does neither."""
    queue = (b"destination", b"/queue/own-%d" % (number % 20))
    mode = (b"ack", random.choice((b"client", b"client-individual")))
    count = random.choice((1, 3, 30))
    frames = [Stomp(b"SUBSCRIBE", [queue, (b"id", b"1"), mode])]
    frames += [
        Stomp(b"SEND", [queue, (b"receipt", b"q")], b"x" * random.choice((1, 5000))) for _ in range(count)
    ]
    if random.randrange(2):
        frames[0].headers.append((b"prefetch-count", b"%d" % random.choice((0, 1, 10, 1000))))
    steps: list[Step] = [
        *_opening(random, b"1.2"),
        Send(_ws(*(Ws(each.encode(), BINARY) for each in frames))),
    ]
    for _ in range(random.randrange(4)):
        steps += [Wait(b"MESSAGE"), Pause(0.02)]
        steps.append(Acknowledge(random.choice((b"ACK", b"ACK", b"NACK")), random.choice((1, 1, 1, 2))))
    if random.randrange(2):
        return Plan((*steps, Send(_stomp(b"ACK", (b"id", b"of nothing")))), "ACK of nothing", ("error",))
    return Plan(tuple(_ended(random, steps)), "acknowledging")


def _opening(random: Random, version: bytes) -> list[Step]:
    """Upgrade and CONNECT, pipelined or not."""
    upgrading, connecting = head(upgrade(random)), Ws(connect(random, version).encode()).encode()
    match random.randrange(3):
        case 0:
            return [Send(upgrading), Wait(UPGRADED), Send(connecting), Wait(CONNECTED)]
        case 1:
            return [Send(upgrading + connecting), Wait(CONNECTED)]
    return [Send(upgrading + connecting)]


def _mutated(random: Random, number: int) -> Plan:
    lines = upgrade(random)
    if random.randrange(20) == 0:
        lines = mutated_head(random, lines)
    stomp = [connect(random), *_stomps(random, number)]
    frames = _packed(random, [frame.encode() for frame in stomp])
    for _ in range(random.choice((0, 0, 0, 1, 1, 2, 3))):
        frames = mutated_ws(random, frames)
    data = _ws(*frames)
    if random.randrange(10) == 0:
        other = _ws(*_packed(random, [frame.encode() for frame in _stomps(random, number)]))
        data = data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]
    for _ in range(random.choice((0, 0, 0, 0, 1, 1, 2, 5))):
        data = mutated_bytes(random, data)
    steps: list[Step] = [Send(head(lines))]
    if random.randrange(3):
        steps += [Wait(UPGRADED), *_delivered(random, data)]
    else:
        steps = _delivered(random, head(lines) + data)
    stall = random.choice((0.5, 3.0)) if random.randrange(50) == 0 else 0.0
    return Plan(tuple(_ended(random, steps)), "mutated", stall=stall)


def _stomps(random: Random, number: int) -> list[Stomp]:
    valid = Valid(random, number)
    frames = [
        valid.frame() if random.randrange(2) else any_frame(random) for _ in range(random.randrange(10))
    ]
    # No mutation in most frames: else the first ends the session and the others are never seen.
    return [mutated_stomp(random, frame) if random.randrange(6) == 0 else frame for frame in frames]


def _packed(random: Random, encoded: Sequence[bytes]) -> list[Ws]:
    """STOMP frames in WebSocket frames, one to one or not."""
    match random.randrange(4):
        case 0:
            return [Ws(b"".join(encoded), BINARY)]
        case 1:
            data, size = b"".join(encoded), random.choice((1, 7, 50))
            return [Ws(data[at : at + size], BINARY) for at in range(0, min(len(data), 200 * size), size)]
    return [Ws(frame, BINARY if random.randrange(2) else 1) for frame in encoded]


def _delivered(random: Random, data: bytes) -> list[Step]:
    """The bytes, in one write or several, at once or not."""
    match random.randrange(8):
        case 0:
            cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(1, 6)))
            pieces = [data[start:stop] for start, stop in zip((0, *cuts), (*cuts, len(data)), strict=True)]
            steps: list[Step] = []
            for piece in pieces:
                steps += [Send(piece), Pause(random.choice((0.0, 0.001, 0.02)))]
            return steps
        case 1:
            slow = random.choice((10, 40))
            steps = []
            for at in range(min(slow, len(data))):
                steps += [Send(data[at : at + 1]), Pause(0.005)]
            return [*steps, Send(data[slow:])]
    return [Send(data)]


def _ended(random: Random, steps: list[Step]) -> list[Step]:
    """The steps of a session that may have broken off, and how we leave it."""
    match random.randrange(8):
        case 0:
            return [*steps[: random.randrange(len(steps) + 1)], Reset()]
        case 1:
            return [*steps, Pause(0.05), Reset()]
        case 2:
            return [*steps, HalfClose()]
        case 3:
            return [*steps, Pause(0.5)]
    return [*steps, Pause(0.05)]
