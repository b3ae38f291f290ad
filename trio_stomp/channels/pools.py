"""Bulkheads for blocking calls: each pool has its own threads, and its own bounded queue in front of them.

Rule 1: nobody waits without bound; who cannot be served in time is refused at once.
Rule 2: a thread cannot be stopped, so its place stays taken until it ends, whether or not anybody still waits
for its result. An external service that hangs fills its own pool and no other.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import attrs
import trio

from trio_stomp.channels.sizing import Sizer
from trio_stomp.config import (
    POOL_MAX_THREADS,
    POOL_MIN_THREADS,
    POOL_MODES,
    POOL_QUEUE,
    POOL_QUEUE_TIMEOUT,
    PoolConfig,
)
from trio_stomp.errors import ConfigError, HandlerTimeout, OverloadedError
from trio_stomp.histogram import Histogram, HistogramStatistics
from trio_stomp.metrics import Metrics

T = TypeVar("T")

logger = logging.getLogger("trio_stomp.pools")

_TELL_EVERY: Final = 60.0
_TELL_CHANGE: Final = 0.1
"""A log line about a pool's size: at most one in so many seconds, for a change of more than this share."""

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
        threads: calls that run at once; in adaptive mode those at the start. 0: paused, all wait.
        queue: calls that wait for a thread; one more is refused. 0: nobody waits.
        queue_timeout: seconds that a call waits for a thread before it is refused.
        mode: "fixed": as many threads as it is told. "observe": so too, but it says what would be right.
            "adaptive": it takes that size, within ``min_threads`` and ``max_threads``.

    Raises:
        ConfigError: one of them is not what it has to be.
    """

    name: str
    threads: int
    queue: int = POOL_QUEUE
    queue_timeout: float = POOL_QUEUE_TIMEOUT
    mode: str = "fixed"
    min_threads: int = POOL_MIN_THREADS
    max_threads: int = POOL_MAX_THREADS

    def __attrs_post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"a pool's name is {self.name!r}, expected letters, digits, '_' and '-'")
        _check_count(f"pools.{name}.threads", self.threads, 0)
        _check_count(f"pools.{name}.queue", self.queue, 0)
        if not self.queue_timeout >= 0:
            raise ConfigError(
                f"pools.{self.name}.queue_timeout is {self.queue_timeout!r}, expected 0 seconds or more"
            )
        if self.mode not in POOL_MODES:
            raise ConfigError(
                f"pools.{self.name}.mode is {self.mode!r}, expected one of {', '.join(POOL_MODES)}"
            )
        _check_count(f"pools.{name}.min_threads", self.min_threads, 1)
        _check_count(f"pools.{name}.max_threads", self.max_threads, self.min_threads)

    def with_config(self, config: PoolConfig) -> PoolDeclaration:
        """Return the declaration with what the configuration sets instead.

        Raises:
            ConfigError: the two together are not what a pool can be.
        """
        given = {name: value for name, value in attrs.asdict(config).items() if value is not None}
        return attrs.evolve(self, **given)


def _check_count(what: str, count: object, lowest: int) -> None:
    if not isinstance(count, int) or count < lowest:
        raise ConfigError(f"{what} is {count!r}, expected {lowest} or more")


@attrs.frozen(kw_only=True)
class PoolStatistics:
    """A pool at one moment; later calls don't change it.

    Attributes:
        threads: calls that may run at once.
        mode: "fixed", "observe" or "adaptive".
        suggested: threads that would be right, as far as is known; None in fixed mode.
        busy: calls that run now, abandoned ones included; above ``threads`` for a while once it was lowered.
        waiting: calls that wait for a thread now.
        abandoned: how many of ``busy`` nobody waits for any more.
        completed: calls whose function has ended, by a result or an exception, in time or late.
        failed: how many of ``completed`` ended by an exception.
        rejected: calls refused because too many waited, or because they waited too long.
        timed_out: calls given up because they took longer than their ``timeout``.
        wait: how long calls waited for a thread, those that got none in time included.
        service: how long calls held a thread.
    """

    threads: int
    mode: str
    suggested: int | None
    busy: int
    waiting: int
    abandoned: int
    completed: int
    failed: int
    rejected: int
    timed_out: int
    wait: HistogramStatistics
    service: HistogramStatistics


class Pool:
    """Runs blocking calls, at most ``threads`` at once. It is made anywhere, and serves one `trio.run`.

    Args:
        declaration: its name and sizes.
        metrics: where refusals are counted, as hits of ``pools.queue`` and ``pools.queue_timeout``.
        run_sync: what runs a function in a thread, called as `trio.to_thread.run_sync` is, with a ``limiter``
            that it acquires before the function starts and releases once it has ended. Tests give one that
            they release, because a clock that jumps does not notice a running thread.
    """

    def __init__(
        self,
        declaration: PoolDeclaration,
        *,
        metrics: Metrics | None = None,
        run_sync: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync,
    ) -> None:
        self._declaration = declaration
        self._metrics = metrics
        self._run_sync = run_sync
        self._limiter = trio.CapacityLimiter(declaration.threads)
        self._sizer = _make_sizer(declaration)
        self._told: int | None = None
        self._told_at = -math.inf
        self._wait = Histogram()
        self._service = Histogram()
        self._waiting = 0
        self._abandoned = 0
        self._completed = 0
        self._failed = 0
        self._rejected = 0
        self._timed_out = 0

    def __repr__(self) -> str:
        return f"<Pool {self.name!r} threads={self.threads} busy={self._limiter.borrowed_tokens}>"

    @property
    def name(self) -> str:
        """As declared."""
        return self._declaration.name

    @property
    def threads(self) -> int:
        """Calls that may run at once. More take effect at once, fewer as running calls end.

        0 pauses: no call starts any more, calls wait as for a thread until there are some again. In
        adaptive mode what is set is where it goes on from.

        Raises:
            ConfigError: on setting less than 0.
        """
        return int(self._limiter.total_tokens)

    @threads.setter
    def threads(self, threads: int) -> None:
        _check_count(f"pools.{self.name}.threads", threads, 0)
        self._limiter.total_tokens = threads

    @property
    def declaration(self) -> PoolDeclaration:
        """What it was told to be: when it was made, or by the last `configure`."""
        return self._declaration

    def configure(self, declaration: PoolDeclaration) -> None:
        """Be another pool from now on, without a call that runs or waits being touched.

        What the declaration leaves as it was stays as it is: threads set by hand or by adaptive mode too.

        Raises:
            ConfigError: it has another name.
        """
        before = self._declaration
        if declaration.name != before.name:
            raise ConfigError(f"pool {before.name!r} cannot become {declaration.name!r}")
        self._declaration = declaration
        if declaration.threads != before.threads:
            self.threads = declaration.threads
        bounds = ("mode", "min_threads", "max_threads")
        if any(getattr(declaration, name) != getattr(before, name) for name in bounds):
            self._sizer = _make_sizer(attrs.evolve(declaration, threads=self.threads))

    def statistics(self) -> PoolStatistics:
        """Return a snapshot of the pool."""
        return PoolStatistics(
            threads=self.threads,
            mode=self._declaration.mode,
            suggested=None if self._sizer is None else self._sizer.threads,
            busy=self._limiter.borrowed_tokens,
            waiting=self._waiting,
            abandoned=self._abandoned,
            completed=self._completed,
            failed=self._failed,
            rejected=self._rejected,
            timed_out=self._timed_out,
            wait=self._wait.statistics(),
            service=self._service.statistics(),
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
        # The scope is ours alone, so it was the deadline that ended it: of the waiting, or of the call.
        if not turn.has_started:
            raise self._waited_too_long()
        self._timed_out += 1
        if self._sizer is not None:
            self._sizer.gave_up(trio.current_time())
        raise HandlerTimeout(f"no answer within {timeout:g} seconds")

    async def _wait_for_thread(self, turn: _Turn, scope: trio.CancelScope) -> None:
        """Wait at most ``queue_timeout`` seconds; ``scope`` is cancelled then. (Its own would cost 5 µs.)"""
        settings = self._declaration
        if self._waiting >= settings.queue:
            raise self._refused("pools.queue", f"{self._waiting} calls wait already")
        self._waiting += 1
        started = trio.current_time()
        scope.deadline = started + settings.queue_timeout
        try:
            await self._limiter.acquire_on_behalf_of(turn)
        finally:
            self._waiting -= 1
            self._wait.record(trio.current_time() - started)
        if scope.cancel_called:  # in the very moment in which it got one: it would be abandoned at once
            self._limiter.release_on_behalf_of(turn)
            raise self._waited_too_long()
        scope.deadline = math.inf

    def _waited_too_long(self) -> OverloadedError:
        seconds = self._declaration.queue_timeout
        return self._refused("pools.queue_timeout", f"none came free within {seconds:g} seconds")

    def _refused(self, limit: str, reason: str) -> OverloadedError:
        self._rejected += 1
        if self._metrics is not None:
            self._metrics.limit(limit)
        return OverloadedError(f"all threads of pool {self.name!r} are busy, and {reason}")

    def _ended(self, seconds: float, now: float, *, is_failure: bool) -> None:
        """A thread has ended, and its place is not free yet."""
        self._completed += 1
        self._failed += is_failure
        self._service.record(seconds)
        if self._sizer is not None:
            limiter = self._limiter
            busy, threads = limiter.borrowed_tokens, int(limiter.total_tokens)
            size = self._sizer.ended(now, seconds, busy=busy, threads=threads, is_failure=is_failure)
            if size is not None:
                self._take(size, threads, now)

    def _take(self, size: int, threads: int, now: float) -> None:
        """Follow what the sizer says, or say it; 0 threads are a pause, which only its maker ends."""
        is_adaptive = self._declaration.mode == "adaptive"
        if is_adaptive and threads and size != threads:
            self._limiter.total_tokens = size
        assert self._sizer is not None
        size = self._sizer.threads  # less what a probe has for one window
        known = threads if self._told is None else self._told
        if now - self._told_at >= _TELL_EVERY and abs(size - known) > _TELL_CHANGE * known:
            self._told, self._told_at = size, now
            if is_adaptive:
                logger.info("pool %s: now %d threads", self.name, size)
            else:
                logger.info("pool %s: %d threads, %d would be right", self.name, threads, size)


def _make_sizer(declaration: PoolDeclaration) -> Sizer | None:
    if declaration.mode == "fixed":
        return None
    return Sizer(declaration.threads, minimum=declaration.min_threads, maximum=declaration.max_threads)


class _Turn:
    """One call's way through the pool, and what `trio.to_thread.run_sync` takes for its limiter.

    It is the one place that hears when the thread is held and when it ends, also of an abandoned call:
    run_sync promises to await ``acquire_on_behalf_of`` before the thread starts and to call
    ``release_on_behalf_of`` in trio's thread after it has ended.
    """

    __slots__ = (
        "_error",
        "_held_since",
        "_is_abandoned",
        "_is_held",
        "_pool",
        "_scope",
        "_timeout",
        "has_started",
    )

    def __init__(self, pool: Pool, scope: trio.CancelScope, timeout: float | None) -> None:
        self._pool = pool
        self._scope = scope
        self._timeout = timeout
        self.has_started = False
        self._is_held = False
        self._held_since = 0.0
        self._is_abandoned = False
        self._error: BaseException | None = None

    async def acquire_on_behalf_of(self, _borrower: object) -> None:
        pool = self._pool
        limiter = pool._limiter
        if pool._waiting or limiter.available_tokens <= 0:
            await pool._wait_for_thread(self, self._scope)
        else:
            limiter.acquire_on_behalf_of_nowait(self)
            pool._wait.record(0.0)
        self._is_held = self.has_started = True
        now = self._held_since = trio.current_time()
        if self._timeout is not None:
            self._scope.deadline = now + self._timeout

    def release_on_behalf_of(self, _borrower: object) -> None:
        pool, now, error = self._pool, trio.current_time(), self._error
        is_failure = error is not None and not isinstance(error, trio.Cancelled)
        pool._ended(now - self._held_since, now, is_failure=is_failure)
        pool._limiter.release_on_behalf_of(self)
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
