"""Handlers in a server: what becomes of what they return, yield and raise."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Annotated

import attrs
import pytest
import trio
from peer import HeldRunner, Peer, ended, in_loop, open_peer, run_pool_in, stomp, without_heart_beats
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp import (
    AccessDenied,
    ConnectRequest,
    DestinationError,
    Header,
    Message,
    OverloadedError,
    Session,
    StompApp,
    TrioStompError,
    User,
)
from trio_stomp.channels.pools import Pool, PoolDeclaration
from trio_stomp.stomp.frames import Frame
from trio_stomp.testing import TestServer, open_test_server

QUIET = without_heart_beats()


@attrs.frozen
class Say:
    text: str


@attrs.frozen
class Said:
    by: str
    text: str


class PaymentError(Exception):
    pass


def with_users(app: StompApp) -> StompApp:
    """CONNECT's login is the user's name."""

    @app.on_connect
    async def who(request: ConnectRequest) -> User | None:
        return None if request.login is None else User(request.login)

    return app


async def failing_peer(server: TestServer, **headers: str) -> Peer:
    peer = await open_peer(server, **headers)
    await peer.subscribe("/user/queue/errors", "errors")
    return peer


def raising(error: Exception) -> StompApp:
    app = StompApp()

    @app.on_message("/app/fail")
    async def fail(message: Message) -> None:
        raise error

    return app


# What they return.


async def test_a_value_goes_where_send_to_says_with_the_destinations_variables(
    autojump_clock: MockClock,
) -> None:
    app = with_users(StompApp())

    @app.on_message("/app/chat/{room}", send_to="/topic/chat/{room}")
    async def say(room: str, message: Say, user: User) -> Said:
        return Said(user.name, f"{message.text} in {room}")

    async with open_test_server(app, QUIET) as server:
        ada, bob = await open_peer(server, login="ada"), await open_peer(server, login="bob")
        await bob.subscribe("/topic/chat/lobby")
        await ada.say("SEND", b'{"text": "hi"}', destination="/app/chat/lobby")
        frame = await bob.frame()
        assert json.loads(frame.body) == {"by": "ada", "text": "hi in lobby"}
        assert frame.headers["content-type"] == "application/json"
        assert frame.headers["destination"] == "/topic/chat/lobby"


async def test_a_value_goes_to_each_of_several_destinations(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/x", send_to=["/topic/a", "/topic/b"])
    async def x(message: Message) -> str:
        return "x"

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a", "1")
        await peer.subscribe("/topic/b", "2")
        await peer.say("SEND", destination="/app/x")
        assert {(await peer.frame()).headers["subscription"] for _ in range(2)} == {"1", "2"}


async def test_none_is_sent_nowhere_and_the_receipt_comes(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/x", send_to="/topic/a")
    async def x(message: Message) -> str | None:
        return None

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.say("SEND", destination="/app/x", receipt="r")
        assert (await peer.frame()).command == "RECEIPT"


async def test_a_senders_headers_do_not_pass_through_a_handler(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/x", send_to="/topic/a")
    async def x(message: Message) -> str:
        return "x"

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.say("SEND", destination="/app/x", secret="token")
        assert "secret" not in (await peer.frame()).headers


@pytest.mark.parametrize(("broadcast", "reached"), [(True, 2), (False, 1)])
async def test_send_to_user_reaches_her_sessions_or_only_the_one_that_sent(
    broadcast: bool, reached: int, autojump_clock: MockClock
) -> None:
    app = with_users(StompApp())

    @app.on_message("/app/x", send_to_user="/queue/answers", broadcast=broadcast)
    async def x(message: Message) -> str:
        return "x"

    async with open_test_server(app, QUIET) as server:
        phone, laptop, other = [await open_peer(server, login=name) for name in ("ada", "ada", "bob")]
        for peer in (phone, laptop, other):
            await peer.subscribe("/user/queue/answers")
        await phone.say("SEND", destination="/app/x")
        got = 0
        for peer in (phone, laptop, other):
            await peer.say("UNSUBSCRIBE", id="1", receipt="end")
            frame = await peer.frame()
            got += frame.command == "MESSAGE"
            assert frame.command == "RECEIPT" or peer is not other
        assert got == reached


async def test_a_session_without_a_user_is_its_own_user(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/x", send_to_user="/queue/answers")
    async def x(message: Message) -> str:
        return "x"

    async with open_test_server(app, QUIET) as server:
        one, two = await open_peer(server), await open_peer(server)
        for peer in (one, two):
            await peer.subscribe("/user/queue/answers")
        await one.say("SEND", destination="/app/x")
        assert (await one.frame()).headers["destination"] == "/user/queue/answers"
        await two.say("UNSUBSCRIBE", id="1", receipt="end")
        assert (await two.frame()).command == "RECEIPT"


async def test_a_receipt_comes_behind_the_value(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/x", send_to="/topic/a")
    async def x(message: Message) -> str:
        return message.text

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.send(*(stomp("SEND", b"x", destination="/app/x", receipt=f"{n}") for n in range(5)))
        assert [(await peer.frame()).command for _ in range(10)] == ["MESSAGE", "RECEIPT"] * 5


async def test_what_a_handler_publishes_comes_before_its_receipt(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/x")
    async def x(message: Message) -> None:
        for number in range(3):
            await app.publish("/topic/a", str(number))

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/a")
        await peer.say("SEND", destination="/app/x", receipt="r")
        assert [(await peer.frame()).command for _ in range(4)] == ["MESSAGE"] * 3 + ["RECEIPT"]


async def test_a_plain_handler_runs_in_its_pool(autojump_clock: MockClock) -> None:
    app = StompApp()
    app.pool("payments", threads=1)

    @app.on_message("/app/pay", send_to_user="/queue/receipts", pool="payments")
    def pay(message: Say) -> str:
        return message.text.upper()

    async with open_test_server(app, QUIET) as server:
        run_pool_in(server, in_loop, "payments")
        peer = await open_peer(server)
        await peer.subscribe("/user/queue/receipts")
        await peer.say("SEND", b'{"text": "hi"}', destination="/app/pay")
        assert (await peer.frame()).body == b"HI"
        assert server.statistics().pools["payments"].completed == 1
        assert server.statistics().pools["client_inbound"].completed == 0


# What they raise.


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (AccessDenied("not yours"), "access_denied", "not yours"),
        (DestinationError("no such room"), "invalid_destination", "no such room"),
        (OverloadedError("full up"), "overloaded", "full up"),
        (RuntimeError("password=hunter2"), "internal_error", "internal error"),
        (KeyError("secret"), "internal_error", "internal error"),
        (TrioStompError("insides"), "internal_error", "internal error"),
        (ExceptionGroup("g", [RuntimeError("secret")]), "internal_error", "internal error"),
    ],
)
async def test_an_exception_becomes_a_message_with_a_code_and_a_text_fit_for_strangers(
    error: Exception, code: str, text: str, autojump_clock: MockClock
) -> None:
    async with open_test_server(raising(error), QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SEND", destination="/app/fail", receipt="r7")
        frame = await peer.frame()
        problem = json.loads(frame.body)
        assert (problem["code"], problem["message"]) == (code, text)
        assert problem["destination"] == "/app/fail"
        assert frame.headers["receipt-id"] == "r7"
        assert frame.headers["destination"] == "/user/queue/errors"
        assert frame.headers["correlation-id"] == problem["correlation_id"]


async def test_a_payload_that_does_not_fit_names_the_path(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/say")
    async def say(message: Say) -> None:
        raise AssertionError("not reached")

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SEND", b"{}", destination="/app/say")
        problem = json.loads((await peer.frame()).body)
        assert problem["code"] == "invalid_payload"
        assert problem["message"] == "required field missing @ $.text"


async def test_a_missing_header_is_an_invalid_payload(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/say")
    async def say(token: Annotated[str, Header("x-token")]) -> None:
        raise AssertionError("not reached")

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SEND", destination="/app/say")
        problem = json.loads((await peer.frame()).body)
        assert problem["code"] == "invalid_payload"
        assert "x-token" in problem["message"]


async def test_a_handler_that_wants_a_user_is_denied_to_nobody(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/mine")
    async def mine(user: User) -> None:
        raise AssertionError("not reached")

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SEND", destination="/app/mine")
        assert json.loads((await peer.frame()).body)["code"] == "access_denied"


async def test_a_value_that_cannot_be_encoded_is_our_fault(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/x", send_to="/topic/a")
    async def x(message: Message) -> float:
        return float("nan")

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SEND", destination="/app/x", receipt="r")
        assert json.loads((await peer.frame()).body)["code"] == "internal_error"


async def test_a_failure_has_no_receipt_and_the_session_goes_on(autojump_clock: MockClock) -> None:
    async with open_test_server(raising(RuntimeError()), QUIET) as server:
        peer = await failing_peer(server)
        for number in range(3):
            await peer.say("SEND", destination="/app/fail", receipt=str(number))
        assert [(await peer.frame()).command for _ in range(3)] == ["MESSAGE"] * 3
        assert server.statistics().metrics.handler_errors == 3


async def test_only_the_session_that_caused_it_is_told(autojump_clock: MockClock) -> None:
    async with open_test_server(with_users(raising(RuntimeError())), QUIET) as server:
        phone, laptop = await failing_peer(server, login="ada"), await failing_peer(server, login="ada")
        await phone.say("SEND", destination="/app/fail")
        assert (await phone.frame()).command == "MESSAGE"
        await laptop.say("UNSUBSCRIBE", id="errors", receipt="end")
        assert (await laptop.frame()).command == "RECEIPT"


async def test_without_an_error_queue_whoever_asked_for_a_receipt_gets_error_and_close(
    autojump_clock: MockClock,
) -> None:
    async with open_test_server(raising(RuntimeError("secret")), QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/fail", receipt="r")
        [error] = await peer.to_end()
        assert (error.command, error.headers["message"]) == ("ERROR", "internal error")
        assert error.headers["receipt-id"] == "r"
        assert error.headers["correlation-id"]
        assert peer.close_code == 1011


async def test_a_refusal_without_an_error_queue_closes_with_1008(autojump_clock: MockClock) -> None:
    async with open_test_server(raising(AccessDenied("no")), QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/fail", receipt="r")
        await peer.to_end()
        assert peer.close_code == 1008


async def test_without_an_error_queue_and_a_receipt_the_session_goes_on(autojump_clock: MockClock) -> None:
    async with open_test_server(raising(RuntimeError()), QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/fail")
        await peer.subscribe("/topic/a")


async def test_the_log_has_the_traceback_the_session_and_the_correlation_id(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with open_test_server(raising(RuntimeError("insides")), QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SEND", b"the body", destination="/app/fail")
        frame = await peer.frame()
        [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert frame.headers["correlation-id"] in record.getMessage()
        assert record.exc_info is not None
        assert "the body" not in caplog.text


async def test_a_clients_mistake_is_not_logged_as_an_error(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO)
    async with open_test_server(raising(AccessDenied("no")), QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SEND", destination="/app/fail")
        correlation = (await peer.frame()).headers["correlation-id"]
        [record] = [record for record in caplog.records if correlation in record.getMessage()]
        assert record.levelno == logging.INFO
        assert record.exc_info is None


async def test_an_exceptions_own_handler_answers_in_its_place(autojump_clock: MockClock) -> None:
    app = raising(PaymentError("card declined"))

    @app.exception_handler(PaymentError, send_to_user="/queue/problems")
    async def failed(error: PaymentError) -> dict[str, str]:
        return {"why": str(error)}

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        await peer.subscribe("/user/queue/problems", "problems")
        await peer.say("SEND", destination="/app/fail", receipt="r")
        frame = await peer.frame()
        assert frame.headers["subscription"] == "problems"
        assert json.loads(frame.body) == {"why": "card declined"}
        assert frame.headers["receipt-id"] == "r"
        assert frame.headers["correlation-id"]


async def test_a_plain_exception_handler_runs_in_a_pool(autojump_clock: MockClock) -> None:
    app = raising(PaymentError("x"))

    @app.exception_handler(PaymentError)
    def failed(error: PaymentError) -> str:
        return "told"

    async with open_test_server(app, QUIET) as server:
        run_pool_in(server, in_loop)
        peer = await failing_peer(server)
        await peer.say("SEND", destination="/app/fail")
        assert (await peer.frame()).body == b"told"


async def test_an_exception_handler_that_fails_is_logged_and_the_client_still_learns(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    app = raising(PaymentError("x"))

    @app.exception_handler(PaymentError)
    async def failed(error: PaymentError) -> str:
        raise RuntimeError("worse")

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SEND", destination="/app/fail")
        assert json.loads((await peer.frame()).body)["code"] == "internal_error"
        assert "worse" in caplog.text


async def test_an_exception_handler_that_says_nothing_leaves_no_receipt_unanswered(
    autojump_clock: MockClock,
) -> None:
    app = raising(PaymentError("x"))

    @app.exception_handler(PaymentError)
    async def failed(error: PaymentError) -> None:
        pass

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SEND", destination="/app/fail", receipt="r")
        assert (await peer.frame()).headers["receipt-id"] == "r"


async def test_an_answer_that_nobody_subscribed_to_leaves_no_receipt_unanswered(
    autojump_clock: MockClock,
) -> None:
    app = raising(PaymentError("x"))

    @app.exception_handler(PaymentError, send_to_user="/queue/problems")
    async def failed(error: PaymentError) -> str:
        return "told"

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/fail", receipt="r")
        [error] = await peer.to_end()
        assert (error.command, error.headers["receipt-id"]) == ("ERROR", "r")


# Subscriptions.


async def test_on_subscribe_answers_this_subscription_only(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_subscribe("/app/chat/{room}")
    async def recent(room: str) -> list[Said]:
        return [Said("ada", f"welcome to {room}")]

    async with open_test_server(app, QUIET) as server:
        one, two = await open_peer(server), await open_peer(server)
        for peer, id in ((one, "1"), (two, "2")):
            await peer.say("SUBSCRIBE", destination="/app/chat/lobby", id=id, receipt="r")
            frame = await peer.frame()
            assert frame.headers["subscription"] == id
            assert frame.headers["destination"] == "/app/chat/lobby"
            assert json.loads(frame.body) == [{"by": "ada", "text": "welcome to lobby"}]
            assert (await peer.frame()).command == "RECEIPT"


async def test_a_subscribe_that_fails_has_no_receipt(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_subscribe("/app/x")
    async def x() -> str:
        raise AccessDenied("no")

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SUBSCRIBE", destination="/app/x", id="1", receipt="r")
        frame = await peer.frame()
        assert (frame.command, frame.headers["receipt-id"]) == ("MESSAGE", "r")
        assert json.loads(frame.body)["code"] == "access_denied"


class Ticker:
    """An app with a stream: a snapshot, then what the test gives it."""

    def __init__(self) -> None:
        self.app = StompApp()
        self.send, self.receive = trio.open_memory_channel[str](10)
        self.ends: list[str] = []
        self.app.on_subscribe("/app/ticks")(self.ticks)

    async def ticks(self) -> AsyncIterator[str]:
        try:
            yield "snapshot"
            async for tick in self.receive:
                yield tick
        finally:
            self.ends.append("ended")

    def close(self) -> None:
        self.send.close()
        self.receive.close()


async def test_a_stream_gives_its_receipt_then_a_snapshot_then_what_is_live(
    autojump_clock: MockClock,
) -> None:
    ticker = Ticker()
    async with open_test_server(ticker.app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/app/ticks")
        assert (await peer.frame()).body == b"snapshot"
        await ticker.send.send("live")
        assert (await peer.frame()).body == b"live"
        ticker.close()


async def test_a_stream_does_not_hold_up_its_session(autojump_clock: MockClock) -> None:
    ticker = Ticker()
    async with open_test_server(ticker.app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/app/ticks", "1")
        await peer.frame()
        await peer.subscribe("/topic/a", "2")
        ticker.close()


async def test_unsubscribe_cancels_the_stream(autojump_clock: MockClock) -> None:
    ticker = Ticker()
    async with open_test_server(ticker.app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/app/ticks")
        await peer.frame()
        await peer.say("UNSUBSCRIBE", id="1", receipt="r")
        assert (await peer.frame()).command == "RECEIPT"
        await wait_all_tasks_blocked()
        assert ticker.ends == ["ended"]
        ticker.close()


@pytest.mark.parametrize("is_polite", [True, False])
async def test_the_end_of_a_session_cancels_its_streams(is_polite: bool, autojump_clock: MockClock) -> None:
    ticker = Ticker()
    async with open_test_server(ticker.app, QUIET) as server:
        before = trio.lowlevel.current_statistics().tasks_living
        peer = await open_peer(server)
        await peer.subscribe("/app/ticks")
        await peer.frame()
        if is_polite:
            await peer.say("DISCONNECT")
            await peer.to_end()
        await peer.wire.stream.aclose()
        await ended(server)
        await wait_all_tasks_blocked()
        assert ticker.ends == ["ended"]
        assert trio.lowlevel.current_statistics().tasks_living == before
        ticker.close()


async def test_a_stream_that_ends_by_itself_leaves_the_subscription(autojump_clock: MockClock) -> None:
    ticker = Ticker()
    async with open_test_server(ticker.app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/app/ticks")
        await peer.frame()
        ticker.close()
        await wait_all_tasks_blocked()
        await peer.say("UNSUBSCRIBE", id="1", receipt="r")
        assert (await peer.frame()).command == "RECEIPT"


async def test_a_stream_that_fails_is_told(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_subscribe("/app/x")
    async def x() -> AsyncIterator[str]:
        yield "one"
        raise AccessDenied("no more")

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        await peer.say("SUBSCRIBE", destination="/app/x", id="1")
        assert (await peer.frame()).body == b"one"
        assert json.loads((await peer.frame()).body)["message"] == "no more"


async def test_a_stream_that_fails_behind_its_receipt_is_not_answered_twice(
    autojump_clock: MockClock,
) -> None:
    app = StompApp()

    @app.on_subscribe("/app/x")
    async def x() -> AsyncIterator[str]:
        yield "one"
        await trio.sleep(1)
        raise AccessDenied("no more")

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)  # it hears of no errors
        await peer.subscribe("/app/x")
        assert (await peer.frame()).body == b"one"
        await trio.sleep(2)
        await peer.say("UNSUBSCRIBE", id="1", receipt="r")
        assert (await peer.frame()).headers["receipt-id"] == "r"  # the session has gone on


async def test_a_stream_that_never_waits_is_slowed_down_by_the_broker(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_subscribe("/app/x")
    async def x() -> AsyncIterator[str]:
        for number in range(20_000):
            yield str(number)

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/app/x")
        assert [(await peer.frame()).body for _ in range(20_000)] == [b"%d" % n for n in range(20_000)]


# Concurrency and time.


async def test_at_most_n_of_a_concurrent_handler_run_in_the_whole_server(autojump_clock: MockClock) -> None:
    app, gate, running = StompApp(), trio.Semaphore(0), []

    @app.on_message("/app/x", concurrency=2)
    async def x(message: Message) -> None:
        running.append(message.text)
        await gate.acquire()

    async with open_test_server(app, QUIET) as server:
        peers = [await open_peer(server) for _ in range(3)]
        for peer in peers:
            await peer.send(*(stomp("SEND", b"x", destination="/app/x", receipt="r") for _ in range(2)))
        await wait_all_tasks_blocked()
        assert len(running) == 2
        gate.release()
        await wait_all_tasks_blocked()
        assert len(running) == 3
        for _ in range(5):
            gate.release()
        await wait_all_tasks_blocked()
        assert len(running) == 6


async def test_a_concurrent_handler_lets_the_next_frame_pass(autojump_clock: MockClock) -> None:
    app, gate = StompApp(), trio.Event()

    @app.on_message("/app/x", concurrency=2)
    async def x(message: Message) -> None:
        await gate.wait()

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/x", receipt="slow")
        await peer.subscribe("/topic/a")  # its receipt comes first
        gate.set()
        assert (await peer.frame()).headers["receipt-id"] == "slow"


async def test_a_concurrent_handler_that_fails_is_told_and_gives_its_place_back(
    autojump_clock: MockClock,
) -> None:
    app = StompApp()

    @app.on_message("/app/x", concurrency=1)
    async def x(message: Message) -> None:
        raise AccessDenied("no")

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        for _ in range(3):
            await peer.say("SEND", destination="/app/x")
            assert json.loads((await peer.frame()).body)["code"] == "access_denied"


async def test_a_concurrent_handler_that_fails_without_an_error_queue_is_error_and_close(
    autojump_clock: MockClock,
) -> None:
    app = StompApp()

    @app.on_message("/app/x", concurrency=1)
    async def x(message: Message) -> None:
        raise AccessDenied("no")

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/x", receipt="r")
        [error] = await peer.to_end()
        assert (error.command, error.headers["receipt-id"], peer.close_code) == ("ERROR", "r", 1008)


async def test_a_session_that_was_cut_gives_back_its_places(autojump_clock: MockClock) -> None:
    app, gate = StompApp(), trio.Event()

    @app.on_message("/app/x", concurrency=1)
    async def x(message: Message) -> None:
        await gate.wait()

    async with open_test_server(app, QUIET) as server:
        cut, other = await open_peer(server), await open_peer(server)
        await cut.say("SEND", destination="/app/x")
        await wait_all_tasks_blocked()
        await cut.wire.stream.aclose()
        await ended(server, 1)
        gate.set()
        await other.say("SEND", destination="/app/x", receipt="r")
        assert (await other.frame()).command == "RECEIPT"


async def test_an_async_handler_is_cancelled_at_its_timeout(autojump_clock: MockClock) -> None:
    app, ends = StompApp(), []

    @app.on_message("/app/x", timeout=5)
    async def x(message: Message) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ends.append(trio.current_time())

    async with open_test_server(app, QUIET) as server:
        peer = await failing_peer(server)
        started = trio.current_time()
        await peer.say("SEND", destination="/app/x")
        problem = json.loads((await peer.frame()).body)
        assert (problem["code"], problem["message"]) == ("timeout", "no answer within 5 seconds")
        assert ends[0] - started == pytest.approx(5, abs=0.1)


async def test_a_plain_handler_is_given_up_at_its_timeout_and_keeps_its_thread(
    autojump_clock: MockClock,
) -> None:
    app = StompApp()

    @app.on_message("/app/x", timeout=5)
    def x(message: Message) -> None:
        pass

    async with open_test_server(app, QUIET) as server:
        stuck = Stuck()
        run_pool_in(server, stuck)
        peer = await failing_peer(server)
        await peer.say("SEND", destination="/app/x")
        assert json.loads((await peer.frame()).body)["code"] == "timeout"
        statistics = server.statistics().pools["client_inbound"]
        assert (statistics.busy, statistics.abandoned, statistics.timed_out) == (1, 1, 1)
        stuck.end()
        assert server.statistics().pools["client_inbound"].busy == 0


class Stuck:
    """A pool's runner as `trio.to_thread.run_sync`: a cancelled caller goes, the thread stays."""

    def __init__(self) -> None:
        self._held: list[tuple[object, object]] = []

    async def __call__(self, fn: object, *args: object, limiter: object, abandon_on_cancel: bool) -> None:
        turn = object()
        await limiter.acquire_on_behalf_of(turn)  # type: ignore[attr-defined]
        self._held.append((limiter, turn))
        await trio.sleep_forever()

    def end(self) -> None:
        for limiter, turn in self._held:
            limiter.release_on_behalf_of(turn)  # type: ignore[attr-defined]


