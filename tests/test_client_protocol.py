"""The client's state machine: what we may send and what a server may; both machines with each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pieces import Cut, drained, fed, in_any_pieces, kept, raw, read, whole

from trio_stomp.errors import LocalProtocolError, RemoteProtocolError
from trio_stomp.stomp.client import ClientProtocol
from trio_stomp.stomp.frames import Frame, Limits, Version
from trio_stomp.stomp.protocol import HeartBeat, ServerProtocol, State

V1_0, V1_1, V1_2 = Version
ALL = (V1_0, V1_1, V1_2)
each_version = pytest.mark.parametrize("version", ALL, ids=lambda version: version.value)

MESSAGE = "MESSAGE destination:/x message-id:m subscription:1"


def client(heart_beat: HeartBeat = HeartBeat(0.0, 0.0)) -> ClientProtocol:  # noqa: B008  # frozen
    return ClientProtocol(limits=Limits(body=1000), heart_beat=heart_beat)


def connecting(offered: str = "1.0,1.1,1.2", heart_beat: HeartBeat = HeartBeat(0.0, 0.0)) -> ClientProtocol:  # noqa: B008  # frozen
    protocol = client(heart_beat)
    protocol.connect(host="h", headers={"accept-version": offered})
    return protocol


def connected(version: Version = V1_2) -> ClientProtocol:
    protocol = connecting()
    fed(protocol, raw(f"CONNECTED version:{version.value}"))
    assert protocol.version is version
    return protocol


def closed() -> ClientProtocol:
    protocol = connected()
    protocol.close()
    return protocol


def refusal(protocol: ClientProtocol, data: bytes, cut: Cut = whole) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        fed(protocol, data, cut)
    return caught.value


# CONNECT.


def test_connect_offers_all_versions_and_the_heart_beat() -> None:
    frame = read(client(HeartBeat(10.0, 2.5)).connect(host="h", login="ada", passcode="p:\\q"))
    assert frame.command == "CONNECT"
    assert frame.headers == {
        "accept-version": "1.0,1.1,1.2",
        "host": "h",
        "heart-beat": "10000,2500",
        "login": "ada",
        "passcode": "p:\\q",  # CONNECT is not escaped
    }


def test_connect_takes_more_headers_and_can_offer_less() -> None:
    frame = read(client().connect(host="h", headers={"token": "t", "accept-version": "1.1"}))
    assert (frame.headers["token"], frame.headers["accept-version"]) == ("t", "1.1")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"accept-version": "1.1,1.3"}, "accept-version '1.1,1.3', expected some of 1.0,1.1,1.2"),
        ({"accept-version": ""}, "accept-version ''"),
        ({"heart-beat": "1,1"}, "heart-beat '1,1'"),
        ({"login": "two\nlines"}, "login"),
        ({"a:b": "c"}, "a:b"),
        ({"passcode": "p\r"}, "'passcode' of a CONNECT has a CR in it"),  # the server would see "p"
    ],
)
def test_connect_that_cannot_be_said_or_kept_is_refused_and_nothing_happens(
    headers: dict[str, str], message: str
) -> None:
    protocol = client()
    with pytest.raises(LocalProtocolError, match=message):
        protocol.connect(host="h", headers=headers)
    assert protocol.state is State.AWAITING_CONNECT
    assert protocol.connect(host="h")


# CONNECTED.


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("CONNECTED version:1.2 server:RabbitMQ/4.0 session:session-1 heart-beat:0,0", V1_2),
        ("CONNECTED version:1.1 heart-beat:0,0 user-name:ada", V1_1),  # Spring: no session, no server
        ("CONNECTED version:1.0 session:s", V1_0),
        ("CONNECTED session:s response-id:1", V1_0),  # ActiveMQ to a 1.0 client
        ("CONNECTED", V1_0),
    ],
)
@in_any_pieces
def test_what_servers_answer_to_connect_is_understood(text: str, version: Version, cut: Cut) -> None:
    protocol = connecting()
    [frame] = fed(protocol, raw(text) + b"\n\n", cut)
    assert frame.command == "CONNECTED"
    assert protocol.version is version
    assert protocol.state is State.CONNECTED
    assert protocol.session == frame.headers.get("session")
    assert protocol.server == frame.headers.get("server")


@pytest.mark.parametrize(
    ("offered", "text"),
    [
        ("1.0,1.1,1.2", "CONNECTED version:1.3"),
        ("1.0,1.1,1.2", "CONNECTED version:"),
        ("1.2", "CONNECTED version:1.1"),
        ("1.1,1.2", "CONNECTED"),
    ],
)
@in_any_pieces
def test_a_version_that_was_not_offered_is_refused(offered: str, text: str, cut: Cut) -> None:
    error = refusal(connecting(offered), raw(text), cut)
    assert f"offered were {offered}" in error.message
    assert error.frame is not None


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        ((10, 10), "", (0, 0)),
        ((10, 10), "0,0", (0, 0)),
        ((10, 10), "5000,20000", (20, 10)),
        ((0, 10), "20000,5000", (0, 20)),
        ((10, 0), "20000,5000", (10, 0)),
    ],
)
def test_the_heart_beat_is_the_slower_of_what_one_can_and_the_other_wants(
    ours: tuple[float, float], theirs: str, agreed: tuple[float, float]
) -> None:
    protocol = connecting(heart_beat=HeartBeat(*ours))
    fed(protocol, raw("CONNECTED version:1.2" + (f" heart-beat:{theirs}" if theirs else "")))
    assert protocol.heart_beat == HeartBeat(*agreed)


def test_a_malformed_heart_beat_is_refused_but_in_1_0_there_are_none() -> None:
    assert "heart-beat" in refusal(connecting(), raw("CONNECTED version:1.1 heart-beat:x")).message
    protocol = connecting(heart_beat=HeartBeat(1.0, 1.0))
    fed(protocol, raw("CONNECTED heart-beat:1000,1000"))
    assert protocol.heart_beat == HeartBeat(0.0, 0.0)


@pytest.mark.parametrize("text", [MESSAGE, "RECEIPT receipt-id:1", "SEND destination:/x", "CONNECT"])
@in_any_pieces
def test_anything_else_before_connected_is_refused(text: str, cut: Cut) -> None:
    command = text.split(" ")[0]
    assert refusal(connecting(), raw(text), cut).message == f"{command} before CONNECTED"
    assert refusal(client(), raw(text), cut).message == f"{command} before CONNECT"


def test_an_error_in_place_of_connected_is_given_out_and_the_last_frame() -> None:
    for protocol in (client(), connecting()):
        [frame] = fed(protocol, raw("ERROR message:no version:1.0") + raw("CONNECTED"))
        assert frame.headers == {"message": "no", "version": "1.0"}
        assert protocol.is_closed
        assert drained(protocol) == []


# What comes afterwards.


@each_version
@pytest.mark.parametrize(
    ("text", "body"),
    [
        (MESSAGE, b""),
        (MESSAGE, b"body"),
        (f"{MESSAGE} ack:a content-length:4", b"\0\0\0\0"),
        ("RECEIPT receipt-id:1", b""),
        ("ERROR message:sorry", b"text"),
        ("ERROR", b"text"),
    ],
)
@in_any_pieces
def test_what_a_server_may_send_is_given_out(version: Version, text: str, body: bytes, cut: Cut) -> None:
    protocol = connected(version)
    [frame] = fed(protocol, b"\n" + raw(text, body) + b"\n", cut)
    assert frame.command == text.split(" ")[0]
    assert frame.body == body
    assert protocol.is_closed == (frame.command == "ERROR")


def test_a_message_of_1_0_has_no_need_of_a_subscription() -> None:
    assert len(fed(connected(V1_0), raw("MESSAGE destination:/x message-id:m"))) == 1


@pytest.mark.parametrize(
    ("text", "versions", "message"),
    [
        ("MESSAGE message-id:m subscription:1", ALL, "MESSAGE has no 'destination' header"),
        ("MESSAGE destination:/x subscription:1", ALL, "MESSAGE has no 'message-id' header"),
        ("MESSAGE destination:/x message-id:m", (V1_1, V1_2), "MESSAGE has no 'subscription' header"),
        ("RECEIPT", ALL, "RECEIPT has no 'receipt-id' header"),
        ("CONNECTED version:1.2", ALL, "a second CONNECTED"),
        ("SEND destination:/x", ALL, "SEND is for clients to send"),
        ("DISCONNECT", ALL, "DISCONNECT is for clients to send"),
        ("nonsense", ALL, "unknown command"),
    ],
)
@in_any_pieces
def test_what_a_server_may_not_send_is_refused(
    text: str, versions: tuple[Version, ...], message: str, cut: Cut
) -> None:
    for version in versions:
        protocol = connected(version)
        error = refusal(protocol, raw(text), cut)
        assert message in error.message
        assert protocol.is_closed
        assert refusal(protocol, raw(MESSAGE)) is error
        with pytest.raises(LocalProtocolError):
            protocol.send("/x")


def test_messages_are_given_out_while_disconnecting_and_after_unsubscribe() -> None:
    protocol = connected()
    protocol.subscribe("1", "/x")
    protocol.unsubscribe("1")
    protocol.disconnect("bye")
    frames = fed(protocol, raw(MESSAGE) + raw("RECEIPT receipt-id:bye"))
    assert [frame.command for frame in frames] == ["MESSAGE", "RECEIPT"]


def test_nothing_is_given_out_or_kept_after_close() -> None:
    assert fed(closed(), raw(MESSAGE)) == []
    assert kept(closed()) < 50_000


def test_nothing_is_kept_after_error() -> None:
    protocol = connected()
    assert len(fed(protocol, raw("ERROR"))) == 1
    assert kept(protocol) < 50_000


def test_a_message_over_the_limit_is_refused() -> None:
    error = refusal(connected(), raw(f"{MESSAGE} content-length:1001"))
    assert (error.close_code, error.limit) == (1009, "stomp.body")


# What we send.


def of(subscription: str) -> Frame:
    headers = {"destination": "/x", "message-id": "m", "subscription": subscription, "ack": "a"}
    return Frame("MESSAGE", headers)


ACKABLE = of("1")
Move = Callable[[ClientProtocol], bytes]
MOVES: list[tuple[str, Move]] = [
    ("SEND", lambda protocol: protocol.send("/x")),
    ("SUBSCRIBE", lambda protocol: protocol.subscribe("1", "/x")),
    ("UNSUBSCRIBE", lambda protocol: protocol.unsubscribe("1")),
    ("ACK", lambda protocol: protocol.ack(ACKABLE)),
    ("NACK", lambda protocol: protocol.nack(ACKABLE)),
    ("BEGIN", lambda protocol: protocol.begin("t")),
    ("COMMIT", lambda protocol: protocol.commit("t")),
    ("ABORT", lambda protocol: protocol.abort("t")),
    ("DISCONNECT", lambda protocol: protocol.disconnect()),
]


def disconnecting() -> ClientProtocol:
    protocol = connected()
    protocol.disconnect()
    return protocol


@pytest.mark.parametrize("made", [client, connecting, disconnecting, closed])
@pytest.mark.parametrize(("command", "move"), MOVES, ids=[command for command, _ in MOVES])
def test_nothing_is_sent_unless_connected(
    made: Callable[[], ClientProtocol], command: str, move: Move
) -> None:
    protocol = made()
    with pytest.raises(LocalProtocolError, match=f"{command} in state {protocol.state.name}"):
        move(protocol)


@pytest.mark.parametrize("made", [connecting, connected, disconnecting, closed])
def test_connect_is_the_first_and_only_once(made: Callable[[], ClientProtocol]) -> None:
    with pytest.raises(LocalProtocolError, match="CONNECT in state"):
        made().connect(host="h")


@each_version
def test_frames_have_the_headers_that_the_calls_name(version: Version) -> None:
    protocol = connected(version)

    def said(data: bytes) -> tuple[str, dict[str, str], bytes]:
        frame = read(data, version)
        return frame.command, frame.headers, frame.body

    assert said(protocol.send("/x", b"hi", {"a": "b"})) == (
        "SEND",
        {"destination": "/x", "a": "b", "content-length": "2"},
        b"hi",
    )
    assert said(protocol.subscribe("1", "/x", ack="client", headers={"receipt": "r"})) == (
        "SUBSCRIBE",
        {"id": "1", "destination": "/x", "ack": "client", "receipt": "r"},
        b"",
    )
    assert protocol.subscriptions == {"1": "/x"}
    assert said(protocol.unsubscribe("1")) == ("UNSUBSCRIBE", {"id": "1"}, b"")
    assert protocol.subscriptions == {}
    assert said(protocol.begin("t")) == ("BEGIN", {"transaction": "t"}, b"")
    assert protocol.transactions == {"t"}
    assert said(protocol.commit("t")) == ("COMMIT", {"transaction": "t"}, b"")
    assert protocol.transactions == set()
    assert said(protocol.disconnect("bye")) == ("DISCONNECT", {"receipt": "bye"}, b"")


@pytest.mark.parametrize(
    ("version", "own"),
    [
        (V1_0, {"message-id": "m", "subscription": "1"}),
        (V1_1, {"message-id": "m", "subscription": "1"}),
        (V1_2, {"id": "a"}),
    ],
)
def test_ack_and_nack_name_the_message_as_the_version_does(version: Version, own: dict[str, str]) -> None:
    protocol = connected(version)
    protocol.subscribe("1", "/x", ack="client")
    assert read(protocol.ack(ACKABLE), version).headers == own
    if version is not V1_0:
        assert read(protocol.nack(ACKABLE), version).headers == own


ILLEGAL: list[tuple[str, tuple[Version, ...], Move]] = [
    ("no subscription '2'", ALL, lambda it: it.unsubscribe("2")),
    ("subscription '1' exists", ALL, lambda it: it.subscribe("1", "/y")),
    ("ack 'bogus', expected one of auto, client", ALL, lambda it: it.subscribe("2", "/y", ack="bogus")),
    ("ack ''", ALL, lambda it: it.subscribe("2", "/y", headers={"ack": ""})),
    ("ack 'client-individual'", (V1_0,), lambda it: it.subscribe("2", "/y", ack="client-individual")),
    ("transaction 't' has begun", ALL, lambda it: it.begin("t")),
    ("no transaction 'u'", ALL, lambda it: it.commit("u")),
    ("no transaction 'u'", ALL, lambda it: it.abort("u")),
    ("no transaction 'u'", ALL, lambda it: it.send("/x", headers={"transaction": "u"})),
    ("no transaction 'u'", ALL, lambda it: it.ack(ACKABLE, headers={"transaction": "u"})),
    ("there is no NACK", (V1_0,), lambda it: it.nack(ACKABLE)),
    ("ACK for subscription 'auto' to '/x', which acknowledges by itself", ALL, lambda it: it.ack(of("auto"))),
    ("NACK for subscription 'auto'", (V1_1, V1_2), lambda it: it.nack(of("auto"))),
    ("ACK for subscription '2', which there is not any more", ALL, lambda it: it.ack(of("2"))),
    ("NACK for subscription '2'", (V1_1, V1_2), lambda it: it.nack(of("2"))),
    ("no 'ack' header", (V1_2,), lambda it: it.ack(Frame("MESSAGE", {"message-id": "m"}))),
    ("no 'subscription' header", (V1_1,), lambda it: it.nack(Frame("MESSAGE", {"message-id": "m"}))),
    ("no 'message-id' header", (V1_0, V1_1), lambda it: it.ack(Frame("MESSAGE", {"ack": "a"}))),
    ("destination '/y' in the headers", ALL, lambda it: it.send("/x", headers={"destination": "/y"})),
    ("id '3' in the headers", ALL, lambda it: it.subscribe("2", "/x", headers={"id": "3"})),
    ("transaction 'w' in", ALL, lambda it: it.begin("v", headers={"transaction": "w"})),
    ("x", (V1_0,), lambda it: it.send("/x", headers={"x": "two\nlines"})),
    ("NUL", ALL, lambda it: it.subscribe("2", "a\0b")),
    ("receipt", (V1_0,), lambda it: it.disconnect("two\nlines")),
]


@pytest.mark.parametrize(
    ("message", "version", "move"),
    [(message, version, move) for message, versions, move in ILLEGAL for version in versions],
)
def test_an_illegal_move_of_ours_is_refused_and_changes_nothing(
    message: str, version: Version, move: Move
) -> None:
    protocol = connected(version)
    protocol.subscribe("1", "/x", ack="client")
    protocol.subscribe("auto", "/x")
    protocol.begin("t")
    with pytest.raises(LocalProtocolError, match=message):
        move(protocol)
    assert protocol.state is State.CONNECTED
    assert protocol.subscriptions == {"1": "/x", "auto": "/x"}
    assert protocol.transactions == {"t"}


@each_version
def test_a_message_without_its_subscription_is_acknowledged_in_1_0_only(version: Version) -> None:
    protocol = connected(version)
    protocol.subscribe("1", "/x", ack="client")
    bare = Frame("MESSAGE", {"destination": "/x", "message-id": "m"})
    if version is V1_0:
        assert read(protocol.ack(bare), version).headers == {"message-id": "m"}
    else:
        with pytest.raises(LocalProtocolError, match="cannot be acknowledged"):
            protocol.ack(bare)


def test_after_unsubscribing_the_id_is_anew_what_its_next_subscribe_says() -> None:
    protocol = connected()
    protocol.subscribe("1", "/x", ack="client")
    protocol.unsubscribe("1")
    with pytest.raises(LocalProtocolError, match="not any more"):
        protocol.ack(ACKABLE)
    protocol.subscribe("1", "/y")
    with pytest.raises(LocalProtocolError, match="to '/y', which acknowledges by itself"):
        protocol.ack(ACKABLE)


def test_an_ack_mode_among_the_headers_is_as_good_as_the_argument() -> None:
    frame = read(connected().subscribe("1", "/x", headers={"ack": "client"}))
    assert frame.headers["ack"] == "client"


# Both machines.


def pair(version: Version) -> tuple[ClientProtocol, ServerProtocol]:
    ours = client(HeartBeat(1.0, 4.0))
    theirs = ServerProtocol(limits_before=Limits(), limits=Limits(), heart_beat=HeartBeat(3.0, 2.0))
    data = ours.connect(host="h", login="a:b", headers={"accept-version": version.value})
    [connect] = fed(theirs, data)
    assert connect.headers["login"] == "a:b"
    [welcome] = fed(ours, theirs.accept(session="s1", user_name="a:b\\c"))
    assert welcome.headers["user-name"] == "a:b\\c"
    return ours, theirs


@each_version
def test_both_machines_agree_on_version_session_and_heart_beat(version: Version) -> None:
    ours, theirs = pair(version)
    assert ours.version is theirs.version is version
    assert ours.session == "s1"
    assert ours.server == "trio-stomp"
    assert ours.heart_beat == HeartBeat(theirs.heart_beat.receive, theirs.heart_beat.send)
    assert ours.heart_beat == (HeartBeat(0.0, 0.0) if version is V1_0 else HeartBeat(2.0, 4.0))


@each_version
@in_any_pieces
def test_every_move_of_the_client_is_legal_for_the_server_row79(version: Version, cut: Cut) -> None:
    ours, theirs = pair(version)
    moves = [
        ours.send("/a:b\\c", b"\0\n\xff", {"x": "ä", "receipt": "r:1"}),
        ours.subscribe("1", "/x", ack="client"),
        ours.subscribe("2", "/x"),
        ours.begin("t"),
        ours.send("/x", b"hi", {"transaction": "t"}),
        ours.ack(ACKABLE, headers={"transaction": "t"}),
        *([] if version is V1_0 else [ours.nack(ACKABLE)]),
        ours.commit("t"),
        ours.begin("t"),
        ours.abort("t"),
        ours.unsubscribe("1"),
    ]
    frames = fed(theirs, b"\n".join(moves), cut)
    assert len(frames) == len(moves)
    assert frames[0].body == b"\0\n\xff"
    assert frames[0].headers["destination"] == "/a:b\\c"
    assert theirs.subscriptions == ours.subscriptions == {"2": "/x"}
    assert theirs.transactions == ours.transactions == set()
    [receipt] = fed(ours, theirs.receipt(frames[0].headers["receipt"]), cut)
    assert receipt.headers["receipt-id"] == "r:1"
    [last] = fed(theirs, ours.disconnect("bye"), cut)
    assert (last.command, theirs.is_closed) == ("DISCONNECT", True)
    assert len(fed(ours, theirs.receipt("bye"), cut)) == 1


@each_version
def test_what_the_server_refuses_ends_both_row85(version: Version) -> None:
    ours, theirs = pair(version)
    with pytest.raises(RemoteProtocolError) as caught:
        fed(theirs, raw("SEND receipt:r"))
    error = caught.value
    [frame] = fed(ours, theirs.error(error.message, receipt_id="r"))
    assert frame.headers["message"] == error.message
    assert frame.headers["receipt-id"] == "r"
    assert ours.is_closed
    assert theirs.is_closed


# Whatever comes.


@given(
    st.sampled_from(ALL),
    st.lists(
        st.sampled_from(
            [raw(MESSAGE, b"hi"), raw("RECEIPT receipt-id:1"), raw("ERROR"), raw("CONNECTED"), b"\n"]
        )
        | st.binary(max_size=20),
        max_size=10,
    ).map(b"".join),
)
def test_any_bytes_after_connected_give_frames_or_a_refusal(version: Version, data: bytes) -> None:
    protocol = connected(version)
    frames: list[Frame] = []
    protocol.receive_data(data)
    try:
        while (frame := protocol.next_frame()) is not None:
            frames.append(frame)
    except RemoteProtocolError:
        with pytest.raises(RemoteProtocolError):
            protocol.next_frame()
    assert {frame.command for frame in frames} <= {"MESSAGE", "RECEIPT", "ERROR"}
    assert "ERROR" not in [frame.command for frame in frames[:-1]]
