"""The project's own client against a real server, over TCP and over TLS."""

from __future__ import annotations

import contextlib
import logging
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
import trustme
from network.support import PATIENCE, ServerProgram, serving

from trio_stomp import (
    ClientConfig,
    Connected,
    ConnectionLost,
    Disconnected,
    HandshakeRefused,
    Reconnect,
    Retrying,
    ServerError,
    open_client,
)

MEBIBYTE = 1024 * 1024


@attrs.frozen
class Point:
    x: int
    y: float


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProgram]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls_server(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProgram]:
    folder: Path = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key = folder / "chain.pem", folder / "key.pem"
    key.write_bytes(certificate.private_key_pem.bytes())
    chain.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    with serving("--tls-cert", str(chain), "--tls-key", str(key)) as server:
        yield server


async def test_what_is_sent_arrives_with_its_type(server: ServerProgram) -> None:
    with trio.fail_after(PATIENCE):
        async with open_client(server.url) as client, client.subscribe("/topic/points", Point) as points:
            await client.send("/topic/points", Point(1, 2.5), receipt=True)
            assert await points.receive() == Point(1, 2.5)


async def test_text_bytes_and_headers_arrive_as_they_were(server: ServerProgram) -> None:
    with trio.fail_after(PATIENCE):
        async with open_client(server.url) as client, client.subscribe("/topic/mixed") as messages:
            await client.send("/topic/mixed", "grüße", headers={"mood": "a:b\\c\r\nd"})
            await client.send("/topic/mixed", bytes(range(256)))
            first, second = await messages.receive(), await messages.receive()
            assert first.text == "grüße"
            assert first.headers["mood"] == "a:b\\c\r\nd"
            assert second.body == bytes(range(256))
            assert second.headers["content-type"] == "application/octet-stream"


async def test_a_mebibyte_passes(server: ServerProgram) -> None:
    with trio.fail_after(PATIENCE):
        async with open_client(server.url) as client, client.subscribe("/topic/large") as messages:
            await client.send("/topic/large", b"x\0" * (MEBIBYTE // 2), receipt=True)
            assert (await messages.receive()).body == b"x\0" * (MEBIBYTE // 2)


async def test_a_refused_frame_raises_the_servers_reason(server: ServerProgram) -> None:
    with trio.fail_after(PATIENCE):
        async with open_client(server.url) as client:
            with pytest.raises(ServerError, match="/nowhere/x"):
                await client.send("/nowhere/x", "?", receipt=True)


async def test_a_wrong_path_is_refused_with_its_status(server: ServerProgram) -> None:
    with trio.fail_after(PATIENCE), pytest.raises(HandshakeRefused, match="404"):
        async with open_client(server.url + "-not"):
            pass


async def test_a_server_that_is_killed_ends_the_subscription(server: ServerProgram) -> None:
    del server  # its own: this one is killed
    with serving() as doomed, trio.fail_after(PATIENCE):
        async with open_client(doomed.url) as client, client.subscribe("/topic/x") as messages:
            doomed.process.kill()
            with pytest.raises(ConnectionLost):
                await messages.receive()
        doomed.wait()


async def test_tls_by_certificate_and_key(tls_server: ServerProgram, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    assert tls_server.url.startswith("wss://127.0.0.1:")
    with trio.fail_after(PATIENCE):
        async with (
            open_client(tls_server.url, ssl_context=context) as client,
            client.subscribe("/topic/secret") as messages,
        ):
            await client.send("/topic/secret", b"x" * MEBIBYTE, receipt=True)
            assert len((await messages.receive()).body) == MEBIBYTE


async def test_an_untrusted_certificate_is_refused(tls_server: ServerProgram) -> None:
    with trio.fail_after(PATIENCE), pytest.raises(ConnectionLost, match="certificate") as caught:
        async with open_client(tls_server.url):
            pass
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_many_tls_connections_at_once(tls_server: ServerProgram, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    arrived: list[str] = []

    async def one(number: int) -> None:
        destination = f"/topic/tls/{number}"
        async with (
            open_client(tls_server.url, ssl_context=context) as client,
            client.subscribe(destination) as messages,
        ):
            await client.send(destination, f"hello {number}")
            arrived.append((await messages.receive()).text)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)
    assert sorted(arrived) == sorted(f"hello {number}" for number in range(20))


async def test_a_server_without_tls_is_told_from_one_that_does_not_answer(server: ServerProgram) -> None:
    with trio.fail_after(PATIENCE), pytest.raises(ConnectionLost, match=r"TLS handshake with 127\.0\.0\.1: "):
        async with open_client(server.url.replace("ws://", "wss://")):
            pass


async def test_a_server_that_does_not_answer_over_tls_is_left_in_time() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"wss://127.0.0.1:{listener.socket.getsockname()[1]}/ws"
    async with listener:
        with pytest.raises(ConnectionLost, match=r"TLS handshake with 127\.0\.0\.1: no answer within 0"):
            async with open_client(url, config=ClientConfig(connect_timeout=0.2)):
                raise AssertionError("not reached")
        with trio.move_on_after(0.2) as scope:
            async with open_client(url):
                raise AssertionError("not reached")
        assert scope.cancelled_caught


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_server_that_is_restarted_is_come_back_to(how: signal.Signals) -> None:
    """Its subscription goes on, and what was sent meanwhile goes out."""
    eager = Reconnect(initial=0.05, maximum=0.2)
    with contextlib.ExitStack() as servers, trio.fail_after(PATIENCE):
        first = servers.enter_context(serving())
        async with (
            open_client(first.url, reconnect=eager) as client,
            client.subscribe("/topic/x") as messages,
            trio.open_nursery() as nursery,
        ):
            first.send_signal(how)
            async for event in client.events:
                if isinstance(event, Disconnected):
                    assert event.code == (1012 if how is signal.SIGTERM else 1006)
                    break
            await trio.to_thread.run_sync(first.wait)
            for number in range(3):
                nursery.start_soon(client.send, "/topic/x", f"{number}")
                await trio.testing.wait_all_tasks_blocked()
            assert not client.is_connected
            await trio.to_thread.run_sync(servers.enter_context, serving(port=first.port))
            assert [(await messages.receive()).text for _ in range(3)] == ["0", "1", "2"]
            await client.send("/topic/x", "on", receipt=True)
            assert (await messages.receive()).text == "on"


@pytest.mark.slow
async def test_a_full_server_is_come_back_to_when_it_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_stomp.client")
    seconds: list[float] = []

    delays: list[float] = []

    async def come(url: str) -> None:
        async with open_client(url, reconnect=Reconnect(chance=lambda: 0.0)) as client:
            async for event in client.events:
                if isinstance(event, Connected):
                    seconds.append(event.seconds)
                    break
                assert isinstance(event, Retrying)
                delays.append(event.delay)
            await client.send("/topic/x", receipt=True)

    with serving("--set", "accept.connections=1") as full, trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery, open_client(full.url):
            nursery.start_soon(come, full.url)
            while "HTTP status 503" not in caplog.text:  # noqa: ASYNC110  # nothing else tells
                await trio.sleep(0.01)
    assert delays == [round(delays[0])]
    assert 1 <= delays[0] <= 5
    assert delays[0] <= seconds[0] < delays[0] + 1
