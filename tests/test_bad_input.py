"""Bad STOMP from a client: each gets its one answer, and costs nobody else anything (CONFORMANCE.md's rows).

What is bad below STOMP is in `hardening`.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Sequence

import attrs
import pytest
import trio
from peer import Peer, open_peer, without_heart_beats
from trio.testing import MockClock, wait_all_tasks_blocked
from wire import BINARY, client_frame

from trio_stomp import ConnectRefused, ConnectRequest, StompApp, User, Version
from trio_stomp.server.session import SessionTask
from trio_stomp.testing import TestServer, open_test_server

V10, V11, V12 = Version
SUPPORTED = "1.0,1.1,1.2"


@attrs.frozen
class Bad:
    """What one client sends, and what it gets.

    Attributes:
        row: of CONFORMANCE.md.
        data: STOMP, as bytes.
        says: what must be in the ERROR's ``message``.
        receipt: the ERROR's ``receipt-id``; None: it has none.
        version: of the session; None: it comes before CONNECT.
        headers: what else the ERROR must have.
    """

    row: int
    data: bytes
    says: str
    code: int = 1002
    receipt: str | None = None
    version: Version | None = V12
    headers: dict[str, str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        start = self.data[:50].decode("latin-1").replace("\n", " ").replace("\0", "")
        return f"{self.row} {self.version.value if self.version else 'new'} {start}".strip()


def connect(lines: str) -> bytes:
    return f"CONNECT\nhost:h\nreceipt:r\n{lines}\n\n\0".encode()


SEND = b"SEND\ndestination:/topic/a\nreceipt:r\n"

BATTERY: Sequence[Bad] = (
    # Frames and parsing.
    Bad(5, SEND + b"content-length:2\n\nhello\0", "no NUL after the 2 bytes", receipt="r"),
    Bad(7, b"send\ndestination:/topic/a\n\n\0", "unknown command"),
    Bad(7, b"SEND\nDestination:/topic/a\nreceipt:r\n\n\0", "no 'destination' header", receipt="r"),
    Bad(8, b"SEND\ndestination:/topic/\xff\n\n\0", "not UTF-8", 1007),
    Bad(11, SEND + b"x:a\\tb\n\n\0", "undefined escape", receipt="r"),
    Bad(11, SEND + b"x:a\\\n\n\0", "undefined escape", receipt="r"),
    Bad(11, SEND + b"x\\d:a\n\n\0", "undefined escape", receipt="r"),
    Bad(12, SEND + b"x:a\\rb\n\n\0", "undefined escape", version=V11, receipt="r"),
    Bad(2, SEND + b"x:a\rb\n\n\0", "bare CR", receipt="r"),
    Bad(17, b"SUBSCRIBE\nid:1\ndestination:/topic/a\nreceipt:r\n\nbody\0", "has no body", receipt="r"),
    Bad(17, b"DISCONNECT\nreceipt:r\n\nbody\0", "has no body", version=V11, receipt="r"),
    Bad(18, SEND + b"content-length:99999999999\n\n", "over the limit", 1009, "r"),
    Bad(18, SEND + b"content-length:" + b"9" * 5000 + b"\n\n", "content-length", receipt="r"),
    Bad(18, SEND + b"x:" + b"y" * 20_000, "header line of more than 16384 bytes", 1009, "r"),
    Bad(18, SEND + b"".join(b"x%d:y\n" % n for n in range(300)), "more than 256 headers", 1009, "r"),
    Bad(18, b"S" * 1000, "unknown command"),
    *(
        Bad(21, SEND + b"content-length:" + value + b"\n\nhello\0", "not a number of bytes", receipt="r")
        for value in (b"abc", b"-1", b"+1", b"1_0", b" 1", b"", "\u0661".encode(), b"0x1", b"1.0")
    ),
    Bad(21, SEND + b"no colon\n\n\0", "without a colon", receipt="r"),
    Bad(21, SEND + b":no name\n\n\0", "without a name", receipt="r"),
    Bad(86, b"HELLO\n\n\0", "unknown command"),
    Bad(86, b"\0", "unknown command"),
    Bad(86, b"{}\0", "unknown command"),
    Bad(86, b"SEND \ndestination:/topic/a\n\n\0", "unknown command"),
    # Connecting.
    Bad(28, connect("accept-version:9.9"), "no common version", version=None, headers={"version": SUPPORTED}),
    Bad(28, connect("accept-version:"), "no common version", version=None, headers={"version": SUPPORTED}),
    Bad(34, SEND + b"\nx\0", "SEND before CONNECT", version=None, receipt="r"),
    Bad(34, b"DISCONNECT\nreceipt:r\n\n\0", "DISCONNECT before CONNECT", version=None, receipt="r"),
    Bad(34, b"CONNECTED\nversion:1.2\n\n\0", "for servers to send", version=None),
    Bad(34, b"CONNECT\naccept-version:1.2\nhost:h\n\n\0", "second CONNECT"),
    Bad(34, b"STOMP\naccept-version:1.2\nhost:h\n\n\0", "second CONNECT"),
    Bad(35, connect("accept-version:1.2\nheart-beat:x"), "heart-beat", version=None),
    *(
        Bad(38, connect(f"accept-version:1.2\nheart-beat:{value}"), "heart-beat", version=None)
        for value in ("x", "1", "-1,0", "1,2,3", "", "1.5,0", "1, 2", "1e3,0", "99999999999,0")
    ),
    Bad(17, b"CONNECT\naccept-version:1.2\nhost:h\n\nbody\0", "has no body", version=None),
    Bad(18, b"SEND\nreceipt:r\ncontent-length:65537\n\n", "over the limit", 1009, "r", version=None),
    Bad(18, b"CONNECT\npasscode:" + b"x" * 17_000, "header line", 1009, version=None),
    Bad(86, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "unknown command", version=None),
    # SEND, SUBSCRIBE, UNSUBSCRIBE.
    Bad(43, b"SEND\nreceipt:r\n\nx\0", "no 'destination' header", receipt="r"),
    Bad(43, b"SEND\nreceipt:r\n\nx\0", "no 'destination' header", receipt="r", version=V10),
    Bad(43, b"SEND\nreceipt:r\ndestination:/nowhere\n\nx\0", "begins with none of", 1008, "r"),
    Bad(43, b"SEND\nreceipt:r\ndestination:\n\nx\0", "destination", 1008, "r"),
    Bad(53, b"SUBSCRIBE\nreceipt:r\nid:1\n\n\0", "no 'destination' header", receipt="r"),
    Bad(53, b"SUBSCRIBE\nreceipt:r\n\n\0", "no 'destination' header", receipt="r", version=V10),
    Bad(54, b"SUBSCRIBE\nreceipt:r\ndestination:/topic/a\n\n\0", "no 'id' header", receipt="r"),
    Bad(54, b"SUBSCRIBE\nreceipt:r\ndestination:/topic/a\n\n\0", "no 'id' header", receipt="r", version=V11),
    Bad(
        55,
        b"SUBSCRIBE\nid:1\ndestination:/topic/b\n\n\0SUBSCRIBE\nid:1\nreceipt:r\ndestination:/topic/c\n\n\0",
        "'1' exists already",
        receipt="r",
    ),
    *(
        Bad(
            56,
            b"SUBSCRIBE\nid:1\nreceipt:r\ndestination:/topic/b\nack:" + ack + b"\n\n\0",
            says,
            1002,
            "r",
            v,
        )
        for ack, says, v in (
            (b"bogus", "ack 'bogus', expected one of auto, client, client-individual", V12),
            (b"Auto", "expected one of", V11),
            (b"", "expected one of", V12),
            (b"client-individual", "expected one of auto, client", V10),
        )
    ),
    Bad(57, b"SUBSCRIBE\nid:1\nreceipt:r\ndestination:/nowhere\n\n\0", "begins with none of", 1008, "r"),
    Bad(57, b"SUBSCRIBE\nid:1\nreceipt:r\ndestination:/topic/**/x\n\n\0", "**", 1008, "r"),
    Bad(57, b"SUBSCRIBE\nid:1\nreceipt:r\ndestination:/user/queue/*\n\n\0", "wildcards", 1008, "r"),
    Bad(
        57,
        b"SUBSCRIBE\nid:1\nreceipt:r\ndestination:/topic/" + b"x" * 2000 + b"\n\n\0",
        "destination of",
        1008,
        "r",
    ),
    Bad(60, b"UNSUBSCRIBE\nreceipt:r\n\n\0", "no 'id' header", receipt="r"),
    Bad(60, b"UNSUBSCRIBE\nreceipt:r\nid:9\n\n\0", "no subscription '9'", receipt="r"),
    Bad(60, b"UNSUBSCRIBE\nreceipt:r\n\n\0", "neither 'id' nor 'destination'", receipt="r", version=V10),
    Bad(60, b"UNSUBSCRIBE\nreceipt:r\ndestination:/x\n\n\0", "no subscription", receipt="r", version=V10),
    *(
        Bad(
            62,
            b"SUBSCRIBE\nid:1\nreceipt:r\ndestination:/topic/b\nselector:a > 1\n\n\0",
            "selectors are not supported",
            receipt="r",
            version=v,
        )
        for v in Version
    ),
    *(
        Bad(
            56,
            b"SUBSCRIBE\nid:1\nreceipt:r\ndestination:/queue/b\nack:client\nprefetch-count:"
            + count
            + b"\n\n\0",
            "is not a number of messages",
            receipt="r",
        )
        for count in (b"", b"-1", b"+1", b"1.0", b"1_0", b" 1", b"many", b"9" * 11, "\uff11".encode())
    ),
    # Acknowledgements and transactions.
    Bad(65, b"ACK\nreceipt:r\n\n\0", "no 'id' header", receipt="r"),
    Bad(65, b"NACK\nreceipt:r\n\n\0", "no 'id' header", receipt="r"),
    Bad(66, b"ACK\nreceipt:r\nmessage-id:1\n\n\0", "no 'subscription' header", receipt="r", version=V11),
    Bad(66, b"NACK\nreceipt:r\nsubscription:1\n\n\0", "no 'message-id' header", receipt="r", version=V11),
    Bad(67, b"ACK\nreceipt:r\n\n\0", "no 'message-id' header", receipt="r", version=V10),
    Bad(67, b"NACK\nreceipt:r\nmessage-id:1\n\n\0", "no NACK in STOMP 1.0", receipt="r", version=V10),
    *(
        Bad(71, command + b"\nreceipt:r\nid:" + id + b"\n\n\0", "no unacknowledged message", receipt="r")
        for command in (b"ACK", b"NACK")
        for id in (b"9", b"1-1", b"-", b"", "\uff11-1".encode())
    ),
    Bad(
        71,
        b"ACK\nreceipt:r\nsubscription:1\nmessage-id:m\n\n\0",
        "no unacknowledged",
        receipt="r",
        version=V11,
    ),
    Bad(71, b"ACK\nreceipt:r\nmessage-id:m\n\n\0", "no unacknowledged", receipt="r", version=V10),
    *(
        Bad(72, command + b"\nreceipt:r\n\n\0", "no 'transaction' header", receipt="r")
        for command in (b"BEGIN", b"COMMIT", b"ABORT")
    ),
    *(
        Bad(76, command + b"\nreceipt:r\ntransaction:t\n\n\0", "no transaction 't'", receipt="r")
        for command in (b"COMMIT", b"ABORT", b"SEND\ndestination:/topic/a", b"ACK\nid:1")
    ),
    # Receipts and errors.
    Bad(79, b"UNSUBSCRIBE\nid:9\nreceipt:a\\cb\\\\c\\nd\n\n\0", "no subscription", receipt="a:b\\c\nd"),
    Bad(79, b"UNSUBSCRIBE\nid:9\nreceipt:a:b\\c\n\n\0", "no subscription", receipt="a:b\\c", version=V10),
    Bad(79, b"UNSUBSCRIBE\nid:9\nreceipt: r \n\n\0", "no subscription", receipt=" r "),
    Bad(87, b"UNSUBSCRIBE\nid:a\\nb\\cc\\\\d\nreceipt:r\n\n\0", "no subscription", receipt="r"),
    Bad(87, b"UNSUBSCRIBE\nid:\x01\x7f\nreceipt:r\n\n\0", "no subscription", receipt="r"),
    Bad(87, b"UNSUBSCRIBE\nid:\r\nreceipt:r\n\n\0", "no subscription", receipt="r", version=V10),
    Bad(87, b"UNSUBSCRIBE\nid:" + b"\xf0\x9f\x8e\x89" * 1000 + b"\n\n\0", "no subscription"),
    *(
        Bad(86, command + b"\nreceipt:r\n\n\0", "for servers to send", receipt="r")
        for command in (b"CONNECTED", b"MESSAGE", b"RECEIPT", b"ERROR")
    ),
)

Manner = Callable[[bytes], Sequence[bytes]]


def whole(data: bytes) -> Sequence[bytes]:
    """One WebSocket message."""
    return [client_frame(data, BINARY)]


def messages_of_a_byte(data: bytes) -> Sequence[bytes]:
    """A WebSocket message for each byte, all in one write."""
    return [b"".join(client_frame(data[at : at + 1], BINARY) for at in range(len(data)))]


def fragments_of_a_byte(data: bytes) -> Sequence[bytes]:
    """Fragmented messages of at most 500 fragments, one byte in each."""
    made = []
    for start in range(0, len(data), 500):
        part = data[start : start + 500]
        opcodes = [BINARY] + [0] * (len(part) - 1)
        made.append(
            b"".join(
                client_frame(part[at : at + 1], opcode, final=at == len(part) - 1)
                for at, opcode in enumerate(opcodes)
            )
        )
    return made


def byte_by_byte(data: bytes) -> Sequence[bytes]:
    """One WebSocket message, whose bytes come each in a read of its own."""
    frame = client_frame(data, BINARY)
    return [frame[at : at + 1] for at in range(len(frame))]


MANNERS: Sequence[Manner] = (whole, messages_of_a_byte, fragments_of_a_byte, byte_by_byte)


class Witness:
    """Another client of the server, which must not notice anything."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    @classmethod
    async def open(cls, server: TestServer) -> Witness:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        return cls(peer)

    async def is_well(self) -> bool:
        """Whether what it sends comes back, and nothing that another client has sent."""
        await self._peer.say("SEND", b"mine", destination="/topic/a")
        return (await self._peer.frame()).body == b"mine"


