"""The windows of all subscriptions that acknowledge: what enters them, and how it leaves.

Rule 1: ACK lets go of a message; NACK, and the end of a subscription, give it back: a queue's to its queue,
a topic's to the same window, because every subscription has a copy of its own.  Rule 2: what makes room lets
the next ones in at once.  Rule 3: topics wait for nobody: a session that leaves too many bytes of theirs, in
all its windows together, ends.  A queue's count there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from trio_stomp.broker.commands import Acknowledge, Publish, Subscribe, Subscriber
from trio_stomp.broker.delivery import Delivery
from trio_stomp.broker.queues import QUEUE_PREFIX, Queues
from trio_stomp.broker.subscriptions import Subscription
from trio_stomp.broker.window import Parcel, Window
from trio_stomp.config import BrokerConfig
from trio_stomp.errors import RemoteProtocolError, TrioStompError
from trio_stomp.metrics import Metrics
from trio_stomp.stomp.frames import Version

_QUOTED: Final = 60
"""Characters of a client's text that an ERROR repeats."""


class Settling:
    """For the broker task alone, but for `find`.

    Args:
        queues: where a queue's messages go back to.
        owned: each session's subscriptions by what it calls them.
        hand: gives a message to one consumer.
        too_slow: is told of a subscriber for which too much waits, and of the limit.
    """

    def __init__(
        self,
        config: BrokerConfig,
        metrics: Metrics,
        queues: Queues,
        owned: Mapping[Subscriber, Mapping[str, Subscription]],
        *,
        hand: Callable[[Subscription, Parcel], None],
        too_slow: Callable[[Subscriber, str], None],
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._queues = queues
        self._owned = owned
        self._hand = hand
        self._too_slow = too_slow
        self._named: dict[str, Subscription] = {}
        self._names = itertools.count(1)
        self._held: dict[Subscriber, int] = {}
        """Bytes of topics' messages in and behind the windows of each session that has any."""

    @property
    def unacked_count(self) -> int:
        """How many messages are unacknowledged now."""
        windows = (subscription.window for subscription in self._named.values())
        return sum(len(window.unacked) for window in windows if window is not None)

    def open(self, subscription: Subscription, command: Subscribe) -> None:
        """Give a subscription its window; its ``opening`` goes there."""
        assert subscription.opening is not None
        subscription.window = window = Window(
            str(next(self._names)),
            subscription.opening,
            subscription.subscriber.encoding.version,
            is_cumulative=command.ack == "client",
            prefetch=command.prefetch,
            max_bytes=self._config.unacked_bytes,
        )
        subscription.opening = None
        self._named[window.name] = subscription

    def close(self, subscriptions: Iterable[Subscription]) -> None:
        """Some have ended, and are out of the indexes: what a queue's have not acknowledged goes back."""
        back: list[Parcel] = []
        for subscription in subscriptions:
            window = subscription.window
            if window is not None:
                del self._named[window.name]
                back += [parcel for parcel in window.unacked.values() if parcel.queue is not None]
                kept = (parcel for parcel in window.held() if parcel.queue is None)
                self._let_go(subscription.subscriber, kept)
        if back:
            self._metrics.messages_returned += len(back)
            self._queues.give_back(back)

    def deliver(self, subscription: Subscription, delivery: Delivery) -> None:
        """Give a topic's message to one who acknowledges: now, or when there is room in the window."""
        window, parcel = subscription.window, Parcel(delivery, delivery.size)
        assert window is not None
        subscriber = subscription.subscriber
        held = self._held.get(subscriber, 0) + parcel.size
        if held > self._config.session_unacked_bytes:
            self._too_slow(subscriber, "broker.session_unacked_bytes")
            return
        is_next = window.is_open and not window.behind
        if not is_next:
            outbox = subscriber.outbox
            if len(window.behind) >= outbox.max_messages:
                self._too_slow(subscriber, "outbox.messages")
                return
            if window.behind and window.behind_bytes + parcel.size > outbox.max_bytes:
                self._too_slow(subscriber, "outbox.bytes")
                return
        self._held[subscriber] = held
        if is_next:
            self._hand(subscription, parcel)
        else:
            window.hold(parcel)

    def settle(self, command: Acknowledge) -> None:
        """See one ACK or NACK through.

        Raises:
            RemoteProtocolError: it names no message that its session has and has not acknowledged.
        """
        subscription, window, key = self.find(command)
        parcels = window.settle(key)
        is_queued = parcels[0].queue is not None
        if command.is_taken:
            self._metrics.messages_acknowledged += len(parcels)
            if is_queued:
                self._queues.done(parcels)
            else:
                self._let_go(subscription.subscriber, parcels)
        else:
            self._metrics.messages_returned += len(parcels)
            if is_queued:
                self._queues.give_back(parcels)
            else:
                window.give_back(parcels)
        if is_queued:
            self._queues.has_window(subscription)
        while (parcel := window.next_held()) is not None:
            self._hand(subscription, parcel)

    def _let_go(self, subscriber: Subscriber, parcels: Iterable[Parcel]) -> None:
        """A session does not hold some messages of topics any more."""
        left = self._held.get(subscriber, 0) - sum(parcel.size for parcel in parcels)
        if left:
            self._held[subscriber] = left
        else:
            self._held.pop(subscriber, None)

    def find(self, command: Acknowledge) -> tuple[Subscription, Window, str]:
        """The subscription that an ACK or NACK is about, its window, and the message's key in that.

        Raises:
            RemoteProtocolError: there is no such message.
        """
        subscriber = command.request.subscriber
        candidates: Iterable[Subscription | None]
        if subscriber.encoding.version is Version.V1_2:
            candidates = (self._named.get(command.id.partition("-")[0]),)
        elif command.key is not None:
            candidates = (self._owned.get(subscriber, {}).get(command.key),)
        else:  # STOMP 1.0, which need not name the subscription
            candidates = self._owned.get(subscriber, {}).values()
        for subscription in candidates:
            if subscription is not None and subscription.subscriber is subscriber:
                window = subscription.window
                if window is not None and command.id in window.unacked:
                    return subscription, window, command.id
        raise _no_such_message(command)

    def obstacle(self, commands: Sequence[Publish | Acknowledge]) -> TrioStompError | None:
        """Why a transaction's commands cannot all take effect; None when they can."""
        settled: set[tuple[Window, str]] = set()
        publishing: list[tuple[str, int]] = []
        for command in commands:
            if isinstance(command, Publish):
                if command.destination.startswith(QUEUE_PREFIX):
                    delivery = Delivery(command.destination, "", command.headers, command.body)
                    publishing.append((command.destination, delivery.size))
                continue
            try:
                _, window, key = self.find(command)
            except RemoteProtocolError as error:
                return error
            if (window, key) in settled:
                return _no_such_message(command)
            settled |= {(window, each) for each in window.covered(key)}
        return self._queues.obstacle(publishing)


def _no_such_message(command: Acknowledge) -> RemoteProtocolError:
    name = "ACK" if command.is_taken else "NACK"
    quoted = repr(command.id[:_QUOTED])
    return RemoteProtocolError(
        f"{name} of {quoted}, which is no unacknowledged message here", frame=command.request.frame
    )
