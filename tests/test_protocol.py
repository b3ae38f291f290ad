"""The server's state machine: what a client may send, when, and with which headers; what it is answered."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pieces import Cut, drained, fed, in_any_pieces, kept, raw, read, whole

from trio_stomp.errors import LocalProtocolError, RemoteProtocolError
from trio_stomp.stomp.frames import Frame, Limits, Version, encode
from trio_stomp.stomp.protocol import HeartBeat, ServerProtocol, State, read_heart_beat, subscription_key

V1_0, V1_1, V1_2 = Version
ALL = (V1_0, V1_1, V1_2)
LATER = (V1_1, V1_2)

LIMITS = Limits(header_line=4096, headers=16, body=1000)
LIMITS_BEFORE = Limits(header_line=200, headers=8, body=100)
TRAILING = b"\n\n"


def server(**changes: object) -> ServerProtocol:
    settings: dict[str, object] = {
        "limits_before": LIMITS_BEFORE,
        "limits": LIMITS,
        "max_subscriptions": 4,
        "server_name": "trio-stomp/0",
    }
    return ServerProtocol(**(settings | changes))  # type: ignore[arg-type]


def connected(version: Version = V1_2, **changes: object) -> ServerProtocol:
    protocol = server(**changes)
    fed(protocol, raw(f"CONNECT accept-version:{version.value} host:h"))
    protocol.accept(session="s")
    assert protocol.version is version
    return protocol


def refusal(protocol: ServerProtocol, data: bytes, cut: Cut = whole) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        fed(protocol, data, cut)
    return caught.value


# Connecting.


@attrs.frozen
class Offer:
    """A CONNECT's headers and the version that comes of it."""

    headers: str
    version: Version


@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
@pytest.mark.parametrize(
    "offer",
    [
        Offer("", V1_0),
        Offer(" host:h", V1_0),
        Offer(" accept-version:1.0", V1_0),
        Offer(" accept-version:1.1 host:h", V1_1),
        Offer(" accept-version:1.2 host:h", V1_2),
        Offer(" accept-version:1.0,1.1,1.2 host:h", V1_2),
        Offer(" accept-version:1.2,1.0", V1_2),
        Offer(" accept-version:1.0,1.1,2.0", V1_1),
        Offer(" accept-version:1.1,9.9", V1_1),
        Offer(" accept-version:1.2", V1_2),  # without host
        Offer(" accept-version:1.2 host:elsewhere", V1_2),
    ],
    ids=lambda offer: offer.headers,
)
@in_any_pieces
def test_the_highest_common_version_is_agreed_on_row25_row26_row27_row30(
    offer: Offer, command: str, cut: Cut
) -> None:
    protocol = server()
    assert protocol.version is V1_2
    [frame] = fed(protocol, raw(command + offer.headers) + TRAILING, cut)
    assert frame.command == command
    assert protocol.version is offer.version
    assert protocol.state is State.CONNECTING
    assert not protocol.is_closed


def test_blanks_after_the_commas_of_accept_version_are_forgiven() -> None:
    protocol = server()
    fed(protocol, b"CONNECT\naccept-version:1.0, 1.1\nhost:h\n\n\0")
    assert protocol.version is V1_1


@pytest.mark.parametrize("offered", ["9.9", "", "1", "1.20", "1.3,2.0", "v1.2"])
@in_any_pieces
def test_no_common_version_is_refused_with_the_list_of_ours_row28(offered: str, cut: Cut) -> None:
    protocol = server()
    error = refusal(protocol, raw(f"CONNECT accept-version:{offered} host:h"), cut)
    assert error.close_code == 1002
    said = read(protocol.error(error.message, headers=error.headers))
    assert said.command == "ERROR"
    assert said.headers["version"] == "1.0,1.1,1.2"
    assert b"\\" not in protocol.error(error.message)  # a client of 1.0 would show the escapes


