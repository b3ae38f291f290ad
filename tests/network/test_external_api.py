"""The example whose every message calls an external API, and the service that stands in for that API."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from network.support import PATIENCE, ServerProgram, eventually, run_command, running, serving

from examples.external_api.app import PriceApi, PriceError, Quote, UnknownSku
from trio_stomp import open_client

APP = "examples.external_api.app:app"
QUOTE_A = {"sku": "A", "price": "44.75", "currency": "EUR"}
"""What the stand-in says of A."""


@contextlib.contextmanager
def serving_example(url: str = "") -> Iterator[ServerProgram]:
    """The example as a program; without an URL it starts its stand-in."""
    with serving(APP, environ={"EXTERNAL_API_URL": url}) as server:
        yield server


@contextlib.contextmanager
def stand_in(*options: str) -> Iterator[str]:
    """The stand-in as a program of its own; gives its URL."""
    with running("-m", "examples.external_api.api", "--port", "0", *options) as program:
        yield program.line().split()[-1]


async def ask(server: ServerProgram, payload: object, queue: str) -> Any:
    """Send one request; the JSON that comes on the sender's queue."""
    with trio.fail_after(PATIENCE):
        async with open_client(server.url) as client, client.subscribe(f"/user/queue/{queue}") as answers:
            await client.send("/app/quote", payload)
            return json.loads((await answers.receive()).body)


