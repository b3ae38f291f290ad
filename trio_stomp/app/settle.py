"""Settles an app before it is served: every mistake of every handler is found, and told together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import NoneType, UnionType
from typing import Any, Never, NoReturn, Union, get_args, get_origin

import attrs

from trio_stomp.app.compiled import ConnectHandler
from trio_stomp.app.handlers import Offer, make_connect_plan, make_plan, name_of, return_type
from trio_stomp.app.lifespan import Lifespan, LifespanPart, read_lifespan
from trio_stomp.app.router import Declaration, ExceptionDeclaration
from trio_stomp.app.routes import DEFAULT_POOL, ExceptionRoute, Route, RouteTable, first_segment
from trio_stomp.app.security import Rules
from trio_stomp.errors import DestinationError, HandlerSignatureError
from trio_stomp.messages.conversion import type_name
from trio_stomp.stomp.destinations import Template

__all__ = ["DEFAULT_POOL", "Settlement", "is_under"]


@attrs.define(eq=False)
class Settlement:
    """Goes through an app's declarations and gathers what is wrong.

    Args:
        pools: the names of those declared.
        broker_prefixes: what belongs to the broker: where results have to go, and no handler may stand.
        separator: what stands between a destination's segments.
    """

    pools: Sequence[str]
    broker_prefixes: Sequence[str]
    separator: str = "/"
    problems: list[str] = attrs.field(factory=list)

    def finish(self) -> None:
        """Return when nothing was wrong.

        Raises:
            HandlerSignatureError: it lists all that was, a line each.
        """
        if self.problems:
            raise HandlerSignatureError("\n".join(self.problems))

    def lifespan(self, functions: Sequence[Lifespan]) -> list[LifespanPart]:
        """Find out what each yields; no two may yield the same type."""
        parts: list[LifespanPart] = []
        for function in functions:
            with self._gather():
                part = read_lifespan(function)
                for other in parts:
                    if part.kind is not None and part.kind == other.kind:
                        raise HandlerSignatureError(
                            f"{name_of(function)}: lifespan: {name_of(other.function)} yields a "
                            f"{type_name(part.kind)} too, and handlers ask by type; expected one of each"
                        )
                parts.append(part)
        return parts

    def connect(self, function: Callable[..., Any] | None, offer: Offer) -> ConnectHandler | None:
        """Settle `on_connect`."""
        if function is not None:
            with self._gather():
                return ConnectHandler(function, make_connect_plan(function, offer))
        return None

    def rules(self, send: Sequence[str], subscribe: Sequence[str]) -> Rules:
        """Read the rules."""
        good: list[list[str]] = [[], []]
        for name, texts, kept in (("allow_send", send, good[0]), ("allow_subscribe", subscribe, good[1])):
            for text in texts:
                try:
                    Rules([text], separator=self.separator)
                except DestinationError as error:
                    self.problems.append(f"{name}({text!r}): {error}")
                else:
                    kept.append(text)
        return Rules(good[0], good[1], self.separator)

    def messages(self, declared: Iterator[Declaration], offer: Offer) -> RouteTable:
        """Settle the routes of SEND; no two may stand for the same destinations."""
        routes = []
        for declaration in declared:
            where = f"{name_of(declaration.function)}: on_message({declaration.destination!r})"
            with self._gather():
                routes.append(self._route(declaration, where, offer))
                if not declaration.send_to and not declaration.send_to_user:
                    _check_returns_nothing(where, declaration.function)
        return RouteTable(routes, self.problems, self.separator)

    def subscribes(self, declared: Iterator[Declaration], offer: Offer) -> RouteTable:
        """Settle the routes of SUBSCRIBE; no two may stand for the same destinations."""
        offer = attrs.evolve(offer, no_payload="a SUBSCRIBE has no payload")
        routes = []
        for declaration in declared:
            where = f"{name_of(declaration.function)}: on_subscribe({declaration.destination!r})"
            with self._gather():
                routes.append(self._route(declaration, where, offer))
        return RouteTable(routes, self.problems, self.separator)

    def exception_routes(
        self, declared: Iterator[ExceptionDeclaration], offer: Offer
    ) -> dict[type[Exception], ExceptionRoute]:
        """Settle the exception handlers; one for each class."""
        found: dict[type[Exception], ExceptionRoute] = {}
        for declaration in declared:
            kind, function = declaration.exception, declaration.function
            where = f"{name_of(function)}: exception_handler({type_name(kind)})"
            offered = attrs.evolve(offer, error=kind, no_payload="an exception handler has no payload")
            with self._gather():
                if kind in found:
                    other = name_of(found[kind].function)
                    raise HandlerSignatureError(
                        f"{where}: {other} handles it already; expected one for each class"
                    )
                self._check_targets(where, (*declaration.send_to, *declaration.send_to_user))
                found[kind] = ExceptionRoute(
                    exception=kind,
                    function=function,
                    plan=make_plan(function, offered),
                    send_to=self._templates(declaration.send_to),
                    send_to_user=declaration.send_to_user,
                    pool=self._pool(where, declaration.pool),
                    is_async=declaration.is_async,
                    returns=_union_returned(function),
                )
        return found

    def _route(self, declaration: Declaration, where: str, offer: Offer) -> Route:
        template = Template.parse(declaration.destination, self.separator)
        self._check_place(where, declaration.destination)
        send_to = self._templates(declaration.send_to)
        for target in send_to:
            for variable in target.variables:
                if variable not in template.variables:
                    raise HandlerSignatureError(
                        f"{where}: send_to {target.text!r} uses {{{variable}}}, which the destination has not"
                    )
        self._check_targets(where, (*declaration.send_to, *declaration.send_to_user))
        plan = make_plan(declaration.function, attrs.evolve(offer, variables=template.variables))
        return Route(
            destination=declaration.destination,
            template=template,
            function=declaration.function,
            plan=plan,
            send_to=send_to,
            send_to_user=declaration.send_to_user,
            broadcast=declaration.broadcast,
            pool=self._pool(where, declaration.pool),
            timeout=declaration.timeout,
            concurrency=declaration.concurrency,
            is_async=declaration.is_async,
            is_stream=declaration.is_stream,
            returns=_union_returned(declaration.function),
        )

    def _templates(self, texts: Sequence[str]) -> tuple[Template, ...]:
        return tuple(Template.parse(text, self.separator) for text in texts)

    def _check_place(self, where: str, destination: str) -> None:
        head = first_segment(destination)
        if "{" in head or len(destination) <= len(head) + 1:
            raise HandlerSignatureError(
                f"{where}: expected a fixed first segment, the app's, and more after it, as '/app/chat'"
            )
        if is_under(destination, (*self.broker_prefixes, "/user")):
            raise HandlerSignatureError(
                f"{where}: what begins with {head!r} belongs to the broker and never reaches a handler; take "
                f"another first segment, as '/app'"
            )

    def _check_targets(self, where: str, targets: Sequence[str]) -> None:
        for text in targets:
            if not is_under(text, self.broker_prefixes):
                expected = " or ".join(self.broker_prefixes)
                raise HandlerSignatureError(
                    f"{where}: its result cannot go to {text!r}; expected {expected}/…"
                )

    def _pool(self, where: str, name: str | None) -> str:
        if name is not None and name not in self.pools:
            known = ", ".join(sorted(self.pools))
            raise HandlerSignatureError(f"{where}: there is no pool {name!r}; expected one of {known}")
        return DEFAULT_POOL if name is None else name

    @contextmanager
    def _gather(self) -> Iterator[None]:
        try:
            yield
        except (HandlerSignatureError, DestinationError) as error:
            self.problems.append(str(error))


def is_under(destination: str, prefixes: Sequence[str]) -> bool:
    """Whether a destination is below one of the prefixes (``/topic`` or ``/topic/``)."""
    return destination.startswith(tuple(prefix.rstrip("/") + "/" for prefix in prefixes))


def _check_returns_nothing(where: str, function: Callable[..., Any]) -> None:
    """A value that is annotated and goes nowhere has been forgotten."""
    returns = return_type(function)
    if returns not in (None, type(None), Any, Never, NoReturn):
        raise HandlerSignatureError(
            f"{where}: it returns {type_name(returns)}, and nothing says where that goes; add send_to= or "
            "send_to_user=, or annotate it `-> None`"
        )


def _union_returned(function: Callable[..., Any]) -> Any:
    """The return annotation if a union of classes is in it (a cattrs strategy may tag them), else None."""
    returns = return_type(function)
    if inspect.isasyncgenfunction(function):
        returns = get_args(returns)[0] if get_args(returns) else None
    return returns if _has_union(returns) else None


def _has_union(annotation: Any) -> bool:
    members = [member for member in get_args(annotation) if member is not NoneType]
    if get_origin(annotation) in (Union, UnionType) and sum(map(attrs.has, members)) > 1:
        return True
    return any(map(_has_union, members))
