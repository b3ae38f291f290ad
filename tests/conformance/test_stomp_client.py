"""What STOMP demands of a client: our client's state machine, and our client before a server of bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio_websocket
from pieces import Cut, fed, in_any_pieces, raw, read
from returning import Scripted, coming_back, scripted
from talk import V1_0, V1_1, V1_2, broker, each_version, since_1_1
from trio.testing import MockClock, wait_all_tasks_blocked
from wire import Wire

from trio_stomp import ClientConfig, ConnectionLost, LocalProtocolError, ReceiptTimeout, ServerError
from trio_stomp.errors import RemoteProtocolError
from trio_stomp.stomp.client import ClientProtocol
from trio_stomp.stomp.frames import Frame, Limits, Version
from trio_stomp.stomp.protocol import HeartBeat

NONE = HeartBeat(0.0, 0.0)
MESSAGE = "MESSAGE destination:/queue/q message-id:m-1 subscription:1 ack:a-1"
Move = Callable[[ClientProtocol], bytes]
BEATS = pytest.mark.parametrize(
    ("ours", "theirs", "most"), [(10, "0,4000", 10), (1, "0,20000", 20), (5, "0,5000", 5)]
)


def connected(version: Version = V1_2) -> ClientProtocol:
    """A client that has agreed on a version."""
    protocol = ClientProtocol(limits=Limits(), heart_beat=NONE)
    protocol.connect(host="h")
    fed(protocol, raw(f"CONNECTED version:{version.value}"))
    return protocol


def consuming(version: Version = V1_2) -> ClientProtocol:
    """A client that has subscription 1 and is to acknowledge."""
    protocol = connected(version)
    protocol.subscribe("1", "/queue/q", ack="client")
    return protocol


def refused(protocol: ClientProtocol, data: bytes) -> None:
    """The server's bytes must be refused, for ever."""
    with pytest.raises(RemoteProtocolError):
        fed(protocol, data)
    assert protocol.is_closed


# CONNECT.


def test_client_connect_says_versions_and_host_c1() -> None:
    frame = read(ClientProtocol(limits=Limits()).connect(host="shop"))
    assert frame.headers["accept-version"].split(",") == ["1.0", "1.1", "1.2"]
    assert frame.headers["host"] == "shop"


async def test_client_connect_says_the_urls_host_c1(autojump_clock: MockClock) -> None:
    seen: list[Frame] = []

    async def script(server: Scripted) -> None:
        seen.append(await server.frame())
        await server.say("CONNECTED", version="1.2")
        await server.answer()

    async with coming_back(scripted(script), reconnect=None):
        pass
    assert seen[0].headers["host"] == "h"


def test_client_connect_is_not_escaped_c2() -> None:
    frame = ClientProtocol(limits=Limits()).connect(host="h", login="a:b", passcode="p\\c:q")
    assert b"\nlogin:a:b\n" in frame
    assert b"\npasscode:p\\c:q\n" in frame


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_client_connect_what_cannot_be_said_is_refused_c2(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        ClientProtocol(limits=Limits()).connect(host="h", passcode=text)


def test_client_connect_says_its_heart_beat_c3() -> None:
    frame = read(ClientProtocol(limits=Limits(), heart_beat=HeartBeat(2.5, 10)).connect(host="h"))
    assert frame.headers["heart-beat"] == "2500,10000"


async def until_left(server: Scripted) -> None:
    """Take what comes until DISCONNECT, and confirm that."""
    while (frame := await server.frame()).command != "DISCONNECT":
        pass
    await server.say("RECEIPT", receipt_id=frame.headers["receipt"])


MOVES: dict[str, Move] = {
    "SEND": lambda client: client.send("/topic/t"),
    "SUBSCRIBE": lambda client: client.subscribe("9", "/topic/t"),
    "ACK": lambda client: client.ack(Frame("MESSAGE", {"ack": "a", "message-id": "m", "subscription": "1"})),
    "UNSUBSCRIBE": lambda client: client.unsubscribe("1"),
    "BEGIN": lambda client: client.begin("new"),
    "COMMIT": lambda client: client.commit("tx"),
    "ABORT": lambda client: client.abort("tx"),
    "DISCONNECT": lambda client: client.disconnect(),
}
each_move = pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)


