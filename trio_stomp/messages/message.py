"""What a handler is given of a message, and of who sent it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from trio_stomp.errors import ConversionError


def _size(body: bytes) -> str:
    return f"<{len(body)} bytes>"


def _read_only(attributes: Mapping[str, object]) -> Mapping[str, object]:
    return MappingProxyType(dict(attributes))


def _has_a_name(user: User, attribute: attrs.Attribute[str], name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"a user's name is {name!r}, expected text that is not empty")


@attrs.define
class Message:
    """One message as it was received; its repr does not show the body.

    Attributes:
        destination: where it was sent to.
        headers: all STOMP headers that came with it, unescaped.
        body: the bytes as they came; a payload parameter gets what they mean.
    """

    # Not frozen: creating it costs 0.14 us instead of 0.37, and one is made for every message to a handler.
    destination: str
    headers: Mapping[str, str]
    body: bytes = attrs.field(default=b"", repr=_size)

    @property
    def content_type(self) -> str | None:
        """The ``content-type`` header; None when the sender gave none."""
        return self.headers.get("content-type")

    @property
    def text(self) -> str:
        """The body decoded as UTF-8, whatever its content-type says.

        Raises:
            ConversionError: it is not UTF-8.
        """
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise ConversionError([f"the body is not UTF-8 at byte {error.start}"]) from error


@attrs.frozen
class User:
    """Who is behind a session: what ``on_connect`` returns. The name is the identity; subclass it for more.

    A subclass is ``@attrs.frozen`` too and may add fields without a default. Two users of the same class
    are equal when their names and the subclass's fields are.

    Attributes:
        name: what ``publish_to_user`` addresses; all sessions under one name are one user's.
        attributes: the app's own, read-only; not compared, and not shown in the repr.

    Raises:
        ValueError: the name is empty or not text.
    """

    name: str = attrs.field(validator=_has_a_name)
    # kw_only lets a subclass add a field without a default.
    attributes: Mapping[str, object] = attrs.field(
        factory=dict, converter=_read_only, eq=False, repr=False, kw_only=True
    )
