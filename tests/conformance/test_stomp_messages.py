"""SEND, MESSAGE, SUBSCRIBE, UNSUBSCRIBE (checklist D and E)."""

from __future__ import annotations

import pytest
from talk import V1_0, V1_1, V1_2, Q, T, bodies_of, broker, each_version, join, session, since_1_1
from trio.testing import MockClock

from trio_stomp.stomp.frames import Version, encode_headers

# SEND.


@each_version
async def test_send_needs_a_destination_row43(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        assert "destination" in (await talk.refused(b"SEND\nx:y\n\nx\0")).headers["message"]


@each_version
async def test_send_user_headers_pass_unchanged_row44(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        await talk.listen()
        lines = b"Priority:4\npriority:9\nX_y-Z:\nJMSType: q\ncorrelation-id:7\nreply-to:/queue/r\n"
        await talk.write(b"SEND\ndestination:/topic/t\n" + lines + b"\nx\0")
        [message] = await talk.take(1)
        expected = dict(line.split(":", 1) for line in lines.decode().splitlines())
        assert expected.items() <= message.headers.items()


@since_1_1
async def test_send_that_fails_is_error_and_the_end_row45(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(b"SEND\ndestination:/nowhere/t\n\nx\0")


# MESSAGE.


@each_version
async def test_message_has_destination_and_unique_id_row46(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.listen(Q, "2")
        for number in range(50):
            await talk.say("SEND", destination=T if number % 2 else Q)
        found = await talk.take(50)
        assert {frame.headers["destination"] for frame in found} == {T, Q}
        assert len({frame.headers["message-id"] for frame in found}) == 50


@since_1_1
async def test_message_names_its_subscription_row46(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        await talk.listen(id="a:b")
        await talk.listen(Q, "☃")
        await talk.say("SEND", b"1", destination=T)
        await talk.say("SEND", b"2", destination=Q)
        one, two = await talk.take(2)
        assert (one.headers["subscription"], two.headers["subscription"]) == ("a:b", "☃")


@each_version
async def test_message_headers_of_the_server_cannot_be_forged_row46(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        own = b"message-id:forged\nsubscription:forged\nack:forged\nredelivered:forged\n"
        await talk.write(b"SEND\ndestination:/topic/t\n" + own + b"\nx\0")
        [message] = await talk.take(1)
        assert "forged" not in message.headers.values()


@pytest.mark.parametrize("mode", ["client", "client-individual"])
@pytest.mark.parametrize("destination", [Q, T])
async def test_message_has_an_ack_header_where_it_is_acknowledged_row47(
    destination: str, mode: str, autojump_clock: MockClock
) -> None:
    async with session() as talk:
        await talk.listen(destination, ack=mode)
        for _ in range(2):
            await talk.say("SEND", destination=destination)
        assert len({frame.headers["ack"] for frame in await talk.take(2)}) == 2


async def test_message_has_no_ack_header_in_auto_mode_row47(autojump_clock: MockClock) -> None:
    async with session() as talk:
        await talk.listen(Q, ack="auto")
        await talk.say("SEND", destination=Q, ack="forged")
        [message] = await talk.take(1)
        assert "ack" not in message.headers


@pytest.mark.parametrize("version", [V1_0, V1_1], ids=["1.0", "1.1"])
async def test_message_has_no_ack_header_before_1_2_row47(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen(Q, ack="client")
        await talk.say("SEND", destination=Q)
        [message] = await talk.take(1)
        assert "ack" not in message.headers


@pytest.mark.parametrize("destination", ["/topic/a/b", "/topic//", "/queue/a b", "/topic/é☃", "/topic/a:b"])
async def test_message_destination_is_the_one_of_send_row48_row49(
    destination: str, autojump_clock: MockClock
) -> None:
    async with session() as talk:
        await talk.listen(destination)
        await talk.say("SEND", destination=destination)
        [message] = await talk.take(1)
        assert message.headers["destination"] == destination


async def test_message_destination_is_the_one_of_send_under_a_pattern_row48(
    autojump_clock: MockClock,
) -> None:
    async with session() as talk:
        await talk.listen("/topic/*/b")
        await talk.say("SEND", destination="/topic/a/b")
        [message] = await talk.take(1)
        assert message.headers["destination"] == "/topic/a/b"


@each_version
@pytest.mark.parametrize(
    "destination", ["/topic/" + "x" * 1017, "/topic/a b\tc", "/topic/\u2603", "/topic/A"]
)
async def test_send_a_destination_is_opaque_row49(
    destination: str, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen(destination)
        await talk.say("SEND", b"other", destination="/topic/a")
        await talk.say("SEND", b"x", destination=destination)
        [message] = await talk.take(1)
        assert (message.headers["destination"], message.body) == (destination, b"x")


@each_version
async def test_message_has_neither_receipt_nor_transaction_of_its_send_row50(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.say("BEGIN", transaction="tx")
        await talk.confirmed("SEND", destination=T, transaction="tx")
        [message] = await talk.confirmed("COMMIT", transaction="tx")
        assert not {"receipt", "transaction"} & message.headers.keys()


HARD = {"a:b": "c:d", "cr": "x\ry", "lf": "x\ny", "back": "\\n\\c\\\\", "lf\nname": "v", "é": "☃"}


async def test_value_encoding_a_message_is_written_for_its_receiver_row51(
    autojump_clock: MockClock,
) -> None:
    """What a version cannot say is changed or left out; the frames after it are in step."""
    async with broker() as server:
        sender = await join(server, V1_2)
        receivers = {version: await join(server, version) for version in Version}
        for receiver in receivers.values():
            await receiver.listen()
        lines = encode_headers(HARD, V1_2)
        await sender.write(b"SEND\ndestination:/topic/t\n" + lines + b"\nhard\0")
        await sender.send_all(b"after", to=T)
        got = {}
        for version, receiver in receivers.items():
            hard, after = await receiver.take(2)
            assert (hard.body, after.body) == (b"hard", b"after")
            got[version] = {name: hard.headers.get(name) for name in HARD}
        assert got[V1_2] == HARD
        assert got[V1_1] == HARD  # a CR is data there
        assert got[V1_0]["back"] == HARD["back"]
        assert got[V1_0]["é"] == HARD["é"]
        assert got[V1_0]["lf"] == "x y"
        assert got[V1_0]["a:b"] is got[V1_0]["lf\nname"] is None


@each_version
@pytest.mark.parametrize("destination", [T, Q])
async def test_message_order_per_sender_and_destination_is_kept_row52(
    destination: str, version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        sender = await join(server, version)
        receivers = [await join(server, other) for other in (Version if destination == T else [version])]
        for receiver in receivers:
            await receiver.listen(destination)
        bodies = [b"%d" % number for number in range(500)]
        await sender.send_all(*bodies, to=destination)
        for receiver in receivers:
            assert bodies_of(await receiver.take(500)) == bodies


# SUBSCRIBE.


@each_version
async def test_subscribe_needs_a_destination_row53(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        await talk.refused(b"SUBSCRIBE\nid:1\n\n\0")


@since_1_1
async def test_subscribe_needs_an_id_row54(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        assert "'id'" in (await talk.refused(b"SUBSCRIBE\ndestination:/topic/t\n\n\0")).headers["message"]


@each_version
@pytest.mark.parametrize("destination", [b"/topic/t", b"/topic/u"])
async def test_subscribe_an_id_in_use_is_refused_row55(
    destination: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.refused(b"SUBSCRIBE\nid:1\ndestination:" + destination + b"\n\n\0")


@each_version
async def test_subscribe_ids_are_of_one_connection_row55(version: Version, autojump_clock: MockClock) -> None:
    async with broker() as server:
        one, two = await join(server, version), await join(server, version)
        await one.listen()
        await two.listen("/topic/u")
        await one.send_all(b"u", to="/topic/u")
        assert await two.bodies() == [b"u"]
        assert await one.confirmed("UNSUBSCRIBE", id="1") == []
        await one.send_all(b"u", to="/topic/u")
        assert await two.bodies() == [b"u"]


@each_version
async def test_subscribe_an_id_may_be_used_again_row55(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        for destination in (T, Q, T):
            await talk.listen(destination)
            await talk.say("SEND", destination=destination)
            assert [frame.headers["destination"] for frame in await talk.take(1)] == [destination]
            assert await talk.confirmed("UNSUBSCRIBE", id="1") == []


@each_version
@pytest.mark.parametrize("mode", ["auto", "client", None])
async def test_subscribe_ack_modes_of_every_version_row56(
    mode: str | None, version: Version, autojump_clock: MockClock
) -> None:
    """Who says nothing has nothing to acknowledge: a lost session gives nothing back."""
    async with broker() as server:
        talk, other = await join(server, version), await join(server)
        await talk.listen(Q, **({} if mode is None else {"ack": mode}))
        await talk.say("SEND", b"x", destination=Q)
        await talk.take(1)
        assert await talk.confirmed("UNSUBSCRIBE", id="1") == []
        found = await other.confirmed("SUBSCRIBE", destination=Q, id="1") + await other.fence()
        assert bodies_of(found) == ([b"x"] if mode == "client" else [])


@since_1_1
async def test_subscribe_client_individual_is_of_1_1_and_later_row56(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen(Q, ack="client-individual")


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        (V1_0, b"client-individual"),
        *((version, mode) for version in Version for mode in (b"bogus", b"", b"AUTO")),
    ],
)
async def test_subscribe_another_ack_mode_is_refused_row56(
    version: Version, mode: bytes, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(b"SUBSCRIBE\nid:1\ndestination:/queue/q\nack:" + mode + b"\n\n\0")


@each_version
@pytest.mark.parametrize("destination", [b"/nowhere", b"/topic/**/x", b""])
async def test_subscribe_that_fails_is_error_and_the_end_row57(
    destination: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(b"SUBSCRIBE\nid:1\ndestination:" + destination + b"\n\n\0")


@each_version
async def test_subscribe_each_of_several_to_one_destination_is_served_row58(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        for id in "123":
            await talk.listen(id=id)
        await talk.say("SEND", destination=T)
        assert {frame.headers["subscription"] for frame in await talk.take(3)} == {"1", "2", "3"}
        assert await talk.confirmed("UNSUBSCRIBE", id="2") == []
        await talk.say("SEND", destination=T)
        assert {frame.headers["subscription"] for frame in await talk.take(2)} == {"1", "3"}


# 1.0's SUBSCRIBE and UNSUBSCRIBE.


async def test_subscribe_in_1_0_needs_no_id_row59(autojump_clock: MockClock) -> None:
    async with session(V1_0) as talk:
        await talk.write(b"SUBSCRIBE\ndestination:/topic/t\n\n\0SUBSCRIBE\ndestination:/queue/q\nid:i\n\n\0")
        await talk.say("SEND", destination=T)
        await talk.say("SEND", destination=Q)
        by_destination, by_id = await talk.take(2)
        assert "subscription" not in by_destination.headers
        assert by_id.headers["subscription"] == "i"


async def test_unsubscribe_in_1_0_is_by_id_or_destination_row59(autojump_clock: MockClock) -> None:
    async with session(V1_0) as talk:
        await talk.write(b"SUBSCRIBE\ndestination:/topic/t\n\n\0SUBSCRIBE\ndestination:/topic/t\nid:i\n\n\0")
        await talk.say("SEND", destination=T)
        await talk.take(2)
        assert await talk.confirmed("UNSUBSCRIBE", destination=T) == []
        await talk.say("SEND", destination=T)
        assert [frame.headers["subscription"] for frame in await talk.take(1)] == ["i"]
        assert await talk.confirmed("UNSUBSCRIBE", id="i") == []
        await talk.say("SEND", destination=T)
        assert await talk.fence() == []


# UNSUBSCRIBE.


@since_1_1
@pytest.mark.parametrize("lines", [b"", b"destination:/topic/t\n", b"id:2\n", b"id:\n"])
async def test_unsubscribe_needs_the_id_of_a_subscription_row60(
    lines: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.refused(b"UNSUBSCRIBE\n" + lines + b"\n\0")


@each_version
@pytest.mark.parametrize("destination", [T, Q])
async def test_unsubscribe_is_the_end_of_the_messages_row61(
    destination: str, version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, sender = await join(server, version), await join(server)
        await talk.listen(destination)
        await sender.send_all(b"before", to=destination)
        assert bodies_of(await talk.confirmed("UNSUBSCRIBE", id="1")) == [b"before"]
        await sender.send_all(b"after", to=destination)
        assert await talk.fence() == []


# SUBSCRIBE's selector, of 1.0.


@each_version
async def test_subscribe_a_selector_is_refused_rather_than_ignored_row62(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        error = await talk.refused(b"SUBSCRIBE\nid:1\ndestination:/topic/t\nselector:a = 1\n\n\0")
        assert "selector" in error.headers["message"]
