"""Pools whose size is found: a real pool, a jumping clock, and a service with a knee."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_stomp.channels.pools import Pool, PoolDeclaration
from trio_stomp.errors import OverloadedError


class Service:
    """Stands for `trio.to_thread.run_sync`: every call takes a place in a service that has so many of them.

    Args:
        knee: calls served at once; more of them wait inside, where the pool takes it for a slow call.
        seconds: that a call takes then, more or less.
    """

    def __init__(self, knee: int = 32, seconds: float = 0.1) -> None:
        self.places = trio.CapacityLimiter(knee)
        self.seconds = seconds
        self._random = random.Random(7)

    async def __call__(
        self, fn: Callable[..., Any], *args: object, abandon_on_cancel: bool, limiter: trio.CapacityLimiter
    ) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()  # as to_thread.run_sync does
        borrower, place = object(), object()
        await limiter.acquire_on_behalf_of(borrower)
        try:
            with trio.CancelScope(shield=True):  # a thread cannot be stopped
                await self.places.acquire_on_behalf_of(place)
                try:
                    await trio.sleep(self.seconds * self._random.uniform(0.8, 1.2))
                finally:
                    self.places.release_on_behalf_of(place)
            return fn(*args)
        finally:
            limiter.release_on_behalf_of(borrower)


def make(service: Service, threads: int, *, mode: str = "adaptive", **settings: Any) -> Pool:
    declaration = PoolDeclaration("p", threads, mode=mode, min_threads=1, max_threads=256, **settings)
    return Pool(declaration, run_sync=service)


def fail() -> None:
    raise ValueError("no")


async def caller(pool: Pool, fn: Callable[[], object] = int) -> None:
    """Call again and again."""
    while True:
        try:
            await pool.run(fn)
        except (ValueError, OverloadedError):
            await trio.sleep(0.01)


async def load(nursery: trio.Nursery, pool: Pool, callers: int, fn: Callable[[], object] = int) -> None:
    for _ in range(callers):
        nursery.start_soon(caller, pool, fn)
        await trio.sleep(0.001)  # not all on one beat


async def sizes(pool: Pool, seconds: int) -> list[int]:
    """Return the size in each second."""
    seen = []
    for _ in range(seconds):
        await trio.sleep(1)
        seen.append(pool.threads)
    return seen


@pytest.mark.parametrize("threads", [4, 128])
async def test_it_settles_near_the_knee(
    threads: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pool = make(Service(knee=32), threads)
    await load(nursery, pool, 160)
    await sizes(pool, 20)
    settled = await sizes(pool, 20)
    assert 0.65 * 32 <= min(settled) <= max(settled) <= 1.35 * 32


async def test_a_knee_that_halves_is_followed_within_30_seconds(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = Service(knee=32)
    pool = make(service, 32)
    await load(nursery, pool, 160)
    await sizes(pool, 20)
    assert pool.threads > 1.35 * 16
    service.places.total_tokens = 16
    await sizes(pool, 20)
    settled = await sizes(pool, 10)
    assert 0.65 * 16 <= min(settled) <= max(settled) <= 1.35 * 16


async def test_it_does_not_grow_when_idle(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pool = make(Service(knee=32), 8)
    await load(nursery, pool, 2)
    assert set(await sizes(pool, 60)) == {8}
    assert pool.statistics().suggested == 8


async def test_145_percent_load_does_not_make_it_run_away(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pool = make(Service(knee=32), 32, queue=50)
    arrivals = random.Random(3)

    async def one() -> None:
        with contextlib.suppress(OverloadedError):
            await pool.run(int)

    async def arrive() -> None:
        while True:
            await trio.sleep(arrivals.expovariate(1.45 * 320))
            nursery.start_soon(one)

    nursery.start_soon(arrive)
    await sizes(pool, 10)
    assert max(await sizes(pool, 20)) <= 1.35 * 32
    assert pool.statistics().rejected > 1000


async def test_failures_take_threads_away(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pool = make(Service(knee=32), 32)
    await load(nursery, pool, 40)
    await sizes(pool, 10)
    before = pool.threads
    await load(nursery, pool, 160, fail)
    assert min(await sizes(pool, 5)) <= 0.8 * before


async def test_what_an_operator_sets_is_where_it_goes_on_from(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pool = make(Service(knee=32), 32)
    await load(nursery, pool, 160)
    await sizes(pool, 10)
    pool.threads = 8
    await trio.sleep(0.5)
    assert pool.threads <= 12
    settled = (await sizes(pool, 30))[-10:]
    assert 0.65 * 32 <= min(settled) <= max(settled) <= 1.35 * 32


async def test_a_pool_that_observes_keeps_its_size_and_says_the_knee(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pool = make(Service(knee=32), 64, mode="observe")
    await load(nursery, pool, 20)
    await sizes(pool, 10)
    await load(nursery, pool, 140)
    assert set(await sizes(pool, 20)) == {64}
    assert 32 <= (pool.statistics().suggested or 0) <= 40
    assert "pool p: 64 threads" in caplog.text
