"""When a client comes back: how long it waits, whom it obeys, and what it takes for final."""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from peer import Gate, without_heart_beats
from returning import (
    HALF,
    At,
    Scripted,
    answering,
    coming_back,
    mute,
    refuse,
    scripted,
    seen,
    until_connected,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp import (
    ClientConfig,
    ConfigError,
    Connected,
    ConnectionLost,
    ConnectRefused,
    ConnectRequest,
    Disconnected,
    DrainConfig,
    Draining,
    GaveUp,
    HandshakeRefused,
    LocalProtocolError,
    Reconnect,
    RemoteProtocolError,
    Retrying,
    ServerError,
    StompApp,
    User,
    open_client,
)
from trio_stomp.client.reconnect import Backoff, is_final
from trio_stomp.stomp.frames import Frame
from trio_stomp.testing import open_test_server

QUIET = without_heart_beats()
LOST = ConnectionLost("x")
PACED = ConnectionLost("x", code=1012)


@pytest.fixture
async def at() -> AsyncIterator[At]:
    """A server to come back to."""
    async with open_test_server(None, QUIET) as server:
        yield At(server)


# The settings.


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"initial": 0}, "Reconnect.initial is 0, expected more than 0"),
        ({"initial": -1.0}, "Reconnect.initial is -1.0, expected seconds"),
        ({"initial": math.nan}, "Reconnect.initial is nan, expected seconds"),
        ({"initial": 60.0}, "Reconnect.initial is 60.0, expected more than 0 and at most Reconnect.maximum"),
        ({"maximum": math.inf}, "Reconnect.maximum is inf"),
        ({"steady": -1}, "Reconnect.steady is -1"),
        ({"longest_wish": -1}, "Reconnect.longest_wish is -1"),
        ({"attempts": 0}, "Reconnect.attempts is 0, expected at least 1, or None"),
        ({"sends": "drop"}, "Reconnect.sends is 'drop', expected 'wait' or 'fail'"),
    ],
)
def test_an_impossible_setting_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text.replace(".", r"\.")):
        Reconnect(**settings)


def test_settings_that_differ_in_chance_only_are_the_same() -> None:
    assert Reconnect() == HALF
    assert "chance" not in repr(HALF)


# How long it waits.


@pytest.mark.parametrize("chance", [0.0, 0.25, 0.999])
def test_the_back_off_doubles_up_to_its_maximum_and_has_full_jitter(chance: float) -> None:
    backoff = Backoff(Reconnect(chance=lambda: chance))
    waits = [backoff.after_loss(LOST, lived=100, told=None)]
    waits += [backoff.after_failure(OSError("x")) for _ in range(8)]
    assert waits == pytest.approx([chance * highest for highest in (0.5, 1, 2, 4, 8, 16, 30, 30, 30)])


def test_the_back_off_never_overflows() -> None:
    backoff = Backoff(HALF)
    assert [backoff.after_failure(LOST) for _ in range(3000)][-1] == 15


def test_a_steady_connection_lets_the_waiting_begin_small_again() -> None:
    backoff = Backoff(HALF)
    waits = [backoff.after_loss(LOST, lived=lived, told=None) for lived in (9.9, 9.9, 9.9, 10)]
    assert waits == [0.25, 0.5, 1.0, 0.25]


def test_a_paced_close_means_at_once() -> None:
    assert Backoff(HALF).after_loss(PACED, lived=0, told=None) == 0


def test_a_server_that_closes_with_1012_as_soon_as_it_has_accepted_is_not_hammered() -> None:
    backoff = Backoff(HALF)
    assert [backoff.after_loss(PACED, lived=1, told=None) for _ in range(3)] == [0, 0.5, 1.0]
    assert backoff.after_loss(PACED, lived=1, told=4.0) == 6.0


def test_a_time_that_was_told_is_kept_without_jitter_however_the_connection_ended() -> None:
    assert Backoff(HALF).after_loss(LOST, lived=100, told=7.0) == 7.0


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 4.0), (0.5, 5.0)])
def test_retry_after_is_kept_and_half_of_it_is_jitter(chance: float, seconds: float) -> None:
    busy = HandshakeRefused(503, "", {"retry-after": "4"})
    assert Backoff(Reconnect(chance=lambda: chance)).after_failure(busy) == seconds


