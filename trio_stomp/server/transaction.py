"""What a session has asked for between BEGIN and COMMIT; the broker carries it out in one piece."""

from __future__ import annotations

from collections.abc import Mapping

from trio_stomp.broker.commands import Acknowledge, Publish
from trio_stomp.config import StompConfig
from trio_stomp.errors import RemoteProtocolError
from trio_stomp.stomp.frames import Frame


class Transaction:
    """One open transaction; to abort it is to forget it.

    Args:
        config: how many frames it may hold, and bytes together with the session's others.
        opened: all that are open in the session, by name; this one will be.

    Attributes:
        commands: in the order of their frames.
        size: bytes of their bodies and headers.
    """

    __slots__ = ("_config", "_opened", "commands", "size")

    def __init__(self, config: StompConfig, opened: Mapping[str, Transaction]) -> None:
        self._config = config
        self._opened = opened
        self.size = 0
        self.commands: list[Publish | Acknowledge] = []

    def add(self, command: Publish | Acknowledge, frame: Frame) -> None:
        """Take one more.

        Raises:
            RemoteProtocolError: there are too many, or what the session holds is too large together.
        """
        config = self._config
        self.size += len(frame.body) + sum(len(name) + len(value) for name, value in frame.headers.items())
        if len(self.commands) >= config.transaction_frames:
            text = f"more than {config.transaction_frames} frames in a transaction"
            limit = "stomp.transaction_frames"
        elif sum(each.size for each in self._opened.values()) > config.transaction_bytes:
            text = f"more than {config.transaction_bytes} bytes in open transactions"
            limit = "stomp.transaction_bytes"
        else:
            self.commands.append(command)
            return
        raise RemoteProtocolError(text, frame=frame, close_code=1008, limit=limit)
