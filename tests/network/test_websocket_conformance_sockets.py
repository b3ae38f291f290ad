"""Autobahn's cases against our transport on real sockets, where it reads and writes by other ways."""

from __future__ import annotations

import ssl

import pytest
import trio
import trustme
from autobahn import Behavior, Case, put_to_case
from autobahn_cases import CASES
from autobahn_echo import open_ours_on_a_socket
from trio.testing import MockClock

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
"""The server's and the client's."""

QUIET_SECONDS = 0.01
"""Of real time without an event, after which the clock jumps: what is on its way has arrived by then."""

ON_SOCKETS = [case for case in CASES if case.section != 6 or int(case.id.split(".")[1]) < 5]
"""Which bytes are UTF-8 does not depend on the stream."""


OVER_TLS = [
    case for case in ON_SOCKETS if case.id in {"1.1.8", "2.11", "3.2", "5.18", "6.3.2", "6.4.4", "7.1.5"}
]
"""One of each way to end."""

both_paths = pytest.mark.parametrize("is_fast", [True, False], ids=["fast path", "library only"])


@both_paths
@pytest.mark.parametrize("case", ON_SOCKETS, ids=str)
def test_our_transport_is_strict(case: Case, is_fast: bool) -> None:
    trio.run(_put_to, case, is_fast, clock=MockClock(autojump_threshold=QUIET_SECONDS))


@both_paths
@pytest.mark.parametrize("case", OVER_TLS, ids=str)
def test_our_transport_is_strict_over_tls(case: Case, is_fast: bool, contexts: Contexts) -> None:
    trio.run(_put_to, case, is_fast, contexts, clock=MockClock(autojump_threshold=QUIET_SECONDS))


@pytest.fixture(scope="module")
def contexts() -> Contexts:
    authority, server = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def _put_to(case: Case, is_fast: bool, contexts: Contexts | None = None) -> None:
    server, client = contexts or (None, None)
    async with open_ours_on_a_socket(is_fast=is_fast, ssl_context=server) as stream:
        if client is not None:
            stream = trio.SSLStream(stream, client, server_hostname="127.0.0.1")
        verdict = await put_to_case(stream, case)
    wanted = Behavior.INFORMATIONAL if case.is_free else Behavior.OK
    assert (verdict.behavior, verdict.close) == (wanted, wanted), verdict
    assert verdict.code in (case.codes if case.id != "7.3.1" else {1005}), "a Close without code for one"
