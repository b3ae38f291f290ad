"""The load generator against servers over memory streams: exact numbers on a clock that jumps."""

from __future__ import annotations

import gc
import itertools
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from peer import Gate
from stress_peer import Script, ScriptedPeer, a_plan, endpoint_at, no_numbers, run_load, scripted
from trio.testing import MockClock

from trio_stomp import ConnectRefused, ConnectRequest, Message, StompApp, User
from trio_stomp.errors import OverloadedError
from trio_stomp.groups import bare_errors
from trio_stomp.stress.endpoint import Endpoint
from trio_stomp.stress.load import open_load
from trio_stomp.stress.plan import StressError
from trio_stomp.stress.results import Run
from trio_stomp.stress.scrape import scrape
from trio_stomp.stress.summary import make_run
from trio_stomp.testing import open_test_server


def app_of(handler: Callable[..., Any], **options: Any) -> StompApp:
    app = StompApp()
    app.on_message("/app/pay", send_to_user="/queue/receipts", **options)(handler)
    return app


async def run_app(app: StompApp, **changes: Any) -> Run:
    with bare_errors():
        async with open_test_server(app) as server:
            return await run_load(a_plan(**changes), endpoint_at(server))


def ends(run: Run) -> dict[str, int]:
    """How the requests ended, what did not occur left out; the sum is what was sent."""
    names = ("answered", "rejected", "errors", "lost", "unanswered")
    counts = {name: getattr(run, name) for name in names}
    assert sum(counts.values()) == run.sent
    return {name: count for name, count in counts.items() if count}


# Against a server of ours


async def test_a_handler_that_sleeps_shows_its_sleep_exactly(autojump_clock: MockClock) -> None:
    async def pay(n: dict[str, int]) -> dict[str, int]:
        await trio.sleep(0.02)
        return n

    run = await run_app(app_of(pay), clients=4, rate=100, duration=2, warm_up=0.5)
    assert ends(run) == {"answered": 200}
    for latency in (run.corrected, run.raw):
        assert (latency.count, latency.p50, latency.p999) == (200, pytest.approx(0.02), pytest.approx(0.02))
        assert latency.mean == pytest.approx(0.02)
    assert run.achieved == pytest.approx(100, abs=1)
    assert run.split is not None
    assert (run.split.late, run.split.session) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert run.split.rest == pytest.approx(0.02)
    assert (run.duplicates, run.disconnects, run.failures) == (0, 0, ())


async def test_a_session_that_is_too_slow_for_its_requests_makes_them_wait(autojump_clock: MockClock) -> None:
    async def pay(n: dict[str, int]) -> dict[str, int]:
        await trio.sleep(0.2)
        return n

    run = await run_app(app_of(pay))  # due every 0.1 s, and each takes 0.2
    assert ends(run) == {"answered": 10}
    assert run.corrected.max == pytest.approx(0.2 + 9 * 0.1)
    assert run.split is not None
    assert run.split.session == pytest.approx(sum(0.1 * k for k in range(10)) / 10)
    assert run.split.rest == pytest.approx(0.2)
    assert run.achieved == 4  # at 0.2, 0.4, 0.6 and 0.8


async def test_a_stall_shows_in_every_request_that_was_due_meanwhile(autojump_clock: MockClock) -> None:
    """What a closed loop would leave out (coordinated omission): it would have seen one slow request."""
    calls = 0

    async def pay(n: dict[str, int]) -> dict[str, int]:
        nonlocal calls
        calls += 1
        await trio.sleep(1.0 if calls == 21 else 0.001)
        return n

    run = await run_app(app_of(pay), rate=100, duration=2, grace=5)
    assert ends(run) == {"answered": 200}
    # Due at 0.20 and answered at 1.20; those due until then are served one by one after it, 1 ms each.
    slow = [max(1.0 - 0.009 * n, 0.001) for n in range(180)]
    assert run.corrected.mean == pytest.approx((20 * 0.001 + sum(slow)) / 200, rel=0.02)
    assert run.corrected.p50 == pytest.approx(0.1, abs=0.02)
    assert run.corrected.max == pytest.approx(1.0)
    assert max(moment.p99 for moment in run.timeline) == pytest.approx(1.0, abs=0.01)