@pytest.mark.parametrize(
    "text",
    [
        "SEND destination:/x",
        "SUBSCRIBE destination:/x id:1",
        "UNSUBSCRIBE id:1",
        "ACK id:1",
        "NACK id:1",
        "BEGIN transaction:t",
        "COMMIT transaction:t",
        "ABORT transaction:t",
        "DISCONNECT",
        "DISCONNECT receipt:1",
    ],
)
@in_any_pieces
def test_a_frame_before_connect_is_refused_row34(text: str, cut: Cut) -> None:
    protocol = server()
    error = refusal(protocol, raw(text), cut)
    assert error.message == f"{text.split()[0]} before CONNECT"
    assert error.close_code == 1002
    assert error.frame is not None
    assert error.frame.command == text.split()[0]
    assert protocol.is_closed


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
@in_any_pieces
def test_a_second_connect_is_refused_row34(command: str, version: Version, cut: Cut) -> None:
    error = refusal(connected(version), raw(f"{command} accept-version:1.2 host:h"), cut)
    assert error.message == "a second CONNECT"


@pytest.mark.parametrize("command", ["CONNECTED", "MESSAGE", "RECEIPT", "ERROR"])
@pytest.mark.parametrize("is_connected", [False, True])
@in_any_pieces
def test_a_frame_that_only_servers_send_is_refused(command: str, is_connected: bool, cut: Cut) -> None:
    error = refusal(connected() if is_connected else server(), raw(f"{command} receipt-id:1"), cut)
    assert error.message == f"{command} is for servers to send"
    assert error.frame is not None


@pytest.mark.parametrize("version", LATER)
def test_connect_with_a_body_is_refused_row17(version: Version) -> None:
    error = refusal(server(), raw(f"CONNECT accept-version:{version.value} host:h", b"body"))
    assert "has no body" in error.message


def test_the_body_of_a_connect_of_1_0_is_ignored() -> None:
    [frame] = fed(server(), raw("CONNECT login:a", b"\n"))
    assert frame.body == b""


def test_a_receipt_that_connect_asks_for_is_not_given_out_row35() -> None:
    [frame] = fed(server(), raw("CONNECT accept-version:1.2 host:h receipt:1"))
    assert "receipt" not in frame.headers


def test_connect_is_not_unescaped_row14() -> None:
    [frame] = fed(server(), raw("CONNECT accept-version:1.2 host:h passcode:a\\tb:c"))
    assert frame.headers["passcode"] == "a\\tb:c"


@in_any_pieces
def test_what_follows_connect_waits_for_accept_and_has_the_version_agreed_on_row22(cut: Cut) -> None:
    protocol = server()
    data = raw("CONNECT accept-version:1.0") + raw("SEND destination:a\\cb:c") + raw("DISCONNECT")
    assert [frame.command for frame in fed(protocol, data, cut)] == ["CONNECT"]
    assert protocol.next_frame() is None
    protocol.accept(session="s")
    send, disconnect = drained(protocol)
    assert send.headers["destination"] == "a\\cb:c"
    assert disconnect.command == "DISCONNECT"


def test_what_follows_connect_is_not_given_out_when_it_is_refused_row29() -> None:
    protocol = server()
    fed(protocol, raw("CONNECT accept-version:1.2 host:h") + raw("SEND destination:/x"))
    protocol.error("access refused")
    assert protocol.is_closed
    assert drained(protocol) == []
    with pytest.raises(LocalProtocolError):
        protocol.accept(session="s")


def test_limits_are_smaller_before_connected_row18() -> None:
    assert refusal(server(), b"CONNECT\nlogin:" + b"x" * 300).close_code == 1009
    protocol = connected()
    [frame] = fed(protocol, raw("SEND destination:/x long:" + "x" * 300, b"x" * 900))
    assert len(frame.body) == 900
    error = refusal(protocol, raw("SEND destination:/x", b"x" * 1001))
    assert (error.close_code, error.limit) == (1009, "stomp.body")


@pytest.mark.parametrize("version", LATER)
def test_connected_says_version_session_server_and_heart_beat_row24_row31(version: Version) -> None:
    protocol = server(heart_beat=HeartBeat(1.5, 20.0))
    fed(protocol, raw(f"CONNECT accept-version:{version.value} host:h"))
    said = read(protocol.accept(session="abc", user_name="ada", headers={"x": "y"}), version)
    assert said.command == "CONNECTED"
    assert said.headers == {
        "version": version.value,
        "session": "abc",
        "server": "trio-stomp/0",
        "heart-beat": "1500,20000",
        "user-name": "ada",
        "x": "y",
    }


