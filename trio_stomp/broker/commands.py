"""What a broker can be asked to do; each is one entry of its inbox.

Rule 1: a session's commands take effect in the order it put them.  Rule 2: whatever a session
is to be sent goes through here, RECEIPTs too, so that a receipt cannot overtake the effect
that it vouches for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from trio_stomp.channels.outbox import Outbox
from trio_stomp.errors import TrioStompError
from trio_stomp.stomp.frames import Frame, Version


@attrs.frozen(eq=False)
class Encoding:
    """All that decides how a MESSAGE's bytes look, but for the subscription.

    Compared by identity: there is one for each transport and version in a server, and sessions
    that have it in common share the encoded frames.
    """

    version: Version
    frame_head: Callable[[int, bool], bytes]
    """Transport's opening of a frame: (length in bytes, is it UTF-8) to bytes; ``b""`` for plain TCP."""


def _tell_nobody(*_: object) -> None:
    """For a session that is over."""


@attrs.define(eq=False)
class Subscriber:
    """A session, as far as the broker knows it."""

    session_id: str
    user_name: str
    """The session's id when it has no user: it is its own user then."""
    encoding: Encoding
    outbox: Outbox
    overflowed: Callable[[str], None]
    """Called, in the broker task, when something that waits for it had no room, with the limit's name; must
    not wait."""
    refused: Callable[[Frame, TrioStompError], None]
    """Called, in the broker task, when a `Request` had no effect, and why; must not wait."""
    is_attached: bool = True

    def let_go(self) -> None:
        """The session is over and wants to hear no more: it is not held by this either."""
        self.overflowed = self.refused = _tell_nobody


@attrs.frozen(eq=False)
class Request:
    """A frame that the broker itself answers, because only it knows whether there is an effect."""

    subscriber: Subscriber
    frame: Frame
    receipt: bytes | None
    """The RECEIPT, ready to be sent, if it was asked for."""


@attrs.define(eq=False)
class Publish:
    """Deliver one message to whoever subscribes to ``destination``."""

    destination: str
    body: bytes
    headers: Mapping[str, str]
    """The sender's own headers, content-type among them; reserved ones are dropped."""
    request: Request | None = None
    """Who learns that a queue is full; None for messages of the application's own, which are then lost."""


@attrs.define(eq=False)
class PublishToUser:
    """Deliver one message to ``/user`` + ``destination`` of one user.

    With ``session_id`` only to that session of hers.
    """

    user_name: str
    destination: str
    body: bytes
    headers: Mapping[str, str]
    session_id: str | None = None


@attrs.define(eq=False)
class Subscribe:
    """Add a subscription; from the next command on it is served."""

    subscriber: Subscriber
    key: str
    """What the session calls it; unique in the session."""
    id: str | None
    """For the ``subscription`` header; None for a STOMP 1.0 subscription without an id."""
    destination: str
    ack: str = "auto"
    """The mode: ``auto``, ``client`` or ``client-individual``."""
    prefetch: int = 0
    """How many messages may be unacknowledged, where the mode acknowledges."""


@attrs.define(eq=False)
class Acknowledge:
    """Settle one message, or in ``client`` mode all up to it; unknown ones are refused."""

    request: Request
    id: str
    """The ``ack`` header's value; before 1.2 the message's id."""
    key: str | None
    """What the session calls the subscription; None: the id is enough (1.2), or all there is (1.0)."""
    is_taken: bool
    """False for NACK: the message is given back."""


@attrs.define(eq=False)
class Commit:
    """Carry out all commands of a transaction, or none of them."""

    request: Request
    commands: Sequence[Publish | Acknowledge]


@attrs.define(eq=False)
class RoomFor:
    """A subscriber's outbox has room again, which a queue waits for."""

    subscriber: Subscriber


@attrs.define(eq=False)
class Answer:
    """Deliver one message to one subscription only (what ``on_subscribe`` returns)."""

    subscriber: Subscriber
    key: str
    destination: str
    body: bytes
    headers: Mapping[str, str]


@attrs.define(eq=False)
class Unsubscribe:
    """Remove a subscription; nothing is delivered to it from the next command on."""

    subscriber: Subscriber
    key: str


@attrs.define(eq=False)
class Reply:
    """Send one ready frame (a RECEIPT, an ERROR) to one session, in its turn."""

    subscriber: Subscriber
    frame: bytes


@attrs.define(eq=False)
class Detach:
    """Forget a session: remove its subscriptions, then finish its outbox with this close code."""

    subscriber: Subscriber
    close_code: int
    reason: str = ""


Command = (
    Publish
    | PublishToUser
    | Subscribe
    | Unsubscribe
    | Acknowledge
    | Commit
    | RoomFor
    | Answer
    | Reply
    | Detach
)
