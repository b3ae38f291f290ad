"""One message's way to the outboxes: encoded once for each way it can look.

Rule 1: a MESSAGE is encoded once per (encoding, subscription id), and the same ``bytes`` object
goes to every outbox.  Rule 2: a sender can forge none of the headers that the server sets.
"""

from __future__ import annotations

from collections.abc import Mapping

from trio_stomp.broker.commands import Answer, Encoding, Publish, PublishToUser
from trio_stomp.errors import LocalProtocolError
from trio_stomp.stomp.frames import Version, encode_headers, expressible, plain_lines

RESERVED = frozenset(
    (
        "destination",
        "message-id",
        "subscription",
        "content-length",
        "ack",
        "receipt",
        "transaction",
        "redelivered",
    )
)
"""Headers of a SEND that are not copied to its MESSAGEs (DESIGN section 4)."""


def opening(subscription_id: str | None, version: Version) -> bytes:
    """How every MESSAGE for one subscription starts."""
    if subscription_id is None:
        return b"MESSAGE\n"
    return b"MESSAGE\n" + encode_headers({"subscription": subscription_id}, version)


class Look:
    """One message in one encoding, but for its opening."""

    __slots__ = ("_frame_head", "_is_text", "frames", "tail")

    def __init__(self, encoding: Encoding, tail: bytes, is_text: bool) -> None:
        self._frame_head = encoding.frame_head
        self._is_text = is_text
        self.tail = tail
        """The rest: all headers that are the same for every subscription, and the body."""
        self.frames: dict[bytes | None, bytes] = {}
        """By opening; `frame` fills it."""

    def frame(self, opening: bytes) -> bytes:
        """The whole frame, transport's header included."""
        tail = self.tail
        made = self._frame_head(len(opening) + len(tail), self._is_text) + opening + tail
        self.frames[opening] = made
        return made

    def frame_once(self, lines: bytes) -> bytes:
        """The whole frame for one receiver: it begins with ``lines``, and nobody else gets its like."""
        tail = self.tail
        return self._frame_head(len(lines) + len(tail), self._is_text) + lines + tail


class Delivery:
    """One message on its way; dies when all outboxes have been offered it, and nobody holds it."""

    __slots__ = (
        "_body",
        "_destination",
        "_encoding",
        "_headers",
        "_is_text",
        "_look",
        "_looks",
        "message_id",
    )

    def __init__(self, destination: str, message_id: str, headers: Mapping[str, str], body: bytes) -> None:
        self._destination = destination
        self.message_id = message_id
        self._headers = headers
        self._body = body
        self._is_text = _is_text(body)
        self._encoding: Encoding | None = None
        self._look: Look
        self._looks: dict[Encoding, Look] | None = None  # made when there is a second

    @property
    def size(self) -> int:
        """Bytes that it takes to hold it, about: body and headers."""
        return len(self._body) + sum(len(name) + len(value) for name, value in self._headers.items())

    def look(self, encoding: Encoding) -> Look:
        """The message as that encoding has it."""
        if self._encoding is encoding:
            return self._look
        if self._encoding is None:
            self._encoding = encoding
            self._look = Look(encoding, self._encode_tail(encoding.version), self._is_text)
            return self._look
        if self._looks is None:
            self._looks = {self._encoding: self._look}
        found = self._looks.get(encoding)
        if found is None:
            found = self._looks[encoding] = Look(encoding, self._shared_tail(encoding.version), self._is_text)
        return found

    def _shared_tail(self, version: Version) -> bytes:
        """As encoded for another that speaks the same version, or anew."""
        assert self._looks is not None
        for encoding, look in self._looks.items():
            if encoding.version is version:
                return look.tail
        return self._encode_tail(version)

    def _encode_tail(self, version: Version) -> bytes:
        return _tail(self._destination, self.message_id, self._headers, self._body, version)


def frame_for_one(
    message: Publish | PublishToUser | Answer,
    destination: str,
    message_id: str,
    opening: bytes,
    encoding: Encoding,
) -> bytes:
    """The whole frame of a message that only one gets: as by a `Delivery`, of which nothing is kept."""
    body = message.body
    tail = _tail(destination, message_id, message.headers, body, encoding.version)
    return encoding.frame_head(len(opening) + len(tail), _is_text(body)) + opening + tail


def _tail(
    destination: str, message_id: str, headers: Mapping[str, str], body: bytes, version: Version
) -> bytes:
    """All of a MESSAGE that is the same for every subscription."""
    own = [f"{name}:{value}\n" for name, value in headers.items() if name not in RESERVED]
    text = f"destination:{destination}\nmessage-id:{message_id}\n{''.join(own)}content-length:{len(body)}\n"
    lines = plain_lines(text, len(own) + 3)
    if lines is None:
        said = {"destination": destination, "message-id": message_id}
        said |= {name: value for name, value in headers.items() if name not in RESERVED}
        said["content-length"] = str(len(body))
        try:
            lines = encode_headers(said, version)
        except LocalProtocolError:  # the sender's version can say what this one cannot
            lines = encode_headers(expressible(said, version), version)
    return b"".join((lines, b"\n", body, b"\0"))


def _is_text(body: bytes) -> bool:
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
