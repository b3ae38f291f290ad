"""STOMP over real TCP sockets: frames in pieces, resets, last words, and ports that are handed over."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest
from network.support import PATIENCE, ROOT, ServerProgram, run_command, serving

CONNECT = b"CONNECT\naccept-version:1.2\nhost:h\n\n\0"
SUBSCRIBE = b"SUBSCRIBE\nid:1\ndestination:/topic/a\nreceipt:s\n\n\0"

AT_ONCE = ("--set", "drain.delay=0", "--set", "drain.window=0")


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProgram]:
    with serving("--tcp-port", "0") as server:
        yield server


@contextlib.contextmanager
def connecting(port: int, *, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0)) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield peer


def read_frames(peer: socket.socket, count: int) -> list[bytes]:
    """So many frames, without their NULs."""
    got = b""
    while got.count(b"\0") < count:
        data = peer.recv(65536)
        assert data, got
        got += data
    return [frame.lstrip(b"\n") for frame in got.split(b"\0")[:count]]


def read_to_end(peer: socket.socket) -> bytes:
    got = b""
    while data := peer.recv(65536):
        got += data
    return got


def test_both_urls_are_told_the_websockets_first(server: ServerProgram) -> None:
    assert re.fullmatch(r"ws://127\.0\.0\.1:[0-9]+/ws", server.url)
    assert re.fullmatch(r"stomp://127\.0\.0\.1:[0-9]+", server.tcp_url)


def test_frames_byte_by_byte_and_all_at_once(server: ServerProgram) -> None:
    send = b"SEND\ndestination:/topic/a\ncontent-length:7\n\nno\0\ng\xc3\xb6\0"
    with connecting(server.tcp_port) as peer:
        for byte in CONNECT + SUBSCRIBE + send:
            peer.sendall(bytes((byte,)))
        connected, receipt, *_ = read_frames(peer, 4)  # the body has a NUL of its own
        assert connected.startswith(b"CONNECTED\nversion:1.2\n")
        assert receipt == b"RECEIPT\nreceipt-id:s\n\n"
        peer.sendall(send * 3 + b"DISCONNECT\nreceipt:bye\n\n\0")
        got = read_to_end(peer)
        assert got.count(b"\n\nno\0\ng\xc3\xb6\0") == 3
        assert got.endswith(b"RECEIPT\nreceipt-id:bye\n\n\0")


def test_a_message_from_a_websocket_reaches_a_tcp_subscriber(server: ServerProgram) -> None:
    with connecting(server.tcp_port) as peer:
        peer.sendall(CONNECT + SUBSCRIBE)
        read_frames(peer, 2)
        assert run_command("send", server.url, "/topic/a", "over WebSocket").returncode == 0
        [message] = read_frames(peer, 1)
        assert message.startswith(b"MESSAGE\n")
        assert message.endswith(b"\n\nover WebSocket")


def test_the_last_words_arrive_though_the_client_sends_on(server: ServerProgram) -> None:
    with connecting(server.tcp_port) as peer:
        # What is never read would make a reset, which destroys the ERROR.
        peer.sendall(CONNECT + b"NOTHING\n\n\0" + b"\n" * 500_000)
        _, error = read_frames(peer, 2)
        assert error.startswith(b"ERROR\n")
        assert peer.recv(1) == b""


def test_a_reset_in_mid_frame_leaves_the_server_running(server: ServerProgram) -> None:
    for sent in (b"", CONNECT[:10], CONNECT + SUBSCRIBE + b"SEND\ndestination:/topic/a\n\nha"):
        with connecting(server.tcp_port) as peer:
            peer.sendall(sent)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends RST
    with connecting(server.tcp_port) as peer:
        peer.sendall(CONNECT + b"DISCONNECT\nreceipt:bye\n\n\0")
        assert read_to_end(peer).endswith(b"receipt-id:bye\n\n\0")


def test_a_client_that_only_closes_its_own_half_is_answered(server: ServerProgram) -> None:
    with connecting(server.tcp_port) as peer:
        peer.sendall(CONNECT + b"SEND\ndestination:/topic/a\nreceipt:r\n\nx\0")
        peer.shutdown(socket.SHUT_WR)
        assert read_to_end(peer).endswith(b"RECEIPT\nreceipt-id:r\n\n\0")


def test_a_signal_drains_sessions_over_tcp() -> None:
    with serving("--tcp-port", "0") as server, connecting(server.tcp_port) as peer:
        peer.sendall(CONNECT)
        read_frames(peer, 1)
        server.send_signal(signal.SIGTERM)
        assert read_to_end(peer).startswith(b"ERROR\nmessage:the server is going away\n")
        peer.close()
        assert server.wait() == 0


def test_two_generations_share_the_port() -> None:
    with serving("--reuse-port", "--tcp-port", "0") as first:
        shared = ("--reuse-port", "--tcp-port", str(first.tcp_port))
        with serving(*shared, port=first.port) as second:
            assert second.tcp_port == first.tcp_port
            first.send_signal(signal.SIGTERM)
            assert first.wait() == 0
            for _ in range(10):  # half of them would have gone to the other
                with connecting(second.tcp_port) as peer:
                    peer.sendall(CONNECT + b"DISCONNECT\n\n\0")
                    assert read_to_end(peer).startswith(b"CONNECTED\n")


def test_an_inherited_socket_is_served_and_lives_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, fd = listening.getsockname()[1], str(listening.fileno())
        for _ in range(2):
            process = subprocess.Popen(
                [sys.executable, "-m", "trio_stomp", "serve", "--port", "0", "--tcp-fd", fd, *AT_ONCE],
                cwd=ROOT,
                pass_fds=[int(fd)],
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            try:
                assert process.stdout is not None
                lines = [process.stdout.readline() for _ in range(2)]
                assert lines[1] == f"trio-stomp listening on stomp://127.0.0.1:{port}\n".encode()
                with connecting(port) as peer:
                    peer.sendall(CONNECT + b"DISCONNECT\n\n\0")
                    assert read_to_end(peer).startswith(b"CONNECTED\n")
                process.terminate()
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
                process.wait(PATIENCE)
                process.stdout.close()


def test_what_is_no_listening_socket_is_refused() -> None:
    done = run_command("serve", "--port", "0", "--tcp-fd", "1000")
    assert done.returncode == 1
    assert "tcp_fd is 1000, expected a listening socket" in done.stderr


def test_a_port_in_use_is_refused(server: ServerProgram) -> None:
    done = run_command("serve", "--port", "0", "--tcp-port", str(server.tcp_port))
    assert (done.returncode, done.stdout) == (1, "")
    assert "in use" in done.stderr
