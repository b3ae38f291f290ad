"""Routes: which handler a destination belongs to, and what becomes of what it returns.

Rule 1: an exact destination comes before templates.  Rule 2: of two templates the one with fewer variables
comes first, then the one whose first difference is a fixed segment: `/app/{a}/x` after `/app/y/{b}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from trio_stomp.app.handlers import Plan, name_of
from trio_stomp.stomp.destinations import Template

DEFAULT_POOL: Final = "client_inbound"
"""The pool of plain `def` handlers that name none (Spring's clientInboundChannel)."""

ERROR_QUEUE: Final = "/queue/errors"
"""Where an exception handler's value goes that names no destination: where clients look for errors anyway."""

Found = tuple["Route", dict[str, str]]


@attrs.frozen(eq=False, kw_only=True)
class Route:
    """One handler for one destination or template; equal to itself only.

    Attributes:
        destination: the text it was declared with, prefixes included.
        template: the same, parsed.
        function: the handler, called with ``plan.arguments(…)``.
        plan: how its arguments are made.
        send_to: where its value is published; variables are the destination's.
        send_to_user: the sender's own queues that it goes to, without ``/user``.
        broadcast: whether these are those of all her sessions, or only of the one that sent.
        pool: whose threads a plain ``def`` runs in.
        timeout: seconds; for a plain ``def`` from holding a thread. None: no limit.
        concurrency: how many may run at once in the whole server, out of order; None: in order.
        is_async: whether it is awaited (or iterated) instead of run in a thread.
        is_stream: whether it is an async generator.
    """

    destination: str
    template: Template
    function: Callable[..., Any]
    plan: Plan
    send_to: tuple[Template, ...] = ()
    send_to_user: tuple[str, ...] = ()
    broadcast: bool = True
    pool: str = DEFAULT_POOL
    timeout: float | None = None
    concurrency: int | None = None
    is_async: bool
    is_stream: bool = False


@attrs.frozen(eq=False, kw_only=True)
class ExceptionRoute:
    """One handler for one type of exception; attributes as `Route`'s.

    Attributes:
        exception: what it handles, subclasses included.
    """

    exception: type[Exception]
    function: Callable[..., Any]
    plan: Plan
    send_to: tuple[Template, ...] = ()
    send_to_user: tuple[str, ...] = ()
    pool: str = DEFAULT_POOL
    is_async: bool


class RouteTable:
    """Finds a destination's route.

    Two routes that every destination would fit alike are told to ``problems``, and the first one stays.
    """

    def __init__(self, routes: Iterable[Route], problems: list[str], separator: str = "/") -> None:
        self._separator = separator
        self._exact: dict[str, Route] = {}
        self._templates: dict[int, list[tuple[tuple[bool, ...], Route]]] = {}
        self._prefixes: set[str] = set()
        shapes: dict[tuple[str, ...], Route] = {}
        for route in routes:
            segments = route.destination.split(separator)
            shape = tuple("{}" if _is_variable(segment) else segment for segment in segments)
            if shape in shapes:
                same = shapes[shape]
                problems.append(
                    f"{name_of(route.function)}: {route.destination!r} is the same as {same.destination!r} of "
                    f"{name_of(same.function)}; expected one handler for each destination"
                )
                continue
            shapes[shape] = route
            self._prefixes.add(first_segment(route.destination))
            if route.template.variables:
                variable = tuple(_is_variable(segment) for segment in segments)
                self._templates.setdefault(len(segments), []).append((variable, route))
            else:
                self._exact[route.destination] = route
        for found in self._templates.values():
            found.sort(key=lambda entry: (sum(entry[0]), entry[0]))
        self.routes = tuple(shapes.values())

    def match(self, destination: str) -> Found | None:
        """Return the route and its variables' values, or None. Linear in the destination's length."""
        exact = self._exact.get(destination)
        if exact is not None:
            return exact, {}
        segments = destination.split(self._separator)
        for _, route in self._templates.get(len(segments), ()):
            variables = route.template.match_segments(segments)
            if variables is not None:
                return route, variables
        return None

    def is_under_a_prefix(self, destination: str) -> bool:
        """Return whether some route begins with the same segment, as ``/app``."""
        return first_segment(destination) in self._prefixes


def first_segment(destination: str) -> str:
    """``/app`` of ``/app/chat/{room}``, whatever the separator."""
    return "/" + destination.removeprefix("/").split("/", 1)[0]


def as_tuple(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """One, several or none, as a tuple."""
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def _is_variable(segment: str) -> bool:
    return segment.startswith("{")