@each_move
def test_client_sends_nothing_before_connected_c4(move: Move) -> None:
    protocol = ClientProtocol(limits=Limits())
    with pytest.raises(LocalProtocolError):
        move(protocol)
    protocol.connect(host="h")
    with pytest.raises(LocalProtocolError):
        move(protocol)


def test_client_connects_once_c4() -> None:
    protocol = connected()
    with pytest.raises(LocalProtocolError):
        protocol.connect(host="h")


def test_client_connect_asks_for_no_receipt_c5() -> None:
    assert "receipt" not in read(ClientProtocol(limits=Limits()).connect(host="h")).headers


def test_client_says_connect_which_every_server_knows_c6() -> None:
    assert ClientProtocol(limits=Limits()).connect(host="h").startswith(b"CONNECT\n")


# Protocol Negotiation.


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("CONNECTED", V1_0),
        ("CONNECTED version:1.0", V1_0),
        ("CONNECTED version:1.1", V1_1),
        ("CONNECTED version:1.2", V1_2),
    ],
)
@in_any_pieces
def test_client_speaks_the_version_that_the_server_says_c7(answer: str, version: Version, cut: Cut) -> None:
    protocol = ClientProtocol(limits=Limits())
    protocol.connect(host="h")
    fed(protocol, raw(answer), cut)
    assert protocol.version is version


@pytest.mark.parametrize("version", ["1.2", "2.0", "", "1"])
def test_client_refuses_a_version_that_it_has_not_offered_c7(version: str) -> None:
    protocol = ClientProtocol(limits=Limits())
    protocol.connect(host="h", headers={"accept-version": "1.0,1.1"})
    refused(protocol, raw(f"CONNECTED version:{version}"))


async def test_client_raises_the_error_that_refuses_it_c8(autojump_clock: MockClock) -> None:
    async def script(server: Scripted) -> None:
        await server.frame()
        await server.say("ERROR", b"supported: 9.9", message="version", version="9.9")

    with pytest.raises(ServerError, match="version") as caught:
        async with coming_back(scripted(script), reconnect=None):
            raise AssertionError("not reached")
    assert caught.value.frame.headers["version"] == "9.9"


# Value Encoding, Repeated Header Entries, Body.

HARD = {"a:b": "c:d\\e", "lf": "x\ny", "é": "☃ "}


@since_1_1
def test_client_escapes_headers_by_its_version_c9(version: Version) -> None:
    headers = HARD | ({"cr": "x\ry"} if version is V1_2 else {})
    frame = connected(version).send("/topic/a:b", b"", headers)
    assert b"\na\\cb:c\\cd\\\\e\n" in frame
    assert b"\nlf:x\\ny\n" in frame
    assert version is V1_1 or b"\ncr:x\\ry\n" in frame
    assert read(frame, version).headers == headers | {"destination": "/topic/a:b"}


def test_client_escapes_nothing_in_1_0_and_refuses_what_cannot_be_said_c9() -> None:
    assert b"\nx:a:b\\c\n" in connected(V1_0).send("/topic/t", b"", {"x": "a:b\\c"})
    for name, value in (("x", "a\nb"), ("a:b", "x")):
        with pytest.raises(LocalProtocolError):
            connected(V1_0).send("/topic/t", b"", {name: value})


@each_version
@in_any_pieces
def test_client_undoes_escapes_by_its_version_c10(version: Version, cut: Cut) -> None:
    [message] = fed(connected(version), raw(MESSAGE + " x:a\\cb\\\\\\nc"), cut)
    assert message.headers["x"] == ("a\\cb\\\\\\nc" if version is V1_0 else "a:b\\\nc")


