"""Faults that only real sockets and processes have: RST, SIGSTOP, EMFILE, a full disk, many connections.

After each of them the server has as many tasks and descriptors as before, and serves.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import struct
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from network.support import PATIENCE, ServerProgram, eventually, running, serving
from peer import Peer, stomp
from wire import client_frame, handshake

CONNECT = handshake() + stomp("CONNECT", accept_version="1.2", host="h", heart_beat="0,0")
SUBSCRIBE = stomp("SUBSCRIBE", destination="/topic/a", id="1", receipt="r")
HALF = stomp("SEND", b"x" * 1000, destination="/topic/a")[:500]


def connect(server: ServerProgram, *, says: bytes = b"", until: bytes = b"") -> socket.socket:
    """A connection that has said something and read up to an answer."""
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    try:
        plain.sendall(says)
        seen = b""
        while until not in seen:
            data = plain.recv(65536)
            assert data, f"the server hung up after {seen!r}"
            seen += data
    except BaseException:
        plain.close()
        raise
    return plain


def reset(plain: socket.socket) -> None:
    """Close by RST: whatever is on its way is lost."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.close()


def metrics(server: ServerProgram) -> dict[str, float]:
    """What /metrics says, by name and labels, without the prefix."""
    with urllib.request.urlopen(f"{server.http_url}/metrics", timeout=PATIENCE) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^trio_stomp_(\S+) (\S+)$", text, re.MULTILINE)}


def hits(server: ServerProgram, limit: str) -> float:
    return metrics(server)[f'limit_hits_total{{limit="{limit}"}}']


def descriptors(server: ServerProgram) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def cpu_seconds(server: ServerProgram) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def as_before(server: ServerProgram) -> Iterator[None]:
    """What happens within leaves neither task nor descriptor nor session, and another client is served."""
    files = descriptors(server)  # before /metrics is asked, whose connection is one more
    tasks = metrics(server)["tasks"]
    yield
    eventually(lambda: metrics(server)["sessions_current"] == 0, "no session is left")
    eventually(lambda: metrics(server)["tasks"] == tasks, "no task is left")
    eventually(lambda: descriptors(server) == files, "no descriptor is left")
    assert metrics(server)["internal_errors_total"] == 0
    trio.run(_exchange, server)


async def _exchange(server: ServerProgram) -> None:
    with trio.fail_after(PATIENCE):
        peer = Peer(await trio.open_tcp_stream("127.0.0.1", server.port))
        assert (await peer.connect()).command == "CONNECTED"
        await peer.subscribe("/topic/well")
        await peer.say("SEND", b"?", destination="/topic/well")
        assert (await peer.frame()).body == b"?"
        await peer.say("DISCONNECT")
        await peer.to_end()
        await peer.wire.stream.aclose()


def test_resets_in_the_middle_of_anything_leave_nothing() -> None:
    with serving() as server, as_before(server):
        for _ in range(20):
            reset(connect(server))
            reset(connect(server, says=handshake()[:40]))
            reset(connect(server, says=handshake() + HALF))
            reset(connect(server, says=CONNECT, until=b"CONNECTED"))
            reset(connect(server, says=CONNECT + HALF, until=b"CONNECTED"))
            reset(
                connect(
                    server, says=CONNECT + SUBSCRIBE + client_frame(b"SEND", final=False), until=b"RECEIPT"
                )
            )


def test_half_open_peers_are_given_up_by_heart_beat() -> None:
    """No FIN, no RST: as when a cable is cut. All that the server sees is silence."""
    beating = handshake() + stomp("CONNECT", accept_version="1.2", host="h", heart_beat="100,0")
    with serving("--set", "stomp.heart_beat_receive=0.1") as server, as_before(server):
        silent = [connect(server, says=beating, until=b"CONNECTED") for _ in range(50)]
        eventually(lambda: hits(server, "stomp.heart_beat_tolerance") == 50, "all are given up")
        for plain in silent:
            plain.close()


def test_stopped_clients_are_cut_while_others_are_served() -> None:
    limits = ("--set", "outbox.write_timeout=0.3", "--set", "outbox.bytes=256KiB")
    with (
        serving(*limits) as server,
        as_before(server),
        running("-m", "trio_stomp", "subscribe", server.url, "/topic/flood") as client,
    ):
        eventually(lambda: metrics(server)["subscriptions"] == 1, "it has subscribed")
        client.send_signal(signal.SIGSTOP)
        sender = connect(server, says=CONNECT, until=b"CONNECTED")
        flood = stomp("SEND", b"x" * 60_000, destination="/topic/flood")

        def is_cut() -> bool:
            sender.sendall(flood * 20)
            return metrics(server)["sessions_current"] == 1

        eventually(is_cut, "the stopped client is cut")
        assert hits(server, "outbox.write_timeout") + hits(server, "outbox.bytes") >= 1
        sender.close()
        client.send_signal(signal.SIGCONT)


