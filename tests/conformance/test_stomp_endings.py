"""Header receipt, RECEIPT, ERROR, DISCONNECT (checklist H)."""

from __future__ import annotations

import pytest
import trio
from peer import ended
from talk import (
    V1_0,
    V1_2,
    Q,
    T,
    ack_bytes,
    broker,
    each_version,
    join,
    knock,
    session,
    since_1_1,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp import ConnectRefused, ConnectRequest, Message, StompApp, User
from trio_stomp.stomp.frames import Version

# Header receipt, RECEIPT.


@each_version
async def test_header_receipt_every_frame_but_connect_gets_its_receipt_row78(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        assert await talk.confirmed("SUBSCRIBE", destination=Q, id="1", ack="client") == []
        for _ in range(2):
            await talk.say("SEND", destination=Q)
        messages = await talk.take(2)
        assert await talk.settle("ACK", messages[0]) == []
        if version is not V1_0:
            [again] = await talk.settle("NACK", messages[1]) + await talk.fence()
            assert await talk.settle("ACK", again) == []
        for end in ("COMMIT", "ABORT"):
            assert await talk.confirmed("BEGIN", transaction="tx") == []
            assert await talk.confirmed("SEND", destination="/topic/x", transaction="tx") == []
            assert await talk.confirmed(end, transaction="tx") == []
        assert await talk.confirmed("UNSUBSCRIBE", id="1") == []
        assert await talk.confirmed("DISCONNECT") == []
        assert await talk.to_end() == []


@pytest.mark.parametrize(
    ("version", "receipts"),
    [
        (V1_2, [b"a\\cb\\\\c", b" \\n\\r ", "é☃".encode(), b"x" * 1000, b"a,b;c=d", b"\\\\n"]),
        (Version.V1_1, [b"a\\cb\\\\c", b" \\n ", "é☃".encode(), b"cr\r"]),
        (V1_0, [b"a:b\\c", b"\\n\\", "é☃".encode()]),
    ],
    ids=["1.2", "1.1", "1.0"],
)
async def test_receipt_id_is_the_receipt_written_again_row79(
    version: Version, receipts: list[bytes], autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        for receipt in receipts:
            await talk.write(b"SEND\ndestination:/topic/x\nreceipt:" + receipt + b"\n\n\0")
            assert (await talk.frame()).command == "RECEIPT"
            assert b"\nreceipt-id:" + receipt + b"\n" in talk.raw[-1]


@each_version
async def test_receipt_comes_in_the_order_of_the_frames_row80(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.write(*(b"SEND\ndestination:/topic/x\nreceipt:%d\n\n\0" % number for number in range(100)))
        found = [await talk.frame() for _ in range(100)]
        assert [frame.headers["receipt-id"] for frame in found] == [str(number) for number in range(100)]


@each_version
@pytest.mark.parametrize("destination", [Q, T])
async def test_receipt_of_a_subscribe_is_after_its_effect_row80(
    destination: str, version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, other = await join(server, version), await join(server)
        await talk.listen(destination)
        await other.send_all(b"x", to=destination)
        assert await talk.bodies() == [b"x"]


@each_version
async def test_receipt_of_a_send_is_after_its_handler_row80(
    version: Version, autojump_clock: MockClock
) -> None:
    app, gate = StompApp(), trio.Event()

    @app.on_message("/app/x")
    async def handle(message: Message) -> None:
        await gate.wait()

    async with broker(app) as server:
        talk = await join(server, version)
        await talk.write(b"SEND\ndestination:/app/x\nreceipt:r\n\n\0")
        with trio.move_on_after(100) as waiting:
            await talk.wire.frame()
        assert waiting.cancelled_caught
        gate.set()
        assert (await talk.frame()).headers["receipt-id"] == "r"


@each_version
async def test_receipt_has_no_body_row81(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        await talk.write(b"SEND\ndestination:/topic/x\nreceipt:r\n\nbody\0")
        await talk.frame()
        assert talk.raw[-1] == b"RECEIPT\nreceipt-id:r\n\n\0"


@each_version
async def test_disconnect_what_was_received_before_is_seen_through_row82(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, other = await join(server, version), await join(server)
        await other.listen()
        await talk.write(*(b"SEND\ndestination:/topic/t\n\n%d\0" % number for number in range(50)))
        await trio.aclose_forcefully(talk.wire.stream)
        await ended(server, 1)
        assert await other.bodies() == [b"%d" % number for number in range(50)]


# ERROR.

CAUSES = [
    b"NOTHING\n\n\0",
    b"SEND\n\nx\0",
    b"SEND\ndestination:/topic/t\ncontent-length:2\n\nhello\0",
    b"SUBSCRIBE\nid:1\ndestination:/nowhere\n\n\0",
    b"ABORT\ntransaction:none\n\n\0",
    b"MESSAGE\ndestination:/topic/t\n\n\0",
]


@each_version
@pytest.mark.parametrize("cause", CAUSES)
async def test_error_is_the_end_row83(cause: bytes, version: Version, autojump_clock: MockClock) -> None:
    async with broker() as server:
        talk, other = await join(server, version), await join(server)
        await other.listen()
        await talk.refused(cause, b"SEND\ndestination:/topic/t\n\nbehind\0")
        assert await other.fence() == []
        await ended(server, 1)


@each_version
@pytest.mark.parametrize("cause", CAUSES)
async def test_error_has_a_message_header_row84(
    cause: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        assert len((await talk.refused(cause)).headers["message"]) > 5


@each_version
@pytest.mark.parametrize("cause", [cause for cause in CAUSES if not cause.startswith(b"NOTHING")])
async def test_error_names_the_receipt_of_the_frame_row85(
    cause: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        error = await talk.refused(cause.replace(b"\n", b"\nreceipt:r-1\n", 1))
        assert error.headers["receipt-id"] == "r-1"


@each_version
async def test_error_without_a_receipt_asked_for_names_none_row85(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        assert "receipt-id" not in (await talk.refused(b"SEND\n\nx\0")).headers


@each_version
@pytest.mark.parametrize("command", [b"NOTHING", b"GET / HTTP/1.1", b"SENDX", b"SEN", b"", b"SEND "])
async def test_stomp_frames_an_unknown_command_is_error_and_the_end_row86(
    command: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(command + b"\nx:y\n\n\0")


@since_1_1
@pytest.mark.parametrize("value", [b"a\\nb\\cc\\\\", "☃".encode() * 3000, b"\x01\x1b[31m", b"a" * 16_000])
@pytest.mark.parametrize(
    "frame",
    [
        b"SUBSCRIBE\nid:1\ndestination:%s\n\n\0",
        b"SUBSCRIBE\nid:1\ndestination:/topic/t\nack:%s\n\n\0",
        b"SEND\ndestination:%s\n\nx\0",
        b"UNSUBSCRIBE\nid:%s\nreceipt:a\\cb\n\n\0",
        b"COMMIT\ntransaction:%s\n\n\0",
        b"ACK\nid:%s\nmessage-id:%s\nsubscription:%s\n\n\0",
    ],
)
async def test_error_is_well_formed_whatever_it_quotes_row87(
    frame: bytes, value: bytes, version: Version, autojump_clock: MockClock
) -> None:
    """The peer's decoder is strict: a header that is not escaped would have broken it."""
    async with session(version) as talk:
        error = await talk.refused(frame.replace(b"%s", value))
        assert error.headers.keys() <= {"message", "receipt-id", "content-type", "content-length"}
        assert talk.raw[-1].endswith(b"\0")
        assert len(talk.raw[-1]) < 3000


@each_version
async def test_error_of_a_refused_connect_is_well_formed_row87(
    version: Version, autojump_clock: MockClock
) -> None:
    app = StompApp()

    @app.on_connect
    async def authenticate(request: ConnectRequest) -> User:
        raise ConnectRefused("a:b\nc\\d\0e")

    async with broker(app) as server:
        frame = f"CONNECT\naccept-version:{version.value}\nhost:h\n\n\0"
        talk = await knock(server, frame.encode(), version)
        error = await talk.refused()
        assert error.headers.keys() <= {"message", "content-type", "content-length"}
        assert "b" in error.headers["message"]


# DISCONNECT.


@each_version
async def test_disconnect_gets_its_receipt_before_the_end_row88(
    version: Version, autojump_clock: MockClock
) -> None:
    """Behind everything that was to be sent before."""
    async with session(version) as talk:
        await talk.listen()
        sends = [b"SEND\ndestination:/topic/t\n\n" + b"x" * 10_000 + b"\0"] * 10
        await talk.write(*sends, b"DISCONNECT\nreceipt:77\n\n\0")
        found = await talk.to_end()
        assert [frame.command for frame in found] == ["MESSAGE"] * 10 + ["RECEIPT"]
        assert found[-1].headers["receipt-id"] == "77"
        assert talk.close_code == 1000


@each_version
@pytest.mark.parametrize("is_one_message", [True, False])
async def test_disconnect_what_follows_it_is_ignored_row89(
    is_one_message: bool, version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, other = await join(server, version), await join(server)
        await other.listen()
        pieces = [b"DISCONNECT\n\n\0", b"SEND\ndestination:/topic/t\nreceipt:r\n\nx\0", b"NOTHING\n\n\0"]
        await talk.write(*([b"".join(pieces)] if is_one_message else pieces))
        assert await talk.to_end() == []
        assert talk.close_code == 1000
        await wait_all_tasks_blocked()
        assert await other.fence() == []


@each_version
async def test_ack_and_disconnect_in_one_write_are_both_seen_through_row82(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, other = await join(server, version), await join(server)
        await talk.listen(Q, ack="client")
        await talk.say("SEND", b"x", destination=Q)
        [message] = await talk.take(1)
        await talk.write(ack_bytes("ACK", message, version) + b"DISCONNECT\n\n\0")
        assert await talk.to_end() == []
        await ended(server, 1)
        await other.listen(Q)
        assert await other.fence() == []
