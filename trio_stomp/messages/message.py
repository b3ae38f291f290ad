"""What handlers may ask for: the message as it came, and the user who sent it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from trio_stomp.errors import ConversionError


@attrs.define(eq=False)
class Message:
    """One SEND (or SUBSCRIBE) as it came from the client."""

    destination: str
    headers: Mapping[str, str]
    """The STOMP headers that the sender gave, unescaped; of a repeated one the first."""
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")

    @property
    def content_type(self) -> str | None:
        """The ``content-type`` header; None when there is none."""
        return self.headers.get("content-type")

    @property
    def text(self) -> str:
        """The body as UTF-8 text.

        Raises:
            ConversionError: it is not UTF-8.
        """
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise ConversionError(
                [f"body is not UTF-8 text: {error.reason} at byte {error.start}"]
            ) from error


@attrs.frozen
class User:
    """Who a session belongs to. `on_connect` returns one; subclass it to carry more::

        @attrs.frozen
        class Member(User):
            plan: str

    Sessions whose users have the same name are the same user's: ``publish_to_user`` reaches all of them.
    """

    name: str = attrs.field(validator=attrs.validators.min_len(1))
    attributes: Mapping[str, object] = attrs.field(factory=dict, kw_only=True, eq=False, repr=False)
    """Whatever the app wants to remember; neither compared nor shown."""