@pytest.mark.parametrize(("version", "escape"), [(V1_2, "\\t"), (V1_1, "\\t"), (V1_1, "\\r"), (V1_2, "a\\")])
def test_client_refuses_an_undefined_escape_c10(version: Version, escape: str) -> None:
    refused(connected(version), raw(f"{MESSAGE} x:{escape}"))


@since_1_1
def test_client_headers_are_utf_8_and_stay_as_they_are_c11(version: Version) -> None:
    [message] = fed(
        connected(version), "MESSAGE\ndestination:/q\nmessage-id:m\nsubscription:1\né:  ☃ \n\n\0".encode()
    )
    assert message.headers["é"] == "  ☃ "
    refused(connected(version), b"MESSAGE\ndestination:/q\nmessage-id:m\nsubscription:1\nx:\xff\n\n\0")


@each_version
def test_client_takes_the_first_of_a_repeated_header_c12(version: Version) -> None:
    [message] = fed(connected(version), raw(f"{MESSAGE} foo:World foo:Hello message-id:2"))
    assert (message.headers["foo"], message.headers["message-id"]) == ("World", "m-1")


@each_version
@in_any_pieces
def test_client_reads_bodies_of_any_octets_c13(version: Version, cut: Cut) -> None:
    body = bytes(range(256))
    counted = raw(f"{MESSAGE} content-length:256", body)
    bare = raw(MESSAGE, b"one\n\ntwo")
    assert [frame.body for frame in fed(connected(version), counted + b"\n\n" + bare, cut)] == [
        body,
        b"one\n\ntwo",
    ]


@each_version
def test_client_says_the_length_of_a_body_c14(version: Version) -> None:
    frame = connected(version).send("/topic/t", "é\0☃".encode(), {"content-length": "1"})
    assert b"\ncontent-length:6\n" in frame
    assert read(frame, version).body == "é\0☃".encode()


async def test_client_says_the_type_of_a_body_c14(autojump_clock: MockClock) -> None:
    async with broker() as server, server.client() as client, client.subscribe("/topic/t") as messages:
        for payload in ("text", {"a": 1}):
            await client.send("/topic/t", payload)
        found = [(await messages.receive()).headers["content-type"] for _ in range(2)]
        assert found[0].startswith("text/plain")
        assert found[1].startswith("application/json")


@each_version
def test_client_gives_a_body_to_send_only_c15(version: Version) -> None:
    protocol = connected(version)
    protocol.subscribe("1", "/queue/q", ack="client")
    protocol.begin("tx")
    for name, move in MOVES.items():
        if name != "ABORT":
            assert move(protocol).partition(b"\n\n")[2] == b"\0"


@each_version
@pytest.mark.parametrize("ends", [b"\n", b"\n" * 100])
@in_any_pieces
def test_client_takes_frames_and_heart_beats_in_any_pieces_c16(
    cut: Cut, ends: bytes, version: Version
) -> None:
    data = ends + raw(MESSAGE) + ends + raw("RECEIPT receipt-id:r") + ends
    assert [frame.command for frame in fed(connected(version), data, cut)] == ["MESSAGE", "RECEIPT"]


def test_client_takes_cr_lf_in_1_2_c16() -> None:
    data = raw(MESSAGE).replace(b"\n", b"\r\n") + b"\r\n"
    assert fed(connected(V1_2), data)[0].headers["ack"] == "a-1"


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (raw(f"{MESSAGE} content-length:101"), Limits(body=100)),
        (raw(MESSAGE, b"x" * 101), Limits(body=100)),
        (raw(f"{MESSAGE} x:{'a' * 200}"), Limits(header_line=100)),
        (raw(f"{MESSAGE} a:1 b:2"), Limits(headers=5)),
    ],
)
def test_client_bounds_what_a_server_may_send_c17(data: bytes, limit: Limits) -> None:
    protocol = ClientProtocol(limits=limit)
    protocol.connect(host="h")
    fed(protocol, raw("CONNECTED version:1.2"))
    refused(protocol, data)


