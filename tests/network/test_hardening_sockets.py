"""DESIGN section 6 on real sockets: the same cases, but for those that need the server's end of a stream."""

from __future__ import annotations

import ssl
from functools import partial

import pytest
import trio
import trustme
from hardening import CASES, Case, CaseFailed, make_config, open_ours_on_a_socket, put_to
from naive import open_naive_on_a_socket
from peer import Peer
from streams import Tap, records
from trio.testing import MockClock
from wire import PING, client_frame

from trio_stomp import serve

PATIENCE = 30.0
"""Seconds that a test without a clock of its own may take; far more than it needs."""

QUIET_SECONDS = 0.01
"""Of real time without an event, after which the clock jumps: what is on its way has arrived by then."""

ON_SOCKETS = [case for case in CASES if not case.wraps]


@pytest.mark.parametrize("is_fast", [True, False], ids=["fast path", "library only"])
@pytest.mark.parametrize("case", ON_SOCKETS, ids=str)
def test_our_server_withstands(case: Case, is_fast: bool) -> None:
    trio.run(put_to, case, open_ours_on_a_socket(is_fast=is_fast), clock=_clock())


@pytest.mark.xfail(raises=CaseFailed, reason="trio_websocket.serve_websocket does not withstand")
@pytest.mark.parametrize("case", [case for case in ON_SOCKETS if case.bites is not None], ids=str)
def test_the_naive_server_withstands(case: Case) -> None:
    run = partial(put_to, case, open_naive_on_a_socket(), wanted=case.bites)
    trio.run(run, clock=_clock())


def _clock() -> MockClock:
    return MockClock(autojump_threshold=QUIET_SECONDS)


async def test_frames_and_pongs_go_through_tls_and_never_below_it() -> None:
    """Frames are written raw only into a bare socket: into a TLS connection that would be plain text."""
    authority, server_context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            run = partial(serve, None, make_config(port=0), ssl_context=server_context)
            server = await nursery.start(run)
            port = server.listeners[0].transport_listener.socket.getsockname()[1]
            tap = Tap(await trio.open_tcp_stream("127.0.0.1", port))
            stream = trio.SSLStream(tap, client_context, server_hostname="127.0.0.1")
            peer = Peer(stream)
            assert (await peer.connect()).command == "CONNECTED"
            await peer.subscribe("/topic/a")
            await peer.send(client_frame(b"in the clear?", PING))
            assert (await peer.wire.frame()).payload == b"in the clear?"
            for _ in range(100):
                await peer.say("SEND", b"in the clear?" * 50, destination="/topic/a")
            for _ in range(100):
                assert (await peer.frame()).body == b"in the clear?" * 50
            await peer.say("DISCONNECT")
            assert await peer.to_end() == []
            assert peer.close_code == 1000
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()
    assert b"clear" not in tap.read
    assert b"CONNECTED" not in tap.read
    assert records(bytes(tap.read)) <= {20, 21, 22, 23}  # TLS's own types: nothing lies between them
