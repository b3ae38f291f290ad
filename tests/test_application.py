"""The app while it is served: publishing, blocking calls, and one server at a time."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import pytest
import trio

from trio_stomp.app.application import StompApp
from trio_stomp.app.session import ConnectRequest
from trio_stomp.channels.pools import Pool, PoolDeclaration
from trio_stomp.errors import DestinationError, HandlerSignatureError, TrioStompError
from trio_stomp.messages.message import User

JSON = {"content-type": "application/json"}


@attrs.frozen
class Tick:
    price: float


class Publisher:
    """Keeps what it is given."""

    prefixes = ("/topic", "/queue")

    def __init__(self) -> None:
        self.published: list[tuple[Any, ...]] = []
        self.pools: Mapping[str, Pool] = {
            name: Pool(PoolDeclaration(name, threads=1)) for name in ("client_inbound", "payments")
        }

    async def publish(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        await trio.lowlevel.checkpoint()
        self.published.append((destination, body, dict(headers)))

    async def publish_to_user(
        self, name: str, destination: str, body: bytes, headers: Mapping[str, str], session_id: str | None
    ) -> None:
        await trio.lowlevel.checkpoint()
        self.published.append((name, destination, body, dict(headers), session_id))


@pytest.fixture
async def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
async def app(publisher: Publisher) -> AsyncIterator[StompApp]:
    app = StompApp(title="ticks")
    app.bind(publisher)
    yield app
    app.unbind()


async def test_publish_encodes_the_payload_and_says_of_what_type_it_is(
    app: StompApp, publisher: Publisher
) -> None:
    await app.publish("/topic/ticks", Tick(1.5))
    await app.publish("/queue/text", "hi")
    assert publisher.published[0] == ("/topic/ticks", b'{"price":1.5}', JSON)
    destination, body, headers = publisher.published[1]
    assert (destination, body) == ("/queue/text", b"hi")
    assert headers["content-type"].startswith("text/plain")


async def test_publish_takes_headers_and_they_win(app: StompApp, publisher: Publisher) -> None:
    await app.publish("/topic/x", b"\x89PNG", headers={"content-type": "image/png", "x": "y"})
    assert publisher.published == [("/topic/x", b"\x89PNG", {"content-type": "image/png", "x": "y"})]


async def test_publish_to_user_names_the_queue_without_user(app: StompApp, publisher: Publisher) -> None:
    await app.publish_to_user("ada", "/queue/x", Tick(1.5))
    await app.publish_to_user("ada", "/queue/x", Tick(1.5), session_id="s1", headers={"x": "y"})
    assert publisher.published == [
        ("ada", "/queue/x", b'{"price":1.5}', JSON, None),
        ("ada", "/queue/x", b'{"price":1.5}', {**JSON, "x": "y"}, "s1"),
    ]


@pytest.mark.parametrize("destination", ["", "/app/x", "/topic", "/topics/x", "topic/x", "/user/ada/queue/x"])
async def test_destination_outside_the_broker_is_refused(
    app: StompApp, publisher: Publisher, destination: str
) -> None:
    with pytest.raises(DestinationError) as caught:
        await app.publish(destination, "x")
    assert caught.value.destination == destination
    with pytest.raises(DestinationError):
        await app.publish_to_user("ada", destination, "x")
    assert publisher.published == []


async def test_payload_that_json_cannot_say_is_refused(app: StompApp, publisher: Publisher) -> None:
    with pytest.raises((TypeError, ValueError), match="JSON"):
        await app.publish("/topic/x", float("nan"))
    assert publisher.published == []


async def test_worker_thread_publishes(app: StompApp, publisher: Publisher) -> None:
    def work() -> None:
        app.publish_from_thread("/topic/x", Tick(1.5), headers={"x": "y"})
        app.publish_to_user_from_thread("ada", "/queue/x", Tick(1.5), session_id="s1")

    await trio.to_thread.run_sync(work)
    assert publisher.published == [
        ("/topic/x", b'{"price":1.5}', {**JSON, "x": "y"}),
        ("ada", "/queue/x", b'{"price":1.5}', JSON, "s1"),
    ]


async def test_thread_that_trio_does_not_know_publishes(app: StompApp, publisher: Publisher) -> None:
    thread = threading.Thread(target=app.publish_from_thread, args=("/topic/x", "x"))
    thread.start()
    await trio.to_thread.run_sync(thread.join)
    assert publisher.published[0][:2] == ("/topic/x", b"x")


async def test_worker_thread_gets_what_was_wrong(app: StompApp) -> None:
    with pytest.raises(DestinationError):
        await trio.to_thread.run_sync(app.publish_from_thread, "/app/x", "x")


async def test_publishing_from_thread_in_the_event_loop_is_refused(
    app: StompApp, publisher: Publisher
) -> None:
    with pytest.raises(RuntimeError):
        app.publish_from_thread("/topic/x", "x")
    assert publisher.published == []


async def test_run_blocking_runs_in_the_named_pool(app: StompApp, publisher: Publisher) -> None:
    payments = app.pool("payments", threads=1)

    def call(text: str) -> tuple[str, bool]:
        return text, trio.lowlevel.in_trio_run()

    assert await app.run_blocking(call, "a") == ("a", False)
    assert await app.run_blocking(call, "b", pool="payments") == ("b", False)
    assert await app.run_blocking(call, "c", pool=payments) == ("c", False)
    assert publisher.pools["client_inbound"].statistics().completed == 1
    assert publisher.pools["payments"].statistics().completed == 2


async def test_pool_that_there_is_not_is_named_by_the_error(app: StompApp) -> None:
    with pytest.raises((TrioStompError, KeyError), match="ghosts"):
        await app.run_blocking(print, pool="ghosts")


async def test_app_that_is_not_served_refuses_to_publish() -> None:
    app = StompApp()
    with pytest.raises(TrioStompError, match="served"):
        await app.publish("/topic/x", "x")
    with pytest.raises(TrioStompError, match="served"):
        await app.publish_to_user("ada", "/queue/x", "x")
    with pytest.raises(TrioStompError, match="served"):
        await app.run_blocking(threading.get_ident)
    with pytest.raises(TrioStompError, match="served"):
        await trio.to_thread.run_sync(app.publish_from_thread, "/topic/x", "x")


async def test_app_is_served_by_one_server_at_a_time(app: StompApp, publisher: Publisher) -> None:
    other = Publisher()
    with pytest.raises(TrioStompError, match="already"):
        app.bind(other)
    app.unbind()
    app.bind(other)
    await app.publish("/topic/x", "x")
    assert (len(publisher.published), len(other.published)) == (0, 1)


def test_app_says_whether_it_authenticates() -> None:
    app = StompApp()
    assert not app.authenticates

    @app.on_connect
    async def authenticate(request: ConnectRequest) -> User:
        return User("ada")

    assert app.authenticates


def test_second_on_connect_is_refused() -> None:
    app = StompApp()

    async def authenticate(request: ConnectRequest) -> User:
        return User("ada")

    app.on_connect(authenticate)
    with pytest.raises(HandlerSignatureError, match="authenticate"):
        app.on_connect(authenticate)


def test_pool_name_that_is_taken_is_refused() -> None:
    app = StompApp()
    app.pool("payments", threads=1)
    with pytest.raises(ValueError, match="payments"):
        app.pool("payments", threads=2)


@pytest.mark.parametrize("sizes", [{"threads": -1}, {"threads": 1, "queue": -1}])
def test_pool_of_impossible_size_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="payments"):
        StompApp().pool("payments", **sizes)


def test_lifespan_is_an_async_generator_function() -> None:
    async def returns() -> None: ...

    with pytest.raises(HandlerSignatureError, match="returns"):
        StompApp().lifespan(returns)


def test_compiling_twice_gives_two_apps_of_their_own() -> None:
    app = StompApp()
    first, second = app.compile(), app.compile()
    assert first is not second
