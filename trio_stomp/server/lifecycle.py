"""The server's states and its live sessions: starting, ready, draining, stopped.

Rule 1: a drain has steps, each with its time in `DrainConfig`: say 503 on ``/readyz``; after ``delay``
refuse new sessions and tell those that live; close them in turn over ``window``; cut at ``deadline``.
Rule 2: the turns are spread here, because clients don't spread their coming back: stompjs waits for 5 s,
whoever it is.
"""

from __future__ import annotations

import enum
import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterator

import attrs
import trio

from trio_stomp.config import DrainConfig
from trio_stomp.metrics import Metrics
from trio_stomp.server.session import SessionTask

logger = logging.getLogger("trio_stomp.server")

GOING_AWAY = 1012
"""Close code of a drained session: "Service Restart" in IANA's registry; a client may come back."""
_REASON = "the server is going away"

SERVER_QUEUE = "/queue/server"
"""Where a session subscribes, below ``/user``, to be told of the server's own events."""


class State(enum.Enum):
    """Where a server is in its life; ``value`` is what ``/readyz`` says."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Lifecycle:
    """Which sessions live, and how they are brought to an end.

    Args:
        chance: gives numbers from 0 to below 1, for the jitter of turns.

    Attributes:
        state: where the server is.
        is_open: whether new sessions are welcome: when ready, and for the first ``delay`` of a drain.
        was_cut: whether a drain's deadline cut sessions off.
        drain_requested: set by whoever wants a drain and does not wait for it.
        before_closing: awaited in turn at the end of the delay, before new sessions are refused: listening
            sockets that others share are emptied and closed there.
    """

    def __init__(
        self, config: DrainConfig, metrics: Metrics, chance: Callable[[], float] = random.random
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._chance = chance
        self._sessions: dict[str, SessionTask] = {}
        self._stopped = trio.Event()
        self._empty = trio.Event()
        self._turns_given = False
        self._arriving = 0
        self._none_arrives = trio.Event()
        self.state = State.STARTING
        self.is_open = False
        self.was_cut = False
        self.drain_requested = trio.Event()
        self.before_closing: list[Callable[[], Awaitable[None]]] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def move_to(self, state: State) -> None:
        """Enter a state, with a log line."""
        if state is not self.state:
            self.state = state
            logger.info("server is %s", state.value)
        if state is State.READY:
            self.is_open = True
        if state is State.STOPPED:
            self.is_open = False
            self._stopped.set()

    def arrive(self) -> None:
        """Count a connection from when it is accepted, before its task begins, until it `arrived`."""
        self._arriving += 1

    def arrived(self) -> None:
        """One that was accepted is a session now, or has been answered, or is gone."""
        self._arriving -= 1
        if not self._arriving:
            self._none_arrives.set()

    def add(self, session: SessionTask) -> None:
        """Count a session as live, until `remove`."""
        self._sessions[session.id] = session
        if self._turns_given:  # it shook hands while the turns were given, and has none
            session.stop(GOING_AWAY, _REASON, in_time=False)

    def remove(self, session: SessionTask) -> None:
        """It has ended."""
        del self._sessions[session.id]
        if not self._sessions:
            self._empty.set()

    async def drain(
        self, *, delay: float | None = None, window: float | None = None, deadline: float | None = None
    ) -> bool:
        """Let every session see through what it has read, then close it (1012), each at its turn.

        Returns when all have ended or the time is up: whether all had ended. A second call waits
        for the first. Cancelling leaves the server draining.

        Args:
            delay, window, deadline: seconds, in place of the configuration's.
        """
        if self.state in (State.DRAINING, State.STOPPED):
            await self._stopped.wait()
            return not self.was_cut
        given = {"delay": delay, "window": window, "deadline": deadline}
        config = attrs.evolve(self._config, **{k: v for k, v in given.items() if v is not None})
        self.move_to(State.DRAINING)
        with trio.move_on_after(config.deadline):
            await trio.sleep(config.delay)
            for hand_over in self.before_closing:
                await hand_over()
            if self.before_closing:
                while self._arriving:  # accepted from the shared socket: nobody else can serve them any more
                    self._none_arrives = trio.Event()
                    await self._none_arrives.wait()
            self.is_open = False
            await self._close_in_turn(config.window)
            while self._sessions:
                self._empty = trio.Event()
                await self._empty.wait()
        left = len(self._sessions)
        if left:
            self.was_cut = True
            self._metrics.limit("drain.deadline")
            self._metrics.sessions_cut += left
            logger.warning(
                "the drain's deadline of %g seconds cuts off %d sessions with %d running handlers",
                config.deadline,
                left,
                self._metrics.handlers_running,
            )
        self.move_to(State.STOPPED)
        return not left

    async def drain_when_requested(self) -> None:
        """Wait for `drain_requested`, then drain."""
        await self.drain_requested.wait()
        await self.drain()

    async def wait_stopped(self) -> None:
        """Return once a drain has come to its end."""
        await self._stopped.wait()

    async def _close_in_turn(self, window: float) -> None:
        """Tell every session when its turn is, then stop each at its turn."""
        start = trio.current_time()
        turns = list(zip(self._turns(window), self._sessions.values(), strict=True))
        self._turns_given = True
        if turns:
            logger.info("closing %d sessions over %g seconds", len(turns), window)
        for turn, session in turns:
            if session.hears(SERVER_QUEUE):
                event = {"event": "draining", "reconnect_after": round(turn, 3)}
                session.tell(SERVER_QUEUE, json.dumps(event).encode())
        for turn, session in turns:
            await trio.sleep_until(start + turn)
            if session.id in self._sessions:
                self._metrics.sessions_drained += 1
                session.stop(GOING_AWAY, _REASON, in_time=False)

    def _turns(self, window: float) -> Iterator[float]:
        """Seconds from now for each session: slots of equal length, somewhere within its slot each."""
        slot = window / max(len(self._sessions), 1)
        for place in range(len(self._sessions)):
            yield (place + self._chance()) * slot
