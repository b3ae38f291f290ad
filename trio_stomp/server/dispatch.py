"""Takes each frame of a session to where it belongs: a handler, the broker, or a refusal.

Rule 1: what can be settled at once is; only what waits comes back as an awaitable.
Rule 2: a refused frame raises RemoteProtocolError (ERROR, close); a handler's exception is
answered on ``/user/queue/errors`` and the session goes on (DESIGN rule 7).
Rule 3: a RECEIPT goes into the broker's inbox behind the effects, and never for what failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from trio_stomp.app.compiled import CompiledApp
from trio_stomp.app.routes import Route
from trio_stomp.broker.commands import Acknowledge, Commit, Publish, Request, Subscribe, Unsubscribe
from trio_stomp.broker.queues import QUEUE_PREFIX
from trio_stomp.broker.simple import SimpleBroker
from trio_stomp.broker.users import USER_PREFIX, user_queue
from trio_stomp.channels.pools import Pool
from trio_stomp.config import DESTINATION_LENGTH, ServerConfig
from trio_stomp.errors import DestinationError, RemoteProtocolError, TrioStompError
from trio_stomp.messages.message import Message
from trio_stomp.metrics import Metrics
from trio_stomp.server.handling import Handling
from trio_stomp.server.transaction import Transaction
from trio_stomp.stomp.destinations import Pattern
from trio_stomp.stomp.frames import Frame, Version
from trio_stomp.stomp.protocol import subscription_key

if TYPE_CHECKING:
    from trio_stomp.server.session import SessionTask

_CACHED_ROUTES = 1024
"""Destinations whose route is remembered; as Spring's destination cache. Past it, it starts anew."""

_DIGITS = 10
"""More are no number of messages."""

Found = tuple[Route, dict[str, str]]


