"""stomp.py against a real server, over WebSocket, TCP and TLS: what programs in Python use already."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from network.support import PATIENCE, ServerProgram, certificate, eventually, serving

stomp = pytest.importorskip("stomp", reason="stomp.py is not installed")
pytest.importorskip("websocket", reason="websocket-client, which stomp.py needs, is not installed")
from stomp.adapter.ws import WSStompConnection  # noqa: E402  (it needs websocket-client)


class Listener(stomp.ConnectionListener):  # type: ignore[misc, name-defined]  # stomp.py has no types
    """Keeps what comes, to be waited for from the test's thread."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Any] = queue.Queue()
        self.receipts: queue.Queue[Any] = queue.Queue()
        self.errors: queue.Queue[Any] = queue.Queue()
        self.connected: queue.Queue[Any] = queue.Queue()

    def on_connected(self, frame: Any) -> None:
        self.connected.put(frame)

    def on_message(self, frame: Any) -> None:
        self.messages.put(frame)

    def on_receipt(self, frame: Any) -> None:
        self.receipts.put(frame)

    def on_error(self, frame: Any) -> None:
        self.errors.put(frame)


def over_websocket(server: ServerProgram, trusted: str) -> Any:
    return WSStompConnection([("127.0.0.1", server.port)], ws_path="/ws", timeout=PATIENCE)


def over_tcp(server: ServerProgram, trusted: str) -> Any:
    return stomp.StompConnection12([("127.0.0.1", server.tcp_port)], timeout=PATIENCE)


def over_tls(server: ServerProgram, trusted: str) -> Any:
    connection = over_tcp(server, trusted)
    connection.set_ssl([("127.0.0.1", server.tcp_port)], ca_certs=trusted)
    return connection


Way = Callable[[ServerProgram, str], Any]


@pytest.fixture(scope="module", params=[over_websocket, over_tcp, over_tls], ids=lambda way: way.__name__)
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[str, ...], str]:
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def server(way: Way, trusted: tuple[tuple[str, ...], str]) -> Iterator[ServerProgram]:
    with serving("--tcp-port", "0", *(trusted[0] if way is over_tls else ())) as server:
        assert server.tcp_url.startswith("stomp+ssl://" if way is over_tls else "stomp://")
        yield server


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def connection(
    server: ServerProgram, listener: Listener, way: Way, trusted: tuple[tuple[str, ...], str]
) -> Iterator[Any]:
    connection = way(server, trusted[1])
    connection.set_listener("test", listener)
    connection.connect("ada", "lovelace", wait=True)
    yield connection
    if connection.is_connected():
        connection.disconnect(receipt="bye")
        eventually(lambda: not connection.is_connected(), "stomp.py has disconnected")
    if way is not over_tls:  # whose thread may wait for ever: see the last but one test
        connection.transport.io_thread.join(PATIENCE)


def subscribe(connection: Any, listener: Listener, destination: str) -> None:
    connection.subscribe(destination, id="s1", headers={"receipt": "subscribed"})
    assert listener.receipts.get(timeout=PATIENCE).headers["receipt-id"] == "subscribed"


@pytest.mark.usefixtures("connection")
def test_it_connects_as_1_2(listener: Listener) -> None:
    headers = listener.connected.get(timeout=PATIENCE).headers
    assert headers["version"] == "1.2"
    assert headers["server"].startswith("trio-stomp/")


def test_a_message_comes_back_with_its_headers(connection: Any, listener: Listener) -> None:
    subscribe(connection, listener, "/topic/python")
    connection.send(
        "/topic/python", "grüße: 👋\nzwei", content_type="text/plain", headers={"mood": "a:b\\c\nd"}
    )
    message = listener.messages.get(timeout=PATIENCE)
    assert message.body == "grüße: 👋\nzwei"
    assert message.headers["destination"] == "/topic/python"
    assert message.headers["subscription"] == "s1"
    assert message.headers["content-type"] == "text/plain"
    assert message.headers["mood"] == "a:b\\c\nd"


def test_a_send_is_confirmed_by_a_receipt(connection: Any, listener: Listener) -> None:
    connection.send("/topic/python", "to nobody", receipt="r-7")
    assert listener.receipts.get(timeout=PATIENCE).headers["receipt-id"] == "r-7"


def test_nothing_comes_after_unsubscribing(connection: Any, listener: Listener) -> None:
    subscribe(connection, listener, "/topic/python")
    connection.unsubscribe("s1")
    connection.send("/topic/python", "too late", receipt="sent")
    assert listener.receipts.get(timeout=PATIENCE).headers["receipt-id"] == "sent"
    assert listener.messages.empty()


def test_a_disconnect_is_confirmed(connection: Any, listener: Listener) -> None:
    connection.disconnect(receipt="bye")
    assert listener.receipts.get(timeout=PATIENCE).headers["receipt-id"] == "bye"
    eventually(lambda: not connection.is_connected(), "stomp.py has disconnected")


def test_a_refused_frame_is_an_error_with_its_reason(connection: Any, listener: Listener, way: Way) -> None:
    connection.send("/nowhere/x", "?", receipt="r-8")
    error = listener.errors.get(timeout=PATIENCE)
    assert "/nowhere/x" in error.headers["message"]
    assert error.headers["receipt-id"] == "r-8"
    if way is over_tls:  # where stomp.py 8.2 takes the end for "nothing yet", for ever
        connection.transport.disconnect_socket()
        connection.transport.set_connected(False)
    eventually(lambda: not connection.is_connected(), "stomp.py has seen the close")


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_each_of_its_versions_is_spoken_over_tcp(version: str, listener: Listener) -> None:
    kinds = {"1.0": stomp.Connection10, "1.1": stomp.StompConnection11, "1.2": stomp.StompConnection12}
    with serving("--tcp-port", "0") as server:
        heart_beats = {} if version == "1.0" else {"heartbeats": (1000, 1000)}
        connection = kinds[version]([("127.0.0.1", server.tcp_port)], timeout=PATIENCE, **heart_beats)
        connection.set_listener("test", listener)
        connection.connect("ada", "lovelace", wait=True)
        assert listener.connected.get(timeout=PATIENCE).headers.get("version", "1.0") == version
        subscribe(connection, listener, "/topic/python")
        connection.send("/topic/python", "größer")
        assert listener.messages.get(timeout=PATIENCE).body == "größer"
        connection.disconnect(receipt="bye")
        eventually(lambda: not connection.is_connected(), "stomp.py has disconnected")
        connection.transport.io_thread.join(PATIENCE)