async def misbehave(server: TestServer, bad: Bad, manner: Manner = whole) -> None:
    """Send it, and look at the answer."""
    behind = client_frame(b"SEND\ndestination:/topic/a\n\nbehind\0")
    if bad.version is None:
        peer = Peer(server.connect())
        await peer.wire.shake_hands()
    else:
        peer = await open_peer(server, bad.version)
    for data in manner(bad.data):
        try:
            await peer.send(data)
        except trio.BrokenResourceError:  # it has seen enough
            break
        if len(bad.data) < 200:
            await wait_all_tasks_blocked()
    with contextlib.suppress(trio.BrokenResourceError):
        await peer.send(behind)
    frames = await peer.to_end()
    assert [frame.command for frame in frames] == ["ERROR"], frames
    [error] = frames
    assert bad.says in error.headers["message"], error
    assert error.headers.get("receipt-id") == bad.receipt, error
    assert bad.headers.items() <= error.headers.items()
    assert peer.close_code == bad.code
    assert len(str(error)) < 1000  # what it quotes is cut short
    await trio.aclose_forcefully(peer.wire.stream)


@pytest.mark.parametrize("manner", MANNERS, ids=lambda manner: manner.__name__)
@pytest.mark.parametrize("bad", BATTERY, ids=str)
async def test_bad_input_gets_its_answer_and_nobody_else_notices(
    bad: Bad, manner: Manner, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, without_heart_beats()) as server:
        witness = await Witness.open(server)
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        await misbehave(server, bad, manner)
        assert await witness.is_well()
        await trio.sleep(20)  # the close timeout at the latest
        assert trio.lowlevel.current_statistics().tasks_living == before
        statistics = server.statistics()
        assert (statistics.sessions, statistics.metrics.subscriptions) == (1, 1)
        assert statistics.metrics.internal_errors == 0