async def test_a_full_connection_delays_its_own_sends_alone(autojump_clock: MockClock) -> None:
    """One peer takes nothing for a second: what was due to it goes out late, and counts from then."""
    gates = []

    async def script(peer: ScriptedPeer) -> None:
        await peer.welcome()
        await peer.answer_all()

    async with trio.open_nursery() as nursery:
        endpoint = scripted(nursery, script)

        async def dial() -> trio.abc.Stream:
            gates.append(Gate(await endpoint.dial()))
            return gates[-1]

        async def stall() -> None:
            await trio.sleep(0.35)
            gates[0].shut()
            await trio.sleep(1.0)
            gates[0].open()

        async with open_load(a_plan(clients=2), attrs.evolve(endpoint, dial=dial)) as load:
            nursery.start_soon(stall)
            run = make_run(await load.run(20, read_server=no_numbers), label="run")
        nursery.cancel_scope.cancel()
    assert ends(run) == {"answered": 20}
    assert run.raw.max == pytest.approx(0.0, abs=1e-6)
    assert run.corrected.p50 == pytest.approx(0.0, abs=1e-6)  # the other one's, all ten
    assert run.corrected.max == pytest.approx(0.95, abs=0.11)
    assert run.split is not None
    assert run.split.late == pytest.approx(run.corrected.mean)
    assert not run.generator.is_bottleneck


async def test_a_connection_that_takes_no_more_to_the_end_is_cut_and_told(autojump_clock: MockClock) -> None:
    gates = []

    async def script(peer: ScriptedPeer) -> None:
        await peer.welcome()
        await peer.answer(await peer.frame())
        gates[0].shut()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        endpoint = scripted(nursery, script)

        async def dial() -> trio.abc.Stream:
            gates.append(Gate(await endpoint.dial()))
            return gates[-1]

        run = await run_load(a_plan(), attrs.evolve(endpoint, dial=dial))
        nursery.cancel_scope.cancel()
    assert ends(run) == {"answered": 1, "lost": 1}  # the second was on its way when it was cut
    assert run.disconnects == 0
    assert run.failures == (
        ("not sent: the connection took no more bytes", 8),
        ("cut by us: it took no more bytes", 1),
    )


async def test_what_the_app_refuses_is_rejected_or_an_error(autojump_clock: MockClock) -> None:
    numbers = itertools.count()

    async def pay(n: dict[str, int]) -> dict[str, int]:
        match next(numbers) % 5:
            case 1:
                raise OverloadedError("the pool has no room")
            case 2:
                raise ValueError("secret")
            case 3:
                await trio.sleep(5)
        return n

    run = await run_app(app_of(pay, timeout=0.05))
    assert ends(run) == {"answered": 4, "rejected": 2, "errors": 4}
    assert dict(run.failures) == {
        "overloaded: the pool has no room": 2,
        "internal_error: internal error": 2,
        "timeout: no answer within 0.05 seconds": 2,
    }
    assert (run.corrected.count, run.raw.count) == (10, 4)


async def test_a_handler_without_a_reply_is_answered_by_its_receipt(autojump_clock: MockClock) -> None:
    async def pay(n: dict[str, int]) -> None:
        await trio.sleep(0.05)

    app = StompApp()
    app.on_message("/app/pay")(pay)
    run = await run_app(app, reply=None)
    assert ends(run) == {"answered": 10}
    assert run.raw.max == pytest.approx(0.05)


async def test_handlers_that_run_at_once_may_overtake(autojump_clock: MockClock) -> None:
    numbers = itertools.count()

    async def pay(n: dict[str, int]) -> dict[str, int]:
        await trio.sleep(0.5 if next(numbers) == 0 else 0.01)
        return n

    run = await run_app(app_of(pay, concurrency=8))
    assert ends(run) == {"answered": 10}
    assert (run.raw.max, run.raw.p50) == pytest.approx((0.5, 0.01))


async def test_a_reply_that_nobody_sends_is_lost(autojump_clock: MockClock) -> None:
    async def pay(n: dict[str, int]) -> None:
        pass

    run = await run_app(app_of(pay))
    assert ends(run) == {"lost": 10}
    assert run.failures == (("RECEIPT without a MESSAGE on /user/queue/receipts", 10),)
    assert run.split is None


