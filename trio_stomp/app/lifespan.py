"""What the app opens when it is served, and what handlers may ask for by type because of it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from typing import Any, Final, get_args, get_origin

import attrs

from trio_stomp.app.handlers import name_of, return_type
from trio_stomp.app.session import ConnectRequest, Session
from trio_stomp.errors import HandlerSignatureError
from trio_stomp.messages.conversion import type_name
from trio_stomp.messages.message import Message, User

Lifespan = Callable[[], AsyncIterator[Any]]

_TAKEN: Final = frozenset({Message, Session, ConnectRequest})
_PLAIN: Final = frozenset({str, bytes, int, float, bool, dict, list, tuple, set, object, Any})


@attrs.frozen
class LifespanPart:
    """One function that `StompApp.lifespan` decorates, and the type of what it yields; None: nothing."""

    function: Lifespan
    kind: Any


def check_lifespan(function: object) -> None:
    """Refuse what is no async generator function without parameters.

    Raises:
        HandlerSignatureError: it says what to change.
    """
    if not inspect.isroutine(function):
        raise HandlerSignatureError(f"lifespan decorates an async generator function, not {function!r}")
    name = name_of(function)
    if not inspect.isasyncgenfunction(function):
        is_context = inspect.isasyncgenfunction(inspect.unwrap(function))
        hint = "remove its @asynccontextmanager" if is_context else "write it as `async def` with one `yield`"
        raise HandlerSignatureError(f"{name}: lifespan decorates an async generator function: {hint}")
    if inspect.signature(function).parameters:
        raise HandlerSignatureError(f"{name}: a lifespan takes no parameters")


def read_lifespan(function: Lifespan) -> LifespanPart:
    """Find out what one yields.

    Raises:
        HandlerSignatureError: its annotation does not say, or says a type that handlers get otherwise.
    """
    name, returns = name_of(function), return_type(function)
    if get_origin(returns) not in (AsyncIterator, AsyncIterable, AsyncGenerator):
        raise HandlerSignatureError(
            f"{name}: say what it yields: `-> AsyncIterator[Api]`, or `-> AsyncIterator[None]`"
        )
    kind = get_args(returns)[0]
    if kind is type(None):
        return LifespanPart(function, None)
    if kind in _TAKEN or (isinstance(kind, type) and issubclass(kind, User)):
        raise HandlerSignatureError(
            f"{name}: handlers get the {type_name(kind)} of their session; yield a class of your own"
        )
    if kind in _PLAIN or get_origin(kind) in _PLAIN:
        raise HandlerSignatureError(
            f"{name}: payloads are made of {type_name(kind)}, and so handlers could not ask for this one by "
            "type; yield a class of your own"
        )
    return LifespanPart(function, kind)


@contextlib.asynccontextmanager
async def open_lifespan(parts: Sequence[LifespanPart]) -> AsyncGenerator[Mapping[Any, object], None]:
    """Enter all in the order of declaration; gives what they yield by type, and leaves in reverse.

    Raises:
        TypeError: one yields something else than it says.
    """
    resources: dict[Any, object] = {}
    async with contextlib.AsyncExitStack() as stack:
        for part in parts:
            value = await stack.enter_async_context(contextlib.asynccontextmanager(part.function)())
            if part.kind is None:
                continue
            if isinstance(part.kind, type) and not _fits(value, part.kind):
                raise TypeError(
                    f"{name_of(part.function)} yielded a {type(value).__name__} and is annotated to yield "
                    f"{type_name(part.kind)}"
                )
            resources[part.kind] = value
        yield resources


def _fits(value: object, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a Protocol that cannot be checked at run time
        return True
