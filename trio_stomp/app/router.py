"""The decorators that declare handlers, and the `Router` that groups them under a prefix.

Rule 1: a decorator returns its function unchanged.  Rule 2: it refuses what it can see; what depends on
other declarations (prefixes, resources, pools) waits for `StompApp.compile`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import attrs

from trio_stomp.app.handlers import name_of
from trio_stomp.channels.pools import PoolDeclaration
from trio_stomp.errors import DestinationError, HandlerSignatureError
from trio_stomp.stomp.destinations import Template

F = TypeVar("F", bound=Callable[..., Any])

ERROR_QUEUE = "/queue/errors"
"""Where an exception handler's value goes that names no destination: clients look for errors there."""


@attrs.frozen(eq=False, kw_only=True)
class Declaration:
    """A handler as it was declared; a `Route`'s attributes before they are settled."""

    destination: str
    function: Callable[..., Any]
    is_async: bool
    is_stream: bool
    send_to: tuple[str, ...] = ()
    send_to_user: tuple[str, ...] = ()
    broadcast: bool = True
    pool: str | None = None
    timeout: float | None = None
    concurrency: int | None = None


@attrs.frozen(eq=False, kw_only=True)
class ExceptionDeclaration:
    """An exception handler as it was declared."""

    exception: type[Exception]
    function: Callable[..., Any]
    is_async: bool
    send_to: tuple[str, ...]
    send_to_user: tuple[str, ...]
    pool: str | None


class Routes:
    """Handlers under one prefix: what `StompApp` and `Router` have in common."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._messages: list[Declaration] = []
        self._subscribes: list[Declaration] = []
        self._exceptions: list[ExceptionDeclaration] = []
        self._routers: list[Router] = []

    def on_message(
        self,
        destination: str,
        *,
        send_to: str | Sequence[str] | None = None,
        send_to_user: str | Sequence[str] | None = None,
        broadcast: bool = True,
        pool: PoolDeclaration | str | None = None,
        timeout: float | None = None,
        concurrency: int | None = None,
    ) -> Callable[[F], F]:
        """Handle each SEND to a destination, such as ``/app/chat/{room}``; the function stays as it is.

        A message is handled when those before it from the same client have been. What the handler
        returns is published, unless it is None.

        Args:
            send_to: where to; may use the destination's variables.
            send_to_user: queues of the sender's own, such as ``/queue/receipts``.
            broadcast: to all sessions of the sender; False: only to the one that sent.
            pool: whose threads a plain ``def`` runs in; by default ``client_inbound``.
            timeout: seconds; for a plain ``def`` from holding a thread. Default: no limit.
            concurrency: let as many run at once, in any order. Default: in order.

        Raises:
            HandlerSignatureError: the function or an option cannot be used.
            DestinationError: a destination is malformed.
        """

        def declare(function: F) -> F:
            where = f"{name_of(function)}: on_message({destination!r})"
            is_async, is_stream = _kind(function, where)
            if is_stream:
                raise HandlerSignatureError(
                    f"{where}: it yields, which only on_subscribe takes; return one value or publish each"
                )
            _check_options(where, is_async, is_stream, pool, timeout, concurrency)
            self._check_destination(destination)
            self._messages.append(
                Declaration(
                    destination=destination,
                    function=function,
                    is_async=is_async,
                    is_stream=False,
                    send_to=_send_to(send_to),
                    send_to_user=_send_to_user(send_to_user),
                    broadcast=broadcast,
                    pool=_pool_name(pool),
                    timeout=timeout,
                    concurrency=concurrency,
                )
            )
            return function

        return declare

    def on_subscribe(
        self,
        destination: str,
        *,
        pool: PoolDeclaration | str | None = None,
        timeout: float | None = None,
        concurrency: int | None = None,
    ) -> Callable[[F], F]:
        """Answer each SUBSCRIBE to a destination; what the handler returns goes to that subscription only.

        An async generator streams: each value it yields is one MESSAGE, until it ends or the client
        unsubscribes, which cancels it. Options as `on_message`'s.

        Raises:
            HandlerSignatureError: the function or an option cannot be used.
            DestinationError: the destination is malformed.
        """

        def declare(function: F) -> F:
            where = f"{name_of(function)}: on_subscribe({destination!r})"
            is_async, is_stream = _kind(function, where)
            _check_options(where, is_async, is_stream, pool, timeout, concurrency)
            self._check_destination(destination)
            self._subscribes.append(
                Declaration(
                    destination=destination,
                    function=function,
                    is_async=is_async,
                    is_stream=is_stream,
                    pool=_pool_name(pool),
                    timeout=timeout,
                    concurrency=concurrency,
                )
            )
            return function

        return declare

    def exception_handler(
        self,
        exception: type[Exception],
        *,
        send_to: str | Sequence[str] | None = None,
        send_to_user: str | Sequence[str] | None = None,
        pool: PoolDeclaration | str | None = None,
    ) -> Callable[[F], F]:
        """Answer for a handler of the whole app that raised ``exception``, or a subclass of it.

        The nearest class in the exception's line wins. What the function returns is published to
        ``send_to`` and to the session that caused it: on ``send_to_user``, or, if neither is given, on
        ``/queue/errors``.

        Raises:
            HandlerSignatureError: the function or an option cannot be used.
            DestinationError: a destination is malformed.
        """
        given: object = exception
        if not (isinstance(given, type) and issubclass(given, Exception)):
            raise HandlerSignatureError(f"exception_handler({exception!r}): expected a subclass of Exception")

        def declare(function: F) -> F:
            where = f"{name_of(function)}: exception_handler({exception.__name__})"
            is_async, is_stream = _kind(function, where)
            if is_stream:
                raise HandlerSignatureError(f"{where}: it yields; expected a function that returns")
            _check_options(where, is_async, is_stream, pool, None, None)
            destinations = _send_to(send_to)
            for text in destinations:
                if "{" in text:
                    raise DestinationError(f"{where}: there are no variables for send_to {text!r}", text)
            queues = _send_to_user(send_to_user)
            self._exceptions.append(
                ExceptionDeclaration(
                    exception=exception,
                    function=function,
                    is_async=is_async,
                    send_to=destinations,
                    send_to_user=queues if destinations or queues else (ERROR_QUEUE,),
                    pool=_pool_name(pool),
                )
            )
            return function

        return declare

    def include(self, router: Router) -> None:
        """Take in a router's handlers, those it gets later as well.

        Raises:
            TypeError: it is not a `Router`.
            ValueError: it is included here already, or includes this one.
        """
        if not isinstance(router, Router):
            raise TypeError(f"expected a Router, not {router!r}")
        if router in self._routers or self in router._family():
            raise ValueError(f"{router!r} is included already, or includes this one")
        self._routers.append(router)

    def messages(self) -> Iterator[Declaration]:
        """Yield the handlers of SEND with their full destinations, included ones after one's own."""
        for declaration in self._messages:
            yield attrs.evolve(declaration, destination=self._prefix + declaration.destination)
        for router in self._routers:
            for declaration in router.messages():
                yield attrs.evolve(declaration, destination=self._prefix + declaration.destination)

    def subscribes(self) -> Iterator[Declaration]:
        """As `messages`, the handlers of SUBSCRIBE."""
        for declaration in self._subscribes:
            yield attrs.evolve(declaration, destination=self._prefix + declaration.destination)
        for router in self._routers:
            for declaration in router.subscribes():
                yield attrs.evolve(declaration, destination=self._prefix + declaration.destination)

    def exceptions(self) -> Iterator[ExceptionDeclaration]:
        """Yield the exception handlers, included ones after one's own."""
        yield from self._exceptions
        for router in self._routers:
            yield from router.exceptions()

    def _family(self) -> Iterator[Routes]:
        yield self
        for router in self._routers:
            yield from router._family()

    def _check_destination(self, destination: str) -> None:
        _parse(self._prefix + destination, "destination")


