"""The client's end of a WebSocket, against a rude server: its own errors only, and an end in time."""

from __future__ import annotations

import pytest
import trio
from rude import Rude, client_of, server_close, server_frame
from trio.testing import MockClock
from wire import CLOSE, PING, client_frame

from trio_stomp import ConnectionLost, HandshakeRefused

BEFORE_ITS_CLOSE = {
    "nothing": b"",
    "ping": server_frame(b"?", PING),
    "pings": server_frame(b"?", PING) * 5,
    "heart-beats": server_frame(b"\n") * 50,
    "messages": server_frame(b"MESSAGE\nsubscription:s1\nmessage-id:1\ndestination:/a\n\n\0") * 50,
}


@pytest.mark.parametrize("before", BEFORE_ITS_CLOSE.values(), ids=BEFORE_ITS_CLOSE)
async def test_what_a_server_still_sends_while_the_client_closes_is_no_trouble(
    before: bytes, autojump_clock: MockClock
) -> None:
    rude = Rude(at_close=before + server_close())
    started = trio.current_time()
    async with client_of(rude):
        pass
    assert trio.current_time() == started
    assert rude.heard[-1] == (CLOSE, (1000).to_bytes(2, "big")), "nothing follows our Close"


async def test_a_server_that_pings_and_never_closes_is_left_at_the_deadline(
    autojump_clock: MockClock,
) -> None:
    started = trio.current_time()
    async with client_of(Rude(at_close=server_frame(b"", PING)), close_timeout=3):
        pass
    assert trio.current_time() - started == 3


async def test_a_server_that_closes_as_the_client_does_is_no_trouble(autojump_clock: MockClock) -> None:
    rude = Rude(at_disconnect=server_close(1001))
    started = trio.current_time()
    async with client_of(rude):
        pass
    assert trio.current_time() == started
    assert [payload for opcode, payload in rude.heard if opcode == CLOSE] == [(1001).to_bytes(2, "big")]


TOO_BIG = server_frame(b"x" * 5000)


@pytest.mark.parametrize(
    "then",
    [TOO_BIG, TOO_BIG + server_frame(b"", PING), TOO_BIG * 2, TOO_BIG + server_close()],
    ids=["alone", "with a ping", "twice", "with a Close"],
)
async def test_a_message_over_the_limit_ends_the_connection_with_a_reason(
    then: bytes, autojump_clock: MockClock
) -> None:
    started = trio.current_time()
    with pytest.raises(ConnectionLost, match="maximum message size") as caught:
        async with (
            client_of(Rude(then=then), body=1024, header_line=1024) as client,
            client.subscribe("/topic/a") as messages,
        ):
            await messages.receive()
    assert caught.value.code == 1009
    assert trio.current_time() - started <= 5


NO_ANSWER = {
    "wrong key": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: bad\r\n\r\n",
    "no upgrade": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "not HTTP": b"\x00\xff" * 30,
    "another protocol": b"220 mail.example.org ESMTP\r\n\r\n",
}


@pytest.mark.parametrize("head", NO_ANSWER.values(), ids=NO_ANSWER)
async def test_an_answer_that_is_no_handshake_is_a_connection_lost_at_once(
    head: bytes, autojump_clock: MockClock
) -> None:
    started = trio.current_time()
    with pytest.raises(ConnectionLost, match="WebSocket handshake") as caught:
        async with client_of(Rude(head=head)):
            raise AssertionError("not reached")
    assert not isinstance(caught.value, HandshakeRefused)
    assert trio.current_time() == started


ILLEGAL = {
    "masked": (client_frame(b"\n"), 1002),
    "reserved bit": (client_frame(b"\n", masked=False, rsv=4), 1002),
    "unknown opcode": (server_frame(b"", 3), 1002),
    "not UTF-8": (server_frame(b"\xff"), 1007),
    "close code 1005": (server_close(1005), 1002),
}


@pytest.mark.parametrize(("illegal", "code"), ILLEGAL.values(), ids=ILLEGAL)
async def test_a_server_that_does_what_is_illegal_is_told_by_a_close(
    illegal: bytes, code: int, autojump_clock: MockClock
) -> None:
    rude = Rude(then=illegal)
    started = trio.current_time()
    with pytest.raises(ConnectionLost) as caught:
        async with client_of(rude) as client, client.subscribe("/topic/a") as messages:
            await messages.receive()
    assert caught.value.code == code
    assert rude.heard[-1] == (CLOSE, code.to_bytes(2, "big"))
    assert trio.current_time() == started


async def test_a_server_that_itself_says_protocol_error_is_answered_once(autojump_clock: MockClock) -> None:
    rude = Rude(then=server_close(1002))
    with pytest.raises(ConnectionLost):
        async with client_of(rude) as client, client.subscribe("/topic/a") as messages:
            await messages.receive()
    assert [payload for opcode, payload in rude.heard if opcode == CLOSE] == [(1002).to_bytes(2, "big")]
