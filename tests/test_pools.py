"""Pools: bounded waiting, timeouts that keep the thread busy, live sizes, and one pool apart from another."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp.channels.pools import Pool, PoolDeclaration, default_threads
from trio_stomp.config import PoolConfig
from trio_stomp.errors import ConfigError, HandlerTimeout, OverloadedError, TrioStompError
from trio_stomp.metrics import Metrics
from trio_stomp.settings import settings_table


class HeldThreads:
    """Stands for `trio.to_thread.run_sync`: a call "runs" until the test ends it; there is no thread."""

    def __init__(self) -> None:
        self.running: list[trio.Event] = []

    async def __call__(
        self, fn: Callable[..., Any], *args: object, abandon_on_cancel: bool, limiter: trio.CapacityLimiter
    ) -> Any:
        assert abandon_on_cancel
        await trio.lowlevel.checkpoint_if_cancelled()
        await limiter.acquire_on_behalf_of(self)
        released, ended = trio.Event(), trio.Event()
        self.running.append(released)
        outcome: list[Any] = []

        async def thread() -> None:  # goes on when the caller does not
            await released.wait()
            try:
                outcome.append(fn(*args))
            except Exception as error:
                outcome.append(error)
            limiter.release_on_behalf_of(self)
            ended.set()

        trio.lowlevel.spawn_system_task(thread)
        await ended.wait()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    async def end(self, which: int = 0) -> None:
        """Let one running call end, the oldest unless told, and all that follows from it happen."""
        self.running.pop(which).set()
        await wait_all_tasks_blocked()


@pytest.fixture
def threads() -> HeldThreads:
    return HeldThreads()


def make(
    name: str,
    *,
    run_sync: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync,
    metrics: Metrics | None = None,
    **settings: Any,
) -> Pool:
    return Pool(PoolDeclaration(name, **settings), run_sync=run_sync, metrics=metrics)


def divide(a: int, b: int) -> float:
    return a / b


async def start(nursery: trio.Nursery, pool: Pool, calls: int = 1) -> None:
    """Start calls, and come back when all that can happen has happened."""
    for _ in range(calls):
        nursery.start_soon(pool.run, divide, 1, 1)
    await wait_all_tasks_blocked()


async def test_result_comes_back_from_a_real_thread() -> None:
    pool = make("p", threads=1)
    assert await pool.run(divide, 6, 3) == 2
    assert await pool.run(divide, 6, 3, timeout=60) == 2
    assert await pool.run(threading.get_ident) != threading.get_ident()
    assert (pool.statistics().completed, pool.statistics().busy) == (3, 0)


@pytest.mark.parametrize("timeout", [None, 60.0])
async def test_exception_comes_back_from_a_real_thread(timeout: float | None) -> None:
    pool = make("p", threads=1)
    with pytest.raises(ZeroDivisionError):
        await pool.run(divide, 1, 0, timeout=timeout)
    assert (pool.statistics().completed, pool.statistics().busy) == (1, 0)


async def test_real_thread_that_is_abandoned_keeps_its_place_until_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = make("p", threads=1)
    started, release = trio.Event(), threading.Event()

    def fail_late() -> None:
        trio.from_thread.run_sync(started.set)
        release.wait()
        raise ValueError("late")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, fail_late)
        await started.wait()
        nursery.cancel_scope.cancel()
    assert (pool.statistics().busy, pool.statistics().abandoned) == (1, 1)
    release.set()
    assert await pool.run(divide, 1, 1) == 1  # waits for the place
    assert (pool.statistics().busy, pool.statistics().abandoned) == (0, 0)
    assert pool.statistics().completed == 2
    assert "pool p: a call failed after it had been abandoned" in caplog.text
    assert "late" in caplog.text


async def test_no_more_calls_run_than_there_are_threads(threads: HeldThreads, nursery: trio.Nursery) -> None:
    pool = make("p", threads=2, run_sync=threads)
    await start(nursery, pool, 3)
    assert len(threads.running) == 2
    assert (pool.statistics().busy, pool.statistics().waiting) == (2, 1)
    await threads.end()
    assert len(threads.running) == 2
    assert (pool.statistics().busy, pool.statistics().waiting) == (2, 0)
    await threads.end()
    await threads.end()
    assert pool.statistics().completed == 3


async def test_calls_get_their_threads_in_the_order_in_which_they_came(
    threads: HeldThreads, nursery: trio.Nursery
) -> None:
    pool = make("p", threads=1, run_sync=threads)
    order: list[int] = []
    for number in range(4):
        nursery.start_soon(pool.run, order.append, number)
        await wait_all_tasks_blocked()
    for _ in range(4):
        await threads.end()
    assert order == [0, 1, 2, 3]


async def test_call_past_the_queue_is_refused_at_once(threads: HeldThreads, nursery: trio.Nursery) -> None:
    metrics = Metrics()
    pool = make("pay", threads=1, queue=1, run_sync=threads, metrics=metrics)
    await start(nursery, pool, 2)
    with pytest.raises(OverloadedError, match="all threads of pool 'pay' are busy, and 1 calls wait already"):
        await pool.run(divide, 1, 1)
    assert pool.statistics().rejected == 1
    assert (metrics.limit_hits["pools.queue"], metrics.limit_hits["pools.queue_timeout"]) == (1, 0)
    await threads.end()
    await threads.end()


async def test_without_a_queue_nobody_waits(threads: HeldThreads, nursery: trio.Nursery) -> None:
    pool = make("p", threads=1, queue=0, run_sync=threads)
    await start(nursery, pool)
    with pytest.raises(OverloadedError):
        await pool.run(divide, 1, 1)
    await threads.end()


async def test_call_that_waits_too_long_is_refused(
    threads: HeldThreads, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    metrics = Metrics()
    pool = make("p", threads=1, queue_timeout=3, run_sync=threads, metrics=metrics)
    await start(nursery, pool)
    before = trio.current_time()
    with pytest.raises(OverloadedError, match="none came free within 3 seconds"):
        await pool.run(divide, 1, 1)
    assert trio.current_time() - before == 3
    assert (pool.statistics().rejected, pool.statistics().waiting) == (1, 0)
    assert (metrics.limit_hits["pools.queue"], metrics.limit_hits["pools.queue_timeout"]) == (0, 1)
    await threads.end()


async def test_call_refused_after_waiting_makes_room_for_another(
    threads: HeldThreads, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pool = make("p", threads=1, queue=1, queue_timeout=3, run_sync=threads)
    await start(nursery, pool)
    for _ in range(2):
        with pytest.raises(OverloadedError, match="within 3 seconds"):
            await pool.run(divide, 1, 1)
    await threads.end()


async def test_timeout_leaves_the_thread_busy_until_it_ends(
    threads: HeldThreads, autojump_clock: MockClock
) -> None:
    pool = make("p", threads=1, queue=0, run_sync=threads)
    before = trio.current_time()
    with pytest.raises(HandlerTimeout, match="no answer within 5 seconds"):
        await pool.run(divide, 1, 1, timeout=5)
    assert trio.current_time() - before == 5
    statistics = pool.statistics()
    assert (statistics.busy, statistics.abandoned, statistics.timed_out, statistics.completed) == (1, 1, 1, 0)
    with pytest.raises(OverloadedError):
        await pool.run(divide, 1, 1)
    await threads.end()
    statistics = pool.statistics()
    assert (statistics.busy, statistics.abandoned, statistics.timed_out, statistics.completed) == (0, 0, 1, 1)


async def test_timeout_does_not_count_the_wait_for_a_thread(
    threads: HeldThreads, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pool = make("p", threads=1, run_sync=threads)
    await start(nursery, pool)
    ended: list[float] = []

    async def call() -> None:
        with pytest.raises(HandlerTimeout):
            await pool.run(divide, 1, 1, timeout=5)
        ended.append(trio.current_time())

    before = trio.current_time()
    nursery.start_soon(call)
    await trio.sleep(20)
    await threads.end()
    await trio.sleep(10)
    assert ended == [before + 25]
    await threads.end()


async def test_call_that_ends_in_time_is_not_timed_out(
    threads: HeldThreads, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pool = make("p", threads=1, run_sync=threads)
    results: list[float] = []

    async def call() -> None:
        results.append(await pool.run(divide, 6, 3, timeout=5))

    nursery.start_soon(call)
    await trio.sleep(4)
    await threads.end()
    await trio.sleep(10)
    assert results == [2]
    assert pool.statistics().timed_out == 0


async def test_timeout_error_of_the_called_function_is_its_own(
    threads: HeldThreads, nursery: trio.Nursery
) -> None:
    pool = make("p", threads=1, run_sync=threads)
    caught: list[Exception] = []

    def fail() -> None:
        raise TimeoutError("theirs")

    async def call() -> None:
        with pytest.raises(TimeoutError, match="theirs") as info:
            await pool.run(fail, timeout=5)
        caught.append(info.value)

    nursery.start_soon(call)
    await wait_all_tasks_blocked()
    await threads.end()
    assert not isinstance(caught[0], TrioStompError)
    assert pool.statistics().timed_out == 0


async def test_failure_after_the_timeout_is_logged_once(
    threads: HeldThreads, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make("p", threads=1, run_sync=threads)
    with pytest.raises(HandlerTimeout):
        await pool.run(divide, 1, 0, timeout=1)
    assert caplog.records == []
    await threads.end()
    assert [record.getMessage() for record in caplog.records] == [
        "pool p: a call failed after it had been abandoned"
    ]
    assert "ZeroDivisionError" in caplog.text


async def test_failure_that_the_caller_gets_is_not_logged(
    threads: HeldThreads, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make("p", threads=1, run_sync=threads)

    async def call() -> None:
        with pytest.raises(ZeroDivisionError):
            await pool.run(divide, 1, 0)

    nursery.start_soon(call)
    await wait_all_tasks_blocked()
    await threads.end()
    assert caplog.records == []


async def test_failure_between_cancelling_and_leaving_is_logged_and_leaves_nothing_abandoned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end_just_after_the_cancelling(
        fn: Callable[..., Any], *args: object, abandon_on_cancel: bool, limiter: trio.CapacityLimiter
    ) -> None:
        await limiter.acquire_on_behalf_of(None)
        try:
            await trio.sleep_forever()
        finally:
            with pytest.raises(ZeroDivisionError):
                fn(*args)
            limiter.release_on_behalf_of(None)

    pool = make("p", threads=1, run_sync=end_just_after_the_cancelling)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, divide, 1, 0)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (pool.statistics().busy, pool.statistics().abandoned) == (0, 0)
    assert len(caplog.records) == 1


async def test_cancelling_a_waiting_call_takes_it_out_of_the_queue(
    threads: HeldThreads, nursery: trio.Nursery
) -> None:
    pool = make("p", threads=1, run_sync=threads)
    await start(nursery, pool)
    async with trio.open_nursery() as inner:
        await start(inner, pool)
        inner.cancel_scope.cancel()
    assert (pool.statistics().busy, pool.statistics().waiting, pool.statistics().rejected) == (1, 0, 0)
    await threads.end()
    assert pool.statistics().busy == 0


async def test_cancelling_a_running_call_returns_at_once_and_abandons_it(threads: HeldThreads) -> None:
    pool = make("p", threads=1, run_sync=threads)
    async with trio.open_nursery() as inner:
        await start(inner, pool)
        inner.cancel_scope.cancel()
    assert (pool.statistics().busy, pool.statistics().abandoned, pool.statistics().timed_out) == (1, 1, 0)
    await threads.end()
    assert (pool.statistics().busy, pool.statistics().abandoned) == (0, 0)


@pytest.mark.parametrize("timeout", [None, 60.0])
async def test_call_that_is_cancelled_before_it_starts_takes_no_thread(timeout: float | None) -> None:
    pool = make("p", threads=1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await pool.run(divide, 1, 1, timeout=timeout)
    assert scope.cancelled_caught
    assert (pool.statistics().busy, pool.statistics().completed) == (0, 0)


async def test_one_full_pool_leaves_another_at_full_speed(
    threads: HeldThreads, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    other = HeldThreads()
    hung = make("hung", threads=2, queue=3, run_sync=threads)
    fine = make("fine", threads=2, run_sync=other)
    await start(nursery, hung, 5)
    with pytest.raises(OverloadedError):
        await hung.run(divide, 1, 1)
    before = trio.current_time()
    await start(nursery, fine, 2)
    assert len(other.running) == 2
    await other.end()
    await other.end()
    assert (fine.statistics().completed, fine.statistics().rejected) == (2, 0)
    assert trio.current_time() == before
    assert (hung.statistics().busy, hung.statistics().waiting) == (2, 3)
    for _ in range(5):
        await threads.end()


async def test_more_threads_take_effect_at_once(threads: HeldThreads, nursery: trio.Nursery) -> None:
    pool = make("p", threads=1, run_sync=threads)
    await start(nursery, pool, 2)
    pool.threads = 2
    await wait_all_tasks_blocked()
    assert len(threads.running) == 2
    assert (pool.threads, pool.statistics().threads) == (2, 2)
    await threads.end()
    await threads.end()


async def test_fewer_threads_take_effect_as_calls_end(threads: HeldThreads, nursery: trio.Nursery) -> None:
    pool = make("p", threads=2, run_sync=threads)
    await start(nursery, pool, 3)
    pool.threads = 1
    assert pool.statistics().busy == 2
    await threads.end()
    assert (pool.statistics().busy, pool.statistics().waiting) == (1, 1)
    await threads.end()
    assert (pool.statistics().busy, pool.statistics().waiting) == (1, 0)
    await threads.end()


async def test_statistics_are_a_snapshot(threads: HeldThreads, nursery: trio.Nursery) -> None:
    pool = make("p", threads=1, run_sync=threads)
    before = pool.statistics()
    await start(nursery, pool)
    assert before.busy == 0
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        before.busy = 1  # type: ignore[misc]  # the claim
    await threads.end()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": -1}, "pools.p.threads is -1, expected 0 or more"),
        ({"threads": 1.5}, "pools.p.threads is 1.5, expected 0 or more"),
        ({"threads": 1, "mode": "fast"}, "pools.p.mode is 'fast', expected one of fixed, observe, adaptive"),
        ({"threads": 1, "min_threads": 0}, "pools.p.min_threads is 0, expected 1 or more"),
        (
            {"threads": 1, "min_threads": 8, "max_threads": 4},
            "pools.p.max_threads is 4, expected 8 or more",
        ),
        ({"threads": 1, "queue": -1}, "pools.p.queue is -1, expected 0 or more"),
        ({"threads": 1, "queue_timeout": -1.0}, "pools.p.queue_timeout is -1.0, expected 0 seconds or more"),
        (
            {"threads": 1, "queue_timeout": math.nan},
            "pools.p.queue_timeout is nan, expected 0 seconds or more",
        ),
    ],
)
def test_sizes_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PoolDeclaration("p", **arguments)


def test_threads_cannot_be_set_out_of_range() -> None:
    pool = make("p", threads=1)
    with pytest.raises(ConfigError, match="expected 0 or more"):
        pool.threads = -1
    assert pool.threads == 1


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "a\n", None])
def test_name_that_cannot_stand_in_settings_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="expected letters, digits"):
        PoolDeclaration(name, threads=1)


def test_defaults_are_those_of_the_configuration() -> None:
    shown = {name: meaning for name, _, _, meaning in settings_table()}
    for key, value in attrs.asdict(PoolDeclaration("p", threads=4)).items():
        if key not in ("name", "threads"):
            default = value if isinstance(value, str) else f"{value:g}"
            assert shown[f"pools.NAME.{key}"].endswith(f"(app default: {default})")


def test_default_is_two_threads_for_each_cpu_that_the_process_may_use() -> None:
    assert default_threads() == 2 * len(os.sched_getaffinity(0))


async def test_a_pool_of_no_threads_is_paused_until_it_has_some(
    threads: HeldThreads, nursery: trio.Nursery
) -> None:
    pool = make("p", threads=2, queue=1, run_sync=threads)
    await start(nursery, pool)
    pool.threads = 0
    await start(nursery, pool)
    await threads.end()
    assert (pool.statistics().busy, pool.statistics().waiting) == (0, 1)
    with pytest.raises(OverloadedError, match="1 calls wait already"):
        await pool.run(divide, 1, 1)
    pool.threads = 1
    await wait_all_tasks_blocked()
    assert (pool.statistics().busy, pool.statistics().waiting) == (1, 0)
    await threads.end()
    assert pool.statistics().completed == 2


async def test_times_of_waiting_and_of_service_are_counted_apart(
    threads: HeldThreads, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pool = make("p", threads=1, run_sync=threads)
    await start(nursery, pool, 2)
    await trio.sleep(4)
    await threads.end()
    await trio.sleep(3)
    await threads.end()
    statistics = pool.statistics()
    assert (statistics.wait.count, statistics.wait.sum) == (2, 4)
    assert (statistics.service.count, statistics.service.sum) == (2, 7)
    assert 2 < statistics.service.quantile(0.5) <= 5


async def test_wait_that_is_given_up_is_counted(
    threads: HeldThreads, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pool = make("p", threads=1, queue_timeout=3, run_sync=threads)
    await start(nursery, pool)
    with pytest.raises(OverloadedError):
        await pool.run(divide, 1, 1)
    assert (pool.statistics().wait.count, pool.statistics().wait.sum) == (2, 3)
    await threads.end()


async def test_calls_that_raise_are_counted_as_failed(threads: HeldThreads, nursery: trio.Nursery) -> None:
    pool = make("p", threads=2, run_sync=threads)

    async def call() -> None:
        with pytest.raises(ZeroDivisionError):
            await pool.run(divide, 1, 0)

    nursery.start_soon(call)
    await start(nursery, pool)
    await threads.end()
    await threads.end()
    assert (pool.statistics().completed, pool.statistics().failed) == (2, 1)


async def test_other_settings_take_effect_without_disturbing_a_call(
    threads: HeldThreads, nursery: trio.Nursery
) -> None:
    pool = make("p", threads=1, queue=0, run_sync=threads)
    await start(nursery, pool)
    pool.configure(PoolDeclaration("p", threads=2, queue=1))
    await start(nursery, pool, 2)
    statistics = pool.statistics()
    assert (statistics.threads, statistics.busy, statistics.waiting) == (2, 2, 1)
    with pytest.raises(OverloadedError):
        await pool.run(divide, 1, 1)
    for _ in range(3):
        await threads.end()
    assert pool.statistics().completed == 3


def test_settings_that_say_nothing_of_threads_leave_those_set_by_hand() -> None:
    pool = make("p", threads=4)
    pool.threads = 7
    pool.configure(attrs.evolve(pool.declaration, queue=5, mode="observe"))
    assert (pool.threads, pool.declaration.queue) == (7, 5)
    assert (pool.statistics().mode, pool.statistics().suggested) == ("observe", 7)
    pool.configure(attrs.evolve(pool.declaration, mode="fixed", threads=9))
    assert (pool.threads, pool.statistics().suggested) == (9, None)


def test_a_pool_does_not_become_another() -> None:
    with pytest.raises(ConfigError, match="pool 'p' cannot become 'q'"):
        make("p", threads=1).configure(PoolDeclaration("q", threads=1))


def test_configuration_wins_where_it_says_something() -> None:
    declared = PoolDeclaration("p", threads=4, queue=5)
    assert declared.with_config(PoolConfig()) == declared
    assert declared.with_config(PoolConfig(threads=0, mode="observe")) == attrs.evolve(
        declared, threads=0, mode="observe"
    )
    with pytest.raises(ConfigError, match=r"pools\.p\.max_threads is 256, expected 300 or more"):
        declared.with_config(PoolConfig(min_threads=300))


class Says:
    """Stands for a sizer: says the sizes it is given, one at the end of each call."""

    def __init__(self, *sizes: int | None) -> None:
        self.sizes = list(sizes)
        self.heard: list[tuple[float, int, int, bool]] = []
        self.given_up = 0
        self.threads = 0

    def ended(self, now: float, seconds: float, *, busy: int, threads: int, is_failure: bool) -> int | None:
        self.heard.append((seconds, busy, threads, is_failure))
        size = self.sizes.pop(0)
        self.threads = self.threads if size is None else size
        return size

    def gave_up(self, now: float) -> None:
        self.given_up += 1


def with_sizer(pool: Pool, sizer: Says) -> Pool:
    pool._sizer = sizer  # type: ignore[assignment]  # its place; what it decides is test_sizing's matter
    return pool


async def test_sizer_hears_of_each_call(
    threads: HeldThreads, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sizer = Says(None, None, None)
    pool = with_sizer(make("p", threads=2, mode="adaptive", run_sync=threads), sizer)
    await start(nursery, pool, 2)

    async def fail() -> None:
        with pytest.raises(HandlerTimeout):
            await pool.run(divide, 1, 0, timeout=4)

    nursery.start_soon(fail)
    await trio.sleep(2)
    await threads.end()
    await trio.sleep(5)
    assert sizer.given_up == 1
    await threads.end()
    await threads.end()
    assert sizer.heard == [(2, 2, 2, False), (7, 2, 2, False), (5, 1, 2, True)]
    assert pool.threads == 2


async def test_adaptive_pool_takes_the_size_that_is_said(
    threads: HeldThreads, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    pool = with_sizer(make("p", threads=2, mode="adaptive", run_sync=threads), Says(5, 5, 6))
    with caplog.at_level("INFO"):
        for size in (5, 5, 6):
            await start(nursery, pool)
            await threads.end()
            assert pool.threads == size
    assert caplog.messages == ["pool p: now 5 threads"]  # a line a minute is enough


async def test_observing_pool_keeps_its_size_and_says_the_other(
    threads: HeldThreads, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = with_sizer(make("p", threads=20, mode="observe", run_sync=threads), Says(21, 40, 30, 41, 50))
    with caplog.at_level("INFO"):
        for _ in range(2):
            await start(nursery, pool)
            await threads.end()
        await start(nursery, pool)
        await threads.end()  # soon after: not said
        await trio.sleep(60)
        for _ in range(2):
            await start(nursery, pool)
            await threads.end()
    assert pool.threads == 20
    assert caplog.messages == [
        "pool p: 20 threads, 40 would be right",
        "pool p: 20 threads, 50 would be right",
    ]


async def test_pause_of_an_adaptive_pool_holds(threads: HeldThreads, nursery: trio.Nursery) -> None:
    pool = with_sizer(make("p", threads=2, mode="adaptive", run_sync=threads), Says(5))
    await start(nursery, pool)
    pool.threads = 0
    await threads.end()
    assert pool.threads == 0