class Dispatcher:
    """The request channel's end: one for all sessions of a server."""

    def __init__(
        self,
        app: CompiledApp | None,
        broker: SimpleBroker,
        pools: Mapping[str, Pool],
        metrics: Metrics,
        config: ServerConfig,
    ) -> None:
        self._app = app
        self._broker = broker
        self._metrics = metrics
        self._handling = Handling(app, broker, pools, metrics)
        self._config = config
        self._prefixes = tuple(prefix.rstrip("/") + "/" for prefix in config.broker.prefixes)
        self._separator = config.stomp.separator
        self._routes: dict[str, Found | None] = {}
        self._actions: Mapping[str, Callable[[SessionTask, Frame], Awaitable[None] | None]] = {
            "SEND": self._send,
            "SUBSCRIBE": self._subscribe,
            "UNSUBSCRIBE": self._unsubscribe,
            "ACK": self._acknowledge,
            "NACK": self._acknowledge,
            "BEGIN": self._begin,
            "COMMIT": self._commit,
            "ABORT": self._abort,
            "DISCONNECT": self._disconnect,
        }

    def dispatch(self, session: SessionTask, frame: Frame) -> Awaitable[None] | None:
        """Act on one valid frame; await what is returned before the next one.

        Raises:
            RemoteProtocolError: the frame is refused; so may the awaitable.
        """
        return self._actions[frame.command](session, frame)

    def refused(self, session: SessionTask, frame: Frame, error: TrioStompError) -> None:
        """Tell the session of a frame that had no effect in the broker, which could not be known before.

        An error of the protocol ends it. Another is told on ``/user/queue/errors`` and the session goes on,
        if it has subscribed to that; else it ends as well, because it could not know.
        """
        if not isinstance(error, RemoteProtocolError):
            destination = frame.headers.get("destination", "")
            if self._handling.tell(session, frame, destination, error):
                return
            error = RemoteProtocolError(str(error), frame=frame, close_code=1008)
        session.fail(error)

    def _send(self, session: SessionTask, frame: Frame) -> Awaitable[None] | None:
        destination = frame.headers["destination"]
        if len(destination) > DESTINATION_LENGTH:
            raise RemoteProtocolError(
                f"a destination of {len(destination)} characters, the limit is {DESTINATION_LENGTH}",
                frame=frame,
                close_code=1008,
            )
        transaction = frame.headers.get("transaction")
        app = self._app
        if app is not None:
            found = self._find(app, destination)
            if found is not None:
                if transaction is not None:  # what a handler does cannot be undone
                    raise RemoteProtocolError(
                        f"a handler answers {destination!r}, which cannot be in a transaction", frame=frame
                    )
                return self._to_handler(session, frame, found)
            if app.is_app_destination(destination):
                raise RemoteProtocolError(f"no handler for {destination!r}", frame=frame, close_code=1008)
            if not app.may_send(destination):
                self._metrics.access_denied += 1
                raise RemoteProtocolError(
                    f"no access to send to {destination!r}", frame=frame, close_code=1008
                )
        self._check_prefix(destination, frame)
        publish = Publish(destination, frame.body, frame.headers)
        if transaction is not None:
            session.transactions[transaction].add(publish, frame)
        elif destination.startswith(QUEUE_PREFIX):  # which may be full: the broker answers
            publish.request = session.request(frame)
            self._broker.put(publish)
            return None
        else:
            self._broker.put(publish)
        if "receipt" in frame.headers:
            session.send_receipt(frame)
        return None

    def _to_handler(self, session: SessionTask, frame: Frame, found: Found) -> Awaitable[None] | None:
        route, variables = found
        message = Message(frame.headers["destination"], frame.headers, frame.body)
        if route.concurrency is None:
            return self._handling.message(session, frame, route, message, variables)
        run = partial(self._handling.message, session, frame, route, message, variables)
        return self._handling.start_concurrent(session, route, run)

    def _find(self, app: CompiledApp, destination: str) -> Found | None:
        routes = self._routes
        try:
            return routes[destination]
        except KeyError:
            if len(routes) >= _CACHED_ROUTES:
                routes.clear()
            found = routes[destination] = app.match_message(destination)
            return found

    def _subscribe(self, session: SessionTask, frame: Frame) -> Awaitable[None] | None:
        headers = frame.headers
        destination = headers["destination"]
        if "selector" in headers:  # never silently ignored: the client would get what it did not ask for
            raise RemoteProtocolError("selectors are not supported by this broker", frame=frame)
        is_exact = self._check_pattern(destination, frame)
        app = self._app
        found = app.match_subscribe(destination) if app is not None and is_exact else None
        if found is None:
            if app is not None and app.is_app_destination(destination):
                raise RemoteProtocolError(f"no handler for {destination!r}", frame=frame, close_code=1008)
            if user_queue(destination) is None:
                self._check_prefix(destination, frame)
            if app is not None and not app.may_subscribe(destination):
                self._metrics.access_denied += 1
                raise RemoteProtocolError(
                    f"no access to subscribe to {destination!r}", frame=frame, close_code=1008
                )
        key = subscription_key(frame, session.protocol.version)
        ack = headers.get("ack", "auto")
        prefetch = 0 if ack == "auto" else self._prefetch(frame)
        self._broker.put(Subscribe(session.subscriber, key, headers.get("id"), destination, ack, prefetch))
        if found is None:
            session.send_receipt(frame)
            return None
        route, variables = found
        message = Message(destination, headers, frame.body)
        run = partial(self._handling.subscription, session, frame, key, route, message, variables)
        if route.is_stream:
            session.start_handler(run, stream_key=key)
            session.send_receipt(frame)
            return None
        return run() if route.concurrency is None else self._handling.start_concurrent(session, route, run)

    def _unsubscribe(self, session: SessionTask, frame: Frame) -> None:
        key = subscription_key(frame, session.protocol.version)
        session.stop_stream(key)
        self._broker.put(Unsubscribe(session.subscriber, key))
        session.send_receipt(frame)

    def _prefetch(self, frame: Frame) -> int:
        """How many messages a subscription may have unacknowledged; 0 asks for as many as there may be."""
        config, asked = self._config.broker, frame.headers.get("prefetch-count")
        if asked is None:
            return config.prefetch
        if not asked.isascii() or not asked.isdigit() or len(asked) > _DIGITS:
            raise RemoteProtocolError(
                f"prefetch-count {asked[:_DIGITS]!r} is not a number of messages", frame=frame
            )
        prefetch = int(asked) or config.prefetch_max + 1
        if prefetch > config.prefetch_max:
            self._metrics.limit("broker.prefetch_max")
            return config.prefetch_max
        return prefetch

    def _acknowledge(self, session: SessionTask, frame: Frame) -> None:
        headers, key = frame.headers, None
        if session.protocol.version is Version.V1_2:
            id = headers["id"]
        else:
            id, key = headers["message-id"], headers.get("subscription")
        transaction = frame.headers.get("transaction")
        # In a transaction it is answered now, and COMMIT for all of them.
        request = session.request(frame) if transaction is None else Request(session.subscriber, frame, None)
        command = Acknowledge(request, id, key, frame.command == "ACK")
        self._broker.check(command)
        if transaction is None:
            self._broker.put(command)
        else:
            session.transactions[transaction].add(command, frame)
            session.send_receipt(frame)

    def _begin(self, session: SessionTask, frame: Frame) -> None:
        opened = session.transactions
        opened[frame.headers["transaction"]] = Transaction(self._config.stomp, opened)
        session.send_receipt(frame)

    def _commit(self, session: SessionTask, frame: Frame) -> None:
        transaction = session.transactions.pop(frame.headers["transaction"])
        self._broker.put(Commit(session.request(frame), transaction.commands))

    def _abort(self, session: SessionTask, frame: Frame) -> None:
        del session.transactions[frame.headers["transaction"]]
        self._metrics.transactions_aborted += 1
        session.send_receipt(frame)

    def _disconnect(self, session: SessionTask, frame: Frame) -> None:
        session.send_receipt(frame)

    def _check_prefix(self, destination: str, frame: Frame) -> None:
        if destination.startswith(self._prefixes):
            return
        if (
            frame.command == "SEND"
            and destination.startswith(USER_PREFIX + "/")
            and destination.count("/") > 3
        ):
            return  # /user/{name}/queue/x
        expected = ", ".join((*self._prefixes, USER_PREFIX + "/"))
        raise RemoteProtocolError(
            f"destination {destination!r} begins with none of {expected}", frame=frame, close_code=1008
        )

    def _check_pattern(self, destination: str, frame: Frame) -> bool:
        """Whether a subscription's destination is exact; refuse a malformed one."""
        try:
            is_exact = Pattern.parse(destination, self._separator).is_exact
        except DestinationError as error:
            raise RemoteProtocolError(str(error), frame=frame, close_code=1008) from error
        if not is_exact and user_queue(destination) is not None:
            raise RemoteProtocolError(
                f"a user destination cannot have wildcards: {destination!r}", frame=frame, close_code=1008
            )
        return is_exact