def test_connected_of_1_0_says_neither_version_nor_heart_beat_row32() -> None:
    protocol = server()
    fed(protocol, raw("CONNECT login:a"))
    assert read(protocol.accept(session="abc")).headers == {"session": "abc", "server": "trio-stomp/0"}


@pytest.mark.parametrize("name", ["a:b\\c", "a\nb\0", "\ud800", "ä☃", "a\rb", "a\r"])
def test_connected_is_well_formed_whatever_the_user_is_called_row14(name: str) -> None:
    protocol = server()
    fed(protocol, raw("CONNECT accept-version:1.2 host:h"))
    said = read(protocol.accept(session="s", user_name=name)).headers["user-name"]
    assert said == re.sub("[\n\r\0]", " ", name).replace("\ud800", "?")


def test_accept_needs_a_connect() -> None:
    with pytest.raises(LocalProtocolError, match="AWAITING_CONNECT"):
        server().accept(session="s")
    with pytest.raises(LocalProtocolError, match="CONNECTED"):
        connected().accept(session="s")


# Heart-beats.


@pytest.mark.parametrize("version", LATER)
@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        ((10, 10), "", (0, 0)),
        ((10, 10), "0,0", (0, 0)),
        ((10, 10), "5000,5000", (10, 10)),
        ((10, 10), "20000,30000", (30, 20)),
        ((10, 20), "4000,15000", (15, 20)),
        ((0, 10), "4000,15000", (0, 10)),
        ((10, 0), "4000,15000", (15, 0)),
        ((10, 10), "0,15000", (15, 0)),
        ((10, 10), "15000,0", (0, 15)),
        ((0.25, 0.5), "1,1", (0.25, 0.5)),
        ((10, 10), "1500,2500", (10, 10)),
        ((1, 1), "1500,2500", (2.5, 1.5)),
        ((0, 0), "1500,2500", (0, 0)),
    ],
)
def test_a_heart_beat_is_the_slower_of_what_one_can_and_the_other_wants_row37_row42(
    version: Version, ours: tuple[float, float], theirs: str, agreed: tuple[float, float]
) -> None:
    protocol = server(heart_beat=HeartBeat(*ours))
    header = f" heart-beat:{theirs}" if theirs else ""
    fed(protocol, raw(f"CONNECT accept-version:{version.value} host:h{header}"))
    assert protocol.heart_beat == HeartBeat(*agreed)


@pytest.mark.parametrize(
    "text", ["x", "1", "-1,0", "1,2,3", "1,", ",1", "", "1.5,0", "+1,0", "1_0,0", "٣,0", "9" * 11 + ",0"]
)
@in_any_pieces
def test_a_heart_beat_that_is_not_two_numbers_is_refused_row38(text: str, cut: Cut) -> None:
    error = refusal(server(), raw(f"CONNECT accept-version:1.1,1.2 host:h heart-beat:{text}"), cut)
    assert "heart-beat" in error.message
    assert error.frame is not None


def test_there_are_no_heart_beats_in_1_0() -> None:
    for header in ("1000,1000", "nonsense"):
        protocol = server()
        fed(protocol, raw(f"CONNECT heart-beat:{header}"))
        assert protocol.heart_beat == HeartBeat(0.0, 0.0)


def test_line_ends_between_frames_are_no_frames_row3_row41() -> None:
    protocol = connected()
    assert fed(protocol, b"\n\r\n\n") == []
    assert len(fed(protocol, b"\n" + raw("SEND destination:/x") + b"\n\n" + raw("DISCONNECT"))) == 2


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_header_says_milliseconds_and_is_read_back(send: int, receive: int) -> None:
    beat = HeartBeat(send / 1000, receive / 1000)
    assert beat.header() == f"{send},{receive}"
    assert read_heart_beat(Frame("CONNECT", {"heart-beat": beat.header()})) == beat


