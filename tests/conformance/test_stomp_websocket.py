"""STOMP over WebSocket: what no specification says and clients rely on (checklist I)."""

from __future__ import annotations

import pytest
from talk import Q, T, Talk, broker, each_version, join, session
from trio.testing import MockClock
from wire import BINARY, CLOSE, TEXT, client_frame

from trio_stomp import ServerConfig, StompConfig, WebSocketConfig
from trio_stomp.stomp.frames import Version

MIB = 1 << 20


@pytest.mark.parametrize("offered", ["v10.stomp, v11.stomp, v12.stomp", "v10.stomp", ""])
@each_version
async def test_websocket_the_version_is_by_connect_whatever_was_offered_row90(
    version: Version, offered: str, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk = Talk(server.connect(), version)
        await talk.wire.shake_hands(protocols=offered)
        await talk.write(f"CONNECT\naccept-version:{version.value}\nhost:h\n\n\0".encode())
        assert (await talk.frame()).headers.get("version", "1.0") == version.value


@each_version
@pytest.mark.parametrize(
    ("body", "opcode"),
    [
        (b"plain", TEXT),
        ("é☃\U0001f600".encode(), TEXT),
        (b"", TEXT),
        (b"\xff", BINARY),
        (b"\xed\xa0\x80", BINARY),
    ],
)
async def test_websocket_a_message_is_text_when_it_is_utf_8_row91(
    body: bytes, opcode: int, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.write(b"SEND\ndestination:/topic/t\n\n" + body + b"\0")
        seen = await talk.wire.frame()
        assert (seen.opcode, seen.payload.endswith(body + b"\0")) == (opcode, True)


@each_version
async def test_websocket_one_frame_is_one_message_row92(version: Version, autojump_clock: MockClock) -> None:
    """Old clients parse each message alone: behind the NUL may be nothing but line ends."""
    async with session(version) as talk:
        await talk.listen()
        await talk.listen(Q, "2")
        for number in range(50):
            await talk.say("SEND", b"%d" % number, destination=T, receipt=str(number))
        await talk.say("DISCONNECT", receipt="end")
        seen = []
        while (frame := await talk.wire.frame()).opcode != CLOSE:
            seen.append(frame)
        assert len(seen) == 101
        for frame in seen:
            assert frame.final
            assert frame.payload.startswith((b"MESSAGE\n", b"RECEIPT\n"))
            assert frame.payload.rstrip(b"\n").count(b"\0") == 1
            assert frame.payload.rstrip(b"\n").endswith(b"\0")


@each_version
@pytest.mark.parametrize("size", [1, 1000, 16 * 1024])
async def test_websocket_a_large_frame_may_come_in_chunks_row93(
    size: int, version: Version, autojump_clock: MockClock
) -> None:
    """As stompjs's splitLargeFrames makes them."""
    body = b"0123456789" * (10 if size == 1 else 10_000)
    async with session(version) as talk:
        await talk.listen()
        frame = b"SEND\ndestination:/topic/t\n\n" + body + b"\0"
        await talk.write(*(frame[at : at + size] for at in range(0, len(frame), size)))
        [message] = await talk.take(1)
        assert message.body == body


@pytest.mark.parametrize(("opcode", "size"), [(TEXT, MIB), (BINARY, 4 * MIB - 1000)])
async def test_websocket_large_messages_pass_by_default_row94(
    opcode: int, size: int, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk = await join(server)
        await talk.listen()
        frame = b"SEND\ndestination:/topic/t\n\n" + b"x" * size + b"\0"
        await talk.send(client_frame(frame, opcode, key=bytes(4)))
        [message] = await talk.take(1)
        assert len(message.body) == size


async def test_websocket_the_size_of_a_message_is_a_setting_row94(autojump_clock: MockClock) -> None:
    config = ServerConfig(stomp=StompConfig(body=1000), websocket=WebSocketConfig(message=2000))
    async with broker(config=config) as server:
        talk = await join(server)
        await talk.listen()
        await talk.send(client_frame(b"SEND\ndestination:/topic/t\n\n" + b"x" * 1000 + b"\0"))
        assert len(await talk.take(1)) == 1
        await talk.send(client_frame(b"SEND\ndestination:/topic/t\n\n" + b"x" * 2000 + b"\0"))
        await talk.to_end()
        assert talk.close_code == 1009


@each_version
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client_frame(b"DISCONNECT\n\n\0"), 1000),
        (client_frame(b"NOTHING\n\n\0"), 1002),
        (client_frame(b"SEND\n\n\0"), 1002),
        (client_frame(b"SEND\ndestination:/topic/t\nx:\xff\n\n\0", BINARY), 1007),
        (client_frame(b"\xff"), 1007),
        (client_frame(b"SEND\ndestination:/nowhere\n\n\0"), 1008),
    ],
)
async def test_websocket_the_close_code_is_by_cause_row95(
    data: bytes, code: int, version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk = await join(server, version)
        await talk.send(data)
        await talk.to_end()
        assert talk.close_code == code
