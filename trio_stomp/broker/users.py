"""Which subscriptions a user destination reaches: ``/user/queue/x`` is each user's own.

A subscription to ``/user/queue/x`` is filed under its user's name, so nobody can subscribe to
another's (Spring's ``/queue/x-user{session}`` can be guessed: ANCHOR-SPRING.md, hazard 3).
"""

from __future__ import annotations

from collections.abc import Iterable

from trio_stomp.broker.subscriptions import Group, Subscription

USER_PREFIX = "/user"


def user_queue(destination: str) -> str | None:
    """``/queue/x`` for ``/user/queue/x``; None when it is not a user destination."""
    if destination.startswith(USER_PREFIX + "/"):
        return destination[len(USER_PREFIX) :]
    return None


class UserIndex:
    """Subscriptions to user destinations by user name and destination; for the broker task alone."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, queue: str, subscription: Subscription) -> None:
        """File under the subscriber's user; ``queue`` without the ``/user`` prefix."""
        key = (subscription.subscriber.user_name, queue)
        self._groups.setdefault(key, {})[subscription] = None

    def remove(self, queue: str, subscription: Subscription) -> None:
        """Take one out again, and its place when it was the last."""
        key = (subscription.subscriber.user_name, queue)
        group = self._groups.get(key, {})
        group.pop(subscription, None)
        if not group:
            self._groups.pop(key, None)

    def match(self, user_name: str, queue: str, session_id: str | None) -> Iterable[Subscription]:
        """Those of one user, or only of one of her sessions."""
        group = self._groups.get((user_name, queue), {})
        if session_id is None:
            return group
        return [found for found in group if found.subscriber.session_id == session_id]
