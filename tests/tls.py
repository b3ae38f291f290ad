"""Both ends of TLS, with certificates of our own."""

from __future__ import annotations

import ssl

import trio
import trustme

NAME = "test.example"


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server needs, and a client who believes it."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert(NAME, "127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def over(
    ours: trio.abc.Stream, theirs: trio.abc.Stream, *, https_compatible: bool = False
) -> tuple[trio.SSLStream[trio.abc.Stream], trio.SSLStream[trio.abc.Stream]]:
    """The server's end as a listener gives it, and the client's, which is strict unless told otherwise."""
    for_server, for_client = contexts()
    return (
        trio.SSLStream(ours, for_server, server_side=True, https_compatible=True),
        trio.SSLStream(theirs, for_client, server_hostname=NAME, https_compatible=https_compatible),
    )