# SUBSCRIBE, UNSUBSCRIBE, MESSAGE.


@each_version
def test_client_subscribe_says_id_destination_and_mode_c18(version: Version) -> None:
    frame = read(connected(version).subscribe("1", "/queue/q", ack="client"), version)
    assert frame.headers == {"id": "1", "destination": "/queue/q", "ack": "client"}


@pytest.mark.parametrize(("version", "mode"), [(V1_2, "bogus"), (V1_1, ""), (V1_0, "client-individual")])
def test_client_subscribe_knows_the_modes_of_its_version_c18(version: Version, mode: str) -> None:
    with pytest.raises(LocalProtocolError):
        connected(version).subscribe("1", "/queue/q", ack=mode)


@each_version
def test_client_subscribe_ids_are_unique_c19(version: Version) -> None:
    protocol = connected(version)
    protocol.subscribe("1", "/topic/t")
    with pytest.raises(LocalProtocolError):
        protocol.subscribe("1", "/topic/u")
    protocol.unsubscribe("1")
    protocol.subscribe("1", "/topic/u")


async def test_client_gives_each_subscription_an_id_of_its_own_c19(autojump_clock: MockClock) -> None:
    ids: list[str] = []

    async def script(server: Scripted) -> None:
        await server.welcome()
        for _ in range(2):
            ids.append((await server.answer()).headers["id"])
        await until_left(server)

    async with (
        coming_back(scripted(script), reconnect=None) as (client, _),
        client.subscribe("/topic/t"),
        client.subscribe("/topic/t"),
    ):
        assert len(set(ids)) == len(ids) == 2


@each_version
def test_client_unsubscribes_what_it_has_subscribed_c20(version: Version) -> None:
    protocol = connected(version)
    with pytest.raises(LocalProtocolError):
        protocol.unsubscribe("1")
    protocol.subscribe("1", "/topic/t")
    assert read(protocol.unsubscribe("1"), version).headers["id"] == "1"


@each_version
@pytest.mark.parametrize("lacks", ["destination", "message-id", "subscription"])
def test_client_refuses_a_message_that_lacks_a_header_c21(lacks: str, version: Version) -> None:
    text = " ".join(part for part in MESSAGE.split() if not part.startswith(lacks))
    if (version, lacks) == (V1_0, "subscription"):  # where it is left out by the specification
        assert len(fed(connected(version), raw(text))) == 1
    else:
        refused(connected(version), raw(text))


async def test_client_gives_a_message_to_its_subscription_c22(autojump_clock: MockClock) -> None:
    async def script(server: Scripted) -> None:
        await server.welcome()
        one, two = await server.answer(), await server.answer()
        await server.publish(b"nobody's", "unknown")
        await server.publish(b"2", two.headers["id"])
        await server.publish(b"1", one.headers["id"])
        await until_left(server)

    async with (
        coming_back(scripted(script), reconnect=None) as (client, _),
        client.subscribe("/topic/a") as first,
        client.subscribe("/topic/a") as second,
    ):
        assert ((await first.receive()).body, (await second.receive()).body) == (b"1", b"2")


async def test_client_passes_over_what_comes_after_unsubscribe_c22(autojump_clock: MockClock) -> None:
    async def script(server: Scripted) -> None:
        await server.welcome()
        subscribe = await server.answer()
        assert (await server.frame()).command == "UNSUBSCRIBE"
        await server.publish(b"late", subscribe.headers["id"])
        await server.answer()
        await server.answer()

    async with coming_back(scripted(script), reconnect=None) as (client, _):
        async with client.subscribe("/topic/a"):
            pass
        await client.send("/topic/a", receipt=True)


