"""Bulkheads for blocking calls: each pool has its own threads, and its own bounded queue in front of them.

Rule 1: nobody waits without bound; who cannot be served in time is refused at once.
Rule 2: a thread cannot be stopped, so its place stays taken until it ends, whether or not anybody still waits
for its result. An external service that hangs fills its own pool and no other.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import attrs
import trio

from trio_stomp.errors import ConfigError, HandlerTimeout, OverloadedError
from trio_stomp.metrics import Metrics

T = TypeVar("T")

logger = logging.getLogger("trio_stomp.pools")

DEFAULT_QUEUE: Final = 1000
"""Calls that wait; as `PoolConfig.queue`, which gives the reason."""

DEFAULT_QUEUE_TIMEOUT: Final = 30.0
"""Seconds; as `PoolConfig.queue_timeout`, which gives the reason."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


def default_threads() -> int:
    """Return 2 times the CPUs that this process may use, as Spring sizes its clientInboundChannel."""
    if sys.version_info >= (3, 13):
        return 2 * (os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):  # Linux; a container may be given fewer CPUs than there are
        return 2 * len(os.sched_getaffinity(0))
    return 2 * (os.cpu_count() or 1)


@attrs.frozen
class PoolDeclaration:
    """A pool as ``app.pool()`` declares it; a server makes a `Pool` of it, of its own.

    Attributes:
        name: letters, digits, ``_`` and ``-``: it stands in settings, as ``pools.NAME.threads``.
        threads: calls that run at once.
        queue: calls that wait for a thread; one more is refused. 0: nobody waits.
        queue_timeout: seconds that a call waits for a thread before it is refused.

    Raises:
        ConfigError: one of them is not what it has to be.
    """

    name: str
    threads: int
    queue: int = DEFAULT_QUEUE
    queue_timeout: float = DEFAULT_QUEUE_TIMEOUT

    def __attrs_post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"a pool's name is {self.name!r}, expected letters, digits, '_' and '-'")
        _check_count(f"pools.{name}.threads", self.threads, 1)
        _check_count(f"pools.{name}.queue", self.queue, 0)
        if not self.queue_timeout >= 0:
            raise ConfigError(
                f"pools.{self.name}.queue_timeout is {self.queue_timeout!r}, expected 0 seconds or more"
            )


def _check_count(what: str, count: object, lowest: int) -> None:
    if not isinstance(count, int) or count < lowest:
        raise ConfigError(f"{what} is {count!r}, expected {lowest} or more")


@attrs.frozen
class PoolStatistics:
    """A pool at one moment; later calls don't change it.

    Attributes:
        threads: calls that may run at once.
        busy: calls that run now, abandoned ones included; above ``threads`` for a while once it was lowered.
        waiting: calls that wait for a thread now.
        abandoned: how many of ``busy`` nobody waits for any more.
        completed: calls whose function has ended, by a result or an exception, in time or late.
        rejected: calls refused because too many waited, or because they waited too long.
        timed_out: calls given up because they took longer than their ``timeout``.
    """

    threads: int
    busy: int
    waiting: int
    abandoned: int
    completed: int
    rejected: int
    timed_out: int