# What is legal once connected.


@attrs.frozen
class Case:
    """Frames that a connected client sends; the last one is what the case is about."""

    texts: str
    versions: tuple[Version, ...] = ALL
    message: str = ""
    close_code: int = 1002
    body: bytes = b""
    row: str = ""
    """Of CONFORMANCE.md."""

    @property
    def name(self) -> str:
        body = f" {self.body!r}" if self.body else ""
        return f"row{self.row} {self.texts}{body}" if self.row else f"{self.texts}{body}"

    @property
    def data(self) -> bytes:
        *before, last = self.texts.split(" | ")
        return b"".join(raw(text) for text in before) + raw(last, self.body)

    @property
    def commands(self) -> list[str]:
        return [text.split(" ")[0] for text in self.texts.split(" | ")]


def each_version(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("case", "version"),
        [
            pytest.param(case, version, id=f"{case.name} {version.value}")
            for case in cases
            for version in case.versions
        ],
    )


SUB = "SUBSCRIBE id:1 destination:/x"

LEGAL = [
    Case("SEND destination:/x", row="43"),
    Case("SEND destination:/x", body=b"hello", row="43"),
    Case("SEND destination:", row="43"),  # what a destination may look like is not for this machine to say
    Case("SEND destination:/x receipt:r content-type:text/plain", body=b"hello", row="78"),
    Case("BEGIN transaction:t | SEND destination:/x transaction:t", row="76"),
    Case("BEGIN transaction:t | COMMIT transaction:t | BEGIN transaction:t | ABORT transaction:t", row="73"),
    Case("BEGIN transaction:t | BEGIN transaction:T | COMMIT transaction:t | ABORT transaction:T", row="73"),
    Case(SUB, row="53"),
    Case(f"{SUB} ack:auto", row="56"),
    Case(f"{SUB} ack:client", row="56"),
    Case(f"{SUB} ack:client-individual", LATER, row="56"),
    Case(f"{SUB} | SUBSCRIBE id:2 destination:/x", row="58"),
    Case(f"{SUB} | UNSUBSCRIBE id:1", row="60"),
    Case(f"{SUB} | UNSUBSCRIBE id:1 | {SUB}", row="55"),
    Case("SUBSCRIBE destination:/x", (V1_0,), row="59"),
    Case("SUBSCRIBE destination:/x | UNSUBSCRIBE destination:/x", (V1_0,), row="59"),
    Case(
        "SUBSCRIBE destination:/x | UNSUBSCRIBE destination:/x | SUBSCRIBE destination:/x", (V1_0,), row="59"
    ),
    Case(
        f"SUBSCRIBE destination:/x | {SUB} | UNSUBSCRIBE id:1 | UNSUBSCRIBE destination:/x", (V1_0,), row="59"
    ),
    Case(f"SUBSCRIBE destination:1 | {SUB}", (V1_0,), row="59"),  # a destination is never taken for an id
    Case("SUBSCRIBE destination:/x", (V1_0,), body=b"ignored", row="17"),
    Case("DISCONNECT", (V1_0,), body=b"\n", row="17"),
    Case("ACK message-id:m", (V1_0,), row="67"),
    Case("ACK message-id:m subscription:1", (V1_0, V1_1), row="66"),
    Case("NACK message-id:m subscription:1", (V1_1,), row="66"),
    Case("ACK id:a", (V1_2,), row="65"),
    Case("NACK id:a", (V1_2,), row="65"),
    Case("BEGIN transaction:t | ACK message-id:m transaction:t", (V1_0,), row="70"),
    Case("BEGIN transaction:t | ACK message-id:m subscription:1 transaction:t", (V1_1,), row="70"),
    Case("BEGIN transaction:t | ACK id:a transaction:t | NACK id:b transaction:t", (V1_2,), row="70"),
    Case("DISCONNECT"),
    Case("DISCONNECT receipt:bye", row="88"),
    Case("BEGIN transaction:t | DISCONNECT receipt:bye", row="88"),
]


