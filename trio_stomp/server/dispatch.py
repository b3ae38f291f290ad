"""Takes each frame of a session to where it belongs: a handler, the broker, or a refusal.

Rule 1: what can be settled at once is; only what waits comes back as an awaitable.
Rule 2: a refused frame raises RemoteProtocolError (ERROR, close); a handler's exception is
answered on ``/user/queue/errors`` and the session goes on (DESIGN rule 7).
Rule 3: a RECEIPT goes into the broker's inbox behind the effects, and never for what failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from trio_stomp.app.compiled import CompiledApp
from trio_stomp.app.routes import Route
from trio_stomp.broker.commands import Publish, Subscribe, Unsubscribe
from trio_stomp.broker.simple import SimpleBroker
from trio_stomp.broker.users import USER_PREFIX, user_queue
from trio_stomp.channels.pools import Pool
from trio_stomp.config import DESTINATION_LENGTH
from trio_stomp.errors import DestinationError, RemoteProtocolError
from trio_stomp.messages.message import Message
from trio_stomp.metrics import Metrics
from trio_stomp.server.handling import Handling
from trio_stomp.stomp.destinations import Pattern
from trio_stomp.stomp.frames import Frame
from trio_stomp.stomp.protocol import subscription_key

if TYPE_CHECKING:
    from trio_stomp.server.session import SessionTask

_CACHED_ROUTES = 1024
"""Destinations whose route is remembered; as Spring's destination cache. Past it, it starts anew."""

Found = tuple[Route, dict[str, str]]


class Dispatcher:
    """The request channel's end: one for all sessions of a server."""

    def __init__(
        self,
        app: CompiledApp | None,
        broker: SimpleBroker,
        pools: Mapping[str, Pool],
        metrics: Metrics,
        prefixes: Sequence[str],
        separator: str,
    ) -> None:
        self._app = app
        self._broker = broker
        self._metrics = metrics
        self._handling = Handling(app, broker, pools, metrics)
        self._prefixes = tuple(prefix.rstrip("/") + "/" for prefix in prefixes)
        self._separator = separator
        self._routes: dict[str, Found | None] = {}
        self._actions: Mapping[str, Callable[[SessionTask, Frame], Awaitable[None] | None]] = {
            "SEND": self._send,
            "SUBSCRIBE": self._subscribe,
            "UNSUBSCRIBE": self._unsubscribe,
            "DISCONNECT": self._disconnect,
        }

    def dispatch(self, session: SessionTask, frame: Frame) -> Awaitable[None] | None:
        """Act on one valid frame; await what is returned before the next one.

        Raises:
            RemoteProtocolError: the frame is refused; so may the awaitable.
        """
        action = self._actions.get(frame.command)
        if action is None:
            raise RemoteProtocolError(f"{frame.command} is not supported by this broker", frame=frame)
        return action(session, frame)

    def _send(self, session: SessionTask, frame: Frame) -> Awaitable[None] | None:
        destination = frame.headers["destination"]
        if len(destination) > DESTINATION_LENGTH:
            raise RemoteProtocolError(
                f"a destination of {len(destination)} characters, the limit is {DESTINATION_LENGTH}",
                frame=frame,
                close_code=1008,
            )
        if "transaction" in frame.headers:
            raise RemoteProtocolError("transactions are not supported by this broker", frame=frame)
        app = self._app
        if app is not None:
            found = self._find(app, destination)
            if found is not None:
                return self._to_handler(session, frame, found)
            if app.is_app_destination(destination):
                raise RemoteProtocolError(f"no handler for {destination!r}", frame=frame, close_code=1008)
            if not app.may_send(destination):
                self._metrics.access_denied += 1
                raise RemoteProtocolError(
                    f"no access to send to {destination!r}", frame=frame, close_code=1008
                )
        self._check_prefix(destination, frame)
        self._broker.put(Publish(destination, frame.body, frame.headers))
        if "receipt" in frame.headers:
            session.send_receipt(frame)
        return None

    def _to_handler(self, session: SessionTask, frame: Frame, found: Found) -> Awaitable[None] | None:
        route, variables = found
        message = Message(frame.headers["destination"], frame.headers, frame.body)
        run = partial(self._handling.message, session, frame, route, message, variables)
        if route.concurrency is None:
            return run()
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
        ack = headers.get("ack", "auto")
        if ack != "auto":
            raise RemoteProtocolError(f"ack mode {ack!r} is not supported by this broker", frame=frame)
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
        self._broker.put(Subscribe(session.subscriber, key, headers.get("id"), destination))
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