async def test_the_wait_for_the_last_answers_ends_with_them(autojump_clock: MockClock) -> None:
    async def pay(n: dict[str, int]) -> dict[str, int]:
        return n

    plan = a_plan(grace=1000)
    async with open_test_server(app_of(pay)) as server:
        started = trio.current_time()
        await run_load(plan, endpoint_at(server))
        assert trio.current_time() - started == pytest.approx(1.0, abs=0.1)


async def test_silent_requests_are_unanswered_at_the_age_of_the_end(autojump_clock: MockClock) -> None:
    async def pay(n: dict[str, int]) -> dict[str, int]:
        await trio.sleep(1000)
        return n

    run = await run_app(app_of(pay), grace=2)
    assert ends(run) == {"unanswered": 10}
    assert (run.corrected.max, run.corrected.p50) == pytest.approx((3.0, 2.5))
    assert (run.achieved, run.raw.count) == (0.0, 0)


async def test_runs_on_the_same_connections_do_not_mix(autojump_clock: MockClock) -> None:
    is_slow = True

    async def pay(n: dict[str, int]) -> dict[str, int]:
        if is_slow:
            await trio.sleep(0.3)
        return n

    async with (
        open_test_server(app_of(pay)) as server,
        open_load(a_plan(grace=0), endpoint_at(server)) as load,
    ):
        first = make_run(await load.run(10, read_server=no_numbers), label="first")
        is_slow = False
        second = make_run(await load.run(10, read_server=no_numbers), label="second")
    assert ends(first) == {"answered": 3, "unanswered": 7}
    assert ends(second) == {"answered": 10}
    assert second.duplicates == 0


async def test_the_servers_numbers_are_read_at_both_ends(autojump_clock: MockClock) -> None:
    async def pay(n: dict[str, int]) -> dict[str, int]:
        return n

    async with open_test_server(app_of(pay)) as server:
        endpoint = endpoint_at(server)
        async with open_load(a_plan(warm_up=1, duration=2), endpoint) as load:
            measured = await load.run(10, read_server=partial(scrape, endpoint))
    assert measured.first is not None
    assert measured.last is not None
    assert measured.last.at - measured.first.at == pytest.approx(2.0)
    assert measured.first.served == pytest.approx(10, abs=1)  # the warm-up's
    assert measured.last.served == pytest.approx(30, abs=1)


async def test_login_and_headers_reach_the_server(autojump_clock: MockClock) -> None:
    seen = []
    app = StompApp()

    @app.on_connect
    async def authenticate(request: ConnectRequest) -> User:
        seen.append((request.login, request.passcode))
        return User("ada")

    @app.on_message("/app/pay", send_to_user="/queue/receipts")
    async def pay(message: Message) -> str:
        seen.append((message.headers["x-kind"], message.headers["content-type"]))
        return "ok"

    changes = {"login": "ada", "passcode": "p", "headers": (("x-kind", "a:b\n"),)}
    run = await run_app(app, rate=1, **changes)
    assert ends(run) == {"answered": 1}
    assert seen == [("ada", "p"), ("a:b\n", "application/json")]


async def test_a_body_that_is_no_text_goes_as_it_is(autojump_clock: MockClock) -> None:
    bodies = []

    async def pay(message: Message) -> bytes:
        bodies.append(message.body)
        return b""

    body = bytes(range(256))
    run = await run_app(app_of(pay), body=body, content_type=None)
    assert ends(run) == {"answered": 10}
    assert bodies == [body] * 10


# Against a peer that does what a test says


async def run_script(*scripts: Script, **changes: Any) -> Run:
    with bare_errors():
        async with trio.open_nursery() as nursery:
            run = await run_load(a_plan(**changes), scripted(nursery, *scripts))
            nursery.cancel_scope.cancel()
    return run


async def test_it_introduces_itself_as_a_client_without_heart_beats(autojump_clock: MockClock) -> None:
    frames = []

    async def script(peer: ScriptedPeer) -> None:
        frames.extend(await peer.welcome())
        frames.append(await peer.frame())
        frames[-1].headers["protocols"] = peer.head["sec-websocket-protocol"]
        await peer.answer(frames[-1])
        await peer.answer_all()

    await run_script(script, login="ada", passcode="p", headers=(("x", "1"),))
    connect, *subscribed, send = frames
    assert connect.headers == {
        "accept-version": "1.1,1.2",
        "host": "h",
        "heart-beat": "0,0",
        "login": "ada",
        "passcode": "p",
    }
    assert sorted(frame.headers["destination"] for frame in subscribed) == [
        "/user/queue/errors",
        "/user/queue/receipts",
    ]
    assert send.body == b'{"n": 1}'
    assert send.headers == {
        "destination": "/app/pay",
        "content-type": "application/json",
        "x": "1",
        "receipt": "1",
        "content-length": "8",
        "protocols": "v12.stomp, v11.stomp",
    }