def test_no_time_to_wait_is_no_reason_to_hammer() -> None:
    assert Backoff(HALF).after_failure(HandshakeRefused(503, "", {"retry-after": "0"})) == 0.25


def test_a_wish_beyond_the_longest_is_cut() -> None:
    assert Backoff(HALF).after_failure(HandshakeRefused(503, "", {"retry-after": "9" * 500})) == 750


DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "-7"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "\u0667"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 -0000", "date": DATE}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:30 GMT", "date": DATE}, 0.0),
        ({"retry-after": DATE}, 0.0),  # by our own clock: long past
    ],
)
def test_retry_after_is_read_in_both_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert HandshakeRefused(503, "", headers).retry_after == seconds


# What is final.


def _with_cause(cause: BaseException) -> ConnectionLost:
    error = ConnectionLost("TLS handshake")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *[(HandshakeRefused(status, "", {}), True) for status in (200, 301, 400, 401, 403, 404, 410)],
        *[(HandshakeRefused(status, "", {}), False) for status in (408, 425, 429, 500, 502, 503, 504)],
        (ServerError("no", Frame("ERROR", {}, b"")), True),
        (RemoteProtocolError("no STOMP"), True),
        (LocalProtocolError("a bad header"), True),
        (_with_cause(ssl.SSLCertVerificationError("untrusted")), True),
        (_with_cause(OSError()), False),
        (LOST, False),
        (ConnectionRefusedError(), False),
    ],
)
def test_what_will_fail_again_is_final(error: Exception, expected: bool) -> None:
    assert is_final(error) is expected


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_that_will_not_change_ends_it(status: int, at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at, answering(f"{status} no")) as (client, dial):
        await at.cut()
        with pytest.raises(HandshakeRefused) as raised:
            await client.send("/topic/a")
        assert raised.value.status == status
        assert (await seen(client, 4))[-1] == GaveUp(f"HTTP status {status}")
        assert len(dial.times) == 2


async def test_a_refusal_at_the_first_attempt_is_raised_at_once(autojump_clock: MockClock) -> None:
    started = trio.current_time()
    with pytest.raises(HandshakeRefused, match="404"):
        async with coming_back(answering("404 no")):
            raise AssertionError("not reached")
    assert trio.current_time() == started


async def test_a_login_that_is_refused_ends_it(autojump_clock: MockClock) -> None:
    app, logins = StompApp(), []

    @app.on_connect
    async def once(request: ConnectRequest) -> User:
        logins.append(request.login)
        if len(logins) > 1:
            raise ConnectRefused("expired")
        return User("ada")

    async with (
        open_test_server(app, QUIET) as server,
        coming_back(at := At(server), login="ada", passcode="p") as (client, _),
    ):
        assert client.user_name == "ada"
        await at.cut()
        with pytest.raises(ServerError, match="expired"):
            await client.send("/topic/a")
        assert logins == ["ada", "ada"]


async def test_a_url_that_is_none_is_refused_before_anything_is_tried() -> None:
    with pytest.raises(ValueError, match="not a WebSocket URL"):
        async with open_client("http://h/ws", reconnect=Reconnect()):
            raise AssertionError("not reached")


# How it comes back.


async def test_it_comes_back_and_says_so(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at) as (client, dial):
        assert client.is_connected
        first = client.session
        await at.cut()
        assert not client.is_connected
        assert await seen(client, 4) == [
            Connected(1, 0.0),
            Disconnected(1006, "ABNORMAL_CLOSURE"),
            Retrying(1, 0.25, "ABNORMAL_CLOSURE"),
            Connected(1, 0.25),
        ]
        assert client.is_connected
        assert dial.gaps == [0.25]
        assert client.session != first


