"""A real HAProxy before the server: whom it speaks for, by the PROXY protocol and by X-Forwarded-For."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from network.support import PATIENCE, certificate, eventually, program_path, serving

CONNECT = b"CONNECT\naccept-version:1.2\nhost:h\n\n\0"
APP = """
from trio_stomp import ConnectRequest, StompApp, User
app = StompApp()

@app.on_connect
async def tell(request: ConnectRequest) -> User:
    return User(request.remote.replace(":", "-"))
"""
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"X-Forwarded-For: 192.0.2.7\r\n\r\n"
)
Options = tuple[tuple[str, ...], dict[str, str]]
CLIENT = "127.0.0.2"
"""Where clients come from; HAProxy itself comes from 127.0.0.1."""


@contextlib.contextmanager
def haproxy(folder: Path, port: int, server: str, *, mode: str = "tcp", more: str = "") -> Iterator[None]:
    """Run it with one server behind it, as long as the context lasts."""
    program = shutil.which("haproxy", path="/usr/sbin") or program_path("haproxy")
    config = folder / "haproxy.cfg"
    config.write_text(
        f"defaults\n    mode {mode}\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n"
        f"    {more}\nlisten stomp\n    bind 127.0.0.1:{port}\n    server one {server}\n"
    )
    process = subprocess.Popen([program, "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: is_open(port), "HAProxy listens")
        yield
    finally:
        process.kill()
        process.wait(PATIENCE)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """What `serving` takes for an app that tells a client its address."""
    (tmp_path / "telling_app.py").write_text(APP)
    settings = tmp_path / "settings.toml"
    settings.write_text('tcp_port = 0\n[proxy]\ntrusted = ["127.0.0.1/32"]\n')
    return (
        ("telling_app:app", "--config", str(settings), "--tcp-port", "0"),
        {"PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}"},
    )


def told(peer: socket.socket) -> str:
    """Which address the server says we have."""
    peer.sendall(CONNECT)
    got = b""
    while b"\0" not in got:
        data = peer.recv(4096)
        assert data, got
        got += data
    [name] = [line for line in got.decode().split("\n") if line.startswith("user-name:")]
    return name.removeprefix("user-name:").replace("-", ":")


def address(peer: socket.socket) -> str:
    host, port = peer.getsockname()
    return f"{host}:{port}"


@pytest.mark.parametrize("header", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
def test_the_client_is_known_by_the_header(
    header: str, is_tls: bool, options: Options, tmp_path: Path
) -> None:
    arguments, environ = options
    tls_options, trusted = certificate(tmp_path) if is_tls else ((), "")
    arguments += (*tls_options, "--set", "proxy.protocol=true", "--set", "accept.per_address=1")
    with serving(*arguments, environ=environ) as server:
        port = free_port()
        with (
            haproxy(tmp_path, port, f"127.0.0.1:{server.tcp_port} {header}"),
            connecting(port, trusted) as peer,
            connecting(port, trusted, "127.0.0.3") as other,
        ):
            assert told(peer) == address(peer)
            assert told(other) == address(other)
            with connecting(port, trusted) as another:  # a second one from its address
                assert another.recv(4096).startswith(b"ERROR\nmessage:too many connections")


def test_the_client_of_a_websocket_is_known_by_the_header(options: Options, tmp_path: Path) -> None:
    arguments, environ = options
    with serving(*arguments, "--set", "proxy.protocol=true", environ=environ) as server:
        port = free_port()
        with haproxy(tmp_path, port, f"127.0.0.1:{server.port} send-proxy-v2"), connecting(port) as peer:
            assert told_over_websocket(peer) == address(peer)


def test_the_client_of_a_websocket_is_known_by_x_forwarded_for(options: Options, tmp_path: Path) -> None:
    arguments, environ = options
    with serving(*arguments, environ=environ) as server:
        port = free_port()
        backend = f"127.0.0.1:{server.port}"
        with (
            haproxy(tmp_path, port, backend, mode="http", more="option forwardfor"),
            connecting(port) as peer,
        ):
            assert told_over_websocket(peer) == CLIENT
        with connecting(server.port) as peer:  # not by the proxy: what it says of itself does not count
            assert told_over_websocket(peer) == address(peer)


def test_haproxys_own_health_check_passes(options: Options, tmp_path: Path) -> None:
    arguments, environ = options
    with serving(*arguments, "--set", "proxy.protocol=true", environ=environ) as server:
        port = free_port()
        backend = f"127.0.0.1:{server.port} send-proxy-v2 check check-send-proxy inter 50ms rise 1"
        check = f"option httpchk GET /readyz\nglobal\n    stats socket {tmp_path}/admin.sock"
        with haproxy(tmp_path, port, backend, more=check):
            eventually(lambda: "L7OK" in statistics(tmp_path / "admin.sock"), "HAProxy has checked it")


def test_who_is_not_trusted_is_closed_without_a_word(
    options: Options,
) -> None:
    arguments, environ = options
    with serving(*arguments, "--set", "proxy.protocol=true", environ=environ) as server:
        for port in (server.port, server.tcp_port):
            with connecting(port) as peer:
                with contextlib.suppress(ConnectionError):  # it may be closed already
                    peer.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n" + CONNECT)
                assert is_closed(peer)
        with connecting(server.tcp_port, source="127.0.0.1") as peer:
            peer.sendall(CONNECT)  # trusted, but without a header
            assert is_closed(peer)
        assert "no trusted proxy" in server.log()


def is_closed(peer: socket.socket) -> bool:
    try:
        return peer.recv(4096) == b""
    except ConnectionResetError:
        return True


def statistics(admin: Path) -> str:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE)
        peer.connect(str(admin))
        peer.sendall(b"show stat\n")
        return "".join(iter(lambda: peer.recv(65536).decode(), ""))


@contextlib.contextmanager
def connecting(port: int, trusted: str = "", source: str = CLIENT) -> Iterator[socket.socket]:
    """A connection, with TLS where there is somebody to trust."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0)) as peer:
        if not trusted:
            yield peer
            return
        context = ssl.create_default_context(cafile=trusted)
        with context.wrap_socket(peer, server_hostname="127.0.0.1") as over_tls:
            yield over_tls


def told_over_websocket(peer: socket.socket) -> str:
    peer.sendall(HANDSHAKE)
    head = peer.makefile("rb")
    while head.readline() not in (b"\r\n", b""):
        pass
    masked = bytes((0x81, 0x80 | len(CONNECT))) + bytes(4) + CONNECT  # a key of zeros masks nothing
    peer.sendall(masked)
    length = head.read(2)[1]
    frame = head.read(int.from_bytes(head.read(2), "big") if length == 126 else length).decode()
    [name] = [line for line in frame.split("\n") if line.startswith("user-name:")]
    return name.removeprefix("user-name:").replace("-", ":")
