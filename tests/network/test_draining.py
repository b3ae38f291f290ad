"""`trio-stomp drain`, and what a listening socket that is inherited or shared does in a drain."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import trio
from network.support import PATIENCE, ROOT, run_command, serving

from trio_stomp import open_client

SLOW_APP = """
import trio
from trio_stomp import Message, StompApp
app = StompApp()

@app.on_message("/app/slow", concurrency=5)
async def slow(message: Message) -> None:
    await trio.sleep(60)

@app.on_message("/app/quick")
async def quick(message: Message) -> None: ...
"""

TOKEN = {"TRIO_STOMP_ADMIN_TOKEN": "secret"}


async def test_drain_by_pid_waits_for_the_end() -> None:
    with serving("--set", "drain.window=1") as server:
        with trio.fail_after(PATIENCE):
            async with open_client(server.url):
                done = await trio.to_thread.run_sync(run_command, "drain", str(server.process.pid))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == "draining"
        assert done.stdout.splitlines()[-1].startswith("ended after ")
        assert server.wait() == 0


async def test_drain_by_url_says_who_is_left() -> None:
    with serving("--set", "drain.window=1", environ=TOKEN) as server:
        with trio.fail_after(PATIENCE):
            async with open_client(server.url):
                done = await trio.to_thread.run_sync(
                    lambda: run_command("drain", server.http_url, environ=TOKEN)
                )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == "draining: 1 sessions left"
        assert server.wait() == 0


async def test_a_client_that_has_answered_the_close_does_not_hold_up_the_end() -> None:
    with serving("--set", "websocket.close_timeout=1000") as server:
        with trio.fail_after(PATIENCE):
            async with open_client(server.url):  # which keeps its socket open until it is left
                server.send_signal(signal.SIGTERM)
                assert await trio.to_thread.run_sync(server.wait) == 0


@pytest.mark.parametrize(
    ("token", "said"),
    [("wrong", "this is not the server's admin_token"), ("", "takes the server's admin_token")],
)
def test_drain_by_url_takes_the_token(token: str, said: str) -> None:
    with serving(environ=TOKEN) as server:
        done = run_command("drain", server.url, *(("--token", token) if token else ()))
        assert done.returncode == (1 if token else 2)
        assert said in done.stderr
        with urllib.request.urlopen(f"{server.http_url}/readyz") as answer:
            assert answer.status == 200


def test_drain_of_a_server_without_a_token_says_so() -> None:
    with serving() as server:
        done = run_command("drain", server.http_url, "--token", "x")
        assert done.returncode == 1
        assert "the server has no admin_token" in done.stderr


@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("4194305", 1, "No such process"),  # above the kernel's highest
        ("http://127.0.0.1:1", 1, "refused"),
        ("nonsense", 2, "neither a process id nor a URL"),
        ("ftp://127.0.0.1", 2, "neither a process id nor a URL"),
    ],
)
def test_what_cannot_be_drained_is_named(target: str, status: int, said: str) -> None:
    done = run_command("drain", target, "--token", "x")
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_drain_that_takes_longer_than_asked_is_exit_code_1() -> None:
    with serving("--set", "drain.delay=2") as server:
        done = await trio.to_thread.run_sync(
            lambda: run_command("drain", str(server.process.pid), "--timeout", "0.2")
        )
        assert done.returncode == 1
        assert "it has not ended within 0.2 seconds" in done.stderr
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 1
        assert "stopped at once: 0 sessions are cut off" in server.log()


async def test_the_deadline_is_exit_code_1_with_a_line_that_says_what(tmp_path: Path) -> None:
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    environ = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with serving("slow_app:app", "--set", "drain.deadline=0.5", environ=environ) as server:
        with trio.fail_after(PATIENCE):
            async with open_client(server.url) as client:
                await client.send("/app/slow", "x")
                await client.send("/app/quick", "x", receipt=True)  # the other one runs by now
                server.send_signal(signal.SIGTERM)
                assert await trio.to_thread.run_sync(server.wait) == 1
        said = "the drain's deadline of 0.5 seconds cuts off 1 sessions with 1 running handlers"
        assert said in server.log()


def test_sigint_drains_without_delay_and_window() -> None:
    with serving("--set", "drain.delay=20", "--set", "drain.window=20") as server:
        server.send_signal(signal.SIGINT)
        assert server.wait() == 0


def test_an_inherited_socket_is_served_and_given_up_after_the_delay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with _inheriting(listening) as first:
            assert _readyz(port) == (200, "ready\n")
            first.send_signal(signal.SIGTERM)
            assert first.wait(PATIENCE) == 0
        # The socket lives on in this process: who connects now is served by the next generation.
        waiting = socket.create_connection(("127.0.0.1", port))
        with _inheriting(listening) as second:
            with waiting:
                waiting.sendall(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")
                assert waiting.makefile("rb").readline().startswith(b"HTTP/1.1 200 ")
            second.send_signal(signal.SIGTERM)
            assert second.wait(PATIENCE) == 0


def test_two_generations_share_a_port() -> None:
    with serving("--reuse-port") as first, serving("--reuse-port", port=first.port) as second:
        assert second.port == first.port
        first.send_signal(signal.SIGTERM)
        assert first.wait() == 0
        assert _readyz(second.port) == (200, "ready\n")


def test_without_it_the_port_is_taken() -> None:
    with serving("--reuse-port") as first:
        done = run_command("serve", "--port", str(first.port))
        assert done.returncode == 1
        assert "in use" in done.stderr


@pytest.mark.parametrize("fd", ["1000", "0"])
def test_a_descriptor_that_is_no_listening_socket_is_refused(fd: str) -> None:
    done = run_command("serve", "--fd", fd)
    assert done.returncode == 1
    assert f"fd is {fd}, expected a listening socket" in done.stderr


class _inheriting:  # used as a function
    """A server that listens on a socket of ours, as long as the context lasts."""

    def __init__(self, listening: socket.socket) -> None:
        fd = listening.fileno()
        command = [sys.executable, "-m", "trio_stomp", "serve", "--fd", str(fd), "--set", "drain.delay=0"]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            pass_fds=[fd],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith(b"trio-stomp listening on ws://127.0.0.1:")
        return self._process

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _readyz(port: int) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE) as answer:
        return answer.status, answer.read().decode()