class Pool:
    """Runs blocking calls, at most ``threads`` at once. It is made anywhere, and serves one `trio.run`.

    Args:
        name, threads, queue, queue_timeout: as in `PoolDeclaration`.
        metrics: where refusals are counted, as hits of ``pools.queue`` and ``pools.queue_timeout``.
        run_sync: what runs a function in a thread, called as `trio.to_thread.run_sync` is, with a ``limiter``
            that it acquires before the function starts and releases once it has ended. Tests give one that
            they release, because a clock that jumps does not notice a running thread.

    Raises:
        ConfigError: a number or the name is not what it has to be.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        queue: int = DEFAULT_QUEUE,
        queue_timeout: float = DEFAULT_QUEUE_TIMEOUT,
        metrics: Metrics | None = None,
        run_sync: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync,
    ) -> None:
        PoolDeclaration(name, threads=threads, queue=queue, queue_timeout=queue_timeout)  # checks them
        self.name = name
        self._queue = queue
        self._queue_timeout = queue_timeout
        self._metrics = metrics
        self._run_sync = run_sync
        self._limiter = trio.CapacityLimiter(threads)
        self._waiting = 0
        self._abandoned = 0
        self._completed = 0
        self._rejected = 0
        self._timed_out = 0

    def __repr__(self) -> str:
        return f"<Pool {self.name!r} threads={self.threads} busy={self._limiter.borrowed_tokens}>"

    @property
    def threads(self) -> int:
        """Calls that may run at once. More take effect at once, fewer as running calls end.

        Raises:
            ConfigError: on setting less than 1.
        """
        return int(self._limiter.total_tokens)

    @threads.setter
    def threads(self, threads: int) -> None:
        _check_count(f"pools.{self.name}.threads", threads, 1)
        self._limiter.total_tokens = threads

    def statistics(self) -> PoolStatistics:
        """Return a snapshot of the pool."""
        return PoolStatistics(
            threads=self.threads,
            busy=self._limiter.borrowed_tokens,
            waiting=self._waiting,
            abandoned=self._abandoned,
            completed=self._completed,
            rejected=self._rejected,
            timed_out=self._timed_out,
        )

    async def run(self, fn: Callable[..., T], *args: object, timeout: float | None = None) -> T:
        """Call ``fn(*args)`` in a thread of this pool; return what it returns, raise what it raises.

        Cancelling while it waits for a thread takes it out of the queue. Cancelling while it runs returns at
        once and abandons the call: it goes on and keeps its thread until it ends; if it fails then, that
        is logged.

        Args:
            timeout: seconds that the call may take, from the moment that it has a thread. None: no limit.

        Raises:
            OverloadedError: too many calls wait already, or this one has waited ``queue_timeout`` seconds.
            HandlerTimeout: the call took longer than ``timeout``; it is abandoned.
        """
        with trio.CancelScope() as scope:
            turn = _Turn(self, scope, timeout)
            try:
                result: T = await self._run_sync(
                    turn.call, fn, *args, abandon_on_cancel=True, limiter=cast(trio.CapacityLimiter, turn)
                )
                return result
            finally:
                turn.leave()
        # The scope is ours alone, so it was the deadline that ended it.
        self._timed_out += 1
        raise HandlerTimeout(f"no answer within {timeout:g} seconds")

    async def _wait_for_thread(self, turn: _Turn) -> None:
        if self._waiting >= self._queue:
            raise self._refused("pools.queue", f"{self._waiting} calls wait already")
        self._waiting += 1
        try:
            with trio.move_on_after(self._queue_timeout):
                await self._limiter.acquire_on_behalf_of(turn)
                return
        finally:
            self._waiting -= 1
        raise self._refused("pools.queue_timeout", f"none came free within {self._queue_timeout:g} seconds")

    def _refused(self, limit: str, reason: str) -> OverloadedError:
        self._rejected += 1
        if self._metrics is not None:
            self._metrics.limit(limit)
        return OverloadedError(f"all threads of pool {self.name!r} are busy, and {reason}")


class _Turn:
    """One call's way through the pool, and what `trio.to_thread.run_sync` takes for its limiter.

    It is the one place that hears when the thread is held and when it ends, also of an abandoned call:
    run_sync promises to await ``acquire_on_behalf_of`` before the thread starts and to call
    ``release_on_behalf_of`` in trio's thread after it has ended.
    """

    __slots__ = ("_error", "_is_abandoned", "_is_held", "_pool", "_scope", "_timeout")

    def __init__(self, pool: Pool, scope: trio.CancelScope, timeout: float | None) -> None:
        self._pool = pool
        self._scope = scope
        self._timeout = timeout
        self._is_held = False
        self._is_abandoned = False
        self._error: BaseException | None = None

    async def acquire_on_behalf_of(self, _borrower: object) -> None:
        try:
            self._pool._limiter.acquire_on_behalf_of_nowait(self)
        except trio.WouldBlock:
            await self._pool._wait_for_thread(self)
        self._is_held = True
        if self._timeout is not None:
            self._scope.deadline = trio.current_time() + self._timeout

    def release_on_behalf_of(self, _borrower: object) -> None:
        pool = self._pool
        pool._limiter.release_on_behalf_of(self)
        pool._completed += 1
        self._is_held = False
        if self._is_abandoned:
            pool._abandoned -= 1
            self._tell_late_error()

    def call(self, fn: Callable[..., T], *args: object) -> T:
        """Run in the thread; note what the function raises: of an abandoned call run_sync drops it."""
        try:
            return fn(*args)
        except BaseException as error:
            self._error = error
            raise

    def leave(self) -> None:
        """The caller goes, with the call's outcome or without."""
        if self._is_held:
            self._is_abandoned = True
            self._pool._abandoned += 1
        elif isinstance(sys.exception(), trio.Cancelled):
            self._tell_late_error()  # it ended after the caller was cancelled and before the caller went
        else:
            self._error = None  # the caller has it; the two would keep each other alive

    def _tell_late_error(self) -> None:
        error, self._error = self._error, None
        if error is not None and not isinstance(error, trio.Cancelled):  # from_thread raises Cancelled in it
            logger.error(
                "pool %s: a call failed after it had been abandoned", self._pool.name, exc_info=error
            )