@each_version(LEGAL)
@in_any_pieces
def test_a_legal_frame_is_given_out(case: Case, version: Version, cut: Cut) -> None:
    protocol = connected(version)
    frames = fed(protocol, case.data + TRAILING, cut)
    assert [frame.command for frame in frames] == case.commands
    expected = case.body if case.commands[-1] == "SEND" else b""
    assert frames[-1].body == expected
    assert protocol.is_closed == (case.commands[-1] == "DISCONNECT")


REFUSED = [
    Case("SEND", message="SEND has no 'destination' header", row="43"),
    Case("SEND Destination:/x", message="no 'destination'", row="7"),
    Case("SEND destination:/x transaction:t", message="there is no transaction 't'", row="76"),
    Case(
        "BEGIN transaction:t | COMMIT transaction:t | SEND destination:/x transaction:t",
        message="'t'",
        row="76",
    ),
    Case("SUBSCRIBE id:1", message="no 'destination'", row="53"),
    Case("SUBSCRIBE destination:/x", LATER, "SUBSCRIBE has no 'id' header", row="54"),
    Case(f"{SUB} | SUBSCRIBE id:1 destination:/y", message="subscription '1' exists already", row="55"),
    Case("SUBSCRIBE destination:/x | SUBSCRIBE destination:/x", (V1_0,), "'/x' exists already", row="59"),
    Case(f"{SUB} ack:bogus", message="ack 'bogus', expected one of auto, client", row="56"),
    Case(f"{SUB} ack:", message="ack ''", row="56"),
    Case(f"{SUB} ack:AUTO", message="ack 'AUTO'", row="56"),
    Case(
        f"{SUB} ack:client-individual",
        (V1_0,),
        "ack 'client-individual', expected one of auto, client",
        row="56",
    ),
    Case(
        " | ".join(f"SUBSCRIBE id:{n} destination:/x" for n in range(5)),
        message="more than 4 subscriptions",
        close_code=1008,
    ),
    Case("UNSUBSCRIBE", LATER, "UNSUBSCRIBE has no 'id' header", row="60"),
    Case("UNSUBSCRIBE", (V1_0,), "neither 'id' nor 'destination'", row="59"),
    Case(f"{SUB} | UNSUBSCRIBE destination:/x", LATER, "no 'id'", row="60"),
    Case("UNSUBSCRIBE id:1", message="there is no subscription '1'", row="60"),
    Case("UNSUBSCRIBE destination:/x", (V1_0,), "there is no subscription '/x'", row="59"),
    Case(f"{SUB} | UNSUBSCRIBE id:1 | UNSUBSCRIBE id:1", message="there is no subscription '1'", row="60"),
    Case(f"{SUB} | UNSUBSCRIBE id:2", message="there is no subscription '2'", row="60"),
    Case("ACK", (V1_0,), "no 'message-id'", row="67"),
    Case("ACK subscription:1", (V1_1,), "no 'message-id'", row="66"),
    Case("ACK message-id:m", (V1_1,), "no 'subscription'", row="66"),
    Case("NACK message-id:m", (V1_1,), "no 'subscription'", row="66"),
    Case("NACK subscription:1", (V1_1,), "no 'message-id'", row="66"),
    Case("ACK id:a", (V1_0, V1_1), "no 'message-id'", row="66"),
    Case("ACK message-id:m subscription:1", (V1_2,), "ACK has no 'id' header", row="65"),
    Case("NACK message-id:m subscription:1", (V1_2,), "NACK has no 'id' header", row="65"),
    Case("NACK message-id:m", (V1_0,), "there is no NACK in STOMP 1.0", row="67"),
    Case("ACK message-id:m transaction:t", (V1_0,), "no transaction 't'", row="76"),
    Case("NACK message-id:m subscription:1 transaction:t", (V1_1,), "no transaction 't'", row="76"),
    Case("ACK id:a transaction:t", (V1_2,), "no transaction 't'", row="76"),
    Case("BEGIN", message="BEGIN has no 'transaction' header", row="72"),
    Case("COMMIT", message="COMMIT has no 'transaction' header", row="72"),
    Case("ABORT", message="ABORT has no 'transaction' header", row="72"),
    Case("BEGIN transaction:t | BEGIN transaction:t", message="transaction 't' has begun already", row="73"),
    Case("COMMIT transaction:t", message="there is no transaction 't'", row="76"),
    Case("ABORT transaction:t", message="there is no transaction 't'", row="76"),
    Case(
        "BEGIN transaction:t | ABORT transaction:t | COMMIT transaction:t",
        message="no transaction 't'",
        row="76",
    ),
    Case("SUBSCRIBE id:1 destination:/x", LATER, "a SUBSCRIBE frame has no body", body=b"x", row="17"),
    Case(f"{SUB} | UNSUBSCRIBE id:1", LATER, "an? UNSUBSCRIBE frame has no body", body=b"x", row="17"),
    Case("BEGIN transaction:t", LATER, "has no body", body=b"x", row="17"),
    Case("DISCONNECT", LATER, "has no body", body=b"\n", row="17"),
    Case("send destination:/x", message="unknown command 's", row="7"),
    Case("PUBLISH destination:/x", message="unknown command 'P", row="86"),
]


