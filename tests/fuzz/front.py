"""One input for the front door: a head is read, refused or incomplete, whole as in pieces."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import h11

from trio_stomp.transport.http import (
    HeadReader,
    HttpError,
    RequestHead,
    check_origin,
    check_upgrade,
    choose_subprotocol,
    upgrade_response,
)

LIMIT_BYTES = 1000
LIMIT_HEADERS = 8


def check_head(data: bytes) -> None:
    """Read an input whole, and byte by byte; what may be upgraded gets a 101 that a client can read.

    Raises:
        AssertionError: it does not, or the pieces make a difference.
        Exception: whatever the front door raises that is no HttpError.
    """
    head = read_head([data])
    pieces = read_head([data[at : at + 1] for at in range(len(data))])
    assert gist(pieces) == gist(head), f"whole {head}, byte by byte {pieces}"
    if isinstance(head, RequestHead) and is_upgrade(head):
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "a"), ("Upgrade", "websocket")]))
        client.receive_data(upgrade_response(head, choose_subprotocol(head)))
        event = client.next_event()
        assert isinstance(event, h11.InformationalResponse), event
        assert event.status_code == 101


def read_head(pieces: Sequence[bytes]) -> RequestHead | int | None:
    """The head, the status of its refusal, or None for too little."""
    reader = HeadReader(limit_bytes=LIMIT_BYTES, limit_headers=LIMIT_HEADERS)
    try:
        for piece in pieces:
            head = reader.receive_data(piece)
            if head is not None:
                return head
    except HttpError as error:
        error.response()  # must be possible
        return error.status
    return None


def is_upgrade(head: RequestHead) -> bool:
    """Whether the front door would let it become a WebSocket."""
    try:
        check_upgrade(head)
        check_origin(head, ["https://example.com"])
    except HttpError:
        return False
    return True


def gist(read: RequestHead | int | None) -> object:
    """What pieces make no difference to: the head without what came behind it in the same read, or refusal.

    A head that is wrong in two ways may be refused for either.
    """
    return attrs.evolve(read, rest=b"") if isinstance(read, RequestHead) else read is None
