"""A model of an external service with K places, and of a pool that calls it: events in a heap, no clock.

Calls beyond the K that it serves at once wait inside it, first come, first served, as in a server with K
workers or a database with K connections: K times as many calls take K times as long.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from trio_stomp.channels.sizing import Sizer

OVERLOAD: Final = float("inf")
"""A rate: as many calls as there are threads for, always."""


class Simulation:
    """A pool under a `Sizer`, in front of a service; every setting may be changed between two `run`.

    Args:
        threads: of the pool at the start.
        knee: calls that the service serves at once.
        base: seconds that it takes for one.
        rate: calls that come a second, at random; `OVERLOAD`: there is always one more waiting.
        noise: standard deviation of a call's time, as a share of it (gamma-distributed).
        slowing: how much slower the service works with more calls than its knee inside it: its time for each
            is multiplied by ``(calls / knee) ** slowing``.
        creep: how much slower a call is for every other one that runs: a busy CPU.
        failing: share of the calls that fail.
        is_followed: whether the pool takes the size that the sizer says (adaptive), or not (observe).
        queue: calls that wait at most; what comes beyond is refused.

    Attributes:
        hanging: seconds that the next call will take, just once.
        ended: calls, all together.
        times: how long each of them held its thread.
        said: (when, threads) that the sizer said, followed or not.
    """

    def __init__(
        self,
        threads: int,
        knee: int = 32,
        *,
        base: float = 0.02,
        rate: float = OVERLOAD,
        noise: float = 0.15,
        slowing: float = 0.0,
        creep: float = 0.0,
        failing: float = 0.0,
        is_followed: bool = True,
        queue: int = 1000,
        minimum: int = 1,
        maximum: int = 256,
        seed: int = 1,
    ) -> None:
        self.sizer = Sizer(threads, minimum=minimum, maximum=maximum)
        self.threads = threads
        self.knee, self.base, self.rate, self.noise = knee, base, rate, noise
        self.slowing, self.creep, self.failing = slowing, creep, failing
        self.is_followed, self.queue = is_followed, queue
        self.now = 0.0
        self.busy = 0
        self.ended = 0
        self.said: list[tuple[float, int]] = []
        self.times: list[float] = []
        self.hanging = 0.0
        self._random = random.Random(seed)
        self._waiting = 0
        self._inside = 0
        self._line: deque[float] = deque()
        self._number = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._is_arriving = False

    def run(self, seconds: float) -> int:
        """Let so much time pass; return the pool's size then."""
        until = self.now + seconds
        if self.rate and self.rate != OVERLOAD and not self._is_arriving:
            self._is_arriving = True
            self._arrive_later()
        self._fill()
        while self._events and self._events[0][0] <= until:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self.now = until
        return self.threads

    def sizes_since(self, start: float) -> list[int]:
        """Return the sizes that were said at or after ``start``."""
        return [size for when, size in self.said if when >= start]

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, happen))

    def _arrive_later(self) -> None:
        if self.rate and self.rate != OVERLOAD:
            self._at(self.now + self._random.expovariate(self.rate), self._arrive)
        else:
            self._is_arriving = False

    def _arrive(self) -> None:
        if self._waiting < self.queue:
            self._waiting += 1
        self._arrive_later()
        self._fill()

    def _fill(self) -> None:
        while self.busy < self.threads and (self._waiting or self.rate == OVERLOAD):
            self._waiting -= self._waiting > 0
            self.busy += 1
            self._line.append(self.now)
        self._serve()

    def _serve(self) -> None:
        while self._line and self._inside < self.knee:
            self._inside += 1
            self._at(self.now + self._service_time(), self._end_of(self._line.popleft()))

    def _service_time(self) -> float:
        crowd = max(1.0, (self._inside + len(self._line)) / self.knee)
        seconds: float = self.base * crowd**self.slowing * (1 + self.creep * self.busy)
        if self.hanging:
            seconds, self.hanging = self.hanging, 0.0
            return seconds
        shape = self.noise**-2
        return seconds * self._random.gammavariate(shape, 1 / shape)

    def _end_of(self, started: float) -> Callable[[], None]:
        def end() -> None:
            self._inside -= 1
            self.ended += 1
            self.times.append(self.now - started)
            size = self.sizer.ended(
                self.now,
                self.now - started,
                busy=self.busy,
                threads=self.threads,
                is_failure=self._random.random() < self.failing,
            )
            if size is not None:
                self.said.append((self.now, size))
                if self.is_followed and self.threads:
                    self.threads = size
            self.busy -= 1
            self._fill()

        return end