@each_version(REFUSED)
@in_any_pieces
def test_an_illegal_frame_is_refused(case: Case, version: Version, cut: Cut) -> None:
    protocol = connected(version)
    with pytest.raises(RemoteProtocolError, match=case.message) as caught:
        fed(protocol, case.data + TRAILING + raw("SEND destination:/later"), cut)
    error = caught.value
    assert error.close_code == case.close_code
    if "unknown command" not in case.message:  # that one the decoder refuses
        assert error.frame is not None
        assert error.frame.command == case.commands[-1]
    assert protocol.is_closed


@each_version([case for case in REFUSED if "unknown command" not in case.message])
def test_the_error_frame_names_the_receipt_of_what_was_refused_row85(case: Case, version: Version) -> None:
    protocol = connected(version)
    *before, last = case.texts.split(" | ")
    data = b"".join(map(raw, before)) + raw(f"{last} receipt:r", case.body)
    error = refusal(protocol, data)
    assert error.frame is not None
    said = protocol.error(error.message, receipt_id=error.frame.headers["receipt"], headers=error.headers)
    frame = read(said, version)
    assert frame.headers["receipt-id"] == "r"
    assert frame.headers["message"] == error.message


def test_the_limit_of_subscriptions_is_named() -> None:
    protocol = connected(max_subscriptions=1)
    assert refusal(protocol, raw(SUB) + raw("SUBSCRIBE id:2 destination:/x")).limit == "stomp.subscriptions"


def test_a_refused_frame_changes_nothing() -> None:
    protocol = connected(max_subscriptions=1)
    fed(protocol, raw(SUB) + raw("BEGIN transaction:t"))
    refusal(protocol, raw("SUBSCRIBE id:2 destination:/y"))
    assert protocol.subscriptions == {"1": "/x"}
    assert protocol.transactions == {"t"}


@pytest.mark.parametrize("data", [raw("SEND"), raw("ACK"), b"nonsense\n", raw("CONNECT"), b"SEND\nx\n\n\0"])
def test_after_an_error_there_is_only_the_error_row83(data: bytes) -> None:
    protocol = connected()
    first = refusal(protocol, data)
    again = refusal(protocol, raw("SEND destination:/x"))
    assert again is first
    assert protocol.is_closed
    protocol.error(first.message)
    assert refusal(protocol, raw("SEND destination:/x")) is first


@in_any_pieces
def test_after_disconnect_nothing_is_given_out_row89(cut: Cut) -> None:
    protocol = connected()
    frames = fed(protocol, raw("DISCONNECT receipt:1") + raw("SEND destination:/x") + b"nonsense", cut)
    assert [frame.command for frame in frames] == ["DISCONNECT"]
    assert protocol.is_closed
    assert drained(protocol) == []
    assert protocol.receipt("1") == b"RECEIPT\nreceipt-id:1\n\n\0"


