"""Whether what a peer has begun to send comes to its end in time (sans-I/O).

Rule: a second for so many bytes on top of a fixed time, as Apache's RequestReadTimeout: a large
upload over a slow link takes as long as it must, and what drips is given up.
"""

from __future__ import annotations

import math


class Progress:
    """Looks now and then at what has begun: a frame, or a message.

    Args:
        timeout: seconds that it may take in any case.
        rate: bytes that give it one more second.
    """

    __slots__ = ("_begun", "_bytes", "_rate", "_since", "_timeout")

    def __init__(self, *, timeout: float, rate: int) -> None:
        self._timeout = timeout
        self._rate = rate
        self._begun = 0
        self._since = 0.0
        self._bytes = 0

    def deadline(self, begun: int, now: float, bytes_read: int) -> float:
        """When what is under way is late, unless more bytes come; infinity for nothing.

        Args:
            begun: the number of what is under way; 0 for nothing.
            now: seconds, of a clock that never jumps.
            bytes_read: how many bytes have come so far, from the connection's start.
        """
        if begun != self._begun:
            self._begun, self._since, self._bytes = begun, now, bytes_read
        if not begun:
            return math.inf
        return self._since + self._timeout + (bytes_read - self._bytes) / self._rate
