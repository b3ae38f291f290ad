"""Which of the broker's destinations clients may use themselves, past the handlers.

Rule 1: sending is refused unless a pattern allows it.  Rule 2: subscribing to an exact destination is
allowed until the first `allow_subscribe`, and from then on by patterns; a subscription that is a pattern
itself needs one that covers it.  Rule 3: ``/user/queue/…`` is everybody's own and always allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trio_stomp.errors import DestinationError
from trio_stomp.stomp.destinations import Pattern

_OWN: Final = "/user/queue/"


class Rules:
    """What clients may send and subscribe to.

    Args:
        send, subscribe: the patterns that were allowed.
        separator: what stands between segments.

    Raises:
        DestinationError: a pattern is malformed.
    """

    def __init__(self, send: Sequence[str] = (), subscribe: Sequence[str] = (), separator: str = "/") -> None:
        self.send = tuple(send)
        self.subscribe = tuple(subscribe)
        self._separator = separator
        self._send = [Pattern.parse(text, separator) for text in self.send]
        self._subscribe = [Pattern.parse(text, separator) for text in self.subscribe]

    def may_send(self, destination: str) -> bool:
        """Return whether a pattern allows it. Linear in the lengths of destination and patterns."""
        return any(pattern.matches(destination) for pattern in self._send)

    def may_subscribe(self, destination: str) -> bool:
        """Return whether it is allowed; ``destination`` may be a pattern. A malformed one is not."""
        try:
            is_exact = Pattern.parse(destination, self._separator).is_exact
        except DestinationError:
            return False
        if not is_exact:
            return any(covers(allowed, destination, self._separator) for allowed in self.subscribe)
        if not self._subscribe or destination.startswith(_OWN):
            return True
        return any(pattern.matches(destination) for pattern in self._subscribe)


def covers(wide: str, narrow: str, separator: str = "/") -> bool:
    """Return whether all that the pattern ``narrow`` matches is matched by ``wide``; both are valid.

    ``/topic/**`` covers ``/topic/*`` and ``/topic/a/**``; ``/topic/*`` covers ``/topic/a``.
    """
    wide_segments, narrow_segments = wide.split(separator), narrow.split(separator)
    for index, segment in enumerate(wide_segments):
        if segment == "**":  # the last one: it takes all that is left, if anything is
            return len(narrow_segments) > index
        if index >= len(narrow_segments) or narrow_segments[index] == "**":
            return False
        if segment not in ("*", narrow_segments[index]):
            return False
    return len(wide_segments) == len(narrow_segments)