# ACK, NACK.


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (V1_0, {"message-id": "m-1", "subscription": "1"}),
        (V1_1, {"message-id": "m-1", "subscription": "1"}),
        (V1_2, {"id": "a-1"}),
    ],
    ids=["1.0", "1.1", "1.2"],
)
def test_client_acknowledges_as_its_version_names_a_message_c23(
    version: Version, expected: dict[str, str]
) -> None:
    protocol = consuming(version)
    [message] = fed(protocol, raw(MESSAGE))
    assert read(protocol.ack(message), version).headers == expected
    if version is not V1_0:
        assert read(protocol.nack(message), version).headers == expected


def test_client_has_no_nack_in_1_0_c23() -> None:
    protocol = consuming(V1_0)
    [message] = fed(protocol, raw(MESSAGE))
    with pytest.raises(LocalProtocolError):
        protocol.nack(message)


@pytest.mark.parametrize("version", [V1_2], ids=["1.2"])
def test_client_acknowledges_only_what_is_to_be_c24(version: Version) -> None:
    protocol = consuming(version)
    [message] = fed(protocol, raw("MESSAGE destination:/q message-id:m subscription:1"))
    with pytest.raises(LocalProtocolError):
        protocol.ack(message)


# BEGIN, COMMIT, ABORT.


@each_version
@pytest.mark.parametrize("end", ["commit", "abort"])
def test_client_transactions_begin_once_and_end_once_c25(end: str, version: Version) -> None:
    protocol = connected(version)
    finish = getattr(protocol, end)
    with pytest.raises(LocalProtocolError):
        finish("tx")
    for _ in range(2):
        assert read(protocol.begin("tx"), version).headers == {"transaction": "tx"}
        with pytest.raises(LocalProtocolError):
            protocol.begin("tx")
        assert read(finish("tx"), version).headers == {"transaction": "tx"}


@each_version
def test_client_names_only_open_transactions_c25(version: Version) -> None:
    protocol = consuming(version)
    [message] = fed(protocol, raw(MESSAGE))
    inside = {"transaction": "tx"}
    for move in (lambda: protocol.send("/q", b"", inside), lambda: protocol.ack(message, headers=inside)):
        with pytest.raises(LocalProtocolError):
            move()
    protocol.begin("tx")
    assert read(protocol.send("/q", b"", inside), version).headers["transaction"] == "tx"
    assert read(protocol.ack(message, headers=inside), version).headers["transaction"] == "tx"


# Header receipt, RECEIPT.


async def test_client_receipts_are_unique_and_awaited_c26(autojump_clock: MockClock) -> None:
    asked: list[str] = []

    async def script(server: Scripted) -> None:
        await server.welcome()
        frames = [await server.frame() for _ in range(3)]
        for frame in reversed(frames):  # in any order
            asked.append(frame.headers["receipt"])
            await trio.sleep(1)
            await server.say("RECEIPT", receipt_id="unheard-of")
            await server.say("RECEIPT", receipt_id=frame.headers["receipt"])
        await server.answer()

    async with coming_back(scripted(script), reconnect=None) as (client, _):
        started, done = trio.current_time(), []

        async def send() -> None:
            await client.send("/topic/a", receipt=True)
            done.append(round(trio.current_time() - started))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(send)
        assert sorted(done) == [1, 2, 3]
        assert len(set(asked)) == 3


async def test_client_does_not_take_silence_for_a_receipt_c26(autojump_clock: MockClock) -> None:
    async def script(server: Scripted) -> None:
        await server.welcome()
        await server.frame()
        await server.answer()

    async with coming_back(scripted(script), reconnect=None) as (client, _):
        with pytest.raises(ReceiptTimeout):
            await client.send("/topic/a", receipt=True)


# DISCONNECT.


@each_move
def test_client_sends_nothing_after_disconnect_c27(move: Move) -> None:
    protocol = connected()
    protocol.subscribe("1", "/queue/q", ack="client")
    protocol.begin("tx")
    protocol.disconnect("77")
    with pytest.raises(LocalProtocolError):
        move(protocol)