async def test_lost_duplicate_and_silent_answers_are_told_apart(autojump_clock: MockClock) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.welcome()
        sends = [await peer.frame() for _ in range(10)]
        await peer.say("RECEIPT", receipt_id=sends[0].headers["receipt"])  # without a reply
        await peer.reply()
        await peer.answer(sends[1])  # a reply too many
        await peer.fail(sends[2], "overloaded")
        await peer.fail(sends[4], "timeout")  # the fourth is left out
        await peer.answer(sends[5])
        await peer.answer(sends[5])  # told twice
        await trio.sleep_forever()

    run = await run_script(script)
    assert ends(run) == {"answered": 2, "rejected": 1, "errors": 1, "lost": 2, "unanswered": 4}
    assert run.duplicates == 2


async def test_a_server_without_receipts_is_matched_in_order(autojump_clock: MockClock) -> None:
    async def script(peer: ScriptedPeer) -> None:
        frames = await peer.welcome(receipts=False)
        assert not any("receipt" in frame.headers for frame in frames)
        while True:
            send = await peer.frame()
            assert "receipt" not in send.headers
            await peer.reply()

    run = await run_script(script, receipts=False)
    assert ends(run) == {"answered": 10}


async def error_frame(peer: ScriptedPeer) -> None:
    await peer.say("ERROR", message="no more of this")
    await peer.close(1008)


async def close_frame(peer: ScriptedPeer) -> None:
    await peer.close(1012, b"going down")


async def hang_up(peer: ScriptedPeer) -> None:
    await peer.stream.aclose()


async def bad_frame(peer: ScriptedPeer) -> None:
    await peer.say("RECEIPT")


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (error_frame, "ERROR: no more of this"),
        (close_frame, "closed with 1012: going down"),
        (hang_up, "connection lost"),
        (bad_frame, "RECEIPT has no 'receipt-id' header"),
    ],
)
async def test_a_connections_end_is_its_own(end: Script, text: str, autojump_clock: MockClock) -> None:
    async def ending(peer: ScriptedPeer) -> None:
        await peer.welcome()
        await peer.answer(await peer.frame())
        await peer.frame()
        await end(peer)

    async def lasting(peer: ScriptedPeer) -> None:
        await peer.welcome()
        await peer.answer_all()

    run = await run_script(ending, lasting, clients=2, rate=20)
    assert ends(run) == {"answered": 11, "lost": 1}
    assert run.disconnects == 1
    assert run.failures == (("not sent: the connection had ended", 8), (text, 1))