class Router(Routes):
    """Handlers grouped under a prefix, for `StompApp.include`::

        rooms = Router("/app/rooms/{room}")

        @rooms.on_message("/say", send_to="/topic/rooms/{room}")
        async def say(room: str, message: Say) -> Said: ...

    Args:
        prefix: put before each destination as it is; it begins with ``/`` and does not end with it.

    Raises:
        DestinationError: the prefix is malformed.
    """

    def __init__(self, prefix: str = "") -> None:
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise DestinationError(
                f"prefix {prefix!r}: expected '/' at its beginning, not at its end", prefix
            )
        if prefix:
            _parse(prefix, "prefix")
        super().__init__(prefix)

    def __repr__(self) -> str:
        return f"<Router {self._prefix!r}>"


def _kind(function: object, where: str) -> tuple[bool, bool]:
    """Return whether a function is async, and whether it streams.

    Raises:
        HandlerSignatureError: it is of a kind that cannot be a handler.
    """
    if not inspect.isroutine(function):
        raise HandlerSignatureError(f"{where}: expected a function, not {function!r}")
    if inspect.isgeneratorfunction(function):
        raise HandlerSignatureError(f"{where}: a plain generator; return a list, or make it `async def`")
    if inspect.isasyncgenfunction(function):
        return True, True
    if inspect.iscoroutinefunction(function):
        return True, False
    inner = inspect.unwrap(function)
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise HandlerSignatureError(
            f"{where}: a decorator made a plain function of an async one, which would be called in a thread; "
            "make the decorator's function `async def`"
        )
    return False, False


def _check_options(
    where: str,
    is_async: bool,
    is_stream: bool,
    pool: PoolDeclaration | str | None,
    timeout: float | None,
    concurrency: int | None,
) -> None:
    """Raise HandlerSignatureError for an option that would not do what it says."""
    if is_async and pool is not None:
        raise HandlerSignatureError(f"{where}: a pool is for a plain `def`, and this one is async")
    if is_stream and not (timeout is None and concurrency is None):
        raise HandlerSignatureError(f"{where}: a stream has no timeout or concurrency; each runs by itself")
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise HandlerSignatureError(f"{where}: timeout={timeout!r}; expected seconds above 0, or None")
    if concurrency is not None and concurrency < 1:
        raise HandlerSignatureError(f"{where}: concurrency={concurrency!r}; expected 1 or more, or None")


def _pool_name(pool: PoolDeclaration | str | None) -> str | None:
    return pool.name if isinstance(pool, PoolDeclaration) else pool


def _parse(text: str, what: str) -> None:
    """Refuse what is malformed under either separator; which one it is, the server's settings say."""
    if not text.startswith("/"):
        raise DestinationError(f"{what} {text!r} does not begin with '/'", text)
    try:
        Template.parse(text)
    except DestinationError:
        if "." not in text:
            raise
        Template.parse(text, ".")


def _as_tuple(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def _send_to(given: str | Sequence[str] | None) -> tuple[str, ...]:
    destinations = _as_tuple(given)
    for text in destinations:
        _parse(text, "send_to")
    return destinations


def _send_to_user(given: str | Sequence[str] | None) -> tuple[str, ...]:
    queues = _as_tuple(given)
    for text in queues:
        _parse(text, "send_to_user")
        if text.startswith("/user/"):
            raise DestinationError(f"send_to_user {text!r}: expected a queue such as '/queue/x'", text)
        if "{" in text:
            raise DestinationError(f"send_to_user {text!r} has a variable; expected a fixed queue", text)
    return queues
