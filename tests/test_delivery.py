"""One message's frames: encoded once for each look, and honest in what the server vouches for."""

from __future__ import annotations

import pytest

from trio_stomp.broker.commands import Encoding, Publish
from trio_stomp.broker.delivery import RESERVED, Delivery, frame_for_one, opening
from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import Frame, Limits, Version
from trio_stomp.transport.websocket import frame_head

ALL = tuple(Version)


def no_head(length: int, is_text: bool) -> bytes:
    return b""


def frame_of(delivery: Delivery, version: Version = Version.V1_2, subscription: str | None = "1") -> Frame:
    made = delivery.look(Encoding(version, no_head)).frame(opening(subscription, version))
    decoder = FrameDecoder(Limits(), version)
    decoder.receive_data(made)
    frame = decoder.next_frame()
    assert frame is not None
    assert decoder.next_frame() is None
    return frame


@pytest.mark.parametrize("version", ALL)
def test_a_message_has_what_the_specification_wants(version: Version) -> None:
    delivery = Delivery("/topic/a", "m-1", {"content-type": "text/plain"}, b"hi")
    assert frame_of(delivery, version) == Frame(
        "MESSAGE",
        {
            "subscription": "1",
            "destination": "/topic/a",
            "message-id": "m-1",
            "content-type": "text/plain",
            "content-length": "2",
        },
        b"hi",
    )


def test_a_subscription_without_an_id_is_not_named() -> None:
    assert "subscription" not in frame_of(Delivery("/topic/a", "m-1", {}, b""), Version.V1_0, None).headers


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_reserved_header_cannot_be_forged(name: str) -> None:
    headers = frame_of(Delivery("/topic/a", "m-1", {name: "forged"}, b"hi")).headers
    assert headers.get(name) != "forged"


def test_the_senders_own_headers_are_kept() -> None:
    assert (
        frame_of(Delivery("/topic/a", "m-1", {"x-mine": "1", "priority": "9"}, b"")).headers["x-mine"] == "1"
    )


@pytest.mark.parametrize("version", [Version.V1_1, Version.V1_2])
def test_a_colon_and_a_line_feed_are_escaped(version: Version) -> None:
    delivery = Delivery("/topic/a", "m-1", {"x:y": "a:b\nc\\d"}, b"")
    assert frame_of(delivery, version).headers["x:y"] == "a:b\nc\\d"


def test_a_carriage_return_is_data_in_1_1_and_escaped_in_1_2() -> None:
    delivery = Delivery("/topic/a", "m-1", {"x": "a\rb"}, b"")
    for version in (Version.V1_1, Version.V1_2):
        assert frame_of(delivery, version).headers["x"] == "a\rb"


def test_1_0_gets_what_it_can_be_told() -> None:
    delivery = Delivery("/topic/a", "m-1", {"x:y": "lost", "z": "two\nlines", "w": "a:b"}, b"")
    headers = frame_of(delivery, Version.V1_0).headers
    assert "lost" not in headers.values()
    assert (headers["z"], headers["w"]) == ("two lines", "a:b")


@pytest.mark.parametrize("version", ALL)
def test_a_header_cannot_smuggle_in_a_second_frame(version: Version) -> None:
    evil = "x\n\n\0MESSAGE\ndestination:/topic/b\n\n"
    frame_of(Delivery("/topic/a", "m-1", {"x": evil, evil: "x"}, b""), version)  # exactly one frame


def test_a_body_may_hold_anything() -> None:
    assert frame_of(Delivery("/topic/a", "m-1", {}, b"\0\xff\n\0")).body == b"\0\xff\n\0"


@pytest.mark.parametrize(("body", "is_text"), [(b"hi", True), ("ü".encode(), True), (b"\xff", False)])
def test_the_transport_is_told_whether_it_is_text(body: bytes, is_text: bool) -> None:
    asked: list[tuple[int, bool]] = []

    def frame_head(length: int, is_text: bool) -> bytes:
        asked.append((length, is_text))
        return b"<head>"

    made = Delivery("/topic/a", "m", {}, body).look(Encoding(Version.V1_2, frame_head)).frame(b"MESSAGE\n")
    assert asked == [(len(made) - len(b"<head>"), is_text)]


def test_a_look_is_made_once_for_each_encoding_and_shares_its_tail_by_version() -> None:
    delivery = Delivery("/topic/a", "m", {}, b"hi")
    one, other = Encoding(Version.V1_2, no_head), Encoding(Version.V1_2, no_head)
    assert delivery.look(one) is delivery.look(one)
    assert delivery.look(one).tail is delivery.look(other).tail


def test_a_look_remembers_its_frames() -> None:
    look = Delivery("/topic/a", "m", {}, b"hi").look(Encoding(Version.V1_2, no_head))
    made = look.frame(b"MESSAGE\n")
    assert look.frames == {b"MESSAGE\n": made}


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(
    "value", ["plain", "a:b", "two\nlines", "back\\slash", "\r", "\0", "\ud800", "", "ü"]
)
@pytest.mark.parametrize("body", [b"", "ü".encode(), b"\xff"])
def test_what_one_alone_gets_is_what_each_of_many_would_get(
    version: Version, value: str, body: bytes
) -> None:
    headers = {"x": value, value: "x", "destination": "forged"}
    encoding, start = Encoding(version, frame_head), opening("1", version)
    many = Delivery("/topic/a", "m-1", headers, body).look(encoding).frame(start)
    assert frame_for_one(Publish("/topic/a", body, headers), "/topic/a", "m-1", start, encoding) == many
