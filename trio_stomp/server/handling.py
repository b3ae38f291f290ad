"""Runs a handler for one frame, sends what it returns on its way, and answers when it fails.

Rule 1: the client always learns (DESIGN rule 7): an exception becomes a MESSAGE on
``/user/queue/errors`` for the session that caused it; one that has no such subscription and
asked for a receipt gets ERROR and close.
Rule 2: what strangers read says nothing about our insides; the traceback goes to the log, and
both carry the same correlation id.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import trio

from trio_stomp.app.compiled import CompiledApp
from trio_stomp.app.routes import Reply, Route
from trio_stomp.broker.commands import Answer, Publish, PublishToUser
from trio_stomp.broker.simple import SimpleBroker
from trio_stomp.channels.pools import Pool
from trio_stomp.errors import (
    AccessDenied,
    ConversionError,
    DestinationError,
    HandlerTimeout,
    OverloadedError,
    RemoteProtocolError,
)
from trio_stomp.messages.message import Message
from trio_stomp.metrics import Metrics
from trio_stomp.stomp.frames import Frame

if TYPE_CHECKING:
    from trio_stomp.server.session import SessionTask

logger = logging.getLogger("trio_stomp.handlers")

ERROR_QUEUE = "/queue/errors"
"""Where a session subscribes, below ``/user``, to learn of its handlers' failures."""


