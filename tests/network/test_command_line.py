"""The command line as a person uses it: programs, exit codes, signals."""

from __future__ import annotations

import array
import fcntl
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trustme
from network.support import PATIENCE, ServerProgram, eventually, run_command, running, serving

import trio_stomp
from trio_stomp import ConnectionLost, open_client

BAD_APP = """
from trio_stomp import StompApp
app = StompApp()

@app.on_message("/app/x")
async def handler(first: int, second: int) -> None: ...

not_an_app = 7
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProgram]:
    with serving() as server:
        yield server


@pytest.fixture
def bad_app(tmp_path: Path) -> dict[str, str]:
    """The environment in which `bad_app_module` can be imported."""
    (tmp_path / "bad_app_module.py").write_text(BAD_APP)
    return {"PYTHONPATH": f"{tmp_path}:{Path(trio_stomp.__file__).parents[1]}"}


def http_status(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


# What is asked wrongly


def test_the_version_is_told() -> None:
    done = run_command("--version")
    assert (done.returncode, done.stdout) == (0, f"trio-stomp {trio_stomp.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dance",),
        ("serve", "--no-such-option"),
        ("serve", "no_colon"),
        ("serve", "no.such.module:app"),
        ("serve", "examples.chat.app:no_app"),
        ("serve", "--set", "port"),
        ("check",),
        ("send", "ws://127.0.0.1/ws"),
        ("subscribe", "ws://127.0.0.1/ws"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2_and_says_why(arguments: tuple[str, ...]) -> None:
    done = run_command(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "trio-stomp" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve", "--port", "ninety"), "ninety"),
        (("serve", "--set", "outbox.byte=1MiB"), "outbox.bytes"),
        (("serve", "--config", "no-such-file.toml"), "no-such-file.toml"),
        (("serve", "--tls-cert", "no-such-cert.pem", "--tls-key", "no-such-key.pem"), "no-such-cert.pem"),
        (("send", "http://127.0.0.1/ws", "/topic/x"), "not a WebSocket URL"),
        (("send", "ws://127.0.0.1:1/ws", "/topic/x"), "127.0.0.1"),
        (("subscribe", "ws://127.0.0.1:1/ws", "/topic/x"), "127.0.0.1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_exit_code_1_and_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = run_command(*arguments)
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]  # what is before it is the log
    assert last.startswith("trio-stomp: ")
    assert said in last
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_exit_code_1(server: ServerProgram) -> None:
    done = run_command("serve", "--port", str(server.port))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


# check


def test_check_shows_routes_and_pools() -> None:
    done = run_command("check", "examples.chat.app:app")
    assert done.returncode == 0, done.stderr
    for part in ("/app/chat/{room}", "/topic/chat/{room}", "/app/weather", "/queue/weather", "weather", "8"):
        assert part in done.stdout


def test_check_of_a_bad_signature_is_exit_code_1_and_names_it(bad_app: dict[str, str]) -> None:
    done = run_command("check", "bad_app_module:app", environ=bad_app)
    assert done.returncode == 1
    assert "handler" in done.stderr
    assert "'second'" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_app_is_named(bad_app: dict[str, str]) -> None:
    done = run_command("check", "bad_app_module:not_an_app", environ=bad_app)
    assert done.returncode == 2
    assert "found int" in done.stderr


# serve, send, subscribe


def test_serve_says_where_it_listens_and_answers_http(server: ServerProgram) -> None:
    assert re.fullmatch(r"ws://127\.0\.0\.1:[0-9]+/ws", server.url)
    assert http_status(f"{server.http_url}/healthz")[0] == 200
    assert http_status(f"{server.http_url}/readyz") == (200, "ready\n")
    status, text = http_status(f"{server.http_url}/metrics")
    assert status == 200
    assert "# TYPE trio_stomp_" in text
    assert http_status(f"{server.http_url}/")[0] == 404


def test_subscribe_prints_what_send_sends(server: ServerProgram) -> None:
    subscribe = ("-m", "trio_stomp", "subscribe", server.url, "/topic/news", "/topic/a/**", "--count", "3")
    with running(*subscribe, "--headers") as subscriber:
        # Its subscriptions stand once the server counts them.
        wait_for_subscriptions(server, 2)
        assert run_command("send", server.url, "/topic/news", "grüße").returncode == 0
        assert run_command("send", server.url, "/topic/a/b/c", '{"n": 1}').returncode == 0
        assert run_command("send", server.url, "/topic/news", "-", stdin="from stdin").returncode == 0
        assert subscriber.wait() == 0, subscriber.log()
        lines = subscriber.lines()
    assert lines[1::2] == ["grüße", '{"n": 1}', "from stdin"]
    assert "destination:/topic/news" in lines[0]
    assert "content-type:text/plain" in lines[0]
    assert "destination:/topic/a/b/c" in lines[2]
    assert "content-type:application/json" in lines[2]


def test_subscribe_acknowledges_what_it_has_printed_and_leaves_the_rest(server: ServerProgram) -> None:
    for number in range(2):
        assert run_command("send", server.url, "/queue/jobs", f"{number}").returncode == 0
    first = run_command("subscribe", server.url, "/queue/jobs", "--count", "1", "--ack", "client-individual")
    assert (first.returncode, first.stdout) == (0, "0\n"), first.stderr
    assert run_command("subscribe", server.url, "/queue/jobs", "--count", "1").stdout == "1\n"


def test_send_takes_a_file(server: ServerProgram, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text(json.dumps({"number": 7}))
    with running("-m", "trio_stomp", "subscribe", server.url, "/topic/file", "--count", "1") as subscriber:
        wait_for_subscriptions(server, 1)
        assert run_command("send", server.url, "/topic/file", f"@{file}").returncode == 0
        assert subscriber.line() == '{"number": 7}'
        assert subscriber.wait() == 0


def test_a_refused_send_is_exit_code_1_and_the_servers_reason(server: ServerProgram) -> None:
    done = run_command("send", server.url, "/nowhere/x", "?")
    assert done.returncode == 1
    assert "/nowhere/x" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_refused_login_is_exit_code_1_and_the_apps_reason() -> None:
    with serving("examples.chat.app:app") as chat:
        done = run_command("send", chat.url, "/app/chat/lobby", '{"text": "hello"}')
        assert done.returncode == 1
        assert "nickname" in done.stderr
        done = run_command("send", chat.url, "/app/chat/lobby", '{"text": "hello"}', "--login", "ada")
        assert (done.returncode, done.stderr) == (0, "")


def test_subscribe_ends_with_sigint(server: ServerProgram) -> None:
    with running("-m", "trio_stomp", "subscribe", server.url, "/topic/news") as subscriber:
        wait_for_subscriptions(server, 1)
        subscriber.send_signal(signal.SIGINT)
        assert subscriber.wait() == 128 + signal.SIGINT
        assert subscriber.log() == ""


def test_subscribe_ends_with_sigint_while_nobody_reads_what_it_prints(server: ServerProgram) -> None:
    command = [sys.executable, "-m", "trio_stomp", "subscribe", server.url, "/topic/news"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as subscriber:
        assert subscriber.stdout is not None
        assert subscriber.stderr is not None
        output = subscriber.stdout.fileno()
        try:
            size = fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, 4096)
            wait_for_subscriptions(server, 1)
            assert run_command("send", server.url, "/topic/news", "x" * 2 * size).returncode == 0
            eventually(lambda: bytes_to_read(output) == size, "its output is full")
            subscriber.send_signal(signal.SIGINT)
            assert subscriber.wait(PATIENCE) == 128 + signal.SIGINT
            assert subscriber.stderr.read() == b""
        finally:
            subscriber.kill()


def bytes_to_read(pipe: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def wait_until_draining(server: ServerProgram) -> None:
    eventually(lambda: http_status(f"{server.http_url}/readyz") == (503, "draining\n"), "the server drains")


def wait_for_subscriptions(server: ServerProgram, count: int) -> None:
    def are_there() -> bool:
        text = http_status(f"{server.http_url}/metrics")[1]
        found = re.search(r"^trio_stomp_subscriptions (\d+)", text, re.MULTILINE)
        assert found is not None, text
        return int(found[1]) == count

    eventually(are_there, f"{count} subscriptions")


# Signals and endings


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_a_signal_ends_the_server_cleanly(number: signal.Signals) -> None:
    with serving() as server, trio.fail_after(PATIENCE):
        async with open_client(server.url) as client, client.subscribe("/topic/x") as messages:
            server.send_signal(number)
            with pytest.raises(ConnectionLost) as caught:
                await messages.receive()
            assert caught.value.code == 1012
        assert await trio.to_thread.run_sync(server.wait) == 0, server.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_an_idle_server_cleanly(number: signal.Signals) -> None:
    with serving("examples.chat.app:app") as server:
        server.send_signal(number)
        assert server.wait() == 0, server.log()


async def test_a_second_signal_is_exit_code_1() -> None:
    with serving("--set", "websocket.close_timeout=1") as server, trio.fail_after(PATIENCE):
        # A peer that never answers the Close keeps it draining.
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(handshake(server))
            await stream.receive_some()
            server.send_signal(signal.SIGTERM)
            await trio.to_thread.run_sync(wait_until_draining, server)
            server.send_signal(signal.SIGTERM)
            assert await trio.to_thread.run_sync(server.wait) == 1


def handshake(server: ServerProgram) -> bytes:
    return (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


async def test_a_client_that_is_killed_leaves_the_server_running(server: ServerProgram) -> None:
    with running("-m", "trio_stomp", "subscribe", server.url, "/topic/killed") as subscriber:
        await trio.to_thread.run_sync(wait_for_subscriptions, server, 1)
        subscriber.process.kill()
        subscriber.wait()
    with trio.fail_after(PATIENCE):
        await trio.to_thread.run_sync(wait_for_subscriptions, server, 0)
        async with open_client(server.url) as client:
            await client.send("/topic/killed", "still there", receipt=True)


async def test_a_client_that_resets_the_connection_leaves_the_server_running(server: ServerProgram) -> None:
    peer = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends RST
    peer.sendall(handshake(server))
    assert b" 101 " in peer.recv(4096)
    peer.close()
    with trio.fail_after(PATIENCE):
        async with open_client(server.url) as client:
            await client.send("/topic/x", "still there", receipt=True)


# Settings


def test_settings_come_from_file_environment_and_options(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('path = "/from-file"\nhost = "127.0.0.1"\n[static]\n"/" = "examples/chat/page"\n')
    with serving("--config", str(file)) as server:
        assert server.url.endswith("/from-file")
        assert "trio-stomp chat" in http_status(f"{server.http_url}/")[1]
    with serving("--config", str(file), environ={"TRIO_STOMP_PATH": "/from-environment"}) as server:
        assert server.url.endswith("/from-environment")
    more = ("--config", str(file), "--path", "/from-option")
    with serving(*more, environ={"TRIO_STOMP_PATH": "/from-environment"}) as server:
        assert server.url.endswith("/from-option")


def test_a_public_address_without_on_connect_is_warned_about() -> None:
    with serving("--host", "0.0.0.0") as server:
        assert "without on_connect" in server.log()


def test_wss_by_certificate_and_key(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key, trusted = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    chain.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(trusted))
    with serving("--tls-cert", str(chain), "--tls-key", str(key)) as server:
        assert server.url.startswith("wss://")
        trust = {"SSL_CERT_FILE": str(trusted)}
        done = run_command("send", server.url, "/topic/x", "over TLS", environ=trust)
        assert (done.returncode, done.stderr) == (0, "")
        done = run_command("send", server.url, "/topic/x", "not trusted")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_the_clients_passcode_variable_does_not_disturb_a_server() -> None:
    with serving(environ={"TRIO_STOMP_PASSCODE": "secret"}):
        pass


def test_a_count_below_one_is_wrong_usage() -> None:
    done = run_command("subscribe", "ws://127.0.0.1:1/ws", "/topic/x", "--count", "0")
    assert done.returncode == 2
    assert "expected 1 or more" in done.stderr


def test_sighup_takes_new_sizes_and_refuses_what_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[pools.client_inbound]\nthreads = 3\n")
    with serving("--config", str(file), "--set", "log_level=info") as server:

        def has(threads: int) -> bool:
            text = http_status(f"{server.http_url}/metrics")[1]
            return f'trio_stomp_pool_threads{{pool="client_inbound"}} {threads}\n' in text

        def change(content: str, said: str) -> None:
            file.write_text(content)
            server.send_signal(signal.SIGHUP)
            eventually(lambda: said in server.log(), f"{said!r} in the log")

        assert has(3)
        change(
            'log_level = "debug"\n[pools.client_inbound]\nthreads = 0\n[stomp]\nbody = 1000\n',
            "which take a restart: stomp.body",
        )
        assert "pools.client_inbound.threads: 0 instead of 3" in server.log()
        assert has(0)
        change("[pools.client_inbond]\nthreads = 5\n", "SIGHUP: nothing has changed: pools.client_inbond: ")
        assert has(0)
        change("[pools.client_inbound]\nthreads = 7\n", "SIGHUP: settings taken over\n")
        assert has(7)