async def test_the_battery_leaves_no_memory(autojump_clock: MockClock) -> None:
    async with open_test_server(None, without_heart_beats()) as server:
        witness = await Witness.open(server)

        async def battery() -> int:
            for bad in BATTERY:
                await misbehave(server, bad)
            assert await witness.is_well()
            await trio.sleep(20)
            await wait_all_tasks_blocked()
            gc.collect()
            return len(gc.get_objects())

        await battery()  # fills caches
        before = await battery()
        after = await battery()
        sessions = [found for found in gc.get_objects() if isinstance(found, SessionTask)]
        assert len(sessions) == 1  # the witness's
        assert after - before < len(BATTERY) / 4  # not one object for each


async def test_a_refused_password_is_told_and_costs_nobody_anything(autojump_clock: MockClock) -> None:
    app = StompApp()
    app.allow_send("/topic/**")

    @app.on_connect
    async def check(request: ConnectRequest) -> User:
        if request.passcode == "wrong":
            raise ConnectRefused("bad\nlogin: or passcode")
        return User("ada")

    async with open_test_server(app, without_heart_beats()) as server:
        witness = await Witness.open(server)
        data = connect("accept-version:1.2\npasscode:wrong")
        bad = Bad(29, data, "bad\nlogin: or passcode", 1008, version=None)
        for manner in MANNERS:
            await misbehave(server, bad, manner)
        assert await witness.is_well()
        assert server.statistics().sessions == 1


@pytest.mark.parametrize("count", [50])
async def test_rapid_connects_and_disconnects_leave_nothing(count: int, autojump_clock: MockClock) -> None:
    async with open_test_server(None, without_heart_beats()) as server:
        witness = await Witness.open(server)
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(count):
            peer = await open_peer(server)
            if number % 3 == 0:
                await peer.say("DISCONNECT", receipt="bye")
                assert (await peer.frame()).headers == {"receipt-id": "bye"}
            if number % 3 == 1:
                await peer.say("SUBSCRIBE", destination="/topic/b", id="1")
            await trio.aclose_forcefully(peer.wire.stream)
        assert await witness.is_well()
        await trio.sleep(20)
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert server.statistics().sessions == 1