def is_listening(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


def stand_in_of(server: ServerProgram) -> str | None:
    """The URL of the stand-in that it has started."""
    found = re.search(r"stands in for the API, at (\S+)", server.log())
    return None if found is None else found[1]


# The app


async def test_the_api_s_price_comes_on_the_sender_s_queue() -> None:
    with serving_example() as server:
        assert await ask(server, {"sku": "A"}, "quotes") == QUOTE_A


def test_send_takes_a_quote_and_refuses_what_is_no_sku() -> None:
    with serving_example() as server:
        assert run_command("send", server.url, "/app/quote", '{"sku": "A"}').returncode == 0
        done = run_command("send", server.url, "/app/quote", '{"sku": "../statistics"}')
        assert done.returncode == 1
        assert "sku" in done.stderr


def test_check_shows_the_pool() -> None:
    done = run_command("check", APP)
    assert done.returncode == 0, done.stderr
    assert "pool      external_api: 16 threads" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_stand_in_ends_with_the_server(number: signal.Signals) -> None:
    with serving_example() as server:
        url = stand_in_of(server)
        assert url is not None
        assert is_listening(url)
        server.send_signal(number)
        assert server.wait() == (-number if number == signal.SIGKILL else 0)
        eventually(lambda: not is_listening(url), "the stand-in has ended")


def test_a_stand_in_that_cannot_start_ends_the_server_and_says_why() -> None:
    done = run_command(
        "serve", APP, "--port", "0", environ={"EXTERNAL_API_URL": "", "EXTERNAL_API_CAPACITY": "0"}
    )
    assert done.returncode == 1
    assert "expected a capacity of 1 or more" in done.stderr


# The app and an API of the test's own


class OwnApi(http.server.ThreadingHTTPServer):
    """Answers every request alike, and remembers what came on which connection."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _OwnApiHandler)
        self.status = 200
        self.body = json.dumps(QUOTE_A).encode()
        self.hangs_up = False
        self.paths: list[str] = []
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _OwnApiHandler(http.server.BaseHTTPRequestHandler):
    server: OwnApi
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)
        self.close_connection = self.server.hangs_up  # without having told so, as an idle timeout does

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def own_api() -> Iterator[OwnApi]:
    with OwnApi() as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield api
        api.shutdown()
        thread.join(PATIENCE)


@pytest.fixture
def prices(own_api: OwnApi) -> Iterator[PriceApi]:
    with contextlib.closing(PriceApi(own_api.url)) as prices:
        yield prices


async def test_a_configured_api_is_called_and_no_stand_in_started(own_api: OwnApi) -> None:
    with serving_example(own_api.url + "/v1/") as server:
        assert await ask(server, {"sku": "A"}, "quotes") == QUOTE_A
        assert own_api.paths == ["/v1/prices/A"]
        assert stand_in_of(server) is None


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, b"{}", "unknown_sku"),
        (500, b"{}", "price_unavailable"),
        (200, b"not JSON", "price_unavailable"),
        (200, b'"no object"', "price_unavailable"),
        (200, b'{"sku": "A"}', "price_unavailable"),
    ],
)
async def test_the_client_learns_that_there_is_no_price(
    own_api: OwnApi, status: int, body: bytes, code: str
) -> None:
    own_api.status, own_api.body = status, body
    with serving_example(own_api.url) as server:
        assert (await ask(server, {"sku": "A"}, "errors"))["code"] == code


async def test_what_is_no_sku_never_reaches_the_api(own_api: OwnApi) -> None:
    with serving_example(own_api.url) as server:
        assert (await ask(server, {"sku": "A/../B"}, "errors"))["code"] == "invalid_payload"
        assert own_api.paths == []


async def test_an_api_out_of_reach_is_no_price_and_no_secret() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving_example(f"http://127.0.0.1:{port}") as server:
        answer = await ask(server, {"sku": "A"}, "errors")
        assert answer == {
            "code": "price_unavailable",
            "message": "no price at the moment, try again later",
        }
        assert "ConnectionRefusedError" in server.log()


def test_calls_after_another_share_a_connection(own_api: OwnApi, prices: PriceApi) -> None:
    assert [prices.quote("A") for _ in range(3)] == [Quote(**QUOTE_A)] * 3
    assert own_api.connections == 1


def test_a_call_takes_another_connection_when_the_api_has_hung_up(own_api: OwnApi, prices: PriceApi) -> None:
    own_api.hangs_up = True
    assert [prices.quote("A") for _ in range(3)] == [Quote(**QUOTE_A)] * 3
    assert own_api.connections == 3


def test_an_error_leaves_the_connection_usable(own_api: OwnApi, prices: PriceApi) -> None:
    own_api.status = 404
    with pytest.raises(UnknownSku, match="no price for A"):
        prices.quote("A")
    own_api.status = 503
    with pytest.raises(PriceError, match="503"):
        prices.quote("A")
    own_api.status = 200
    assert prices.quote("A") == Quote(**QUOTE_A)
    assert own_api.connections == 1


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:80", "http://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="EXTERNAL_API_URL"):
        PriceApi(url)


# The stand-in


def statistics(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/statistics", timeout=PATIENCE) as answer:
        found: dict[str, int] = json.load(answer)
        return found


def start_call(url: str) -> HTTPConnection:
    """Send a request, without waiting for the answer."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    connection.request("GET", "/prices/A")
    return connection


def end_call(connection: HTTPConnection) -> Any:
    with contextlib.closing(connection):
        return json.load(connection.getresponse())


def test_as_many_calls_run_in_parallel_as_its_capacity_and_no_more() -> None:
    with stand_in("--capacity", "3", "--seconds", "0.5") as url:
        started = time.monotonic()
        calls = [start_call(url) for _ in range(4)]
        assert [end_call(call) for call in calls] == [QUOTE_A] * 4
        assert time.monotonic() - started >= 2 * 0.5  # one of them began only when another had ended
        assert statistics(url) == {"answered": 4, "running": 0, "most_running": 3, "waiting": 0}


def test_it_answers_200_connections() -> None:
    with stand_in("--capacity", "200", "--seconds", "0.1") as url:
        calls = [start_call(url) for _ in range(200)]
        assert [end_call(call) for call in calls] == [QUOTE_A] * 200


def test_a_client_that_has_gone_harms_nobody() -> None:
    with stand_in("--capacity", "1", "--seconds", "0.01") as url:
        for _ in range(3):
            start_call(url).close()
        assert end_call(start_call(url)) == QUOTE_A


REQUEST = b"GET /prices/A HTTP/1.1\r\nHost: x\r\n\r\n"


def converse(url: str, chunks: list[bytes]) -> bytes:
    """Send the chunks and then nothing more; all that comes."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for chunk in chunks:
            stream.sendall(chunk)
        return b"".join(iter(lambda: stream.recv(65536), b""))


@pytest.fixture(scope="module")
def quick() -> Iterator[str]:
    with stand_in("--capacity", "4", "--seconds", "0.001", "--jitter", "0.5") as url:
        yield url


LAST = REQUEST.replace(b"Host", b"connection:  Close\r\nHost")


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (LAST, [200]),
        (REQUEST + LAST, [200, 200]),
        (b"GET /prices/A HTTP/1.0\r\n\r\n", [200]),
        (REQUEST.replace(b"A", b"%2e") + LAST, [404, 200]),
        (REQUEST.replace(b"prices/A", b"") + LAST, [404, 200]),
        (b"POST /prices/A HTTP/1.1\r\n\r\n", [400]),
        (b"GET /prices/A HTTP/2\r\n\r\n", [400]),
        (b"GET /prices/A HTTP/1.1\r\nno colon\r\n\r\n", [400]),
        (b"GET /prices/A HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", [400]),
        # More than one read takes: the rest comes when the answer is on its way.
        (b"GET /prices/A HTTP/1.1\r\nContent-Length: 4194304\r\n\r\n" + bytes(4194304), [400]),
        (REQUEST + b"\r\n\r\n", [200, 400]),
        (b"GET /prices/A HTTP/1.1\r\nX: " + 8192 * b"x", [400]),
    ],
    ids=[
        "close",
        "pipelined",
        "http-1.0",
        "no-sku",
        "no-such-path",
        "post",
        "http-2",
        "no-colon",
        "body",
        "long-body",
        "rubbish-behind",
        "too-long",
    ],
)
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "byte-by-byte"])
def test_each_request_gets_its_status(quick: str, sent: bytes, statuses: list[int], is_whole: bool) -> None:
    chunks = [sent] if is_whole or len(sent) > 1000 else [bytes([byte]) for byte in sent]
    answer = converse(quick, chunks)
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)] == statuses


def test_a_wrong_option_is_refused() -> None:
    with running("-m", "examples.external_api.api", "--jitter", "2") as program:
        assert program.wait() == 2
        assert "a jitter from 0 to 1" in program.log()
