"""ACK, NACK, BEGIN, COMMIT, ABORT (checklist F and G)."""

from __future__ import annotations

import pytest
from talk import (
    V1_0,
    V1_1,
    V1_2,
    Q,
    T,
    Talk,
    ack_bytes,
    bodies_of,
    broker,
    by_either_end,
    each_version,
    join,
    leave,
    session,
    since_1_1,
)
from trio.testing import MockClock

from trio_stomp import Message, StompApp
from trio_stomp.stomp.frames import Frame, Version
from trio_stomp.testing import TestServer

MODES = ["client", "client-individual"]
THREE = (b"1", b"2", b"3")


async def given(
    server: TestServer, version: Version, mode: str = "client", *bodies: bytes, to: str = Q
) -> tuple[Talk, list[Frame]]:
    """A session that has been given messages (three) and has acknowledged none."""
    talk = await join(server, version)
    await talk.listen(to, ack=mode)
    for body in bodies or THREE:
        await talk.say("SEND", body, destination=to)
    return talk, await talk.take(len(bodies or THREE))


async def left_over(server: TestServer, destination: str = Q) -> list[bytes]:
    """What a queue gives to the next consumer, each marked as redelivered."""
    other = await join(server)
    found = await other.confirmed("SUBSCRIBE", destination=destination, id="1") + await other.fence()
    assert [frame.headers.get("redelivered") for frame in found] == ["true"] * len(found)
    return bodies_of(found)


# SUBSCRIBE's ack header: what an ACK is about.