class Deaf(trio.abc.Stream):
    """A stream on which nothing can be written from some moment on, while reading goes on."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.is_deaf = False
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_deaf:
            raise trio.BrokenResourceError
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.parametrize("is_deaf_from", ["connect", "send"])
async def test_a_failed_write_ends_the_connection(is_deaf_from: str, autojump_clock: MockClock) -> None:
    streams: list[Deaf] = []

    async def script(peer: ScriptedPeer) -> None:
        await peer.shake_hands()
        streams[0].is_deaf = is_deaf_from == "connect"
        await peer.introduce()
        await peer.answer(await peer.frame())
        streams[0].is_deaf = True
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        endpoint = scripted(nursery, script)

        async def dial() -> trio.abc.Stream:
            streams.append(Deaf(await endpoint.dial()))
            return streams[-1]

        deaf = attrs.evolve(endpoint, dial=dial)
        if is_deaf_from == "connect":
            with pytest.raises(StressError, match="connection lost"):
                await run_load(a_plan(), deaf)
        else:
            run = await run_load(a_plan(), deaf)
            assert ends(run) == {"answered": 1, "lost": 1}
            assert run.disconnects == 1
            assert dict(run.failures)["connection lost"] == 1
        nursery.cancel_scope.cancel()


async def test_an_answer_in_pieces_is_an_answer(autojump_clock: MockClock) -> None:
    """A message in fragments goes through the library, and the order stays."""

    async def script(peer: ScriptedPeer) -> None:
        await peer.welcome()
        await peer.answer(await peer.frame())
        send = await peer.frame()
        message = b"MESSAGE\nsubscription:reply\ndestination:/x\nmessage-id:1\n\n\0"
        await peer.stream.send_all(
            b"\x01\x0a" + message[:10] + b"\x80" + bytes((len(message) - 10,)) + message[10:]
        )
        await peer.say("RECEIPT", receipt_id=send.headers["receipt"])
        await peer.answer_all()

    run = await run_script(script)
    assert ends(run) == {"answered": 10}


async def test_pings_are_answered(autojump_clock: MockClock) -> None:
    pongs = []

    async def script(peer: ScriptedPeer) -> None:
        await peer.welcome()
        await peer.stream.send_all(b"\x89\x02hi")
        opcode, payload = await peer._read()
        pongs.append((opcode, payload))
        await peer.answer_all()

    run = await run_script(script)
    assert pongs == [(10, b"hi")]
    assert ends(run) == {"answered": 10}


# Connections that cannot be made


async def refused_by(*scripts: Script, **changes: Any) -> str:
    with pytest.raises(StressError) as refused:
        await run_script(*scripts, **changes)
    return str(refused.value)


async def test_a_refused_handshake_says_which_client_and_why(autojump_clock: MockClock) -> None:
    async def welcome(peer: ScriptedPeer) -> None:
        await peer.welcome()
        await peer.answer_all()

    async def refuse(peer: ScriptedPeer) -> None:
        await peer.stream.send_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nfull")

    text = await refused_by(welcome, refuse, clients=2)
    assert re.fullmatch(r"client [12] of 2 cannot connect: the server refused .* status 503: full", text)


async def test_a_refused_login_says_why(autojump_clock: MockClock) -> None:
    app = StompApp()

    @app.on_connect
    async def authenticate(request: ConnectRequest) -> User:
        raise ConnectRefused("who are you?")

    with pytest.raises(StressError, match=r"client 1 of 1 .* answered with ERROR: who are you"):
        await run_app(app)


async def hang_up_instead(peer: ScriptedPeer) -> None:
    await peer.read_head()
    await peer.stream.aclose()


async def hang_up_after_connect(peer: ScriptedPeer) -> None:
    await peer.shake_hands()
    await peer.frame()
    await peer.stream.aclose()


async def refuse_subscription(peer: ScriptedPeer) -> None:
    await peer.shake_hands()
    await peer.frame()
    await peer.say("CONNECTED", version="1.2")
    await peer.frame()
    await peer.say("ERROR", message="not allowed")


async def say_nothing(peer: ScriptedPeer) -> None:
    await peer.shake_hands()
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (hang_up_instead, "hung up during the WebSocket handshake"),
        (hang_up_after_connect, "connection lost"),
        (refuse_subscription, "the server answered with ERROR: not allowed"),
        (say_nothing, "no answer to CONNECT within 10 seconds"),
    ],
)
async def test_a_server_that_does_not_let_us_in_says_so(
    script: Script, text: str, autojump_clock: MockClock
) -> None:
    assert text in await refused_by(script)


async def test_nobody_there_is_one_error() -> None:
    async def dial() -> trio.abc.Stream:
        raise ConnectionRefusedError(111, "Connection refused")

    endpoint = Endpoint(dial=dial, host="h", authority="h", resource="/ws")
    with pytest.raises(StressError, match=r"client 1 of 20 cannot connect: .*Connection refused"):
        await run_load(a_plan(clients=20), endpoint)


async def test_not_all_connect_at_once(autojump_clock: MockClock) -> None:
    going = most = 0

    async def script(peer: ScriptedPeer) -> None:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await trio.sleep(1)
        await peer.welcome()
        going -= 1
        await peer.answer_all()

    run = await run_script(script, clients=200, rate=200)
    assert ends(run) == {"answered": 200}
    assert most == 64


async def test_cancelling_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async def pay(n: dict[str, int]) -> dict[str, int]:
        await trio.sleep(1000)
        return n

    async with open_test_server(app_of(pay)) as server:
        with trio.move_on_after(0.5) as scope:
            await run_load(a_plan(clients=5), endpoint_at(server))
        assert scope.cancelled_caught
        assert gc.get_freeze_count() == 0
