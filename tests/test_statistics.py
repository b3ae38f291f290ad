"""A server's numbers: the snapshot, Prometheus' page, the line in the log, and how late the event loop is."""

from __future__ import annotations

import logging
import os
import re
import sys
import time

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_stomp import PoolConfig, ServerConfig, StatisticsConfig, StompApp, open_server
from trio_stomp.server import statistics as statistics_module
from trio_stomp.server.core import Core
from trio_stomp.server.statistics import LoopLag, log_line, page, process_statistics

SAMPLE = re.compile(r"[a-z_]+(\{[a-z_]+=\"[^\"]*\"(,[a-z_]+=\"[^\"]*\")*\})? -?[0-9.]+(e-?[0-9]+)?")


def core_with_pool(**settings: object) -> Core:
    app = StompApp()
    app.pool("pay", threads=3)
    return Core(app, ServerConfig(pools={"pay": PoolConfig(**settings)}))  # type: ignore[arg-type]  # a test's


async def used(core: Core) -> None:
    """Let the pool have run one call, on a clock that stands still."""
    await core.pools["pay"].run(lambda: None)


async def test_page_has_every_pools_numbers(mock_clock: MockClock) -> None:
    core = core_with_pool()
    await used(core)
    lines = page(core.statistics("ready", 0)).splitlines()
    for line in (
        'trio_stomp_pool_threads{pool="pay"} 3',
        'trio_stomp_pool_busy{pool="pay"} 0',
        'trio_stomp_pool_waiting{pool="pay"} 0',
        'trio_stomp_pool_abandoned{pool="pay"} 0',
        'trio_stomp_pool_completed_total{pool="pay"} 1',
        'trio_stomp_pool_completed_total{pool="client_inbound"} 0',
        'trio_stomp_pool_failed_total{pool="pay"} 0',
        'trio_stomp_pool_rejected_total{pool="pay"} 0',
        'trio_stomp_pool_timed_out_total{pool="pay"} 0',
        'trio_stomp_pool_wait_seconds_bucket{pool="pay",le="0.0001"} 1',
        'trio_stomp_pool_wait_seconds_sum{pool="pay"} 0.000000',
        'trio_stomp_pool_wait_seconds_count{pool="pay"} 1',
        'trio_stomp_pool_service_seconds_bucket{pool="pay",le="+Inf"} 1',
        'trio_stomp_pool_service_seconds_count{pool="client_inbound"} 0',
        "trio_stomp_loop_lag_seconds_count 0",
    ):
        assert line in lines
    assert not [line for line in lines if "suggested" in line]  # nothing is known of it in fixed mode


async def test_page_is_prometheus_text_format(mock_clock: MockClock) -> None:
    core = core_with_pool(mode="observe")
    await used(core)
    text = page(core.statistics("ready", 0))
    assert 'trio_stomp_pool_suggested_threads{pool="pay"} 3\n' in text
    types: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, "a metric stands once"
            types[name] = kind
        elif not line.startswith("# HELP "):
            assert SAMPLE.fullmatch(line), line
            name = line.split("{")[0].split(" ")[0]
            assert name in types or re.sub("_(bucket|sum|count)$", "", name) in types


def test_buckets_are_cumulative() -> None:
    core = core_with_pool()
    for seconds in (0.015, 0.03, 0.03, 100.0):
        core.loop_lag.histogram.record(seconds)
    text = page(core.statistics("ready", 0))
    found = dict(re.findall(r'trio_stomp_loop_lag_seconds_bucket\{le="([^"]*)"\} (\d+)', text))
    assert (found["0.01"], found["0.02"], found["0.05"], found["50"], found["+Inf"]) == (
        "0",
        "1",
        "3",
        "3",
        "4",
    )


def test_process_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    before = process_statistics()
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass
    after = process_statistics()
    assert 0.02 <= after.cpu_seconds - before.cpu_seconds < 10
    assert 5_000_000 < after.resident_bytes < 10_000_000_000


@pytest.mark.skipif(sys.platform == "win32", reason="getrusage")
def test_memory_is_known_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_module, "_STATM", statistics_module.Path(os.devnull) / "statm")
    assert 5_000_000 < process_statistics().resident_bytes < 10_000_000_000


async def test_a_loop_on_time_is_not_late(autojump_clock: MockClock) -> None:
    lag = LoopLag()
    with trio.move_on_after(10.1):
        await lag.run(0.5)
    assert (lag.histogram.statistics().count, lag.histogram.statistics().sum) == (20, 0.0)


async def test_what_blocks_the_loop_shows_as_lag_once(mock_clock: MockClock) -> None:
    lag = LoopLag()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.run, 0.5)
        await wait_all_tasks_blocked()
        mock_clock.jump(2.0)  # nobody ran meanwhile: it was due after 0.5
        await wait_all_tasks_blocked()
        mock_clock.jump(0.5)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    statistics = lag.histogram.statistics()
    assert (statistics.count, statistics.sum) == (2, 1.5)


def test_line_says_what_an_operator_asks_first() -> None:
    core = core_with_pool(mode="adaptive")
    core.metrics.sessions_connected, core.metrics.sessions_ended = 5, 3
    core.metrics.frames_in = 77
    line = log_line(core.statistics("ready", 2))
    assert "\n" not in line
    assert line.startswith(
        "sessions[2 current, 5 in all, 0 too slow, 0 silent], frames[77 in, 0 out, 0 refused]"
    )
    assert "pool pay[3 threads (adaptive: 3), 0 busy, 0 waiting, 0 completed, 0 failed, 0 rejected" in line
    assert "pool client_inbound[" in line


@pytest.mark.parametrize(("interval", "lines"), [(1800.0, 2), (600.0, 6), (0.0, 0)])
async def test_line_is_logged_as_often_as_set(
    interval: float, lines: int, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    config = ServerConfig(statistics=StatisticsConfig(log_interval=interval, lag_interval=100))
    with caplog.at_level(logging.INFO, "trio_stomp.statistics"):
        async with open_server(None, config):
            await trio.sleep(3601)
    assert len([record for record in caplog.records if record.name == "trio_stomp.statistics"]) == lines


async def test_lag_is_not_measured_when_turned_off(autojump_clock: MockClock) -> None:
    config = ServerConfig(statistics=StatisticsConfig(lag_interval=0))
    async with open_server(None, config) as server:
        await trio.sleep(10)
        assert server.statistics().loop_lag.count == 0


async def test_a_task_more_is_counted_as_one() -> None:
    core = core_with_pool()
    before = core.statistics("ready", 0).tasks
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        statistics = core.statistics("ready", 0)
        assert statistics.tasks == before + 1
        assert f"\ntrio_stomp_tasks {before + 1}\n" in page(statistics)
        nursery.cancel_scope.cancel()


def test_outside_trio_no_task_is_counted() -> None:
    assert core_with_pool().statistics("ready", 0).tasks == 0
