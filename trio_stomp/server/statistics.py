"""A server's numbers put together: a snapshot, a page for Prometheus, a line for the log.

Rule: a snapshot is all there is to know; the page and the line are made of snapshots alone.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs
import trio

from trio_stomp.channels.pools import PoolStatistics
from trio_stomp.config import StatisticsConfig
from trio_stomp.histogram import Histogram, HistogramStatistics
from trio_stomp.metrics import MetricsStatistics, Sample, family, histogram_family, render

logger = logging.getLogger("trio_stomp.statistics")

_STATM: Final = Path("/proc/self/statm")


@attrs.frozen(kw_only=True)
class ProcessStatistics:
    """What the server's process has used.

    Attributes:
        cpu_seconds: of all its threads, since it started.
        resident_bytes: memory; where the system tells only the highest it ever was, that.
    """

    cpu_seconds: float
    resident_bytes: int


@attrs.frozen(kw_only=True)
class ServerStatistics:
    """A server's numbers at one moment.

    Attributes:
        state: as ``/readyz`` says it.
        sessions: those that live, connected or about to be.
        metrics: what is counted.
        pools: by name.
        loop_lag: by how many seconds the event loop ran a task late (``statistics.lag_interval``).
        process: what the process used; another server in the same process sees the same.
        tasks: those that live in this trio run, of whatever else it does too; 0 when asked outside it.
    """

    state: str
    sessions: int
    metrics: MetricsStatistics
    pools: Mapping[str, PoolStatistics]
    loop_lag: HistogramStatistics
    process: ProcessStatistics
    tasks: int


def process_statistics() -> ProcessStatistics:
    """Return what this process has used so far."""
    return ProcessStatistics(cpu_seconds=time.process_time(), resident_bytes=_resident_bytes())


def living_tasks() -> int:
    """Return how many tasks live in this trio run; 0 outside one, as in another thread."""
    return trio.lowlevel.current_statistics().tasks_living if trio.lowlevel.in_trio_run() else 0


def _resident_bytes() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: getrusage's peak, in bytes on macOS, in KiB elsewhere
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class LoopLag:
    """Measures how late the event loop runs what is due: whatever blocks it shows here."""

    def __init__(self) -> None:
        self.histogram = Histogram()

    async def run(self, interval: float) -> None:
        """Measure every ``interval`` seconds; never returns unless cancelled."""
        while True:
            due = trio.current_time() + interval
            await trio.sleep_until(due)
            self.histogram.record(max(trio.current_time() - due, 0.0))


async def report(config: StatisticsConfig, statistics: Callable[[], ServerStatistics]) -> None:
    """Log `log_line` every ``config.log_interval`` seconds; never returns unless cancelled."""
    while True:
        await trio.sleep(config.log_interval)
        logger.info("%s", log_line(statistics()))


def log_line(statistics: ServerStatistics) -> str:
    """Return the numbers as one line, in the manner of Spring's WebSocketMessageBrokerStats."""
    counted = statistics.metrics
    overflows = f"{counted.outbox_overflows} too slow, {counted.heart_beats_missed} silent"
    parts = [
        f"sessions[{counted.sessions_current} current, {counted.sessions_connected} in all, {overflows}]",
        f"frames[{counted.frames_in} in, {counted.frames_out} out, {counted.protocol_errors} refused]",
        f"handlers[{counted.handlers_run} run, {counted.handlers_running} running, "
        f"{counted.handler_errors} failed]",
        f"broker[{counted.subscriptions} subscriptions, inbox {counted.broker_inbox}, "
        f"{counted.messages_published} published, {counted.messages_delivered} delivered]",
        *(f"pool {name}[{_pool_part(pool)}]" for name, pool in statistics.pools.items()),
        f"event loop[late by {_ms(statistics.loop_lag.mean)}, p99 {_ms(statistics.loop_lag.quantile(0.99))}]",
    ]
    return ", ".join(parts)


def _pool_part(pool: PoolStatistics) -> str:
    suggested = "" if pool.suggested is None else f" ({pool.mode}: {pool.suggested})"
    return (
        f"{pool.threads} threads{suggested}, {pool.busy} busy, {pool.waiting} waiting, "
        f"{pool.completed} completed, {pool.failed} failed, {pool.rejected} rejected, "
        f"{pool.timed_out} timed out, {pool.abandoned} abandoned, "
        f"wait p50 {_ms(pool.wait.quantile(0.5))} p99 {_ms(pool.wait.quantile(0.99))}, "
        f"service p50 {_ms(pool.service.quantile(0.5))} p99 {_ms(pool.service.quantile(0.99))}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def page(statistics: ServerStatistics) -> str:
    """Return the numbers in Prometheus' text format 0.0.4, as ``/metrics`` gives them."""
    lines = [render(statistics.metrics), *_pool_families(statistics.pools)]
    lines.append(
        histogram_family(
            "trio_stomp_loop_lag_seconds",
            "By how much the event loop ran a task late.",
            [((), statistics.loop_lag)],
        )
    )
    tasks = [((), statistics.tasks)]
    lines.append(family("trio_stomp_tasks", "gauge", "Tasks that live in the server's trio run.", tasks))
    # The names that Prometheus' own client libraries give to a process's numbers.
    cpu, resident = statistics.process.cpu_seconds, statistics.process.resident_bytes
    lines.append(
        family("process_cpu_seconds_total", "counter", "CPU seconds of the process.", [((), round(cpu, 6))])
    )
    lines.append(family("process_resident_memory_bytes", "gauge", "Resident memory.", [((), resident)]))
    return "".join(lines)


_POOL_SERIES: Final = (
    ("threads", "gauge", "Calls that may run at once, by pool."),
    ("busy", "gauge", "Calls that run now, abandoned ones included, by pool."),
    ("waiting", "gauge", "Calls that wait for a thread now, by pool."),
    ("abandoned", "gauge", "Calls that run though nobody waits for them any more, by pool."),
    ("completed", "counter", "Calls that have ended, by pool."),
    ("failed", "counter", "Calls that have ended by an exception, by pool."),
    ("rejected", "counter", "Calls refused because the pool was full, by pool."),
    ("timed_out", "counter", "Calls given up because they took too long, by pool."),
)


def _pool_families(pools: Mapping[str, PoolStatistics]) -> Iterator[str]:
    def samples(name: str) -> list[Sample]:
        return [((("pool", each),), getattr(pool, name)) for each, pool in pools.items()]

    for name, kind, help in _POOL_SERIES:
        suffix = "_total" if kind == "counter" else ""
        yield family(f"trio_stomp_pool_{name}{suffix}", kind, help, samples(name))
    suggested: list[Sample] = [
        ((("pool", each),), pool.suggested) for each, pool in pools.items() if pool.suggested is not None
    ]
    if suggested:
        text = "Threads that observe or adaptive mode finds right, by pool."
        yield family("trio_stomp_pool_suggested_threads", "gauge", text, suggested)
    for name, help in (("wait", "Time that calls waited for a thread"), ("service", "Time in a thread")):
        histograms = [((("pool", each),), getattr(pool, name)) for each, pool in pools.items()]
        yield histogram_family(f"trio_stomp_pool_{name}_seconds", f"{help}, by pool.", histograms)
