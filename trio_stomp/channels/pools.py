"""Bounded pools of worker threads for blocking calls: bulkheads, so that one slow service starves no other.

Rule 1: a call is refused at once rather than kept waiting without bound.
Rule 2: a thread that has started cannot be stopped, so its token stays borrowed until it ends.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import attrs
import trio

from trio_stomp.errors import HandlerTimeout, OverloadedError
from trio_stomp.metrics import Metrics

T = TypeVar("T")

logger = logging.getLogger("trio_stomp.pools")

DEFAULT_QUEUE = 1000
"""Calls that wait; as `PoolConfig.queue`, which gives the reason."""

DEFAULT_QUEUE_TIMEOUT = 30.0
"""Seconds; as `PoolConfig.queue_timeout`, which gives the reason."""


def default_threads() -> int:
    """2 times the CPUs, as Spring's clientInboundChannel (TaskExecutorRegistration)."""
    return 2 * (os.cpu_count() or 1)


class ThreadRunner(Protocol):
    """What runs a call in a thread: `trio.to_thread.run_sync`, or in tests one that the test releases.

    It acquires ``limiter`` (which is granted at once), returns what ``fn`` returns and releases
    ``limiter`` when ``fn`` has ended, also when it was cancelled before with ``abandon_on_cancel``.
    """

    async def __call__(
        self, fn: Callable[..., Any], /, *args: object, abandon_on_cancel: bool, limiter: Held
    ) -> Any: ...


