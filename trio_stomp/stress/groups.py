"""Errors out of their exception groups: the nurseries of a stress test are nobody else's affair."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from trio_stomp.errors import TrioStompError


@contextlib.contextmanager
def bare_errors() -> Iterator[None]:
    """Let out a lone exception or, where all are errors of ours or the system's, the first of them.

    Several of those have one cause, as when a server ends that many are connected to. Other groups stay.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        _, others = group.split((TrioStompError, OSError))
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and (others is None or len(error.exceptions) == 1):
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from error.__cause__