@each_version
@by_either_end
@pytest.mark.parametrize(("acked", "left"), [(0, [b"2", b"3"]), (1, [b"3"]), (2, [])])
async def test_subscribe_client_mode_is_cumulative_row63(
    acked: int, left: list[bytes], how: str, version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, messages = await given(server, version)
        assert await talk.settle("ACK", messages[acked]) == []
        await leave(server, talk, how)
        assert await left_over(server) == left


@since_1_1
async def test_subscribe_client_mode_is_cumulative_within_its_subscription_row63(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk = await join(server, version)
        await talk.listen("/queue/a", "a", ack="client")
        await talk.listen("/queue/b", "b", ack="client")
        for destination in ("/queue/a", "/queue/b", "/queue/a"):
            await talk.say("SEND", destination.encode(), destination=destination)
        messages = await talk.take(3)
        assert await talk.settle("ACK", messages[2]) == []
        await leave(server, talk, "DISCONNECT")
        assert await left_over(server, "/queue/a") == []
        assert await left_over(server, "/queue/b") == [b"/queue/b"]


@since_1_1
async def test_subscribe_client_individual_is_not_cumulative_row64(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, messages = await given(server, version, "client-individual")
        assert await talk.settle("ACK", messages[1]) == []
        await leave(server, talk, "DISCONNECT")
        assert await left_over(server) == [b"1", b"3"]


# ACK, NACK.


@pytest.mark.parametrize("command", [b"ACK", b"NACK"])
@pytest.mark.parametrize(
    ("version", "lacks"),
    [(V1_2, "id"), (V1_1, "message-id"), (V1_1, "subscription"), (V1_0, "message-id")],
)
async def test_ack_and_nack_need_what_names_the_message_row65_row66_row67(
    version: Version, lacks: str, command: bytes, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, messages = await given(server, version)
        lines = {
            "id": messages[0].headers.get("ack"),
            "message-id": messages[0].headers["message-id"],
            "subscription": "1",
        }
        head = "".join(f"{name}:{value}\n" for name, value in lines.items() if value and name != lacks)
        await talk.refused(command + b"\n" + head.encode() + b"\n\0")


@each_version
async def test_ack_names_the_message_as_its_version_does_row65_row66_row67(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, messages = await given(server, version)
        await talk.write(ack_bytes("ACK", messages[2], version))
        assert await talk.fence() == []
        await leave(server, talk, "DISCONNECT")
        assert await left_over(server) == []


@pytest.mark.parametrize("wrong", ["message-id", "subscription"])
async def test_ack_in_1_1_needs_both_headers_to_be_right_row66(wrong: str, autojump_clock: MockClock) -> None:
    async with broker() as server:
        talk, messages = await given(server, V1_1)
        names = {"message-id": messages[0].headers["message-id"], "subscription": "1"} | {wrong: "9"}
        head = "".join(f"{name}:{value}\n" for name, value in names.items())
        await talk.refused(f"ACK\n{head}\n\0".encode())


async def test_ack_in_1_0_may_go_without_a_subscription_id_row67(autojump_clock: MockClock) -> None:
    async with broker() as server:
        talk = await join(server, V1_0)
        await talk.write(b"SUBSCRIBE\ndestination:/queue/q\nack:client\n\n\0")
        await talk.say("SEND", b"x", destination=Q)
        [message] = await talk.take(1)
        assert await talk.settle("ACK", message) == []
        await leave(server, talk, "DISCONNECT")
        assert await left_over(server) == []


async def test_nack_does_not_exist_in_1_0_row67(autojump_clock: MockClock) -> None:
    async with broker() as server:
        talk, messages = await given(server, V1_0)
        await talk.refused(b"NACK\nmessage-id:" + messages[0].headers["message-id"].encode() + b"\n\n\0")


@each_version
@by_either_end
async def test_ack_what_is_not_acknowledged_goes_to_another_row68(
    how: str, version: Version, autojump_clock: MockClock
) -> None:
    """In the old order, before what has come since."""
    async with broker() as server:
        talk, _ = await given(server, version)
        other = await join(server)
        await leave(server, talk, how)
        await other.send_all(b"4")
        found = await other.confirmed("SUBSCRIBE", destination=Q, id="1") + await other.fence()
        assert [(frame.body, frame.headers.get("redelivered")) for frame in found] == [
            (b"1", "true"),
            (b"2", "true"),
            (b"3", "true"),
            (b"4", None),
        ]


@each_version
async def test_ack_what_is_not_acknowledged_is_given_back_by_unsubscribe_row68(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, _ = await given(server, version)
        assert await talk.confirmed("UNSUBSCRIBE", id="1") == []
        assert await left_over(server) == [b"1", b"2", b"3"]


@since_1_1
@pytest.mark.parametrize(("mode", "back"), [("client", [b"1", b"2"]), ("client-individual", [b"2"])])
@pytest.mark.parametrize("destination", [Q, T])
async def test_nack_gives_back_and_the_message_comes_again_row69(
    destination: str, mode: str, back: list[bytes], version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, messages = await given(server, version, mode, to=destination)
        again = await talk.settle("NACK", messages[1]) + await talk.fence()
        assert [(frame.body, frame.headers.get("redelivered")) for frame in again] == [
            (body, "true") for body in back
        ]
        for message in again:
            if mode == "client-individual" or message is again[-1]:
                assert await talk.settle("ACK", message) == []


@since_1_1
async def test_nack_gives_a_queues_message_to_whoever_is_next_row69(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talks = [await join(server, version) for _ in range(2)]
        for talk in talks:
            await talk.listen(Q, ack="client-individual")
        sender = await join(server)
        await sender.send_all(b"x")
        found = [await talk.fence() for talk in talks]
        assert sorted(map(len, found)) == [0, 1]
        first = found.index([]) ^ 1
        assert await talks[first].settle("NACK", found[first][0]) == []
        assert await talks[first ^ 1].bodies() == [b"x"]


@since_1_1
async def test_nack_on_a_topic_is_one_subscriptions_affair_row69(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        other = await join(server, version)
        await other.listen(T, ack="client")
        talk, messages = await given(server, version, "client", b"x", to=T)
        assert await other.bodies() == [b"x"]
        assert bodies_of(await talk.settle("NACK", messages[0]) + await talk.fence()) == [b"x"]
        assert await other.fence() == []


@each_version
@pytest.mark.parametrize(("end", "left"), [("ABORT", [b"1", b"2", b"3"]), ("COMMIT", [b"3"])])
async def test_ack_in_a_transaction_is_part_of_it_row70(
    end: str, left: list[bytes], version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, messages = await given(server, version)
        await talk.say("BEGIN", transaction="tx")
        assert await talk.settle("ACK", messages[1], transaction="tx") == []
        assert await talk.confirmed(end, transaction="tx") == []
        await leave(server, talk, "DISCONNECT")
        assert await left_over(server) == left


@since_1_1
@pytest.mark.parametrize(("end", "back"), [("ABORT", []), ("COMMIT", [b"2"])])
async def test_nack_in_a_transaction_is_part_of_it_row70(
    end: str, back: list[bytes], version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, messages = await given(server, version, "client-individual")
        await talk.say("BEGIN", transaction="tx")
        assert await talk.settle("NACK", messages[1], transaction="tx") == []
        assert await talk.fence() == []
        found = await talk.confirmed(end, transaction="tx") + await talk.fence()
        assert bodies_of(found) == back


@each_version
@pytest.mark.parametrize("command", ["ACK", "NACK"])
async def test_ack_and_nack_of_an_unknown_message_are_refused_row71(
    command: str, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen(Q, ack="client")
        await talk.refused(f"{command}\nid:9\nmessage-id:9\nsubscription:1\n\n\0".encode())


@each_version
async def test_ack_of_an_unknown_message_is_refused_in_a_transaction_too_row71(
    version: Version, autojump_clock: MockClock
) -> None:
    """At once, not at its COMMIT: the RECEIPT of a frame in a transaction says that it was taken."""
    async with session(version) as talk:
        await talk.listen(Q, ack="client")
        await talk.confirmed("BEGIN", transaction="tx")
        await talk.refused(b"ACK\nid:9\nmessage-id:9\nsubscription:1\ntransaction:tx\n\n\0")


@each_version
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_one_write", [True, False], ids=["in one write", "apart"])
async def test_ack_of_an_acknowledged_message_is_refused_row71(
    is_one_write: bool, mode: str, version: Version, autojump_clock: MockClock
) -> None:
    if version is V1_0 and mode == "client-individual":
        mode = "client"
    async with broker() as server:
        talk, messages = await given(server, version, mode)
        ack = ack_bytes("ACK", messages[1], version)
        await talk.write(*([ack + ack] if is_one_write else [ack, ack]))
        await talk.refused()


async def test_ack_of_an_earlier_message_behind_a_cumulative_one_is_refused_row71(
    autojump_clock: MockClock,
) -> None:
    async with broker() as server:
        talk, messages = await given(server, V1_2)
        assert await talk.settle("ACK", messages[1]) == []
        await talk.refused(ack_bytes("ACK", messages[0], V1_2))


@each_version
async def test_ack_of_a_message_in_auto_mode_is_refused_row71(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, messages = await given(server, version, "auto")
        lines = f"id:1\nmessage-id:{messages[0].headers['message-id']}\nsubscription:1\n"
        await talk.refused(f"ACK\n{lines}\n\0".encode())


@each_version
async def test_ack_of_another_sessions_message_is_refused_row71(
    version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, messages = await given(server, version)
        other = await join(server, version)
        await other.listen("/queue/other", ack="client")
        await other.refused(ack_bytes("ACK", messages[0], version))
        await leave(server, talk, "DISCONNECT")
        assert await left_over(server) == [b"1", b"2", b"3"]


# BEGIN, COMMIT, ABORT.


@each_version
@pytest.mark.parametrize("command", [b"BEGIN", b"COMMIT", b"ABORT"])
async def test_begin_commit_and_abort_need_a_transaction_row72(
    command: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.confirmed("BEGIN", transaction="tx")
        assert "'transaction'" in (await talk.refused(command + b"\n\n\0")).headers["message"]


@each_version
async def test_begin_a_name_in_use_is_refused_row73(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        await talk.confirmed("BEGIN", transaction="tx")
        await talk.confirmed("BEGIN", transaction="other")
        await talk.refused(b"BEGIN\ntransaction:tx\n\n\0")


@each_version
@pytest.mark.parametrize("end", ["COMMIT", "ABORT"])
async def test_begin_a_name_may_be_used_again_row73(
    end: str, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        for body in (b"1", b"2"):
            await talk.say("BEGIN", transaction="tx")
            await talk.say("SEND", body, destination=T, transaction="tx")
            found = await talk.confirmed(end, transaction="tx")
            assert bodies_of(found) == ([body] if end == "COMMIT" else [])


@each_version
async def test_begin_a_name_is_of_one_connection_row73(version: Version, autojump_clock: MockClock) -> None:
    async with broker() as server:
        one, two = await join(server, version), await join(server, version)
        await one.listen()
        for talk, body in ((one, b"1"), (two, b"2")):
            await talk.confirmed("BEGIN", transaction="tx")
            await talk.confirmed("SEND", body, destination=T, transaction="tx")
        assert await two.confirmed("ABORT", transaction="tx") == []
        assert bodies_of(await one.confirmed("COMMIT", transaction="tx")) == [b"1"]


@each_version
@pytest.mark.parametrize("destination", [T, Q])
async def test_commit_all_takes_effect_in_order_and_nothing_before_row74(
    destination: str, version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, other = await join(server, version), await join(server)
        await other.listen(destination)
        await talk.confirmed("BEGIN", transaction="tx")
        for number in range(20):
            assert (
                await talk.confirmed("SEND", b"%d" % number, destination=destination, transaction="tx") == []
            )
        await talk.send_all(b"outside", to=destination)
        assert await other.bodies() == [b"outside"]
        assert await talk.confirmed("COMMIT", transaction="tx") == []
        assert await other.bodies() == [b"%d" % number for number in range(20)]


@each_version
async def test_commit_transactions_of_one_session_are_apart_row74(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        for name in ("a", "b"):
            await talk.say("BEGIN", transaction=name)
        for name in ("a", "b", "a"):
            await talk.say("SEND", name.encode(), destination=T, transaction=name)
        assert bodies_of(await talk.confirmed("COMMIT", transaction="b")) == [b"b"]
        assert bodies_of(await talk.confirmed("COMMIT", transaction="a")) == [b"a", b"a"]


@each_version
async def test_commit_that_cannot_be_whole_does_nothing_row74(
    version: Version, autojump_clock: MockClock
) -> None:
    """One of its ACKs is of a message that was acknowledged meanwhile."""
    async with broker() as server:
        talk, messages = await given(server, version)
        other = await join(server)
        await other.listen()
        await talk.say("BEGIN", transaction="tx")
        await talk.say("SEND", b"part", destination=T, transaction="tx")
        await talk.settle("ACK", messages[0], transaction="tx")
        await talk.settle("ACK", messages[2])
        await talk.refused(b"COMMIT\ntransaction:tx\n\n\0")
        assert await other.fence() == []


@each_version
async def test_commit_a_handler_cannot_be_part_of_it_row74(
    version: Version, autojump_clock: MockClock
) -> None:
    """What a handler does cannot be undone, so it is refused rather than done at once."""
    app, called = StompApp(), []

    @app.on_message("/app/x")
    async def handle(message: Message) -> None:
        called.append(message)

    async with broker(app) as server:
        talk = await join(server, version)
        await talk.write(b"BEGIN\ntransaction:tx\n\n\0")
        await talk.refused(b"SEND\ndestination:/app/x\ntransaction:tx\n\nx\0")
        assert called == []


@each_version
async def test_abort_discards_row75(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.confirmed("BEGIN", transaction="tx")
        await talk.confirmed("SEND", b"x", destination=T, transaction="tx")
        assert await talk.confirmed("ABORT", transaction="tx") == []
        assert await talk.fence() == []


@each_version
@pytest.mark.parametrize("ended", [b"", b"COMMIT\ntransaction:tx\n\n\0", b"ABORT\ntransaction:tx\n\n\0"])
@pytest.mark.parametrize("command", ["COMMIT", "ABORT", "SEND", "ACK"])
async def test_commit_abort_send_and_ack_of_an_unknown_transaction_are_refused_row76(
    command: str, ended: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk, messages = await given(server, version, "client", b"x")
        if ended:
            await talk.write(b"BEGIN\ntransaction:tx\n\n\0", ended)
        frame = f"{command}\ndestination:/topic/t\n\n\0".encode()
        if command == "ACK":
            frame = ack_bytes("ACK", messages[0], version)
        await talk.refused(frame.replace(b"\n", b"\ntransaction:tx\n", 1))
        assert await left_over(server) == [b"x"]


@each_version
@by_either_end
async def test_abort_is_what_becomes_of_open_transactions_at_the_end_row77(
    how: str, version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        other = await join(server)
        await other.listen()
        talk, messages = await given(server, version, "client", b"x")
        await talk.confirmed("BEGIN", transaction="tx")
        await talk.confirmed("SEND", b"x", destination=T, transaction="tx")
        await talk.settle("ACK", messages[0], transaction="tx")
        await leave(server, talk, how)
        assert await other.fence() == []
        assert await left_over(server) == [b"x"]
