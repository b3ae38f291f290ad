"""The server's states and its live sessions: starting, ready, draining, stopped."""

from __future__ import annotations

import enum
import logging

import trio

from trio_stomp.metrics import Metrics
from trio_stomp.server.session import SessionTask
from trio_stomp.transport.http import HttpError

logger = logging.getLogger("trio_stomp.server")

GOING_AWAY = 1012
"""Close code of a drained session: "Service Restart" in IANA's registry; a client may come back."""
_REASON = "the server is going away"


class State(enum.Enum):
    """Where a server is in its life; ``value`` is what ``/readyz`` says."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Lifecycle:
    """Which sessions live, and how they are brought to an end.

    Args:
        timeout: seconds that sessions have for ending by themselves when draining.
    """

    def __init__(self, timeout: float, metrics: Metrics) -> None:
        self._timeout = timeout
        self._metrics = metrics
        self._sessions: dict[str, SessionTask] = {}
        self._stopped = trio.Event()
        self._empty = trio.Event()
        self.state = State.STARTING
        self.was_cut = False

    def __len__(self) -> int:
        return len(self._sessions)

    def move_to(self, state: State) -> None:
        """Enter a state, with a log line."""
        if state is not self.state:
            self.state = state
            logger.info("server is %s", state.value)
        if state is State.STOPPED:
            self._stopped.set()

    def check_open(self) -> None:
        """Return when new sessions are welcome.

        Raises:
            HttpError: 503 with Retry-After, while starting, draining or stopped.
        """
        if self.state is not State.READY:
            raise HttpError(503, f"the server is {self.state.value}", [("Retry-After", "5")])

    def add(self, session: SessionTask) -> None:
        """Count a session as live, until `remove`."""
        self._sessions[session.id] = session
        if self.state is not State.READY:  # the drain began while it shook hands, and has passed it by
            session.stop(GOING_AWAY, _REASON)

    def remove(self, session: SessionTask) -> None:
        """It has ended."""
        del self._sessions[session.id]
        if not self._sessions:
            self._empty.set()

    async def drain(self) -> bool:
        """Let every session see through what it has read, then close it (1012).

        Returns when all have ended or the time is up: whether all had ended. A second call waits
        for the first. Cancelling leaves the server draining.
        """
        if self.state in (State.DRAINING, State.STOPPED):
            await self._stopped.wait()
            return not self.was_cut
        self.move_to(State.DRAINING)
        with trio.move_on_after(self._timeout):
            while self._sessions:
                for session in list(self._sessions.values()):
                    session.stop(GOING_AWAY, _REASON)
                self._empty = trio.Event()
                await self._empty.wait()
        left = len(self._sessions)
        if left:
            self.was_cut = True
            self._metrics.limit("shutdown.timeout")
            logger.warning("%d sessions did not end within %g seconds and are cut", left, self._timeout)
        self.move_to(State.STOPPED)
        return not left

    async def wait_stopped(self) -> None:
        """Return once a drain has come to its end."""
        await self._stopped.wait()