class Handling:
    """Calls handlers; one for all sessions of a server."""

    def __init__(
        self,
        app: CompiledApp | None,
        broker: SimpleBroker,
        pools: Mapping[str, Pool],
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._broker = broker
        self._pools = pools
        self._metrics = metrics
        self._limiters: dict[Route, trio.CapacityLimiter] = {}

    async def message(
        self, session: SessionTask, frame: Frame, route: Route, message: Message, variables: dict[str, str]
    ) -> None:
        """See one SEND to a handler through: call it, publish what it returns, then the receipt."""
        metrics = self._metrics
        metrics.handlers_run += 1
        metrics.handlers_running += 1
        try:
            arguments = route.plan.arguments(message, session.public, variables)
            if route.is_async and route.timeout is None:
                result = await route.function(*arguments)
            else:
                result = await self._call(route, arguments)
            if result is not None:
                self._publish_result(session, route, result, variables)
        except Exception as error:  # a handler's own: told to the client and logged
            await self._failed(session, frame, message, error)
        else:
            if "receipt" in frame.headers:
                session.send_receipt(frame)
        finally:
            metrics.handlers_running -= 1

    async def subscription(
        self,
        session: SessionTask,
        frame: Frame,
        key: str,
        route: Route,
        message: Message,
        variables: dict[str, str],
    ) -> None:
        """Answer one SUBSCRIBE: what the handler returns, or all that it yields, goes to it alone."""
        metrics = self._metrics
        metrics.handlers_run += 1
        metrics.handlers_running += 1
        try:
            arguments = route.plan.arguments(message, session.public, variables)
            if route.is_stream:
                stream = route.function(*arguments)
                try:
                    async for value in stream:
                        await self._broker.room()
                        self._answer(session, key, route, message.destination, value)
                finally:
                    await stream.aclose()
                return
            result = await self._call(route, arguments)
            if result is not None:
                self._answer(session, key, route, message.destination, result)
        except Exception as error:  # a handler's own: told to the client and logged
            await self._failed(session, frame, message, error, is_answered=route.is_stream)
        else:
            session.send_receipt(frame)
        finally:
            metrics.handlers_running -= 1

    async def start_concurrent(
        self, session: SessionTask, route: Route, run: Callable[[], Awaitable[None]]
    ) -> None:
        """Start a handler in a task of its own, waiting while its route runs as often as it may."""
        limiter = self._limiters.get(route)
        if limiter is None:
            assert route.concurrency is not None
            limiter = self._limiters[route] = trio.CapacityLimiter(route.concurrency)
        borrower = object()
        await limiter.acquire_on_behalf_of(borrower)

        async def run_and_release() -> None:
            try:
                await run()
            finally:
                limiter.release_on_behalf_of(borrower)

        session.start_handler(run_and_release)

    async def _call(self, route: Reply, arguments: tuple[object, ...]) -> Any:
        timeout = route.timeout if isinstance(route, Route) else None
        if not route.is_async:
            return await self._pools[route.pool].run(route.function, *arguments, timeout=timeout)
        if timeout is None:
            return await route.function(*arguments)
        with trio.move_on_after(timeout) as scope:
            return await route.function(*arguments)
        if scope.cancelled_caught:
            raise HandlerTimeout(f"no answer within {timeout:g} seconds")
        return None

    def _publish_result(
        self, session: SessionTask, route: Route, result: object, variables: dict[str, str]
    ) -> None:
        body, headers = self._encode(result, route)
        put = self._broker.put
        for template in route.send_to:
            put(Publish(template.format(variables), body, headers))
        if route.send_to_user:
            only = None if route.broadcast else session.id
            for queue in route.send_to_user:
                put(PublishToUser(session.subscriber.user_name, queue, body, headers, only))

    def _answer(self, session: SessionTask, key: str, route: Route, destination: str, value: object) -> None:
        body, headers = self._encode(value, route)
        self._broker.put(Answer(session.subscriber, key, destination, body, headers))

    def _encode(self, value: object, route: Reply) -> tuple[bytes, dict[str, str]]:
        assert self._app is not None
        body, content_type = self._app.converter.encode(value, route.returns)
        return body, {"content-type": content_type}

    async def _failed(
        self,
        session: SessionTask,
        frame: Frame,
        message: Message,
        error: Exception,
        *,
        is_answered: bool = False,
    ) -> None:
        """Tell the client: by the app's own exception handler, else on the error queue, else by ERROR.

        Args:
            is_answered: the frame has had its RECEIPT, and gets no second answer.
        """
        self._metrics.handler_errors += 1
        correlation = secrets.token_hex(8)
        receipt = None if is_answered else frame.headers.get("receipt")
        headers = {"correlation-id": correlation} | ({} if receipt is None else {"receipt-id": receipt})
        is_handled, is_told = await self._handled_by_app(session, message, error, headers)
        if is_handled and (is_told or receipt is None):
            return
        code, text = _told(error)
        is_unexpected = code == "internal_error" and not is_handled
        logger.log(
            logging.ERROR if is_unexpected else logging.INFO,
            "session %s: handler of %r failed (%s, correlation id %s): %s",
            session.id,
            message.destination,
            code,
            correlation,
            type(error).__name__ if code == "internal_error" else error,
            exc_info=error if is_unexpected else None,
        )
        if not self._report(session, message.destination, error, headers) and receipt is not None:
            raise RemoteProtocolError(
                text, frame=frame, close_code=1008 if code != "internal_error" else 1011, headers=headers
            )

    def tell(self, session: SessionTask, frame: Frame, destination: str, error: Exception) -> bool:
        """Tell of a frame that had no effect, on the session's error queue; whether it has one."""
        receipt = frame.headers.get("receipt")
        headers = {"correlation-id": secrets.token_hex(8)}
        headers |= {} if receipt is None else {"receipt-id": receipt}
        correlation = headers["correlation-id"]
        logger.info(
            "session %s: %s refused (correlation id %s): %s", session.id, frame.command, correlation, error
        )
        return self._report(session, destination, error, headers)

    def _report(
        self, session: SessionTask, destination: str, error: Exception, headers: Mapping[str, str]
    ) -> bool:
        """Put what went wrong into the session's error queue; whether it has one."""
        if not session.hears(ERROR_QUEUE):
            return False
        code, text = _told(error)
        problem = {
            "code": code,
            "message": text,
            "destination": destination,
            "correlation_id": headers["correlation-id"],
        }
        body = json.dumps(problem, ensure_ascii=False).encode()
        said = {**headers, "content-type": "application/json"}
        self._broker.put(PublishToUser(session.subscriber.user_name, ERROR_QUEUE, body, said, session.id))
        return True

    async def _handled_by_app(
        self, session: SessionTask, message: Message, error: Exception, headers: dict[str, str]
    ) -> tuple[bool, bool]:
        """Whether the app has a handler for it, and whether that one's answer reached the session.

        An answer that does not leaves a receipt that was asked for unanswered.
        """
        assert self._app is not None
        route = self._app.exception_route(error)
        if route is None:
            return False, False
        is_told = False
        try:
            arguments = route.plan.arguments(message, session.public, {}, error)
            result = await self._call(route, arguments)
            if result is not None:
                body, encoded = self._encode(result, route)
                for template in route.send_to:
                    self._broker.put(Publish(template.format({}), body, encoded | headers))
                for queue in route.send_to_user:
                    name = session.subscriber.user_name
                    self._broker.put(PublishToUser(name, queue, body, encoded | headers, session.id))
                    is_told = is_told or session.hears(queue)
        except Exception:
            logger.exception("session %s: the exception handler for %r failed", session.id, error)
            return False, False
        return True, is_told


def _told(error: Exception) -> tuple[str, str]:
    """Code and text for the client; of an unexpected error no more than that there was one."""
    match error:
        case ConversionError():
            return "invalid_payload", str(error)
        case DestinationError():
            return "invalid_destination", str(error)
        case AccessDenied():
            return "access_denied", str(error)
        case OverloadedError():
            return "overloaded", str(error)
        case HandlerTimeout():
            return "timeout", str(error)
        case _:
            return "internal_error", "internal error"
