"""A settled app: what the server asks while it runs. Nothing in it changes but the bound resources."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from trio_stomp.app.handlers import name_of
from trio_stomp.app.lifespan import LifespanPart, open_lifespan
from trio_stomp.app.routes import ExceptionRoute, Found, Route, RouteTable
from trio_stomp.app.security import Rules
from trio_stomp.app.session import ConnectRequest
from trio_stomp.channels.pools import PoolDeclaration
from trio_stomp.messages.conversion import Converter, type_name
from trio_stomp.messages.message import User


@attrs.frozen(eq=False)
class ConnectHandler:
    """The app's `on_connect`, settled."""

    function: Callable[..., Any]
    arguments: Callable[[ConnectRequest], tuple[object, ...]]


@attrs.frozen(eq=False, kw_only=True)
class CompiledApp:
    """Made by `StompApp.compile`, for one server."""

    title: str | None
    converter: Converter
    pools: Mapping[str, PoolDeclaration]
    """Those declared, by name."""
    messages: RouteTable
    """The handlers of SEND."""
    subscribes: RouteTable
    """The handlers of SUBSCRIBE."""
    exception_routes: Mapping[Any, ExceptionRoute]
    rules: Rules
    _lifespan: Sequence[LifespanPart]
    _connect_handler: ConnectHandler | None
    _run_blocking: Callable[..., Awaitable[Any]]
    _resources: dict[Any, object]
    """What every plan reads resources from."""

    @property
    def message_routes(self) -> tuple[Route, ...]:
        """The routes of SEND, in order of declaration."""
        return self.messages.routes

    @property
    def subscribe_routes(self) -> tuple[Route, ...]:
        """The routes of SUBSCRIBE, in order of declaration."""
        return self.subscribes.routes

    def match_message(self, destination: str) -> Found | None:
        """The handler of SENDs to a destination and its variables; None when there is none."""
        return self.messages.match(destination)

    def match_subscribe(self, destination: str) -> Found | None:
        """The handler of SUBSCRIBEs to a destination and its variables; None when there is none."""
        return self.subscribes.match(destination)

    def is_app_destination(self, destination: str) -> bool:
        """Whether some route begins with the same segment, as ``/app``: without a route it is a mistake."""
        return self.messages.is_under_a_prefix(destination) or self.subscribes.is_under_a_prefix(destination)

    def may_send(self, destination: str) -> bool:
        """Whether a client may SEND straight to a broker destination."""
        return self.rules.may_send(destination)

    def may_subscribe(self, destination: str) -> bool:
        """Whether a client may SUBSCRIBE to a broker destination or pattern; a malformed one not."""
        return self.rules.may_subscribe(destination)

    def exception_route(self, error: BaseException) -> ExceptionRoute | None:
        """The handler of the nearest class of an exception; None when there is none."""
        for kind in type(error).__mro__:
            found = self.exception_routes.get(kind)
            if found is not None:
                return found
        return None

    async def connect(self, request: ConnectRequest) -> User | None:
        """Ask `on_connect` who this is; None without one. A plain ``def`` runs in ``client_inbound``.

        Raises:
            ConnectRefused: the app refuses. Whatever else `on_connect` raises is passed on.
            TypeError: it returned neither a User nor None.
        """
        handler = self._connect_handler
        if handler is None:
            return None
        arguments = handler.arguments(request)
        if inspect.iscoroutinefunction(handler.function):
            user = await handler.function(*arguments)
        else:
            user = await self._run_blocking(handler.function, *arguments)
        if user is None or isinstance(user, User):
            return user
        raise TypeError(
            f"{name_of(handler.function)} returned a {type_name(type(user))}; expected a User or None"
        )

    def lifespan_scope(self) -> AbstractAsyncContextManager[Mapping[Any, object]]:
        """Open what the app's lifespans open; gives what they yield, by type, for `bind_resources`."""
        return open_lifespan(self._lifespan)

    def bind_resources(self, resources: Mapping[Any, object]) -> None:
        """Give handlers what the lifespan yielded, in place of what they had."""
        self._resources.clear()
        self._resources.update(resources)

    def describe(self, default_pool: str) -> str:
        """Routes, pools and rules as text, for people; `check` prints it.

        Args:
            default_pool: where a plain ``def`` runs that names no pool.
        """
        lines = [self.title or "(an app without a title)"]
        for verb, table in (("SEND", self.messages), ("SUBSCRIBE", self.subscribes)):
            for route in table.routes:
                lines.append(f"{verb:9} {route.destination}  ->  {name_of(route.function)}")
                lines += [f"            {given.name}: {given.source}" for given in route.plan.parameters]
                targets = [f"to {target.text}" for target in route.send_to]
                targets += [f"to the user's {queue}" for queue in route.send_to_user]
                if targets:
                    lines.append(f"            returns: {', '.join(targets)}")
                lines += [f"            {line}" for line in _how(route)]
        for kind, handler in self.exception_routes.items():
            targets = [target.text for target in handler.send_to]
            targets += [f"the user's {queue}" for queue in handler.send_to_user]
            line = (
                f"{'exception':9} {type_name(kind)}  ->  {name_of(handler.function)}, to {', '.join(targets)}"
            )
            lines.append(line)
        for pool in self.pools.values():
            by_default = " (by default)" if pool.name == default_pool else ""
            mode = ""
            if pool.mode != "fixed":
                mode = f" ({pool.mode}, {pool.min_threads} to {pool.max_threads})"
            lines.append(
                f"{'pool':9} {pool.name}{by_default}: {pool.threads} threads{mode}, {pool.queue} waiting, "
                f"{pool.queue_timeout:g} s"
            )
        lines += [f"{'may send':9} {text}" for text in self.rules.send]
        lines += [f"{'may subscribe':9} {text}" for text in self.rules.subscribe]
        return "\n".join(lines)


def _how(route: Route) -> list[str]:
    lines = [] if route.is_async else [f"pool: {route.pool}"]
    if route.timeout is not None:
        lines.append(f"timeout: {route.timeout:g} s")
    if route.concurrency is not None:
        lines.append(f"concurrency: {route.concurrency}")
    return lines
