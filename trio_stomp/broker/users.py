"""Which subscriptions a user destination reaches: ``/user/queue/x`` is each user's own.

A subscription to ``/user/queue/x`` is filed under its user's name, so nobody can subscribe to
another's (Spring's ``/queue/x-user{session}`` can be guessed: ANCHOR-SPRING.md, hazard 3).
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_stomp.broker.subscriptions import Subscription

USER_PREFIX = "/user"


def user_queue(destination: str) -> str | None:
    """``/queue/x`` for ``/user/queue/x``; None when it is not a user destination."""
    if destination.startswith(USER_PREFIX + "/"):
        return destination[len(USER_PREFIX) :]
    return None


class UserIndex:
    """Subscriptions to user destinations by user name and destination; for the broker task alone.

    Below these by session: thousands may be one user, as "guest", and an answer goes to one of them.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], dict[str, tuple[Subscription, ...]]] = {}

    def __len__(self) -> int:
        return sum(len(own) for group in self._groups.values() for own in group.values())

    def add(self, queue: str, subscription: Subscription) -> None:
        """File under the subscriber's user; ``queue`` without the ``/user`` prefix."""
        subscriber = subscription.subscriber
        group = self._groups.setdefault((subscriber.user_name, queue), {})
        group[subscriber.session_id] = (*group.get(subscriber.session_id, ()), subscription)

    def remove(self, queue: str, subscription: Subscription) -> None:
        """Take one out again, and its place when it was the last."""
        subscriber = subscription.subscriber
        group = self._groups.get((subscriber.user_name, queue), {})
        left = tuple(one for one in group.pop(subscriber.session_id, ()) if one is not subscription)
        if left:
            group[subscriber.session_id] = left
        elif not group:
            self._groups.pop((subscriber.user_name, queue), None)

    def match(self, user_name: str, queue: str, session_id: str | None) -> Sequence[Subscription]:
        """Those of one user, or only of one of her sessions."""
        group = self._groups.get((user_name, queue))
        if group is None:
            return ()
        if session_id is not None:
            return group.get(session_id, ())
        if len(group) == 1:
            return next(iter(group.values()))
        return [subscription for own in group.values() for subscription in own]