@pytest.mark.parametrize("last", [raw("DISCONNECT"), raw("SEND"), b"nonsense\n"])
def test_nothing_is_kept_of_what_comes_after_the_end(last: bytes) -> None:
    protocol = connected()
    with contextlib.suppress(RemoteProtocolError):
        fed(protocol, last)
    assert protocol.is_closed
    assert kept(protocol) < 50_000


def test_frames_before_the_one_that_is_refused_are_given_out_row82() -> None:
    protocol = connected()
    protocol.receive_data(raw("SEND destination:/x") + raw("SEND"))
    frame = protocol.next_frame()
    assert frame is not None
    assert frame.headers["destination"] == "/x"
    assert not protocol.is_closed
    with pytest.raises(RemoteProtocolError):
        protocol.next_frame()


# What it keeps.


def test_subscriptions_are_kept_by_id_until_unsubscribe() -> None:
    protocol = connected()
    fed(protocol, raw(SUB) + raw("SUBSCRIBE id:2 destination:/y"))
    assert protocol.subscriptions == {"1": "/x", "2": "/y"}
    fed(protocol, raw("UNSUBSCRIBE id:1"))
    assert protocol.subscriptions == {"2": "/y"}


def test_a_subscription_without_id_is_kept_by_a_key_no_id_can_be_row59() -> None:
    protocol = connected(V1_0)
    fed(protocol, raw("SUBSCRIBE destination:/x") + raw("SUBSCRIBE destination:/y id:/x"))
    assert protocol.subscriptions == {"\0/x": "/x", "/x": "/y"}


@pytest.mark.parametrize(
    ("headers", "version", "key"),
    [
        ({"id": "1", "destination": "/x"}, V1_2, "1"),
        ({"id": "1", "destination": "/x"}, V1_0, "1"),
        ({"id": "", "destination": "/x"}, V1_2, ""),
        ({"id": "", "destination": "/x"}, V1_0, ""),
        ({"destination": "/x"}, V1_0, "\0/x"),
    ],
)
def test_subscription_key_is_the_id_or_for_1_0_the_destination_row59(
    headers: dict[str, str], version: Version, key: str
) -> None:
    assert subscription_key(Frame("SUBSCRIBE", headers), version) == key


def test_transactions_are_kept_until_they_end_row73() -> None:
    protocol = connected()
    fed(protocol, raw("BEGIN transaction:a") + raw("BEGIN transaction:b") + raw("BEGIN transaction:c"))
    fed(protocol, raw("COMMIT transaction:a") + raw("ABORT transaction:b"))
    assert protocol.transactions == {"c"}


def test_headers_and_body_are_given_out_as_they_are_row44() -> None:
    [frame] = fed(connected(), raw("SEND destination:/x X-y_Z:1 X-y_Z:2 a\\cb:c\\nd", b"\n\xff\x01"))
    assert frame.headers == {"destination": "/x", "X-y_Z": "1", "a:b": "c\nd"}
    assert frame.body == b"\n\xff\x01"


# What it says.

AWKWARD = ["plain", "a:b\\c", "two\nlines", "cr\r", "nul\0", "ä☃", "\ud800", "", " padded ", "\x01\x1b"]


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("message", AWKWARD)
def test_error_is_well_formed_whatever_it_quotes_row20_row84_row87(version: Version, message: str) -> None:
    protocol = connected(version)
    said = protocol.error(message, receipt_id="r:1", headers={"version": "1.2"}, body=message)
    frame = read(said, version)
    assert frame.command == "ERROR"
    assert frame.headers["receipt-id"] == "r:1"
    assert frame.headers["version"] == "1.2"
    shown = message.replace("\0", " ").replace("\ud800", "?")
    assert frame.headers["message"] == (shown.replace("\n", " ") if version is V1_0 else shown)
    assert frame.body == message.encode("utf-8", "replace")
    if message:
        assert frame.headers["content-type"] == "text/plain;charset=utf-8"
        assert int(frame.headers["content-length"]) == len(frame.body)
    assert protocol.is_closed


def test_error_can_be_said_in_every_state() -> None:
    connecting = server()
    fed(connecting, raw("CONNECT accept-version:1.1 host:h"))
    failed = connected()
    refusal(failed, b"nonsense\n")
    left = connected()
    fed(left, raw("DISCONNECT"))
    for protocol in (server(), connecting, connected(), failed, left):
        for _ in range(2):
            assert read(protocol.error("sorry")).headers == {"message": "sorry"}
            assert protocol.is_closed


