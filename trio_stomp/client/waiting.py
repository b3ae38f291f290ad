"""Where sends wait for the next connection: one line, in order of arrival, bounded."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

from trio_stomp.config import ClientConfig
from trio_stomp.errors import ConnectionLost


class WaitingRoom:
    """Gives one after the other its turn; who is cancelled has left the line."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._turn = trio.StrictFIFOLock()
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    @contextlib.asynccontextmanager
    async def turn(self, size: int, *, is_bounded: bool) -> AsyncIterator[None]:
        """Wait in line; then it is this one's turn for as long as the context lasts.

        Args:
            size: in bytes.
            is_bounded: whether the room may be full; not so once there is a connection, which empties it.

        Raises:
            ConnectionLost: the room is full.
        """
        if is_bounded:
            self._check(size)
        self._count += 1
        self._bytes += size
        try:
            async with self._turn:
                yield
        finally:
            self._count -= 1
            self._bytes -= size

    def _check(self, size: int) -> None:
        config = self._config
        if self._count >= config.waiting:
            raise ConnectionLost(
                f"not connected, and {self._count} sends wait already, expected less than "
                f"{config.waiting} (ClientConfig.waiting)"
            )
        if self._bytes + size > config.waiting_bytes:
            raise ConnectionLost(
                f"not connected, and {self._bytes} bytes of sends wait already, expected at most "
                f"{config.waiting_bytes} with this one's {size} (ClientConfig.waiting_bytes)"
            )