async def test_a_full_pool_refuses_with_overloaded_and_other_pools_go_on(autojump_clock: MockClock) -> None:
    app = StompApp()
    app.pool("payments", threads=1, queue=0)

    @app.on_message("/app/pay", pool="payments", concurrency=10)
    def pay(message: Message) -> None:
        pass

    @app.on_message("/app/other")
    def other(message: Message) -> None:
        pass

    runner = HeldRunner()
    async with open_test_server(app, QUIET) as server:
        pools: dict[str, Pool] = server.server.pools  # type: ignore[assignment]
        pools["payments"] = Pool(PoolDeclaration("payments", threads=1, queue=0), run_sync=runner)
        run_pool_in(server, in_loop)
        peer = await failing_peer(server)
        await peer.send(*(stomp("SEND", destination="/app/pay", receipt="r") for _ in range(2)))
        assert json.loads((await peer.frame()).body)["code"] == "overloaded"
        await peer.say("SEND", destination="/app/other", receipt="other")
        assert (await peer.frame()).headers["receipt-id"] == "other"
        runner.release()
        assert (await peer.frame()).headers["receipt-id"] == "r"


# What else handlers can do.


async def test_a_session_keeps_an_apps_attributes(autojump_clock: MockClock) -> None:
    app, seen = StompApp(), []

    @app.on_message("/app/count")
    async def count(session: Session) -> None:
        session.attributes["n"] = n = int(str(session.attributes.get("n", 0))) + 1
        seen.append((session.id, n))

    async with open_test_server(app, QUIET) as server:
        for _ in range(2):
            peer = await open_peer(server)
            for _ in range(2):
                await peer.say("SEND", destination="/app/count", receipt="r")
                await peer.frame()
        assert [n for _, n in seen] == [1, 2, 1, 2]
        assert len({id for id, _ in seen}) == 2


async def test_handlers_are_counted(autojump_clock: MockClock) -> None:
    app, gate = StompApp(), trio.Event()

    @app.on_message("/app/x")
    async def x(message: Message) -> None:
        await gate.wait()

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/x", receipt="r")
        await wait_all_tasks_blocked()
        metrics = server.statistics().metrics
        assert (metrics.handlers_run, metrics.handlers_running) == (1, 1)
        gate.set()
        frame: Frame = await peer.frame()
        assert frame.command == "RECEIPT"
        assert server.statistics().metrics.handlers_running == 0


async def test_a_handler_that_cancels_its_own_scope_hurts_nobody(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_message("/app/x")
    async def x(message: Message) -> None:
        with trio.move_on_after(1):
            await trio.sleep_forever()

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", destination="/app/x", receipt="r")
        assert (await peer.frame()).command == "RECEIPT"
