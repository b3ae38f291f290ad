"""One task that keeps every session's heart-beats.

Rule 1: a deadline is computed from the last byte read or written, never from a tick.
Rule 2: a wait costs nothing per message: a deadline is looked at when it comes, and moved on
if there has been traffic.

A heap of deadlines for the whole server instead of two tasks per session: at 10,000 idle
sessions that is 60 MB less (a task is about 3 KiB).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import attrs
import trio

Check = Callable[[float], float]
"""Given the time, do what is due and return when to look again."""


@attrs.define(eq=False)
class Watch:
    """A deadline that moves on until it is cancelled."""

    _check: Check | None

    def cancel(self) -> None:
        """Never look again; lets go of the session at once."""
        self._check = None


class HeartBeats:
    """Deadlines of many sessions; `run` is the one task that looks at them."""

    def __init__(self) -> None:
        # Tuples are compared without a call of Python's: with an order of our own class 10,000 sessions
        # had half of their heart-beats' CPU in comparisons. The number decides between equal deadlines.
        self._heap: list[tuple[float, int, Watch]] = []
        self._turns = itertools.count()
        self._wake = trio.Event()

    def watch(self, deadline: float, check: Check) -> Watch:
        """Call ``check`` at ``deadline`` (`trio.current_time`), then whenever it says.

        ``check`` must neither wait nor raise.
        """
        watch = Watch(check)
        heapq.heappush(self._heap, (deadline, next(self._turns), watch))
        if self._heap[0][2] is watch:
            self._wake.set()
        return watch

    async def run(self) -> None:
        """Look at each deadline when it comes; never returns unless cancelled."""
        while True:
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                _, turn, watch = self._heap[0]
                if watch._check is None:
                    heapq.heappop(self._heap)
                else:
                    again = max(watch._check(now), now + _SHORTEST)
                    heapq.heapreplace(self._heap, (again, turn, watch))
            while self._heap and self._heap[0][2]._check is None:
                heapq.heappop(self._heap)
            self._wake = trio.Event()
            until = self._heap[0][0] if self._heap else float("inf")
            with trio.CancelScope(deadline=until):
                await self._wake.wait()


_SHORTEST = 0.001
"""Seconds; STOMP's own unit is the millisecond."""
