"""Errors out of their exception groups: the nurseries inside of an operation are nobody else's affair."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import trio

from trio_stomp.errors import TrioStompError


@contextlib.contextmanager
def bare_errors() -> Iterator[None]:
    """Let out a lone exception or, where all are errors of ours or the system's, the first of them.

    Several of those have one cause, as when a server ends that many are connected to. Who is cancelled while
    they happen is told of that alone. Any other group stays as it is. The cause is the exception's own.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        errors, others = group.split((TrioStompError, OSError))
        if others is None:
            raise _first(errors) from _first(errors).__cause__
        cancelled, foreign = others.split(trio.Cancelled)
        if foreign is None:
            raise _first(cancelled) from None
        if errors is None and cancelled is None and _is_lone(foreign):
            raise _first(foreign) from _first(foreign).__cause__
        raise


def _first(error: BaseException | None) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert error is not None
    return error


def _is_lone(error: BaseException) -> bool:
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) > 1:
            return False
        error = error.exceptions[0]
    return True