async def test_client_waits_for_the_receipt_of_its_disconnect_c28(autojump_clock: MockClock) -> None:
    """And takes what comes before it; then it closes, and has sent nothing more."""
    after: list[Any] = []

    async def script(server: Scripted) -> None:
        await server.welcome()
        frame = await server.frame()
        assert (frame.command, bool(frame.headers["receipt"])) == ("DISCONNECT", True)
        await trio.sleep(1)
        await server.publish(b"late")
        await server.say("RECEIPT", receipt_id=frame.headers["receipt"])
        try:
            after.append(await server.websocket.get_message())
        except trio_websocket.ConnectionClosed as closed:
            after.append(closed.reason.code)

    async with coming_back(scripted(script), reconnect=None):
        started = trio.current_time()
    assert trio.current_time() - started >= 1
    assert after == [1000]


# Heart-beating.


async def beats(server: Scripted, count: int) -> list[float]:
    """Seconds between the client's heart-beats."""
    times = [trio.current_time()]
    for _ in range(count):
        assert await server.websocket.get_message() in ("\n", b"\n")
        times.append(trio.current_time())
    return [after - before for before, after in itertools.pairwise(times)]


@pytest.mark.parametrize(
    ("ours", "theirs", "most"), [(10, "0,4000", 10), (1, "0,20000", 20), (5, "0,5000", 5)]
)
async def test_client_sends_within_the_slower_of_both_c29(
    ours: float, theirs: str, most: float, autojump_clock: MockClock
) -> None:
    gaps: list[float] = []
    seen = trio.Event()

    async def script(server: Scripted) -> None:
        await server.welcome(heart_beat=theirs)
        gaps.extend(await beats(server, 5))
        seen.set()
        await server.answer()

    config = ClientConfig(heart_beat_send=ours, heart_beat_receive=0)
    async with coming_back(scripted(script), reconnect=None, config=config):
        await seen.wait()
    assert all(most / 2 < gap <= most for gap in gaps)


@pytest.mark.parametrize(("ours", "theirs"), [(0, "1000,1000"), (1, "0,0"), (1, None)])
async def test_client_sends_none_where_a_side_says_zero_c30(
    ours: float, theirs: str | None, autojump_clock: MockClock
) -> None:
    found: list[bool] = []

    async def script(server: Scripted) -> None:
        await server.welcome(**({} if theirs is None else {"heart_beat": theirs}))
        with trio.move_on_after(100) as waiting:
            await server.websocket.get_message()
        found.append(waiting.cancelled_caught)
        await server.answer()

    config = ClientConfig(heart_beat_send=ours, heart_beat_receive=0)
    async with coming_back(scripted(script), reconnect=None, config=config):
        await trio.sleep(101)
    assert found == [True]


async def test_client_gives_up_a_silent_server_with_a_margin_c31(autojump_clock: MockClock) -> None:
    async def script(server: Scripted) -> None:
        await server.welcome(heart_beat="10000,0")
        await trio.sleep_forever()

    config = ClientConfig(heart_beat_send=0, heart_beat_receive=10, receipt_timeout=1000)
    async with coming_back(scripted(script), reconnect=None, config=config) as (client, _):
        started = trio.current_time()
        with pytest.raises(ConnectionLost, match="heart-beat"):
            async with client.subscribe("/topic/a"):
                raise AssertionError("not reached")
        assert 10 < trio.current_time() - started <= 60


@pytest.mark.parametrize("sign", [b"\n", raw("RECEIPT receipt-id:x"), b"M"])
async def test_client_takes_any_data_for_a_heart_beat_c31(sign: bytes, autojump_clock: MockClock) -> None:
    async def script(server: Scripted) -> None:
        await server.welcome(heart_beat="10000,0")
        for _ in range(10):
            await trio.sleep(15)
            await server.websocket.send_message(sign)
            if sign == b"M":  # a frame that comes slowly
                sign_rest = b"ESSAGE\ndestination:/q\nmessage-id:m\nsubscription:1\n\n\0"
                await trio.sleep(15)
                await server.websocket.send_message(sign_rest)
        await server.answer()

    config = ClientConfig(heart_beat_send=0, heart_beat_receive=10, receipt_timeout=1000)
    async with coming_back(scripted(script), reconnect=None, config=config) as (client, _):
        await client.send("/topic/a", receipt=True)
        assert client.is_connected


