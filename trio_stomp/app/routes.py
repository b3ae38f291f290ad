"""Routes: which handler a destination belongs to, and what becomes of what it returns.

Rule 1: an exact destination comes before templates.  Rule 2: of two templates the one with fewer variables
comes first, then the one whose first difference is a fixed segment: `/app/{a}/x` after `/app/y/{b}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from trio_stomp.app.handlers import Plan, name_of
from trio_stomp.stomp.destinations import Template

DEFAULT_POOL: Final = "client_inbound"
"""The pool of plain `def` handlers that name none (Spring's clientInboundChannel)."""

Found = tuple["Route", dict[str, str]]


@attrs.frozen(eq=False, kw_only=True)
class Reply:
    """How a handler is called and where its value goes: what a route and an exception's route share.

    Attributes:
        function: the handler, called with ``plan.arguments(…)``.
        plan: how its arguments are made.
        send_to: where its value is published; variables are the destination's.
        send_to_user: the sender's own queues that it goes to, without ``/user``.
        pool: whose threads a plain ``def`` runs in.
        is_async: whether it is awaited (or iterated) instead of run in a thread.
        returns: the type to encode its value as, where its annotation has a union; None: the value's own.
    """

    function: Callable[..., Any]
    plan: Plan
    send_to: tuple[Template, ...] = ()
    send_to_user: tuple[str, ...] = ()
    pool: str = DEFAULT_POOL
    is_async: bool
    returns: Any = None

    @property
    def name(self) -> str:
        """The handler as ``module.function``."""
        return name_of(self.function)


@attrs.frozen(eq=False, kw_only=True)
class Route(Reply):
    """One handler for one destination or template; equal to itself only.

    Attributes:
        destination: the text it was declared with, prefixes included.
        template: the same, parsed.
        broadcast: whether ``send_to_user`` reaches all the sender's sessions, or only the one that sent.
        timeout: seconds; for a plain ``def`` from holding a thread. None: no limit.
        concurrency: how many may run at once in the whole server, out of order; None: in order.
        is_stream: whether it is an async generator.
    """

    destination: str
    template: Template
    broadcast: bool = True
    timeout: float | None = None
    concurrency: int | None = None
    is_stream: bool = False


@attrs.frozen(eq=False, kw_only=True)
class ExceptionRoute(Reply):
    """One handler for one type of exception.

    Attributes:
        exception: what it handles, subclasses included.
    """

    exception: type[Exception]


class RouteTable:
    """Finds a destination's route.

    Two routes that the same destinations fit are told to ``problems``, and the first one stays.

    Attributes:
        routes: all of them, in order of declaration.
    """

    def __init__(self, routes: Iterable[Route], problems: list[str], separator: str = "/") -> None:
        self._separator = separator
        self._exact: dict[str, Route] = {}
        self._templates: dict[int, list[Route]] = {}
        shapes: dict[tuple[str | None, ...], Route] = {}
        for route in routes:
            same = shapes.setdefault(_shape(route.template), route)
            if same is not route:
                problems.append(
                    f"{route.name}: {route.destination!r} is the same as {same.destination!r} of "
                    f"{same.name}; expected one handler for each"
                )
            elif route.template.variables:
                self._templates.setdefault(len(route.template.segments), []).append(route)
            else:
                self._exact[route.destination] = route
        for found in self._templates.values():
            found.sort(key=lambda route: (len(route.template.variables), route.template.specificity))
        self.routes = tuple(shapes.values())
        self._prefixes = frozenset(first_segment(route.destination) for route in self.routes)

    def match(self, destination: str) -> Found | None:
        """Return the route and its variables' values, or None. Linear in the destination's length."""
        exact = self._exact.get(destination)
        if exact is not None:
            return exact, {}
        segments = destination.split(self._separator)
        for route in self._templates.get(len(segments), ()):
            variables = route.template.match_segments(segments)
            if variables is not None:
                return route, variables
        return None

    def is_under_a_prefix(self, destination: str) -> bool:
        """Return whether some route begins with the same segment, as ``/app``."""
        return destination.startswith("/") and first_segment(destination) in self._prefixes


def _shape(template: Template) -> tuple[str | None, ...]:
    """Equal for templates that match the same destinations: ``/app/{a}`` and ``/app/{b}``."""
    return tuple(None if is_variable else text for text, is_variable in template.segments)


def first_segment(destination: str) -> str:
    """``/app`` of ``/app/chat/{room}``, whatever the separator is after it."""
    return "/" + destination.removeprefix("/").split("/", 1)[0]
