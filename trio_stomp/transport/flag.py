"""An event that costs next to nothing until somebody waits for it."""

from __future__ import annotations

import trio


class Flag:
    """As `trio.Event`, which is made only for a waiter, and only until then: 48 bytes instead of 410."""

    __slots__ = ("_event", "is_set")

    def __init__(self) -> None:
        self._event: trio.Event | None = None
        self.is_set = False

    def set(self) -> None:
        """Wake everybody who waits, and let nobody wait from now on."""
        self.is_set = True
        event, self._event = self._event, None
        if event is not None:
            event.set()

    async def wait(self) -> None:
        """Return once it is set; yields only when it is not."""
        if not self.is_set:
            if self._event is None:
                self._event = trio.Event()
            await self._event.wait()