@pytest.mark.parametrize("value", ["x", "1", "-1,0", "1,2,3"])
def test_client_refuses_a_heart_beat_that_is_not_two_numbers_c32(value: str) -> None:
    protocol = ClientProtocol(limits=Limits())
    protocol.connect(host="h")
    refused(protocol, raw(f"CONNECTED version:1.2 heart-beat:{value}"))


# ERROR, and what a server may not send.


async def test_client_raises_an_error_and_closes_c33(autojump_clock: MockClock) -> None:
    after: list[Any] = []

    async def script(server: Scripted) -> None:
        await server.welcome()
        frame = await server.frame()
        await server.say("ERROR", b"why", message="malformed", receipt_id=frame.headers["receipt"])
        try:
            after.append(await server.websocket.get_message())
        except trio_websocket.ConnectionClosed:
            after.append("closed")

    async with coming_back(scripted(script), reconnect=None) as (client, _):
        with pytest.raises(ServerError, match="malformed") as caught:
            await client.send("/topic/a", receipt=True)
        assert caught.value.frame.body == b"why"
        with pytest.raises(ServerError):
            await client.send("/topic/a")
    await wait_all_tasks_blocked()
    assert after == ["closed"]


@each_move
def test_client_sends_nothing_after_error_c33(move: Move) -> None:
    protocol = connected()
    protocol.subscribe("1", "/queue/q", ack="client")
    protocol.begin("tx")
    assert [frame.command for frame in fed(protocol, raw("ERROR message:no") + raw(MESSAGE))] == ["ERROR"]
    with pytest.raises(LocalProtocolError):
        move(protocol)


@each_version
@pytest.mark.parametrize(
    "text",
    [
        "CONNECTED version:1.2",
        "SEND destination:/q",
        "NOTHING a:b",
        "message a:b",
        "RECEIPT a:b",
        "MESSAGE nocolon",
    ],
)
def test_client_refuses_what_a_server_may_not_send_c34(text: str, version: Version) -> None:
    refused(connected(version), raw(text))


@pytest.mark.parametrize("text", [MESSAGE, "RECEIPT receipt-id:r", "SEND destination:/q"])
def test_client_refuses_frames_before_connected_c34(text: str) -> None:
    protocol = ClientProtocol(limits=Limits())
    protocol.connect(host="h")
    refused(protocol, raw(text))


# WebSocket.


async def test_client_offers_the_sub_protocols_of_its_versions_c35(autojump_clock: MockClock) -> None:
    heads: list[bytes] = []

    async def target(nursery: trio.Nursery) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()

        async def serve() -> None:
            heads.append(await Wire(theirs).read_until(b"\r\n\r\n"))
            await theirs.aclose()

        nursery.start_soon(serve)
        return ours

    with pytest.raises(ConnectionLost):
        async with coming_back(target, reconnect=None):
            raise AssertionError("not reached")
    [line] = [line for line in heads[0].split(b"\r\n") if line.lower().startswith(b"sec-websocket-protocol:")]
    offered = line.partition(b":")[2].split(b",")
    assert {name.strip() for name in offered} == {b"v10.stomp", b"v11.stomp", b"v12.stomp"}


async def test_client_and_our_server_agree_on_every_version_c35(autojump_clock: MockClock) -> None:
    async with broker() as server:
        for version in Version:
            async with server.client(headers={"accept-version": version.value}) as client:
                assert client.version is version
                async with client.subscribe("/topic/t") as messages:
                    await client.send("/topic/t", "é☃", headers={"x": "a b"}, receipt=True)
                    message = await messages.receive()
                    assert (message.text, message.headers["x"]) == ("é☃", "a b")
