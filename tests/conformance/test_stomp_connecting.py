"""Connecting, Protocol Negotiation, Connection Lingering, Heart-beating (checklist B and C)."""

from __future__ import annotations

import re

import pytest
import trio
from peer import ended, gated_peer
from talk import V1_0, V1_1, T, Talk, broker, each_version, join, knock, session, since_1_1
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp import ConnectRefused, ConnectRequest, ServerConfig, StompApp, StompConfig, User
from trio_stomp.stomp.frames import Version

# CONNECT or STOMP Frame, CONNECTED Frame.


@since_1_1
async def test_connected_frame_says_the_version_row24(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        assert talk.connected.headers["version"] == version.value


@pytest.mark.parametrize("offered", [b"1.1", b"1.2", b"1.0,1.1,1.2"])
async def test_connect_or_stomp_frame_both_are_taken_row25(offered: bytes, autojump_clock: MockClock) -> None:
    async with broker() as server:
        talk = await knock(server, b"STOMP\naccept-version:" + offered + b"\nhost:h\n\n\0")
        assert (await talk.frame()).command == "CONNECTED"
        assert await talk.fence() == []


# Protocol Negotiation.


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        (b"1.2,1.0", "1.2"),
        (b"1.0,1.1,2.0", "1.1"),
        (b"1.0,1.1,1.2", "1.2"),
        (b"1.1,1.0", "1.1"),
        (b"3.0,1.2", "1.2"),
    ],
)
async def test_protocol_negotiation_gives_the_highest_common_version_row26(
    offered: bytes, agreed: str, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk = await knock(server, b"CONNECT\naccept-version:" + offered + b"\nhost:h\n\n\0")
        assert (await talk.frame()).headers["version"] == agreed


@pytest.mark.parametrize("line", [b"", b"accept-version:1.0\n"])
async def test_protocol_negotiation_without_accept_version_is_1_0_row27(
    line: bytes, autojump_clock: MockClock
) -> None:
    """And by 1.0's rules: a subscription needs no id, nothing is escaped."""
    async with broker() as server:
        talk = await knock(server, b"CONNECT\n" + line + b"\n\0")
        connected = await talk.frame()
        assert (connected.command, connected.headers.get("version", "1.0")) == ("CONNECTED", "1.0")
        await talk.write(b"SUBSCRIBE\ndestination:/topic/t\n\n\0SEND\ndestination:/topic/t\nx:a:\\t\n\n\0")
        while not talk.raw[-1].startswith(b"MESSAGE"):
            talk.raw.append((await talk.wire.frame()).payload)
        assert b"\nx:a:\\t\n" in talk.raw[-1]
        assert b"subscription" not in talk.raw[-1]


@pytest.mark.parametrize("offered", [b"9.9", b"", b"2.0,3.0", b"1.20"])
async def test_protocol_negotiation_no_common_version_is_error_with_the_list_row28(
    offered: bytes, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk = await knock(server, b"CONNECT\naccept-version:" + offered + b"\nhost:h\n\n\0")
        error = await talk.refused()
        assert error.headers["version"].split(",") == ["1.0", "1.1", "1.2"]


# CONNECT or STOMP Frame.


@each_version
async def test_connect_or_stomp_frame_a_refusal_is_an_error_that_says_why_row29(
    version: Version, autojump_clock: MockClock
) -> None:
    app = StompApp()

    @app.on_connect
    async def authenticate(request: ConnectRequest) -> User:
        raise ConnectRefused(f"no entry for {request.login}")

    async with broker(app) as server:
        head = f"CONNECT\naccept-version:{version.value}\nhost:h\n".encode()
        talk = await knock(server, head + b"login:eve\npasscode:wrong\n\n\0")
        assert (await talk.refused()).headers["message"] == "no entry for eve"


@pytest.mark.parametrize("host", [b"host:unheard.example\n", b"host:\n", b""])
async def test_connect_or_stomp_frame_any_host_is_taken_by_default_row30(
    host: bytes, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk = await knock(server, b"CONNECT\naccept-version:1.2\n" + host + b"\n\0")
        assert (await talk.frame()).command == "CONNECTED"


@pytest.mark.parametrize("host", [b"host:other\n", b"host:\n", b""])
async def test_connect_or_stomp_frame_only_the_virtual_host_is_taken_when_set_row30(
    host: bytes, autojump_clock: MockClock
) -> None:
    async with broker(config=ServerConfig(stomp=StompConfig(virtual_host="shop"))) as server:
        talk = await knock(server, b"CONNECT\naccept-version:1.2\nhost:shop\n\n\0")
        assert (await talk.frame()).command == "CONNECTED"
        talk = await knock(server, b"CONNECT\naccept-version:1.2\n" + host + b"\n\0")
        await talk.refused()


@since_1_1
async def test_connected_frame_says_session_server_and_heart_beat_row31(
    version: Version, autojump_clock: MockClock
) -> None:
    """The server's name: "name ["/" version] *(comment)"."""
    async with session(version) as talk:
        headers = talk.connected.headers
        assert re.fullmatch(r"[!-.0-~]+(/[!-~]+)?( [ -~]+)*", headers["server"])
        assert re.fullmatch(r"[0-9]+,[0-9]+", headers["heart-beat"])
        assert headers["session"]


async def test_connected_frame_says_the_session_in_1_0_row32(autojump_clock: MockClock) -> None:
    async with session(V1_0) as talk:
        assert re.fullmatch(r"[^:\s]+", talk.connected.headers["session"])


# Connection Lingering.


@pytest.mark.parametrize("how", ["DISCONNECT", "hung up", "before CONNECT"])
async def test_connection_lingering_clients_may_come_and_go_fast_row33(
    how: str, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(100):
            if how == "before CONNECT":
                talk = await knock(server, b"CONN")
            else:
                talk = await join(server, V1_1)
                if how == "DISCONNECT":
                    await talk.say("DISCONNECT")
                    assert await talk.to_end() == []
            await talk.wire.stream.aclose()
        await ended(server)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


# Once Connected.


@pytest.mark.parametrize(
    "frame",
    [
        b"SEND\ndestination:/topic/t\n\nx\0",
        b"SUBSCRIBE\nid:1\ndestination:/topic/t\n\n\0",
        b"DISCONNECT\n\n\0",
        b"BEGIN\ntransaction:t\n\n\0",
        b"CONNECTED\nversion:1.2\n\n\0",
    ],
)
async def test_connecting_nothing_goes_before_connect_row34(frame: bytes, autojump_clock: MockClock) -> None:
    async with broker() as server:
        talk = await knock(server, frame)
        await talk.refused()


@each_version
@pytest.mark.parametrize("command", [b"CONNECT", b"STOMP"])
async def test_connecting_a_second_connect_is_refused_row34(
    command: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(command + b"\naccept-version:1.2\nhost:h\n\n\0")


@pytest.mark.parametrize("offered", [b"1.0", b"1.1", b"1.2"])
async def test_header_receipt_is_not_for_connect_row35(offered: bytes, autojump_clock: MockClock) -> None:
    async with broker() as server:
        talk = await knock(server, b"CONNECT\naccept-version:" + offered + b"\nhost:h\nreceipt:r\n\n\0")
        connected = await talk.frame()
        assert (connected.command, "receipt-id" in connected.headers) == ("CONNECTED", False)
        assert await talk.fence() == []


async def test_header_receipt_of_a_refused_connect_is_not_answered_row35(autojump_clock: MockClock) -> None:
    async with broker() as server:
        talk = await knock(server, b"CONNECT\naccept-version:9\nhost:h\nreceipt:r\n\n\0")
        assert "receipt-id" not in (await talk.refused()).headers


async def test_connecting_who_does_not_connect_in_time_is_closed_row36(autojump_clock: MockClock) -> None:
    async with broker() as server:
        talk = await knock(server, b"\n")
        started = trio.current_time()
        await talk.refused()
        allowed = server.server.config.stomp.connect_timeout
        assert trio.current_time() - started == pytest.approx(allowed, abs=0.1)


# Heart-beating.


def beating(send: float = 10, receive: float = 10) -> ServerConfig:
    """A server that can and wants this, in seconds."""
    return ServerConfig(stomp=StompConfig(heart_beat_send=send, heart_beat_receive=receive))


async def silence(talk: Talk, seconds: float) -> bool:
    """Whether the server says nothing for so long."""
    with trio.move_on_after(seconds) as waiting:
        await talk.wire.frame()
    return waiting.cancelled_caught


@since_1_1
async def test_heart_beating_no_header_is_none_either_way_row37(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker(config=beating(1, 1)) as server:
        talk = await join(server, version)
        assert await silence(talk, 100)
        assert await talk.fence() == []


@since_1_1
@pytest.mark.parametrize("value", ["x", "1", "-1,0", "1,2,3", "", "1,", "1.5,0", " 1,1", "+1,1", "1;1"])
async def test_heart_beating_the_header_is_two_numbers_row38(
    value: str, version: Version, autojump_clock: MockClock
) -> None:
    async with broker(config=beating()) as server:
        head = f"CONNECT\naccept-version:{version.value}\nhost:h\nheart-beat:{value}\n\n\0"
        talk = await knock(server, head.encode())
        await talk.refused()


@since_1_1
@pytest.mark.parametrize(
    ("ours", "theirs", "most"), [(10, "0,4000", 10), (1, "0,20000", 20), (5, "0,5000", 5)]
)
async def test_heart_beating_the_server_sends_within_the_slower_of_both_row39(
    ours: float, theirs: str, most: float, version: Version, autojump_clock: MockClock
) -> None:
    async with broker(config=beating(ours, 0)) as server:
        talk = await join(server, version, heart_beat=theirs)
        for _ in range(10):
            started = trio.current_time()
            assert (await talk.wire.frame()).payload == b"\n"
            assert most / 2 < trio.current_time() - started <= most


async def test_heart_beating_goes_on_after_a_write_that_hung_row39(autojump_clock: MockClock) -> None:
    """While a frame is in flight its bytes are the sign of life; none comes between its parts."""
    async with (
        broker(config=beating(1, 0)) as server,
        gated_peer(server, heart_beat="0,1000") as (peer, gate),
    ):
        await peer.subscribe(T)
        gate.shut()
        await peer.say("SEND", b"x" * 100_000, destination=T)
        await trio.sleep(5)
        gate.open()
        while (seen := await peer.wire.frame()).payload == b"\n":
            pass
        assert seen.payload.startswith(b"MESSAGE\n")
        assert seen.payload.endswith(b"x\0")
        started = trio.current_time()
        assert (await peer.wire.frame()).payload == b"\n"
        assert trio.current_time() - started <= 1


@since_1_1
@pytest.mark.parametrize(("theirs", "agreed"), [("10000,0", 10), ("2000,0", 10), ("30000,0", 30)])
async def test_heart_beating_a_silent_client_is_dropped_with_a_margin_row40(
    theirs: str, agreed: float, version: Version, autojump_clock: MockClock
) -> None:
    async with broker(config=beating(0, 10)) as server:
        talk = await join(server, version, heart_beat=theirs)
        started = trio.current_time()
        await talk.refused()
        assert agreed < trio.current_time() - started <= 6 * agreed


LARGE = b"SEND\ndestination:/topic/t\n\n" + b"x" * 30 + b"\0"


@since_1_1
@pytest.mark.parametrize(
    "signs",
    [
        [b"\n"] * 20,
        [b"SEND\ndestination:/topic/t\n\n\0"] * 20,
        [LARGE[:5], LARGE[5:9], LARGE[9:]],
    ],
    ids=["line ends", "frames", "parts of a frame"],
)
async def test_heart_beating_any_data_of_the_client_counts_row41(
    signs: list[bytes], version: Version, autojump_clock: MockClock
) -> None:
    async with broker(config=beating(0, 10)) as server:
        talk = await join(server, version, heart_beat="10000,0")
        for sign in signs:
            await trio.sleep(9)
            await talk.write(sign)
        assert await talk.fence() == []


@since_1_1
async def test_heart_beating_any_data_of_the_server_counts_row41(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker(config=beating(10, 0)) as server:
        talk = await join(server, version, heart_beat="0,10000")
        await talk.listen()
        for _ in range(20):
            await trio.sleep(5)
            await talk.say("SEND", b"x", destination=T)
            assert (await talk.wire.frame()).payload.startswith(b"MESSAGE\n")


@since_1_1
@pytest.mark.parametrize(("ours", "theirs"), [((0, 0), "1000,1000"), ((1, 1), "0,0"), ((0, 1), "0,1000")])
async def test_heart_beating_a_zero_on_either_side_is_none_row42(
    ours: tuple[float, float], theirs: str, version: Version, autojump_clock: MockClock
) -> None:
    async with broker(config=beating(*ours)) as server:
        talk = await join(server, version, heart_beat=theirs)
        assert await silence(talk, 100)
        assert await talk.fence() == []


@since_1_1
async def test_heart_beating_each_direction_is_agreed_by_itself_row42(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker(config=beating(1, 0)) as server:
        talk = await join(server, version, heart_beat="1000,1000")
        assert not await silence(talk, 1)  # it beats
        await trio.sleep(100)  # and does not miss ours
        assert server.statistics().sessions == 1