async def test_events_are_log_lines_too(
    at: At, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_stomp.client")
    twice = Reconnect(chance=lambda: 0.5, attempts=2)
    async with coming_back(at, answering("502 x"), refuse, reconnect=twice) as (client, _):
        await at.cut()
        with pytest.raises(ConnectionLost):
            await client.send("/topic/a")
    assert [(r.levelname, r.message) for r in caplog.records if r.name == "trio_stomp.client"] == [
        ("INFO", "h: connected at attempt 1, after 0.0 seconds without"),
        ("WARNING", "h: disconnected (1006): ABNORMAL_CLOSURE"),
        ("INFO", "h: attempt 1 in 0.2 seconds: ABNORMAL_CLOSURE"),
        ("WARNING", "h: attempt 2 in 0.5 seconds: HTTP status 502"),
        ("ERROR", "h: gave up: 2 attempts have failed, the last one: nobody listens"),
    ]
    assert "secret" not in caplog.text


async def test_without_reconnect_the_loss_is_final_and_nothing_is_logged(
    at: At, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_stomp.client")
    async with coming_back(at, reconnect=None) as (client, dial):
        await at.cut()
        with pytest.raises(ConnectionLost, match=r"^ABNORMAL_CLOSURE$"):
            await client.send("/topic/a", "x", receipt=True)
        assert [event async for event in client.events] == [
            Connected(1, 0.0),
            Disconnected(1006, "ABNORMAL_CLOSURE"),
        ]
        assert len(dial.times) == 1
    assert "h: " not in caplog.text


async def test_failed_attempts_wait_longer_each_time(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at, refuse, answering("502 x"), refuse, refuse, at) as (client, dial):
        await at.cut()
        back = await until_connected(client, 2)
        assert (back.attempt, round(back.seconds, 6)) == (5, 0.25 + 0.5 + 1 + 2 + 4)
        assert dial.gaps == [0.25, 0.5, 1, 2, 4]


async def test_the_first_connection_is_tried_again_too(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(refuse, refuse, at) as (client, _):
        assert await seen(client, 3) == [
            Retrying(2, 0.25, "nobody listens"),
            Retrying(3, 0.5, "nobody listens"),
            Connected(3, 0.75),
        ]


async def test_an_attempt_takes_the_connect_timeout_at_most(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at, mute, at) as (client, dial):
        await at.cut()
        await client.send("/topic/a", receipt=True)
        assert dial.gaps == [0.25, 10.5]


class NoNames(trio.abc.HostnameResolver):
    """A resolver that does not answer."""

    async def getaddrinfo(self, *args: object, **kwargs: object) -> Any:
        await trio.sleep_forever()

    async def getnameinfo(self, *args: object, **kwargs: object) -> Any:
        raise AssertionError


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_opening_the_stream_takes_the_connect_timeout_at_most(
    scheme: str, autojump_clock: MockClock
) -> None:
    trio.socket.set_custom_hostname_resolver(NoNames())
    once = Reconnect(attempts=2, chance=lambda: 0.5)
    started = trio.current_time()
    with pytest.raises(ConnectionLost, match=r"the last one: h:\d+ did not answer within 10 seconds"):
        async with open_client(f"{scheme}://h/ws", reconnect=once):
            raise AssertionError("not reached")
    assert trio.current_time() - started == 20.25


async def test_it_gives_up_after_so_many_failures_in_a_row(at: At, autojump_clock: MockClock) -> None:
    three = Reconnect(chance=lambda: 0.5, attempts=3)
    async with (
        coming_back(at, refuse, refuse, at, refuse, reconnect=three) as (client, dial),
        client.subscribe("/topic/a") as messages,
    ):
        await at.cut()
        await until_connected(client, 2)  # at the third attempt: from here on they are counted anew
        await client.send("/topic/a", "arrived", receipt=True)
        await at.cut()
        with pytest.raises(ConnectionLost, match="3 attempts have failed, the last one: nobody") as up:
            await client.send("/topic/a", "x")
        assert isinstance(up.value.__cause__, ConnectionRefusedError)
        assert not client.is_connected
        assert (await messages.receive()).text == "arrived"
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="3 attempts"):
                await messages.receive()
        with pytest.raises(ConnectionLost, match="3 attempts"):
            await client.send("/topic/a", receipt=True)
        with pytest.raises(ConnectionLost, match="3 attempts"):
            async with client.subscribe("/topic/b"):
                raise AssertionError("not reached")
        *_, last = [event async for event in client.events]
        assert last == GaveUp("3 attempts have failed, the last one: nobody listens")
        assert len(dial.times) == 1 + 3 + 3


async def test_a_server_that_accepts_and_drops_is_not_hammered(autojump_clock: MockClock) -> None:
    async with coming_back(scripted(Scripted.welcome)) as (client, dial):
        await until_connected(client, 8)
        assert dial.gaps == [0.25, 0.5, 1, 2, 4, 8, 15]


async def test_a_connection_that_lived_ten_seconds_begins_anew(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at) as (client, dial):
        for lived in (1, 1, 10, 1):
            await until_connected(client)
            await trio.sleep(lived)
            await at.cut()
        await until_connected(client)
        assert dial.gaps == pytest.approx([1.25, 1.5, 10.25, 1.5])


async def test_a_server_that_falls_silent_is_left(at: At, autojump_clock: MockClock) -> None:
    async def silent(server: Scripted) -> None:
        await server.welcome(heart_beat="1000,0")
        await trio.sleep_forever()

    config = ClientConfig(heart_beat_send=0, heart_beat_receive=1)
    async with coming_back(scripted(silent), at, config=config) as (client, _):
        assert (await seen(client, 2))[1] == Disconnected(1006, "no heart-beat for 2.0 seconds")
        await client.send("/topic/a", receipt=True)


@pytest.mark.parametrize(("is_full", "seconds"), [(False, 0.25), (True, 1)])
async def test_a_server_that_does_not_answer_any_more_is_not_asked_to_close(
    is_full: bool, seconds: float, at: At, autojump_clock: MockClock
) -> None:
    """It is told, if there is room for that within a second; the back-off takes 0.25 seconds."""
    gates: list[Gate] = []

    async def stopped(nursery: trio.Nursery) -> trio.abc.Stream:
        async def stop(server: Scripted) -> None:
            await server.welcome(heart_beat="1000,0")
            await trio.sleep_forever()

        gates.append(Gate(await scripted(stop)(nursery)))
        return gates[0]

    config = ClientConfig(heart_beat_send=0, heart_beat_receive=1)
    async with coming_back(stopped, at, config=config) as (client, dial):
        for _ in range(3):  # more than its WebSocket takes without anybody reading
            await client.send("/topic/a")
        await wait_all_tasks_blocked()
        if is_full:
            gates[0].shut()
        await until_connected(client, 2)
        assert dial.gaps == [2 + seconds]


async def test_a_server_that_breaks_the_rules_is_left(at: At, autojump_clock: MockClock) -> None:
    async def rude(server: Scripted) -> None:
        await server.welcome()
        await server.say("MESSAGE", b"no headers")
        await server.frame()

    async with coming_back(scripted(rude), at) as (client, _):
        assert (await seen(client, 2))[1] == Disconnected(1002, "MESSAGE has no 'destination' header")
        await client.send("/topic/a", receipt=True)


# What the server says about when.


async def test_a_draining_server_is_left_at_the_time_it_says_and_the_next_one_met_at_once(
    at: At, autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_stomp.client")
    draining = without_heart_beats(drain=DrainConfig(delay=2, window=10))
    late = Reconnect(chance=lambda: 0.999)
    async with (
        open_test_server(None, draining) as old,
        coming_back(At(old), at, reconnect=late) as (client, dial),
    ):
        await wait_all_tasks_blocked()
        nursery.start_soon(old.server.drain)
        connected, told, lost, retrying, back = await seen(client, 5)
        assert 0 < told.reconnect_after < 10
        assert (connected, told, lost, retrying) == (
            Connected(1, 0.0),
            Draining(told.reconnect_after),
            Disconnected(1012, "the server is going away"),
            Retrying(1, retrying.delay, "the server is going away"),
        )
        assert retrying.delay < 0.001  # what was told is rounded to milliseconds
        assert back == Connected(1, pytest.approx(retrying.delay))
        assert dial.gaps == [pytest.approx(2 + told.reconnect_after, abs=0.001)]
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []
    assert f"h: the server is draining, reconnect after {told.reconnect_after:.1f} seconds" in caplog.text


@pytest.mark.parametrize("lived", [1, 100])
async def test_a_server_that_crashes_while_it_drains_is_not_met_before_the_time_it_said(
    lived: float, at: At, autojump_clock: MockClock
) -> None:
    async def drain(server: Scripted) -> None:
        await server.welcome(server="trio-stomp/0")
        await trio.sleep(lived)
        await server.notify(b'{"event": "draining", "reconnect_after": 6}')
        await trio.sleep(2)

    async with coming_back(scripted(drain), at) as (client, dial):
        assert await seen(client, 5) == [
            Connected(1, 0.0),
            Draining(6.0),
            Disconnected(1000, "NORMAL_CLOSURE"),
            Retrying(1, 4.0, "NORMAL_CLOSURE"),
            Connected(1, 4.0),
        ]
        assert dial.gaps == [lived + 6]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b"[]",
        b"3",
        b"{}",
        b'{"event": "draining"}',
        b'{"event": "draining", "reconnect_after": "soon"}',
        b'{"event": "draining", "reconnect_after": -1}',
        b'{"event": "draining", "reconnect_after": NaN}',
        b'{"event": "draining", "reconnect_after": 1%s}' % (b"0" * 400),
        b'{"event": "lunch", "reconnect_after": 3}',
        b"[" * 100_000,
    ],
    ids=lambda body: body[:50].decode("latin-1"),
)
async def test_a_notice_that_makes_no_sense_is_passed_over(
    body: bytes, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def babble(server: Scripted) -> None:
        await server.welcome(server="trio-stomp/0")
        await server.notify(body)
        await server.answer()
        await server.frame()

    async with coming_back(scripted(babble)) as (client, _):
        await client.send("/topic/a", receipt=True)
        assert await seen(client, 1) == [Connected(1, 0.0)]
        assert client.is_connected
    assert f"h: a notice that is not understood, of {len(body)} bytes" in caplog.text


async def test_a_far_time_is_cut_to_the_longest_wish(at: At, autojump_clock: MockClock) -> None:
    async def drain(server: Scripted) -> None:
        await server.welcome(server="trio-stomp/0")
        await server.notify(b'{"event": "draining", "reconnect_after": Infinity}')

    async with coming_back(scripted(drain), at) as (client, dial):
        assert (await seen(client, 2))[1] == Draining(600.0)
        await until_connected(client)
        assert dial.gaps == [600]


async def test_a_server_of_another_kind_is_not_asked_for_notices(autojump_clock: MockClock) -> None:
    commands = []

    async def other(server: Scripted) -> None:
        await server.welcome(server="RabbitMQ/4")
        commands.append((await server.answer()).command)
        await server.frame()

    async with coming_back(scripted(other)) as (client, _):
        await client.send("/topic/a", receipt=True)
    assert commands == ["SEND"]


async def test_notices_that_are_refused_are_not_asked_for_again(autojump_clock: MockClock) -> None:
    commands = []

    async def refusing(server: Scripted) -> None:
        await server.welcome(server="trio-stomp/0")
        commands.append((await server.refuse("no")).command)

    async with coming_back(scripted(refusing)) as (client, _):
        await until_connected(client, 2)
        with pytest.raises(ServerError):
            await client.send("/topic/a", receipt=True)
    assert commands == ["SUBSCRIBE", "SEND"]


async def test_a_503_with_retry_after_is_kept(at: At, autojump_clock: MockClock) -> None:
    async with coming_back(at, answering("503 x", "Retry-After: 20"), at) as (client, dial):
        await at.cut()
        await client.send("/topic/a", receipt=True)
        assert Retrying(2, 25.0, "HTTP status 503") in await seen(client, 5)
        assert dial.gaps == [0.25, 25.0]
