"""Settled routes, and the table that finds one for a destination.

Rule: an exact destination comes first; then the template with the earliest literal segment where two
differ, so that which one it is never depends on the order of declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import attrs

from trio_stomp.app.handlers import ArgumentPlan
from trio_stomp.stomp.destinations import Template


@attrs.define(eq=False)
class Reply:
    """What a route and an exception route have in common: how to call it and where its result goes."""

    function: Callable[..., Any]
    name: str
    """Module and qualified name, for logs and `check`."""
    plan: ArgumentPlan
    is_async: bool
    """An ``async def``; else it runs in a thread of ``pool``."""
    pool: str
    """The pool of a plain ``def``; of no meaning for others."""
    send_to: tuple[Template, ...]
    """Filled with the destination's variables."""
    send_to_user: tuple[str, ...]
    """Without ``/user``: ``/queue/x``."""
    broadcast: bool
    """Whether ``send_to_user`` reaches all of the user's sessions, or only the sender's."""
    returns: Any
    """What to encode the result as: the return annotation where it has a union in it, else None (its own type)."""


@attrs.define(eq=False)
class Route(Reply):
    """One handler for SENDs or SUBSCRIBEs."""

    destination: str
    template: Template
    is_stream: bool
    """An async generator: what it yields goes to the subscription."""
    timeout: float | None
    """Seconds; of a plain ``def`` from holding a thread."""
    concurrency: int | None
    """How many run at once in the whole server; None: a session's messages one after the other."""


@attrs.define(eq=False)
class ExceptionRoute(Reply):
    """One handler for exceptions of other handlers."""

    exception: type[BaseException]


R = TypeVar("R", bound=Route)


class RouteTable(Generic[R]):
    """Finds the route of a destination: one look into a dict when it is exact."""

    def __init__(self, routes: Iterable[R]) -> None:
        self._exact: dict[str, R] = {}
        self._templates: dict[int, list[R]] = {}
        for route in routes:
            if route.template.variables:
                self._templates.setdefault(route.destination.count("/"), []).append(route)
            else:
                self._exact[route.destination] = route
        for group in self._templates.values():
            group.sort(key=lambda route: precedence(route.destination))

    def match(self, destination: str) -> tuple[R, dict[str, str]] | None:
        """The route and its variables, None when there is none; looks at the templates of as many segments."""
        exact = self._exact.get(destination)
        if exact is not None:
            return exact, {}
        for route in self._templates.get(destination.count("/"), ()):
            variables = route.template.match(destination)
            if variables is not None:
                return route, variables
        return None


def precedence(destination: str) -> tuple[bool, ...]:
    """Sorts templates of equal length: a literal segment before a variable, the first difference decides."""
    return tuple(segment.startswith("{") for segment in destination.split("/"))


def shape(destination: str) -> str:
    """Equal for templates that match the same destinations: ``/app/{a}`` and ``/app/{b}``."""
    return "/".join("{}" if segment.startswith("{") else segment for segment in destination.split("/"))