LARGE = 64 << 20
ANNOUNCED = client_frame(f"SEND\ndestination:/topic/a\ncontent-length:{LARGE}\n\n".encode())


@pytest.mark.parametrize(
    ("first", "frame_bytes", "limit"),
    [(b"", LARGE, "websocket.message"), (ANNOUNCED, 1 << 20, "stomp.body")],
    ids=["of a WebSocket", "of STOMP"],
)
def test_a_frame_of_64_mib_is_refused_without_being_kept(first: bytes, frame_bytes: int, limit: str) -> None:
    with serving() as server, as_before(server):
        before = _resident(server)
        plain = connect(server, says=CONNECT + first, until=b"CONNECTED")
        with contextlib.suppress(OSError):  # the server hangs up long before the end
            for _ in range(LARGE // frame_bytes):
                plain.sendall(b"\x82\xff" + struct.pack("!Q", frame_bytes) + bytes(4))  # masked by zeros
                for _ in range(frame_bytes >> 20):
                    plain.sendall(bytes(1 << 20))
        plain.close()
        eventually(lambda: hits(server, limit) == 1, "it is refused")
        assert _resident(server) - before < LARGE // 4


def _resident(server: ServerProgram) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_without_descriptors_the_server_serves_on_and_accepts_again() -> None:
    with serving() as server, as_before(server):
        inside = connect(server, says=CONNECT + SUBSCRIBE, until=b"RECEIPT")
        free = 5
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (descriptors(server) + free, hard))
        outside = [connect(server) for _ in range(free + 20)]  # the kernel's backlog takes them
        eventually(lambda: "no connection can be accepted" in server.log(), "it has run out")
        started, used = time.monotonic(), cpu_seconds(server)
        inside.sendall(stomp("SEND", b"still here", destination="/topic/a"))
        assert b"still here" in inside.recv(65536)
        eventually(lambda: time.monotonic() - started > 0.5, "half a second has passed")
        assert cpu_seconds(server) - used < 0.5 * (time.monotonic() - started)  # no busy loop
        for plain in (*outside, inside):
            plain.close()
        eventually(lambda: metrics(server)["accepts_failed_total"] > 0, "it accepts again")
        assert server.log().count("no connection can be accepted") == 1


@contextlib.contextmanager
def few_files(soft: int) -> Iterator[None]:
    """Programs that are started within may open so many files, unless they ask for more."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_a_server_raises_its_own_limit_of_files_to_what_its_connections_take() -> None:
    with few_files(512), serving("--set", "accept.connections=1000") as server:
        assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0] >= 1000


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_disk_under_the_log_stops_nothing() -> None:
    with serving("--log-level", "debug", log_to=FULL) as server:
        with as_before(server):
            for _ in range(10):
                connect(server, says=CONNECT + stomp("NONSENSE"), until=b"ERROR").close()  # which is logged
        assert metrics(server)["protocol_errors_total"] == 10


def come_and_go(server: ServerProgram, count: int) -> None:
    """Connections that end in every way, up to 100 at once."""
    ways = (b"", handshake(), CONNECT, CONNECT + SUBSCRIBE, CONNECT + HALF)
    answers = (b"", b"\r\n\r\n", b"CONNECTED", b"RECEIPT", b"CONNECTED")
    held: list[socket.socket] = []
    for number in range(count):
        way = number % len(ways)
        held.append(connect(server, says=ways[way], until=answers[way]))
        if len(held) == 100:
            for at, plain in enumerate(held):
                plain.close() if at % 2 else reset(plain)
            held.clear()
    for plain in held:
        plain.close()


def test_500_connects_and_disconnects_leave_nothing() -> None:
    with serving() as server, as_before(server):
        come_and_go(server, 500)


@pytest.mark.long
def test_10_000_connects_and_disconnects_leave_nothing() -> None:
    with serving() as server, as_before(server):
        come_and_go(server, 10_000)
        assert metrics(server)["connections_opened_total"] >= 10_000
