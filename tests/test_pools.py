"""Pools: bounded waiting, timeouts that keep the thread busy, live sizes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_stomp.channels.pools import Held, Pool, default_threads
from trio_stomp.errors import HandlerTimeout, OverloadedError
from trio_stomp.metrics import Metrics


class Threads:
    """A runner whose calls end when the test says so; no thread is started."""

    def __init__(self) -> None:
        self.running: list[trio.Event] = []

    async def __call__(
        self, fn: Callable[..., Any], /, *args: object, abandon_on_cancel: bool, limiter: Held
    ) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        await limiter.acquire_on_behalf_of(self)
        ended = trio.Event()
        self.running.append(ended)
        result: list[Any] = []

        async def thread() -> None:
            with trio.CancelScope(shield=True):
                await ended.wait()
            limiter.release_on_behalf_of(self)
            result.append(fn(*args))

        if not abandon_on_cancel:
            await thread()
        else:
            trio.lowlevel.spawn_system_task(self._contained, thread)
            await ended.wait()
            await wait_all_tasks_blocked()
        return result[0]

    @staticmethod
    async def _contained(thread: Callable[[], Any]) -> None:
        with contextlib.suppress(ValueError):
            await thread()

    def end(self, which: int = 0) -> None:
        self.running.pop(which).set()


@pytest.fixture
def threads() -> Threads:
    return Threads()


def divide(a: int, b: int) -> float:
    return a / b


async def test_result_comes_back_from_a_real_thread() -> None:
    pool = Pool("p", threads=1)
    assert await pool.run(divide, 6, 3) == 2
    assert await pool.run(divide, 6, 3, timeout=60) == 2
    assert pool.statistics().completed == 2
    assert pool.statistics().busy == 0


@pytest.mark.parametrize("timeout", [None, 60.0])
async def test_exception_comes_back_from_a_real_thread(timeout: float | None) -> None:
    pool = Pool("p", threads=1)
    with pytest.raises(ZeroDivisionError):
        await pool.run(divide, 1, 0, timeout=timeout)
    assert pool.statistics().completed == 1
    assert pool.statistics().busy == 0


async def test_no_more_calls_run_than_there_are_threads(threads: Threads, nursery: trio.Nursery) -> None:
    pool = Pool("p", threads=2, runner=threads)
    for _ in range(3):
        nursery.start_soon(pool.run, divide, 1, 1)
    await wait_all_tasks_blocked()
    assert len(threads.running) == 2
    assert (pool.statistics().busy, pool.statistics().waiting) == (2, 1)
    threads.end()
    await wait_all_tasks_blocked()
    assert len(threads.running) == 2
    assert (pool.statistics().busy, pool.statistics().waiting) == (2, 0)
    threads.end()
    threads.end()


async def test_call_past_the_queue_is_refused_at_once(threads: Threads, nursery: trio.Nursery) -> None:
    metrics = Metrics()
    pool = Pool("pay", threads=1, queue=1, runner=threads, metrics=metrics)
    nursery.start_soon(pool.run, divide, 1, 1)
    nursery.start_soon(pool.run, divide, 1, 1)
    await wait_all_tasks_blocked()
    with pytest.raises(OverloadedError, match="pool 'pay' is full: all 1 threads are busy and 1 calls wait"):
        await pool.run(divide, 1, 1)
    assert pool.statistics().rejected == 1
    assert metrics.limit_hits["pools.queue"] == 1
    threads.end()
    await wait_all_tasks_blocked()
    threads.end()


async def test_call_that_waits_too_long_is_refused(
    threads: Threads, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    metrics = Metrics()
    pool = Pool("p", threads=1, queue_timeout=3, runner=threads, metrics=metrics)
    nursery.start_soon(pool.run, divide, 1, 1)
    await wait_all_tasks_blocked()
    before = trio.current_time()
    with pytest.raises(OverloadedError, match="no thread came free within 3 seconds"):
        await pool.run(divide, 1, 1)
    assert trio.current_time() - before == 3
    assert (pool.statistics().rejected, pool.statistics().waiting) == (1, 0)
    assert metrics.limit_hits["pools.queue_timeout"] == 1
    threads.end()


async def test_without_queue_nobody_waits(threads: Threads, nursery: trio.Nursery) -> None:
    pool = Pool("p", threads=1, queue=0, runner=threads)
    nursery.start_soon(pool.run, divide, 1, 1)
    await wait_all_tasks_blocked()
    with pytest.raises(OverloadedError):
        await pool.run(divide, 1, 1)
    threads.end()


async def test_timeout_leaves_the_thread_busy_until_it_ends(
    threads: Threads, autojump_clock: trio.testing.MockClock
) -> None:
    pool = Pool("p", threads=1, runner=threads)
    before = trio.current_time()
    with pytest.raises(HandlerTimeout, match="within 5 seconds"):
        await pool.run(divide, 1, 1, timeout=5)
    assert trio.current_time() - before == 5
    assert (pool.statistics().busy, pool.statistics().timed_out) == (1, 1)
    threads.end()
    await wait_all_tasks_blocked()
    assert (pool.statistics().busy, pool.statistics().completed) == (0, 0)


async def test_timeout_does_not_count_the_wait_for_a_thread(
    threads: Threads, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool = Pool("p", threads=1, runner=threads)
    nursery.start_soon(pool.run, divide, 1, 1)
    await wait_all_tasks_blocked()
    refused: list[float] = []

    async def call() -> None:
        with pytest.raises(HandlerTimeout):
            await pool.run(divide, 1, 1, timeout=5)
        refused.append(trio.current_time())

    before = trio.current_time()
    nursery.start_soon(call)
    await trio.sleep(20)
    threads.end()
    await trio.sleep(10)
    assert refused == [before + 25]
    threads.end()


async def test_failure_after_the_timeout_is_logged(
    threads: Threads, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool("p", threads=1, runner=threads)
    with pytest.raises(HandlerTimeout):
        await pool.run(int, "x", timeout=1)
    threads.end()
    await wait_all_tasks_blocked()
    assert "failed after it was given up" in caplog.text


async def test_cancelling_a_waiting_call_borrows_nothing(threads: Threads, nursery: trio.Nursery) -> None:
    pool = Pool("p", threads=1, runner=threads)
    nursery.start_soon(pool.run, divide, 1, 1)
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as inner:
        inner.start_soon(pool.run, divide, 1, 1)
        await wait_all_tasks_blocked()
        inner.cancel_scope.cancel()
    assert (pool.statistics().busy, pool.statistics().waiting) == (1, 0)
    threads.end()
    await wait_all_tasks_blocked()
    assert pool.statistics().busy == 0


@pytest.mark.parametrize("timeout", [None, 60.0])
async def test_cancelled_before_the_thread_starts_gives_the_token_back(timeout: float | None) -> None:
    pool = Pool("p", threads=1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await pool.run(divide, 1, 1, timeout=timeout)
    assert scope.cancelled_caught
    assert pool.statistics().busy == 0


async def test_threads_can_be_changed_live(threads: Threads, nursery: trio.Nursery) -> None:
    pool = Pool("p", threads=1, runner=threads)
    nursery.start_soon(pool.run, divide, 1, 1)
    nursery.start_soon(pool.run, divide, 1, 1)
    await wait_all_tasks_blocked()
    pool.threads = 2
    await wait_all_tasks_blocked()
    assert len(threads.running) == 2
    assert pool.statistics().threads == 2
    threads.end()
    threads.end()


def test_a_pool_outlives_one_run_of_trio() -> None:
    pool = Pool("p", threads=1)
    for _ in range(2):
        assert trio.run(pool.run, divide, 4, 2) == 2
    assert pool.statistics().completed == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": 0}, "threads must be at least 1, not 0"),
        ({"threads": 1, "queue": -1}, "queue must be 0 calls or more"),
        ({"threads": 1, "queue_timeout": -1.0}, "queue_timeout must be 0 seconds or more"),
        ({"threads": 1, "queue_timeout": math.nan}, "queue_timeout must be 0 seconds or more"),
    ],
)
def test_sizes_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"pool 'p': {message}"):
        Pool("p", **arguments)


def test_default_is_two_threads_for_each_cpu() -> None:
    assert default_threads() >= 2
    assert default_threads() % 2 == 0