@pytest.mark.parametrize(
    "text", ["COMMIT transaction:", "UNSUBSCRIBE id:", "SUBSCRIBE id:1 destination:/x ack:"]
)
def test_an_error_repeats_little_of_a_long_header(text: str) -> None:
    error = refusal(connected(), raw(text + "\\\\" * 1500))
    assert len(error.message) < 250


@pytest.mark.parametrize(
    ("version", "receipt", "on_the_wire"),
    [
        (V1_2, "a\\cb\\\\c\\r\\n", b"a\\cb\\\\c\\r\\n"),
        (V1_1, "a\\cb\\\\c\\n", b"a\\cb\\\\c\\n"),
        (V1_0, "a:b\\c", b"a:b\\c"),
        (V1_2, "ä", "ä".encode()),
    ],
)
def test_a_receipt_id_is_escaped_again_row79_row81(
    version: Version, receipt: str, on_the_wire: bytes
) -> None:
    protocol = connected(version)
    [frame] = fed(protocol, raw(f"SEND destination:/x receipt:{receipt}"))
    assert protocol.receipt(frame.headers["receipt"]) == b"RECEIPT\nreceipt-id:" + on_the_wire + b"\n\n\0"


# Whatever comes.

fragments = st.sampled_from(
    [
        raw("SEND destination:/x"),
        raw("SEND destination:/x", b"body"),
        raw(SUB),
        raw("UNSUBSCRIBE id:1"),
        raw("BEGIN transaction:t"),
        raw("COMMIT transaction:t"),
        raw("ACK id:1"),
        raw("DISCONNECT"),
        raw("CONNECT"),
        b"SEND\ncontent-length:3\ndestination:a\\c\r\n\r\n",
        b"\n",
        b"\r",
        b"\0",
        b":",
        b"\\",
    ]
)
streams = st.lists(fragments | st.binary(max_size=20), max_size=12).map(b"".join)


def outcome(protocol: ServerProtocol, data: bytes, sizes: list[int]) -> tuple[list[Frame], str | None]:
    """The frames, and the error's text if there was one; any other exception is the test's failure."""
    frames: list[Frame] = []
    at = 0
    try:
        for size in [*sizes, len(data)]:
            protocol.receive_data(data[at : at + size])
            at += size
            while (frame := protocol.next_frame()) is not None:
                frames.append(frame)
    except RemoteProtocolError as error:
        return frames, error.message
    return frames, None


@given(st.sampled_from(ALL), streams, st.lists(st.integers(1, 9), max_size=60))
def test_any_bytes_after_connect_give_frames_or_a_refusal_the_same_in_any_pieces(
    version: Version, data: bytes, sizes: list[int]
) -> None:
    frames, problem = outcome(connected(version), data, [])
    again, same_problem = outcome(connected(version), data, sizes)
    assert again == frames
    assert (problem is None) == (same_problem is None)
    if problem is not None:
        assert read(connected(version).error(problem), version).command == "ERROR"


@given(streams | st.binary(max_size=200))
def test_any_bytes_before_connect_give_a_connect_or_a_refusal(data: bytes) -> None:
    frames, _ = outcome(server(), data, [])
    assert [frame.command for frame in frames] in ([], ["CONNECT"], ["STOMP"])


@given(
    st.sampled_from(ALL),
    st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=9), max_size=5),
    st.binary(max_size=50),
)
def test_what_our_encoder_can_say_is_accepted(version: Version, own: Mapping[str, str], body: bytes) -> None:
    headers = {**own, "destination": "/x"}
    headers.pop("transaction", None)
    try:
        data = encode(Frame("SEND", headers, body), version)
    except LocalProtocolError:
        return  # this version cannot say it
    [frame] = fed(connected(version), data)
    frame.headers.pop("content-length", None)
    headers.pop("content-length", None)
    assert (frame.headers, frame.body) == (headers, body)
