"""When a client comes back: the settings, what is final, and how long to wait.

Rule 1: after a loss that hit all clients at once they don't come back at once: full jitter, from the first
attempt on.  Rule 2: a server that says when is obeyed; one that has spread the closes (1012) needs no jitter.
Rule 3: whoever accepts and drops at once, again and again, is not hammered.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from typing import Final, Literal

import attrs

from trio_stomp.client.events import GOING_AWAY
from trio_stomp.errors import ConfigError, ConnectionLost, HandshakeRefused, ProtocolError, ServerError

_PASSING: Final = frozenset({408, 425, 429})
"""Statuses below 500 that say "not now"; the others (RFC 9110, section 15.5) will be the same next time."""
_SPREAD: Final = 0.5
"""Share of a ``Retry-After`` added at most: it has whole seconds, on which all would come together."""
_DOUBLINGS: Final = 64
"""Any back-off has reached its maximum by then, and a float its limit not yet."""


@attrs.frozen(kw_only=True)
class Reconnect:
    """How a client comes back after its connection was lost.

    Before attempt ``n`` (from 0) it waits between 0 and ``min(maximum, initial * 2**n)`` seconds, whatever
    chance says ("full jitter", AWS Architecture Blog, 2015); after a server's paced close (1012) not at all,
    and never before the time that a server has named (``reconnect_after``, ``Retry-After``).

    Attributes:
        initial: seconds, half a second by default: a crashed server's clients spread over it.
        maximum: seconds between two attempts at most, 30 by default.
        attempts: how many may fail in a row before it gives up; None (default): any number.
        sends: what a send does while there is no connection: "wait" for the next one (default; bounded by
            ``ClientConfig.waiting`` and ``waiting_bytes``), or "fail" with ConnectionLost.
        steady: seconds that a connection must have lived for the waiting to begin small again, 10 by default.
        longest_wish: seconds, 600 by default; a server that names a later time is not believed.
        chance: gives numbers from 0 to below 1.
    """

    initial: float = 0.5
    maximum: float = 30.0
    attempts: int | None = None
    sends: Literal["wait", "fail"] = "wait"
    steady: float = 10.0
    longest_wish: float = 600.0
    chance: Callable[[], float] = attrs.field(default=random.random, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for name in ("initial", "maximum", "steady", "longest_wish"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ConfigError(f"Reconnect.{name} is {value!r}, expected seconds from 0 on")
        if not 0 < self.initial <= self.maximum:
            raise ConfigError(
                f"Reconnect.initial is {self.initial!r}, expected more than 0 and at most Reconnect.maximum, "
                f"{self.maximum!r}"
            )
        if self.attempts is not None and self.attempts < 1:
            raise ConfigError(f"Reconnect.attempts is {self.attempts!r}, expected at least 1, or None")
        if self.sends not in ("wait", "fail"):
            raise ConfigError(f"Reconnect.sends is {self.sends!r}, expected 'wait' or 'fail'")


def is_final(error: Exception) -> bool:
    """Whether an attempt that failed like this fails again: login, path, certificate, protocol."""
    if isinstance(error, HandshakeRefused):
        return error.status < 500 and error.status not in _PASSING
    if isinstance(error, ServerError | ProtocolError):
        return True
    return isinstance(error.__cause__, ssl.SSLCertVerificationError)


class Backoff:
    """How long to wait, by what has happened so far."""

    def __init__(self, reconnect: Reconnect) -> None:
        self._reconnect = reconnect
        self._unsteady = 0

    def after_loss(self, error: Exception, *, lived: float, told: float | None) -> float:
        """Seconds to wait after a connection of ``lived`` seconds was lost.

        Args:
            told: seconds that are left of what the server has asked for; None when it has not.
        """
        if lived >= self._reconnect.steady:
            self._unsteady = 0
        is_paced = told is not None or (isinstance(error, ConnectionLost) and error.code == GOING_AWAY)
        delay = 0.0 if told is None else told
        if not is_paced or self._unsteady:
            delay += self._jittered()
        self._unsteady += 1
        return delay

    def after_failure(self, error: Exception) -> float:
        """Seconds to wait after an attempt has failed."""
        delay = self._jittered()
        self._unsteady += 1
        wish = error.retry_after if isinstance(error, HandshakeRefused) else None
        if wish:
            chance = self._reconnect.chance()
            delay = min(wish, self._reconnect.longest_wish) * (1 + _SPREAD * chance)
        return delay

    def _jittered(self) -> float:
        reconnect = self._reconnect
        highest = min(reconnect.maximum, reconnect.initial * 2.0 ** min(self._unsteady, _DOUBLINGS))
        return reconnect.chance() * highest