class Held:
    """One borrowed thread, in the shape of a limiter, for the one call that it is borrowed for.

    `trio.to_thread.run_sync` takes "a CapacityLimiter-like object" and releases it when the thread
    ends, however long after the caller has gone.
    """

    __slots__ = ("_limiter", "_started")

    def __init__(self, limiter: trio.CapacityLimiter) -> None:
        self._limiter = limiter
        self._started = False

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Return at once: from now on the thread releases it."""
        self._started = True

    def release_on_behalf_of(self, borrower: object) -> None:
        """Give the token back: the thread has ended."""
        self._limiter.release_on_behalf_of(self)

    def release_unless_started(self) -> None:
        """Give the token back when no thread was started (cancelled just before)."""
        if not self._started:
            self._limiter.release_on_behalf_of(self)


@attrs.frozen
class PoolStatistics:
    """A pool at one moment; counts since it was made."""

    threads: int
    """How many calls may run at once."""
    busy: int
    """Threads that run now, those of calls that have timed out included."""
    waiting: int
    """Calls that wait for a thread now."""
    rejected: int
    """Calls refused because the queue was full or the wait too long."""
    timed_out: int
    """Calls given up after their ``timeout``."""
    completed: int
    """Calls whose thread has ended in time, by a result or an exception of its own."""


class Pool:
    """At most ``threads`` blocking calls at once, and at most ``queue`` that wait.

    May be made anywhere; its limiter is made when first used inside trio, and anew in another `trio.run`.

    Args:
        threads: calls that run at once.
        queue: calls that wait for a thread; one more is refused. Default 1,000; 0: nobody waits.
        queue_timeout: seconds that a call waits before it is refused. Default 30; 0: nobody waits.
        runner: what runs a call in a thread.
        metrics: where refusals are counted as hits of ``pools.queue`` and ``pools.queue_timeout``.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        queue: int = DEFAULT_QUEUE,
        queue_timeout: float = DEFAULT_QUEUE_TIMEOUT,
        runner: ThreadRunner = cast(ThreadRunner, trio.to_thread.run_sync),  # noqa: B008
        metrics: Metrics | None = None,
    ) -> None:
        _check(name, threads, queue, queue_timeout)
        self.name = name
        self.queue = queue
        self.queue_timeout = queue_timeout
        self.runner = runner
        self._threads = threads
        self._metrics = metrics
        self._limiter: trio.CapacityLimiter | None = None
        self._run_token: trio.lowlevel.TrioToken | None = None
        self._waiting = 0
        self._rejected = 0
        self._timed_out = 0
        self._completed = 0

    def __repr__(self) -> str:
        return f"<Pool {self.name!r} threads={self._threads}>"

    @property
    def threads(self) -> int:
        """How many calls may run at once. Can be set while calls run: fewer takes effect as they end."""
        return self._threads

    @threads.setter
    def threads(self, threads: int) -> None:
        _check(self.name, threads, self.queue, self.queue_timeout)
        self._threads = threads
        if self._limiter is not None:
            self._limiter.total_tokens = threads

    @property
    def limiter(self) -> trio.CapacityLimiter:
        """Whose tokens are the threads. Only inside trio."""
        token = trio.lowlevel.current_trio_token()
        if self._limiter is None or self._run_token is not token:
            self._limiter = trio.CapacityLimiter(self._threads)
            self._run_token = token
        return self._limiter

    def statistics(self) -> PoolStatistics:
        """The pool at this moment."""
        return PoolStatistics(
            threads=self._threads,
            busy=0 if self._limiter is None else int(self._limiter.borrowed_tokens),
            waiting=self._waiting,
            rejected=self._rejected,
            timed_out=self._timed_out,
            completed=self._completed,
        )

    async def run(self, fn: Callable[..., T], *args: object, timeout: float | None = None) -> T:
        """Call ``fn(*args)`` in a thread and return what it returns, or raise what it raises.

        Args:
            timeout: seconds from the moment that a thread is held; None: no limit.

        Waiting for a thread can be cancelled. A running call cannot be: without ``timeout`` cancelling waits
        for its end; with ``timeout`` the call is abandoned, also when the caller is cancelled for another
        reason, and its thread counts as busy until it ends.

        Raises:
            OverloadedError: ``queue`` calls wait already, or this one waited ``queue_timeout`` seconds.
            HandlerTimeout: it took longer than ``timeout``.
        """
        limiter = self.limiter
        held = Held(limiter)
        try:
            limiter.acquire_on_behalf_of_nowait(held)
        except trio.WouldBlock:
            await self._wait_for_thread(limiter, held)
        # Don't await between here and the runner: cancelled there, the token would be lost.
        try:
            with trio.CancelScope() as scope:
                if timeout is None:
                    return await self._run_to_the_end(fn, args, held)
                scope.deadline = trio.current_time() + timeout
                return await self._run_or_abandon(fn, args, held)
        finally:
            held.release_unless_started()
        self._timed_out += 1
        raise HandlerTimeout(f"no answer within {timeout:g} seconds")

    async def _wait_for_thread(self, limiter: trio.CapacityLimiter, held: Held) -> None:
        if self._waiting >= self.queue:
            raise self._refusal("pools.queue", f"{self._waiting} calls wait already")
        self._waiting += 1
        try:
            with trio.move_on_after(self.queue_timeout):
                await limiter.acquire_on_behalf_of(held)
                return
        finally:
            self._waiting -= 1
        raise self._refusal(
            "pools.queue_timeout", f"no thread came free within {self.queue_timeout:g} seconds"
        )

    def _refusal(self, limit: str, reason: str) -> OverloadedError:
        self._rejected += 1
        if self._metrics is not None:
            self._metrics.limit(limit)
        return OverloadedError(
            f"pool {self.name!r} is full: all {self._threads} threads are busy and {reason}"
        )

    async def _run_to_the_end(self, fn: Callable[..., T], args: tuple[object, ...], held: Held) -> T:
        try:
            result: T = await self.runner(fn, *args, abandon_on_cancel=False, limiter=held)
        except Exception:
            self._completed += 1
            raise
        self._completed += 1
        return result

    async def _run_or_abandon(self, fn: Callable[..., T], args: tuple[object, ...], held: Held) -> T:
        is_abandoned = False

        def call() -> T:
            try:
                return fn(*args)
            except Exception:
                if is_abandoned:  # nobody is left to raise it to
                    logger.warning("a call in pool %r failed after it was given up", self.name, exc_info=True)
                raise

        try:
            result: T = await self.runner(call, abandon_on_cancel=True, limiter=held)
        except trio.Cancelled:
            is_abandoned = True
            raise
        except Exception:
            self._completed += 1
            raise
        self._completed += 1
        return result


def _check(name: str, threads: int, queue: int, queue_timeout: float, /) -> None:
    if threads < 1:
        raise ValueError(f"pool {name!r}: threads must be at least 1, not {threads!r}")
    if queue < 0:
        raise ValueError(f"pool {name!r}: queue must be 0 calls or more, not {queue!r}")
    if not queue_timeout >= 0:
        raise ValueError(f"pool {name!r}: queue_timeout must be 0 seconds or more, not {queue_timeout!r}")
