"""When each request is due: at a constant rate, whatever the answers do (an open arrival model).

Rule 1: request k is due at ``begin + k / rate``; those below 0 warm up and are not counted.
Rule 2: request k is client ``k mod clients``'s, so that each client's own requests are evenly spaced.
"""

from __future__ import annotations

import math

import attrs


@attrs.frozen(kw_only=True)
class Schedule:
    """A constant rate, dealt to clients.

    Attributes:
        begin: the clock's time at which the measured time begins: request 0 is due.
        rate: requests per second of all clients together.
        duration, warm_up: seconds measured, and seconds of load before.
        clients: how many there are.
    """

    begin: float
    rate: float
    duration: float
    warm_up: float
    clients: int

    @property
    def end(self) -> float:
        """Return when the measured time ends."""
        return self.begin + self.duration

    @property
    def count(self) -> int:
        """Return how many requests are due in the measured time."""
        return math.ceil(round(self.rate * self.duration, 6))  # 0.1 * 30 is a little more than 3

    def due(self, k: int) -> float:
        """Return when request ``k`` is due."""
        return self.begin + k / self.rate

    def of(self, client: int) -> range:
        """Return the requests of one client (from 0), those of the warm-up first."""
        first = -math.floor(round(self.rate * self.warm_up, 6))
        return range(first + (client - first) % self.clients, self.count, self.clients)
