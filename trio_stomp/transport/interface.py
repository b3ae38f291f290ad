"""What a session asks of the connection that carries its frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from trio_stomp.transport.stream import WireStream


class Transport(Protocol):
    """The server's end of one connection: one task receives, one sends.

    Attributes:
        has_close_codes: whether `aclose` can tell the peer why; else an ERROR has to.
    """

    has_close_codes: ClassVar[bool]

    @property
    def frame_head(self) -> Callable[[int, bool], bytes]:
        """What stands before a STOMP frame, by its length and whether it is UTF-8; one function for all."""
        ...

    @property
    def wire(self) -> WireStream:
        """The stream below: time of the last byte, torn or not."""
        ...

    @property
    def begun(self) -> int:
        """The number of the transport's own message that has begun and not come to its end; 0 for none."""
        ...

    def at_end(self, call: Callable[[], None]) -> None:
        """Have ``call`` called once when nothing more comes in: the peer closed, or is lost."""
        ...

    def limit_messages(self, message_bytes: int) -> None:
        """Set how long a message of the transport's own may be, in bytes."""
        ...

    async def receive(self) -> list[bytes]:
        """What has come, at least one piece; an empty list at the end.

        The end is the peer's, or the loss of the connection, or `stop_receiving`.

        Raises:
            RemoteProtocolError: a limit was broken that the transport keeps.
        """
        ...

    def stop_receiving(self) -> None:
        """Let `receive` come to its end after what has been read so far."""
        ...

    @property
    def send_now(self) -> Callable[[bytes], int]:
        """Writes what goes without waiting, while the writer does not; how many bytes that was.

        The writer's next `send` has to be of the rest, if there is one.
        """
        ...

    async def send(self, data: bytes) -> None:
        """Write frames made with `frame_head`; for the one writer.

        Raises:
            trio.BrokenResourceError: the connection is lost (see `WireStream.send_all`).
        """
        ...

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close so that what was sent last arrives; at the deadline, abort. Never fails."""
        ...
