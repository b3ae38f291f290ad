"""The embedded broker: the one task that owns subscriptions and delivers messages.

Rule 1: only this task changes the indexes.  Rule 2: it never waits for a subscriber: it offers,
then acts on what had no room.  Rule 3: it works its inbox empty, looks once more after one pass
of the scheduler, and flushes each touched outbox once (or earlier, at a budget).

Idle, that costs a message one pass of the scheduler; under load it makes one task switch and
one write of many deliveries (PERFORMANCE.md: a factor of 10).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import trio

from trio_stomp.broker.commands import (
    Answer,
    Command,
    Detach,
    Publish,
    PublishToUser,
    Reply,
    Subscribe,
    Subscriber,
    Unsubscribe,
)
from trio_stomp.broker.delivery import Delivery, opening
from trio_stomp.broker.subscriptions import Subscription, SubscriptionIndex
from trio_stomp.broker.users import USER_PREFIX, UserIndex, user_queue
from trio_stomp.channels.inbox import Inbox
from trio_stomp.channels.outbox import Outbox
from trio_stomp.config import BrokerConfig
from trio_stomp.metrics import Metrics

logger = logging.getLogger("trio_stomp.broker")

QUEUE_PREFIX = "/queue/"
"""Destinations of which a message goes to one subscriber, in turn (DESIGN section 4)."""

_FLUSH_COST = 20e-6
"""Seconds that flushing and writing one outbox takes, about."""

_PASSES = 128
"""Passes of the scheduler in which a writer that is not held up has written a full outbox: of the default
512 KiB, TLS makes 32 records, with three or four passes each."""


class SimpleBroker:
    """Subscriptions, fan-out and user queues, in memory.

    Args:
        config: inbox size, flush budget, prefixes.
        separator: between a destination's segments.

    `put` a command and it takes effect in its turn; `run` is the task. Feeders await `room`
    before they read on, so a full inbox slows clients down.
    """

    def __init__(self, config: BrokerConfig, metrics: Metrics, *, separator: str = "/") -> None:
        self._config = config
        self._metrics = metrics
        self.inbox: Inbox[Command] = Inbox(config.inbox)
        self.put = self.inbox.put
        self.room = self.inbox.room
        self._topics = SubscriptionIndex(separator)
        self._users = UserIndex()
        self._owned: dict[Subscriber, dict[str, Subscription]] = {}
        self._dirty: list[Outbox] = []
        self._late: list[tuple[Subscriber, bytes, bool]] = []  # and whether it is a MESSAGE
        self._offers = 0
        self._id_prefix = secrets.token_hex(4)
        self._sent = 0
        self._actions: Mapping[type[Any], Callable[[Any], None]] = {
            Publish: self._publish,
            PublishToUser: self._publish_to_user,
            Subscribe: self._subscribe,
            Unsubscribe: self._unsubscribe,
            Answer: self._answer,
            Reply: self._reply,
            Detach: self._detach,
        }

    @property
    def subscription_count(self) -> int:
        """How many subscriptions there are now."""
        return sum(map(len, self._owned.values()))

    async def run(self) -> None:
        """Work until the inbox is closed and empty; the broker's task.

        Cancelling loses what is in the inbox.
        """
        inbox, config = self.inbox, self._config
        actions, now = self._actions, trio.current_time
        while commands := await inbox.take():
            since_flush, flushed_at = 0, now()
            while commands:
                for command in commands:
                    try:
                        actions[type(command)](command)
                    except Exception:  # one command's trouble stays its own
                        self._metrics.internal_errors += 1
                        logger.exception("the broker failed at a %s", type(command).__name__)
                    since_flush += 1
                    if self._late or since_flush >= config.flush_messages:
                        is_due = True
                    else:
                        is_due = not since_flush & 7 and now() >= flushed_at + self._patience()
                    if is_due:
                        self._flush()
                        await trio.lowlevel.checkpoint()
                        if self._late:
                            await self._offer_again()
                        since_flush, flushed_at = 0, now()
                    elif self._offers >= config.yield_offers:
                        await trio.lowlevel.checkpoint()
                    else:
                        continue
                    self._offers = 0
                # One more pass: what other readers have in hand joins this flush.
                await trio.lowlevel.checkpoint()
                commands = inbox.take_nowait()
            self._flush()

    def _patience(self) -> float:
        """Seconds that touched outboxes may wait for more: the set time, and as long as their flush takes.

        Without the second part 1,000 touched outboxes are written every few messages, and the
        writes take most of the time (measured: 199,000 deliveries per CPU second instead of 600,000).
        """
        return self._config.flush_seconds + len(self._dirty) * _FLUSH_COST

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for outbox in dirty:
            outbox.flush()

    async def _offer_again(self) -> None:
        """Offer once more what had no room, while that helps; whose outbox stays full has overflowed.

        A burst within one batch may be larger than an outbox whose client is not slow at all: its
        writer only needs its turn, or several where a write yields (TLS). These are passes of the
        scheduler, not time: a writer that waits for its peer is not waited for.
        """
        patience = _PASSES
        while self._late and patience:
            waiting, self._late = self._late, []
            stuck: set[Subscriber] = set()
            for offered in waiting:
                subscriber, frame, is_message = offered
                if subscriber not in stuck and subscriber.outbox.offer(frame):
                    self._touch(subscriber.outbox)
                    self._metrics.frames_out += 1
                    self._metrics.messages_delivered += is_message
                else:
                    stuck.add(subscriber)
                    self._late.append(offered)
            patience = _PASSES if len(self._late) < len(waiting) else patience - 1
            self._flush()
            await trio.lowlevel.checkpoint()
        late, self._late = self._late, []
        for subscriber in dict.fromkeys(subscriber for subscriber, _, _ in late):
            self._metrics.outbox_overflows += 1
            self._forget(subscriber)
            try:
                subscriber.overflowed()
            except Exception:  # one session's trouble stays its own
                self._metrics.internal_errors += 1
                logger.exception("session %s: failed to end after an overflow", subscriber.session_id)

    def _publish(self, command: Publish) -> None:
        queue = user_queue(command.destination)
        if queue is not None:  # a client's SEND to /user/{name}/queue/x
            name, _, rest = queue[1:].partition("/")
            self._publish_to_user(
                PublishToUser(name.replace("%2F", "/"), "/" + rest, command.body, command.headers)
            )
            return
        destination = command.destination
        if destination.startswith(QUEUE_PREFIX):
            self._deliver(destination, command, self._topics.next_in_turn(destination))
        else:
            self._deliver(destination, command, self._topics.match(destination))

    def _publish_to_user(self, command: PublishToUser) -> None:
        found = self._users.match(command.user_name, command.destination, command.session_id)
        self._deliver(USER_PREFIX + command.destination, command, found)

    def _answer(self, command: Answer) -> None:
        subscription = self._owned.get(command.subscriber, {}).get(command.key)
        # The id may have been given to another subscription since the handler was called.
        if subscription is not None and subscription.destination == command.destination:
            self._deliver(command.destination, command, (subscription,))

    def _deliver(
        self, destination: str, message: Publish | PublishToUser | Answer, found: Iterable[Subscription]
    ) -> None:
        self._metrics.messages_published += 1
        if not found:
            self._metrics.messages_unmatched += 1
            return
        self._sent += 1
        delivery = Delivery(destination, f"{self._id_prefix}-{self._sent}", message.headers, message.body)
        dirty = self._dirty
        encoding = None
        count = 0
        # The inner loop of fan-out: names are local and Outbox.offer is written out, which
        # takes a delivery from 0.65 to 0.40 us.
        for subscription in found:
            subscriber = subscription.subscriber
            if subscriber.encoding is not encoding:
                encoding = subscriber.encoding
                look = delivery.look(encoding)
                frames = look.frames
            frame = frames.get(subscription.opening) or look.frame(subscription.opening)
            outbox = subscriber.outbox
            size = outbox.size + len(frame)
            pending = outbox.pending
            if size > outbox.max_bytes or len(pending) >= outbox.max_messages:
                if not outbox.offer(frame):  # which knows about frames larger than an outbox
                    self._late.append((subscriber, frame, True))
                    continue
            else:
                outbox.size = size
                pending.append(frame)
            if not outbox.is_dirty:
                outbox.is_dirty = True
                dirty.append(outbox)
            count += 1
        self._offers += count
        self._metrics.messages_delivered += count
        self._metrics.frames_out += count

    def _subscribe(self, command: Subscribe) -> None:
        subscriber = command.subscriber
        if not subscriber.is_attached:
            return
        start = opening(command.id, subscriber.encoding.version)
        subscription = Subscription(subscriber, command.key, command.destination, start)
        queue = user_queue(command.destination)
        if queue is None:
            self._topics.add(subscription)
        else:
            self._users.add(queue, subscription)
        self._owned.setdefault(subscriber, {})[command.key] = subscription

    def _unsubscribe(self, command: Unsubscribe) -> None:
        owned = self._owned.get(command.subscriber, {})
        subscription = owned.pop(command.key, None)
        if subscription is not None:
            self._remove(subscription)

    def _reply(self, command: Reply) -> None:
        subscriber = command.subscriber
        if subscriber.outbox.offer(command.frame):
            self._touch(subscriber.outbox)
            self._metrics.frames_out += 1
        else:
            self._late.append((subscriber, command.frame, False))

    def _detach(self, command: Detach) -> None:
        self._forget(command.subscriber)
        command.subscriber.outbox.finish(command.close_code, command.reason)

    def _forget(self, subscriber: Subscriber) -> None:
        subscriber.is_attached = False
        for subscription in self._owned.pop(subscriber, {}).values():
            self._remove(subscription)

    def _remove(self, subscription: Subscription) -> None:
        queue = user_queue(subscription.destination)
        if queue is None:
            self._topics.remove(subscription)
        else:
            self._users.remove(queue, subscription)

    def _touch(self, outbox: Outbox) -> None:
        if not outbox.is_dirty:
            outbox.is_dirty = True
            self._dirty.append(outbox)
