"""What a session has asked for between BEGIN and COMMIT; the broker carries it out in one piece."""

from __future__ import annotations

from trio_stomp.broker.commands import Acknowledge, Publish
from trio_stomp.config import StompConfig
from trio_stomp.errors import RemoteProtocolError
from trio_stomp.stomp.frames import Frame


class Transaction:
    """One open transaction; to abort it is to forget it.

    Args:
        config: how many frames and bytes it may hold.

    Attributes:
        commands: in the order of their frames.
    """

    __slots__ = ("_config", "_size", "commands")

    def __init__(self, config: StompConfig) -> None:
        self._config = config
        self._size = 0
        self.commands: list[Publish | Acknowledge] = []

    def add(self, command: Publish | Acknowledge, frame: Frame) -> None:
        """Take one more.

        Raises:
            RemoteProtocolError: there are too many, or they are too large together.
        """
        config = self._config
        self._size += len(frame.body) + sum(len(name) + len(value) for name, value in frame.headers.items())
        if len(self.commands) >= config.transaction_frames:
            text, limit = f"more than {config.transaction_frames} frames", "stomp.transaction_frames"
        elif self._size > config.transaction_bytes:
            text, limit = f"more than {config.transaction_bytes} bytes", "stomp.transaction_bytes"
        else:
            self.commands.append(command)
            return
        raise RemoteProtocolError(f"{text} in a transaction", frame=frame, close_code=1008, limit=limit)
