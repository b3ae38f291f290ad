"""The queues: each message goes to one consumer, in turn, and is kept, bounded, while nobody can take it.

Rule 1: while a queue holds waiting messages nobody in the index can take one.  So a message that finds some
waiting goes behind them without a look at the consumers, and who becomes able to take asks for himself.
Rule 2: a consumer that cannot take (its window is full, or its outbox half full) is out of the index until
it can, so that finding one costs the same however many there are.  Rule 3: what is unacknowledged still
counts as held, so that giving it back never lacks room.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from trio_stomp.broker.commands import Subscriber
from trio_stomp.broker.delivery import Delivery
from trio_stomp.broker.subscriptions import Subscription, SubscriptionIndex
from trio_stomp.broker.window import Parcel
from trio_stomp.config import BrokerConfig
from trio_stomp.errors import OverloadedError
from trio_stomp.metrics import Metrics
from trio_stomp.stomp.destinations import Pattern

logger = logging.getLogger("trio_stomp.broker")

QUEUE_PREFIX: Final = "/queue/"
"""Destinations of which a message goes to one subscriber, in turn (DESIGN section 4)."""

_SHARE: Final = 2
"""A queue fills a consumer's outbox to one part in so many; the rest is for its other subscriptions."""


@attrs.define(eq=False)
class Queue:
    """One destination that holds messages.

    Attributes:
        waiting: messages that nobody has been given, in order.
        count, size: messages and bytes held, the unacknowledged ones included.
        is_full: it has refused a message since it was last half empty.
    """

    destination: str
    waiting: deque[Parcel] = attrs.field(factory=deque)
    count: int = 0
    size: int = 0
    is_full: bool = False
    _numbered: int = 0

    def next_number(self) -> int:
        """Return the place of the next message."""
        self._numbered += 1
        return self._numbered


