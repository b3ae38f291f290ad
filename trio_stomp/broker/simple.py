"""The embedded broker: the one task that owns subscriptions and queues, and delivers messages.

Rule 1: only this task changes the indexes and what is held.  Rule 2: it never waits for a
subscriber: it offers, then acts on what had no room.  Rule 3: it works its inbox empty, looks once more after
one pass of the scheduler, and flushes each touched outbox once (or earlier, at a budget).  Rule 4: a
transaction is one command: nothing comes between its parts.

Idle, that costs a message one pass of the scheduler; under load it makes one task switch and
one write of many deliveries (PERFORMANCE.md: a factor of 10).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any

import trio

from trio_stomp.broker.commands import (
    Acknowledge,
    Answer,
    Command,
    Commit,
    Detach,
    Publish,
    PublishToUser,
    Reply,
    Request,
    RoomFor,
    Subscribe,
    Subscriber,
    Unsubscribe,
)
from trio_stomp.broker.delivery import Delivery, frame_for_one, opening
from trio_stomp.broker.queues import QUEUE_PREFIX, Queues
from trio_stomp.broker.settling import Settling
from trio_stomp.broker.subscriptions import Subscription, SubscriptionIndex
from trio_stomp.broker.users import USER_PREFIX, UserIndex, user_queue
from trio_stomp.broker.window import Parcel
from trio_stomp.channels.inbox import Inbox
from trio_stomp.channels.outbox import Outbox
from trio_stomp.config import BrokerConfig
from trio_stomp.errors import OverloadedError, RemoteProtocolError, TrioStompError
from trio_stomp.metrics import Metrics

logger = logging.getLogger("trio_stomp.broker")

_FLUSH_COST = 20e-6
"""Seconds for which each touched outbox lets a flush wait for more; its write takes 5 us. With 8 us here a
delivery to 1,000 subscribers costs 10 % more (measured)."""

_FLUSHED_AT_ONCE = 256
"""Outboxes: each is a call of the kernel of about 5 us, and others want their turn."""

_PASSES = 128
"""Passes of the scheduler in which a writer that is not held up has written a full outbox: of the default
512 KiB, TLS makes 32 records, with three or four passes each."""


class SimpleBroker:
    """Subscriptions, fan-out, queues and what is unacknowledged, in memory.

    Args:
        config: inbox size, flush budget, prefixes, what is held.
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
        self._queues = Queues(config, metrics, separator, hand=self._hand, wake=self._wake_for_room)
        self._owned: dict[Subscriber, dict[str, Subscription]] = {}
        self._settling = Settling(
            config, metrics, self._queues, self._owned, hand=self._hand, too_slow=self._too_slow
        )
        self._dirty: list[Outbox] = []
        self._late: list[tuple[Subscriber, bytes, bool]] = []  # and whether it is a MESSAGE
        self._slow: dict[Subscriber, str] = {}  # those that end, and the limit
        self._offers = 0
        self._id_prefix = secrets.token_hex(4)
        self._sent = 0
        self._actions: Mapping[type[Any], Callable[[Any], None]] = {
            Publish: self._publish,
            PublishToUser: self._publish_to_user,
            Subscribe: self._subscribe,
            Unsubscribe: self._unsubscribe,
            Acknowledge: self._acknowledge,
            Commit: self._commit,
            RoomFor: self._room_for,
            Answer: self._answer,
            Reply: self._reply,
            Detach: self._detach,
        }

    @property
    def subscription_count(self) -> int:
        """How many subscriptions there are now."""
        return sum(map(len, self._owned.values()))

    @property
    def queued_count(self) -> int:
        """How many messages the queues hold now, the unacknowledged ones included."""
        return self._queues.message_count

    @property
    def unacked_count(self) -> int:
        """How many messages are unacknowledged now."""
        return self._settling.unacked_count

    def check(self, command: Acknowledge) -> None:
        """See whether a message that is acknowledged is with the subscriber, as things are now.

        A client can name only what it was given, so that nothing true is refused. What is in the inbox before
        it may settle the message still: then it is refused in its turn.

        Raises:
            RemoteProtocolError: it is not.
        """
        self._settling.find(command)

    async def run(self) -> None:
        """Work until the inbox is closed and empty; the broker's task.

        Cancelling loses what is in the inbox. What the queues hold is lost with the broker, and logged.
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
                    if self._late or self._slow or since_flush >= config.flush_messages:
                        is_due = True
                    else:
                        is_due = not since_flush & 7 and now() >= flushed_at + self._patience()
                    if is_due:
                        await self._flush()
                        await trio.lowlevel.checkpoint()
                        if self._late or self._slow:
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
            await self._flush()
        if self.queued_count:
            logger.warning("%d messages in queues are lost: they are kept in memory", self.queued_count)

    def _patience(self) -> float:
        """Seconds that touched outboxes may wait for more: the set time, and as long as their flush takes.

        Without the second part 1,000 touched outboxes are written every few messages, and the
        writes take most of the time (measured: 199,000 deliveries per CPU second instead of 600,000).
        """
        return self._config.flush_seconds + len(self._dirty) * _FLUSH_COST

    async def _flush(self) -> None:
        """Flush what was touched; it yields once in a while, not at the end."""
        dirty, self._dirty = self._dirty, []
        for start in range(0, len(dirty), _FLUSHED_AT_ONCE):
            if start:
                await trio.lowlevel.checkpoint()
            for outbox in dirty[start : start + _FLUSHED_AT_ONCE]:
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
            await self._flush()
            await trio.lowlevel.checkpoint()
        late, self._late = self._late, []
        for subscriber, _, _ in late:
            is_count = len(subscriber.outbox.pending) >= subscriber.outbox.max_messages
            self._too_slow(subscriber, "outbox.messages" if is_count else "outbox.bytes")
        slow, self._slow = self._slow, {}
        for subscriber, limit in slow.items():
            self._metrics.outbox_overflows += 1
            self._forget(subscriber)
            try:
                subscriber.overflowed(limit)
            except Exception:  # one session's trouble stays its own
                self._metrics.internal_errors += 1
                logger.exception("session %s: failed to end after an overflow", subscriber.session_id)

    def _too_slow(self, subscriber: Subscriber, limit: str) -> None:
        """Have a subscriber end, because more than a limit waits for it."""
        self._slow.setdefault(subscriber, limit)

    def _publish(self, command: Publish) -> None:
        queue = user_queue(command.destination)
        if queue is not None:  # a client's SEND to /user/{name}/queue/x
            name, _, rest = queue[1:].partition("/")
            self._publish_to_user(
                PublishToUser(name.replace("%2F", "/"), "/" + rest, command.body, command.headers)
            )
            return
        destination = command.destination
        if not destination.startswith(QUEUE_PREFIX):
            self._deliver(destination, command, self._topics.match(destination))
        else:
            self._metrics.messages_published += 1
            delivery = self._new_delivery(destination, command)
            try:
                self._queues.publish(destination, delivery)
            except OverloadedError as error:
                self._metrics.messages_refused += 1
                if command.request is not None:
                    self._refuse(command.request, error)
                return
        if command.request is not None:
            self._confirm(command.request)

    def _publish_to_user(self, command: PublishToUser) -> None:
        found = self._users.match(command.user_name, command.destination, command.session_id)
        self._deliver(USER_PREFIX + command.destination, command, found)

    def _answer(self, command: Answer) -> None:
        subscription = self._owned.get(command.subscriber, {}).get(command.key)
        # The id may have been given to another subscription since the handler was called.
        if subscription is not None and subscription.destination == command.destination:
            self._deliver(command.destination, command, (subscription,))

    def _deliver(
        self, destination: str, message: Publish | PublishToUser | Answer, found: Collection[Subscription]
    ) -> None:
        self._metrics.messages_published += 1
        if not found:
            self._metrics.messages_unmatched += 1
            return
        if len(found) == 1:
            (only,) = found
            if only.opening is not None:
                self._deliver_one(destination, message, only.subscriber, only.opening)
                return
        delivery = self._new_delivery(destination, message)
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
            frame = frames.get(subscription.opening)
            if frame is None:
                if subscription.opening is None:
                    self._settling.deliver(subscription, delivery)
                    continue
                frame = look.frame(subscription.opening)
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

    def _deliver_one(
        self,
        destination: str,
        message: Publish | PublishToUser | Answer,
        subscriber: Subscriber,
        start: bytes,
    ) -> None:
        """An answer, or what one alone has subscribed to: nothing is kept of it for others."""
        message_id = self._new_id()
        self._give(subscriber, frame_for_one(message, destination, message_id, start, subscriber.encoding))

    def _new_delivery(self, destination: str, message: Publish | PublishToUser | Answer) -> Delivery:
        return Delivery(destination, self._new_id(), message.headers, message.body)

    def _new_id(self) -> str:
        self._sent += 1
        return f"{self._id_prefix}-{self._sent}"

    def _hand(self, subscription: Subscription, parcel: Parcel) -> None:
        """Give one message to one consumer."""
        subscriber, window = subscription.subscriber, subscription.window
        look = parcel.delivery.look(subscriber.encoding)
        if window is not None:
            frame = look.frame_once(window.give(parcel))
        else:
            assert subscription.opening is not None
            frame = look.frame_once(subscription.opening + b"redelivered:true\n" * parcel.is_redelivered)
        self._metrics.messages_redelivered += parcel.is_redelivered
        self._give(subscriber, frame)

    def _give(self, subscriber: Subscriber, frame: bytes) -> None:
        """Put one MESSAGE into an outbox, or note that it has no room."""
        self._offers += 1
        if subscriber.outbox.offer(frame):
            self._touch(subscriber.outbox)
            self._metrics.frames_out += 1
            self._metrics.messages_delivered += 1
        else:
            self._late.append((subscriber, frame, True))

    # Acknowledgements and transactions.

    def _acknowledge(self, command: Acknowledge) -> None:
        try:
            self._settling.settle(command)
        except RemoteProtocolError as error:
            self._refuse(command.request, error)
        else:
            self._confirm(command.request)

    def _commit(self, command: Commit) -> None:
        obstacle = self._settling.obstacle(command.commands)
        if obstacle is not None:
            self._refuse(command.request, obstacle)
            return
        for each in command.commands:
            self._actions[type(each)](each)
        self._metrics.transactions_committed += 1
        self._confirm(command.request)

    def _confirm(self, request: Request) -> None:
        if request.receipt is not None:
            self._reply(Reply(request.subscriber, request.receipt))

    def _refuse(self, request: Request, error: TrioStompError) -> None:
        try:
            request.subscriber.refused(request.frame, error)
        except Exception:  # one session's trouble stays its own
            self._metrics.internal_errors += 1
            logger.exception("session %s: failed at a refusal", request.subscriber.session_id)

    def _wake_for_room(self, subscriber: Subscriber) -> None:
        subscriber.outbox.on_room = lambda: self.put(RoomFor(subscriber))

    def _room_for(self, command: RoomFor) -> None:
        self._queues.has_room(command.subscriber)

    # Subscriptions.

    def _subscribe(self, command: Subscribe) -> None:
        subscriber = command.subscriber
        if not subscriber.is_attached:
            return
        start = opening(command.id, subscriber.encoding.version)
        subscription = Subscription(subscriber, command.key, command.destination, start)
        if command.ack != "auto":
            self._settling.open(subscription, command)
        self._owned.setdefault(subscriber, {})[command.key] = subscription
        queue = user_queue(command.destination)
        if queue is not None:
            self._users.add(queue, subscription)
        elif command.destination.startswith(QUEUE_PREFIX):
            self._queues.join(subscription)
        else:
            self._topics.add(subscription)

    def _unsubscribe(self, command: Unsubscribe) -> None:
        owned = self._owned.get(command.subscriber, {})
        subscription = owned.pop(command.key, None)
        if subscription is not None:
            self._remove((subscription,))

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
        subscriber.outbox.on_room = None
        self._remove(self._owned.pop(subscriber, {}).values())

    def _remove(self, subscriptions: Collection[Subscription]) -> None:
        """Take some out; what they have not acknowledged goes back when they are all gone."""
        for subscription in subscriptions:
            queue = user_queue(subscription.destination)
            if queue is not None:
                self._users.remove(queue, subscription)
            elif subscription.destination.startswith(QUEUE_PREFIX):
                self._queues.leave(subscription)
            else:
                self._topics.remove(subscription)
        self._settling.close(subscriptions)

    def _touch(self, outbox: Outbox) -> None:
        if not outbox.is_dirty:
            outbox.is_dirty = True
            self._dirty.append(outbox)