class Queues:
    """All of a broker's queues; for the broker task alone.

    Args:
        hand: gives a message to one consumer; called when it can take it.
        wake: asked to call `has_room` for a subscriber, once, when its outbox is empty or nearly so.
    """

    def __init__(
        self,
        config: BrokerConfig,
        metrics: Metrics,
        separator: str,
        *,
        hand: Callable[[Subscription, Parcel], None],
        wake: Callable[[Subscriber], None],
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._separator = separator
        self._hand = hand
        self._wake = wake
        self._index = SubscriptionIndex(separator)
        self._queues: dict[str, Queue] = {}
        self.message_count = 0
        """Messages held, the unacknowledged ones included."""
        self._size = 0
        self._is_full = False
        self._blocked: dict[Subscription, None] = {}
        self._wanting_room: dict[Subscriber, dict[Subscription, None]] = {}

    def publish(self, destination: str, delivery: Delivery) -> None:
        """Give a message to the consumer whose turn it is, or keep it.

        Raises:
            OverloadedError: there is no room to keep it.
        """
        queue = self._queues.get(destination)
        parcel = Parcel(delivery, delivery.size)
        if queue is None or not queue.waiting:
            consumer = self._next(destination, parcel.size)
            if consumer is not None:
                if consumer.window is not None:
                    self._hold(parcel, destination)
                self._hand(consumer, parcel)
                return
        self._hold(parcel, destination)
        assert parcel.queue is not None
        parcel.queue.waiting.append(parcel)

    def obstacle(self, publishing: Sequence[tuple[str, int]]) -> OverloadedError | None:
        """Why some messages, destination and bytes of each, would not all have room; None when they have."""
        new: dict[str, Queue] = {}
        total = 0
        for destination, size in publishing:
            queue = new.get(destination)
            if queue is None:
                held = self._queues.get(destination, Queue(destination))
                queue = new[destination] = Queue(destination, count=held.count, size=held.size)
            queues = len(self._queues.keys() | new.keys()) - 1
            refusal = self._refusal(queue, size, queues=queues, total=total)
            if refusal is not None:
                return self._refused(destination, *refusal)
            queue.count += 1
            queue.size += size
            total += size
        return None

    def join(self, subscription: Subscription) -> None:
        """Add a consumer, and give it what waits."""
        self._index.add(subscription)
        self._serve(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Take a consumer out; what it has not acknowledged is the caller's to `give_back`."""
        if subscription in self._blocked:
            del self._blocked[subscription]
            wanting = self._wanting_room.get(subscription.subscriber)
            if wanting is not None:
                wanting.pop(subscription, None)
                if not wanting:
                    del self._wanting_room[subscription.subscriber]
        else:
            self._index.remove(subscription)

    def has_room(self, subscriber: Subscriber) -> None:
        """Its outbox is empty or nearly so: its consumers can take again."""
        for subscription in self._wanting_room.pop(subscriber, ()):
            self._unblock(subscription)

    def has_window(self, subscription: Subscription) -> None:
        """Some of its messages are settled: it can take again, if its window was what it waited for."""
        wanting_room = self._wanting_room.get(subscription.subscriber, {})
        if subscription in self._blocked and subscription not in wanting_room:
            self._unblock(subscription)

    def done(self, parcels: Iterable[Parcel]) -> None:
        """Let go of messages that were acknowledged, or given to who need not."""
        config = self._config
        for parcel in parcels:
            queue = parcel.queue
            assert queue is not None
            queue.count -= 1
            queue.size -= parcel.size
            self._size -= parcel.size
            self.message_count -= 1
            if not queue.count:
                del self._queues[queue.destination]
            elif queue.is_full and queue.count <= config.queue_messages // 2:
                queue.is_full = queue.size > config.queue_bytes // 2
        if self._is_full and self._size <= config.kept_bytes // 2:
            self._is_full = len(self._queues) > config.queues // 2

    def give_back(self, parcels: Iterable[Parcel]) -> None:
        """Put messages back to where they were in their queues, and give them to whoever is next."""
        by_queue: dict[Queue, list[Parcel]] = {}
        for parcel in parcels:
            parcel.is_redelivered = True
            assert parcel.queue is not None
            by_queue.setdefault(parcel.queue, []).append(parcel)
        for queue, back in by_queue.items():
            waiting, last = queue.waiting, max(parcel.number for parcel in back)
            while waiting and waiting[0].number < last:
                back.append(waiting.popleft())
            waiting.extendleft(sorted(back, key=lambda parcel: parcel.number, reverse=True))
        for queue in by_queue:
            while queue.waiting:
                consumer = self._next(queue.destination, queue.waiting[0].size)
                if consumer is None:
                    break
                self._give_first(queue, consumer)

    def _next(self, destination: str, size: int) -> Subscription | None:
        """The consumer whose turn it is; those found unable to take go out of the index."""
        while found := self._index.next_in_turn(destination):
            (subscription,) = found
            if self._can_take(subscription, size):
                return subscription
            self._block(subscription)
        return None

    def _can_take(self, subscription: Subscription, size: int) -> bool:
        window = subscription.window
        return (window is None or window.is_open) and self._has_room(subscription.subscriber, size)

    @staticmethod
    def _has_room(subscriber: Subscriber, size: int) -> bool:
        outbox = subscriber.outbox
        return outbox.is_idle or (
            outbox.size + size <= outbox.max_bytes // _SHARE
            and len(outbox.pending) < outbox.max_messages // _SHARE
        )

    def _block(self, subscription: Subscription) -> None:
        subscriber = subscription.subscriber
        self._index.remove(subscription)
        self._blocked[subscription] = None
        if subscription.window is None or subscription.window.is_open:  # then it is the outbox
            if subscriber not in self._wanting_room:
                self._wake(subscriber)
            self._wanting_room.setdefault(subscriber, {})[subscription] = None

    def _unblock(self, subscription: Subscription) -> None:
        del self._blocked[subscription]
        self.join(subscription)

    def _serve(self, subscription: Subscription) -> None:
        """Give one that has just become able to take what waits for it."""
        pattern = Pattern.parse(subscription.destination, self._separator)
        if pattern.is_exact:
            queue = self._queues.get(subscription.destination)
            found = [] if queue is None else [queue]
        else:  # at most `broker.queues`
            found = [queue for name, queue in self._queues.items() if pattern.matches(name)]
        for queue in found:
            while queue.waiting:
                if not self._can_take(subscription, queue.waiting[0].size):
                    self._block(subscription)
                    return
                self._give_first(queue, subscription)

    def _give_first(self, queue: Queue, consumer: Subscription) -> None:
        parcel = queue.waiting.popleft()
        if consumer.window is None:
            self.done((parcel,))
        self._hand(consumer, parcel)

    def _hold(self, parcel: Parcel, destination: str) -> None:
        queue = self._queues.get(destination) or Queue(destination)
        refusal = self._refusal(queue, parcel.size, queues=len(self._queues), total=0)
        if refusal is not None:
            raise self._refused(destination, *refusal)
        self._queues[destination] = queue
        parcel.queue, parcel.number = queue, queue.next_number()
        queue.count += 1
        queue.size += parcel.size
        self._size += parcel.size
        self.message_count += 1

    def _refusal(self, queue: Queue, size: int, *, queues: int, total: int) -> tuple[str, str] | None:
        """The limit that holding one more message would break, and what it says.

        Args:
            queues: how many hold messages, beside this one if it holds none.
            total: bytes to be held beside those that are.
        """
        config = self._config
        if queue.count >= config.queue_messages:
            return "broker.queue_messages", f"holds {config.queue_messages} messages"
        if queue.count and queue.size + size > config.queue_bytes:
            return "broker.queue_bytes", f"holds {queue.size} of {config.queue_bytes} bytes"
        if not queue.count and queues >= config.queues:
            return "broker.queues", f"cannot be kept: {config.queues} queues hold messages"
        if self._size + total and self._size + total + size > config.kept_bytes:
            return "broker.kept_bytes", f"cannot be kept: all hold {config.kept_bytes} bytes at most"
        return None

    def _refused(self, destination: str, limit: str, text: str) -> OverloadedError:
        """Count it, and log it once for each time that there was half of the room."""
        self._metrics.limit(limit)
        queue = self._queues.get(destination)
        is_known = self._is_full if queue is None else queue.is_full or self._is_full
        if not is_known:
            if queue is None or limit == "broker.kept_bytes":
                self._is_full = True
            else:
                queue.is_full = True
            logger.warning("queue %r %s: messages are refused (%s)", destination, text, limit)
        return OverloadedError(f"queue {destination!r} {text}")
